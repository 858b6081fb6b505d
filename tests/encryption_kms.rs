//! A KMS v2 plugin encrypts, and its key changes without another file: what is known of it, on two real API servers.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[path = "encryption_world/mod.rs"]
mod encryption_world;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::controller::evidence::Snapshot;
use cloison::controller::evidence::reads::{ReadSettings, ReadsProof};
use cloison::encryption::leases::id_hash;
use cloison::encryption::proof::reasons;
use cloison::encryption::sweep::reads::reasons as stored;
use cloison_testbed::{Tool, eventually, find};
use encryption_world::{World, apply, objects, with};
use kube::api::PostParams;
use serde_json::json;

/// An API server asks its plugin once a minute.
const ASKED: Duration = Duration::from_secs(150);

/// The plugin, in a folder of its own: `socket`, and `key-id` with the key it encrypts with.
struct Plugin {
    folder: tempfile::TempDir,
    process: Child,
}

impl Plugin {
    fn start(key_id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key-id"), key_id).unwrap();
        Self {
            process: Self::run(folder.path()),
            folder,
        }
    }

    fn run(folder: &Path) -> Child {
        let program = find(Tool::KmsPlugin).unwrap();
        let arguments = [folder.join("socket"), folder.join("key-id")];
        Command::new(program).args(arguments).spawn().unwrap()
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// On a socket of the same name.
    fn start_again(&mut self) {
        std::fs::remove_file(self.socket()).unwrap();
        self.process = Self::run(self.folder.path());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// From now on it encrypts with this one.
    fn change_key(&self, key_id: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, key_id).unwrap();
        std::fs::rename(next, self.folder.path().join("key-id")).unwrap();
    }

    fn configuration(&self) -> String {
        let endpoint = format!("unix://{}", self.socket().display());
        let kms = json!({"apiVersion": "v2", "name": "cloud", "endpoint": endpoint, "timeout": "3s"});
        let entry = json!({"resources": ["secrets"], "providers": [{"kms": kms}, {"identity": {}}]});
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]})
            .to_string()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads all stored Secrets now, and waits for an answer.
async fn read(world: &World, truth: Truth, reason: &str) -> ReadsProof {
    let ask = |reads: Option<ReadSettings>| world.settings.send_modify(|settings| settings.reads = reads);
    ask(None);
    world.wait_for("a fresh start", |seen| seen.reads.is_none()).await;
    ask(Some(ReadSettings {
        rate: 500,
        max_age: Duration::from_hours(24),
    }));
    let seen = world.wait_for("an answer", |seen| seen.reads.is_some()).await;
    let proof = seen.reads.unwrap();
    assert_eq!(
        (proof.reads.truth, proof.reads.reason),
        (truth, reason),
        "{}",
        proof.reads.message
    );
    proof
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_plugin_is_followed_and_old_values_are_rewritten_under_the_new_one() {
    let mut plugin = tokio::task::spawn_blocking(|| Plugin::start("kek-1")).await.unwrap();
    let listens = async || {
        if plugin.socket().exists() {
            Ok(())
        } else {
            Err("no socket")
        }
    };
    eventually(Duration::from_secs(20), "the plugin", listens)
        .await
        .unwrap();
    let world = World::start(2, with(plugin.configuration())).await;
    let proof = world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    // The metrics show the same hash of a key_id as of an identity: SHA-256 of its text.
    let (first, second) = (id_hash("kek-1"), id_hash("kek-2"));
    assert!(
        proof
            .message
            .contains("under k8s:enc:kms:v2:cloud: by all 2 API servers")
            && proof
                .message
                .contains("KMS provider cloud encrypts with key_id sha256:"),
        "{}",
        proof.message
    );
    let key_ids: Vec<_> = proof.replicas.iter().map(|it| it.key_id_hash.as_deref()).collect();
    assert_eq!(key_ids, [Some(first.as_str()); 2]);
    let admin = world.plane.admin().unwrap();
    for number in 0..30 {
        let body = json!({"stringData": {"a": "b"}});
        apply(&admin, "v1", "Secret", Some("default"), &format!("old-{number}"), body).await;
    }
    let before = read(&world, Truth::True, stored::VALUES_ENCRYPTED).await;

    // Another key, and no other file. While one API server has it and the other not, nothing is claimed.
    plugin.change_key("kek-2");
    let mut truths = Vec::new();
    let mut changes = world.evidence.subscribe();
    let both = tokio::time::timeout(ASKED, async {
        loop {
            let seen = changes.borrow_and_update().encryption.clone().unwrap();
            let have = |key_id: &str| {
                let replicas = seen.replicas.iter();
                replicas.filter(|it| it.key_id_hash.as_deref() == Some(key_id)).count()
            };
            match (have(&first), have(&second)) {
                (0, 2) => break,
                (1, 1) => truths.push((seen.truth, seen.reason)),
                _ => {}
            }
            changes.changed().await.unwrap();
        }
    });
    both.await.unwrap();
    assert!(
        truths
            .iter()
            .all(|found| *found == (Truth::Unknown, reasons::KEY_IDS_DIFFER)),
        "{truths:?}"
    );
    world.expect(Truth::True, reasons::NEW_WRITES_ENCRYPTED).await;
    let old = read(&world, Truth::Unknown, stored::OLD_KEY_ID).await;
    assert_ne!(
        old.shape, before.shape,
        "what was proven under the first key counts no more"
    );

    // As the message says.
    let kubeconfig = world.plane.admin_kubeconfig().unwrap();
    let rewrite = move || {
        Command::new(env!("CARGO_BIN_EXE_cloison"))
            .args(["encryption", "rewrite", "--rate", "2000"])
            .env("KUBECONFIG", kubeconfig)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(rewrite).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    read(&world, Truth::True, stored::VALUES_ENCRYPTED).await;
    // In etcd each value says in clear under which key_id it is.
    for (name, value) in world.plane.etcd().list("/registry/secrets/default/old-").await.unwrap() {
        let has = |text: &[u8]| value.windows(text.len()).any(|part| part == text);
        assert!(has(b"kek-2") && !has(b"kek-1"), "{name}");
    }
    if std::env::var_os("CLOISON_CASES").is_some_and(|which| which == "all") {
        dies_and_comes_back(&world, &mut plugin).await;
    }
}

/// It takes minutes: so long an API server goes on with the key that it has.
async fn dies_and_comes_back(world: &World, plugin: &mut Plugin) {
    let admin = world.plane.admin().unwrap();
    let secrets = objects(&admin, "v1", "Secret", Some("default"));
    let told = async |truth, reason: &'static str, within| {
        let wanted = |seen: &Snapshot| {
            let proof = seen.encryption.as_ref();
            proof.is_some_and(|proof| (proof.truth, proof.reason) == (truth, reason))
        };
        world.wait_within(within, reason, wanted).await.encryption.unwrap()
    };
    plugin.kill();
    let proof = told(Truth::Unknown, reasons::KMS_UNHEALTHY, Duration::from_mins(6)).await;
    assert!(
        proof.message.contains("KMS provider cloud has not answered"),
        "{}",
        proof.message
    );
    // It is no false alarm.
    let refused = async || {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"generateName": "late-"}});
        let made = secrets
            .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
            .await;
        made.err().ok_or("a Secret was still written")
    };
    let error = eventually(Duration::from_mins(2), "writes are refused", refused)
        .await
        .unwrap();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 500),
        "{error}"
    );
    secrets.get("old-0").await.unwrap();
    plugin.start_again();
    told(Truth::True, reasons::NEW_WRITES_ENCRYPTED, ASKED).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "after"}});
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
}
