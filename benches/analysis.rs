//! The exact analysis at the size of a large cluster: all namespaces, and after one change. Numbers are printed, never
//! asserted.
//!
//! `CLOISON_BENCH_SIZES` names other numbers of namespaces than `100,300,1000`.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloison::api::AiWorkload;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::controller::{facts_of, workload_facts};
use cloison::network::reach::Isolation;
use cloison::network::verdict::Standing;
use cloison::network::world::World;
use cloison::network::{policies, verdict};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Workloads of a stage namespace. With the deny and the tenants' own there are ten policies in each.
const WORKLOADS: usize = 6;
const POLICIES: usize = 10;
/// How often each thing is done; the median is printed.
const TIMES: usize = 5;
/// Changes that are tried one by one.
const CHANGES: usize = 300;

fn main() {
    let sizes = std::env::var("CLOISON_BENCH_SIZES").unwrap_or_else(|_| "100,300,1000".to_owned());
    let sizes = sizes.split(',').map(|size| size.trim().parse().expect("a number"));
    println!("| namespaces | policies | rendering | all verdicts | one change: median | 99 % | resident |");
    println!("|---|---|---|---|---|---|---|");
    for size in sizes {
        row(size);
    }
}

fn row(size: usize) {
    let world = world(size);
    let (rendering, rendered) = median(|| policies::all(&world));
    let stored = with_tenants(&world, rendered);
    let (judging, analysis) = median(|| verdict::of(&world, &stored, &[]));
    let isolated = analysis.namespaces.values();
    let isolated = isolated.filter(|found| **found == Isolation::Isolated).count();
    assert_eq!(isolated, analysis.namespaces.len(), "the scene has no hole");
    let mut changes = follow(world, stored.clone());
    changes.sort();
    println!(
        "| {size} | {} | {rendering:.0?} | {judging:.0?} | {:.2?} | {:.2?} | {} MiB |",
        stored.len(),
        changes[CHANGES / 2],
        changes[CHANGES * 99 / 100],
        resident()
    );
}

fn median<T>(mut what: impl FnMut() -> T) -> (Duration, T) {
    let mut times = Vec::new();
    let mut result = what();
    for _ in 0..TIMES {
        let start = Instant::now();
        result = black_box(what());
        times.push(start.elapsed());
    }
    times.sort();
    (times[TIMES / 2], result)
}

/// Tenants' policies change one by one, and the verdicts follow.
fn follow(world: World, mut stored: Vec<NetworkPolicy>) -> Vec<Duration> {
    let mut standing = Standing::new(world, &stored, Vec::new());
    let own: Vec<usize> = (0..stored.len()).filter(|index| is_own(&stored[*index])).collect();
    let change = |number: usize| {
        let policy = &mut stored[own[number * 7919 % own.len()]];
        if let Some(spec) = &mut policy.spec {
            spec.pod_selector = Some(typed(json!({"matchLabels": {"app": format!("changed-{number}")}})));
        }
        let touched = policy.metadata.namespace.clone().into_iter().collect();
        let start = Instant::now();
        standing.follow(&stored, &touched);
        start.elapsed()
    };
    (0..CHANGES).map(change).collect()
}

fn is_own(policy: &NetworkPolicy) -> bool {
    policy
        .metadata
        .name
        .as_ref()
        .is_some_and(|name| name.starts_with("own-"))
}

/// Of ten namespaces one is shared, one evaluates, four train and four serve.
fn world(namespaces: usize) -> World {
    let policy: AiSecurityPolicySpec = typed(json!({
        "mode": "Enforce",
        "network": {
            "clusterCIDRs": ["10.0.0.0/8"],
            "services": [{"name": "store", "to": {"namespace": "shared-0", "podLabels": {"app": "minio"}}, "ports": [{"port": 9000}]}],
        },
    }));
    let mut world = World {
        policy: Arc::new(policy.clone()),
        ..World::default()
    };
    for index in 0..namespaces {
        let stage = [
            "shared",
            "evaluation",
            "training",
            "training",
            "training",
            "training",
            "inference",
        ][(index % 10).min(6)];
        let name = format!("{stage}-{index}");
        let namespace: Namespace = typed(json!({
            "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/metadata.name": name, "cloison.dev/stage": stage, "cloison.dev/mode": "enforce"}},
        }));
        let facts = facts_of(&namespace, &policy);
        world.namespaces.insert(facts.name.clone(), facts);
        let stage = match stage {
            "training" => "Training",
            "evaluation" => "Evaluation",
            "inference" => "Inference",
            _ => continue,
        };
        for number in 0..WORKLOADS {
            let (next, before) = ((number + 1) % WORKLOADS, (number + WORKLOADS - 1) % WORKLOADS);
            let peer = |number: usize| json!({"workload": {"name": format!("w{number}")}, "ports": [{"port": 7000}]});
            let workload: AiWorkload = typed(json!({
                "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload",
                "metadata": {"name": format!("w{number}"), "namespace": name},
                "spec": {"stage": stage, "owner": "team@ville.example", "purpose": "To be measured",
                         "network": {"connectTo": [{"service": "store"}, peer(next)], "acceptFrom": [peer(before)]}},
            }));
            let facts = workload_facts(&workload).expect("a workload");
            world.workloads.insert(facts.key.clone(), facts);
        }
    }
    world
}

/// What tenants write beside, within their namespaces.
fn with_tenants(world: &World, rendered: Vec<NetworkPolicy>) -> Vec<NetworkPolicy> {
    let mut all = rendered;
    for namespace in world.namespaces.keys() {
        let there = all
            .iter()
            .filter(|policy| policy.metadata.namespace.as_ref() == Some(namespace));
        for number in there.count()..POLICIES {
            all.push(typed(json!({
                "metadata": {"name": format!("own-{number}"), "namespace": namespace},
                "spec": {"podSelector": {"matchLabels": {"app": format!("a{number}")}}, "policyTypes": ["Ingress"],
                         "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8000 + number}]}]},
            })));
        }
    }
    all
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

/// In MiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or_default() / 1024
}
