//! The verdicts on a cluster, as the controller publishes them and the command line prints them: which policies count in
//! which mode.
//!
//! Where enforce is on, what is stored is judged and nothing else: the peer that would be closed is open today. In audit
//! and warn, where nothing is written yet, what enforce would write is judged with the rest.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::policies;
use super::reach::relays::Chains;
use super::reach::{self, Analysis, Place, Provenance, Sides, UnmodelledPolicy, Witness};
use super::world::World;
use crate::api::stage::Mode;

/// Judges every stage namespace. `stored` are all NetworkPolicies of the cluster.
pub fn of<P: Borrow<NetworkPolicy>>(world: &World, stored: &[P], unmodelled: &[UnmodelledPolicy]) -> Analysis {
    judged(world, &policies::all(world), stored, unmodelled)
}

fn judged<P: Borrow<NetworkPolicy>>(
    world: &World,
    desired: &[NetworkPolicy],
    stored: &[P],
    unmodelled: &[UnmodelledPolicy],
) -> Analysis {
    let mut verdicts = Analysis::default();
    by_mode(world, desired, stored, |_, desired, counting, of| {
        let found = reach::analyse_rendered(world, desired, counting, unmodelled);
        take(&mut verdicts, found, of);
    });
    verdicts
}

/// Takes over what an analysis says of some namespaces.
fn take(verdicts: &mut Analysis, found: Analysis, of: &dyn Fn(&str) -> bool) {
    let Analysis {
        namespaces,
        mut findings,
    } = found;
    for (name, isolation) in namespaces.into_iter().filter(|(name, _)| of(name)) {
        match findings.remove(&name) {
            Some(found) => verdicts.findings.insert(name.clone(), found),
            None => verdicts.findings.remove(&name),
        };
        verdicts.namespaces.insert(name, isolation);
    }
}

/// The verdicts on a world, which follow the NetworkPolicies: what a change cannot touch is not judged again.
#[derive(Debug)]
pub struct Standing {
    world: World,
    unmodelled: Vec<UnmodelledPolicy>,
    desired: Vec<NetworkPolicy>,
    /// Of the policies that count for namespaces in enforce, and for the others.
    sides: [Option<Sides>; 2],
    verdicts: Analysis,
}

impl Standing {
    /// Judges everything, as [`of`] does.
    pub fn new<P: Borrow<NetworkPolicy>>(world: World, stored: &[P], unmodelled: Vec<UnmodelledPolicy>) -> Self {
        let desired = policies::all(&world);
        let (mut sides, mut verdicts) = ([None, None], Analysis::default());
        by_mode(&world, &desired, stored, |part, desired, counting, of| {
            let found = reach::analyse_rendered(&world, desired, counting, &unmodelled);
            take(&mut verdicts, found, of);
            sides[part as usize] = Some(Sides::new(&world, counting, &unmodelled));
        });
        Self {
            world,
            unmodelled,
            desired,
            sides,
            verdicts,
        }
    }

    /// Whether nothing but NetworkPolicies can have changed.
    pub fn is_of(&self, world: &World, unmodelled: &[UnmodelledPolicy]) -> bool {
        self.unmodelled == unmodelled && self.world == *world
    }

    /// Follows: `stored` are all NetworkPolicies now, of which those that are new, changed or gone are in `touched`.
    pub fn follow<P: Borrow<NetworkPolicy>>(&mut self, stored: &[P], touched: &BTreeSet<String>) {
        let (world, unmodelled) = (&self.world, &self.unmodelled);
        let (sides, verdicts) = (&mut self.sides, &mut self.verdicts);
        by_mode(world, &self.desired, stored, |part, desired, counting, of| {
            let found = match &mut sides[part as usize] {
                Some(sides) => {
                    sides.follow(world, counting, touched);
                    reach::analyse_again(world, desired, counting, unmodelled, sides, touched)
                }
                None => reach::analyse_rendered(world, desired, counting, unmodelled),
            };
            take(verdicts, found, of);
        });
    }

    /// What is known now.
    pub const fn verdicts(&self) -> &Analysis {
        &self.verdicts
    }
}

fn namespace(policy: &NetworkPolicy) -> &str {
    policy.metadata.namespace.as_deref().unwrap_or_default()
}

/// Every path behind these verdicts, where a verdict names one: see [`reach::paths::paths`] and
/// [`each_rule_once`].
pub fn paths(
    world: &World,
    stored: &[NetworkPolicy],
    wanted: &dyn Fn(&Provenance, &Provenance) -> bool,
) -> Vec<Witness> {
    let desired = policies::all(world);
    let mut found = Vec::new();
    by_mode(world, &desired, stored, |_, desired, counting, of| {
        found.extend(reach::paths::paths(world, desired, counting, of, wanted));
    });
    each_rule_once(found)
}

/// The chains through relays from one stage to another, of the policies that count: see [`reach::relays::chains`].
pub fn relays<P: Borrow<NetworkPolicy>>(world: &World, stored: &[P], unmodelled: &[UnmodelledPolicy]) -> Chains {
    let mut all = Chains::default();
    by_mode(world, &policies::all(world), stored, |_, desired, counting, of| {
        let found = reach::relays::chains(world, desired, counting, unmodelled, of);
        all.cut |= found.cut;
        all.found.extend(found.found);
    });
    all.sort();
    all
}

/// One path for each two rules that make one, the first. What lets through by default is one rule, wherever it does.
pub fn each_rule_once(paths: impl IntoIterator<Item = Witness>) -> Vec<Witness> {
    let rule = |provenance: &Provenance| match provenance {
        Provenance::Rule { .. } => Some(provenance.clone()),
        Provenance::NotIsolated { .. } => None,
    };
    // An example that exists says more than one that could.
    let later = |witness: &Witness| [&witness.from, &witness.to].map(|end| matches!(end.namespace, Place::Later(_)));
    let mut paths: Vec<Witness> = paths.into_iter().collect();
    paths.sort_by_key(later);
    let mut found: BTreeMap<[Option<Provenance>; 2], Witness> = BTreeMap::new();
    for witness in paths {
        let rules = [rule(&witness.egress), rule(&witness.ingress)];
        found.entry(rules).or_insert(witness);
    }
    found.into_values().collect()
}

/// Namespaces for which the same policies count.
#[derive(Clone, Copy, Debug)]
enum Part {
    Enforced,
    Others,
}

/// Hands on what is rendered, the policies that count, and for which namespaces they do.
fn by_mode<P: Borrow<NetworkPolicy>>(
    world: &World,
    desired: &[NetworkPolicy],
    stored: &[P],
    mut judge: impl FnMut(Part, &[&NetworkPolicy], &[&NetworkPolicy], &dyn Fn(&str) -> bool),
) {
    let desired: Vec<&NetworkPolicy> = desired.iter().collect();
    let stored: Vec<&NetworkPolicy> = stored.iter().map(Borrow::borrow).collect();
    let staged = || world.namespaces.values().filter(|namespace| namespace.stage.is_some());
    let enforced = |name: &str| world.namespaces.get(name).is_some_and(|ns| ns.mode == Mode::Enforce);
    if staged().any(|namespace| namespace.mode == Mode::Enforce) {
        judge(Part::Enforced, &desired, &stored, &enforced);
    }
    if staged().any(|namespace| namespace.mode != Mode::Enforce) {
        let key = |policy: &NetworkPolicy| (policy.metadata.namespace.clone(), policy.metadata.name.clone());
        let would_be = desired.iter().filter(|policy| !enforced(namespace(policy)));
        let all: BTreeMap<_, &NetworkPolicy> = stored
            .iter()
            .chain(would_be)
            .map(|policy| (key(policy), *policy))
            .collect();
        let all: Vec<&NetworkPolicy> = all.into_values().collect();
        judge(Part::Others, &desired, &all, &|name| !enforced(name));
    }
}
