//! Files of others, damaged ones, and a disk without room or read-only.

use super::world::World;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_agents_is_left_alone_and_named_in_one_line() {
    let world = World::start(1).await;
    let node = &world.nodes[0];
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let foreign = json!({"kind": "EncryptionConfiguration", "apiVersion": "apiserver.config.k8s.io/v1", "resources": [
        {"resources": ["secrets"], "providers": [{"secretbox": {"keys": [{"name": "old", "secret": secret}]}}, {"identity": {}}]}]});
    let foreign = foreign.to_string();
    another_prefix(&world, node).await;
    // Made by the agent, so that directory and modes are its own.
    node.agent.start().unwrap();
    world
        .order(1, json!({"mint": {"afterID": 0, "provider": "AESGCM"}}))
        .await;
    world
        .reported(node, "the first key, and a reading", DONE, |report| {
            report["sealedID"] == 1 && report["proof"]["revision"].as_i64() > Some(1)
        })
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
    // A disk without room, and a read-only one.
    bad_disk(&world, node).await;
}

/// Where the API server does not write, nothing is found; that is no proof of anything, and it is said where to look.
async fn another_prefix(world: &World, node: &Node) {
    let agent = node.agent_with(&["--etcd-prefix", "/elsewhere"]);
    agent.start().unwrap();
    let says = |report: &Value| {
        report["error"]
            .as_str()
            .is_some_and(|error| error.contains("/elsewhere/cloison.dev/secretencryptions/default is not there"))
    };
    let report = world.reported(node, "the other prefix", DONE, says).await;
    assert_eq!(report["proof"], Value::Null);
    agent.kill();
}

/// A file system of 64 KiB over the folder, filled to the brim, then read-only; needs root, and Linux.
async fn bad_disk(world: &World, node: &Node) {
    let before: Vec<(&str, Vec<u8>)> = [FILE, IDENTITY, RING]
        .iter()
        .map(|file| (*file, node.read(file)))
        .collect();
    let recipient: AgeRecipient = identities(std::str::from_utf8(&before[1].1).unwrap()).unwrap()[0]
        .recipient()
        .clone();
    node.agent.kill();
    let run = |program: &str, arguments: &[&str]| {
        let ran = std::process::Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(
            ran.status.success(),
            "this case mounts a small file system, as root with CAP_SYS_ADMIN: {program}: {said}"
        );
    };
    let folder = node.folder.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", folder]);
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
    let says = |what: &'static str| {
        move |report: &Value| {
            let error = report["error"].as_str();
            error.is_some_and(|error| error.contains(what) && error.contains("nothing in use was changed"))
        }
    };
    let report = world
        .reported(node, "the full disk", DONE, says("No space left on device"))
        .await;
    assert_eq!(report["recipient"], json!(recipient));
    assert_eq!(node.read(FILE), before[0].1);
    fs::remove_file(node.folder.join("filler")).unwrap();
    world.files(&["old", "identity"]).await;
    // One that is read-only, as after an error of the disk.
    let written = node.read(FILE);
    run("mount", &["-o", "remount,ro", folder]);
    world
        .order(
            5,
            json!({"configuration": {"write": "old", "read": ["k1", "identity"]}}),
        )
        .await;
    world
        .reported(node, "the read-only disk", DONE, says("Read-only file system"))
        .await;
    assert_eq!(node.read(FILE), written);
    run("mount", &["-o", "remount,rw", folder]);
    world.files(&["old", "k1", "identity"]).await;
    node.agent.kill();
    run("umount", &[folder]);
}
