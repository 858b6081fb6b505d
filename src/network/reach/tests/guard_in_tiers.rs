//! The guard where ClusterNetworkPolicies are in force, against the second opinion: it misses nothing, and what it calls
//! new did not pass before. Whether more was added to what passed already it does not know, and says so.

use std::cell::RefCell;
use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::brute::{Selecting, cluster, later};
use super::guard::{Made, balanced, changes};
use super::selectors::universe;
use super::tiers_naive::Naive;
use super::tiers_random::{Style, brute, cluster_policies, holds, read, runner};
use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::policies;
use crate::network::reach::guard::{Change, Opened, Set, would_open};
use crate::network::testkit::{Labels, policy};
use crate::network::world::World;

/// One set, and what brute force says of it: whether a path may be there, and whether one surely is.
struct Seen<'s> {
    namespaces: BTreeMap<String, Labels>,
    policies: &'s [NetworkPolicy],
    of_cluster: &'s [Value],
}

impl<'s> Seen<'s> {
    fn new(world: &World, policies: &'s [NetworkPolicy], of_cluster: &'s [Value]) -> Self {
        let known = world.namespaces.iter();
        let mut namespaces: BTreeMap<String, Labels> = known
            .map(|(name, found)| (name.clone(), found.labels.clone()))
            .collect();
        let later = later(&namespaces);
        namespaces.extend(later);
        Self {
            namespaces,
            policies,
            of_cluster,
        }
    }

    fn paths(&self, near: &str, pods: &[Labels]) -> (bool, bool) {
        let mut naive = Naive::new(&self.namespaces, self.policies, self.of_cluster);
        let (may, certain) = brute(&naive, pods, near, Style::Clear, &mut 0);
        naive.blocks = |block, _| block.cidr.starts_with("10.");
        let possible = may || certain || brute(&naive, pods, near, Style::Clear, &mut 0).0;
        (possible, certain)
    }
}

#[test]
fn where_tiers_are_in_force_nothing_that_opens_is_missed() {
    let mut world = cluster();
    world.namespaces.retain(|_, namespace| namespace.stage.is_some());
    let pods = universe();
    let mix = RefCell::new(BTreeMap::new());
    let drawn = (changes(Selecting::Stages), cluster_policies(Style::Clear));
    let outcome = runner(20).run(&drawn, |((all, made), of_cluster)| {
        let near = made.namespace();
        if matches!(made, Made::Label(..)) || !["train", "infer"].contains(&near) {
            return Ok(());
        }
        let mut world = world.clone();
        world.cluster_policies = read(&of_cluster);
        let (after, all_after) = made.apply(&world, &all);
        let set = Set {
            world: &world,
            policies: &all,
            unmodelled: &[],
        };
        let found = would_open(set, made.change());
        let (before, now) = (
            Seen::new(&world, &all, &of_cluster),
            Seen::new(&after, &all_after, &of_cluster),
        );
        let ((was_possible, _), (possible, certain)) = (before.paths(near, &pods), now.paths(near, &pods));
        prop_assert_eq!(found.is_some(), possible, "{:?}: {:?}", made, found);
        if certain && !was_possible {
            prop_assert!(matches!(found, Some(Opened::Path(_))), "{:?}: {:?}", made, found);
        }
        let kind = match &found {
            Some(Opened::Path(witness)) => {
                let passes = |seen: &Seen<'_>| holds(&seen.namespaces, seen.policies, seen.of_cluster, witness);
                prop_assert!(passes(&now), "{} does not pass", witness);
                prop_assert!(!passes(&before), "{} passed before", witness);
                "path"
            }
            Some(Opened::Perhaps { .. }) => "perhaps",
            None => "nothing",
        };
        *mix.borrow_mut().entry(kind).or_default() += 1;
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    balanced("in tiers, opened", &mix.into_inner(), &["perhaps", "nothing"]);
}

#[test]
fn a_cluster_network_policy_that_comes_or_goes_may_open_a_path() {
    let mut world = cluster();
    world.namespaces.retain(|_, namespace| namespace.stage.is_some());
    let tier = |action: &str| {
        json!({"tier": "Admin", "priority": 10, "subject": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "infer"}}},
               "ingress": [{"action": action, "from": [{"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "train"}}}]}]})
    };
    let [deny, accept] = ["Deny", "Accept"].map(|action| ClusterNetworkPolicy::read("wall", tier(action)));
    let to = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: infer}}}";
    let half = policy(
        "train",
        "out",
        &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{to}]}}]}}"),
    );
    let denies = ["train", "infer"].map(|name| policies::deny(name, world.stage_of(name).unwrap()));
    let stored: Vec<NetworkPolicy> = denies.into_iter().chain([half]).collect();
    let opens = |before: &[ClusterNetworkPolicy], stored: &[NetworkPolicy], change: Change<'_>| {
        let mut world = world.clone();
        world.cluster_policies = before.to_vec();
        let now = Set {
            world: &world,
            policies: stored,
            unmodelled: &[],
        };
        matches!(would_open(now, change), Some(Opened::Path(_)))
    };
    // The other half is an Accept of the cluster; a deny, or the same once more, opens nothing.
    assert!(opens(&[], &stored, Change::ApplyCluster(&accept)));
    assert!(!opens(&[], &stored, Change::ApplyCluster(&deny)));
    assert!(!opens(
        std::slice::from_ref(&accept),
        &stored,
        Change::ApplyCluster(&accept)
    ));
    assert!(
        opens(std::slice::from_ref(&deny), &stored, Change::ApplyCluster(&accept)),
        "it becomes this one"
    );
    // Both halves are there, and only the deny of the cluster keeps them apart.
    let from = to.replace("infer", "train");
    let other = policy(
        "infer",
        "in",
        &format!("{{podSelector: {{}}, ingress: [{{from: [{from}]}}]}}"),
    );
    let both: Vec<NetworkPolicy> = stored.into_iter().chain([other]).collect();
    assert!(opens(
        std::slice::from_ref(&deny),
        &both,
        Change::DeleteCluster { name: "wall" }
    ));
    assert!(!opens(
        std::slice::from_ref(&deny),
        &both,
        Change::DeleteCluster { name: "other" }
    ));
}
