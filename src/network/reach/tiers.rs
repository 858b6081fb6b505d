//! ClusterNetworkPolicies as the analysis reads them: for each tier and direction one list of steps in the order in
//! which they are asked, one for each peer of a rule. The first step that fits a connection decides it.
//!
//! Admin comes first: Accept and Deny are final, Pass and silence leave it to the NetworkPolicies. Those are final for
//! the pods they isolate; for the others Baseline comes last, and its silence allows.

use crate::api::network::{Port, Protocol};
use crate::network::cluster_policy::{
    Action, ClusterNetworkPolicy, EgressPeer, KIND, NamespacedPod, PortMatch, ProtocolMatch, Spec, Subject, Tier,
    Transport,
};
use crate::network::ports::{PortError, PortSet};

use super::cidr::{Addresses, CidrError};
use super::map::Reach;
use super::policy::{Direction, Peer, Ports, Rule};
use super::selector::{Selector, SelectorError};

/// Why a policy cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub(super) struct TierError {
    field: String,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("exactly one of {0} must be set")]
    OneOf(&'static str),
    #[error("at least one entry is needed")]
    Empty,
    #[error("{0} is not a priority from 0 to 1000")]
    Priority(i32),
    #[error(transparent)]
    Selector(#[from] SelectorError),
    #[error(transparent)]
    Cidr(#[from] CidrError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// All policies of the cluster.
#[derive(Debug, Default)]
pub(super) struct Tiers<'a> {
    /// By tier and direction, in order.
    steps: [[Vec<Step<'a>>; 2]; 2],
}

/// One peer of one rule.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// The name of the policy.
    pub policy: &'a str,
    pub tier: Tier,
    /// Steps of different policies with the same priority come in no order that could be relied on.
    pub priority: i32,
    pub action: Action,
    /// The namespaces of the pods that the policy is for.
    pub namespaces: Selector<'a>,
    /// Those pods.
    pub pods: Selector<'a>,
    /// The other end and the ports.
    pub rule: Rule<'a>,
    /// What the peer matches. Unlike an `ipBlock`, a network matches pods by their addresses in every implementation.
    pub reach: Reach,
    /// The field of the peer that is not modelled: it may match anything, or nothing.
    pub unmodelled: Option<&'static str>,
}

impl Step<'_> {
    /// Whether it is known which pods the peer matches.
    pub(super) const fn is_sure(&self) -> bool {
        matches!(self.reach, Reach::Pods) && self.unmodelled.is_none()
    }

    /// `ClusterNetworkPolicy name egress[0].to[1]`.
    pub(super) fn place(&self) -> String {
        format!("{KIND} {} {}", self.policy, self.rule.field())
    }

    /// Why it is not known what the peer matches: a word and a text.
    pub(super) fn unknown(&self) -> Option<(&'static str, String)> {
        let place = self.place();
        match (self.unmodelled, self.reach) {
            (Some(field), _) => Some((
                "UnmodelledPolicy",
                format!("{place}, whose {field} the analysis does not model"),
            )),
            (None, Reach::MaybePods) => Some((
                "AddressDependent",
                format!("{place}, whose networks match a pod or not by the address it gets"),
            )),
            (None, Reach::Pods | Reach::Outside) => None,
        }
    }

    /// Two steps, of which either may be asked first.
    pub(super) fn tie(&self, other: &Self) -> String {
        let (first, second) = if self.policy < other.policy {
            (self, other)
        } else {
            (other, self)
        };
        format!(
            "the order of {} and {}, which is not specified: both have priority {} in tier {:?}",
            first.place(),
            second.place(),
            self.priority,
            self.tier
        )
    }

    /// Why a Deny of the Baseline tier is not relied on.
    pub(super) fn skipped(&self) -> String {
        format!(
            "{}: not every implementation asks the Baseline tier about a pod that a NetworkPolicy selects in the other \
             direction only",
            self.place()
        )
    }

    /// Whether the order of two steps is not specified.
    pub(super) fn is_tied_with(&self, other: &Self) -> bool {
        self.priority == other.priority && self.policy != other.policy
    }
}

impl<'a> Tiers<'a> {
    /// Reads all policies. The second part names those that cannot be read.
    pub(super) fn read(policies: &'a [ClusterNetworkPolicy]) -> (Self, Vec<(&'a str, String)>) {
        let mut tiers = Self::default();
        let mut unreadable = Vec::new();
        for policy in policies {
            let read = match &policy.spec {
                Ok(spec) => steps(&policy.name, spec).map_err(|error| error.to_string()),
                Err(error) => Err(error.clone()),
            };
            match read {
                Ok(steps) => {
                    for step in steps {
                        tiers.steps[step.tier as usize][step.rule.direction as usize].push(step);
                    }
                }
                Err(error) => unreadable.push((policy.name.as_str(), error)),
            }
        }
        for steps in tiers.steps.iter_mut().flatten() {
            steps.sort_by_key(|step| (step.priority, step.policy, step.rule.index, step.rule.at));
        }
        unreadable.sort();
        (tiers, unreadable)
    }

    /// Where the cluster's own ranges are known, whether a network has anything to do with pods is too.
    pub(super) fn locate(&mut self, ranges: Option<&Addresses>) {
        let Some(ranges) = ranges else { return };
        for step in self.steps.iter_mut().flatten().flatten() {
            if let Peer::Addresses(block) = &step.rule.peer {
                step.reach = if !block.overlaps(ranges) {
                    Reach::Outside
                } else if ranges.is_within(block) {
                    Reach::Pods
                } else {
                    Reach::MaybePods
                };
            }
        }
    }

    /// The steps of a tier for one direction, in order.
    pub(super) fn steps(&self, tier: Tier, direction: Direction) -> &[Step<'a>] {
        &self.steps[tier as usize][direction as usize]
    }

    /// What lets connections through before any NetworkPolicy is asked.
    pub(super) fn accepts(&self, direction: Direction) -> impl Iterator<Item = &Step<'a>> {
        let steps = self.steps(Tier::Admin, direction).iter();
        steps.filter(|step| step.action == Action::Accept)
    }

    /// All steps of one direction.
    pub(super) fn all(&self, direction: Direction) -> impl Iterator<Item = &Step<'a>> {
        [Tier::Admin, Tier::Baseline]
            .into_iter()
            .flat_map(move |tier| self.steps(tier, direction))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.iter().flatten().all(Vec::is_empty)
    }
}

/// Pods of namespaces; `None` when nothing can match.
type Selected<'a> = Option<(Selector<'a>, Selector<'a>)>;

fn at<T>(field: impl FnOnce() -> String, result: Result<T, impl Into<Fault>>) -> Result<T, TierError> {
    result.map_err(|fault| TierError {
        field: field(),
        fault: fault.into(),
    })
}

fn steps<'a>(name: &'a str, spec: &'a Spec) -> Result<Vec<Step<'a>>, TierError> {
    let priority = match spec.priority {
        priority @ 0..=1000 => Ok(priority),
        priority => Err(Fault::Priority(priority)),
    };
    let priority = at(|| "spec.priority".to_owned(), priority)?;
    let subject = at(|| "spec.subject".to_owned(), selected(&spec.subject))?;
    let mut found = Vec::new();
    let ingress = spec.ingress.iter().enumerate().map(|(index, rule)| {
        let peers = rule.from.iter().map(|peer| read_ingress(peer)).collect::<Vec<_>>();
        (Direction::Ingress, index, rule.action, rule.protocols.as_deref(), peers)
    });
    let egress = spec.egress.iter().enumerate().map(|(index, rule)| {
        let peers = rule.to.iter().map(|peer| read_egress(peer)).collect::<Vec<_>>();
        (Direction::Egress, index, rule.action, rule.protocols.as_deref(), peers)
    });
    for (direction, index, action, protocols, peers) in ingress.chain(egress) {
        let (list, ends) = match direction {
            Direction::Egress => ("egress", "to"),
            Direction::Ingress => ("ingress", "from"),
        };
        let rule = || format!("spec.{list}[{index}]");
        if peers.is_empty() {
            return at(|| format!("{}.{ends}", rule()), Err(Fault::Empty));
        }
        let ports = read_protocols(protocols, &rule)?;
        for (number, peer) in peers.into_iter().enumerate() {
            let peer = at(|| format!("{}.{ends}[{number}]", rule()), peer)?;
            let (Some((namespaces, pods)), Some(read)) = (&subject, peer) else {
                continue;
            };
            found.push(Step {
                policy: name,
                tier: spec.tier,
                priority,
                action,
                namespaces: namespaces.clone(),
                pods: pods.clone(),
                reach: read.reach,
                unmodelled: read.unmodelled,
                rule: Rule {
                    direction,
                    peer: read.peer,
                    ports: ports.clone(),
                    index,
                    at: Some(number),
                },
            });
        }
    }
    Ok(found)
}

/// A peer as far as it is understood.
struct Read<'a> {
    peer: Peer<'a>,
    reach: Reach,
    unmodelled: Option<&'static str>,
}

fn selected(subject: &Subject) -> Result<Selected<'_>, Fault> {
    match subject {
        Subject {
            namespaces: Some(namespaces),
            pods: None,
        } => Ok(Selector::read(namespaces)?.map(|namespaces| (namespaces, Selector::default()))),
        Subject {
            namespaces: None,
            pods: Some(pods),
        } => both(pods),
        _ => Err(Fault::OneOf("namespaces and pods")),
    }
}

fn both(pods: &NamespacedPod) -> Result<Selected<'_>, Fault> {
    let namespaces = Selector::read(&pods.namespace_selector)?;
    Ok(namespaces.zip(Selector::read(&pods.pod_selector)?))
}

fn pods<'a>((namespaces, pods): (Selector<'a>, Selector<'a>)) -> Read<'a> {
    Read {
        peer: Peer::Pods { namespaces, pods },
        reach: Reach::Pods,
        unmodelled: None,
    }
}

fn read_ingress(peer: &Subject) -> Result<Option<Read<'_>>, Fault> {
    Ok(selected(peer)?.map(pods))
}

fn read_egress(peer: &EgressPeer) -> Result<Option<Read<'_>>, Fault> {
    let unmodelled = |field| {
        Ok(Some(Read {
            peer: Peer::Everything,
            reach: Reach::MaybePods,
            unmodelled: Some(field),
        }))
    };
    match peer {
        EgressPeer {
            namespaces: Some(namespaces),
            pods: None,
            networks: None,
            nodes: None,
            domain_names: None,
        } => Ok(Selector::read(namespaces)?.map(|namespaces| pods((namespaces, Selector::default())))),
        EgressPeer {
            namespaces: None,
            pods: Some(selectors),
            networks: None,
            nodes: None,
            domain_names: None,
        } => Ok(both(selectors)?.map(pods)),
        EgressPeer {
            namespaces: None,
            pods: None,
            networks: Some(networks),
            nodes: None,
            domain_names: None,
        } if !networks.is_empty() => Ok(Some(Read {
            peer: Peer::Addresses(Addresses::written(networks)?),
            reach: Reach::MaybePods,
            unmodelled: None,
        })),
        EgressPeer {
            namespaces: None,
            pods: None,
            networks: None,
            nodes: Some(_),
            domain_names: None,
        } => unmodelled("nodes"),
        EgressPeer {
            namespaces: None,
            pods: None,
            networks: None,
            nodes: None,
            domain_names: Some(_),
        } => unmodelled("domainNames"),
        _ => Err(Fault::OneOf("namespaces, pods, networks, nodes and domainNames")),
    }
}

/// No protocols at all is everything; an empty list is refused by the API server.
fn read_protocols<'a>(
    written: Option<&'a [ProtocolMatch]>,
    rule: &impl Fn() -> String,
) -> Result<Ports<'a>, TierError> {
    let Some(written) = written else {
        return Ok(Ports {
            numbers: PortSet::all(),
            names: Vec::new(),
            possible: PortSet::all(),
        });
    };
    let field = || format!("{}.protocols", rule());
    if written.is_empty() {
        return at(field, Err(Fault::Empty));
    }
    let mut all = Ports::default();
    for (number, one) in written.iter().enumerate() {
        at(|| format!("{}[{number}]", field()), read_protocol(one, &mut all))?;
    }
    Ok(all)
}

fn read_protocol<'a>(written: &'a ProtocolMatch, all: &mut Ports<'a>) -> Result<(), Fault> {
    const PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    let ProtocolMatch {
        tcp,
        udp,
        sctp,
        destination_named_port,
    } = written;
    // An absent text and an empty one are the same to upstream.
    let name = destination_named_port.as_deref().filter(|name| !name.is_empty());
    let transports: Vec<(Protocol, &Transport)> = PROTOCOLS
        .into_iter()
        .zip([tcp, udp, sctp])
        .filter_map(|(protocol, transport)| Some((protocol, transport.as_ref()?)))
        .collect();
    match (transports.as_slice(), name) {
        ([(protocol, transport)], None) => {
            let numbers = PortSet::written(&[port(*protocol, transport)?])?;
            all.numbers = all.numbers.union(&numbers);
            all.possible = all.possible.union(&numbers);
            Ok(())
        }
        ([], Some(name)) => {
            all.names.extend(PROTOCOLS.map(|protocol| (protocol, name)));
            all.possible = PortSet::all();
            Ok(())
        }
        _ => Err(Fault::OneOf("tcp, udp, sctp and destinationNamedPort")),
    }
}

fn port(protocol: Protocol, transport: &Transport) -> Result<Port, Fault> {
    let (port, end_port) = match &transport.destination_port {
        Some(PortMatch {
            number: Some(number),
            range: None,
        }) => (*number, None),
        Some(PortMatch {
            number: None,
            range: Some(range),
        }) => (range.start, Some(range.end)),
        _ => return Err(Fault::OneOf("destinationPort.number and destinationPort.range")),
    };
    Ok(Port {
        port,
        end_port,
        protocol: Some(protocol),
    })
}
