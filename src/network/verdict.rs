//! The verdicts on a cluster, as the controller publishes them and the command line prints them: which policies count in
//! which mode.
//!
//! Where enforce is on, what is stored is judged and nothing else: the peer that would be closed is open today. In audit
//! and warn, where nothing is written yet, what enforce would write is judged with the rest.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::policies;
use super::reach::{self, Analysis, UnmodelledPolicy};
use super::world::World;
use crate::api::stage::Mode;

/// Judges every stage namespace. `stored` are all NetworkPolicies of the cluster.
pub fn of(world: &World, stored: &[NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> Analysis {
    let desired = policies::all(world);
    let staged = || world.namespaces.values().filter(|namespace| namespace.stage.is_some());
    let enforced = |name: &str| world.namespaces.get(name).is_some_and(|ns| ns.mode == Mode::Enforce);
    let mut verdicts = Analysis::default();
    if staged().any(|namespace| namespace.mode == Mode::Enforce) {
        let analysis = reach::analyse_rendered(world, &desired, stored, unmodelled);
        take(&mut verdicts, analysis, enforced);
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
        let analysis = reach::analyse_rendered(world, &desired, &all, unmodelled);
        take(&mut verdicts, analysis, |name| !enforced(name));
    }
    verdicts
}

/// Takes over what an analysis says of some namespaces.
fn take(verdicts: &mut Analysis, from: Analysis, of: impl Fn(&str) -> bool) {
    let Analysis { namespaces, findings } = from;
    verdicts
        .namespaces
        .extend(namespaces.into_iter().filter(|(name, _)| of(name)));
    verdicts
        .findings
        .extend(findings.into_iter().filter(|(name, _)| of(name)));
}
