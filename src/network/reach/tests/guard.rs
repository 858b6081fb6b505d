//! The guard against brute force: what a change opens is what passes after it and did not before, one packet at a time;
//! and of policies that open no half, no two open a path.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::brute::{PLACES, Selecting, cases, cluster, holds, later, pod, somebodys, writeln};
use super::selectors::universe;
use crate::api::names;
use crate::api::stage::NamespaceStage::{self, Inference, Shared, Training};
use crate::network::policies;
use crate::network::reach::guard::{Change, Opened, Set, opens_half, would_open};
use crate::network::reach::paths::forbidden;
use crate::network::reach::{Isolation, Place, Witness, analyse};
use crate::network::testkit::{End as Packet, Labels, Packets, labels, packets, policy};
use crate::network::world::World;

/// One port of each cell that the generated rules tell apart.
const PROBES: [(&str, u16); 7] = [
    ("TCP", 80),
    ("TCP", 82),
    ("TCP", 85),
    ("TCP", 9999),
    ("UDP", 53),
    ("UDP", 99),
    ("SCTP", 7),
];

/// A change, as it is generated.
#[derive(Clone, Debug)]
pub(super) enum Made {
    Apply(Box<NetworkPolicy>),
    Delete(String, String),
    Label(&'static str, Labels),
}

impl Made {
    pub(super) fn change(&self) -> Change<'_> {
        match self {
            Self::Apply(policy) => Change::Apply(policy),
            Self::Delete(namespace, name) => Change::Delete { namespace, name },
            Self::Label(namespace, labels) => Change::Label { namespace, labels },
        }
    }

    pub(super) fn namespace(&self) -> &str {
        match self {
            Self::Apply(policy) => policy.metadata.namespace.as_deref().unwrap(),
            Self::Delete(namespace, _) => namespace,
            Self::Label(namespace, _) => namespace,
        }
    }

    /// The set after it, made by hand.
    pub(super) fn apply(&self, world: &World, all: &[NetworkPolicy]) -> (World, Vec<NetworkPolicy>) {
        let (mut world, mut all) = (world.clone(), all.to_vec());
        let key = |policy: &NetworkPolicy| {
            (
                policy.metadata.namespace.clone().unwrap(),
                policy.metadata.name.clone().unwrap(),
            )
        };
        match self {
            Self::Apply(policy) => {
                all.retain(|known| key(known) != key(policy));
                all.push(policy.as_ref().clone());
            }
            Self::Delete(namespace, name) => {
                all.retain(|known| key(known) != (namespace.clone(), name.clone()));
            }
            Self::Label(namespace, labels) => {
                let found = world.namespaces.get_mut(*namespace).unwrap();
                let was = found.stage;
                found.labels.clone_from(labels);
                found.stage = labels
                    .get(names::STAGE_LABEL)
                    .and_then(|stage| NamespaceStage::parse(stage));
                if let Some(stage) = found.stage.filter(|_| found.stage != was) {
                    all.retain(|known| key(known) != ((*namespace).to_owned(), names::DENY_POLICY.to_owned()));
                    all.push(policies::deny(namespace, stage));
                }
            }
        }
        (world, all)
    }
}

/// A set and a change of it.
pub(super) fn changes(how: Selecting) -> impl Strategy<Value = (Vec<NetworkPolicy>, Made)> {
    let team = proptest::sample::select(vec!["", "team=a", "team=b"]);
    // Now and then a stage moves; mostly a label does that anybody may set.
    let stage = proptest::sample::select(vec!["", "", "", "training", "inference", "shared"]);
    let parts = (
        cases(how),
        somebodys(how),
        any::<prop::sample::Index>(),
        0..10_u8,
        team,
        stage,
    );
    parts.prop_map(|(mut all, mut new, index, kind, team, stage)| {
        // What is deleted is often a deny, and they stand first: that opens most.
        let last = if kind < 2 { all.len().min(4) } else { all.len() };
        let chosen = all.get(index.index(last.max(1))).cloned();
        let made = match (kind, chosen) {
            (0 | 1, Some(policy)) => Made::Delete(policy.metadata.namespace.unwrap(), policy.metadata.name.unwrap()),
            (2, Some(policy)) => {
                new.metadata = policy.metadata;
                Made::Apply(Box::new(new))
            }
            (3..=6, Some(policy)) => {
                // As it is created again.
                let position = index.index(all.len());
                all.remove(position);
                Made::Apply(Box::new(policy))
            }
            (7 | 8, _) => {
                let namespace = PLACES[index.index(PLACES.len())];
                let mut given = labels(team);
                given.insert(names::NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned());
                let own = cluster().namespaces[namespace].stage.map(|stage| stage.to_string());
                let stage = if stage.is_empty() { own } else { Some(stage.to_owned()) };
                given.extend(stage.map(|stage| (names::STAGE_LABEL.to_owned(), stage)));
                Made::Label(namespace, given)
            }
            _ => {
                new.metadata.name = Some("new".to_owned());
                Made::Apply(Box::new(new))
            }
        };
        (all, made)
    })
}

/// One set, ready to be asked for connections.
struct Asked<'a> {
    world: &'a World,
    packets: Packets<'a>,
}

impl<'a> Asked<'a> {
    fn new(world: &'a World, all: &'a [NetworkPolicy], blocks_match_pods: bool) -> Self {
        let mut packets = packets(world, all);
        packets.blocks_match_pods = blocks_match_pods;
        let later = later(&packets.namespaces);
        packets.namespaces.extend(later);
        Self { world, packets }
    }

    /// Whether a packet passes on a way that the matrix forbids.
    fn passes(&self, from: &Packet, to: &Packet, (protocol, port): (&str, u16)) -> bool {
        let stage = |end: &Packet| match end {
            Packet::Pod(pod) => self.world.stage_of(&pod.namespace),
            Packet::Address(_) => None,
        };
        forbidden(stage(from), stage(to)) && self.packets.pass(from, to, protocol, port)
    }
}

/// Whether anything passes between a namespace and the others in one set and not in another.
fn new_packet(before: Option<&Asked<'_>>, now: &Asked<'_>, near: &str) -> bool {
    let pods = universe();
    let far = now.packets.namespaces.keys().filter(|name| *name != near);
    for far in far {
        for mine in pods.iter().map(|labels| pod(near, labels)) {
            for theirs in pods.iter().map(|labels| pod(far, labels)) {
                for probe in PROBES {
                    let is_new = |from: &Packet, to: &Packet| {
                        now.passes(from, to, probe) && !before.is_some_and(|before| before.passes(from, to, probe))
                    };
                    if is_new(&mine, &theirs) || is_new(&theirs, &mine) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Whether the very connection of a witness is forbidden and passes.
fn passed(world: &World, all: &[NetworkPolicy], witness: &Witness) -> bool {
    let stage = |place: &Place| match place {
        Place::Namespace(name) => world.stage_of(name),
        Place::Later(_) => None,
    };
    forbidden(stage(&witness.from.namespace), stage(&witness.to.namespace)) && holds(world, all, witness)
}

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Debug,
{
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    if let Err(error) = TestRunner::new_with_rng(config, rng).run(strategy, test) {
        panic!("{error}");
    }
}

/// Prints how often each thing was seen, and fails when one was seldom or nearly always.
pub(super) fn balanced(title: &str, mix: &BTreeMap<&'static str, u32>, wanted: &[&str]) {
    let total = mix.values().sum::<u32>();
    writeln(&format!("{title}: {mix:?} of {total}"));
    for kind in wanted {
        let share = f64::from(mix.get(kind).copied().unwrap_or_default()) / f64::from(total);
        assert!((0.1..=0.8).contains(&share), "{title}: one-sided, {kind} {share}");
    }
}

#[test]
fn what_a_change_opens_is_what_passes_after_it_and_did_not_before() {
    compare(Selecting::Anyhow);
}

#[test]
fn what_a_change_opens_between_stages_is_what_passes_after_it_and_did_not_before() {
    compare(Selecting::Stages);
}

fn compare(how: Selecting) {
    let mut world = cluster();
    if how == Selecting::Stages {
        world.namespaces.retain(|_, namespace| namespace.stage.is_some());
    }
    let (verdicts, kinds) = (RefCell::new(BTreeMap::new()), RefCell::new(BTreeMap::new()));
    run(Config::default().cases / 2, &changes(how), |(all, made)| {
        if !world.namespaces.contains_key(made.namespace()) {
            return Ok(());
        }
        let near = made.namespace();
        let (world_after, all_after) = made.apply(&world, &all);
        let set = Set {
            world: &world,
            policies: &all,
            unmodelled: &[],
        };
        let found = would_open(set, made.change());

        let (before, now) = (
            Asked::new(&world, &all, false),
            Asked::new(&world_after, &all_after, false),
        );
        let certain = new_packet(Some(&before), &now, near);
        prop_assert_eq!(
            matches!(found, Some(Opened::Path(_))),
            certain,
            "{:?}: {:?}",
            made,
            found
        );

        let (before, now) = (
            Asked::new(&world, &all, true),
            Asked::new(&world_after, &all_after, true),
        );
        let seen = match &found {
            Some(Opened::Path(witness)) => {
                prop_assert!(passed(&world_after, &all_after, witness), "{} does not pass", witness);
                prop_assert!(!passed(&world, &all, witness), "{} passed before", witness);
                "path"
            }
            Some(Opened::Perhaps { .. }) => {
                prop_assert!(new_packet(None, &now, near), "a doubt about nothing");
                "perhaps"
            }
            None => {
                prop_assert!(!new_packet(Some(&before), &now, near), "a possible path was missed");
                "nothing"
            }
        };
        // The difference of the verdicts on the two sets says no more than that.
        let is_open = |world: &World, all: &[NetworkPolicy]| {
            let verdict = analyse(world, all, &[]).namespaces.remove(near);
            matches!(verdict, Some(Isolation::PathExists(_)))
        };
        if is_open(&world_after, &all_after) && !is_open(&world, &all) {
            prop_assert!(certain);
        }
        *verdicts.borrow_mut().entry(seen).or_default() += 1;
        let kind = match made {
            Made::Apply(_) => "apply",
            Made::Delete(..) => "delete",
            Made::Label(..) => "label",
        };
        *kinds.borrow_mut().entry(kind).or_default() += 1;
        Ok(())
    });
    balanced(
        &format!("{how:?}, opened"),
        &verdicts.into_inner(),
        &["path", "nothing"],
    );
    balanced(
        &format!("{how:?}, changes"),
        &kinds.into_inner(),
        &["apply", "delete", "label"],
    );
}

#[test]
fn policies_that_open_no_half_open_no_path_together() {
    for how in [Selecting::Anyhow, Selecting::Stages] {
        let world = cluster();
        let denies: Vec<NetworkPolicy> = [("train", Training), ("infer", Inference), ("shared", Shared)]
            .map(|(namespace, stage)| policies::deny(namespace, stage))
            .into();
        // The other half of everything, in every other namespace: what shows that a half is one.
        let open = |near: &str| {
            let others = PLACES.iter().filter(|place| **place != near);
            let all = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}";
            others.map(|place| policy(place, "open", all)).collect::<Vec<_>>()
        };
        let mix = RefCell::new(BTreeMap::new());
        let strategy = proptest::collection::vec(somebodys(how), 12);
        run(Config::default().cases, &strategy, |written| {
            let mut accepted = denies.clone();
            for (index, mut policy) in written.into_iter().enumerate() {
                policy.metadata.name = Some(format!("other-{index}"));
                let namespace = policy.metadata.namespace.clone().unwrap();
                let staged = ["train", "infer"].contains(&namespace.as_str());
                let half = opens_half(&world, &policy);
                if staged {
                    let kind = if half.is_some() { "refused" } else { "accepted" };
                    *mix.borrow_mut().entry(kind).or_default() += 1;
                    let mut set = denies.clone();
                    set.extend(open(&namespace));
                    set.push(policy.clone());
                    let verdict = &analyse(&world, &set, &[]).namespaces[&namespace];
                    prop_assert_eq!(
                        half.is_some(),
                        *verdict != Isolation::Isolated,
                        "{:?}: {:?}",
                        policy,
                        verdict
                    );
                } else {
                    prop_assert_eq!(half, None);
                }
                if opens_half(&world, &policy).is_none() {
                    accepted.push(policy);
                }
            }
            for (namespace, verdict) in analyse(&world, &accepted, &[]).namespaces {
                prop_assert_eq!(verdict, Isolation::Isolated, "{}", namespace);
            }
            Ok(())
        });
        balanced(&format!("{how:?}, halves"), &mix.into_inner(), &["accepted", "refused"]);
    }
}
