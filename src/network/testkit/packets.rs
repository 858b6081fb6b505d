//! What NetworkPolicies allow, one packet at a time: a second opinion for the tests, as plain as can be.
//!
//! Written from the words of the API (`networking.k8s.io/v1`, the comments of its types, and
//! <https://kubernetes.io/docs/concepts/services-networking/network-policies/>). It knows nothing of this crate and has
//! its own reading of selectors, ports and networks, so that it shares no mistake with the analysis; the tests beside
//! the library compile this same file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub type Labels = BTreeMap<String, String>;

/// A pod, as far as policies see one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub labels: Labels,
    /// Its named ports: name, protocol, number. `None`: a pod that could exist, and may give any port any name.
    pub ports: Option<Vec<(String, String, u16)>>,
    /// None while they are not known: they may be any.
    pub addresses: Vec<IpAddr>,
    pub host_network: bool,
}

/// One end of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Pod(Pod),
    /// Outside the cluster.
    Address(IpAddr),
}

/// What is known of the cluster.
pub struct Packets<'a> {
    /// The labels of its namespaces, `kubernetes.io/metadata.name` among them.
    pub namespaces: BTreeMap<String, Labels>,
    pub policies: &'a [NetworkPolicy],
    /// Whether an `ipBlock` matches a pod by its addresses. Kubernetes leaves it open.
    pub blocks_match_pods: bool,
}

/// A packet as one of its ends sees it.
#[derive(Clone, Copy)]
struct Packet<'a> {
    own: &'a Pod,
    other: &'a End,
    /// Whose port it is.
    target: &'a End,
    protocol: &'a str,
    port: u16,
}

impl Packets<'_> {
    /// "For a connection from a source pod to a destination pod to be allowed, both the egress policy on the source pod
    /// and the ingress policy on the destination pod need to allow the connection."
    pub fn pass(&self, from: &End, to: &End, protocol: &str, port: u16) -> bool {
        let seen_by = |own, other| Packet {
            own,
            other,
            target: to,
            protocol,
            port,
        };
        let leaves = match from {
            End::Pod(own) => self.allows("Egress", seen_by(own, to)),
            End::Address(_) => true,
        };
        let enters = match to {
            End::Pod(own) => self.allows("Ingress", seen_by(own, from)),
            End::Address(_) => true,
        };
        leaves && enters
    }

    /// "By default, a pod is non-isolated […]. A pod is isolated if there is any NetworkPolicy that both selects the pod
    /// and has the direction in its policyTypes. […] the only allowed connections are those allowed by some policy. […]
    /// The effects of those lists combine additively."
    fn allows(&self, direction: &str, packet: Packet<'_>) -> bool {
        let mut isolated = false;
        for policy in self.policies {
            let Some(spec) = &policy.spec else { continue };
            let here = policy.metadata.namespace.as_deref() == Some(&packet.own.namespace);
            let selected = here && !packet.own.host_network && selects(spec.pod_selector.as_ref(), &packet.own.labels);
            if selected && has(spec, direction) {
                isolated = true;
                let mut rules = rules(spec, direction).into_iter();
                if rules.any(|(peers, ports)| self.rule_allows(peers, ports, packet)) {
                    return true;
                }
            }
        }
        !isolated
    }

    /// "If this field is empty or missing, this rule matches all" peers, or ports.
    fn rule_allows(&self, peers: &[NetworkPolicyPeer], ports: &[NetworkPolicyPort], packet: Packet<'_>) -> bool {
        let peer = peers.is_empty() || peers.iter().any(|peer| self.is_peer(peer, packet));
        let port = ports.is_empty() || ports.iter().any(|written| is_port(written, packet));
        peer && port
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, packet: Packet<'_>) -> bool {
        if let Some(block) = &peer.ip_block {
            let in_block = |address: &IpAddr| {
                let mut except = block.except.iter().flatten();
                within(address, &block.cidr) && !except.any(|cidr| within(address, cidr))
            };
            return match packet.other {
                End::Address(address) => in_block(address),
                End::Pod(pod) => {
                    self.blocks_match_pods && (pod.addresses.is_empty() || pod.addresses.iter().any(in_block))
                }
            };
        }
        let End::Pod(pod) = packet.other else { return false };
        let there = match &peer.namespace_selector {
            Some(_) => selects(peer.namespace_selector.as_ref(), &self.namespaces[&pod.namespace]),
            None => pod.namespace == packet.own.namespace,
        };
        // What a policy makes of pods on the host network is not defined; most plugins do not know them.
        !pod.host_network && there && selects(peer.pod_selector.as_ref(), &pod.labels)
    }
}

/// "If no policyTypes are specified on a NetworkPolicy then by default Ingress will always be set and Egress will be set
/// if the NetworkPolicy has any egress rules."
fn has(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_deref() {
        Some(types @ [_, ..]) => types.iter().any(|listed| listed == direction),
        _ => direction == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

/// Peers and ports of each rule.
fn rules<'p>(spec: &'p NetworkPolicySpec, direction: &str) -> Vec<(&'p [NetworkPolicyPeer], &'p [NetworkPolicyPort])> {
    if direction == "Egress" {
        let rules = spec.egress.iter().flatten();
        rules.map(|rule| (listed(&rule.to), listed(&rule.ports))).collect()
    } else {
        let rules = spec.ingress.iter().flatten();
        rules.map(|rule| (listed(&rule.from), listed(&rule.ports))).collect()
    }
}

/// A list that is missing is an empty one.
#[allow(clippy::ref_option, reason = "fields of the API's types are lent as they are")]
fn listed<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// The port "on the given protocol", a number or a name that the target gives to one of its container's ports, or all
/// of the protocol; "if set, endPort indicates that the range of ports from port to endPort, inclusive" is allowed.
fn is_port(written: &NetworkPolicyPort, packet: Packet<'_>) -> bool {
    let number = i32::from(packet.port);
    let numbered = match (&written.port, written.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(port)), None) => *port == number,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&number),
        (Some(IntOrString::String(name)), _) => match packet.target {
            End::Address(_) => false,
            End::Pod(pod) => pod.ports.as_ref().is_none_or(|ports| {
                ports.iter().any(|(called, protocol, port)| {
                    called == name && protocol == packet.protocol && *port == packet.port
                })
            }),
        },
    };
    written.protocol.as_deref().unwrap_or("TCP") == packet.protocol && numbered
}

/// "The result of matchLabels and matchExpressions are ANDed. An empty label selector matches all objects." `NotIn`
/// also matches what has no such label.
pub fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return true };
    let mut equal = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    equal.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|one| one == value));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => unreachable!("{other}"),
            }
        })
}

/// Whether an address is one of a network, which is written like `10.0.0.0/8`.
fn within(address: &IpAddr, cidr: &str) -> bool {
    let (network, length) = cidr.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match (address, network.parse().unwrap()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= length,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= length,
        _ => false,
    }
}
