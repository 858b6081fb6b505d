//! The verdicts on a cluster, as the controller publishes them and the command line prints them: which policies count in
//! which mode.
//!
//! Where enforce is on, what is stored is judged and nothing else: the peer that would be closed is open today. In audit
//! and warn, where nothing is written yet, what enforce would write is judged with the rest.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::policies;
use super::reach::{self, Analysis, Place, Provenance, UnmodelledPolicy, Witness};
use super::world::World;
use crate::api::stage::Mode;

/// Judges every stage namespace. `stored` are all NetworkPolicies of the cluster.
pub fn of(world: &World, stored: &[NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> Analysis {
    let mut verdicts = Analysis::default();
    by_mode(world, stored, |desired, counting, of| {
        let analysis = reach::analyse_rendered(world, desired, counting, unmodelled);
        let Analysis { namespaces, findings } = analysis;
        let namespaces = namespaces.into_iter().filter(|(name, _)| of(name));
        verdicts.namespaces.extend(namespaces);
        verdicts
            .findings
            .extend(findings.into_iter().filter(|(name, _)| of(name)));
    });
    verdicts
}

/// Every path behind these verdicts, where a verdict names one: see [`reach::paths::paths`] and
/// [`each_rule_once`].
pub fn paths(
    world: &World,
    stored: &[NetworkPolicy],
    wanted: &dyn Fn(&Provenance, &Provenance) -> bool,
) -> Vec<Witness> {
    let mut found = Vec::new();
    by_mode(world, stored, |desired, counting, of| {
        found.extend(reach::paths::paths(world, desired, counting, of, wanted));
    });
    each_rule_once(found)
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

/// Hands on what is rendered, the policies that count, and for which namespaces they do.
fn by_mode(
    world: &World,
    stored: &[NetworkPolicy],
    mut judge: impl FnMut(&[NetworkPolicy], &[NetworkPolicy], &dyn Fn(&str) -> bool),
) {
    let desired = policies::all(world);
    let staged = || world.namespaces.values().filter(|namespace| namespace.stage.is_some());
    let enforced = |name: &str| world.namespaces.get(name).is_some_and(|ns| ns.mode == Mode::Enforce);
    if staged().any(|namespace| namespace.mode == Mode::Enforce) {
        judge(&desired, stored, &enforced);
    }
    if staged().any(|namespace| namespace.mode != Mode::Enforce) {
        let key = |policy: &NetworkPolicy| (policy.metadata.namespace.clone(), policy.metadata.name.clone());
        let would_be = desired
            .iter()
            .filter(|policy| !enforced(policy.metadata.namespace.as_deref().unwrap_or_default()));
        let all: BTreeMap<_, &NetworkPolicy> = stored
            .iter()
            .chain(would_be)
            .map(|policy| (key(policy), policy))
            .collect();
        let all: Vec<NetworkPolicy> = all.into_values().cloned().collect();
        judge(&desired, &all, &|name| !enforced(name));
    }
}
