//! What is rendered is what was declared, no more and no less: random worlds, their policies, every pair of pods.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::declared::{declared, staged};
use super::worlds::{PROBES, STAGES, worlds};
use crate::api::names;
use crate::api::workload::FlowState;
use crate::network::flows::{self, Peer};
use crate::network::policies;
use crate::network::ports::PortSet;
use crate::network::reach::concrete::{Blocks, Connectivity, Endpoint, Pod as Running, Snapshot};
use crate::network::reach::{Isolation, analyse};
use crate::network::testkit::{End, Pod, packets};
use crate::network::world::World;

/// Everything that may try to talk: a pod of each workload, pods of none, pods elsewhere, addresses.
fn ends(world: &World) -> Vec<End> {
    let mut ends = Vec::new();
    for (namespace, _) in STAGES {
        for label in ["", "a", "b", "stranger"] {
            let text = if label.is_empty() {
                String::new()
            } else {
                format!("{}={label}", names::WORKLOAD_LABEL)
            };
            ends.push(End::pod(namespace, &text));
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
        ends.push(End::pod(namespace, text));
    }
    let addresses = [
        "203.0.113.9",
        "198.51.100.9",
        "8.8.8.8",
        "192.168.7.2",
        "10.96.0.1",
        "10.96.0.10",
    ];
    ends.extend(addresses.map(End::address));
    assert!(world.namespaces.contains_key("s1"));
    ends
}

/// The pods of the ends, running, under policies. Each is named by its number.
fn running(world: &World, ends: &[End], policies: &[NetworkPolicy]) -> Snapshot {
    let pods = ends.iter().enumerate().filter_map(|(at, end)| match end {
        End::Address(_) => None,
        End::Pod(pod) => Some(Running {
            namespace: pod.namespace.clone(),
            owner: ("Pod".to_owned(), at.to_string()),
            labels: pod.labels.clone(),
            addresses: pod.addresses.iter().copied().collect(),
            ..Running::default()
        }),
    });
    let namespaces = world.namespaces.iter();
    Snapshot {
        namespaces: namespaces
            .map(|(name, found)| (name.clone(), found.labels.clone()))
            .collect(),
        pods: pods.collect(),
        policies: policies.to_vec(),
        cluster_policies: Vec::new(),
    }
}

/// What the analysis of them allows, by the numbers of the ends.
fn between(snapshot: &Snapshot, blocks: Blocks, ends: &[End]) -> BTreeMap<(usize, usize), PortSet> {
    let numbers = |endpoint: &Endpoint| match endpoint {
        Endpoint::Workload { name, .. } => vec![name.parse().unwrap()],
        Endpoint::Addresses(range) => {
            let is = |end: &End| matches!(end, End::Address(address) if (range.first..=range.last).contains(address));
            (0..ends.len()).filter(|at| is(&ends[*at])).collect()
        }
    };
    let mut between = BTreeMap::new();
    for ((from, to), ports) in Connectivity::read(snapshot, blocks).unwrap().connections() {
        for from in numbers(&from) {
            between.extend(numbers(&to).into_iter().map(|to| ((from, to), ports.clone())));
        }
    }
    between
}

fn holds(ports: Option<&PortSet>, (protocol, port): (&str, u16)) -> bool {
    let mut intervals = ports.into_iter().flat_map(PortSet::intervals);
    intervals.any(|open| open.protocol.as_str() == protocol && (open.first..=open.last).contains(&port))
}

/// A packet that an opening stands for, at its other end.
fn example(end: &Peer) -> End {
    match end {
        Peer::Workload(key) if key.name == names::DEFAULT_WORKLOAD => End::pod(&key.namespace, ""),
        Peer::Workload(key) => End::pod(&key.namespace, &format!("{}={}", names::WORKLOAD_LABEL, key.name)),
        Peer::Pods { namespace, labels } => End::Pod(Pod {
            namespace: namespace.clone(),
            labels: labels.clone(),
            ..Pod::default()
        }),
        Peer::Network { cidr, .. } => End::Address(cidr.addr()),
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

        // Both meanings of `ipBlock`: what is rendered never depends on the CNI.
        let mut packets = packets(&world, &all);
        let ends = ends(&world);
        let snapshot = running(&world, &ends, &all);
        for blocks in [Blocks::External, Blocks::Pods] {
            packets.blocks_match_pods = blocks == Blocks::Pods;
            let analysed = between(&snapshot, blocks, &ends);
            for (from, source) in ends.iter().enumerate() {
                for (to, target) in ends.iter().enumerate().filter(|(to, _)| *to != from) {
                    if !staged(&world, source) && !staged(&world, target) {
                        continue;
                    }
                    for probe in PROBES {
                        let wanted = declared(&world, source, target, probe);
                        let passes = packets.pass(source, target, probe.0, probe.1);
                        prop_assert_eq!(passes, wanted, "{:?} -> {:?} {:?}", source, target, probe);
                        let found = holds(analysed.get(&(from, to)), probe);
                        prop_assert_eq!(found, wanted, "analysed: {:?} -> {:?} {:?}", source, target, probe);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_called_open_works_from_end_to_end(world in worlds()) {
        let all = policies::all(&world);
        let packets = packets(&world, &all);
        for workload in world.workloads.values() {
            let flows = flows::resolve(&world, workload);
            let resolver = flows::Resolver::new(&world);
            prop_assert_eq!(resolver.openings(workload), [flows.egress.clone(), flows.ingress.clone()]);
            let own = example(&Peer::Workload(workload.key.clone()));
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
