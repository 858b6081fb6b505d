//! One whole rotation of 1,000 Secrets on two API servers that reload each second, split by its steps. Beside each step what
//! it is given to wait for: the time until an API server looks at its file, the longest request, the rate that the sweep is
//! allowed; etcd is compacted here as soon as it is waited for. Their sum is the limit that the whole is compared with; the rest
//! is agents and controller that look now and then, and the work itself.
//!
//! `CLOISON_BENCH_SECRETS=10000` makes it larger. Numbers are printed, never asserted.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]
#![allow(clippy::default_trait_access)]
#![allow(clippy::cast_precision_loss, reason = "it counts to thousands")]

#[path = "../tests/common/agents.rs"]
mod agents;
mod bench;
#[path = "../tests/common/admission.rs"]
mod common;
#[path = "../tests/common/operator.rs"]
mod operator;
#[path = "../tests/encryption_faults/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cloison::api::encryption::Sweep;
use futures::{StreamExt, stream};
use kube::api::PostParams;
use scene::{NAMESPACE, REQUEST, ROTATED, Scene, idle, step};
use serde_json::json;

/// How often an API server looks at its file.
const RELOAD: Duration = Duration::from_secs(1);
/// As much as a kubeconfig or a certificate with its key.
const SIZE: usize = 4_096;
/// Each step with what it is given to wait for, for so many Secrets.
fn steps(number: usize) -> [(&'static str, Duration, &'static str); 8] {
    let rate = Sweep::default().max_requests_per_second;
    let sweep = Duration::from_secs_f64(number as f64 / f64::from(rate));
    [
        ("Mint", Duration::ZERO, ""),
        ("Read", RELOAD, "one look at the file"),
        (
            "Promote",
            RELOAD.saturating_add(REQUEST),
            "one look at the file, the longest request",
        ),
        ("Sweep", sweep, "spec.sweep.maxRequestsPerSecond"),
        ("Prove", Duration::ZERO, ""),
        ("Drain", Duration::ZERO, ""),
        ("Retire", RELOAD, "one look at the file"),
        ("Archive", Duration::ZERO, ""),
    ]
}

fn main() {
    bench::block_on(run());
}

async fn run() {
    let number = bench::size("CLOISON_BENCH_SECRETS", 1_000);
    let scene = Scene::new("value").await;
    fill(&scene, number).await;
    scene.enable().await;
    scene.status("the first enable ends", ROTATED, idle).await;

    println!("One rotation: {number} Secrets of {SIZE} bytes, 2 API servers\n");
    scene.ask_for_another_key();
    let (began, mut took) = (Instant::now(), BTreeMap::<String, Duration>::new());
    let mut before = began;
    loop {
        let status = scene.read().await.unwrap_or_default();
        let now = Instant::now();
        let second = status["keys"].as_array().is_some_and(|keys| keys.len() == 2);
        let name = step(&status);
        if second && name == "Idle" && idle(&status) {
            break;
        }
        // Between the wish and the first order somebody has to look; that is part of the first step.
        let name = if name == "Idle" && took.keys().all(|step| step == "Mint") {
            "Mint".to_owned()
        } else {
            name
        };
        *took.entry(name).or_default() += now - before;
        before = now;
        assert!(began.elapsed() < ROTATED, "the rotation did not end: {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let whole = began.elapsed();
    println!("| step | seconds | given to wait | for |\n|---|---|---|---|");
    let mut given = Duration::ZERO;
    for (name, limit, what) in steps(number) {
        let seconds = took.remove(name).unwrap_or_default().as_secs_f64();
        println!("| {name} | {seconds:.1} | {:.0} | {what} |", limit.as_secs_f64());
        given += limit;
    }
    for (name, more) in took {
        println!("| {name} | {:.1} | | |", more.as_secs_f64());
    }
    let (whole, given) = (whole.as_secs_f64(), given.as_secs_f64());
    println!("| all | {whole:.1} | {given:.0} | |");
    println!("\n**ratio** to what is given to wait: **{:.1}**", whole / given);
    scene.controller.stop().await;
}

async fn fill(scene: &Scene, number: usize) {
    let secrets = common::objects(&scene.plane.admin().unwrap(), "v1", "Secret", Some(NAMESPACE));
    let secrets = &secrets;
    stream::iter(0..number)
        .for_each_concurrent(16, |n| async move {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{n}")},
                "stringData": {"value": "x".repeat(SIZE)}});
            let secret = serde_json::from_value(secret).unwrap();
            secrets.create(&PostParams::default(), &secret).await.unwrap();
        })
        .await;
}
