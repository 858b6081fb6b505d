//! The network section of `AiSecurityPolicy`: the catalogue and what the analysis cannot find out by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::network::{CatalogueService, DnsServer, Source};
use crate::api::stage::Stage;
use crate::api::text::{Cidr, DnsLabel, Line, ObjectName};

/// Network settings and the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyNetwork {
    /// The catalogue: shared services that workloads name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub services: Option<Vec<CatalogueService>>,
    /// What may connect into stages from outside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sources: Option<Vec<Source>>,
    /// What NetworkPolicies tenants may write themselves.
    #[serde(default)]
    pub tenant_policies: TenantPolicies,
    /// DNS servers; absent means detected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<PolicyDns>,
    /// API server addresses; absent means the endpoints of the Service `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<PolicyApiServer>,
    /// The cluster's pod, service and node ranges; absent means detected. An ipBlock wholly outside them is external.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clusterCIDRs")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub cluster_cidrs: Option<Vec<Cidr>>,
    /// The widest network a workload may name.
    #[serde(default, rename = "maxEgressCIDR")]
    pub max_egress_cidr: MaxEgressCidr,
    /// Cluster-wide denies, where the cluster serves them.
    #[serde(default)]
    pub cluster_deny: ClusterDeny,
    /// The packet canary: a pair of short-lived pods in the namespaces `cloison-packets-client` and `cloison-packets-server`,
    /// which shows that the network plugin drops what policies forbid. `EnforcementVerified` and `NetworkIsolated` are True
    /// only with it, and while it is no older than `secrets.proofMaxAgeHours`.
    #[serde(default)]
    pub enforcement_proof: EnforcementProof,
    /// Accounts of dataplane controllers that touch our NetworkPolicies without changing them.
    #[serde(default = "dataplane_controllers")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub dataplane_controllers: Vec<ObjectName>,
    /// Fabrics that are one stage's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub dedicated_interfaces: Option<Vec<DedicatedInterface>>,
    /// The service mesh.
    #[serde(default)]
    pub mesh: Mesh,
}

fn dataplane_controllers() -> Vec<ObjectName> {
    vec!["eks:network-policy-controller".into()]
}

impl Default for PolicyNetwork {
    fn default() -> Self {
        Self {
            services: None,
            sources: None,
            tenant_policies: TenantPolicies::default(),
            dns: None,
            api_server: None,
            cluster_cidrs: None,
            max_egress_cidr: MaxEgressCidr::default(),
            cluster_deny: ClusterDeny::default(),
            enforcement_proof: EnforcementProof::default(),
            dataplane_controllers: dataplane_controllers(),
            dedicated_interfaces: None,
            mesh: Mesh::default(),
        }
    }
}

/// What NetworkPolicies tenants may write themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TenantPolicies {
    /// Rules within their own namespace, and networks outside the cluster within the policy's limits.
    #[default]
    OwnNamespace,
    /// As `OwnNamespace`, and peers in other namespaces that open no half of a path between stages: the webhook analyses
    /// each policy at the door. Without the webhook the same as `OwnNamespace`.
    Analysed,
    /// Nothing that allows anything.
    None,
}

/// DNS servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDns {
    /// Pods or addresses that answer DNS.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub servers: Vec<DnsServer>,
    /// The port they listen on; 53 unless named (OpenShift: 5353).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// API server addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyApiServer {
    /// Networks they are in.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub cidrs: Vec<Cidr>,
}

/// The widest network a workload may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaxEgressCidr {
    /// Shortest IPv4 prefix.
    #[serde(default = "ipv4_prefix", rename = "ipv4PrefixLength")]
    #[schemars(range(min = 1, max = 32))]
    pub ipv4_prefix_length: i32,
    /// Shortest IPv6 prefix.
    #[serde(default = "ipv6_prefix", rename = "ipv6PrefixLength")]
    #[schemars(range(min = 1, max = 128))]
    pub ipv6_prefix_length: i32,
}

const fn ipv4_prefix() -> i32 {
    16
}
const fn ipv6_prefix() -> i32 {
    48
}

impl Default for MaxEgressCidr {
    fn default() -> Self {
        Self {
            ipv4_prefix_length: ipv4_prefix(),
            ipv6_prefix_length: ipv6_prefix(),
        }
    }
}

/// Cluster-wide denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterDeny {
    /// Whatever the cluster serves.
    Auto,
    /// None.
    #[default]
    None,
    /// `ClusterNetworkPolicy` of policy.networking.k8s.io.
    ClusterNetworkPolicy,
}

/// When the packet canary runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EnforcementProof {
    /// Never.
    #[default]
    None,
    /// At the controller's start, when this section, the cluster's nodes and addresses, or the kinds of policies beside ours
    /// change, and after a run that did not end in True. The proof grows too old without one of these.
    OnChange,
    /// Also from time to time, so that the proof never grows too old.
    Periodic,
}

/// A fabric that is one stage's alone: exactly one of `resourceName`, `networkAttachment`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.resourceName), has(self.networkAttachment)].filter(x, x).size() == 1",
    "message": "NET-03/interface exactly one of `resourceName`, `networkAttachment` must be set",
}]))]
pub struct DedicatedInterface {
    /// Its name in reports.
    pub name: DnsLabel,
    /// An extended resource, for instance `rdma/hca_shared_devices_a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<Line>,
    /// A network attachment definition, `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_attachment: Option<Line>,
    /// The stages it belongs to.
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Vec<Stage>,
}

/// The service mesh. Ambient and Linkerd tunnel what pods send to each other through one port, which every flow between pods
/// then opens too (15008, 4143): which of a peer's ports is meant is for the mesh to enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the products'")]
pub enum Mesh {
    #[default]
    None,
    Istio,
    Ambient,
    Linkerd,
}
