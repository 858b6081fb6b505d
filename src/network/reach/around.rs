//! What a change of policies can touch: which namespaces have to be judged again, and which others are at the far end of
//! any path from there. Namespaces that are left out let nothing through to those that are judged; of ten thousand policies
//! a few dozen are read again.
//!
//! It may take a namespace in for nothing, and leaves none out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};

use crate::api::names;
use crate::network::world::{Namespace, World};

use super::UnmodelledPolicy;
use super::cidr::Addresses;
use super::paths::is_workload;
use super::permits::infrastructure;
use super::policy::{self, Direction, Peer, Policy, PolicyError};
use super::selector::{Constraint, Selector};

/// Beyond so many namespaces to judge again, all are: that costs no more.
const MANY: usize = 32;

/// Of each namespace, which others something may let its pods meet. Follows the policies; the world stays the same.
#[derive(Debug)]
pub struct Sides {
    /// Egress, ingress. Namespaces without a policy are not in it: nothing isolates them.
    lets: HashMap<String, [Lets; 2]>,
    /// Where something may let anything through: a policy that cannot be read, or one of another kind.
    doubtful: BTreeSet<String>,
    /// The same, by policies of other kinds.
    unmodelled: BTreeSet<String>,
    /// Something of the whole cluster is not modelled, or ClusterNetworkPolicies are in force.
    everywhere: bool,
    addresses: KnownAddresses,
}

/// Which namespaces are let through.
#[derive(Debug)]
enum Lets {
    Any,
    These(BTreeSet<String>),
}

/// What an `ipBlock` is held against.
#[derive(Debug)]
struct KnownAddresses {
    /// Of pods; `None` where nobody knows them.
    ranges: Option<Addresses>,
    /// Single addresses that are no pods.
    infrastructure: Addresses,
}

impl Sides {
    /// Looks at every policy.
    pub fn new(world: &World, policies: &[&NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> Self {
        let mut sides = Self {
            lets: HashMap::with_capacity(world.namespaces.len()),
            doubtful: BTreeSet::new(),
            unmodelled: unmodelled
                .iter()
                .filter_map(|policy| policy.namespace.clone())
                .collect(),
            everywhere: unmodelled.iter().any(|policy| policy.namespace.is_none())
                || !world.cluster_policies.is_empty(),
            addresses: KnownAddresses {
                ranges: world.ranges().map(|ranges| Addresses::of(&ranges)),
                infrastructure: Addresses::of(&infrastructure(world, &world.dns()).0),
            },
        };
        sides.look(world, policies, |_| true);
        sides
    }

    /// Follows: those that are new, changed or gone are in `touched`.
    pub fn follow(&mut self, world: &World, policies: &[&NetworkPolicy], touched: &BTreeSet<String>) {
        self.look(world, policies, |namespace| touched.contains(namespace));
    }

    fn look(&mut self, world: &World, policies: &[&NetworkPolicy], at: impl Fn(&str) -> bool) {
        let mut there: BTreeMap<&str, Vec<Policy<'_>>> = BTreeMap::new();
        let mut doubtful = BTreeSet::new();
        for found in policies {
            let namespace = policy::identity(found).0;
            if !at(namespace) {
                continue;
            }
            match policy::read(found) {
                Ok(read) => there.entry(namespace).or_default().extend(read),
                Err(_) => {
                    doubtful.insert(namespace.to_owned());
                }
            }
        }
        doubtful.extend(self.unmodelled.iter().filter(|name| at(name)).cloned());
        self.doubtful.retain(|namespace| !at(namespace));
        self.doubtful.extend(doubtful);
        self.lets.retain(|namespace, _| !at(namespace));
        for (namespace, policies) in there {
            let lets = Direction::BOTH.map(|direction| self.addresses.lets(world, &policies, direction));
            self.lets.insert(namespace.to_owned(), lets);
        }
    }

    /// Whether some pod of a namespace may be let through to the other, or from there.
    fn lets(&self, near: &str, far: &str, direction: Direction) -> bool {
        if self.doubtful.contains(near) {
            return true;
        }
        match self.lets.get(near).map(|lets| &lets[direction as usize]) {
            None | Some(Lets::Any) => true,
            Some(Lets::These(names)) => names.contains(far),
        }
    }

    /// Whether both let something through between them.
    fn meet(&self, one: &str, other: &str) -> bool {
        Direction::BOTH
            .into_iter()
            .any(|direction| self.lets(one, other, direction) && self.lets(other, one, direction.opposite()))
    }

    fn let_any(&self, near: &str, far: &str) -> bool {
        Direction::BOTH
            .into_iter()
            .any(|direction| self.lets(near, far, direction))
    }
}

impl KnownAddresses {
    /// What the policies of one namespace let through.
    fn lets(&self, world: &World, policies: &[Policy<'_>], direction: Direction) -> Lets {
        let isolating = |policy: &&Policy<'_>| policy.isolates[direction as usize] && policy.subject.is_everything();
        if !policies.iter().any(|policy| isolating(&policy)) {
            return Lets::Any;
        }
        let mut names = BTreeSet::new();
        let rules = policies.iter().flat_map(|policy| &policy.rules);
        for rule in rules.filter(|rule| rule.direction == direction) {
            match &rule.peer {
                Peer::Everything => return Lets::Any,
                Peer::Addresses(block) if self.may_be_pods(block) => return Lets::Any,
                Peer::Pods { namespaces, .. } => names.extend(selected(world, namespaces).into_iter().cloned()),
                Peer::Own(_) | Peer::Addresses(_) => {}
            }
        }
        Lets::These(names)
    }

    fn may_be_pods(&self, block: &Addresses) -> bool {
        let inside = self.ranges.as_ref().is_none_or(|ranges| block.overlaps(ranges));
        inside && !block.is_within(&self.infrastructure)
    }
}

/// The namespaces that a selector matches: of those it names, where it names any.
fn selected<'w>(world: &'w World, wanted: &Selector<'_>) -> Vec<&'w String> {
    let matching = |(name, namespace): &(&'w String, &'w Namespace)| {
        wanted.matches(|key| match key {
            names::NAMESPACE_NAME_LABEL => Some(name.as_str()),
            key => namespace.labels.get(key).map(String::as_str),
        })
    };
    let name = |(name, _)| name;
    match wanted.constraint(names::NAMESPACE_NAME_LABEL) {
        Some(Constraint::In(listed)) => {
            let listed = listed.iter().filter_map(|name| world.namespaces.get_key_value(*name));
            listed.filter(matching).map(name).collect()
        }
        _ => world.namespaces.iter().filter(matching).map(name).collect(),
    }
}

/// The part of a cluster that a change can touch.
#[derive(Debug)]
pub(super) struct Around<'a> {
    /// To be judged again.
    pub judged: BTreeSet<&'a str>,
    /// Those, and whatever may be at the other end of a path.
    pub seen: BTreeSet<&'a str>,
    doubtful: &'a BTreeSet<String>,
}

impl<'a> Around<'a> {
    /// What policies changed in `touched` can touch; `None` where that may be everything. The sides have followed.
    pub(super) fn of(world: &'a World, sides: &'a Sides, touched: &BTreeSet<String>) -> Option<Self> {
        if sides.everywhere || touched.len() > MANY {
            return None;
        }
        let known = |name: &String| world.namespaces.get_key_value(name).map(|(name, _)| name.as_str());
        let touched: BTreeSet<&str> = touched.iter().filter_map(known).collect();
        let all = || world.namespaces.keys().map(String::as_str);
        // What a changed namespace let through before is not known any more; what the others let through is.
        let mut judged = touched.clone();
        let staged = all().filter(|name| is_workload(world.stage_of(name)));
        judged.extend(staged.filter(|far| touched.iter().any(|near| far != near && sides.let_any(far, near))));
        judged.retain(|name| is_workload(world.stage_of(name)));
        if judged.len() > MANY {
            return None;
        }
        let mut seen = judged.clone();
        seen.extend(all().filter(|far| judged.iter().any(|near| sides.meet(far, near))));
        Some(Self {
            judged,
            seen,
            doubtful: &sides.doubtful,
        })
    }

    /// Reads a policy; of one in a namespace that is only at the other end, what may be about those that are judged. The
    /// store that a thousand namespaces share names them all.
    pub(super) fn read<'p>(&self, policy: &'p NetworkPolicy) -> Result<Option<Policy<'p>>, PolicyError> {
        let namespace = policy::identity(policy).0;
        if self.judged.contains(namespace) || self.doubtful.contains(namespace) {
            return policy::read(policy);
        }
        policy::read_where(policy, &|peer| self.concerns(peer))
    }

    /// Whether a peer, as it is written, may be in a namespace that is judged.
    fn concerns(&self, peer: &NetworkPolicyPeer) -> bool {
        let Some(selector) = &peer.namespace_selector else {
            return true;
        };
        let mut wanted = selector.match_expressions.iter().flatten();
        let elsewhere = wanted.any(|wanted| {
            let mut names = wanted.values.iter().flatten();
            wanted.key == names::NAMESPACE_NAME_LABEL
                && wanted.operator == "In"
                && !names.any(|name| self.judged.contains(name.as_str()))
        });
        let mut labels = selector.match_labels.iter().flatten();
        let named = |(key, name): (&String, &String)| {
            key == names::NAMESPACE_NAME_LABEL && !self.judged.contains(name.as_str())
        };
        !elsewhere && !labels.any(named)
    }
}

/// Reads a policy, wholly where there is no [`Around`].
pub(super) fn read<'p>(
    around: Option<&Around<'_>>,
    policy: &'p NetworkPolicy,
) -> Result<Option<Policy<'p>>, PolicyError> {
    around.map_or_else(|| policy::read(policy), |around| around.read(policy))
}
