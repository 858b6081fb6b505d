//! `Waiver`: the only way round a control, for one workload and a limited time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::Port;
use super::text::{Contact, DnsLabel, Line, RuleName};

/// The only way round a control: for one workload, exact controls and a limited time, approved by another person.
/// Cluster-scoped, so that no tenant role reaches it. Cannot be edited: create a new one.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cloison.dev",
    version = "v1alpha1",
    kind = "Waiver",
    plural = "waivers",
    singular = "waiver",
    category = "cloison",
    status = "WaiverStatus",
    derive = "PartialEq",
    printcolumn(json_path = ".spec.target.namespace", name = "Namespace", type_ = "string"),
    printcolumn(json_path = ".spec.expirationTime", name = "Expires", type_ = "string"),
    printcolumn(
        json_path = r#".status.conditions[?(@.type=="Active")].status"#,
        name = "Active",
        type_ = "string"
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self == oldSelf", "message": "OPS-02/immutable a Waiver cannot be edited; create a new one" },
    {
        "rule": "!self.controls.exists(c, c.split('/')[0] in ['DAT-01', 'NET-07', 'CLU-04'])",
        "message": "OPS-02/untouchable DAT-01, NET-07 and CLU-04 cannot be waived",
    },
    {
        "rule": "!has(self.flow) || self.controls.exists(c, c.startsWith('NET-03'))",
        "message": "OPS-02/flow a `flow` needs NET-03 in `controls`",
    },
]))]
pub struct WaiverSpec {
    /// Whom it is for.
    pub target: WaiverTarget,
    /// Controls (`SUP-01`) or rules (`WKL-01/host-ipc`).
    #[schemars(length(min = 1, max = 20), extend("x-kubernetes-list-type" = "set"))]
    pub controls: Vec<RuleName>,
    /// A flow between two stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<WaivedFlow>,
    /// Why.
    #[schemars(length(min = 20, max = 1000))]
    pub reason: String,
    /// Where it is discussed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Line>,
    /// Who asks: the caller, or a trusted applier's word.
    pub requested_by: Contact,
    /// Who approved, on a trusted applier's word; then `declared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Contact>,
    /// When it ends.
    pub expiration_time: Time,
}

/// Whom a waiver is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaiverTarget {
    /// The namespace.
    pub namespace: DnsLabel,
    /// The workload; absent means every workload of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<DnsLabel>,
}

/// A flow between two stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaivedFlow {
    /// Where it starts.
    pub from: FlowEnd,
    /// Where it ends.
    pub to: FlowEnd,
    /// Its destination ports.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<Port>,
}

/// One end of a waived flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowEnd {
    /// The namespace.
    pub namespace: DnsLabel,
    /// The workload.
    pub workload: DnsLabel,
}

/// Whether a waiver holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaiverStatus {
    /// The approval, written by the approver in person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// `Approved` and `Active`. No `Ready`: an unapproved waiver must not hang a sync.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// An approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// Who: the API server's own name of the caller.
    pub by: Contact,
    /// When.
    pub time: Time,
    /// Of which generation.
    pub generation: i64,
    /// Anything worth saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Line>,
}
