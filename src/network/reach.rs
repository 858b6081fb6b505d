//! The exact analysis: for any pod that could ever exist, with any labels, is there a path between two stages, or
//! between a stage and something the policy does not name? Over *all* policies, those of others included.
//!
//! NetworkPolicy only adds, so a path exists exactly when a rule of the one end and a rule of the other fit together:
//! the source pod matches both, the target pod matches both, and they have a port in common. Each of these is one look
//! for each label key ([`selector`]); the pod that is found on the way is the witness. ClusterNetworkPolicies may deny
//! and accept before and after that ([`tiers`]): then the pair of pods is searched for ([`pairs`]).
//!
//! Chains of permitted connections, through pods that pass on what they get, are a report beside the verdicts ([`relays`]).
//!
//! Not seen here, and said elsewhere: host networks, secondary interfaces, traffic from a pod's own node, ICMP, requests
//! through the API server, what a store keeps for whoever fetches it, relays in namespaces that do not exist yet.

mod analysis;
mod around;
mod change;
mod cidr;
mod classes;
pub mod concrete;
mod difference;
mod ends;
pub mod explain;
pub mod guard;
mod isolated;
mod map;
mod pairs;
pub mod paths;
mod permits;
mod policy;
pub mod relays;
mod satisfy;
mod selector;
pub mod settle;
mod text;
mod tiers;
mod waived;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::network::Protocol;
use crate::compliance::finding::Finding;

use self::around::Around;
pub use self::around::Sides;
pub use self::isolated::{Openings, openings_of};
use self::map::{Book, Map, Site};
use self::permits::Permits;
use super::policies;
use super::world::World;

/// A policy that this release cannot read: another kind that the cluster serves. It makes verdicts `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnmodelledPolicy {
    /// Its namespace; `None` for one of the whole cluster.
    pub namespace: Option<String>,
    /// Its kind, for instance `CiliumNetworkPolicy`.
    pub kind: String,
}

/// The verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    /// One for each namespace of stage training, evaluation or inference.
    pub namespaces: BTreeMap<String, Isolation>,
    /// What is worth mending although it is no path to a pod: policies of others that open a stage to addresses outside
    /// the cluster. By namespace, gravest first; no entry where there is none.
    pub findings: BTreeMap<String, Vec<Finding>>,
}

/// Whether a namespace is isolated. Ordered from the best to the worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// No forbidden path, for any pod that could exist.
    Isolated,
    /// It cannot be told from what is known.
    Unknown {
        /// A word for a condition: `CniDependent`, `UnmodelledPolicy`, `UnreadablePolicy` or `TooComplex`; with
        /// ClusterNetworkPolicies also `OrderUnspecified` and `AddressDependent`.
        reason: &'static str,
        /// For people: one line.
        message: String,
    },
    /// A forbidden path, with an example.
    PathExists(Witness),
}

/// A forbidden path: two pods that could exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Witness {
    /// The pod that connects.
    pub from: End,
    /// The pod that is reached.
    pub to: End,
    /// The protocol.
    pub protocol: Protocol,
    /// The first and the last port of a range that is open.
    pub ports: (u16, u16),
    /// What lets it out.
    pub egress: Provenance,
    /// What lets it in.
    pub ingress: Provenance,
}

/// A pod that could exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Its namespace.
    pub namespace: Place,
    /// Its labels: few that make the path.
    pub labels: BTreeMap<String, String>,
}

/// A namespace that exists, or could.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It exists.
    Namespace(String),
    /// It does not exist yet; these labels on a namespace created later are enough.
    Later(BTreeMap<String, String>),
}

/// What permits one half of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provenance {
    /// A peer of a rule.
    Rule {
        /// `namespace/name` of the policy, or `ClusterNetworkPolicy name`.
        policy: String,
        /// `egress[0].to[1]`; without the second part where the rule names no peer.
        field: String,
    },
    /// No policy isolates the pod in this direction.
    NotIsolated {
        /// The pod's namespace; `None` for one created later.
        namespace: Option<String>,
    },
}

/// Judges every stage namespace. `policies` are all NetworkPolicies of the cluster: those stored, and in audit mode
/// also those that would be written. Their order is of no account. ClusterNetworkPolicies are part of the world.
pub fn analyse(world: &World, policies: &[NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> Analysis {
    let desired = policies::all(world);
    let (desired, policies): (Vec<_>, Vec<_>) = (desired.iter().collect(), policies.iter().collect());
    analyse_rendered(world, &desired, &policies, unmodelled)
}

/// As [`analyse`], for who has rendered the world already: `desired` is [`policies::all`] of the same world, and what
/// it opens is permitted. Rendering takes longer than judging.
pub fn analyse_rendered(
    world: &World,
    desired: &[&NetworkPolicy],
    policies: &[&NetworkPolicy],
    unmodelled: &[UnmodelledPolicy],
) -> Analysis {
    judge(world, desired, policies, unmodelled, None)
}

/// Judges again what policies that changed in `touched` can touch, and perhaps more; everything else is as it was. World
/// and unmodelled policies are the same as before, and the sides have followed.
pub fn analyse_again(
    world: &World,
    desired: &[&NetworkPolicy],
    policies: &[&NetworkPolicy],
    unmodelled: &[UnmodelledPolicy],
    sides: &Sides,
    touched: &BTreeSet<String>,
) -> Analysis {
    let Some(around) = Around::of(world, sides, touched) else {
        return analyse_rendered(world, desired, policies, unmodelled);
    };
    let seen: HashSet<&str> = around.seen.iter().copied().collect();
    let seen = |policy: &&NetworkPolicy| seen.contains(policy::identity(policy).0);
    let [desired, policies] = [desired, policies].map(|all| all.iter().copied().filter(seen).collect::<Vec<_>>());
    judge(world, &desired, &policies, unmodelled, Some(&around))
}

fn judge(
    world: &World,
    desired: &[&NetworkPolicy],
    policies: &[&NetworkPolicy],
    unmodelled: &[UnmodelledPolicy],
    around: Option<&Around<'_>>,
) -> Analysis {
    let dns = world.dns();
    let book = Book::read_around(world, policies, unmodelled, desired, around);
    let permits = Permits::new(world, &book, desired, &dns);
    let map = Map::new(world, &book, permits, around.map(|around| &around.seen));
    let mut analysis = Analysis::default();
    let judged = |site: &&Site<'_>| around.is_none_or(|around| around.judged.contains(site.name));
    for site in map.sites.iter().filter(judged).filter(|site| site.is_staged()) {
        analysis.namespaces.insert(site.name.to_owned(), map.judge(site));
        let findings = map.undeclared(site);
        if !findings.is_empty() {
            analysis.findings.insert(site.name.to_owned(), findings);
        }
    }
    analysis
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
