//! Random ClusterNetworkPolicies over random NetworkPolicies: the symbolic mode against the second opinion.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRng, TestRunner};
use serde_json::{Value, json};

use super::brute::{Selecting, cases, cluster, later, of_namespaces, writeln};
use super::selectors::{selector, universe};
use super::tiers_naive::{End, Naive};
use crate::api::names;
use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::reach::{self, Isolation, Place, Witness, analyse};
use crate::network::testkit::Labels;
use crate::network::world::World;

/// One port of every set that the policies below can tell apart and that may be all there is between two pods: those
/// they list, and the rest of TCP and of UDP, of which a NetworkPolicy may let all through and a Deny take the listed
/// ones away again. Nothing lets the rest of SCTP through that does not let the rest of TCP through as well.
pub(super) const PROBES: [(&str, u16); 6] = [
    ("TCP", 80),
    ("TCP", 85),
    ("TCP", 9999),
    ("UDP", 53),
    ("UDP", 9999),
    ("SCTP", 80),
];
pub(super) const IN_BLOCK: &str = "10.244.3.7";
pub(super) const OUT_OF_BLOCK: &str = "10.244.9.7";

/// What the policies may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    /// What leaves nothing open: the symbolic verdict must be exact.
    Clear,
    /// Equal priorities, networks, named ports.
    Anything,
}

fn namespaces() -> BoxedStrategy<Value> {
    of_namespaces(Selecting::Anyhow)
        .prop_map(|selector| serde_json::to_value(selector).unwrap())
        .boxed()
}

fn subject() -> BoxedStrategy<Value> {
    let pods = (namespaces(), selector())
        .prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}}));
    prop_oneof![
        3 => namespaces().prop_map(|namespaces| json!({"namespaces": namespaces})),
        2 => pods,
        1 => Just(json!({"namespaces": {}})),
        1 => selector().prop_map(|pods| json!({"pods": {"podSelector": pods}})),
    ]
    .boxed()
}

fn egress_peer(style: Style) -> BoxedStrategy<Value> {
    let networks = proptest::sample::select(vec![
        json!({"networks": ["10.244.3.0/24"]}),
        json!({"networks": ["203.0.113.0/24", "10.244.3.0/24"]}),
        json!({"networks": ["0.0.0.0/0"]}),
        json!({"networks": ["203.0.113.0/24"]}),
        json!({"networks": ["::/0", "0.0.0.0/0"]}),
    ]);
    // Wholly outside, or everything: nothing is left open.
    let clear = proptest::sample::select(vec![
        json!({"networks": ["203.0.113.0/24"]}),
        json!({"networks": ["0.0.0.0/0"]}),
    ]);
    let networks = match style {
        Style::Clear => clear.boxed(),
        Style::Anything => networks.boxed(),
    };
    prop_oneof![6 => subject(), 1 => networks].boxed()
}

fn protocols(style: Style) -> BoxedStrategy<Option<Value>> {
    let mut choices = vec![
        json!({"tcp": {"destinationPort": {"number": 80}}}),
        json!({"tcp": {"destinationPort": {"range": {"start": 80, "end": 90}}}}),
        json!({"udp": {"destinationPort": {"number": 53}}}),
        json!({"sctp": {"destinationPort": {"number": 80}}}),
    ];
    if style == Style::Anything {
        choices.push(json!({"destinationNamedPort": "http"}));
    }
    let some = proptest::collection::vec(proptest::sample::select(choices), 1..3);
    prop_oneof![3 => Just(None), 2 => some.prop_map(|all| Some(json!(all)))].boxed()
}

fn rules(style: Style, peers: &'static str) -> BoxedStrategy<Value> {
    let peer = if peers == "to" { egress_peer(style) } else { subject() };
    let action = proptest::sample::select(vec!["Deny", "Deny", "Accept", "Pass"]);
    let one = (action, proptest::collection::vec(peer, 1..3), protocols(style));
    let one = one.prop_map(move |(action, ends, protocols)| {
        let mut rule = json!({"action": action, peers: ends});
        if let Some(protocols) = protocols {
            rule["protocols"] = protocols;
        }
        rule
    });
    proptest::collection::vec(one, 0..3)
        .prop_map(|rules| json!(rules))
        .boxed()
}

pub(super) fn cluster_policies(style: Style) -> BoxedStrategy<Vec<Value>> {
    let tier = proptest::sample::select(vec!["Admin", "Admin", "Baseline"]);
    let one = (tier, 0..2_u32, subject(), rules(style, "from"), rules(style, "to"));
    let one = one.prop_map(|(tier, priority, subject, ingress, egress)| {
        json!({"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress})
    });
    let all = proptest::collection::vec(one, 2..6);
    all.prop_map(move |mut all| {
        if style == Style::Clear {
            for (index, policy) in all.iter_mut().enumerate() {
                policy["priority"] = json!(10 * index);
            }
        }
        all
    })
    .boxed()
}

pub(super) fn read(specs: &[Value]) -> Vec<ClusterNetworkPolicy> {
    let specs = specs.iter().enumerate();
    specs
        .map(|(index, spec)| ClusterNetworkPolicy::read(format!("cnp-{index}"), spec.clone()))
        .collect()
}

/// So many cases out of a hundred that proptest would run: always the same ones, unless PROPTEST_RNG_SEED asks for others.
pub(super) fn runner(percent: u32) -> TestRunner {
    let config = Config {
        cases: Config::default().cases * percent / 100,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = match config.rng_seed {
        RngSeed::Fixed(seed) => TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat()),
        RngSeed::Random => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    };
    TestRunner::new_with_rng(config, rng)
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What a pod that could exist may be beside its labels: with a port of that name or not, at one address or another.
pub(super) fn pods_of<'e>(
    namespace: &'e str,
    labels: &'e Labels,
    port: (&'static str, u16),
    style: Style,
) -> Vec<End<'e>> {
    let pod = |http, at: &str| End::Pod {
        namespace,
        labels,
        http,
        address: Some(address(at)),
        host_network: false,
    };
    let mut all = vec![pod(None, OUT_OF_BLOCK), pod(Some(port), OUT_OF_BLOCK)];
    if style == Style::Anything {
        all.extend([pod(None, IN_BLOCK), pod(Some(port), IN_BLOCK)]);
    }
    all
}

/// Whether some pod of `near` may have a path out of its stage, and whether one surely has, wherever it runs.
pub(super) fn brute<'a>(
    naive: &Naive<'a>,
    pods: &'a [Labels],
    near: &'a str,
    style: Style,
    checks: &mut u64,
) -> (bool, bool) {
    let mut found = (false, false);
    for probe in PROBES {
        let here = |namespace: &'a str| pods.iter().map(move |labels| pods_of(namespace, labels, probe, style));
        let mine: Vec<Vec<End<'_>>> = here(near).collect();
        let far = naive.namespaces.keys().filter(|name| *name != near);
        let theirs: Vec<Vec<End<'_>>> = far.flat_map(|far| here(far)).collect();
        for (mine, theirs) in mine
            .iter()
            .flat_map(|mine| theirs.iter().map(move |theirs| (mine, theirs)))
        {
            for (from, to) in [(mine, theirs), (theirs, mine)] {
                for to in to {
                    *checks += 1;
                    let (possibly, surely) = naive.passes(from[0], *to, probe.0, probe.1);
                    found = (found.0 || possibly, found.1 || surely);
                    if found.1 {
                        return found;
                    }
                }
            }
        }
    }
    found
}

/// Whether the witness itself surely gets through, wherever the pods run, if the target names its port at will.
pub(super) fn holds(
    namespaces: &BTreeMap<String, Labels>,
    policies: &[NetworkPolicy],
    of_cluster: &[Value],
    witness: &Witness,
) -> bool {
    let mut namespaces = namespaces.clone();
    let mut place = |end: &reach::End| match &end.namespace {
        Place::Namespace(name) => name.clone(),
        Place::Later(given) => {
            let mut labels = given.clone();
            let name = labels.entry(names::NAMESPACE_NAME_LABEL.to_owned());
            name.or_insert_with(|| "created-later".to_owned());
            namespaces.insert("created-later".to_owned(), labels);
            "created-later".to_owned()
        }
    };
    let (from, to) = (place(&witness.from), place(&witness.to));
    let naive = Naive::new(&namespaces, policies, of_cluster);
    let protocol = witness.protocol.as_str();
    [witness.ports.0, witness.ports.1].into_iter().all(|port| {
        let source = pods_of(&from, &witness.from.labels, (protocol, port), Style::Clear)[0];
        let targets = pods_of(&to, &witness.to.labels, (protocol, port), Style::Anything);
        let surely = |end: End<'_>| naive.passes(source, end, protocol, port).1;
        // Named or not, but at both addresses.
        [0, 1]
            .into_iter()
            .any(|named| surely(targets[named]) && surely(targets[named + 2]))
    })
}

#[test]
fn the_verdict_with_tiers_is_that_of_brute_force() {
    compare(&cluster(), Selecting::Anyhow, Style::Clear);
}

#[test]
fn the_verdict_between_stages_with_tiers_is_that_of_brute_force() {
    let mut world = cluster();
    world.namespaces.retain(|_, namespace| namespace.stage.is_some());
    compare(&world, Selecting::Stages, Style::Clear);
}

#[test]
fn what_is_left_open_is_never_claimed() {
    compare(&cluster(), Selecting::Anyhow, Style::Anything);
}

fn compare(world: &World, how: Selecting, style: Style) {
    let mix = RefCell::new([0_u32; 3]);
    let checks = RefCell::new(0_u64);
    // Unknown although brute force knows.
    let vague = RefCell::new(0_u32);
    let pods = universe();
    // Every packet of the larger universe is asked four times over.
    let percent = if style == Style::Clear { 8 } else { 5 };
    let outcome = runner(percent).run(&(cases(how), cluster_policies(style)), |(all, of_cluster)| {
        let mut world = world.clone();
        world.cluster_policies = read(&of_cluster);
        let analysis = analyse(&world, &all, &[]);
        let mut namespaces: BTreeMap<String, Labels> = world
            .namespaces
            .iter()
            .map(|(name, found)| (name.clone(), found.labels.clone()))
            .collect();
        let created = later(&namespaces);
        namespaces.extend(created);
        for near in ["train", "infer"] {
            let mut count = checks.borrow_mut();
            let mut naive = Naive::new(&namespaces, &all, &of_cluster);
            let (may, certain) = brute(&naive, &pods, near, style, &mut count);
            naive.blocks = |block, _| block.cidr.starts_with("10.");
            let possible = certain || may || brute(&naive, &pods, near, style, &mut count).0;
            let verdict = &analysis.namespaces[near];
            let found = match verdict {
                Isolation::Isolated => (false, false),
                Isolation::Unknown { .. } => (false, true),
                Isolation::PathExists(witness) => {
                    prop_assert!(holds(&namespaces, &all, &of_cluster, witness), "{}", witness);
                    (true, true)
                }
            };
            let exact = found == (certain, possible);
            let sound = match style {
                Style::Clear => exact,
                // Unknown is always sound; a pod at one address alone makes no certain path.
                Style::Anything => found == (false, true) || exact,
            };
            prop_assert!(
                sound,
                "{}: brute force says {:?}, the analysis {:?}",
                near,
                (certain, possible),
                verdict
            );
            *vague.borrow_mut() += u32::from(!exact);
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
    let vague = f64::from(vague.into_inner()) / total;
    let text = format!(
        "tiers, {how:?}, {style:?}: isolated {:.0} %, unknown {:.0} %, path {:.0} % of {total}; unknown without need {:.0} %; \
         {} packets",
        share[0] * 100.0,
        share[1] * 100.0,
        share[2] * 100.0,
        vague * 100.0,
        checks.into_inner()
    );
    writeln(&text);
    let balanced = share[0] >= 0.15 && share[2] >= 0.15 && share[1] >= 0.02;
    assert!(balanced && vague <= 0.25, "one-sided: {text}");
}
