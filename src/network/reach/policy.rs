//! A NetworkPolicy as the analysis reads it: whom it selects, which directions it isolates, and which rules lead out of
//! its namespace or into it from elsewhere. What cannot be read is an error, never skipped: a rule that is dropped is a
//! path that is not seen.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::network::{Port, Protocol};
use crate::network::ports::{PortError, PortSet};

use super::cidr::{Addresses, CidrError};
use super::selector::{Selector, SelectorError};

/// Why a policy cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PolicyError {
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Cidr(#[from] CidrError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("policy type {0:?} is unknown")]
    PolicyType(String),
    #[error("protocol {0:?} is unknown")]
    Protocol(String),
    #[error("an endPort needs a numeric port")]
    EndPort,
    #[error("a peer is an ipBlock, or selectors, and not nothing")]
    Peer,
}

/// The direction of a rule, seen from the pods a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Direction {
    Egress,
    Ingress,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    pub(super) const fn opposite(self) -> Self {
        match self {
            Self::Egress => Self::Ingress,
            Self::Ingress => Self::Egress,
        }
    }
}

/// A policy that can select a pod.
#[derive(Debug)]
pub(super) struct Policy<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub subject: Selector<'a>,
    /// Isolates egress, ingress.
    pub isolates: [bool; 2],
    /// What it permits: a rule for each peer, in the order of writing.
    pub rules: Vec<Rule<'a>>,
}

/// One peer of one rule.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    pub direction: Direction,
    pub peer: Peer<'a>,
    pub ports: Ports<'a>,
    /// `egress[index]`.
    pub index: usize,
    /// `to[at]`; `None` for a rule without peers.
    pub at: Option<usize>,
}

/// The ports of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports<'a> {
    /// Those it names by number.
    pub numbers: PortSet,
    /// Those it names by name: each pod at the other end gives its own number.
    pub names: Vec<(Protocol, &'a str)>,
    /// All it may stand for. A name may be any number, because a pod may give it any.
    pub possible: PortSet,
}

/// The other end of a rule.
#[derive(Debug)]
pub(super) enum Peer<'a> {
    /// Everything there is.
    Everything,
    /// Pods of the policy's own namespace.
    Own(Selector<'a>),
    /// Pods of the namespaces that match.
    Pods {
        namespaces: Selector<'a>,
        pods: Selector<'a>,
    },
    /// Addresses.
    Addresses(Addresses),
}

impl Rule<'_> {
    /// Whether it concerns anything but pods of its own namespace.
    pub(super) const fn leads_out(&self) -> bool {
        !matches!(self.peer, Peer::Own(_))
    }

    /// `egress[0].to[1]`.
    pub(super) fn field(&self) -> String {
        let (list, peers) = match self.direction {
            Direction::Egress => ("egress", "to"),
            Direction::Ingress => ("ingress", "from"),
        };
        match self.at {
            Some(at) => format!("{list}[{}].{peers}[{at}]", self.index),
            None => format!("{list}[{}]", self.index),
        }
    }
}

/// The name and namespace of a policy.
pub(super) fn identity(policy: &NetworkPolicy) -> (&str, &str) {
    let metadata = &policy.metadata;
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Reads a policy; `None` when it selects no pod that could exist.
pub(super) fn read(policy: &NetworkPolicy) -> Result<Option<Policy<'_>>, PolicyError> {
    read_where(policy, &|_| true)
}

/// Reads a policy without the peers that are not wanted.
pub(super) fn read_where<'a>(
    policy: &'a NetworkPolicy,
    wanted: &dyn Fn(&NetworkPolicyPeer) -> bool,
) -> Result<Option<Policy<'a>>, PolicyError> {
    static NOTHING: NetworkPolicySpec = NetworkPolicySpec {
        egress: None,
        ingress: None,
        pod_selector: None,
        policy_types: None,
    };
    let spec = policy.spec.as_ref().unwrap_or(&NOTHING);
    let (namespace, name) = identity(policy);
    let Some(subject) = optional(spec.pod_selector.as_ref())? else {
        return Ok(None);
    };
    let isolates = directions(spec)?;
    let mut rules = Vec::new();
    if isolates[Direction::Egress as usize] {
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            read_rule(
                Direction::Egress,
                index,
                rule.to.as_deref(),
                rule.ports.as_deref(),
                wanted,
                &mut rules,
            )?;
        }
    }
    if isolates[Direction::Ingress as usize] {
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            read_rule(
                Direction::Ingress,
                index,
                rule.from.as_deref(),
                rule.ports.as_deref(),
                wanted,
                &mut rules,
            )?;
        }
    }
    Ok(Some(Policy {
        namespace,
        name,
        subject,
        isolates,
        rules,
    }))
}

/// An absent selector of pods is the empty one.
fn optional(selector: Option<&LabelSelector>) -> Result<Option<Selector<'_>>, SelectorError> {
    selector.map_or_else(|| Ok(Some(Selector::default())), Selector::read)
}

/// The directions that are isolated. Without `policyTypes`: ingress always, egress when there are egress rules.
pub(super) fn directions(spec: &NetworkPolicySpec) -> Result<[bool; 2], PolicyError> {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        return Ok([egress, true]);
    }
    let mut isolates = [false, false];
    for name in types {
        let direction = match name.as_str() {
            "Egress" => Direction::Egress,
            "Ingress" => Direction::Ingress,
            unknown => return Err(PolicyError::PolicyType(unknown.to_owned())),
        };
        isolates[direction as usize] = true;
    }
    Ok(isolates)
}

fn read_rule<'a>(
    direction: Direction,
    index: usize,
    peers: Option<&'a [NetworkPolicyPeer]>,
    ports: Option<&'a [NetworkPolicyPort]>,
    wanted: &dyn Fn(&NetworkPolicyPeer) -> bool,
    rules: &mut Vec<Rule<'a>>,
) -> Result<(), PolicyError> {
    let ports = read_ports(ports.unwrap_or_default())?;
    let peers = peers.unwrap_or_default();
    if peers.is_empty() {
        // A missing list and an empty one both mean everything.
        let (peer, at) = (Peer::Everything, None);
        rules.push(Rule {
            direction,
            peer,
            ports,
            index,
            at,
        });
        return Ok(());
    }
    for (at, peer) in peers.iter().enumerate().filter(|(_, peer)| wanted(peer)) {
        if let Some(peer) = read_peer(peer)? {
            rules.push(Rule {
                direction,
                peer,
                ports: ports.clone(),
                index,
                at: Some(at),
            });
        }
    }
    Ok(())
}

/// `None` for peers that match nothing.
fn read_peer(peer: &NetworkPolicyPeer) -> Result<Option<Peer<'_>>, PolicyError> {
    match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
        (Some(block), None, None) => {
            let addresses = Addresses::block(block)?;
            Ok((!addresses.is_empty()).then_some(Peer::Addresses(addresses)))
        }
        (None, Some(namespaces), pods) => {
            let (namespaces, pods) = (Selector::read(namespaces)?, optional(pods.as_ref())?);
            let both = namespaces.zip(pods);
            Ok(both.map(|(namespaces, pods)| Peer::Pods { namespaces, pods }))
        }
        (None, None, Some(pods)) => Ok(Selector::read(pods)?.map(Peer::Own)),
        _ => Err(PolicyError::Peer),
    }
}

fn read_ports(written: &[NetworkPolicyPort]) -> Result<Ports<'_>, PolicyError> {
    if written.is_empty() {
        return Ok(Ports {
            numbers: PortSet::all(),
            names: Vec::new(),
            possible: PortSet::all(),
        });
    }
    let mut all = Ports::default();
    for port in written {
        read_port(port, &mut all)?;
    }
    Ok(all)
}

fn read_port<'a>(written: &'a NetworkPolicyPort, all: &mut Ports<'a>) -> Result<(), PolicyError> {
    let protocol = match written.protocol.as_deref().unwrap_or("TCP") {
        "TCP" => Protocol::TCP,
        "UDP" => Protocol::UDP,
        "SCTP" => Protocol::SCTP,
        unknown => return Err(PolicyError::Protocol(unknown.to_owned())),
    };
    let numbers = match (&written.port, written.end_port) {
        (None, None) => PortSet::every(protocol),
        (Some(IntOrString::String(name)), None) => {
            all.names.push((protocol, name));
            all.possible = all.possible.union(&PortSet::every(protocol));
            return Ok(());
        }
        (Some(IntOrString::Int(port)), end_port) => PortSet::written(&[Port {
            port: *port,
            end_port,
            protocol: Some(protocol),
        }])?,
        (None | Some(IntOrString::String(_)), Some(_)) => return Err(PolicyError::EndPort),
    };
    all.numbers = all.numbers.union(&numbers);
    all.possible = all.possible.union(&numbers);
    Ok(())
}
