//! What a change of policies can touch: which namespaces have to be judged again, and which others are at the far end of
//! any path from there. Namespaces that are left out let nothing through to those that are judged; of ten thousand policies
//! a few dozen are read again.
//!
//! A look at the objects as they are written, without reading them: it may take a namespace in for nothing, and leaves none
//! out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::names;
use crate::network::world::{Namespace, World};

use super::UnmodelledPolicy;
use super::paths::is_workload;
use super::permits::infrastructure;
use super::policy::{self, Direction};
use super::selector::Selector;

/// Beyond so many namespaces to judge again, all are: that costs no more.
const MANY: usize = 32;

/// The part of a cluster that a change can touch.
#[derive(Debug)]
pub(super) struct Around<'a> {
    /// To be judged again.
    pub judged: BTreeSet<&'a str>,
    /// Those, and whatever may be at the other end of a path.
    pub seen: BTreeSet<&'a str>,
}

impl<'a> Around<'a> {
    /// What policies changed in `touched` can touch; `None` where that may be everything. In the namespaces of
    /// `unreadable` is a policy that cannot be read.
    pub(super) fn of(
        world: &'a World,
        policies: &[&'a NetworkPolicy],
        unmodelled: &[UnmodelledPolicy],
        unreadable: &BTreeSet<String>,
        touched: &BTreeSet<String>,
    ) -> Option<Self> {
        let everywhere = unmodelled.iter().any(|policy| policy.namespace.is_none());
        if everywhere || !world.cluster_policies.is_empty() || touched.len() > MANY {
            return None;
        }
        let sides = Sides::new(world, policies, unmodelled, unreadable);
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
        Some(Self { judged, seen })
    }
}

/// Every namespace as its policies are written.
struct Sides<'a> {
    namespaces: &'a BTreeMap<String, Namespace>,
    policies: HashMap<&'a str, Vec<&'a NetworkPolicySpec>>,
    /// Where something may let anything through.
    doubtful: BTreeSet<&'a str>,
    ranges: Option<Vec<IpNet>>,
    /// Single addresses that are no pods.
    infrastructure: BTreeSet<IpNet>,
}

impl<'a> Sides<'a> {
    fn new(
        world: &'a World,
        policies: &[&'a NetworkPolicy],
        unmodelled: &'a [UnmodelledPolicy],
        unreadable: &'a BTreeSet<String>,
    ) -> Self {
        let mut by_namespace: HashMap<&str, Vec<&NetworkPolicySpec>> = HashMap::with_capacity(world.namespaces.len());
        for policy in policies {
            by_namespace
                .entry(policy::identity(policy).0)
                .or_default()
                .extend(&policy.spec);
        }
        let of_other_kinds = unmodelled.iter().filter_map(|policy| policy.namespace.as_deref());
        Self {
            namespaces: &world.namespaces,
            policies: by_namespace,
            doubtful: of_other_kinds.chain(unreadable.iter().map(String::as_str)).collect(),
            ranges: world.ranges(),
            infrastructure: infrastructure(world, &world.dns()).0.into_iter().collect(),
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

    /// Whether some pod of a namespace may be let through to the other, or from there.
    fn lets(&self, near: &str, far: &str, direction: Direction) -> bool {
        if self.doubtful.contains(near) {
            return true;
        }
        let mut isolated = false;
        for spec in self.policies.get(near).into_iter().flatten() {
            let open = match direction {
                Direction::Egress => {
                    let rules = spec.egress.iter().flatten();
                    self.any_rule(rules.map(|rule| rule.to.as_deref()), far)
                }
                Direction::Ingress => {
                    let rules = spec.ingress.iter().flatten();
                    self.any_rule(rules.map(|rule| rule.from.as_deref()), far)
                }
            };
            if open {
                return true;
            }
            let isolates = policy::directions(spec).is_ok_and(|isolates| isolates[direction as usize]);
            isolated |= isolates && spec.pod_selector.as_ref().is_none_or(is_everything);
        }
        !isolated
    }

    fn any_rule<'r>(&self, mut rules: impl Iterator<Item = Option<&'r [NetworkPolicyPeer]>>, far: &str) -> bool {
        rules.any(|peers| match peers {
            None | Some([]) => true,
            Some(peers) => peers.iter().any(|peer| self.is_peer(peer, far)),
        })
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, far: &str) -> bool {
        match (&peer.ip_block, &peer.namespace_selector) {
            (Some(block), _) => self.may_be_pods(block),
            (None, Some(selector)) => self.is_selected(selector, far),
            (None, None) => false,
        }
    }

    fn may_be_pods(&self, block: &IPBlock) -> bool {
        let Ok(network) = block.cidr.parse::<IpNet>() else {
            return true;
        };
        let Some(ranges) = &self.ranges else { return true };
        let meets = |range: &IpNet| range.contains(&network) || network.contains(range);
        ranges.iter().any(meets) && !self.infrastructure.contains(&network)
    }

    fn is_selected(&self, selector: &LabelSelector, far: &str) -> bool {
        let label = |key: &str| match key {
            names::NAMESPACE_NAME_LABEL => Some(far),
            key => self.namespaces.get(far)?.labels.get(key).map(String::as_str),
        };
        let mut wanted = selector.match_labels.iter().flatten();
        if wanted.any(|(key, value)| label(key) != Some(value.as_str())) {
            return false;
        }
        if selector.match_expressions.as_ref().is_none_or(Vec::is_empty) {
            return true;
        }
        match Selector::read(selector) {
            Ok(Some(selector)) => selector.matches(label),
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

fn is_everything(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
