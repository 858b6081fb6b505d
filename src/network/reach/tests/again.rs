//! What follows a change says the same as what looks at everything anew.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;

use super::brute::{Selecting, cases, cluster};
use super::guard::{Made, balanced, changes};
use super::tiers_random::runner;
use crate::api::stage::Mode;
use crate::api::stage::NamespaceStage::{Evaluation, Inference, Training};
use crate::network::policies;
use crate::network::reach::UnmodelledPolicy;
use crate::network::reach::around::{Around, Sides};
use crate::network::testkit::policy;
use crate::network::verdict::{self, Standing};
use crate::network::world::World;

/// The usual places, and others that only meet some of them.
pub(super) fn wide(modes: &[bool]) -> (World, Vec<NetworkPolicy>) {
    let mut world = cluster();
    world
        .stage("train-2", Training)
        .stage("infer-2", Inference)
        .stage("eval", Evaluation);
    let names: Vec<String> = world.namespaces.keys().cloned().collect();
    for (name, audits) in names.iter().zip(modes) {
        if let Some(namespace) = world.namespaces.get_mut(name) {
            namespace.mode = if *audits { Mode::Audit } else { Mode::Enforce };
        }
    }
    let mut stored: Vec<NetworkPolicy> = [("train-2", Training), ("infer-2", Inference), ("eval", Evaluation)]
        .map(|(name, stage)| policies::deny(name, stage))
        .into();
    let out = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
               {kubernetes.io/metadata.name: infer}}}]}]}";
    stored.push(policy("train-2", "out", out));
    stored.push(policy(
        "infer-2",
        "own",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
    ));
    (world, stored)
}

#[test]
fn after_every_change_the_verdicts_are_those_of_a_look_at_everything() {
    let (mix, moves) = (RefCell::new(BTreeMap::new()), RefCell::new(BTreeMap::new()));
    for how in [Selecting::Anyhow, Selecting::Stages] {
        let modes = proptest::collection::vec(proptest::bool::weighted(0.2), 8);
        let others = proptest::option::weighted(0.1, proptest::sample::select(vec!["infer", "infer-2"]));
        let drawn = (changes(how), cases(how), modes, others);
        let outcome = runner(100).run(&drawn, |((all, made), later, modes, other)| {
            let (world, fixed) = wide(&modes);
            let unmodelled: Vec<UnmodelledPolicy> = other
                .map(|namespace| UnmodelledPolicy {
                    namespace: Some(namespace.to_owned()),
                    kind: "CiliumNetworkPolicy".to_owned(),
                })
                .into_iter()
                .collect();
            let first: Vec<NetworkPolicy> = fixed.iter().cloned().chain(all.clone()).collect();
            let mut sets = vec![first];
            if !matches!(made, Made::Label(..)) {
                let (_, changed) = made.apply(&world, &all);
                sets.push(fixed.iter().cloned().chain(changed).collect());
            }
            // One after the other, policies of another set come in.
            for policy in later.into_iter().take(3) {
                let mut next = sets[sets.len() - 1].clone();
                let same = |known: &NetworkPolicy| {
                    (&known.metadata.namespace, &known.metadata.name)
                        == (&policy.metadata.namespace, &policy.metadata.name)
                };
                next.retain(|known| !same(known));
                next.push(policy);
                sets.push(next);
            }
            let mut standing = Standing::new(world.clone(), &sets[0], unmodelled.clone());
            prop_assert_eq!(standing.verdicts(), &verdict::of(&world, &sets[0], &unmodelled));
            for both in sets.windows(2) {
                let touched = touched(&both[0], &both[1]);
                let before = standing.verdicts().clone();
                standing.follow(&both[1], &touched);
                prop_assert_eq!(
                    standing.verdicts(),
                    &verdict::of(&world, &both[1], &unmodelled),
                    "{:?}",
                    touched
                );
                let moved = if before == *standing.verdicts() {
                    "nothing moved"
                } else {
                    "moved"
                };
                *moves.borrow_mut().entry(moved).or_default() += 1;
                let stored: Vec<&NetworkPolicy> = both[1].iter().collect();
                let sides = Sides::new(&world, &stored, &unmodelled);
                let around = Around::of(&world, &sides, &touched);
                let other = |name: &&str| !touched.contains(*name);
                let others = around.is_none_or(|around| around.judged.iter().any(other));
                let kind = if others { "others judged too" } else { "judged alone" };
                *mix.borrow_mut().entry(kind).or_default() += 1;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
    }
    balanced("again", &mix.into_inner(), &["others judged too", "judged alone"]);
    balanced("again", &moves.into_inner(), &["moved"]);
}

fn touched(before: &[NetworkPolicy], now: &[NetworkPolicy]) -> BTreeSet<String> {
    let gone = before.iter().filter(|policy| !now.contains(policy));
    let new = now.iter().filter(|policy| !before.contains(policy));
    gone.chain(new)
        .filter_map(|policy| policy.metadata.namespace.clone())
        .collect()
}

#[test]
fn a_policy_that_cannot_be_read_is_followed_too() {
    let (world, mut stored) = wide(&[]);
    stored.push(policies::deny("infer", Inference));
    let mut standing = Standing::new(world.clone(), &stored, Vec::new());
    let touched = |name: &str| BTreeSet::from([name.to_owned()]);
    let broken = "{podSelector: {}, ingress: [{ports: [{port: http, endPort: 99}], from: [{podSelector: {}}]}]}";
    stored.push(policy("infer", "broken", broken));
    standing.follow(&stored, &touched("infer"));
    assert_eq!(standing.verdicts(), &verdict::of(&world, &stored, &[]));
    // It stays what it is when something else changes, which may lead there.
    let reach = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
                 {kubernetes.io/metadata.name: infer}}}]}]}";
    stored.push(policy("eval", "reach", reach));
    standing.follow(&stored, &touched("eval"));
    assert_eq!(standing.verdicts(), &verdict::of(&world, &stored, &[]));
    stored.retain(|policy| policy.metadata.name.as_deref() != Some("broken"));
    standing.follow(&stored, &touched("infer"));
    assert_eq!(standing.verdicts(), &verdict::of(&world, &stored, &[]));
}

/// A single address of an API server is no pod; a network that the admin names for them may hold some.
#[test]
fn addresses_that_may_be_those_of_pods_are_followed() {
    for cidr in ["10.96.0.0/24", "10.96.0.1/32"] {
        let (mut world, mut stored) = wide(&[]);
        world.policy(&format!("clusterCIDRs: [10.0.0.0/8]\napiServer: {{cidrs: [{cidr}]}}"));
        stored.push(policies::deny("infer", Inference));
        let out =
            format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}");
        stored.push(policy("infer", "out", &out));
        let mut standing = Standing::new(world.clone(), &stored, Vec::new());
        let into = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: \
                    infer}}}]}]}";
        stored.push(policy("eval", "into", into));
        standing.follow(&stored, &BTreeSet::from(["eval".to_owned()]));
        assert_eq!(standing.verdicts(), &verdict::of(&world, &stored, &[]), "{cidr}");
    }
}
