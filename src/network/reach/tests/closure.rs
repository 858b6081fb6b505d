//! What is rendered is what was declared, no more and no less: random worlds, their policies, every pair of pods.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::declared::{declared, staged};
use super::worlds::{PROBES, STAGES, worlds};
use crate::api::names;
use crate::api::workload::FlowState;
use crate::network::flows::{self, Peer as End};
use crate::network::policies;
use crate::network::reach::{Isolation, analyse};
use crate::network::testkit::{Packets, Peer};
use crate::network::world::World;

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
