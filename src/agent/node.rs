//! What one control-plane node is: its directory, its own API server, its etcd.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use zeroize::Zeroizing;

use super::directory::{Directory, DirectoryError};
use super::flags::Flags;
use super::kubeadm;
use super::sealing::new_identity;
use crate::api::control_plane_report::FlagsSeen;
use crate::api::key_ring::EncryptionKeyRingSpec;
use crate::encryption::duties::report::line;
use crate::encryption::ring::{BadIdentity, Identity, identities};

/// The EncryptionConfiguration; the API server is started with this path.
pub const FILE: &str = "encryption.json";
/// The last one that the API server was seen to run with.
pub const LAST_GOOD: &str = "encryption.last-good.json";
/// The sealed ring, as `cloison ring recover` reads it.
pub const RING: &str = "ring.json";
/// The identity that opens it on this node.
pub const IDENTITY: &str = "identity";

/// Why the identity of the node cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file.
    #[error("{path} {why}; restore it, or remove it and approve this node anew", path = .path.display())]
    Bad {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: BadIdentity,
    },
    /// A fault in the age library.
    #[error("no identity could be made")]
    Unmade,
}

/// The identity of this node; it is made, and on the disk, before it is used.
pub fn identity(directory: &Directory) -> Result<Identity, IdentityError> {
    let bad = |why| IdentityError::Bad {
        path: directory.path(IDENTITY),
        why,
    };
    if let Some(bytes) = directory.read(IDENTITY)? {
        let text = std::str::from_utf8(&bytes).map_err(|_| bad(BadIdentity::Line(1)))?;
        return identities(text)
            .map_err(bad)?
            .into_iter()
            .next()
            .ok_or_else(|| bad(BadIdentity::Empty));
    }
    let made = new_identity().ok_or(IdentityError::Unmade)?;
    let text = Zeroizing::new(format!("{}\n", *made.to_text()));
    directory.replace(IDENTITY, text.as_bytes())?;
    Ok(made)
}

/// The sealed copy of the ring; `None` where there is none, or it is no ring.
pub fn copy(directory: &Directory) -> Result<Option<EncryptionKeyRingSpec>, DirectoryError> {
    let bytes = directory.read(RING)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The flags of this node's API server: of its static pod, else of the process that listens on its port.
pub fn flags(manifest: &Path, port: u16) -> Option<Flags> {
    if let Ok(text) = fs::read_to_string(manifest) {
        return Flags::of_manifest(&text);
    }
    let processes = fs::read_dir("/proc").ok()?;
    let port = format!("--secure-port={port}");
    processes.flatten().find_map(|process| {
        let line = fs::read(process.path().join("cmdline")).ok()?;
        let words: Vec<&str> = line
            .split(|byte| *byte == 0)
            .filter_map(|word| std::str::from_utf8(word).ok())
            .collect();
        let (program, arguments) = words.split_first()?;
        let is_it = Path::new(program)
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("kube-apiserver"));
        (is_it && arguments.contains(&port.as_str())).then(|| Flags::of_command(arguments.iter().copied()))
    })
}

/// As the report has them, with what [`to_persist`] found.
pub fn flags_seen(flags: &Flags, file: &Path, to_persist: Option<&[String]>) -> FlagsSeen {
    FlagsSeen {
        encryption_provider_config: flags.config.as_deref().map(line),
        automatic_reload: flags.reload,
        missing: flags.missing(file).iter().map(|missing| line(missing)).collect(),
        persistent: to_persist.map(<[String]>::is_empty),
        to_persist: to_persist
            .unwrap_or_default()
            .iter()
            .map(|lacking| line(lacking))
            .collect(),
        // Rounded up: what is waited for must not be shorter.
        request_timeout_seconds: i64::try_from(flags.longest_request().as_nanos().div_ceil(1_000_000_000)).ok(),
    }
}

/// What kubeadm's configuration lacks so that its next upgrade keeps the flags; `None` where kubeadm is not used, or
/// nobody can tell.
pub async fn to_persist(client: &Client, file: &Path) -> Option<Vec<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), kubeadm::NAMESPACE);
    let map = maps.get_opt(kubeadm::CONFIG_MAP).await.ok()??;
    kubeadm::to_persist(map.data?.get(kubeadm::ENTRY)?, file)
}
