//! What is ordered is done, and nothing of a key is seen; and everything can be lost but etcd and the escrow.

use super::world::World;
use super::*;

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
    eventually(DONE, "what the API server runs with is kept as good", async || {
        let kept = fs::read(world.nodes[1].folder.join(LAST_GOOD));
        let kept = kept.is_ok_and(|kept| kept == world.nodes[1].read(FILE));
        kept.then_some(()).ok_or("none or another is kept")
    })
    .await
    .unwrap();
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
