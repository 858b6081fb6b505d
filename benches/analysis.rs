//! The exact analysis at the size of a large cluster: all namespaces, after one change, before one change (what the guard
//! says), and the connections of fifty pods in each namespace. Numbers are printed, never asserted.
//!
//! `CLOISON_BENCH_SIZES` names other numbers of namespaces than `100,300,1000`.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloison::api::AiWorkload;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::controller::{facts_of, workload_facts};
use cloison::network::reach::Isolation;
use cloison::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot};
use cloison::network::reach::guard::{Change, Set, would_open};
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
/// Pods of a namespace.
const PODS: usize = 50;
/// How often each thing is done; the median is printed.
const TIMES: usize = 5;
/// Changes that are tried one by one.
const CHANGES: usize = 300;

fn main() {
    let sizes = std::env::var("CLOISON_BENCH_SIZES").unwrap_or_else(|_| "100,300,1000".to_owned());
    let sizes = sizes.split(',').map(|size| size.trim().parse().expect("a number"));
    let sizes: Vec<usize> = sizes.collect();
    println!("| namespaces | policies | rendering | all verdicts | one change: median | 99 % | resident |");
    println!("|---|---|---|---|---|---|---|");
    for size in &sizes {
        row(*size);
    }
    println!(
        "\n| namespaces | policies | what a change would open: median | 99 % | of everywhere: median | of a label: median |"
    );
    println!("|---|---|---|---|---|---|");
    for size in &sizes {
        opening(*size);
    }
    println!("\n| pods | policies | ipBlock means | reading | connections | pairs of ends | resident |");
    println!("|---|---|---|---|---|---|---|");
    for size in &sizes {
        connections(*size);
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

/// What single changes would open, asked before they are made.
fn opening(size: usize) {
    let world = world(size);
    let stored = with_tenants(&world, policies::all(&world));
    let set = Set {
        world: &world,
        policies: &stored,
        unmodelled: &[],
    };
    let own: Vec<&NetworkPolicy> = stored.iter().filter(|policy| is_own(policy)).collect();
    let ask = |change: Change<'_>| {
        let start = Instant::now();
        black_box(would_open(set, change));
        start.elapsed()
    };
    let sorted = |mut times: Vec<Duration>| {
        times.sort();
        times
    };
    let picked = |number: usize| own[number * 7919 % own.len()];
    let usual = |number: usize| {
        let mut policy = picked(number).clone();
        if number.is_multiple_of(3) {
            let (namespace, name) = (policy.metadata.namespace.as_deref(), policy.metadata.name.as_deref());
            return ask(Change::Delete {
                namespace: namespace.expect("a namespace"),
                name: name.expect("a name"),
            });
        }
        if let Some(spec) = &mut policy.spec {
            spec.pod_selector = Some(typed(json!({"matchLabels": {"app": format!("changed-{number}")}})));
        }
        ask(Change::Apply(&policy))
    };
    let usual = sorted((0..CHANGES).map(usual).collect());
    let everywhere = |number: usize| {
        let mut policy = picked(number).clone();
        policy.spec = Some(typed(
            json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}),
        ));
        ask(Change::Apply(&policy))
    };
    let everywhere = sorted((0..CHANGES / 10).map(everywhere).collect());
    let label = |number: usize| {
        let namespace = picked(number).metadata.namespace.as_deref().expect("a namespace");
        let mut labels = world.namespaces[namespace].labels.clone();
        labels.insert("team".to_owned(), format!("t{number}"));
        ask(Change::Label {
            namespace,
            labels: &labels,
        })
    };
    let label = sorted((0..CHANGES / 10).map(label).collect());
    println!(
        "| {size} | {} | {:.2?} | {:.2?} | {:.2?} | {:.2?} |",
        stored.len(),
        usual[CHANGES / 2],
        usual[CHANGES * 99 / 100],
        everywhere[everywhere.len() / 2],
        label[label.len() / 2],
    );
}

/// All connections of the pods, in either meaning of an `ipBlock`.
fn connections(size: usize) {
    let world = world(size);
    let namespaces = world.namespaces.iter();
    let snapshot = Snapshot {
        namespaces: namespaces
            .map(|(name, found)| (name.clone(), found.labels.clone()))
            .collect(),
        pods: pods(&world),
        policies: with_tenants(&world, policies::all(&world)),
        cluster_policies: Vec::new(),
    };
    for blocks in [Blocks::External, Blocks::Pods] {
        let (reading, read) = median(|| Connectivity::read(&snapshot, blocks).expect("policies that can be read"));
        let (judging, found) = median(|| read.connections());
        println!(
            "| {} | {} | {blocks:?} | {reading:.0?} | {judging:.0?} | {} | {} MiB |",
            snapshot.pods.len(),
            snapshot.policies.len(),
            found.len(),
            resident()
        );
    }
}

/// Of each workload some replicas, and some pods of nobody's; each with an address and a label of its own.
fn pods(world: &World) -> Vec<Pod> {
    let mut pods = Vec::new();
    for (place, namespace) in world.namespaces.keys().enumerate() {
        for number in 0..PODS {
            let workload = number % (WORKLOADS + 1);
            let (owner, labels) = if namespace.starts_with("shared") {
                ("minio".to_owned(), json!({"app": "minio"}))
            } else if workload < WORKLOADS {
                (
                    format!("w{workload}"),
                    json!({"cloison.dev/workload": format!("w{workload}"), "app": "model"}),
                )
            } else {
                ("web".to_owned(), json!({"app": "web"}))
            };
            let mut labels: BTreeMap<String, String> = typed(labels);
            labels.insert(
                "statefulset.kubernetes.io/pod-name".to_owned(),
                format!("{owner}-{number}"),
            );
            let address = u32::try_from(place * 256 + number).expect("few pods");
            pods.push(Pod {
                namespace: namespace.clone(),
                owner: ("StatefulSet".to_owned(), owner),
                labels,
                addresses: [IpAddr::from(Ipv4Addr::from((10 << 24) + address))].into(),
                ..Pod::default()
            });
        }
    }
    pods
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
