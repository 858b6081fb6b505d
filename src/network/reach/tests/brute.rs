//! The symbolic verdict against brute force: every pod of a small universe, in every namespace that exists or could,
//! one packet at a time, under random policies. The two share no code.

use std::cell::RefCell;
use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::selectors::{selector, universe};
use crate::api::names;
use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::network::policies;
use crate::network::reach::{End, Isolation, Place, Witness, analyse};
use crate::network::testkit::{End as Packet, Labels, Pod, labels, packets, world};
use crate::network::world::World;

pub(super) const PLACES: [&str; 4] = ["train", "infer", "shared", "plain"];
const PROBES: [(&str, u16); 4] = [("TCP", 80), ("TCP", 85), ("TCP", 9999), ("UDP", 53)];

pub(super) fn cluster() -> World {
    let mut world = world();
    world.namespaces.clear();
    world.cluster.dns.clear();
    world.cluster.api_servers.clear();
    world
        .stage("train", Training)
        .stage("infer", Inference)
        .stage("shared", Shared)
        .plain("plain", "team=a");
    world
}

/// How namespaces are selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Selecting {
    /// By name, by stage, by a label that anybody may set.
    Anyhow,
    /// Only stages, by name: paths between stages, where both halves count.
    Stages,
}

pub(super) fn of_namespaces(how: Selecting) -> impl Strategy<Value = LabelSelector> {
    let (choices, operators, most) = match how {
        Selecting::Anyhow => (
            vec![
                (
                    names::NAMESPACE_NAME_LABEL,
                    vec!["train", "infer", "shared", "plain", "ghost"],
                ),
                (names::STAGE_LABEL, vec!["training", "inference", "shared"]),
                ("team", vec!["a", "b"]),
            ],
            vec!["In", "In", "In", "In", "NotIn", "Exists", "DoesNotExist"],
            3,
        ),
        Selecting::Stages => (
            vec![(names::NAMESPACE_NAME_LABEL, vec!["train", "infer"])],
            vec!["In"],
            2,
        ),
    };
    let one = (any::<prop::sample::Index>(), proptest::sample::select(operators));
    let values = (any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let one = (one, values).prop_map(move |((key, operator), (first, second))| {
        let (key, values) = key.get(&choices);
        let values = vec![(*first.get(values)).to_owned(), (*second.get(values)).to_owned()];
        LabelSelectorRequirement {
            key: (*key).to_owned(),
            operator: operator.to_owned(),
            values: matches!(operator, "In" | "NotIn").then_some(values),
        }
    });
    proptest::collection::vec(one, 1..most).prop_map(|requirements| LabelSelector {
        match_labels: None,
        match_expressions: Some(requirements),
    })
}

fn peer(how: Selecting) -> impl Strategy<Value = NetworkPolicyPeer> {
    let blocks = if how == Selecting::Anyhow { 10 } else { 2 };
    let block = |cidr: &str, except: &[&str]| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_owned(),
            except: Some(except.iter().map(|text| (*text).to_owned()).collect()),
        }),
        ..NetworkPolicyPeer::default()
    };
    prop_oneof![
        2 => selector().prop_map(|pods| NetworkPolicyPeer { pod_selector: Some(pods), ..NetworkPolicyPeer::default() }),
        5 => (of_namespaces(how), proptest::option::of(selector())).prop_map(|(namespaces, pods)| NetworkPolicyPeer {
            namespace_selector: Some(namespaces),
            pod_selector: pods,
            ip_block: None,
        }),
        blocks => Just(block("10.244.3.0/24", &[])),
        1 => Just(block("10.244.3.0/24", &["10.244.3.0/25"])),
        1 => Just(block("203.0.113.0/24", &[])),
    ]
}

fn port() -> impl Strategy<Value = NetworkPolicyPort> {
    let choices = [
        (Some(IntOrString::Int(80)), None, "TCP"),
        (Some(IntOrString::Int(80)), Some(90), "TCP"),
        (Some(IntOrString::Int(85)), None, "TCP"),
        (Some(IntOrString::Int(53)), None, "UDP"),
        (Some(IntOrString::String("http".to_owned())), None, "TCP"),
        (None, None, "UDP"),
    ];
    proptest::sample::select(choices.to_vec()).prop_map(|(port, end_port, protocol)| NetworkPolicyPort {
        port,
        end_port,
        protocol: Some(protocol.to_owned()),
    })
}

type Rule = (Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>);

fn rules(how: Selecting) -> impl Strategy<Value = Vec<Rule>> {
    let everyone = u32::from(how == Selecting::Anyhow);
    let peers = prop_oneof![everyone => Just(Vec::new()), 29 => proptest::collection::vec(peer(how), 1..3)];
    let rule = (peers, proptest::collection::vec(port(), 0..2));
    proptest::collection::vec(rule, 0..3)
}

pub(super) fn somebodys(how: Selecting) -> impl Strategy<Value = NetworkPolicy> {
    let types = proptest::sample::select(vec![
        None,
        Some(vec!["Ingress"]),
        Some(vec!["Egress"]),
        Some(vec!["Ingress", "Egress"]),
    ]);
    let places = match how {
        Selecting::Anyhow => vec![0, 0, 1, 1, 2, 3],
        Selecting::Stages => vec![0, 1],
    };
    let place = proptest::sample::select(places);
    let parts = (place, selector(), types, rules(how), rules(how));
    parts.prop_map(|(place, pods, types, ingress, egress)| {
        let mut policy = NetworkPolicy::default();
        policy.metadata.namespace = Some(PLACES[place].to_owned());
        let egress = egress.into_iter().map(|(to, ports)| NetworkPolicyEgressRule {
            to: Some(to),
            ports: Some(ports),
        });
        let ingress = ingress.into_iter().map(|(from, ports)| NetworkPolicyIngressRule {
            from: Some(from),
            ports: Some(ports),
        });
        policy.spec = Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: types.map(|types| types.into_iter().map(str::to_owned).collect()),
            ingress: Some(ingress.collect()),
            egress: Some(egress.collect()),
        });
        policy
    })
}

/// Other people's policies, and the denies: nearly always in the stages, sometimes elsewhere.
pub(super) fn cases(how: Selecting) -> impl Strategy<Value = Vec<NetworkPolicy>> {
    let (count, stages) = match how {
        Selecting::Anyhow => (1..7, 0.97),
        // Without the deny there is always a path to a namespace created later.
        Selecting::Stages => (2..9, 1.0),
    };
    let others = proptest::collection::vec(somebodys(how), count);
    let stage = || proptest::bool::weighted(stages);
    let elsewhere = || proptest::bool::weighted(0.6);
    let denied = (stage(), stage(), elsewhere(), elsewhere());
    (others, denied).prop_map(|(others, denied)| {
        let mut all = Vec::new();
        let everywhere = [
            ("train", Training),
            ("infer", Inference),
            ("shared", Shared),
            ("plain", Training),
        ];
        for ((namespace, stage), denied) in everywhere.into_iter().zip([denied.0, denied.1, denied.2, denied.3]) {
            if denied {
                all.push(policies::deny(namespace, stage));
            }
        }
        all.extend(others.into_iter().enumerate().map(|(index, mut policy)| {
            policy.metadata.name = Some(format!("other-{index}"));
            policy
        }));
        all
    })
}

/// Namespaces that somebody without the admin's rights could create beside those that are known.
pub(super) fn later(known: &BTreeMap<String, Labels>) -> BTreeMap<String, Labels> {
    // What policies mention and is not there is a name that counts.
    let missing = PLACES.into_iter().filter(|place| !known.contains_key(*place));
    let free: Vec<&str> = ["later", "ghost"].into_iter().chain(missing).collect();
    let teams = ["", "team=a", "team=b", "team=z"];
    let mut all = BTreeMap::new();
    for (index, team) in teams.into_iter().enumerate() {
        for name in &free {
            let mut labels = labels(team);
            labels.insert(names::NAMESPACE_NAME_LABEL.to_owned(), (*name).to_owned());
            // The number only keeps the keys of this map apart.
            all.insert(format!("{name}{index}"), labels);
        }
    }
    all
}

/// Addresses that tell the blocks apart: a pod that could exist may have either.
const ADDRESSES: [&str; 2] = ["10.244.3.9", "10.244.3.209"];

pub(super) fn pod(namespace: &str, labels: &Labels) -> Packet {
    Packet::Pod(Pod {
        namespace: namespace.to_owned(),
        labels: labels.clone(),
        addresses: ADDRESSES.map(|text| text.parse().unwrap()).into(),
        ..Pod::default()
    })
}

/// Whether any pod of `near` has a path out of its stage.
fn brute(world: &World, all: &[NetworkPolicy], near: &str, blocks_match_pods: bool, checks: &mut u64) -> bool {
    let mut packets = packets(world, all);
    packets.blocks_match_pods = blocks_match_pods;
    let later = later(&packets.namespaces);
    packets.namespaces.extend(later);
    let far: Vec<&String> = packets.namespaces.keys().filter(|name| *name != near).collect();
    let pods = universe();
    for mine in pods.iter().map(|labels| pod(near, labels)) {
        for far in &far {
            for theirs in pods.iter().map(|labels| pod(far, labels)) {
                for (protocol, port) in PROBES {
                    *checks += 2;
                    if packets.pass(&mine, &theirs, protocol, port) || packets.pass(&theirs, &mine, protocol, port) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Whether the witness itself gets through, as one packet.
pub(super) fn holds(world: &World, all: &[NetworkPolicy], witness: &Witness) -> bool {
    let mut packets = packets(world, all);
    let mut end = |end: &End| {
        let namespace = match &end.namespace {
            Place::Namespace(name) => name.clone(),
            Place::Later(given) => {
                let mut labels = given.clone();
                let name = labels.entry(names::NAMESPACE_NAME_LABEL.to_owned());
                name.or_insert_with(|| "created-later".to_owned());
                packets.namespaces.insert("created-later".to_owned(), labels);
                "created-later".to_owned()
            }
        };
        pod(&namespace, &end.labels)
    };
    let (from, to) = (end(&witness.from), end(&witness.to));
    let (first, last) = witness.ports;
    let protocol = witness.protocol.as_str();
    packets.pass(&from, &to, protocol, first) && packets.pass(&from, &to, protocol, last)
}

#[test]
fn the_verdict_is_that_of_brute_force() {
    compare(&cluster(), Selecting::Anyhow);
}

#[test]
fn the_verdict_between_stages_is_that_of_brute_force() {
    let mut world = cluster();
    world.namespaces.retain(|_, namespace| namespace.stage.is_some());
    compare(&world, Selecting::Stages);
}

fn compare(world: &World, how: Selecting) {
    let mix = RefCell::new([0_u32; 3]);
    let checks = RefCell::new(0_u64);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    // 128 cases, or half as many as PROPTEST_CASES says.
    let config = Config {
        cases: Config::default().cases / 2,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&cases(how), |all| {
        let analysis = analyse(world, &all, &[]);
        for near in ["train", "infer"] {
            let mut count = checks.borrow_mut();
            let certain = brute(world, &all, near, false, &mut count);
            let possible = certain || brute(world, &all, near, true, &mut count);
            let found = match &analysis.namespaces[near] {
                Isolation::Isolated => (false, false),
                Isolation::Unknown { reason, .. } => {
                    prop_assert_eq!(*reason, "CniDependent");
                    (false, true)
                }
                Isolation::PathExists(witness) => {
                    prop_assert!(holds(world, &all, witness), "{}", witness);
                    (true, true)
                }
            };
            prop_assert_eq!(found, (certain, possible), "{}: {:?}", near, analysis.namespaces[near]);
            mix.borrow_mut()[usize::from(found.0) + usize::from(found.1)] += 1;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let mix = mix.into_inner();
    let total = f64::from(mix.iter().sum::<u32>());
    let share = mix.map(|count| f64::from(count) / total);
    let text = format!(
        "{how:?}: isolated {:.0} %, unknown {:.0} %, path {:.0} % of {total}; {} packets",
        share[0] * 100.0,
        share[1] * 100.0,
        share[2] * 100.0,
        checks.into_inner()
    );
    writeln(&text);
    assert!(
        share.iter().all(|share| (0.2..=0.8).contains(share)),
        "one-sided: {text}"
    );
}

pub(super) fn writeln(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
