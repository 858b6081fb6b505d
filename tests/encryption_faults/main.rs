//! Keys rotate whatever dies on the way: the controller in each step, an agent between any two of its file operations, an
//! API server that comes back with its old file, etcd in the middle of the sweep. All the time Secrets are written and read
//! through every API server, and raw etcd is the judge.
//!
//! The API servers look at their file each second and let a request last six: otherwise they are the real ones.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::too_many_lines)] // a test fails by panicking
#![allow(clippy::default_trait_access)]
#![allow(
    clippy::print_stdout,
    reason = "a story of minutes says where it is, and what was checked how often"
)]

#[path = "../common/agents.rs"]
mod agents;
mod checker;
mod clients;
#[path = "../common/admission.rs"]
mod common;
mod history;
mod kills;
mod needles;
#[path = "../common/operator.rs"]
mod operator;
mod raw;
mod scene;
mod search;

use std::collections::BTreeSet;
use std::time::Instant;

use checker::Checker;
use cloison::agent::node::FILE;
use cloison::encryption::config;
use cloison_testbed::eventually;
use kube::api::ListParams;
use raw::stored;
use scene::{ROTATED, SOON, Scene, condition, idle, step, tail};
use serde_json::Value;

const CANARY: &str = "zq-kanarie-9157-never-to-be-seen";

/// Write key and all keys of a file.
fn keys(file: &[u8]) -> Vec<String> {
    let read = config::read(file).unwrap();
    read.keys().iter().map(|key| key.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_survives_whatever_dies_on_the_way() {
    let began = Instant::now();
    let said = |what: &str| println!("{:4} s  {what}", began.elapsed().as_secs());
    let scene = Scene::new(CANARY).await;
    let plane = &scene.plane;
    let files = scene.nodes.iter().map(|node| node.folder.join(FILE)).collect();
    scene.enable().await;
    said("the API servers have their flags");
    let checker = Checker::start(plane, files, &[]).await;
    scene.status("the first enable ends", ROTATED, idle).await;
    let enabled = stored(plane).await;
    assert_eq!(enabled.keys().collect::<Vec<_>>(), ["k1"], "{enabled:?}");
    said("everything is under k1");

    let mut files = vec![scene.nodes[1].read(FILE)];
    let mut left = BTreeSet::from([
        "Mint", "Read", "Promote", "Sweep", "Prove", "Drain", "Retire", "Archive",
    ]);
    let (mut sweeps, deadline) = (0, Instant::now() + ROTATED);
    scene.ask_for_another_key();
    loop {
        assert!(
            Instant::now() < deadline,
            "the rotation did not end; not seen: {left:?}; {:?}\n{}",
            scene.read().await,
            tail(&scene.controller)
        );
        let file = scene.nodes[1].read(FILE);
        if files.last() != Some(&file) {
            files.push(file);
        }
        let Some(status) = scene.read().await else { continue };
        let now = step(&status);
        let second = status["keys"].as_array().is_some_and(|keys| keys.len() == 2);
        if second && idle(&status) && now == "Idle" {
            break;
        }
        sweeps += usize::from(now == "Sweep" && sweeps == 1);
        if left.remove(now.as_str()) {
            scene.controller.kill();
            said(&format!("the controller is killed in {now}"));
            match now.as_str() {
                "Mint" => {
                    scene.controller.start().unwrap();
                    // The order for the next file comes while it waits.
                    kills::between_its_file_operations(&scene.nodes[0]).await;
                    said("the agent of API server 0 died between its file operations");
                }
                "Promote" => {
                    let both = files.iter().rfind(|file| keys(file) == ["k1", "k2"]);
                    old_file_comes_back(&scene, &checker, both.expect("C(k1;k1,k2) was in place")).await;
                    said("API server 1 came back with its old file");
                }
                "Sweep" => sweeps = 1,
                _ => {}
            }
            scene.controller.start().unwrap();
        } else if sweeps == 2 {
            sweeps = 3;
            etcd_restarts(&scene, &checker).await;
            said("etcd was restarted during the sweep");
        }
    }
    said("everything is said to be under k2");
    assert_eq!(checker.wrong(), Vec::<String>::new());
    assert!(left.is_empty(), "not seen: {left:?}");
    assert_eq!(sweeps, 3, "etcd was restarted");

    let after = stored(plane).await;
    let (done, wrong) = checker.end().await;
    println!("{done:?}");
    assert_eq!(wrong, Vec::<String>::new(), "{}", tail(&scene.controller));
    assert_eq!(after.keys().collect::<Vec<_>>(), ["k2"], "{after:?}");
    for what in [
        "create",
        "update",
        "delete",
        "get",
        "list",
        "list from the cache",
        "next page",
        "watch event",
        "second of raw etcd",
    ] {
        assert!(done.least(what) >= 20, "{what}: {done:?}");
    }
    assert!(done.least("old token expired") >= 1, "{done:?}");
    for node in &scene.nodes {
        assert_eq!(keys(&node.read(FILE)), ["k2"]);
        assert!(!String::from_utf8(node.read(FILE)).unwrap().contains("identity"));
    }
    let end = scene
        .status("the old key is retired", SOON, |status| {
            status["keys"][0]["state"] == "Retired" && idle(status)
        })
        .await;
    let encrypted = |status: &Value| condition(status, "Encrypted")["status"] == "True";
    scene.status("raw etcd proves it", SOON, encrypted).await;
    assert_eq!(condition(&end, "Blocked")["status"], "False", "{end}");
    assert_ne!(condition(&end, "Degraded")["status"], "True", "{end}");
    assert_eq!(search::leaks(&scene, &files, CANARY).await, Vec::<String>::new());
    said("no key and no value is anywhere");
    assert_eq!(search::remembered(&scene, &files), Vec::<String>::new());
    said("no key is in the memory of the controller, and none in an agent's between two passes");
    for program in scene.nodes.iter().map(|node| &node.agent) {
        let filter = std::fs::read_to_string(format!("/proc/{}/coredump_filter", program.process_id().unwrap()));
        assert_eq!(
            filter.unwrap().trim(),
            "00000000",
            "a core dump holds none of its memory"
        );
    }
    scene.controller.stop().await;
}

/// Both the API server and its agent are gone at once, and the disk is as it was a while ago.
async fn old_file_comes_back(scene: &Scene, checker: &Checker, old: &[u8]) {
    let (server, node) = (scene.plane.api_server(1), &scene.nodes[1]);
    node.agent.kill();
    checker.down(1);
    server.kill();
    std::fs::write(node.folder.join(FILE), old).unwrap();
    server.start().await.unwrap();
    node.write_manifest(server, &[&node.folder]);
    serves(scene).await;
    checker.up(1);
    let hashes = server.metrics().await.unwrap();
    let hashes = hashes.label_values("apiserver_encryption_config_controller_last_config_info", "hash");
    assert_eq!(hashes, [config::hash(old)], "it runs with its old file");
    node.agent.start().unwrap();
}

async fn etcd_restarts(scene: &Scene, checker: &Checker) {
    [0, 1].iter().for_each(|server| checker.down(*server));
    scene.plane.etcd().stop().await;
    scene.plane.etcd().start().await.unwrap();
    serves(scene).await;
    [0, 1].iter().for_each(|server| checker.up(*server));
}

/// Every API server answers, also out of its cache.
async fn serves(scene: &Scene) {
    for server in scene.plane.api_servers() {
        let secrets = common::objects(&server.admin().unwrap(), "v1", "Secret", Some("default"));
        let (fresh, cached) = (ListParams::default(), ListParams::default().match_any());
        let answers = async || {
            secrets.list(&fresh).await?;
            secrets.list(&cached).await
        };
        eventually(SOON, "an API server answers", answers).await.unwrap();
    }
}
