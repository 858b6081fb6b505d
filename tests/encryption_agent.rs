//! The agents on real control planes: two API servers, an agent each with a token that is bound to a pod on its node, the
//! policies in force. Orders are given as the controller gives them; etcd and the files are the judges.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines)] // a test fails by panicking
#![allow(clippy::default_trait_access)]

#[path = "common/agents.rs"]
mod agents;
#[path = "common/admission.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use agents::Node;
use cloison::agent::node::{FILE, IDENTITY, LAST_GOOD, RING};
use cloison::agent::sealing::new_identity;
use cloison::api::names;
use cloison::api::text::AgeRecipient;
use cloison::encryption::config::hash;
use cloison::encryption::ring::{Identity, identities, open};
use cloison_testbed::eventually;
use common::*;
use kube::Client;
use kube::api::DynamicObject;
use serde_json::{Value, json};

const CLOISON: &str = "cloison.dev/v1alpha1";
/// An API server reads its file each minute.
const RELOADED: Duration = Duration::from_secs(150);
const DONE: Duration = Duration::from_secs(30);

struct World {
    cluster: Cluster,
    nodes: Vec<Node>,
    operator: Client,
    escrow: Identity,
}

impl World {
    async fn start(replicas: usize) -> Self {
        let cluster = Cluster::start_unproven(vec![Default::default(); replicas], spec(json!({}))).await;
        let admin = cluster.admin();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": names::AGENT_ACCOUNT, "namespace": names::DEFAULT_NAMESPACE}});
        apply(&admin, account).await;
        let mut nodes = Vec::new();
        for server in cluster.plane.api_servers() {
            nodes.push(Node::new(&cluster.plane, server).await);
        }
        let escrow = new_identity().unwrap();
        let wanted = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": "default"},
            "spec": {"mode": "Manage", "escrow": {"recipients": [escrow.recipient().0]}}});
        apply(&admin, wanted).await;
        let operator = cluster.operator().await;
        Self {
            cluster,
            nodes,
            operator,
            escrow,
        }
    }

    /// As the controller orders.
    async fn order(&self, number: i64, order: Value) {
        let mut order = order;
        order["number"] = json!(number);
        let wanted = objects(&self.operator, CLOISON, "SecretEncryption", None);
        let status = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "status": {"order": order}});
        let apply = kube::api::PatchParams::apply("cloison").force();
        wanted
            .patch_status("default", &apply, &kube::api::Patch::Apply(&status))
            .await
            .unwrap();
    }

    async fn ring(&self) -> Option<DynamicObject> {
        let rings = objects(&self.cluster.admin(), CLOISON, "EncryptionKeyRing", None);
        rings.get_opt("default").await.unwrap()
    }

    /// Waits until the report of a node is as wanted.
    async fn reported(&self, node: &Node, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let reports = objects(&self.cluster.admin(), CLOISON, "ControlPlaneReport", None);
        let last = std::sync::Mutex::new(Value::Null);
        let found = eventually(within, what, async || {
            let report = reports.get_opt(&node.name).await.map_err(|error| error.to_string())?;
            let spec = report.map_or(Value::Null, |report| report.data["spec"].clone());
            *last.lock().unwrap() = spec.clone();
            if wanted(&spec) {
                Ok(spec)
            } else {
                Err(format!("not yet: {spec}"))
            }
        })
        .await;
        found.unwrap_or_else(|error| panic!("{}: {error}\n{}", node.name, node.agent.output()))
    }

    async fn everywhere(&self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(self.reported(node, what, within, &wanted).await);
        }
        all
    }

    /// The names of the keys in everybody's file.
    async fn files(&self, wanted: &[&str]) {
        let names = |report: &Value| -> Vec<String> {
            let keys = report["file"]["keys"].as_array().cloned().unwrap_or_default();
            keys.iter()
                .map(|key| key["name"].as_str().unwrap().to_owned())
                .collect()
        };
        let reports = self
            .everywhere("the file", DONE, |report| names(report) == wanted)
            .await;
        let hashes: std::collections::BTreeSet<String> = self.nodes.iter().map(|node| hash(&node.read(FILE))).collect();
        assert_eq!(hashes.len(), 1, "every node has the same bytes");
        for report in reports {
            assert_eq!(report["file"]["own"], true);
            assert!(hashes.contains(report["file"]["hash"].as_str().unwrap()));
        }
    }

    async fn loaded(&self) {
        let loaded = |report: &Value| report["apiServer"]["loadedHash"] == report["file"]["hash"];
        self.everywhere("the API server loaded the file", RELOADED, loaded)
            .await;
    }

    /// Writes a Secret by one API server; how etcd holds it.
    async fn stored(&self, replica: usize, name: &str) -> Vec<u8> {
        let admin = self.cluster.plane.api_server(replica).admin().unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"},
            "stringData": {"a": "canary-of-the-test"}});
        apply(&admin, secret).await;
        let key = format!("/registry/secrets/default/{name}");
        self.cluster.plane.etcd().get(&key).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_become_files_that_every_api_server_loads() {
    let world = World::start(2).await;
    for node in &world.nodes {
        node.agent.start().unwrap();
    }
    // Both join, and what is missing is said ready to copy.
    let reports = world
        .everywhere("both join", DONE, |report| {
            report["flags"]["missing"]
                .as_array()
                .is_some_and(|missing| missing.len() == 3)
        })
        .await;
    for (report, node) in reports.iter().zip(&world.nodes) {
        let missing = report["flags"]["missing"].to_string();
        let flag = format!("--encryption-provider-config={}", node.folder.join(FILE).display());
        assert!(
            missing.contains(&flag) && missing.contains("hostPath volume"),
            "{missing}"
        );
    }
    eventually(DONE, "both are members", async || {
        let members = world
            .ring()
            .await
            .map_or(0, |ring| ring.data["spec"]["members"].as_array().unwrap().len());
        if members == 2 { Ok(()) } else { Err(members) }
    })
    .await
    .unwrap();
    // S1: one of them mints, for both and for the escrow.
    let mint = |after: i64| json!({"mint": {"afterID": after, "provider": "AESGCM"}});
    world.order(1, mint(0)).await;
    world
        .everywhere("the sealed key is on every disk", DONE, |report| {
            report["sealedID"] == 1 && report["orderNumber"] == 1
        })
        .await;
    let ring = world.ring().await.unwrap();
    let spec: cloison::api::key_ring::EncryptionKeyRingSpec =
        serde_json::from_value(ring.data["spec"].clone()).unwrap();
    assert_eq!(
        (spec.last_id, spec.keys[0].wraps.len()),
        (1, 3),
        "minted once, sealed for two nodes and the escrow"
    );
    // What is not read is not written.
    world
        .order(2, json!({"configuration": {"write": "k1", "read": ["identity"]}}))
        .await;
    let refused = |report: &Value| {
        report["orderNumber"] == 2
            && report["error"]
                .as_str()
                .is_some_and(|error| error.contains("k1 is ordered to write"))
    };
    world.everywhere("the refusal", DONE, refused).await;
    assert!(!world.nodes[0].folder.join(FILE).exists());
    // S2, and the admin adds the flags.
    world
        .order(3, json!({"configuration": {"write": "identity", "read": ["k1"]}}))
        .await;
    world.files(&["identity", "k1"]).await;
    for (server, node) in world.cluster.plane.api_servers().iter().zip(&world.nodes) {
        let file = node.folder.join(FILE);
        let flags = [
            format!("--encryption-provider-config={}", file.display()),
            "--encryption-provider-config-automatic-reload=true".to_owned(),
        ];
        server
            .restart_with(|options| options.extra_args.extend(flags))
            .await
            .unwrap();
        node.write_manifest(server, &[&node.folder]);
    }
    world
        .everywhere("nothing is missing", DONE, |report| {
            report["flags"]["missing"].is_null() && report["flags"]["automaticReload"] == true
        })
        .await;
    world.loaded().await;
    let plain = world.stored(0, "before").await;
    assert!(!plain.starts_with(b"k8s:enc:"));
    // S3: both write the key, and read what the other wrote.
    world
        .order(4, json!({"configuration": {"write": "k1", "read": ["identity"]}}))
        .await;
    world.files(&["k1", "identity"]).await;
    world.loaded().await;
    for replica in 0..2 {
        let stored = world.stored(replica, &format!("after-{replica}")).await;
        assert!(
            stored.starts_with(b"k8s:enc:aesgcm:v1:k1:"),
            "{}",
            stored.escape_ascii()
        );
        let other = world.cluster.plane.api_server(1 - replica).admin().unwrap();
        objects(&other, "v1", "Secret", Some("default"))
            .get(&format!("after-{replica}"))
            .await
            .unwrap();
    }
    // The histogram is what etcd holds.
    let listed = world.cluster.plane.etcd().list("/registry/secrets/").await.unwrap();
    let mut oracle: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, value) in &listed {
        *oracle
            .entry(if value.starts_with(b"k8s:enc:aesgcm:v1:k1:") {
                "k1"
            } else {
                "identity"
            })
            .or_default() += 1;
    }
    let counted = |report: &Value| {
        let values = report["proof"]["values"].as_array().cloned().unwrap_or_default();
        let found: BTreeMap<&str, i64> = values
            .iter()
            .map(|value| (value["key"].as_str().unwrap(), value["count"].as_i64().unwrap()))
            .collect();
        found == oracle
    };
    world
        .everywhere("the histogram", Duration::from_secs(60), counted)
        .await;
    // I5: a node that sees plaintext in etcd does not give up reading it, whatever is ordered.
    world.order(5, json!({"configuration": {"write": "k1"}})).await;
    let held = |report: &Value| {
        report["orderNumber"] == 5
            && report["error"]
                .as_str()
                .is_some_and(|error| error.contains("are under identity, which the order leaves out"))
    };
    world.everywhere("the plaintext is noticed", DONE, held).await;
    world.files(&["k1", "identity"]).await;
    // Killed at any moment, the agent leaves a file that can be loaded, and goes on.
    world.order(6, mint(1)).await;
    for round in 0..12 {
        let (write, read) = if round % 2 == 0 {
            ("k1", ["identity", "k2"].as_slice())
        } else {
            ("k1", ["identity"].as_slice())
        };
        world
            .order(
                7 + round,
                json!({"configuration": {"write": write, "read": read}, "mint": {"afterID": 1, "provider": "AESGCM"}}),
            )
            .await;
        let agent = &world.nodes[0].agent;
        let lines = agent.output().lines().count();
        // It is killed while it works: somewhere after its next line.
        let _ = eventually(Duration::from_secs(3), "it says something", async || {
            if agent.output().lines().count() > lines {
                Ok(())
            } else {
                Err("silent")
            }
        })
        .await;
        agent.kill();
        cloison::encryption::config::read(&world.nodes[0].read(FILE)).unwrap();
        agent.start().unwrap();
    }
    world.files(&["k1", "identity"]).await;
    assert_eq!(hash(&world.nodes[1].read(LAST_GOOD)), hash(&world.nodes[1].read(FILE)));
    // No key was minted twice, and none is seen anywhere but in the files.
    let ring = world.ring().await.unwrap();
    assert_eq!(ring.data["spec"]["lastID"], 2);
    no_key_is_seen(&world).await;
    everything_is_lost_but_etcd_and_the_escrow(&world).await;
}

/// No API server, no node's disk: the file of etcd and the offline identity bring the Secrets back.
async fn everything_is_lost_but_etcd_and_the_escrow(world: &World) {
    let plane = &world.cluster.plane;
    for node in &world.nodes {
        node.agent.kill();
        fs::remove_dir_all(&node.folder).unwrap();
    }
    for server in plane.api_servers() {
        server.stop().await.unwrap();
    }
    plane.etcd().stop().await;
    let home = plane.folder();
    let mut files = vec![home.to_owned()];
    let mut database = None;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.ends_with("member/snap/db") {
            database = Some(path);
        }
    }
    let (identity, out) = (home.join("escrow.txt"), home.join("recovered"));
    fs::write(&identity, world.escrow.to_text().as_bytes()).unwrap();
    let recovered = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["ring", "recover", "--ring"])
        .arg(database.unwrap())
        .arg("--identity")
        .arg(&identity)
        .arg("--directory")
        .arg(&out)
        .output()
        .unwrap();
    assert!(
        recovered.status.success(),
        "{}",
        String::from_utf8_lossy(&recovered.stderr)
    );
    plane.etcd().start().await.unwrap();
    let server = plane.api_server(0);
    let flag = format!("--encryption-provider-config={}", out.join(FILE).display());
    server
        .restart_with(|options| options.extra_args.push(flag))
        .await
        .unwrap();
    let secrets = objects(&server.admin().unwrap(), "v1", "Secret", Some("default"));
    for name in ["before", "after-0", "after-1"] {
        secrets.get(name).await.unwrap();
    }
}

/// Searches what people can read for every key and identity that there is.
async fn no_key_is_seen(world: &World) {
    let ring = world.ring().await.unwrap();
    let spec: cloison::api::key_ring::EncryptionKeyRingSpec =
        serde_json::from_value(ring.data["spec"].clone()).unwrap();
    let mut canaries: Vec<String> = open(&spec, &world.escrow)
        .unwrap()
        .values()
        .map(|key| key.to_base64().to_string())
        .collect();
    assert_eq!(canaries.len(), 2);
    for node in &world.nodes {
        let text = String::from_utf8(node.read(IDENTITY)).unwrap();
        let own = identities(&text).unwrap();
        canaries.extend(own.iter().map(|identity| identity.to_text().to_string()));
    }
    let mut seen = vec![serde_json::to_string(&ring).unwrap()];
    let reports = objects(&world.cluster.admin(), CLOISON, "ControlPlaneReport", None);
    seen.push(serde_json::to_string(&reports.list(&Default::default()).await.unwrap()).unwrap());
    for node in &world.nodes {
        seen.push(node.agent.output());
        seen.push(String::from_utf8(node.read(RING)).unwrap());
    }
    let file = String::from_utf8(world.nodes[0].read(FILE)).unwrap();
    assert!(
        canaries.iter().any(|key| file.contains(key.as_str())),
        "the search finds what is there"
    );
    for (index, canary) in canaries.iter().enumerate() {
        assert!(
            !seen.iter().any(|text| text.contains(canary.as_str())),
            "canary {index} is seen"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_agents_is_left_alone_and_named_in_one_line() {
    let world = World::start(1).await;
    let node = &world.nodes[0];
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let foreign = json!({"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "resources": [
        {"resources": ["secrets"], "providers": [{"secretbox": {"keys": [{"name": "old", "secret": secret}]}}, {"identity": {}}]}]});
    let foreign = foreign.to_string();
    // Made by the agent, so that directory and modes are its own.
    node.agent.start().unwrap();
    world
        .order(1, json!({"mint": {"afterID": 0, "provider": "AESGCM"}}))
        .await;
    world
        .reported(node, "the first key", DONE, |report| report["sealedID"] == 1)
        .await;
    let put = |text: &str| {
        fs::write(node.folder.join(FILE), text).unwrap();
        fs::set_permissions(node.folder.join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
    };
    put(&foreign);
    world
        .order(2, json!({"configuration": {"write": "identity", "read": ["k1"]}}))
        .await;
    let says =
        |what: &'static str| move |report: &Value| report["error"].as_str().is_some_and(|error| error.contains(what));
    let report = world.reported(node, "the refusal", DONE, says("ForeignConfig")).await;
    assert!(!report.to_string().contains(secret), "{report}");
    assert_eq!(
        (report["file"]["own"].clone(), node.read(FILE)),
        (json!(false), foreign.clone().into_bytes())
    );
    // A person lets it be taken over: its keys are sealed like ours, and the next order builds on them.
    let adopt = json!({"metadata": {"annotations": {names::ADOPT_ANNOTATION: hash(foreign.as_bytes())}}});
    patch(
        &world.cluster.admin(),
        CLOISON,
        "SecretEncryption",
        None,
        "default",
        adopt,
    )
    .await
    .unwrap();
    eventually(DONE, "the key is taken in", async || {
        let ring = world.ring().await.unwrap().data["spec"]["keys"].to_string();
        if ring.contains("\"Imported\"") {
            Ok(())
        } else {
            Err(ring.len())
        }
    })
    .await
    .unwrap();
    world
        .order(
            3,
            json!({"configuration": {"write": "old", "read": ["k1", "identity"]}}),
        )
        .await;
    world.files(&["old", "k1", "identity"]).await;
    // Truncated.
    let good = node.read(FILE);
    put(std::str::from_utf8(&good[..good.len() - 20]).unwrap());
    world
        .reported(node, "the damage", DONE, says("the file is damaged and is left alone"))
        .await;
    assert_eq!(node.read(FILE).len(), good.len() - 20);
    put(std::str::from_utf8(&good).unwrap());
    world
        .reported(node, "all is well", DONE, |report| report["error"].is_null())
        .await;
    // A disk without room.
    full_disk(&world, node).await;
}

/// A file system of 64 KiB over the folder, filled to the brim; needs root, and Linux.
async fn full_disk(world: &World, node: &Node) {
    let before: Vec<(&str, Vec<u8>)> = [FILE, IDENTITY, RING]
        .iter()
        .map(|file| (*file, node.read(file)))
        .collect();
    let recipient: AgeRecipient = identities(std::str::from_utf8(&before[1].1).unwrap()).unwrap()[0]
        .recipient()
        .clone();
    node.agent.kill();
    let run = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program)
            .args(arguments)
            .status()
            .unwrap()
            .success()
    };
    let folder = node.folder.to_str().unwrap();
    if !run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", folder]) {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    for (file, bytes) in &before {
        fs::write(node.folder.join(file), bytes).unwrap();
        fs::set_permissions(node.folder.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // As much as goes in.
    let _ = fs::write(node.folder.join("filler"), vec![0; 65_536]);
    node.agent.start().unwrap();
    world
        .order(4, json!({"configuration": {"write": "old", "read": ["identity"]}}))
        .await;
    let wanted = |report: &Value| {
        report["error"].as_str().is_some_and(|error| {
            error.contains("No space left on device") && error.contains("nothing in use was changed")
        })
    };
    let report = world.reported(node, "the full disk", DONE, wanted).await;
    assert_eq!(report["recipient"], json!(recipient));
    assert_eq!(node.read(FILE), before[0].1);
    fs::remove_file(node.folder.join("filler")).unwrap();
    world.files(&["old", "identity"]).await;
    node.agent.kill();
    assert!(run("umount", &[folder]));
}
