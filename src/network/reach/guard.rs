//! The guard: what a change would open, before it is made.
//!
//! [`opens_half`] looks at one policy alone, so that two halves that come at the same second are both refused;
//! [`would_open`] looks at the whole set, and says what passes after the change that did not before. The first is for the
//! door, the second for whoever watches the set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::world::World;

use super::analysis::{Meeting, Side};
use super::change::{Made, Part, compare, concerned};
use super::map::{Half, Map, Reach, Site};
use super::paths::forbidden;
use super::policy;
use super::{UnmodelledPolicy, Witness};

/// All that a judgement depends on.
#[derive(Clone, Copy, Debug)]
pub struct Set<'s> {
    /// Namespaces, workloads, the organisation's policy.
    pub world: &'s World,
    /// All NetworkPolicies.
    pub policies: &'s [NetworkPolicy],
    /// Policies of kinds that are not modelled.
    pub unmodelled: &'s [UnmodelledPolicy],
}

/// A change of the set.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// A NetworkPolicy is created, or becomes this one.
    Apply(&'c NetworkPolicy),
    /// A NetworkPolicy is deleted.
    Delete {
        /// Its namespace.
        namespace: &'c str,
        /// Its name.
        name: &'c str,
    },
    /// The labels of a Namespace become these; also of one that is created.
    Label {
        /// Its name.
        namespace: &'c str,
        /// All its labels.
        labels: &'c BTreeMap<String, String>,
    },
    /// A ClusterNetworkPolicy is created, or becomes this one.
    ApplyCluster(&'c ClusterNetworkPolicy),
    /// A ClusterNetworkPolicy is deleted.
    DeleteCluster {
        /// Its name.
        name: &'c str,
    },
}

/// What a change opens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opened {
    /// A forbidden path, with a connection that passes and did not before.
    Path(Witness),
    /// A path that is only a possible one: see [`Isolation::Unknown`](super::Isolation::Unknown).
    Perhaps {
        /// A word for a condition.
        reason: &'static str,
        /// For people: one line.
        message: String,
    },
}

/// Half of a forbidden path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedHalf {
    /// `namespace/name` of the policy.
    pub policy: String,
    /// `egress[0].to[1]`; `None` for a policy that cannot be judged.
    pub field: Option<String>,
    /// What it lets through, or why it cannot be judged.
    pub why: String,
}

impl fmt::Display for OpenedHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{} {field} {}", self.policy, self.why),
            None => write!(f, "{} {}", self.policy, self.why),
        }
    }
}

/// Whether a policy opens half of a path that the stage matrix forbids, whatever the other half is and whether it is
/// there: the first such peer. A policy in a namespace of no stage, or of a shared one, opens none: the other half of every
/// path from there is in a stage, and is judged there. A policy that cannot be read is one that opens anything.
///
/// Two policies of which this says nothing open nothing together, as long as the denies are in place.
pub fn opens_half(world: &World, policy: &NetworkPolicy) -> Option<OpenedHalf> {
    let (namespace, name) = policy::identity(policy);
    let told = |field: Option<String>, why: String| OpenedHalf {
        policy: format!("{namespace}/{name}"),
        field,
        why,
    };
    if !world.namespaces.contains_key(namespace) {
        return Some(told(
            None,
            format!("is in namespace {namespace:?}, of which nothing is known"),
        ));
    }
    if let Err(error) = policy::read(policy) {
        return Some(told(None, format!("cannot be read: {error}")));
    }
    let own = Part::of(world, vec![policy], &[], &BTreeSet::from([namespace]));
    own.read(None, |map| half_of(map, namespace, told))
}

/// The first half of a namespace's policies that leads where it must not.
fn half_of(map: &Map<'_>, namespace: &str, told: impl Fn(Option<String>, String) -> OpenedHalf) -> Option<OpenedHalf> {
    let near = map.site(namespace).filter(|near| near.is_staged())?;
    let halves = near.halves.iter().flatten();
    let mut rules = halves.filter_map(|half| match half {
        Half::Rule { rule, reach, .. } => Some((half, rule, reach)),
        Half::Accept(_) | Half::Open | Half::Doubt(_) => None,
    });
    rules.find_map(|(half, rule, reach)| {
        let place = leads_to(map, near, half)?;
        let what = match reach {
            Reach::Pods => "pods",
            Reach::MaybePods | Reach::Outside => "addresses that may be those of pods",
        };
        let why = match rule.direction {
            policy::Direction::Egress => format!("lets pods of {namespace} reach {what} in {place}"),
            policy::Direction::Ingress => format!("lets {what} in {place} reach pods of {namespace}"),
        };
        Some(told(Some(rule.field()), why))
    })
}

/// Where a half leads that it must not.
fn leads_to(map: &Map<'_>, near: &Site<'_>, half: &Half<'_>) -> Option<String> {
    if half.is_outside() {
        return None;
    }
    let mut there = map.candidates(half);
    let far = there.find(|far| forbidden(near.stage, far.stage) && half.meets(far) && !map.permitted(near, half, far));
    if let Some(far) = far {
        let stage = far.stage.map(|stage| format!(", which is of stage {stage}"));
        return Some(format!("{}{}", far.name, stage.unwrap_or_default()));
    }
    let labels = map.later(half).filter(|_| !map.permits.cover(near, half, None))?;
    let text = labels.iter().map(|(key, value)| format!("{key}: {value}"));
    let text: Vec<String> = text.collect();
    Some(format!("a namespace created later with labels {{{}}}", text.join(", ")))
}

/// Whether a change opens a forbidden path that was not open before: an example, certain ones before possible ones. What
/// only becomes forbidden counts too: a stage that a Namespace is given. Such a Namespace is judged with its deny, which
/// the controller writes at once.
///
/// Only what the change can touch is read: paths begin or end in its namespace. A ClusterNetworkPolicy can touch all.
pub fn would_open(now: Set<'_>, change: Change<'_>) -> Option<Opened> {
    let made = Made::of(now, change);
    let Some(namespace) = made.namespace else {
        let world = &made.world;
        return opened(now, Set { world, ..now }).into_iter().next();
    };
    let before: Vec<&NetworkPolicy> = now.policies.iter().collect();
    let after = made.policies(now);
    let concerned = concerned(&made.world, &after, now.unmodelled, namespace);
    let before = Part::of(now.world, before, now.unmodelled, &concerned);
    let after = Part::of(&made.world, after, now.unmodelled, &concerned);
    opened_around(&before, &after, namespace, Some(&concerned))
}

/// The first path from or to a namespace that is open now and was not before; `only` names the namespaces that are looked
/// at where that is not all.
pub(super) fn opened_around(
    before: &Part<'_>,
    now: &Part<'_>,
    namespace: &str,
    only: Option<&BTreeSet<&str>>,
) -> Option<Opened> {
    let mut doubt = None;
    let path = compare(before, now, only, |difference, map| {
        let near = map.site(namespace)?;
        let mut path = None;
        let _ = map.pairs(near, &mut |own, theirs| {
            match (difference.opened(own, theirs), &doubt) {
                (Meeting::Path(witness), _) => {
                    path = Some(Opened::Path(*witness));
                    return ControlFlow::Break(());
                }
                (Meeting::Perhaps { reason, message }, None) => doubt = Some(Opened::Perhaps { reason, message }),
                (Meeting::Perhaps { .. } | Meeting::Apart, _) => {}
            }
            ControlFlow::Continue(())
        });
        path
    });
    path.or(doubt)
}

/// Every forbidden path of one set that was not open in another: an example for each two rules that make one, sorted.
pub fn opened(before: Set<'_>, now: Set<'_>) -> Vec<Opened> {
    let mut all = Vec::new();
    compare(&Part::whole(before), &Part::whole(now), None, |difference, map| {
        for near in map.sites.iter().filter(|site| site.is_staged()) {
            let _ = map.pairs(near, &mut |own, theirs| {
                if is_first_look(own, theirs) {
                    match difference.opened(own, theirs) {
                        Meeting::Apart => {}
                        Meeting::Path(witness) => all.push(Opened::Path(*witness)),
                        Meeting::Perhaps { reason, message } => all.push(Opened::Perhaps { reason, message }),
                    }
                }
                ControlFlow::Continue(())
            });
        }
    });
    all.sort();
    all.dedup();
    all
}

/// A path between two stages is met from both of them.
fn is_first_look(own: Side<'_, '_>, theirs: Side<'_, '_>) -> bool {
    own.direction == policy::Direction::Egress || !theirs.site.is_some_and(Site::is_staged)
}
