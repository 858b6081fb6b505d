//! A second opinion on ClusterNetworkPolicies: one packet at a time, written from the words of the API's own types
//! (`network-policy-api`, `apis/v1alpha2/clusternetworkpolicy_types.go`) and of the NetworkPolicy reference. It reads the
//! objects as JSON and shares no code with the analysis.
//!
//! Where the words leave something open, a packet has two verdicts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::network::testkit::Labels;
use crate::network::testkit::packets::selects;

/// One end of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'e> {
    Pod {
        namespace: &'e str,
        labels: &'e Labels,
        /// The port it calls `http`.
        http: Option<(&'static str, u16)>,
        /// The address by which it is reached.
        address: Option<IpAddr>,
        host_network: bool,
    },
    Address(IpAddr),
}

struct Selected {
    namespaces: LabelSelector,
    pods: LabelSelector,
}

enum Peer {
    Pods(Selected),
    Networks(Vec<IpNet>),
}

/// Protocol, first and last port; `None`: the name `http`.
type Ports = Option<(&'static str, u16, u16)>;

struct Rule {
    action: String,
    peers: Vec<Peer>,
    /// `None`: everything.
    ports: Option<Vec<Ports>>,
}

struct Policy {
    admin: bool,
    priority: i64,
    subject: Selected,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

/// Everything that decides.
pub(super) struct Naive<'a> {
    pub namespaces: &'a BTreeMap<String, Labels>,
    policies: &'a [NetworkPolicy],
    cluster: Vec<Policy>,
    /// Whether labels match a selector, by their addresses: everything is asked again and again.
    known: RefCell<HashMap<(usize, usize), bool>>,
    /// Whether an `ipBlock` of a NetworkPolicy matches a pod.
    pub blocks: fn(&IPBlock, Option<IpAddr>) -> bool,
}

/// One end of one packet.
#[derive(Clone, Copy)]
struct Half<'e, 'p> {
    own: End<'e>,
    other: End<'e>,
    target: End<'e>,
    ingress: bool,
    protocol: &'p str,
    port: u16,
}

/// What may be said of a packet at one end: allowed, denied, or either.
type Verdicts = BTreeSet<bool>;

impl<'a> Naive<'a> {
    pub(super) fn new(
        namespaces: &'a BTreeMap<String, Labels>,
        policies: &'a [NetworkPolicy],
        cluster: &[Value],
    ) -> Self {
        Self {
            namespaces,
            policies,
            cluster: cluster.iter().map(policy).collect(),
            known: RefCell::default(),
            blocks: |_, _| false,
        }
    }

    /// The labels outlive the evaluator, and its selectors stay where they are.
    fn matches(&self, selector: &LabelSelector, labels: &'a Labels) -> bool {
        let key = (
            std::ptr::from_ref(selector) as usize,
            std::ptr::from_ref(labels) as usize,
        );
        let mut known = self.known.borrow_mut();
        *known.entry(key).or_insert_with(|| selects(Some(selector), labels))
    }

    /// Whether a packet may pass, and whether it surely does.
    pub(super) fn passes(&self, from: End<'a>, to: End<'a>, protocol: &str, port: u16) -> (bool, bool) {
        let half = |own, other, ingress| Half {
            own,
            other,
            target: to,
            ingress,
            protocol,
            port,
        };
        let out = self.half(half(from, to, false));
        if !out.contains(&true) {
            return (false, false);
        }
        let into = self.half(half(to, from, true));
        (
            into.contains(&true),
            into == BTreeSet::from([true]) && !out.contains(&false),
        )
    }

    fn half(&self, half: Half<'a, '_>) -> Verdicts {
        let End::Pod { host_network, .. } = half.own else {
            return Verdicts::from([true]);
        };
        if host_network {
            return Verdicts::from([true]);
        }
        let mut verdicts = Verdicts::new();
        for action in self.tier(true, half) {
            match action {
                "Accept" => drop(verdicts.insert(true)),
                "Deny" => drop(verdicts.insert(false)),
                _ => verdicts.extend(self.after_admin(half)),
            }
        }
        verdicts
    }

    fn after_admin(&self, half: Half<'a, '_>) -> Verdicts {
        if let Some(allowed) = self.network_policies(half) {
            return Verdicts::from([allowed]);
        }
        let mut verdicts = Verdicts::new();
        for action in self.tier(false, half) {
            verdicts.insert(action != "Deny");
        }
        // "Further evaluation only happens for Pods not selected by a v1.NetworkPolicy."
        let ingress = !half.ingress;
        if self.network_policies(Half { ingress, ..half }).is_some() {
            verdicts.insert(true);
        }
        verdicts
    }

    /// The actions that a tier may take; Pass too where nothing matches.
    fn tier(&self, admin: bool, half: Half<'a, '_>) -> BTreeSet<&str> {
        let priorities: BTreeSet<i64> = self.cluster.iter().map(|policy| policy.priority).collect();
        for priority in priorities {
            let mut may = BTreeSet::new();
            for policy in &self.cluster {
                if policy.admin != admin || policy.priority != priority || !self.selected(&policy.subject, half.own) {
                    continue;
                }
                let rules = if half.ingress { &policy.ingress } else { &policy.egress };
                let is_peer = |rule: &Rule| rule.peers.iter().any(|peer| self.is_peer(peer, half.other));
                let first = rules.iter().find(|rule| is_peer(rule) && has_port(rule, half));
                may.extend(first.map(|rule| rule.action.as_str()));
            }
            if !may.is_empty() {
                return may;
            }
        }
        BTreeSet::from(["Pass"])
    }

    fn selected(&self, selected: &Selected, end: End<'a>) -> bool {
        let End::Pod {
            namespace,
            labels,
            host_network,
            ..
        } = end
        else {
            return false;
        };
        !host_network
            && self.matches(&selected.namespaces, &self.namespaces[namespace])
            && self.matches(&selected.pods, labels)
    }

    fn is_peer(&self, peer: &Peer, end: End<'a>) -> bool {
        match (peer, end) {
            (Peer::Pods(selected), _) => self.selected(selected, end),
            (Peer::Networks(networks), End::Address(address)) => within(networks, address),
            (Peer::Networks(networks), End::Pod { address, .. }) => {
                within(networks, address.expect("a test that has networks gives addresses"))
            }
        }
    }

    /// What NetworkPolicies say; `None` where none isolates the pod.
    fn network_policies(&self, half: Half<'a, '_>) -> Option<bool> {
        let End::Pod { namespace, labels, .. } = half.own else {
            return None;
        };
        let ingress = half.ingress;
        let mut verdict = None;
        for policy in self.policies {
            let spec = policy.spec.as_ref().unwrap();
            let subject = spec.pod_selector.as_ref();
            if policy.metadata.namespace.as_deref() != Some(namespace)
                || subject.is_some_and(|selector| !self.matches(selector, labels))
            {
                continue;
            }
            let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let types = spec.policy_types.clone().unwrap_or_default();
            let isolates = if types.is_empty() {
                ingress || has_egress
            } else {
                types.iter().any(|name| (name == "Ingress") == ingress)
            };
            if !isolates {
                continue;
            }
            let mut rules: Vec<(&[NetworkPolicyPeer], &[NetworkPolicyPort])> = Vec::new();
            if ingress {
                for rule in spec.ingress.iter().flatten() {
                    rules.push((
                        rule.from.as_deref().unwrap_or_default(),
                        rule.ports.as_deref().unwrap_or_default(),
                    ));
                }
            } else {
                for rule in spec.egress.iter().flatten() {
                    rules.push((
                        rule.to.as_deref().unwrap_or_default(),
                        rule.ports.as_deref().unwrap_or_default(),
                    ));
                }
            }
            let fits = rules.iter().any(|(peers, ports)| {
                let peer = peers.is_empty() || peers.iter().any(|peer| self.is_np_peer(peer, namespace, half.other));
                let port = ports.is_empty() || ports.iter().any(|written| is_np_port(written, half));
                peer && port
            });
            verdict = Some(verdict.unwrap_or(false) || fits);
        }
        verdict
    }

    fn is_np_peer(&self, peer: &NetworkPolicyPeer, here: &str, other: End<'a>) -> bool {
        match (&peer.ip_block, other) {
            (Some(block), End::Address(address)) => in_block(block, address),
            (Some(block), End::Pod { address, .. }) => (self.blocks)(block, address),
            (None, End::Address(_)) => false,
            (
                None,
                End::Pod {
                    namespace,
                    labels,
                    host_network,
                    ..
                },
            ) => {
                let there = match &peer.namespace_selector {
                    Some(selector) => self.matches(selector, &self.namespaces[namespace]),
                    None => namespace == here,
                };
                let pods = peer.pod_selector.as_ref();
                !host_network && there && pods.is_none_or(|selector| self.matches(selector, labels))
            }
        }
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// "Except is a slice of CIDRs that should not be included within an IPBlock."
pub(super) fn in_block(block: &IPBlock, address: IpAddr) -> bool {
    let networks = |all: &[String]| all.iter().map(|cidr| cidr.parse().unwrap()).collect::<Vec<IpNet>>();
    let except = networks(block.except.as_deref().unwrap_or_default());
    within(&networks(std::slice::from_ref(&block.cidr)), address) && !within(&except, address)
}

fn http_of(target: End<'_>) -> Option<(&'static str, u16)> {
    match target {
        End::Pod { http, .. } => http,
        End::Address(_) => None,
    }
}

fn has_port(rule: &Rule, half: Half<'_, '_>) -> bool {
    let Half {
        target, protocol, port, ..
    } = half;
    let Some(ports) = &rule.ports else { return true };
    ports.iter().any(|wanted| match wanted {
        Some((of, first, last)) => *of == protocol && (*first..=*last).contains(&port),
        None => http_of(target) == Some((of(protocol), port)),
    })
}

fn is_np_port(written: &NetworkPolicyPort, half: Half<'_, '_>) -> bool {
    let Half {
        target, protocol, port, ..
    } = half;
    let fits = match (&written.port, written.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), None) => *first == i32::from(port),
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&i32::from(port)),
        (Some(IntOrString::String(_)), _) => http_of(target).is_some_and(|http| http == (of(protocol), port)),
    };
    written.protocol.as_deref().unwrap_or("TCP") == protocol && fits
}

fn of(protocol: &str) -> &'static str {
    ["TCP", "UDP", "SCTP"]
        .into_iter()
        .find(|name| *name == protocol)
        .unwrap()
}

fn selector(value: &Value) -> LabelSelector {
    serde_json::from_value(value.clone()).unwrap()
}

fn selected(value: &Value) -> Option<Selected> {
    if let Some(namespaces) = value.get("namespaces") {
        let (namespaces, pods) = (selector(namespaces), LabelSelector::default());
        return Some(Selected { namespaces, pods });
    }
    let pods = value.get("pods")?;
    Some(Selected {
        namespaces: pods.get("namespaceSelector").map(selector).unwrap_or_default(),
        pods: selector(&pods["podSelector"]),
    })
}

fn rules(list: &Value, peers: &str) -> Vec<Rule> {
    let rule = |rule: &Value| Rule {
        action: rule["action"].as_str().unwrap().to_owned(),
        peers: rule[peers].as_array().unwrap().iter().map(peer).collect(),
        ports: rule
            .get("protocols")
            .map(|protocols| protocols.as_array().unwrap().iter().map(port).collect()),
    };
    list.as_array().into_iter().flatten().map(rule).collect()
}

fn peer(written: &Value) -> Peer {
    if let Some(selected) = selected(written) {
        return Peer::Pods(selected);
    }
    let networks = written["networks"].as_array().unwrap().iter();
    Peer::Networks(networks.map(|cidr| cidr.as_str().unwrap().parse().unwrap()).collect())
}

fn port(written: &Value) -> Ports {
    for (key, protocol) in [("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP")] {
        let Some(port) = written.get(key).map(|transport| &transport["destinationPort"]) else {
            continue;
        };
        let number = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        return Some(match port.get("range") {
            Some(range) => (protocol, number(&range["start"]), number(&range["end"])),
            None => (protocol, number(&port["number"]), number(&port["number"])),
        });
    }
    None
}

fn policy(spec: &Value) -> Policy {
    Policy {
        admin: spec["tier"] == "Admin",
        priority: spec["priority"].as_i64().unwrap(),
        subject: selected(&spec["subject"]).unwrap(),
        ingress: rules(&spec["ingress"], "from"),
        egress: rules(&spec["egress"], "to"),
    }
}
