//! Why one connection is allowed or not: the rules that let it through at each end, or the policies that do not.

use std::net::IpAddr;

use crate::api::network::Protocol;
use crate::network::cluster_policy::{Action, KIND, Tier};
use crate::network::ports::PortSet;

use super::concrete::{Blocks, Connectivity, Other, Pod};
use super::policy::Direction;
use super::settle::{Middle, addresses};
use super::tiers::Step;

/// One end of a connection that is asked about.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'p> {
    /// A pod of the snapshot.
    Pod(&'p Pod),
    /// An address outside the cluster.
    Address(IpAddr),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// At the source; `None` for an address, which no policy isolates.
    pub egress: Option<Half>,
    /// At the target.
    pub ingress: Option<Half>,
}

/// What one end says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// What ClusterNetworkPolicies decide, before any NetworkPolicy or in place of one; `None`: they leave it.
    pub of_cluster: Option<OfCluster>,
    /// `namespace/name` of the policies that isolate the pod in this direction; none means that everything is allowed.
    pub isolated_by: Vec<String>,
    /// The rules that let the connection through: `(namespace/name, egress[0].to[1])`.
    pub allowed_by: Vec<(String, String)>,
}

impl Half {
    /// Whether this end lets the connection through.
    pub fn allows(&self) -> bool {
        match &self.of_cluster {
            Some(OfCluster::Decided { action, .. }) => *action == Action::Accept,
            Some(OfCluster::Unknown { allows, .. }) => *allows,
            None => self.isolated_by.is_empty() || !self.allowed_by.is_empty(),
        }
    }
}

/// What ClusterNetworkPolicies say of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfCluster {
    /// A rule decides.
    Decided {
        /// Accept or Deny.
        action: Action,
        /// Its tier.
        tier: Tier,
        /// `ClusterNetworkPolicy name`.
        policy: String,
        /// `egress[0].to[1]`.
        field: String,
    },
    /// It cannot be known.
    Unknown {
        /// How it is counted, by the meaning that was asked for.
        allows: bool,
        /// Why; each one line.
        causes: Vec<String>,
    },
}

impl Explanation {
    /// Whether both ends let the connection through.
    pub fn allows(&self) -> bool {
        [&self.egress, &self.ingress].into_iter().flatten().all(Half::allows)
    }
}

impl Connectivity<'_> {
    /// Explains one connection to one port.
    pub fn explain(&self, from: Asked<'_>, to: Asked<'_>, protocol: Protocol, port: u16) -> Explanation {
        let half = |own: Asked<'_>, other: Asked<'_>, direction: Direction| {
            let Asked::Pod(own) = own else { return None };
            Some(self.explain_half(own, end(other), direction, protocol, port))
        };
        Explanation {
            egress: half(from, to, Direction::Egress),
            ingress: half(to, from, Direction::Ingress),
        }
    }

    /// The ports of the target on which a connection passes.
    pub fn allowed(&self, from: Asked<'_>, to: Asked<'_>) -> PortSet {
        let half = |own: Asked<'_>, other: Asked<'_>, direction: Direction| {
            let Asked::Pod(own) = own else { return PortSet::all() };
            self.half(&self.subject(own), direction, end(other))
        };
        half(from, to, Direction::Egress).intersection(&half(to, from, Direction::Ingress))
    }

    fn explain_half(&self, own: &Pod, other: Other<'_>, direction: Direction, protocol: Protocol, port: u16) -> Half {
        let mut half = Half {
            of_cluster: None,
            isolated_by: Vec::new(),
            allowed_by: Vec::new(),
        };
        for (_, policy) in self.isolating(own, direction) {
            let name = format!("{}/{}", policy.namespace, policy.name);
            for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
                if self.opens(policy, rule, own, other).contains(protocol, port) {
                    half.allowed_by.push((name.clone(), rule.field()));
                }
            }
            half.isolated_by.push(name);
        }
        let one = PortSet::single([(protocol, port)]);
        half.of_cluster = self.explain_tiers(own, other, direction, &one, &half);
        half
    }

    /// What ClusterNetworkPolicies say of one port. A pod with several addresses is reached by the best of them.
    fn explain_tiers(
        &self,
        own: &Pod,
        other: Other<'_>,
        direction: Direction,
        one: &PortSet,
        half: &Half,
    ) -> Option<OfCluster> {
        if self.tiers.is_empty() {
            return None;
        }
        let isolated = !half.isolated_by.is_empty();
        let allowed = if half.allowed_by.is_empty() {
            PortSet::none()
        } else {
            one.clone()
        };
        let middle = Middle {
            allowed: isolated.then_some(allowed),
            elsewhere: self.isolating(own, direction.opposite()).next().is_some(),
        };
        let settled = addresses(other).into_iter().map(|address| {
            let settled = self.settled_at(own, direction, other, address, &middle, one.clone());
            (address, settled)
        });
        let rank = |settled: &super::settle::Settled| (settled.may_deny.is_empty(), !settled.may_allow.is_empty());
        let (address, best) = settled.max_by_key(|(_, settled)| rank(settled))?;
        if !best.unknown().is_empty() {
            return Some(OfCluster::Unknown {
                allows: self.blocks == Blocks::Pods,
                causes: self.causes(own, direction, other, one),
            });
        }
        // It is settled, so the first that matches decides.
        let first = |tier| {
            let matches = self.matches(tier, own, direction, other, address).into_iter();
            let mut here = matches.filter(|found| !found.surely.intersection(one).is_empty());
            here.next().map(|found| found.step)
        };
        let decided = |step: &Step<'_>| OfCluster::Decided {
            action: step.action,
            tier: step.tier,
            policy: format!("{KIND} {}", step.policy),
            field: step.rule.field(),
        };
        let final_word = |step: &&Step<'_>| step.action != Action::Pass;
        let admin = first(Tier::Admin).filter(final_word);
        let baseline = || first(Tier::Baseline).filter(|step| !isolated && final_word(step));
        admin.or_else(baseline).map(decided)
    }
}

fn end(asked: Asked<'_>) -> Other<'_> {
    match asked {
        Asked::Pod(pod) => Other::Pod(pod),
        Asked::Address(address) => Other::Address(address),
    }
}
