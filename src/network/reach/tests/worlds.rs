//! Random worlds: workloads that ask, accept and agree, with a catalogue that has every kind of entry.

use proptest::prelude::*;

use crate::api::stage::NamespaceStage::{self, Evaluation, Inference, Shared, Training};
use crate::api::workload::Runtime;
use crate::network::testkit::world;
use crate::network::world::World;

pub(super) const STAGES: [(&str, NamespaceStage); 5] = [
    ("t1", Training),
    ("t2", Training),
    ("e1", Evaluation),
    ("i1", Inference),
    ("i2", Inference),
];

const CATALOGUE: &str = "
services:
- {name: mlflow, to: {namespace: s1, podLabels: {app: mlflow}}, ports: [{port: 5000}]}
- {name: shared-all, to: {namespace: s1}, ports: [{port: 7}], stages: [Training, Evaluation]}
- {name: store, to: {namespace: store, podLabels: {app: minio}}, ports: [{port: 9000}]}
- {name: outside, to: {cidrs: [203.0.113.0/24]}, ports: [{port: 443}]}
- {name: otlp, to: {namespace: s1, podLabels: {app: otel}}, ports: [{port: 4317, endPort: 4318}], automatic: true, stages: [Inference]}
- {name: names, to: {fqdns: [example.com]}, ports: [{port: 443}]}
- {name: inside, to: {namespace: t1}, ports: [{port: 7}]}
sources:
- {name: edge, kind: Gateway, from: {namespace: gw, podLabels: {app: envoy}}}
- {name: prom, kind: Scraper, from: {namespace: mon}, automatic: true}
- {name: ray, kind: Controller, from: {namespace: s1, podLabels: {app: kuberay}}}
- {name: office, kind: Gateway, from: {cidrs: [198.51.100.0/24]}, ports: [{port: 8000}], stages: [Inference]}
- {name: nodes, kind: Scraper, from: {nodes: {}}, ports: [{port: 9100}]}";

/// What is tried between two ends.
pub(super) const PROBES: [(&str, u16); 12] = [
    ("TCP", 7),
    ("UDP", 7),
    ("UDP", 53),
    ("TCP", 443),
    ("TCP", 4318),
    ("TCP", 5000),
    ("TCP", 6443),
    ("TCP", 8000),
    ("TCP", 8080),
    ("TCP", 8888),
    ("TCP", 9000),
    ("TCP", 9100),
];

fn ports() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "",
        ", ports: [{port: 7}]",
        ", ports: [{port: 7}, {port: 8000}]",
        ", ports: [{port: 5000, endPort: 9000}]",
        ", ports: [{port: 7, protocol: UDP}]",
    ])
}

fn entry() -> impl Strategy<Value = (String, String)> {
    let other = || {
        let namespace = proptest::sample::select(vec!["t1", "t1", "t2", "i1", "i1", "i2", "e1", "s1", "store", "gone"]);
        let name = proptest::sample::select(vec!["default", "a", "a", "b", "c"]);
        (namespace, name).prop_map(|(namespace, name)| format!("workload: {{name: {name}, namespace: {namespace}}}"))
    };
    let services = vec![
        "mlflow",
        "shared-all",
        "store",
        "outside",
        "otlp",
        "names",
        "inside",
        "kubernetes-api",
        "mlfow",
    ];
    let service = proptest::sample::select(services).prop_map(|name| format!("service: {name}"));
    let source = proptest::sample::select(vec!["edge", "prom", "ray", "office", "nodes", "edgy"]);
    let networks = || {
        let networks = vec![
            "203.0.113.0/24",
            "198.51.100.0/25",
            "10.244.0.0/24",
            "0.0.0.0/0",
            "11.0.0.0/8",
        ];
        proptest::sample::select(networks).prop_map(|cidr| format!("cidr: {cidr}"))
    };
    let to = prop_oneof![
        3 => service,
        5 => (other(), ports()).prop_map(|(other, ports)| other + ports),
        1 => networks().prop_map(|cidr| cidr + ", ports: [{port: 443}]"),
    ];
    let from = prop_oneof![
        3 => (source, ports()).prop_map(|(name, ports)| format!("source: {name}{ports}")),
        5 => (other(), ports()).prop_map(|(other, ports)| other + ports),
        1 => (networks(), ports()).prop_map(|(cidr, ports)| cidr + ports),
    ];
    (to, from)
}

/// Namespace, name, runtime, what it connects to and accepts, its metrics ports.
type Written = (&'static str, &'static str, Runtime, Vec<(String, String)>, &'static str);

pub(super) fn worlds() -> impl Strategy<Value = World> {
    use Runtime::{Generic, KServe, Notebook, PyTorch, Ray, Triton, VLLM};
    let runtime = proptest::sample::select(vec![Generic, PyTorch, Ray, KServe, VLLM, Triton, Notebook]);
    let place = (0..STAGES.len(), proptest::sample::select(vec!["default", "a", "b"]));
    let metrics = proptest::sample::select(vec!["", "metricsPorts: [9100]\n", "metricsPorts: []\n"]);
    let workload = (place, runtime, proptest::collection::vec(entry(), 0..5), metrics);
    let workloads = proptest::collection::vec(workload, 2..11);
    // Two that mean each other: left to chance, they hardly ever meet.
    let agreement = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        ports(),
        ports(),
    );
    (workloads, proptest::collection::vec(agreement, 0..8)).prop_map(|(workloads, agreements)| {
        let mut world = world();
        for (name, stage) in STAGES {
            world.stage(name, stage);
        }
        world
            .stage("s1", Shared)
            .plain("store", "")
            .plain("gw", "")
            .plain("mon", "")
            .policy(CATALOGUE);
        let mut written: Vec<Written> = workloads
            .into_iter()
            .map(|((place, name), runtime, entries, metrics)| (STAGES[place].0, name, runtime, entries, metrics))
            .collect();
        for (from, to, asks, accepts) in agreements {
            let (from, to) = (from.index(written.len()), to.index(written.len()));
            let reference = |at: usize| format!("workload: {{name: {}, namespace: {}}}", written[at].1, written[at].0);
            let (asked, accepted) = (reference(to) + asks, reference(from) + accepts);
            written[from].3.push((asked, "source: edge".to_owned()));
            written[to].3.push(("service: mlflow".to_owned(), accepted));
        }
        for (namespace, name, runtime, entries, metrics) in written {
            let list = |side: fn(&(String, String)) -> &String| {
                let entries: Vec<String> = entries.iter().map(|entry| format!("{{{}}}", side(entry))).collect();
                entries.join(", ")
            };
            let (to, from) = (list(|entry| &entry.0), list(|entry| &entry.1));
            let network = format!("{metrics}connectTo: [{to}]\nacceptFrom: [{from}]\n");
            world.workload(namespace, name, runtime, &network);
        }
        world
    })
}
