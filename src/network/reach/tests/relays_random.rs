//! Chains through relays against brute force: every pod of a small universe, a graph of single packets between them, and
//! the shortest way through it. The two share no code.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::brute::{pod, writeln};
use super::selectors::{selector, universe};
use crate::api::names;
use crate::api::stage::NamespaceStage::{self, Evaluation, Inference, Shared, Training};
use crate::network::policies;
use crate::network::reach::relays::{Chain, chains};
use crate::network::reach::{End, Place};
use crate::network::testkit::{End as Packet, Labels, Packets, packets, world};
use crate::network::world::World;

pub(super) const STAGED: [(&str, NamespaceStage); 3] =
    [("train", Training), ("eval", Evaluation), ("infer", Inference)];
const PLACES: [&str; 6] = ["train", "eval", "infer", "shared", "plain", "tools"];
const PROBES: [(&str, u16); 3] = [("TCP", 80), ("TCP", 85), ("UDP", 53)];

pub(super) fn cluster() -> World {
    let mut world = world();
    world.namespaces.clear();
    world.cluster.dns.clear();
    world.cluster.api_servers.clear();
    for (name, stage) in STAGED {
        world.stage(name, stage);
    }
    world
        .stage("shared", Shared)
        .plain("plain", "team=a")
        .plain("tools", "team=b");
    world
}

fn peer() -> impl Strategy<Value = Value> {
    let places = || proptest::sample::select(PLACES.to_vec());
    let named = (places(), places()).prop_map(|(one, two)| {
        json!({"matchExpressions": [{"key": names::NAMESPACE_NAME_LABEL, "operator": "In", "values": [one, two]}]})
    });
    let teams = proptest::sample::select(vec!["a", "b"]).prop_map(|team| json!({"matchLabels": {"team": team}}));
    let pods = || proptest::option::weighted(0.3, selector());
    let of = |(namespaces, pods): (Value, Option<_>)| match pods {
        Some(pods) => json!({"namespaceSelector": namespaces, "podSelector": pods}),
        None => json!({"namespaceSelector": namespaces}),
    };
    prop_oneof![
        6 => (named, pods()).prop_map(of),
        2 => (teams, pods()).prop_map(of),
        2 => selector().prop_map(|pods| json!({"podSelector": pods})),
        1 => Just(json!({"ipBlock": {"cidr": "10.244.3.0/24", "except": ["10.244.3.0/25"]}})),
    ]
}

fn somebodys() -> impl Strategy<Value = NetworkPolicy> {
    let port = proptest::sample::select(vec![
        json!([]),
        json!([]),
        json!([{"port": 80}]),
        json!([{"port": 80, "endPort": 90}]),
        json!([{"port": "http"}]),
        json!([{"port": 53, "protocol": "UDP"}]),
    ]);
    let rules = || proptest::collection::vec((proptest::collection::vec(peer(), 1..3), port.clone()), 0..3);
    let place = proptest::sample::select(PLACES.to_vec());
    let subject = prop_oneof![1 => Just(LabelSelector::default()), 2 => selector()];
    (place, subject, rules(), rules()).prop_map(|(place, pods, out, into)| {
        let list = |rules: Vec<(Vec<Value>, Value)>, peers: &str| {
            let rules = rules.into_iter().map(|(ends, ports)| json!({peers: ends, "ports": ports}));
            rules.collect::<Vec<_>>()
        };
        let types = match (out.is_empty(), into.is_empty()) {
            (false, true) => vec!["Egress"],
            (true, false) => vec!["Ingress"],
            _ => vec!["Ingress", "Egress"],
        };
        let spec = json!({"podSelector": pods, "policyTypes": types, "egress": list(out, "to"), "ingress": list(into, "from")});
        let object = json!({"metadata": {"namespace": place}, "spec": spec});
        serde_json::from_value(object).unwrap()
    })
}

/// Other people's policies; the denies of the stages, and elsewhere mostly both directions closed.
pub(super) fn cases() -> impl Strategy<Value = Vec<NetworkPolicy>> {
    let closed = proptest::collection::vec(proptest::bool::weighted(0.9), 3);
    (proptest::collection::vec(somebodys(), 14..28), closed).prop_map(|(others, closed)| {
        let closed = ["shared", "plain", "tools"]
            .into_iter()
            .zip(closed)
            .filter(|(_, closed)| *closed);
        let places = STAGED
            .into_iter()
            .map(|(name, _)| name)
            .chain(closed.map(|(name, _)| name));
        let mut all: Vec<NetworkPolicy> = places.map(|place| policies::deny(place, Training)).collect();
        all.extend(others.into_iter().enumerate().map(|(index, mut policy)| {
            policy.metadata.name = Some(format!("other-{index}"));
            policy
        }));
        all
    })
}

fn passes(packets: &Packets<'_>, from: &Packet, to: &Packet) -> bool {
    PROBES
        .into_iter()
        .any(|(protocol, port)| packets.pass(from, to, protocol, port))
}

/// Every pod of a small universe, with its namespace.
pub(super) fn everyone<P>(labels: &[Labels], of: impl Fn(&'static str, usize) -> P) -> Vec<(&'static str, P)> {
    let all = PLACES
        .into_iter()
        .flat_map(|place| (0..labels.len()).map(move |index| (place, index)));
    all.map(|(place, index)| (place, of(place, index))).collect()
}

/// The fewest hops from any pod of a namespace to any of another through pods of neither.
pub(super) fn brute<P>(pods: &[(&str, P)], from: &str, to: &str, passes: impl Fn(&P, &P) -> bool) -> Option<usize> {
    let mut far: Vec<Option<usize>> = pods.iter().map(|(place, _)| (*place == from).then_some(0)).collect();
    let mut queue: VecDeque<usize> = (0..pods.len()).filter(|pod| far[*pod].is_some()).collect();
    while let Some(at) = queue.pop_front() {
        let hops = far[at]? + 1;
        for next in 0..pods.len() {
            let last = pods[next].0 == to;
            // Without a relay it is a path, and not for this test.
            if far[next].is_some() || (last && hops < 2) || !passes(&pods[at].1, &pods[next].1) {
                continue;
            }
            if last {
                return Some(hops);
            }
            far[next] = Some(hops);
            queue.push_back(next);
        }
    }
    None
}

/// Whether where one hop ends the next one starts.
pub(super) fn is_joined(chain: &Chain) -> bool {
    chain.hops.windows(2).all(|hops| hops[0].to == hops[1].from)
}

/// Whether each hop of a chain gets through as packets, from one and the same pod to the next.
fn holds(packets: &Packets<'_>, chain: &Chain) -> bool {
    let end = |end: &End| match &end.namespace {
        Place::Namespace(name) => pod(name, &end.labels),
        Place::Later(_) => unreachable!("nothing of these is created later"),
    };
    let mut hops = chain.hops.iter();
    is_joined(chain)
        && hops.all(|hop| {
            let (from, to, protocol) = (end(&hop.from), end(&hop.to), hop.protocol.as_str());
            packets.pass(&from, &to, protocol, hop.ports.0) && packets.pass(&from, &to, protocol, hop.ports.1)
        })
}

#[test]
fn chains_are_those_of_brute_force() {
    let world = cluster();
    let desired = policies::all(&world);
    let desired: Vec<&NetworkPolicy> = desired.iter().collect();
    let labels = universe();
    let pods = everyone(&labels, |place, index| pod(place, &labels[index]));
    // No chain, a possible one, certain ones by the number of their hops.
    let mix: RefCell<BTreeMap<String, u32>> = RefCell::default();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config {
        // 64 cases, or a quarter of what PROPTEST_CASES says.
        cases: Config::default().cases / 4,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new_with_rng(config, rng).run(&cases(), |all| {
        let stored: Vec<&NetworkPolicy> = all.iter().collect();
        let found = chains(&world, &desired, &stored, &[], &|_| true);
        prop_assert!(!found.cut);
        let readings = [false, true].map(|blocks_match_pods| Packets {
            blocks_match_pods,
            ..packets(&world, &all)
        });
        for (from, near) in STAGED {
            for (to, far) in STAGED.into_iter().filter(|(to, _)| *to != from) {
                let told: Vec<&Chain> = found.found.iter().filter(|chain| chain.stages == [near, far]).collect();
                let shortest = |reading| brute(&pods, from, to, |one, other| passes(reading, one, other));
                let expected = match shortest(&readings[0]) {
                    Some(hops) => Some((false, hops)),
                    None => shortest(&readings[1]).map(|hops| (true, hops)),
                };
                let said = |chain: &&&Chain| Some((chain.doubt.is_some(), chain.hops.len()));
                // One that ends in the one stage, one that starts in the other: of the same length.
                prop_assert_eq!(
                    told.is_empty(),
                    expected.is_none(),
                    "{} to {}: {:?}",
                    from,
                    to,
                    expected
                );
                for chain in &told {
                    prop_assert_eq!(said(&chain), expected, "{} to {}: {}", from, to, chain);
                    let reading = &readings[usize::from(chain.doubt.is_some())];
                    prop_assert!(holds(reading, chain), "{}", chain);
                }
                let kind = match expected {
                    None => "none".to_owned(),
                    Some((true, _)) => "possible".to_owned(),
                    Some((false, hops)) => format!("{} hops", hops.min(4)),
                };
                *mix.borrow_mut().entry(kind).or_default() += 1;
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let mix = mix.into_inner();
    let total = mix.values().sum::<u32>();
    let text = format!("chains: {mix:?} of {total}");
    writeln(&text);
    let share = |kind: &str| f64::from(mix.get(kind).copied().unwrap_or_default()) / f64::from(total);
    let wanted = [
        ("none", 0.2),
        ("possible", 0.01),
        ("2 hops", 0.2),
        ("3 hops", 0.05),
        ("4 hops", 0.01),
    ];
    assert!(
        wanted.iter().all(|(kind, least)| (*least..=0.7).contains(&share(kind))),
        "one-sided: {text}"
    );
}
