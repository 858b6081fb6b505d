//! The concrete mode against a second opinion: every ordered pair of pods, some addresses, port by port, under random
//! policies.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::brute::{PLACES, Selecting, cases, cluster, writeln};
use super::selectors::universe;
use crate::api::names;
use crate::api::network::Protocol;
use crate::network::reach::concrete::{AddressRange, Blocks, Connectivity, Endpoint, Pod, Snapshot};
use crate::network::reach::explain::Asked;
use crate::network::testkit::{Labels, Packets, packets, policy};

const PROBES: [(Protocol, u16); 7] = [
    // Some pods call UDP 53 what rules of TCP name.
    (Protocol::TCP, 53),
    (Protocol::TCP, 80),
    (Protocol::TCP, 85),
    (Protocol::TCP, 8080),
    (Protocol::TCP, 9999),
    (Protocol::UDP, 53),
    (Protocol::SCTP, 80),
];
const OUTSIDE: [&str; 3] = ["203.0.113.9", "10.244.3.200", "8.8.8.8"];

fn pod(namespace: &str, name: &str, labels: &Labels) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        owner: ("Pod".to_owned(), name.to_owned()),
        labels: labels.clone(),
        ..Pod::default()
    }
}

/// Some pods in each namespace: with and without addresses inside `10.244.3.0/24`, with and without a port named http.
pub(super) fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let one = (
        any::<prop::sample::Index>(),
        0..3_usize,
        0..4_usize,
        proptest::bool::weighted(0.05),
    );
    let place = move |name: &'static str| proptest::collection::vec(one.clone(), 1..4).prop_map(move |all| (name, all));
    PLACES.map(place).prop_map(|places| {
        let universe = universe();
        let mut pods = Vec::new();
        for (namespace, all) in places {
            for (number, (labels, address, http, host_network)) in all.into_iter().enumerate() {
                let mut pod = pod(namespace, &format!("p{number}"), labels.get(&universe));
                let known = [None, Some("10.244.3.7"), Some("10.244.9.7")][address];
                pod.addresses = known.into_iter().map(|text| text.parse().unwrap()).collect();
                let http = [
                    None,
                    Some((Protocol::TCP, 8080)),
                    Some((Protocol::TCP, 80)),
                    Some((Protocol::UDP, 53)),
                ][http];
                pod.ports = http
                    .into_iter()
                    .map(|(protocol, port)| ("http".to_owned(), protocol, port))
                    .collect();
                pod.host_network = host_network;
                pods.push(pod);
            }
        }
        pods
    })
}

/// The same, all with an address of the cluster's network and none on that of its node, which no policy sees.
pub(super) fn bound_pods() -> impl Strategy<Value = Vec<Pod>> {
    pods().prop_map(|mut pods| {
        for pod in &mut pods {
            pod.host_network = false;
            if pod.addresses.is_empty() {
                pod.addresses.extend(["10.244.5.7".parse::<IpAddr>().unwrap()]);
            }
        }
        pods
    })
}

/// One end of one packet.
#[derive(Clone, Copy)]
enum End<'a> {
    Pod(&'a Pod),
    Address(IpAddr),
}

/// The same end, as the second opinion sees it.
fn plain(end: End<'_>) -> packets::End {
    match end {
        End::Address(address) => packets::End::Address(address),
        End::Pod(pod) => {
            let ports = pod.ports.iter();
            packets::End::Pod(packets::Pod {
                namespace: pod.namespace.clone(),
                labels: pod.labels.clone(),
                ports: Some(
                    ports
                        .map(|(name, protocol, port)| (name.clone(), protocol.as_str().to_owned(), *port))
                        .collect(),
                ),
                addresses: pod.addresses.iter().copied().collect(),
                host_network: pod.host_network,
            })
        }
    }
}

#[test]
fn every_packet_is_judged_as_by_the_second_opinion() {
    let namespaces: BTreeMap<String, Labels> = cluster()
        .namespaces
        .into_iter()
        .map(|(name, found)| (name, found.labels))
        .collect();
    let counts = RefCell::new([0_u64; 2]);
    let config = Config {
        cases: Config::default().cases / 2,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    // With a deny in every namespace hardly anything would be allowed.
    let denied = proptest::collection::vec(proptest::bool::weighted(0.4), PLACES.len());
    let outcome = runner.run(
        &(cases(Selecting::Anyhow), pods(), denied),
        |(mut policies, pods, denied)| {
            let kept = |namespace: &str| {
                PLACES
                    .iter()
                    .zip(&denied)
                    .any(|(place, denied)| *place == namespace && *denied)
            };
            policies.retain(|policy| {
                let ours = policy.metadata.name.as_deref() == Some(names::DENY_POLICY);
                !ours || kept(policy.metadata.namespace.as_deref().unwrap())
            });
            let snapshot = Snapshot {
                namespaces: namespaces.clone(),
                pods,
                policies,
                ..Snapshot::default()
            };
            for blocks in [Blocks::External, Blocks::Pods] {
                let read = Connectivity::read(&snapshot, blocks).unwrap();
                let connections = read.connections();
                let opinion = Packets {
                    namespaces: namespaces.clone(),
                    policies: &snapshot.policies,
                    blocks_match_pods: blocks == Blocks::Pods,
                };
                let addresses: Vec<IpAddr> = OUTSIDE.iter().map(|text| text.parse().unwrap()).collect();
                let ends = snapshot
                    .pods
                    .iter()
                    .map(End::Pod)
                    .chain(addresses.into_iter().map(End::Address));
                let ends: Vec<End<'_>> = ends.collect();
                for (at, from) in ends.iter().enumerate() {
                    for to in ends
                        .iter()
                        .enumerate()
                        .filter(|(other, _)| *other != at)
                        .map(|(_, to)| to)
                    {
                        if matches!((from, to), (End::Address(_), End::Address(_))) {
                            continue;
                        }
                        for (protocol, port) in PROBES {
                            let wanted = opinion.pass(&plain(*from), &plain(*to), protocol.as_str(), port);
                            let found = connections
                                .iter()
                                .any(|((a, b), ports)| is(a, *from) && is(b, *to) && ports.contains(protocol, port));
                            prop_assert_eq!(found, wanted, "{}", said(*from, *to, protocol, port, blocks));
                            let why = read.explain(asked(*from), asked(*to), protocol, port);
                            prop_assert_eq!(why.allows(), wanted, "{:?}", why);
                            counts.borrow_mut()[usize::from(wanted)] += 1;
                        }
                    }
                }
            }
            Ok(())
        },
    );
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let [denied, allowed] = counts.into_inner();
    let share = 100 * allowed / (allowed + denied);
    let text = format!("concrete: {} packets, {share} % of them allowed", allowed + denied);
    writeln(&text);
    assert!((30..=70).contains(&share), "one-sided: {text}");
}

fn is(end: &Endpoint, packet: End<'_>) -> bool {
    match (end, packet) {
        (Endpoint::Workload { namespace, name, .. }, End::Pod(pod)) => {
            *namespace == pod.namespace && *name == pod.owner.1
        }
        (Endpoint::Addresses(range), End::Address(address)) => (range.first..=range.last).contains(&address),
        _ => false,
    }
}

fn asked(end: End<'_>) -> Asked<'_> {
    match end {
        End::Pod(pod) => Asked::Pod(pod),
        End::Address(address) => Asked::Address(address),
    }
}

fn said(from: End<'_>, to: End<'_>, protocol: Protocol, port: u16, blocks: Blocks) -> String {
    let end = |end| match end {
        End::Pod(pod) => format!("{pod:?}"),
        End::Address(address) => address.to_string(),
    };
    format!("{} -> {} {} {port} {blocks:?}", end(from), end(to), protocol.as_str())
}

#[test]
fn pods_of_one_owner_are_one_end_and_what_any_of_them_may_counts() {
    let owned = |label: &str| Pod {
        namespace: "a".to_owned(),
        owner: ("Deployment".to_owned(), "web".to_owned()),
        labels: BTreeMap::from([("track".to_owned(), label.to_owned())]),
        ..Pod::default()
    };
    let other = pod("b", "x", &Labels::new());
    let snapshot = Snapshot {
        pods: vec![owned("stable"), owned("canary"), owned("stable"), other],
        policies: vec![
            policy("a", "deny", "{podSelector: {}, policyTypes: [Ingress]}"),
            policy(
                "a",
                "canary",
                "{podSelector: {matchLabels: {track: canary}}, ingress: [{ports: [{port: 80, endPort: 90}, {port: 85}]}]}",
            ),
        ],
        ..Snapshot::default()
    };
    let read = Connectivity::read(&snapshot, Blocks::External).unwrap();
    let connections = read.connections();
    let end = |namespace: &str, name: &str, kind: &str| Endpoint::Workload {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        kind: kind.to_owned(),
    };
    let outside = Endpoint::Addresses(AddressRange {
        first: "0.0.0.0".parse().unwrap(),
        last: "255.255.255.255".parse().unwrap(),
    });
    let (web, x) = (end("a", "web", "Deployment"), end("b", "x", "Pod"));
    let text: Vec<String> = connections.values().map(ToString::to_string).collect();
    assert_eq!(
        connections.keys().cloned().collect::<BTreeSet<_>>(),
        BTreeSet::from([
            (web.clone(), x.clone()),
            (web.clone(), outside.clone()),
            (x.clone(), web.clone()),
            (x.clone(), outside.clone()),
            (outside.clone(), web.clone()),
            (outside.clone(), x.clone()),
        ])
    );
    assert_eq!(connections[&(x, web.clone())].to_string(), "TCP 80-90", "{text:?}");
    assert_eq!(connections[&(outside, web)].to_string(), "TCP 80-90", "{text:?}");
}

#[test]
fn a_policy_that_cannot_be_read_is_named_and_nothing_is_judged() {
    let snapshot = Snapshot {
        policies: vec![
            policy("a", "good", "{podSelector: {}}"),
            policy("a", "bad", "{podSelector: {}, egress: [{to: [{}]}]}"),
            policy("b", "worse", "{podSelector: {}, ingress: [{ports: [{port: 0}]}]}"),
        ],
        ..Snapshot::default()
    };
    let unreadable = Connectivity::read(&snapshot, Blocks::External).unwrap_err();
    let said: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "NetworkPolicy a/bad cannot be read: a peer is an ipBlock, or selectors, and not nothing",
            "NetworkPolicy b/worse cannot be read: 0 is not a port",
        ]
    );
}
