//! `AiSecurityPolicy`: the organisation's security policy as one object, named `default`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{PolicyEvidence, Pssi};
use super::stage::{ControlMode, Mode};
use super::text::{CamelCase, ControlName, Line, ObjectName};
use super::workload::{Autonomy, Classification};

mod network;
mod pods;

pub use network::{
    ClusterDeny, DedicatedInterface, EnforcementProof, MaxEgressCidr, Mesh, PolicyApiServer, PolicyDns, PolicyNetwork,
    TenantPolicies,
};
pub use pods::{CapabilityRule, DigestRule, ImageRule, PolicyPods};

/// The organisation's policy: modes, the catalogue of shared services, thresholds. There is one, named `default`; the
/// controller creates it empty at its first start, so that an installation nobody configured audits and breaks nothing.
/// Deleting it later means *hold*: nothing is written and nothing is loosened.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cloison.dev",
    version = "v1alpha1",
    kind = "AiSecurityPolicy",
    plural = "aisecuritypolicies",
    singular = "aisecuritypolicy",
    shortname = "aisp",
    category = "cloison",
    status = "AiSecurityPolicyStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name == 'default'")
        .message("CLU-02/singleton there is one AiSecurityPolicy and its name is `default`"),
    printcolumn(json_path = ".spec.mode", name = "Mode", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="Ready")].status"#, name = "Ready", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="AdmissionEnforced")].status"#, name = "Admission", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="SecretsEncrypted")].status"#, name = "Encrypted", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AiSecurityPolicySpec {
    /// The mode of namespaces without the label `cloison.dev/mode`.
    #[serde(default)]
    pub mode: Mode,
    /// Pins what may be above Audit: an upgrade must not refuse today what ran yesterday.
    #[serde(default = "control_set")]
    #[schemars(length(min = 1, max = 16))]
    pub control_set: String,
    /// Controls whose mode differs from the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub controls: Option<Vec<ControlSetting>>,
    /// Conditions that Ready also needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub require: Option<Vec<RequiredCondition>>,
    /// A workload conforms when its score is strictly greater.
    #[serde(default = "min_score")]
    #[schemars(range(min = 0, max = 100))]
    pub min_score: i32,
    /// Network settings and the catalogue.
    #[serde(default)]
    pub network: PolicyNetwork,
    /// What pods may contain.
    #[serde(default)]
    pub pods: PolicyPods,
    /// What models may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<PolicyModels>,
    /// What data may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PolicyData>,
    /// How far an AI may act by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_autonomy: Option<Autonomy>,
    /// Uses that are refused; no waiver. Absent means the practices of Art. 5 of the AI Act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub prohibited_uses: Option<Vec<CamelCase>>,
    /// Uses that need an approved legal assessment; no waiver. Absent means biometrics and special data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub restricted_uses: Option<Vec<CamelCase>>,
    /// Settings for Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PolicySecrets>,
    /// Limits of waivers.
    #[serde(default)]
    pub waivers: PolicyWaivers,
    /// Where evidence is and how old it may be.
    #[serde(default)]
    pub evidence: PolicyEvidence,
    /// The organisation's policy document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pssi: Option<Pssi>,
    /// How often everything is looked at again, in seconds.
    #[serde(default = "interval")]
    #[schemars(range(min = 10, max = 3600))]
    pub interval_seconds: i32,
}

fn control_set() -> String {
    "2026.1".to_owned()
}
const fn min_score() -> i32 {
    80
}
const fn interval() -> i32 {
    60
}

/// The mode of one control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(has(self.mode) && self.mode == 'Disabled') || has(self.reason)",
        "message": "CLU-02/reason a control that is Disabled needs a `reason`",
    },
    {
        "rule": "!(self.id in ['DAT-01', 'NET-07', 'CLU-04']) || ((!has(self.mode) || self.mode != 'Disabled') && \
                 (!has(self.perStage) || [has(self.perStage.training) && self.perStage.training == 'Disabled', \
                 has(self.perStage.evaluation) && self.perStage.evaluation == 'Disabled', \
                 has(self.perStage.inference) && self.perStage.inference == 'Disabled', \
                 has(self.perStage.shared) && self.perStage.shared == 'Disabled'].all(off, !off)))",
        "message": "CLU-02/untouchable DAT-01, NET-07 and CLU-04 cannot be Disabled",
    },
]))]
pub struct ControlSetting {
    /// The control.
    pub id: ControlName,
    /// Its mode everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ControlMode>,
    /// Its mode in some stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_stage: Option<PerStage>,
    /// Why; required when weaker than built in. Without it the built-in mode stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub reason: Option<String>,
    /// From when it holds; until then the control is at most Audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_time: Option<Time>,
}

/// A mode for each stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PerStage {
    /// In training namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<ControlMode>,
    /// In evaluation namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<ControlMode>,
    /// In inference namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference: Option<ControlMode>,
    /// In shared namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<ControlMode>,
}

/// A condition that Ready can be made to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "named as the conditions are")]
pub enum RequiredCondition {
    PoliciesIsolate,
    EnforcementVerified,
    NetworkIsolated,
    InterfacesCovered,
    FlowsSatisfied,
    SecretsEncrypted,
    AdmissionEnforced,
    Conforms,
}

impl RequiredCondition {
    /// The type of the condition.
    pub const fn kind(self) -> &'static str {
        use super::conditions::types;
        match self {
            Self::PoliciesIsolate => types::POLICIES_ISOLATE,
            Self::EnforcementVerified => types::ENFORCEMENT_VERIFIED,
            Self::NetworkIsolated => types::NETWORK_ISOLATED,
            Self::InterfacesCovered => types::INTERFACES_COVERED,
            Self::FlowsSatisfied => types::FLOWS_SATISFIED,
            Self::SecretsEncrypted => types::SECRETS_ENCRYPTED,
            Self::AdmissionEnforced => types::ADMISSION_ENFORCED,
            Self::Conforms => types::CONFORMS,
        }
    }
}

/// What models may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyModels {
    /// File formats; absent means Safetensors, Onnx and Gguf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub formats: Option<Vec<CamelCase>>,
    /// Where models may come from, as prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub sources: Option<Vec<Line>>,
}

/// What data may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyData {
    /// The highest classification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_classification: Option<Classification>,
    /// Regions that may hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_regions: Option<Vec<Line>>,
    /// Domains that owners may be in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub owner_domains: Option<Vec<Line>>,
}

/// Settings for Secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySecrets {
    /// Storage classes whose volumes are encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub encrypted_storage_classes: Option<Vec<ObjectName>>,
    /// The oldest a Secret may be, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub max_age_days: Option<i32>,
    /// How old the proof behind `SecretsEncrypted` may be, in hours.
    #[serde(default = "proof_hours")]
    #[schemars(range(min = 1, max = 720))]
    pub proof_max_age_hours: i32,
}

const fn proof_hours() -> i32 {
    24
}

/// Limits of waivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyWaivers {
    /// The longest a waiver may last, in days.
    #[serde(default = "waiver_days")]
    #[schemars(range(min = 1, max = 366))]
    pub max_days: i32,
    /// GitOps accounts whose word on who asked and who approved is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub trusted_appliers: Option<Vec<ObjectName>>,
}

const fn waiver_days() -> i32 {
    90
}

impl Default for PolicyWaivers {
    fn default() -> Self {
        Self {
            max_days: waiver_days(),
            trusted_appliers: None,
        }
    }
}

/// What the controller says about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AiSecurityPolicyStatus {
    /// The generation this status speaks of; −1 until the first visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, AdmissionEnforced, EnforcementVerified, SecretsEncrypted, PolicyCurrent; where it is asked for also
    /// ClusterDenyPlaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Hash of the admission policies generated from this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub policy_hash: Option<String>,
    /// Namespaces and workloads per stage and mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12), extend("x-kubernetes-list-type" = "atomic"))]
    pub counts: Vec<StageCount>,
    /// Policy kinds this cluster serves that the analysis does not model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub unmodelled_policy_kinds: Vec<Line>,
}

/// How many namespaces and workloads a stage has in a mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageCount {
    /// The stage's label value.
    pub stage: super::stage::NamespaceStage,
    /// The mode.
    pub mode: Mode,
    /// Namespaces.
    pub namespaces: i32,
    /// Workloads.
    pub workloads: i32,
}
