//! What is rendered is what was declared, no more and no less: random worlds, their policies, every pair of pods.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::api::names;
use crate::api::network::{CatalogueService, Port, Source, SourceKind, WorkloadRef};
use crate::api::stage::NamespaceStage::{self, Evaluation, Inference, Shared, Training};
use crate::api::workload::{FlowState, Runtime};
use crate::network::flows::{self, Peer as End};
use crate::network::policies;
use crate::network::presets::preset;
use crate::network::reach::{Isolation, analyse};
use crate::network::testkit::{Labels, Packets, Peer, world};
use crate::network::world::{Workload, WorkloadKey, World};

const STAGES: [(&str, NamespaceStage); 5] = [
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
const PROBES: [(&str, u16); 12] = [
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

fn worlds() -> impl Strategy<Value = World> {
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

/// Everything that may try to talk: a pod of each workload, pods of none, pods elsewhere, addresses.
fn ends(world: &World) -> Vec<Peer> {
    let mut ends = Vec::new();
    for (namespace, _) in STAGES {
        for label in ["", "a", "b", "stranger"] {
            let text = if label.is_empty() {
                String::new()
            } else {
                format!("{}={label}", names::WORKLOAD_LABEL)
            };
            ends.push(Peer::pod(namespace, &text));
        }
    }
    for (namespace, text) in [
        ("s1", "app=mlflow"),
        ("s1", "app=otel"),
        ("s1", "app=kuberay"),
        ("store", "app=minio"),
        ("store", ""),
        ("gw", "app=envoy"),
        ("gw", ""),
        ("mon", ""),
        ("kube-system", "k8s-app=kube-dns"),
        ("kube-system", ""),
    ] {
        ends.push(Peer::pod(namespace, text));
    }
    let addresses = [
        "203.0.113.9",
        "198.51.100.9",
        "8.8.8.8",
        "192.168.7.2",
        "10.96.0.1",
        "10.96.0.10",
    ];
    ends.extend(addresses.map(Peer::address));
    assert!(world.namespaces.contains_key("s1"));
    ends
}

/// What the declarations say, read plainly: one connection, yes or no.
fn declared(world: &World, from: &Peer, to: &Peer, probe: (&str, u16)) -> bool {
    let (client, server) = (member(world, from), member(world, to));
    if let (Some(client), Some(server)) = (client, server) {
        return client.key == server.key || between(client, server, probe);
    }
    if staged(world, from) && staged(world, to) {
        return false;
    }
    match (client, server) {
        (Some(client), None) => {
            let services = world.services().iter().filter(|entry| uses(client, entry));
            dns(to, probe)
                || api(client, to, probe)
                || outside(client, to, probe)
                || services
                    .into_iter()
                    .any(|entry| listed(&entry.ports, probe) && is_service(entry, to))
        }
        (None, Some(server)) => {
            let sources = world.sources().iter().filter(|entry| takes(server, entry));
            comes_in(server, from, probe)
                || sources
                    .into_iter()
                    .any(|entry| is_source(entry, from) && source_ports(server, entry, probe))
        }
        _ => false,
    }
}

fn staged(world: &World, end: &Peer) -> bool {
    let Peer::Pod { namespace, .. } = end else { return false };
    world
        .stage_of(namespace)
        .and_then(NamespaceStage::workload_stage)
        .is_some()
}

fn member<'w>(world: &'w World, end: &Peer) -> Option<&'w Workload> {
    let Peer::Pod { namespace, labels } = end else {
        return None;
    };
    let name = labels
        .get(names::WORKLOAD_LABEL)
        .map_or(names::DEFAULT_WORKLOAD, String::as_str);
    world.workloads.get(&WorkloadKey::new(namespace, name))
}

fn listed(ports: &[Port], (protocol, port): (&str, u16)) -> bool {
    ports.iter().any(|written| {
        written.protocol.unwrap_or_default().as_str() == protocol
            && (written.port..=written.end_port.unwrap_or(written.port)).contains(&i32::from(port))
    })
}

fn serving(server: &Workload) -> &'static [u16] {
    preset(server.runtime).serving
}

fn between(client: &Workload, server: &Workload, probe: (&str, u16)) -> bool {
    if client.stage != server.stage {
        return false;
    }
    let means = |at: &Workload, other: &Workload, reference: &Option<WorkloadRef>| {
        reference.as_ref().is_some_and(|reference| {
            let namespace = reference.namespace.as_deref().unwrap_or(&at.key.namespace);
            (namespace, &*reference.name) == (other.key.namespace.as_str(), other.key.name.as_str())
        })
    };
    let (to, from) = (client.network.clone().unwrap(), server.network.clone().unwrap());
    let to: Vec<_> = to
        .connect_to
        .into_iter()
        .flatten()
        .filter(|entry| means(client, server, &entry.workload))
        .collect();
    let from: Vec<_> = from
        .accept_from
        .into_iter()
        .flatten()
        .filter(|entry| means(server, client, &entry.workload))
        .collect();
    let nobody_names_a_port = to.iter().any(|entry| entry.ports.is_none())
        && from.iter().any(|entry| entry.ports.is_none())
        && serving(server).is_empty();
    let asked = to
        .iter()
        .any(|entry| entry.ports.as_ref().is_none_or(|ports| listed(ports, probe)));
    let accepted = from.iter().any(|entry| match &entry.ports {
        Some(ports) => listed(ports, probe),
        None if serving(server).is_empty() => true,
        None => probe.0 == "TCP" && serving(server).contains(&probe.1),
    });
    asked && accepted && !nobody_names_a_port
}

fn uses(client: &Workload, entry: &CatalogueService) -> bool {
    let network = client.network.clone().unwrap();
    let mut written = network
        .connect_to
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.service);
    let for_us = entry
        .stages
        .as_ref()
        .is_none_or(|stages| stages.contains(&client.stage));
    for_us && (entry.automatic == Some(true) || written.any(|name| name == entry.name))
}

fn is_service(entry: &CatalogueService, end: &Peer) -> bool {
    match end {
        Peer::Pod { namespace, labels } => {
            entry.to.namespace.as_deref() == Some(namespace) && has(labels, entry.to.pod_labels.as_ref())
        }
        Peer::Address(address) => within(entry.to.cidrs.as_deref(), address),
    }
}

fn is_source(entry: &Source, end: &Peer) -> bool {
    match end {
        Peer::Pod { namespace, labels } => {
            entry.from.namespace.as_deref() == Some(namespace) && has(labels, entry.from.pod_labels.as_ref())
        }
        Peer::Address(address) => within(entry.from.cidrs.as_deref(), address),
    }
}

fn has(labels: &Labels, wanted: Option<&crate::api::network::PodLabels>) -> bool {
    let mut wanted = wanted.into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key).is_some_and(|found| **found == **value))
}

fn within(cidrs: Option<&[crate::api::text::Cidr]>, address: &std::net::IpAddr) -> bool {
    let mut networks = cidrs
        .unwrap_or_default()
        .iter()
        .filter_map(crate::api::text::Cidr::network);
    networks.any(|network| network.contains(address))
}

fn dns(to: &Peer, (_, port): (&str, u16)) -> bool {
    port == 53 && (*to == Peer::pod("kube-system", "k8s-app=kube-dns") || *to == Peer::address("10.96.0.10"))
}

fn api(client: &Workload, to: &Peer, probe: (&str, u16)) -> bool {
    let network = client.network.clone().unwrap();
    let mut written = network
        .connect_to
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.service);
    let there = (*to == Peer::address("192.168.7.2") && probe == ("TCP", 6443))
        || (*to == Peer::address("10.96.0.1") && probe == ("TCP", 443));
    there && written.any(|name| &*name == "kubernetes-api")
}

/// Of the networks that are written here, these two may be.
const FINE: [&str; 2] = ["203.0.113.0/24", "198.51.100.0/25"];

fn outside(client: &Workload, to: &Peer, probe: (&str, u16)) -> bool {
    let Peer::Address(address) = to else { return false };
    let network = client.network.clone().unwrap();
    let mut entries = network.connect_to.into_iter().flatten();
    entries.any(|entry| {
        let cidr = entry.cidr.filter(|cidr| FINE.contains(&cidr.0.as_str()));
        cidr.is_some_and(|cidr| within(Some(&[cidr]), address)) && listed(&entry.ports.unwrap_or_default(), probe)
    })
}

fn comes_in(server: &Workload, from: &Peer, probe: (&str, u16)) -> bool {
    let Peer::Address(address) = from else { return false };
    let entries: Vec<_> = server
        .network
        .clone()
        .unwrap()
        .accept_from
        .into_iter()
        .flatten()
        .collect();
    entries.iter().any(|entry| {
        let Some(cidr) = entry.cidr.clone().filter(|cidr| FINE.contains(&cidr.0.as_str())) else {
            return false;
        };
        // One entry without ports: the runtime's, for the whole flow.
        let mut same = entries.iter().filter(|other| other.cidr == entry.cidr);
        let ports = if same.any(|other| other.ports.is_none()) {
            probe.0 == "TCP" && serving(server).contains(&probe.1)
        } else {
            listed(entry.ports.as_deref().unwrap_or_default(), probe)
        };
        within(Some(&[cidr]), address) && ports
    })
}

fn takes(server: &Workload, entry: &Source) -> bool {
    let network = server.network.clone().unwrap();
    let mut written = network
        .accept_from
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.source);
    let for_us = entry
        .stages
        .as_ref()
        .is_none_or(|stages| stages.contains(&server.stage));
    for_us && (entry.automatic == Some(true) || written.any(|name| name == entry.name))
}

fn source_ports(server: &Workload, source: &Source, probe: (&str, u16)) -> bool {
    let network = server.network.clone().unwrap();
    let entries: Vec<_> = network
        .accept_from
        .into_iter()
        .flatten()
        .filter(|e| e.source.as_ref() == Some(&source.name))
        .collect();
    let limit = source.ports.as_ref().is_none_or(|ports| listed(ports, probe));
    let known = preset(server.runtime);
    let default = match source.kind {
        SourceKind::Gateway => known.serving,
        SourceKind::Scraper => known.metrics,
        SourceKind::Controller => known.controller,
    };
    let of_kind = match (&network.metrics_ports, source.kind) {
        (Some(ports), SourceKind::Scraper) => limit && ports.contains(&i32::from(probe.1)) && probe.0 == "TCP",
        _ if source.ports.is_some() => limit,
        _ => probe.0 == "TCP" && default.contains(&probe.1),
    };
    if !entries.is_empty() && entries.iter().all(|entry| entry.ports.is_some()) {
        return limit
            && entries
                .iter()
                .any(|entry| listed(entry.ports.as_deref().unwrap_or_default(), probe));
    }
    of_kind
}

/// A packet that an opening stands for, at its other end.
fn example(end: &End) -> Peer {
    match end {
        End::Workload(key) if key.name == names::DEFAULT_WORKLOAD => Peer::pod(&key.namespace, ""),
        End::Workload(key) => Peer::pod(&key.namespace, &format!("{}={}", names::WORKLOAD_LABEL, key.name)),
        End::Pods { namespace, labels } => Peer::Pod {
            namespace: namespace.clone(),
            labels: labels.clone(),
        },
        End::Network { cidr, .. } => Peer::Address(cidr.addr()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 2, ..ProptestConfig::default() })]

    #[test]
    fn what_is_rendered_is_what_was_declared(world in worlds()) {
        let all = policies::all(&world);
        let analysis = analyse(&world, &all, &[]);
        for (namespace, verdict) in &analysis.namespaces {
            prop_assert_eq!(verdict, &Isolation::Isolated, "{}", namespace);
        }
        prop_assert!(analysis.findings.is_empty());

        let packets = Packets::new(&world, &all);
        let ends = ends(&world);
        for from in &ends {
            for to in ends.iter().filter(|to| *to != from && (staged(&world, from) || staged(&world, to))) {
                for probe in PROBES {
                    let passes = packets.pass(from, to, probe.0, probe.1);
                    prop_assert_eq!(passes, declared(&world, from, to, probe), "{:?} -> {:?} {:?}", from, to, probe);
                }
            }
        }
    }

    #[test]
    fn what_is_called_open_works_from_end_to_end(world in worlds()) {
        let all = policies::all(&world);
        let packets = Packets::new(&world, &all);
        for workload in world.workloads.values() {
            let flows = flows::resolve(&world, workload);
            let resolver = flows::Resolver::new(&world);
            prop_assert_eq!(resolver.openings(workload), [flows.egress.clone(), flows.ingress.clone()]);
            let own = example(&End::Workload(workload.key.clone()));
            let egress = flows.egress.iter().map(|opening| (opening, true));
            let ingress = flows.ingress.iter().map(|opening| (opening, false));
            for (opening, out) in egress.chain(ingress) {
                let mut states = flows.statuses.iter().filter(|status| status.name == opening.name);
                prop_assert!(states.any(|status| status.state == FlowState::Open));
                for other in opening.peers.iter().map(example) {
                    let (from, to) = if out { (&own, &other) } else { (&other, &own) };
                    for ports in opening.ports.intervals() {
                        for port in [ports.first, ports.last] {
                            prop_assert!(
                                packets.pass(from, to, ports.protocol.as_str(), port),
                                "{} {}: {:?} -> {:?}", workload.key, opening.name, from, to
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_of_everything_changes_nothing(world in worlds()) {
        let mut turned = world.clone();
        for workload in turned.workloads.values_mut() {
            let network = workload.network.as_mut().unwrap();
            network.connect_to.as_mut().unwrap().reverse();
            network.accept_from.as_mut().unwrap().reverse();
        }
        let mut all = policies::all(&world);
        prop_assert_eq!(&policies::all(&turned), &all);
        for namespace in world.namespaces.keys() {
            let here: Vec<_> = all.iter().filter(|policy| policy.metadata.namespace.as_ref() == Some(namespace)).cloned().collect();
            prop_assert_eq!(policies::namespace(&world, namespace), here);
        }
        let verdict = analyse(&world, &all, &[]);
        all.reverse();
        prop_assert_eq!(analyse(&world, &all, &[]), verdict);
    }
}

#[test]
fn the_worlds_hold_every_kind_of_flow_in_every_state() {
    use FlowState::{AwaitingPeer, Open, Refused, Unresolved};

    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen: BTreeMap<(String, FlowState), usize> = BTreeMap::new();
    for _ in 0..100 {
        let world = worlds().new_tree(&mut runner).unwrap().current();
        for workload in world.workloads.values() {
            for status in flows::resolve(&world, workload).statuses {
                let kind = status.name.split(' ').next().unwrap_or_default();
                let direction = format!("{:?} {kind}", status.direction);
                *seen.entry((direction, status.state)).or_default() += 1;
            }
        }
    }
    for (kind, states) in [
        ("Egress service", [Open, Refused, Unresolved].as_slice()),
        ("Egress workload", &[Open, AwaitingPeer, Refused, Unresolved]),
        ("Egress cidr", &[Open, Refused]),
        ("Ingress source", &[Open, Refused, Unresolved]),
        ("Ingress workload", &[Open, AwaitingPeer, Refused, Unresolved]),
        ("Ingress cidr", &[Open, Refused]),
    ] {
        for state in states {
            let count = seen.get(&(kind.to_owned(), *state)).copied().unwrap_or_default();
            assert!(count >= 20, "{kind} {state:?}: {count} in {seen:?}");
        }
    }
}
