//! An API server that is down blocks what could make a value unreadable to it, and nothing else: nobody loses a read, whoever
//! leads. Beside it what somebody writes into etcd behind everybody's back is refused and not served.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access)]

#[path = "common/agents.rs"]
mod agents;
#[path = "encryption_faults/checker.rs"]
mod checker;
#[path = "encryption_faults/clients.rs"]
mod clients;
#[path = "common/admission.rs"]
mod common;
#[path = "encryption_faults/history.rs"]
mod history;
#[path = "common/operator.rs"]
mod operator;
#[path = "encryption_faults/raw.rs"]
mod raw;
#[path = "encryption_faults/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::time::Duration;

use checker::Checker;
use cloison::agent::node::FILE;
use cloison::encryption::config;
use cloison_testbed::{ControlPlane, eventually};
use common::objects;
use raw::stored;
use scene::{ROTATED, SOON, Scene, condition, idle};
use serde_json::Value;

fn keys(scene: &Scene, node: usize) -> Vec<String> {
    let file = config::read(&scene.nodes[node].read(FILE)).unwrap();
    file.keys().iter().map(|key| key.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_an_api_server_is_down_no_key_is_dropped_whoever_leads() {
    let scene = Scene::new("value").await;
    let plane = &scene.plane;
    scene.enable().await;
    let files = scene.nodes.iter().map(|node| node.folder.join(FILE)).collect();
    let checker = Checker::start(plane, files, &[]).await;
    scene.status("the first enable ends", ROTATED, idle).await;
    let second = operator::controller(plane, "second").await;
    second.start().unwrap();

    scene.ask_for_another_key();
    let promoted = |status: &Value| status["step"] == "Sweep" || status["step"] == "Promote";
    scene.status("k2 writes", SOON, promoted).await;
    eventually(SOON, "the file of API server 1 writes k2", async || {
        let keys = keys(&scene, 1);
        if keys == ["k2", "k1"] {
            Ok(())
        } else {
            Err(format!("{keys:?}"))
        }
    })
    .await
    .unwrap();
    let (server, node) = (plane.api_server(1), &scene.nodes[1]);
    node.agent.kill();
    checker.down(1);
    server.kill();
    let waits = |status: &Value| {
        let blocked = condition(status, "Blocked");
        blocked["status"] == "True" && blocked["message"].as_str().is_some_and(|it| it.contains("cp-1"))
    };
    // After half a minute without a word of the agent.
    scene.status("the node that is down blocks", SOON * 2, waits).await;
    // The next one to lead knows no more than that.
    scene.controller.kill();
    operator::metric_is(&second, "cloison_leader", &[], |leader| leader == 1).await;
    operator::stays(Duration::from_secs(20), async || {
        assert_eq!(keys(&scene, 0), ["k2", "k1"], "k1 stays while cp-1 is down");
    })
    .await;
    scene.status("it is still said", SOON, waits).await;

    server.start().await.unwrap();
    node.write_manifest(server, &[&node.folder]);
    checker.up(1);
    node.agent.start().unwrap();
    scene.status("the rotation ends", ROTATED, idle).await;
    assert_eq!([keys(&scene, 0), keys(&scene, 1)], [["k2"], ["k2"]]);
    let (done, wrong) = checker.end().await;
    assert_eq!(wrong, Vec::<String>::new());
    assert!(done.least("second of raw etcd") >= 20, "{done:?}");
    let found = stored(plane).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["k2"], "{found:?}");
    what_is_put_into_etcd_is_not_served(plane, &found).await;
    the_checker_sees_what_nobody_can_read(&scene).await;
    second.stop().await;
}

/// That nothing was wrong means something only where it is told when something is.
async fn the_checker_sees_what_nobody_can_read(scene: &Scene) {
    let files = scene.nodes.iter().map(|node| node.folder.join(FILE)).collect();
    let checker = Checker::start(&scene.plane, files, &[]).await;
    let foreign = b"k8s:enc:aesgcm:v1:k9:nobody has this key";
    let key = format!("/registry/secrets/{}/foreign", scene::NAMESPACE);
    scene.plane.etcd().put(&key, foreign).await.unwrap();
    // While its cache cannot be filled a list waits as long as the API server lets it; a turn has five of them at most.
    eventually(checker::PATIENT * 6, "the checker tells", async || {
        let wrong = checker.wrong();
        let told = |what: &str| wrong.iter().any(|line| line.contains(what));
        let of =
            |server: usize| ["unreadable Secret (I1)", "list"].map(|what| format!("{what} by API server {server}: "));
        let untold: Vec<String> = [of(0), of(1)].concat().into_iter().filter(|what| !told(what)).collect();
        if untold.is_empty() {
            Ok(())
        } else {
            Err(format!("not {untold:?}; {wrong:#?}"))
        }
    })
    .await
    .unwrap();
    scene.plane.etcd().delete(&key).await.unwrap();
    checker.end().await;
}

/// The ciphertext of one Secret under another's name, and plaintext.
async fn what_is_put_into_etcd_is_not_served(plane: &ControlPlane, before: &BTreeMap<String, usize>) {
    let secrets = objects(&plane.admin().unwrap(), "v1", "Secret", Some("default"));
    let etcd = plane.etcd();
    let own = etcd.get("/registry/secrets/default/old-1").await.unwrap().unwrap();
    assert!(secrets.get("old-1").await.is_ok(), "in its own place it is served");
    let plain = br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"plain","namespace":"default"}}"#;
    for (name, value) in [("moved", own.as_slice()), ("plain", plain)] {
        let key = format!("/registry/secrets/default/{name}");
        etcd.put(&key, value).await.unwrap();
        let error = secrets.get(name).await.unwrap_err();
        assert!(
            matches!(&error, kube::Error::Api(status) if status.code == 500),
            "{name}: {error}"
        );
        etcd.delete(&key).await.unwrap();
    }
    assert_eq!(stored(plane).await, *before);
}
