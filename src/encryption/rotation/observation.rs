//! What one decision about the rotation looks at: names, numbers, hashes and counts. No key material.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::records::Records;
use crate::api::encryption::Provider;
use crate::api::encryption_status::Order;
use crate::encryption::config::KeyName;
use crate::encryption::leases::FreshLease;

/// Everything that was seen in one pass.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// What people want.
    pub wish: Wish,
    /// The key ring.
    pub ring: Ring,
    /// The control-plane Nodes of the cluster, also those that are down, each with what its agent reports.
    pub nodes: Vec<Node>,
    /// The API servers that have to be accounted for.
    pub leases: Vec<FreshLease>,
    /// What [`crate::encryption::judge::barrier`] says against the world being closed, from the controller's own
    /// connections.
    pub unaccounted: Option<String>,
    /// API servers as they answered the controller itself, as far as they said who they are.
    pub answered: Vec<ApiServer>,
    /// The order that stands: see [`Standing::of`].
    pub order: Standing,
    /// What the controller remembers of the barrier, of sweeps and of proofs. Lost when it restarts, and gathered anew.
    pub records: Records,
    /// The newest reading of raw etcd, whoever made it.
    pub latest_proof: Option<Proof>,
    /// The newest revision that etcd is known to have compacted: nothing before it can be read any more.
    pub compacted: u64,
    /// The caller's monotonic clock.
    pub now: Duration,
}

/// The order that stands in `SecretEncryption.status`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Its number; 0 before the first.
    pub number: u64,
    /// The files it asks for.
    pub configuration: Option<Configuration>,
    /// As it stands.
    pub order: Option<Order>,
}

/// What people want: `SecretEncryption.spec` and its annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The cipher of new keys; `None` to disable encryption. `mode: Observe` stops managing and never decrypts.
    pub provider: Option<Provider>,
    /// The resources to encrypt.
    pub resources: BTreeSet<String>,
    /// `suspend`.
    pub suspended: bool,
    /// A key older than this is replaced.
    pub period: Duration,
    /// An AES-GCM key with more writes than this is replaced.
    pub max_writes: u64,
    /// `cloison.dev/rotation-requested-time`. Served once for each value.
    pub requested: Option<String>,
    /// Numbers of keys that were given up: the rotation to them is rolled back, as long as there is something to go back
    /// to.
    pub abandoned: BTreeSet<u64>,
    /// Offline recipients that every key must be sealed for.
    pub escrow: BTreeSet<String>,
    /// Whether a person accepted that there are none.
    pub escrow_waived: bool,
    /// After so long a retired key is destroyed; `None`: never.
    pub retention: Option<Duration>,
}

/// The key ring, without its material.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// The highest number that any key ever had.
    pub last_id: u64,
    /// The keys that are in it.
    pub keys: Vec<RingKey>,
    /// The nodes that hold keys, with the public part of their identity.
    pub members: BTreeMap<String, String>,
}

/// One key of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingKey {
    /// Its number. Only grows, never used again.
    pub id: u64,
    /// Its name in files and in values.
    pub name: KeyName,
    /// Its cipher.
    pub provider: Provider,
    /// It was taken over from a file that somebody else wrote.
    pub imported: bool,
    /// The request that it was made for.
    pub request: Option<String>,
    /// Its age.
    pub age: Duration,
    /// Values written under it, by all API servers together.
    pub writes: u64,
    /// Whom it is sealed for.
    pub sealed_for: BTreeSet<String>,
    /// How long ago it was retired.
    pub retired: Option<Duration>,
    /// Its material is gone.
    pub destroyed: bool,
}

/// A control-plane Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// How long the report has not changed, by the caller's own clock: no two clocks are compared.
    pub silent_for: Duration,
    /// What its agent reports; `None` if it never did.
    pub report: Option<Report>,
}

/// What the agent of one node reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its API server, if it answers.
    pub api_server: Option<ApiServer>,
    /// The file on its disk.
    pub file: Option<File>,
    /// What the flags of its API server say of a configuration file.
    pub named: Named,
    /// Flags that have to be added, ready to copy.
    pub flags_missing: Vec<String>,
    /// What kubeadm's configuration lacks so that its next upgrade keeps the flags, line by line; `None` where kubeadm is
    /// not used, or nobody can tell.
    pub to_persist: Option<Vec<String>>,
    /// What its agent itself read of etcd last.
    pub read: Option<Read>,
    /// How long a request to its API server may take; `None` where nobody can tell.
    pub request_timeout: Option<Duration>,
    /// The newest key in the sealed copy on its disk.
    pub sealed_id: Option<u64>,
    /// The number of the order it had done, or refused, when it looked at all this.
    pub order: Option<u64>,
}

/// The file that the flags of an API server name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// The agent finds neither its static pod nor its process.
    #[default]
    Unseen,
    /// None: it stores plaintext.
    Nothing,
    /// The agent's.
    Ours,
    /// One in another place.
    Elsewhere,
}

/// An API server, by its own metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// `apiserver_id_hash`. Without an EncryptionConfiguration the metrics may not show it.
    pub identity: Option<String>,
    /// When the process started.
    pub started: i64,
    /// The hash of the file it loaded; `None` if it runs without one.
    pub loaded: Option<String>,
    /// Values it met that no key fits, since it started.
    pub unknown: u64,
    /// Its version of Kubernetes, major and minor, where it says it.
    pub version: Option<(u32, u32)>,
}

/// One reading of etcd by one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// When, by the clock of its node, in seconds since 1970.
    pub time: i64,
    /// The revision.
    pub revision: u64,
}

/// An EncryptionConfiguration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The hash of its bytes.
    pub hash: String,
    /// Whether the agent wrote it.
    pub own: bool,
    /// What it says; `None` where we have no words for it.
    pub configuration: Option<Configuration>,
    /// It uses a KMS v2 plugin.
    pub kms: bool,
}

/// What a value may be under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Under {
    /// Plaintext.
    Identity,
    /// A key.
    Key(KeyName),
}

impl Under {
    /// By the name that reports and orders have for it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "identity" => Some(Self::Identity),
            name => KeyName::parse(name).map(Self::Key),
        }
    }
}

/// The name as reports have it.
impl fmt::Display for Under {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => formatter.write_str("identity"),
            Self::Key(name) => name.fmt(formatter),
        }
    }
}

/// `C(w;R)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What writes.
    pub write: Under,
    /// All that is read, what writes among it.
    pub read: BTreeSet<Under>,
}

impl Configuration {
    /// `C(w;R)`; `write` is read too.
    pub fn new(write: Under, read: impl IntoIterator<Item = Under>) -> Self {
        let mut read: BTreeSet<Under> = read.into_iter().collect();
        read.insert(write.clone());
        Self { write, read }
    }

    /// What an API server without a file does.
    pub fn plaintext() -> Self {
        Self::new(Under::Identity, [])
    }
}

/// `C(k2;k1,k2)`.
impl fmt::Display for Configuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read: Vec<String> = self.read.iter().map(Under::to_string).collect();
        write!(formatter, "C({};{})", self.write, read.join(","))
    }
}

/// A reading of raw etcd, or what is as good: all pages at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The revision.
    pub revision: u64,
    /// Values by resource and what they are under; `unknown` as a name where it means nothing to us. Resources with no
    /// value have an empty entry.
    pub values: BTreeMap<String, BTreeMap<Under, u64>>,
}

/// One pass of the sweep over all resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Objects that were rewritten: they were under another key.
    pub rewritten: u64,
    /// Objects that could not be rewritten, by name and with the reason.
    pub blocked: Vec<String>,
    /// A revision of etcd seen after the last object.
    pub revision: u64,
}
