//! How rules are spelt. Only `matchLabels` and `In` (and `DoesNotExist` for the workload `default`), numeric ports,
//! explicit protocols, masked networks: what every CNI and every analyser reads the same way.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::names;
use crate::network::flows::Peer;
use crate::network::ports::PortSet;
use crate::network::world::WorkloadKey;

/// A value of `policyTypes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::network) enum Direction {
    Ingress,
    Egress,
}

/// A policy of ours. Every list is set, also when empty: a field that is not set is not owned, and another manager
/// could then fill it.
pub(in crate::network) fn object(
    namespace: &str,
    name: String,
    pod_selector: LabelSelector,
    directions: &[Direction],
    ingress: Vec<NetworkPolicyIngressRule>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> NetworkPolicy {
    let word = |direction: &Direction| match direction {
        Direction::Ingress => "Ingress".to_owned(),
        Direction::Egress => "Egress".to_owned(),
    };
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pod_selector),
            policy_types: Some(directions.iter().map(word).collect()),
            ingress: Some(ingress),
            egress: Some(egress),
        }),
    }
}

/// The labels of every object of ours.
pub(in crate::network) fn labels() -> BTreeMap<String, String> {
    [names::PART_OF_LABEL, names::MANAGED_BY_LABEL]
        .into_iter()
        .map(|key| (key.to_owned(), names::CLOISON.to_owned()))
        .collect()
}

/// Pods with all these labels; without labels, every pod.
pub(in crate::network) fn selecting(labels: impl IntoIterator<Item = (String, String)>) -> LabelSelector {
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    LabelSelector {
        match_labels: (!labels.is_empty()).then_some(labels),
        match_expressions: None,
    }
}

/// The pods of a workload. Those of `default` carry no label: many controllers cannot set one.
pub(in crate::network) fn in_workload(workload: &str) -> LabelSelector {
    if workload == names::DEFAULT_WORKLOAD {
        return LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: names::WORKLOAD_LABEL.to_owned(),
                operator: "DoesNotExist".to_owned(),
                values: None,
            }]),
        };
    }
    selecting([(names::WORKLOAD_LABEL.to_owned(), workload.to_owned())])
}

/// The pods of a workload in the policy's own namespace.
pub(super) fn own_pods(workload: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(in_workload(workload)),
        ..NetworkPolicyPeer::default()
    }
}

/// The other end of a flow.
pub(in crate::network) fn peer(peer: &Peer) -> NetworkPolicyPeer {
    match peer {
        Peer::Workload(key) => pods(&key.namespace, in_workload(&key.name)),
        Peer::Pods { namespace, labels } => pods(namespace, selecting(labels.clone())),
        Peer::Network { cidr, except } => NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: cidr.trunc().to_string(),
                except: Some(except.iter().map(IpNet::to_string).collect()),
            }),
            ..NetworkPolicyPeer::default()
        },
    }
}

/// The workload that a peer names: the inverse of [`peer`]. `None` for any other peer, however alike.
pub fn workload_of(peer: &NetworkPolicyPeer) -> Option<WorkloadKey> {
    let namespace = peer.namespace_selector.as_ref()?.match_expressions.as_deref()?;
    let [requirement] = namespace else { return None };
    let [namespace] = requirement.values.as_deref()? else {
        return None;
    };
    let labels = peer.pod_selector.as_ref()?.match_labels.as_ref();
    let name = labels.and_then(|labels| labels.get(names::WORKLOAD_LABEL));
    let key = WorkloadKey::new(namespace, name.map_or(names::DEFAULT_WORKLOAD, String::as_str));
    let rendered = self::peer(&Peer::Workload(key.clone()));
    (rendered == *peer).then_some(key)
}

/// Pods of a namespace, found by the one label that nobody can forge.
fn pods(namespace: &str, selector: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: None,
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: names::NAMESPACE_NAME_LABEL.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![namespace.to_owned()]),
            }]),
        }),
        pod_selector: Some(selector),
        ip_block: None,
    }
}

/// Ports of a rule; an empty list is every port.
pub(in crate::network) fn ports(ports: &PortSet) -> Vec<NetworkPolicyPort> {
    ports
        .rendered()
        .into_iter()
        .map(|(protocol, port, end_port)| NetworkPolicyPort {
            protocol: Some(protocol.as_str().to_owned()),
            port: port.map(|port| IntOrString::Int(i32::from(port))),
            end_port: end_port.map(i32::from),
        })
        .collect()
}
