//! A control-plane node joins while everything is rewritten, with the file of a backup from before the rotation.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::process::Command;

use cloison::agent::node::FILE;
use cloison_testbed::eventually;
use serde_json::{Value, json};

use super::agents::Node;
use super::checker::Checker;
use super::common::objects;
use super::raw::under;
use super::scene::{ROTATED, SOON, condition};
use super::story::Story;

const LATE: &str = "written-by-who-joins";

/// What raw etcd shows of the one that joins, and of nobody else: it cannot read what the others write yet.
pub fn of_who_joins(line: &str) -> bool {
    line.contains("by API server 2") && (line.contains("(I1)") || line.contains("(I2)"))
}

/// `stale` is the file C(k1;k1).
pub async fn in_the_middle_of_the_sweep(story: &mut Story, checker: &Checker, stale: &[u8]) {
    let plane = story.scene.plane.clone();
    let server = plane.api_server(2);
    let folder = plane.folder().join("cp-2/keys");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let file = folder.join(FILE);
    fs::write(&file, stale).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();

    assert_eq!(story.ask_for_another_key().await, "k2");
    let sweeps = |status: &Value| status["step"] == "Sweep";
    story.scene.status("everything is rewritten", ROTATED, sweeps).await;
    // An API server takes longer to start than the few Secrets here to be rewritten.
    story.change(json!({"spec": {"suspend": true}})).await;
    let held = |status: &Value| condition(status, "Blocked")["reason"] == "Suspended";
    let status = story.scene.status("it is suspended", SOON, held).await;
    assert_eq!(status["step"], "Sweep", "{status}");
    let flags = [
        format!("--encryption-provider-config={}", file.display()),
        "--encryption-provider-config-automatic-reload=true".to_owned(),
    ];
    // It is not ready before it can read every Secret.
    let starts = plane.clone();
    let starts = tokio::spawn(async move {
        let server = starts.api_server(2);
        server.restart_with(|options| options.extra_args.extend(flags)).await
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": LATE, "namespace": "default"},
        "stringData": {"a": "b"}});
    let through = objects(&server.admin().unwrap(), "v1", "Secret", Some("default"));
    let secret = serde_json::from_value(secret).unwrap();
    let write = async || through.create(&Default::default(), &secret).await;
    eventually(SOON, "it takes a write", write).await.unwrap();
    assert_eq!(
        under(&story.raw(LATE).await),
        "k1",
        "it writes what the sweep was done with"
    );
    story.said("an API server joined with C(k1;k1), and wrote");

    story.change(json!({"spec": {"suspend": false}})).await;
    let unknown = |status: &Value| {
        let blocked = condition(status, "Blocked")["message"].as_str().unwrap_or_default();
        blocked.contains("apiserver-")
    };
    story.scene.status("the barrier is broken", SOON, unknown).await;
    let node = Node::new(&plane, server).await;
    node.write_manifest(server, &[&folder]);
    node.agent.start().unwrap();
    story.scene.nodes.push(node);
    approve(story).await;
    eventually(ROTATED, "who joined has a file that reads k2", async || {
        for node in 0..2 {
            assert!(
                story.keys(node).contains(&"k1".to_owned()),
                "cp-{node} dropped k1 while cp-2 writes it"
            );
        }
        let keys = story.keys(2);
        if keys.contains(&"k2".to_owned()) {
            Ok(())
        } else {
            Err(format!("{keys:?}\n{}", super::scene::tail(&story.scene.nodes[2].agent)))
        }
    })
    .await
    .unwrap();
    starts.await.unwrap().unwrap();
    checker.up(2);
    story.everything_is_under(2).await;
    for server in plane.api_servers() {
        let secrets = objects(&server.admin().unwrap(), "v1", "Secret", Some("default"));
        secrets.get(LATE).await.unwrap();
    }
}

/// By the program, as a person does who saw the identity in the agent's log.
async fn approve(story: &Story) {
    let plane = &story.scene.plane;
    let reports = objects(
        &plane.admin().unwrap(),
        "cloison.dev/v1alpha1",
        "ControlPlaneReport",
        None,
    );
    let report = eventually(SOON, "its agent reports", async || reports.get("cp-2").await);
    let report = report.await.unwrap();
    let recipient = report.data["spec"]["recipient"].as_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .args(["ring", "approve", "cp-2", "--recipient", recipient])
        .env("KUBECONFIG", plane.admin_kubeconfig().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
