//! `ClusterNetworkPolicy` of `policy.networking.k8s.io/v1alpha2`, as Kubernetes' network-policy-api defines it. No client
//! crate has it, so the fields are written down here. The kind is known by its full group and version: others serve
//! kinds of the same name that mean something else.
//!
//! Reading is strict: what these types do not know may be what turns the meaning round.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// API group.
pub const GROUP: &str = "policy.networking.k8s.io";
/// API version.
pub const VERSION: &str = "v1alpha2";
/// As in paths and roles.
pub const PLURAL: &str = "clusternetworkpolicies";
/// Kind.
pub const KIND: &str = "ClusterNetworkPolicy";

/// A policy of the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterNetworkPolicy {
    /// Its name.
    pub name: String,
    /// What it says, or why it cannot be read.
    pub spec: Result<Spec, String>,
}

impl ClusterNetworkPolicy {
    /// From what the API server or a file says of its `spec`.
    pub fn read(name: impl Into<String>, spec: Value) -> Self {
        Self {
            name: name.into(),
            spec: serde_json::from_value(spec).map_err(|error| format!("spec: {error}")),
        }
    }
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// Whether it comes before the NetworkPolicies or after them.
    pub tier: Tier,
    /// From 0 to 1000; the lowest comes first. Between equal ones no order is promised.
    pub priority: i32,
    /// The pods it is for.
    pub subject: Subject,
    /// Rules for what reaches those pods; the first that fits decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// Rules for what those pods reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// The place of a policy among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// Before every NetworkPolicy, which cannot undo what is decided here.
    Admin,
    /// For pods that no NetworkPolicy isolates.
    Baseline,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// It is let through, whatever NetworkPolicies say.
    Accept,
    /// It is dropped.
    Deny,
    /// The next tier decides.
    Pass,
}

/// Pods, never those of the host network. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// All pods of the namespaces that match.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
}

/// Pods by their labels and those of their namespaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespacedPod {
    /// Left out or empty: every namespace.
    #[serde(default, deserialize_with = "strict")]
    pub namespace_selector: LabelSelector,
    /// Empty: every pod.
    #[serde(deserialize_with = "strict")]
    pub pod_selector: LabelSelector,
}

/// One rule for what comes in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressRule {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What becomes of it.
    pub action: Action,
    /// Who connects: at least one.
    pub from: Vec<Subject>,
    /// `None`: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ProtocolMatch>>,
}

/// One rule for what goes out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What becomes of it.
    pub action: Action,
    /// Who is reached: at least one.
    pub to: Vec<EgressPeer>,
    /// `None`: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ProtocolMatch>>,
}

/// Who is reached. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressPeer {
    /// All pods of the namespaces that match.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
    /// Addresses, those of pods too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Nodes by their labels. Only in the experimental channel.
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// Host names. Only in the experimental channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
}

/// What a rule wants of the protocol. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtocolMatch {
    /// TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Transport>,
    /// UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Transport>,
    /// SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sctp: Option<Transport>,
    /// What the target's containers call so, of whatever protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// Ports of one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transport {
    /// Must be set, although upstream leaves room for other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<PortMatch>,
}

/// A port or a range. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortMatch {
    /// One port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// From one port to a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<PortRange>,
}

/// Both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first port.
    pub start: i32,
    /// The last port, later than the first.
    pub end: i32,
}

/// A selector as written. The types of Kubernetes pass over fields they do not know, and a selector without what was
/// misspelt selects everything.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LabelSelector, D::Error> {
    let Written {
        match_labels,
        match_expressions,
    } = Written::deserialize(deserializer)?;
    let requirement = |Requirement { key, operator, values }| LabelSelectorRequirement { key, operator, values };
    Ok(LabelSelector {
        match_labels,
        match_expressions: match_expressions.map(|all| all.into_iter().map(requirement).collect()),
    })
}

fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LabelSelector>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Strict(#[serde(deserialize_with = "strict")] LabelSelector);
    Ok(Option::<Strict>::deserialize(deserializer)?.map(|Strict(selector)| selector))
}
