//! The status of an `AiWorkload`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::stage::Mode;

/// What the controller says about a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AiWorkloadStatus {
    /// The generation this status speaks of; −1 until the first visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The mode of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The score, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub score: Option<i32>,
    /// Hash of the policy this status was judged under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub policy_hash: Option<String>,
    /// Each declared flow and whether it is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["direction", "name"]))]
    pub flows: Vec<FlowStatus>,
    /// The worst findings, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub findings: Vec<FindingStatus>,
}

/// Which way a flow goes, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "NetworkPolicy's words")]
pub enum FlowDirection {
    Egress,
    Ingress,
}

/// Whether a flow is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FlowState {
    /// Both ends agree and the rules are rendered.
    Open,
    /// The other workload does not declare the flow yet.
    AwaitingPeer,
    /// The other end is not known.
    Unresolved,
    /// The matrix or the policy does not allow it.
    Refused,
}

/// One declared flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowStatus {
    /// Which way it goes.
    pub direction: FlowDirection,
    /// The other end, as written.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Whether it is open.
    pub state: FlowState,
    /// Why not, and the fix.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

/// One finding, shortened for a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindingStatus {
    /// The control.
    #[schemars(length(min = 6, max = 16))]
    pub control: String,
    /// The rule, where the control has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 48))]
    pub rule: Option<String>,
    /// How bad it is.
    #[schemars(length(max = 16))]
    pub severity: String,
    /// What, where, why and the fix.
    #[schemars(length(min = 1, max = 1024))]
    pub message: String,
}
