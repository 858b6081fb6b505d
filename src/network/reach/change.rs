//! A change of the set, and both sets as far as it can touch them: a path that it opens begins or ends in its namespace, so
//! that only the policies of the namespaces it leads to are read.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::policies;
use crate::network::world::{Namespace, World};

use super::UnmodelledPolicy;
use super::around::{Around, Sides};
use super::difference::Difference;
use super::guard::{Change, Set};
use super::map::{Book, Map};
use super::paths::forbidden;
use super::permits::Permits;
use super::policy;

/// The policies of some namespaces.
pub(super) struct Part<'s> {
    world: &'s World,
    policies: Vec<&'s NetworkPolicy>,
    unmodelled: &'s [UnmodelledPolicy],
    /// What we render there.
    desired: Vec<NetworkPolicy>,
}

impl<'s> Part<'s> {
    pub(super) fn of(
        world: &'s World,
        mut policies: Vec<&'s NetworkPolicy>,
        unmodelled: &'s [UnmodelledPolicy],
        namespaces: &BTreeSet<&str>,
    ) -> Self {
        policies.retain(|policy| namespaces.contains(policy::identity(policy).0));
        Self {
            world,
            policies,
            unmodelled,
            desired: policies::of(world, namespaces.iter().copied()),
        }
    }

    pub(super) fn whole(set: Set<'s>) -> Self {
        Self {
            world: set.world,
            policies: set.policies.iter().collect(),
            unmodelled: set.unmodelled,
            desired: policies::all(set.world),
        }
    }

    /// Reads it, and hands the map on; `only` names the namespaces that are on it where that is not all.
    pub(super) fn read<T>(&self, only: Option<&BTreeSet<&str>>, judge: impl for<'x> FnOnce(&'x Map<'x>) -> T) -> T {
        let dns = self.world.dns();
        let desired: Vec<&NetworkPolicy> = self.desired.iter().collect();
        let book = Book::read(self.world, &self.policies, self.unmodelled, &desired);
        let permits = Permits::new(self.world, &book, &desired, &dns);
        judge(&Map::new(self.world, &book, permits, only))
    }
}

/// Reads both, and hands the difference and the map of the second on.
pub(super) fn compare<T>(
    before: &Part<'_>,
    now: &Part<'_>,
    only: Option<&BTreeSet<&str>>,
    judge: impl for<'x> FnOnce(&Difference<'x>, &'x Map<'x>) -> T,
) -> T {
    before.read(only, |map_before| {
        now.read(only, |map_now| judge(&Difference::new(map_before, map_now), map_now))
    })
}

/// Beyond so many namespaces at the other end it is worth asking first which of them let anything through.
const MANY: usize = 12;

/// The namespaces that are to be read to know what can be between one and the others: those to which its own policies
/// lead and must not. Of many, those that may let it through.
pub(super) fn concerned<'w>(
    world: &'w World,
    policies: &[&'w NetworkPolicy],
    unmodelled: &'w [UnmodelledPolicy],
    namespace: &'w str,
) -> BTreeSet<&'w str> {
    let own = Part::of(world, policies.to_vec(), unmodelled, &BTreeSet::from([namespace]));
    let names: BTreeSet<String> = own.read(None, |map| far_of(map, namespace));
    let mut far: BTreeSet<&str> = world.namespaces.keys().map(String::as_str).collect();
    far.retain(|name| names.contains(*name));
    if far.len() > MANY {
        let sides = Sides::new(world, policies, unmodelled);
        let touched = BTreeSet::from([namespace.to_owned()]);
        if let Some(around) = Around::of(world, &sides, &touched) {
            far.retain(|name| around.seen.contains(name));
        }
    }
    far.insert(namespace);
    far
}

/// The namespaces to which the policies of one lead and must not.
fn far_of(map: &Map<'_>, namespace: &str) -> BTreeSet<String> {
    let Some(near) = map.site(namespace) else {
        return BTreeSet::new();
    };
    let halves = near.halves.iter().flatten().filter(|half| !half.is_outside());
    let far = halves.flat_map(|half| {
        let sites = map.candidates(half);
        sites.filter(move |far| forbidden(near.stage, far.stage) && half.meets(far) && !map.permitted(near, half, far))
    });
    far.map(|far| far.name.to_owned()).collect()
}

/// A change as it is made.
pub(super) struct Made<'s> {
    /// Where; `None` for everywhere.
    pub namespace: Option<&'s str>,
    /// After it.
    pub world: Cow<'s, World>,
    /// The name of the policy that goes, or is replaced.
    gone: Option<&'s str>,
    new: Option<Cow<'s, NetworkPolicy>>,
}

impl<'s> Made<'s> {
    pub(super) fn of(now: Set<'s>, change: Change<'s>) -> Self {
        match change {
            Change::Apply(policy) => {
                let (namespace, name) = policy::identity(policy);
                Self {
                    namespace: Some(namespace),
                    world: Cow::Borrowed(now.world),
                    gone: Some(name),
                    new: Some(Cow::Borrowed(policy)),
                }
            }
            Change::Delete { namespace, name } => Self {
                namespace: Some(namespace),
                world: Cow::Borrowed(now.world),
                gone: Some(name),
                new: None,
            },
            Change::Label { namespace, labels } => {
                let stage = labels
                    .get(names::STAGE_LABEL)
                    .and_then(|stage| NamespaceStage::parse(stage));
                let mut world = now.world.clone();
                let was = world.stage_of(namespace);
                match world.namespaces.entry(namespace.to_owned()) {
                    Entry::Occupied(mut known) => {
                        let known = known.get_mut();
                        known.labels.clone_from(labels);
                        known.stage = stage;
                    }
                    Entry::Vacant(free) => {
                        free.insert(Namespace {
                            name: namespace.to_owned(),
                            labels: labels.clone(),
                            stage,
                            ..Namespace::default()
                        });
                    }
                }
                let given = stage.filter(|_| was != stage);
                Self {
                    namespace: Some(namespace),
                    world: Cow::Owned(world),
                    gone: given.map(|_| names::DENY_POLICY),
                    new: given.map(|stage| Cow::Owned(policies::deny(namespace, stage))),
                }
            }
            Change::ApplyCluster(policy) => Self::of_cluster(now, &policy.name, Some(policy)),
            Change::DeleteCluster { name } => Self::of_cluster(now, name, None),
        }
    }

    fn of_cluster(now: Set<'s>, name: &str, new: Option<&ClusterNetworkPolicy>) -> Self {
        let mut world = now.world.clone();
        world.cluster_policies.retain(|known| known.name != name);
        world.cluster_policies.extend(new.cloned());
        Self {
            namespace: None,
            world: Cow::Owned(world),
            gone: None,
            new: None,
        }
    }

    /// The policies after it.
    pub(super) fn policies<'p>(&'p self, now: Set<'p>) -> Vec<&'p NetworkPolicy> {
        let gone = self.namespace.zip(self.gone);
        let others = now
            .policies
            .iter()
            .filter(|known| Some(policy::identity(known)) != gone);
        others.chain(self.new.as_deref()).collect()
    }
}
