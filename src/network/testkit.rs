//! What the tests of this leg share: worlds and policies written as YAML, and a second opinion on what a policy allows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::world::{ClusterNetwork, DnsAt, DnsPeer, Namespace, Workload, WorkloadKey, World};
use crate::api::names;
use crate::api::stage::{Mode, NamespaceStage, Stage};
use crate::api::workload::Runtime;

pub(crate) type Labels = BTreeMap<String, String>;

/// `app=x tier=y` as labels.
pub(crate) fn labels(text: &str) -> Labels {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A NetworkPolicy from the YAML of its spec.
pub(crate) fn policy(namespace: &str, name: &str, spec: &str) -> NetworkPolicy {
    let mut policy = NetworkPolicy {
        spec: Some(serde_saphyr::from_str(spec).unwrap()),
        ..NetworkPolicy::default()
    };
    policy.metadata.namespace = Some(namespace.to_owned());
    policy.metadata.name = Some(name.to_owned());
    policy
}

/// A world with a cluster's usual addresses and DNS in kube-system.
pub(crate) fn world() -> World {
    let dns = DnsPeer {
        at: DnsAt::Pods {
            namespace: "kube-system".to_owned(),
            labels: labels("k8s-app=kube-dns"),
        },
        ports: [53].into(),
    };
    let cluster_ip = DnsPeer {
        at: DnsAt::Addresses(vec!["10.96.0.10/32".parse().unwrap()]),
        ports: [53].into(),
    };
    let mut world = World {
        cluster: ClusterNetwork {
            dns: vec![dns, cluster_ip],
            api_servers: vec![
                ("192.168.7.2/32".parse().unwrap(), 6443),
                ("10.96.0.1/32".parse().unwrap(), 443),
            ],
            nodes: vec!["192.168.7.2/32".parse().unwrap(), "192.168.7.3/32".parse().unwrap()],
            ranges: Some(
                ["10.244.0.0/16", "10.96.0.0/12", "192.168.7.0/24"]
                    .map(|range| range.parse().unwrap())
                    .into(),
            ),
        },
        ..World::default()
    };
    world.plain("kube-system", "");
    world
}

impl World {
    pub(crate) fn stage(&mut self, name: &str, stage: NamespaceStage) -> &mut Self {
        self.plain(name, &format!("{}={stage}", names::STAGE_LABEL));
        self.namespaces.get_mut(name).unwrap().stage = Some(stage);
        self
    }

    pub(crate) fn plain(&mut self, name: &str, text: &str) -> &mut Self {
        let mut labels = labels(text);
        labels.insert(names::NAMESPACE_NAME_LABEL.to_owned(), name.to_owned());
        let namespace = Namespace {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            labels,
            stage: None,
            mode: Mode::Enforce,
            terminating: false,
        };
        self.namespaces.insert(name.to_owned(), namespace);
        self
    }

    /// A workload of its namespace's stage. `network` is the YAML of `spec.network`.
    pub(crate) fn workload(&mut self, namespace: &str, name: &str, runtime: Runtime, network: &str) -> &mut Self {
        let stage = self.stage_of(namespace).and_then(NamespaceStage::workload_stage);
        let key = WorkloadKey::new(namespace, name);
        let workload = Workload {
            key: key.clone(),
            stage: stage.unwrap_or(Stage::Training),
            runtime,
            network: (!network.is_empty()).then(|| serde_saphyr::from_str(network).unwrap()),
            terminating: false,
            quarantined: false,
        };
        self.workloads.insert(key, workload);
        self
    }

    /// The policy from the YAML of its `spec.network`.
    pub(crate) fn policy(&mut self, network: &str) -> &mut Self {
        let mut spec = crate::api::policy::AiSecurityPolicySpec {
            network: serde_saphyr::from_str(network).unwrap(),
            ..Default::default()
        };
        std::mem::swap(Arc::make_mut(&mut self.policy), &mut spec);
        self
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> &Workload {
        &self.workloads[&WorkloadKey::new(namespace, name)]
    }
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Pod { namespace: String, labels: Labels },
    Address(std::net::IpAddr),
}

impl Peer {
    pub(crate) fn pod(namespace: &str, text: &str) -> Self {
        Self::Pod {
            namespace: namespace.to_owned(),
            labels: labels(text),
        }
    }

    pub(crate) fn address(text: &str) -> Self {
        Self::Address(text.parse().unwrap())
    }
}

/// Whether an `ipBlock` may match a pod.
pub(crate) type BlockMeetsPods = fn(&str) -> bool;

/// A second opinion: one connection under concrete policies, one packet at a time, written from Kubernetes' own words
/// and sharing no code with the analysis.
pub(crate) struct Packets<'a> {
    pub namespaces: BTreeMap<String, Labels>,
    pub policies: &'a [NetworkPolicy],
    pub blocks: BlockMeetsPods,
}

impl<'a> Packets<'a> {
    pub(crate) fn new(world: &World, policies: &'a [NetworkPolicy]) -> Self {
        let namespaces = world.namespaces.iter();
        Self {
            namespaces: namespaces
                .map(|(name, found)| (name.clone(), found.labels.clone()))
                .collect(),
            policies,
            blocks: |_| false,
        }
    }

    pub(crate) fn pass(&self, from: &Peer, to: &Peer, protocol: &str, port: u16) -> bool {
        self.half(from, to, "Egress", protocol, port) && self.half(to, from, "Ingress", protocol, port)
    }

    fn half(&self, own: &Peer, other: &Peer, direction: &str, protocol: &str, port: u16) -> bool {
        let Peer::Pod { namespace, labels } = own else {
            return true;
        };
        let mut isolated = false;
        for policy in self.policies {
            let Some(spec) = &policy.spec else { continue };
            let here = policy.metadata.namespace.as_ref() == Some(namespace);
            if !here || !matches(spec.pod_selector.as_ref(), labels) {
                continue;
            }
            let listed = match &spec.policy_types {
                Some(types) if !types.is_empty() => types.iter().any(|name| name == direction),
                _ => direction == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
            };
            if !listed {
                continue;
            }
            isolated = true;
            let permits = |peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| {
                let peers = peers.as_deref().unwrap_or_default();
                let ports = ports.as_deref().unwrap_or_default();
                (ports.is_empty() || ports.iter().any(|written| is_port(written, protocol, port)))
                    && (peers.is_empty() || peers.iter().any(|peer| self.is_peer(peer, namespace, other)))
            };
            let permitted = if direction == "Egress" {
                spec.egress.iter().flatten().any(|rule| permits(&rule.to, &rule.ports))
            } else {
                spec.ingress
                    .iter()
                    .flatten()
                    .any(|rule| permits(&rule.from, &rule.ports))
            };
            if permitted {
                return true;
            }
        }
        !isolated
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, own_namespace: &str, other: &Peer) -> bool {
        match (&peer.ip_block, other) {
            (Some(block), Peer::Pod { .. }) => (self.blocks)(&block.cidr),
            (Some(block), Peer::Address(address)) => {
                let within = |text: &String| text.parse::<ipnet::IpNet>().unwrap().contains(address);
                within(&block.cidr) && !block.except.iter().flatten().any(within)
            }
            (None, Peer::Address(_)) => false,
            (None, Peer::Pod { namespace, labels }) => {
                let found = self.namespaces.get(namespace).unwrap();
                let there = match &peer.namespace_selector {
                    None => own_namespace == namespace,
                    Some(_) => matches(peer.namespace_selector.as_ref(), found),
                };
                there && matches(peer.pod_selector.as_ref(), labels)
            }
        }
    }
}

fn is_port(written: &NetworkPolicyPort, protocol: &str, port: u16) -> bool {
    let number = i32::from(port);
    let numbered = match (&written.port, written.end_port) {
        // The pod could name any of its ports so.
        (None | Some(IntOrString::String(_)), _) => true,
        (Some(IntOrString::Int(first)), None) => *first == number,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&number),
    };
    written.protocol.as_deref().unwrap_or("TCP") == protocol && numbered
}

pub(crate) fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return true };
    let mut fits = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    for requirement in selector.match_expressions.iter().flatten() {
        let value = labels.get(&requirement.key);
        let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|one| one == value));
        fits &= match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => unreachable!("{other}"),
        };
    }
    fits
}
