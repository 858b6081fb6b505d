//! What the organisation's policy permits: the flows that we render, and DNS. Everything else that leads out of a stage
//! is a path.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::network::mesh;
use crate::network::policies::dns_ports;
use crate::network::ports::PortSet;
use crate::network::world::{DnsAt, DnsPeer, World, network};

use super::around;
use super::cidr::Addresses;
use super::map::{Book, Half, Reach, Site, Standing};
use super::policy::{self, Direction, Peer, Policy, Rule};
use super::selector::Selector;

/// What is permitted.
#[derive(Debug)]
pub(super) struct Permits<'p> {
    /// What we render, read, for the namespaces in which others open something too.
    desired: HashMap<&'p str, Vec<Policy<'p>>>,
    /// Pods that answer DNS: any pod of a stage may ask them.
    dns: Vec<(&'p str, Selector<'p>, PortSet)>,
    /// Single addresses of API servers, DNS and probes: known, and no pods of a stage.
    infrastructure: Addresses,
    /// Networks that the admin named.
    named: Addresses,
}

impl<'p> Permits<'p> {
    pub(super) fn new(world: &World, book: &Book<'p>, desired: &[&'p NetworkPolicy], dns: &'p [DnsPeer]) -> Self {
        let mut foreign: HashSet<&str> = book
            .policies
            .iter()
            .filter(|(policy, standing)| *standing == Standing::Foreign && policy.rules.iter().any(Rule::leads_out))
            .map(|(policy, _)| policy.namespace)
            .collect();
        if Direction::BOTH
            .iter()
            .any(|direction| book.tiers.accepts(*direction).next().is_some())
        {
            foreign.extend(world.namespaces.keys().map(String::as_str));
        }
        let mut rendered: HashMap<&str, Vec<Policy<'_>>> = HashMap::new();
        for policy in desired
            .iter()
            .copied()
            .filter(|policy| foreign.contains(policy::identity(policy).0))
        {
            if let Ok(Some(read)) = around::read(book.around, policy) {
                rendered.entry(policy::identity(policy).0).or_default().push(read);
            }
        }
        let (single, wide) = infrastructure(world, dns);
        let catalogue = world
            .services()
            .iter()
            .flat_map(|entry| entry.to.cidrs.iter().flatten());
        let sources = world
            .sources()
            .iter()
            .flat_map(|entry| entry.from.cidrs.iter().flatten());
        let mut named: Vec<IpNet> = catalogue.chain(sources).filter_map(|cidr| network(&cidr.0)).collect();
        if world.sources().iter().any(|entry| entry.from.nodes.is_some()) {
            named.extend(&world.cluster.nodes);
        }
        Self {
            desired: rendered,
            dns: dns.iter().filter_map(pods).collect(),
            infrastructure: Addresses::of(&single),
            named: Addresses::of(named.iter().chain(&wide).chain(&single)),
        }
    }

    /// Known addresses that are no pods, so that CNIs cannot disagree about them.
    pub(super) fn is_infrastructure(&self, block: &Addresses) -> bool {
        block.is_within(&self.infrastructure)
    }

    /// Whether a half is one of ours, so that the policy permits it wherever it leads outside of the stages.
    pub(super) fn cover_everywhere(&self, half: &Half<'_>) -> bool {
        matches!(half, Half::Rule { rule, reach, standing: Standing::Ours, .. } if self.vouch_for(&rule.peer, *reach))
    }

    /// Addresses that may be pods are permitted when the admin named them, and not when an author did while nobody
    /// knew the cluster's ranges.
    fn vouch_for(&self, peer: &Peer<'_>, reach: Reach) -> bool {
        match (reach, peer) {
            (Reach::MaybePods, Peer::Addresses(block)) => block.is_within(&self.named),
            _ => true,
        }
    }

    /// Whether the policy permits everything that a half lets through between its namespace and another, which is of
    /// no stage or shared. `None`: a namespace created later.
    pub(super) fn cover(&self, near: &Site<'_>, half: &Half<'_>, far: Option<&Site<'_>>) -> bool {
        let (subject, rule, reach, standing) = match half {
            Half::Rule {
                policy,
                rule,
                reach,
                standing,
            } => (&policy.subject, *rule, *reach, *standing),
            Half::Accept(step) => (&step.pods, &step.rule, step.reach, Standing::Foreign),
            Half::Open | Half::Doubt(_) => return false,
        };
        let permitted = || {
            let rendered = self.desired.get(near.name).into_iter().flatten();
            rendered.filter(|ours| subject.implies(&ours.subject)).any(|ours| {
                let mut rules = ours
                    .rules
                    .iter()
                    .filter(|permitted| permitted.direction == rule.direction);
                rules.any(|permitted| {
                    rule.ports.possible.is_within(&permitted.ports.possible) && within(&rule.peer, &permitted.peer, far)
                })
            })
        };
        let dns = || rule.direction == Direction::Egress && self.is_dns(&rule.peer, &rule.ports.possible, far);
        self.vouch_for(&rule.peer, reach) && (standing == Standing::Ours || dns() || permitted())
    }

    fn is_dns(&self, peer: &Peer<'_>, ports: &PortSet, far: Option<&Site<'_>>) -> bool {
        let (Peer::Pods { pods, .. }, Some(far)) = (peer, far) else {
            return false;
        };
        let mut servers = self.dns.iter().filter(|(namespace, ..)| *namespace == far.name);
        servers.any(|(_, servers, listening)| pods.implies(servers) && ports.is_within(listening))
    }
}

/// Addresses of API servers, DNS and probes: single ones, which are no pods, and networks, of which nobody knows.
pub(super) fn infrastructure(world: &World, dns: &[DnsPeer]) -> (Vec<IpNet>, Vec<IpNet>) {
    let servers = world.api_servers().into_iter().map(|(network, _)| network);
    let known = servers
        .chain(dns.iter().flat_map(addresses).copied())
        .chain(mesh::probes(world.policy.network.mesh));
    known.partition(|network| network.prefix_len() == network.max_prefix_len())
}

/// Whether a peer matches, at the other end, nothing that the permitted one does not.
fn within(peer: &Peer<'_>, permitted: &Peer<'_>, far: Option<&Site<'_>>) -> bool {
    match (peer, permitted, far) {
        (Peer::Addresses(block), Peer::Addresses(permitted), _) => block.is_within(permitted),
        (
            Peer::Pods { pods, .. },
            Peer::Pods {
                namespaces,
                pods: permitted,
            },
            Some(far),
        ) => namespaces.matches(|key| far.label(key)) && pods.implies(permitted),
        _ => false,
    }
}

fn addresses(server: &DnsPeer) -> &[IpNet] {
    match &server.at {
        DnsAt::Addresses(networks) => networks,
        DnsAt::Pods { .. } => &[],
    }
}

fn pods(server: &DnsPeer) -> Option<(&str, Selector<'_>, PortSet)> {
    match &server.at {
        DnsAt::Pods { namespace, labels } => Some((namespace, Selector::labelled(labels), dns_ports(server))),
        DnsAt::Addresses(_) => None,
    }
}
