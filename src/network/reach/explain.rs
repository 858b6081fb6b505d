//! Why one connection is allowed or not: the rules that let it through at each end, or the policies that do not.

use std::net::IpAddr;

use crate::api::network::Protocol;
use crate::network::ports::PortSet;

use super::concrete::{Connectivity, Other, Pod};
use super::policy::Direction;

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
    /// `namespace/name` of the policies that isolate the pod in this direction; none means that everything is allowed.
    pub isolated_by: Vec<String>,
    /// The rules that let the connection through: `(namespace/name, egress[0].to[1])`.
    pub allowed_by: Vec<(String, String)>,
}

impl Half {
    /// Whether this end lets the connection through.
    pub fn allows(&self) -> bool {
        self.isolated_by.is_empty() || !self.allowed_by.is_empty()
    }
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
            let mut isolating = self.isolating(own, direction).peekable();
            if isolating.peek().is_none() {
                return PortSet::all();
            }
            let opened = isolating.flat_map(|policy| {
                let rules = policy.rules.iter().filter(move |rule| rule.direction == direction);
                rules.map(move |rule| self.opens(policy, rule, own, end(other)))
            });
            opened.fold(PortSet::none(), |all, ports| all.union(&ports))
        };
        half(from, to, Direction::Egress).intersection(&half(to, from, Direction::Ingress))
    }

    fn explain_half(&self, own: &Pod, other: Other<'_>, direction: Direction, protocol: Protocol, port: u16) -> Half {
        let mut half = Half {
            isolated_by: Vec::new(),
            allowed_by: Vec::new(),
        };
        for policy in self.isolating(own, direction) {
            let name = format!("{}/{}", policy.namespace, policy.name);
            for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
                if self.opens(policy, rule, own, other).contains(protocol, port) {
                    half.allowed_by.push((name.clone(), rule.field()));
                }
            }
            half.isolated_by.push(name);
        }
        half
    }
}

fn end(asked: Asked<'_>) -> Other<'_> {
    match asked {
        Asked::Pod(pod) => Other::Pod(pod),
        Asked::Address(address) => Other::Address(address),
    }
}
