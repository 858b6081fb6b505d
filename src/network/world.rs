//! What the network leg knows of the cluster: plain data, filled by the edge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use ipnet::IpNet;

use super::waivers::FlowWaiver;
use crate::api::network::{CatalogueService, Source};
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::{Mode, NamespaceStage, Stage};
use crate::api::text::Cidr;
use crate::api::workload::{Runtime, WorkloadNetwork};

use super::cluster_policy::ClusterNetworkPolicy;

/// Everything a verdict about the network depends on. The same world gives the same bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Every namespace of the cluster, by name; those without a stage too, because paths lead there.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Every `AiWorkload`.
    pub workloads: BTreeMap<WorkloadKey, Workload>,
    /// The Waivers with a flow, by name, those that open nothing too.
    pub waivers: BTreeMap<String, FlowWaiver>,
    /// The organisation's policy.
    pub policy: Arc<AiSecurityPolicySpec>,
    /// What was detected about the cluster's own addresses.
    pub cluster: ClusterNetwork,
    /// Every ClusterNetworkPolicy, by name.
    pub cluster_policies: Vec<ClusterNetworkPolicy>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its uid, part of the seal.
    pub uid: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// The stage its label names; `None` also for a label that names none.
    pub stage: Option<NamespaceStage>,
    /// Its mode, the policy's default included.
    pub mode: Mode,
    /// It is being deleted. Its policies stay until its last pod is gone.
    pub terminating: bool,
}

/// The identity of an `AiWorkload`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl WorkloadKey {
    /// A key.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What the network needs of an `AiWorkload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which one.
    pub key: WorkloadKey,
    /// The stage its author wrote; must be its namespace's.
    pub stage: Stage,
    /// What its pods run.
    pub runtime: Runtime,
    /// The flows its author wrote.
    pub network: Option<WorkloadNetwork>,
    /// It is being deleted. Its flows stay until the controller withdraws them, at the pace it keeps.
    pub terminating: bool,
    /// It is in quarantine: nothing is open, not even inside it.
    pub quarantined: bool,
}

/// Addresses of the cluster itself. What the policy says wins over what was detected: see [`World::dns`],
/// [`World::api_servers`] and [`World::ranges`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterNetwork {
    /// The DNS servers in use.
    pub dns: Vec<DnsPeer>,
    /// Addresses and ports of the API servers: the EndpointSlice of the Service `kubernetes`, and its ClusterIP.
    pub api_servers: Vec<(IpNet, u16)>,
    /// Addresses of the nodes, sorted; empty while they are not known.
    pub nodes: Vec<IpNet>,
    /// Ranges of pods, Services and nodes; `None` when they could not be detected.
    pub ranges: Option<Vec<IpNet>>,
}

/// DNS servers at one place. Both UDP and TCP are meant: long answers change to TCP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsPeer {
    /// Where.
    pub at: DnsAt,
    /// The ports the servers listen on, after any translation by a Service.
    pub ports: BTreeSet<u16>,
}

/// Where DNS servers are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DnsAt {
    /// Pods with these labels; no labels means every pod of the namespace.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Their labels.
        labels: BTreeMap<String, String>,
    },
    /// Addresses: ClusterIPs, the node-local cache, a cloud's resolver.
    Addresses(Vec<IpNet>),
}

/// The port of an API server where only networks are known.
const HTTPS: u16 = 443;
/// The port of a DNS server unless the policy names another.
const DNS_PORT: u16 = 53;

impl World {
    /// The stage of a namespace; `None` for one that is unknown or has none.
    pub fn stage_of(&self, namespace: &str) -> Option<NamespaceStage> {
        self.namespaces.get(namespace)?.stage
    }

    /// The workloads of a namespace, in order of name.
    pub fn workloads_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Workload> {
        let first = WorkloadKey::new(namespace, "");
        self.workloads
            .range((Bound::Included(first), Bound::Unbounded))
            .map(|(_, workload)| workload)
            .take_while(move |workload| workload.key.namespace == namespace)
    }

    /// The policy's catalogue.
    pub fn services(&self) -> &[CatalogueService] {
        self.policy.network.services.as_deref().unwrap_or_default()
    }

    /// The policy's sources.
    pub fn sources(&self) -> &[Source] {
        self.policy.network.sources.as_deref().unwrap_or_default()
    }

    /// The DNS servers: the policy's, or else those detected. An entry with host names is skipped: a resolver cannot be
    /// found by name.
    pub fn dns(&self) -> Vec<DnsPeer> {
        let Some(said) = &self.policy.network.dns else {
            return self.cluster.dns.clone();
        };
        let port = said.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DNS_PORT);
        let at = |end: &crate::api::network::DnsServer| match (&end.namespace, &end.cidrs) {
            (Some(namespace), _) => Some(DnsAt::Pods {
                namespace: namespace.to_string(),
                labels: owned(end.pod_labels.as_ref()),
            }),
            (None, Some(cidrs)) => Some(DnsAt::Addresses(networks(cidrs).collect())),
            (None, None) => None,
        };
        let peer = |at| DnsPeer {
            at,
            ports: BTreeSet::from([port]),
        };
        said.servers.iter().filter_map(at).map(peer).collect()
    }

    /// The API servers: the policy's networks with the detected ports, or else what was detected.
    pub fn api_servers(&self) -> Vec<(IpNet, u16)> {
        let detected = &self.cluster.api_servers;
        let Some(said) = &self.policy.network.api_server else {
            return detected.clone();
        };
        let ports: BTreeSet<u16> = detected.iter().map(|(_, port)| *port).chain([HTTPS]).collect();
        let networks: Vec<IpNet> = networks(&said.cidrs).collect();
        networks
            .iter()
            .flat_map(|network| ports.iter().map(|port| (*network, *port)))
            .collect()
    }

    /// The cluster's ranges: the policy's, or else those detected; `None` when nobody knows. One that cannot be read
    /// makes them unknown: without it, pods would pass for addresses outside the cluster.
    pub fn ranges(&self) -> Option<Vec<IpNet>> {
        let known = match &self.policy.network.cluster_cidrs {
            Some(said) if !said.is_empty() => said.iter().map(|cidr| network(&cidr.0)).collect(),
            _ => self.cluster.ranges.clone(),
        };
        known.filter(|ranges: &Vec<IpNet>| !ranges.is_empty())
    }
}

/// Reads a network, host bits and all. Numbers with leading zeros are refused: some programs take `010` for eight.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let plain = length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let address: IpAddr = address.parse().ok()?;
    IpNet::new(address, length.parse().ok().filter(|_| plain)?).ok()
}

/// The networks that a person wrote, without those that cannot be read.
fn networks(cidrs: &[Cidr]) -> impl Iterator<Item = IpNet> {
    cidrs.iter().filter_map(|cidr| network(&cidr.0))
}

/// Labels of the catalogue as Kubernetes wants them.
pub(crate) fn owned(labels: Option<&crate::api::network::PodLabels>) -> BTreeMap<String, String> {
    labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect()
}
