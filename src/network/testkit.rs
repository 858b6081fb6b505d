//! What the tests of this leg share: worlds and policies written as YAML, and a second opinion on what policies allow.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

pub(crate) mod packets;

use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;

pub(crate) use packets::{End, Labels, Packets, Pod};

use super::world::{ClusterNetwork, DnsAt, DnsPeer, Namespace, Workload, WorkloadKey, World};
use crate::api::names;
use crate::api::stage::{Mode, NamespaceStage, Stage};
use crate::api::workload::Runtime;

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

impl End {
    /// A pod that could exist, somewhere in the pods' range of [`world`].
    pub(crate) fn pod(namespace: &str, text: &str) -> Self {
        Self::Pod(Pod {
            namespace: namespace.to_owned(),
            labels: labels(text),
            addresses: vec!["10.244.7.7".parse().unwrap()],
            ..Pod::default()
        })
    }

    pub(crate) fn address(text: &str) -> Self {
        Self::Address(text.parse().unwrap())
    }
}

/// The packets of a world under these policies. An `ipBlock` is no pod.
pub(crate) fn packets<'a>(world: &World, policies: &'a [NetworkPolicy]) -> Packets<'a> {
    let namespaces = world.namespaces.iter();
    let namespaces = namespaces.map(|(name, found)| (name.clone(), found.labels.clone()));
    Packets {
        namespaces: namespaces.collect(),
        policies,
        blocks_match_pods: false,
    }
}
