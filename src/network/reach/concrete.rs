//! The pods there are: which of them can connect to which, on which ports, and by which rules.
//!
//! Pods that no policy can tell apart are one [class](super::classes), and only classes that a policy may let meet are
//! looked at ([`ends`](super::ends)). A connection is allowed when the source lets it out and the target lets it in; each
//! of both is a set of ports.
//!
//! Not seen here, as in the symbolic mode: traffic from a pod's own node, ICMP, interfaces beside the pod network.
//! Pods of the host network are no subject and no peer of any policy, as in most plugins; Kubernetes leaves it open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::names;
use crate::api::network::Protocol;
use crate::network::cluster_policy::{ClusterNetworkPolicy, KIND};
use crate::network::ports::PortSet;

use super::cidr::{self, Addresses};
use super::classes::Class;
use super::ends::Ends;
use super::policy::{self, Direction, Peer, Policy, PolicyError, Rule};
use super::selector::Selector;
use super::tiers::Tiers;

pub use super::cidr::AddressRange;

/// A pod that runs, or that a manifest declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Whose pod it is: `(kind, name)` of its owner, or `Pod` and its own name.
    pub owner: (String, String),
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The ports that its containers give a name.
    pub ports: BTreeSet<(String, Protocol, u16)>,
    /// Its addresses; empty while they are not known.
    pub addresses: BTreeSet<IpAddr>,
    /// It shares its node's network.
    pub host_network: bool,
}

/// The cluster, or what a folder of manifests says of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Labels of the namespaces. The name's own label need not be there.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// All NetworkPolicies.
    pub policies: Vec<NetworkPolicy>,
    /// All ClusterNetworkPolicies.
    pub cluster_policies: Vec<ClusterNetworkPolicy>,
}

/// What an `ipBlock` means for pods. Kubernetes leaves it open, and plugins disagree. What ClusterNetworkPolicies leave
/// open (the order of equal priorities, for one) is taken in the same spirit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocks {
    /// It matches addresses outside the cluster only: what is allowed in any case.
    External,
    /// It matches pods by their addresses too, and any pod whose address is not known: what may be allowed.
    Pods,
}

/// Why a set of policies cannot be judged: one that is left out would be a false verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}{}{name} cannot be read: {why}", self.kind(), namespace, if namespace.is_empty() { "" } else { "/" })]
pub struct Unreadable {
    /// Its namespace; empty for a ClusterNetworkPolicy.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

impl Unreadable {
    /// The kind of the policy.
    pub const fn kind(&self) -> &'static str {
        if self.namespace.is_empty() {
            KIND
        } else {
            "NetworkPolicy"
        }
    }
}

/// One end of connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// The pods of an owner.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its kind.
        kind: String,
    },
    /// Addresses outside the cluster.
    Addresses(AddressRange),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { namespace, name, kind } => write!(f, "{namespace}/{name}[{kind}]"),
            Self::Addresses(range) => write!(f, "{}-{}", range.first, range.last),
        }
    }
}

/// A pod, and what isolates it.
#[derive(Debug)]
pub(super) struct Subject<'s> {
    pub pod: &'s Pod,
    /// The policies that isolate egress, ingress, by index.
    pub isolating: [Vec<usize>; 2],
}

/// The other end, as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Other<'m> {
    Pod(&'m Pod),
    Address(IpAddr),
}

/// A snapshot that has been read.
#[derive(Debug)]
pub struct Connectivity<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) blocks: Blocks,
    /// Sorted by namespace and name.
    pub(super) policies: Vec<Policy<'s>>,
    pub(super) tiers: Tiers<'s>,
    pub(super) classes: Vec<Class<'s>>,
}

impl<'s> Connectivity<'s> {
    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// Every policy that cannot be read.
    pub fn read(snapshot: &'s Snapshot, blocks: Blocks) -> Result<Self, Vec<Unreadable>> {
        let mut sorted: Vec<&NetworkPolicy> = snapshot.policies.iter().collect();
        sorted.sort_by_key(|policy| policy::identity(policy));
        let (mut policies, mut unreadable) = (Vec::new(), Vec::new());
        for found in sorted {
            match policy::read(found) {
                Ok(read) => policies.extend(read),
                Err(error) => unreadable.push(refused(found, &error)),
            }
        }
        let (tiers, wrong) = Tiers::read(&snapshot.cluster_policies);
        unreadable.extend(wrong.into_iter().map(|(name, why)| Unreadable {
            namespace: String::new(),
            name: name.to_owned(),
            why,
        }));
        if !unreadable.is_empty() {
            return Err(unreadable);
        }
        let mut read = Self {
            snapshot,
            blocks,
            policies,
            tiers,
            classes: Vec::new(),
        };
        read.classes = read.grouped();
        Ok(read)
    }

    /// All that is allowed, from workload to workload and between workloads and addresses outside the cluster. Pairs
    /// without any port are left out, and so are a workload and itself.
    pub fn connections(&self) -> BTreeMap<(Endpoint, Endpoint), PortSet> {
        let outside = Direction::BOTH.map(|direction| self.outside(direction));
        let [out, into] = Direction::BOTH.map(|direction| Ends::of(self, direction, &outside[direction as usize]));
        let mut all: BTreeMap<(&Endpoint, &Endpoint), PortSet> = BTreeMap::new();
        let mut allow = |from, to, ports: &PortSet| {
            if from != to {
                let known = all.entry((from, to)).or_default();
                *known = known.union(ports);
            }
        };
        let ranges = outside
            .each_ref()
            .map(|ranges| ranges.iter().copied().map(Endpoint::Addresses).collect::<Vec<_>>());
        for (index, from) in self.classes.iter().enumerate() {
            for to in Ends::targets(&out, &into, index) {
                let to = &self.classes[to];
                let ports = self.between(&from.subject, &to.subject);
                if !ports.is_empty() {
                    for source in from.workloads.keys() {
                        to.workloads.keys().for_each(|target| allow(source, target, &ports));
                    }
                }
            }
            for (direction, ends) in Direction::BOTH.into_iter().zip([&out, &into]) {
                let (cells, names) = (&outside[direction as usize], &ranges[direction as usize]);
                for range in ends.ranges(index).unwrap_or_else(|| (0..cells.len()).collect()) {
                    let ports = self.half(&from.subject, direction, Other::Address(cells[range].first));
                    if !ports.is_empty() {
                        from.workloads.keys().for_each(|own| match direction {
                            Direction::Egress => allow(own, &names[range], &ports),
                            Direction::Ingress => allow(&names[range], own, &ports),
                        });
                    }
                }
            }
        }
        let named = all
            .into_iter()
            .map(|((from, to), ports)| ((from.clone(), to.clone()), ports));
        named.collect()
    }

    /// The ports on which one pod can connect to another.
    pub(super) fn between(&self, from: &Subject<'_>, to: &Subject<'_>) -> PortSet {
        let out = self.half(from, Direction::Egress, Other::Pod(to.pod));
        if out.is_empty() {
            return out;
        }
        out.intersection(&self.half(to, Direction::Ingress, Other::Pod(from.pod)))
    }

    /// A pod, with what isolates it.
    pub(super) fn subject<'p>(&self, pod: &'p Pod) -> Subject<'p> {
        let isolating =
            Direction::BOTH.map(|direction| self.isolating(pod, direction).map(|(index, _)| index).collect());
        Subject { pod, isolating }
    }

    /// The policies that isolate a pod in a direction, in order of name, each with its index.
    pub(super) fn isolating(&self, pod: &Pod, direction: Direction) -> impl Iterator<Item = (usize, &Policy<'s>)> {
        let first = self
            .policies
            .partition_point(|policy| policy.namespace < pod.namespace.as_str());
        let here = self.policies.iter().enumerate().skip(first);
        let here = here.take_while(|(_, policy)| policy.namespace == pod.namespace);
        here.filter(move |(_, policy)| {
            !pod.host_network && policy.isolates[direction as usize] && selects(&policy.subject, pod)
        })
    }

    /// The ports of the target that one end lets through.
    pub(super) fn half(&self, own: &Subject<'_>, direction: Direction, other: Other<'_>) -> PortSet {
        if self.tiers.is_empty() {
            return self
                .by_network_policies(own, direction, other)
                .unwrap_or_else(PortSet::all);
        }
        let settled = self.settled(own, direction, other);
        match self.blocks {
            Blocks::External => settled.certain(),
            Blocks::Pods => settled.may_allow,
        }
    }

    /// The ports of the target that NetworkPolicies let through at one end; `None` where none isolates the pod.
    pub(super) fn by_network_policies(
        &self,
        own: &Subject<'_>,
        direction: Direction,
        other: Other<'_>,
    ) -> Option<PortSet> {
        let isolating = &own.isolating[direction as usize];
        if isolating.is_empty() {
            return None;
        }
        let mut allowed = PortSet::none();
        for policy in isolating.iter().map(|index| &self.policies[*index]) {
            for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
                allowed = allowed.union(&self.opens(policy, rule, own.pod, other));
            }
        }
        Some(allowed)
    }

    /// The ports of the target that one rule opens between a pod it is for and another end.
    pub(super) fn opens(&self, policy: &Policy<'_>, rule: &Rule<'_>, own: &Pod, other: Other<'_>) -> PortSet {
        if !self.fits(policy, rule, other) {
            return PortSet::none();
        }
        match rule.direction {
            Direction::Egress => ports_at(rule, other),
            Direction::Ingress => ports_at(rule, Other::Pod(own)),
        }
    }

    /// Whether the other end is the peer of a rule.
    pub(super) fn fits(&self, policy: &Policy<'_>, rule: &Rule<'_>, other: Other<'_>) -> bool {
        match (&rule.peer, other) {
            (Peer::Everything, _) => true,
            (Peer::Own(pods), Other::Pod(pod)) => {
                !pod.host_network && pod.namespace == policy.namespace && selects(pods, pod)
            }
            (Peer::Pods { namespaces, pods }, Other::Pod(pod)) => {
                !pod.host_network && namespaces.matches(|key| self.label(&pod.namespace, key)) && selects(pods, pod)
            }
            (Peer::Own(_) | Peer::Pods { .. }, Other::Address(_)) => false,
            (Peer::Addresses(block), Other::Address(address)) => block.contains(address),
            (Peer::Addresses(block), Other::Pod(pod)) => match self.blocks {
                Blocks::External => false,
                Blocks::Pods => {
                    pod.addresses.is_empty() || pod.addresses.iter().any(|address| block.contains(*address))
                }
            },
        }
    }

    /// A label of a namespace. Its name is the API server's own word.
    pub(super) fn label<'l>(&'l self, namespace: &'l str, key: &str) -> Option<&'l str> {
        if key == names::NAMESPACE_NAME_LABEL {
            return Some(namespace);
        }
        let labels = self.snapshot.namespaces.get(namespace)?;
        labels.get(key).map(String::as_str)
    }

    /// The addresses outside the cluster as the rules of one direction tell them apart. IPv6 only where anything has
    /// to do with it.
    pub(super) fn outside(&self, direction: Direction) -> Vec<AddressRange> {
        let rules = self.policies.iter().flat_map(|policy| &policy.rules);
        let rules = rules.chain(self.tiers.all(Direction::Egress).map(|step| &step.rule));
        let blocks = rules.filter_map(|rule| match &rule.peer {
            Peer::Addresses(block) => Some((rule.direction, block)),
            Peer::Everything | Peer::Own(_) | Peer::Pods { .. } => None,
        });
        let all: Vec<(Direction, &Addresses)> = blocks.collect();
        let mut addresses = self.snapshot.pods.iter().flat_map(|pod| &pod.addresses);
        let v6 = all.iter().any(|(_, block)| block.is_v6()) || addresses.any(IpAddr::is_ipv6);
        let here = all.iter().filter(|(of, _)| *of == direction).map(|(_, block)| *block);
        cidr::cells(&here.collect::<Vec<_>>(), v6)
    }
}

fn refused(policy: &NetworkPolicy, error: &PolicyError) -> Unreadable {
    let (namespace, name) = policy::identity(policy);
    Unreadable {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        why: error.to_string(),
    }
}

pub(super) fn selects(selector: &Selector<'_>, pod: &Pod) -> bool {
    selector.matches(|key| pod.labels.get(key).map(String::as_str))
}

pub(super) fn workload(pod: &Pod) -> Endpoint {
    let (kind, name) = pod.owner.clone();
    Endpoint::Workload {
        namespace: pod.namespace.clone(),
        name,
        kind,
    }
}

/// The ports of a rule at a target: names are what the target's containers call so, and no address has any.
pub(super) fn ports_at(rule: &Rule<'_>, target: Other<'_>) -> PortSet {
    let Other::Pod(pod) = target else {
        return rule.ports.numbers.clone();
    };
    let named = rule.ports.names.iter().flat_map(|(protocol, wanted)| {
        let ports = pod.ports.iter();
        ports.filter_map(move |(name, of, port)| (name == wanted && of == protocol).then_some((*protocol, *port)))
    });
    rule.ports.numbers.union(&PortSet::single(named))
}
