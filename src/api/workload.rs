//! `AiWorkload`: what an ML engineer writes.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::network::{AcceptFrom, ConnectTo, WorkloadRef};
use super::stage::Stage;
use super::text::{CamelCase, Contact, Digest, DnsLabel, Line, ObjectName};

mod status;

pub use status::{AiWorkloadStatus, FindingStatus, FlowDirection, FlowState, FlowStatus};

/// One AI workload: who owns it, what it is for, what it talks to. Its pods carry the label `cloison.dev/workload` with
/// its name; pods without the label belong to the `AiWorkload` named `default` of their namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cloison.dev",
    version = "v1alpha1",
    kind = "AiWorkload",
    plural = "aiworkloads",
    singular = "aiworkload",
    shortname = "aiw",
    category = "cloison",
    namespaced,
    status = "AiWorkloadStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')")
        .message("WKL-02/name `metadata.name` is the value of a pod label: at most 63 characters and no dot"),
    printcolumn(json_path = ".spec.stage", name = "Stage", type_ = "string"),
    printcolumn(json_path = ".status.mode", name = "Mode", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="Ready")].status"#, name = "Ready", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="NetworkIsolated")].status"#, name = "Isolated", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="SecretsEncrypted")].status"#, name = "Encrypted", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="AdmissionEnforced")].status"#, name = "Admitted", type_ = "string"),
    printcolumn(json_path = ".status.score", name = "Score", type_ = "integer"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.model) || self.stage != 'Training'",
        "message": "SUP-02/model `model` belongs to stage Inference or Evaluation; a Training workload lists what it made under `outputs`",
    },
    {
        "rule": "!has(self.outputs) || self.stage != 'Inference'",
        "message": "SUP-06/outputs `outputs` belongs to stage Training or Evaluation",
    },
]))]
pub struct AiWorkloadSpec {
    /// The stage; must be the namespace's. Cannot change: create the workload in a namespace of the other stage.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self == oldSelf",
        "message": "NET-02/stage-immutable `stage` cannot change; create the workload in a namespace of the other stage",
    }]))]
    pub stage: Stage,
    /// The team or person who answers for it.
    pub owner: Contact,
    /// What it is for, in a sentence.
    #[schemars(length(min = 10, max = 1000))]
    pub purpose: String,
    /// Groups the workloads of one AI system in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<DnsLabel>,
    /// What its pods run: brings ports and flows.
    #[serde(default)]
    pub runtime: Runtime,
    /// What it talks to. DNS, traffic inside the workload and automatic services need no entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<WorkloadNetwork>,
    /// Stricter settings for Secrets than the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<WorkloadSecrets>,
    /// The data it works on.
    #[serde(default)]
    pub data: WorkloadData,
    /// What the AI does, for instance `BiometricIdentification`. The policy prohibits some uses and restricts others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub uses: Option<Vec<CamelCase>>,
    /// The model it serves or judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// What promotion may take from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["digest"]))]
    pub outputs: Option<Vec<Output>>,
    /// How far it acts by itself.
    #[serde(default)]
    pub autonomy: Autonomy,
    /// Role and risk class under the AI Act.
    #[serde(default)]
    pub ai_act: AiAct,
    /// Whom to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Contacts>,
    /// How long logs and data are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Documents that open gates and raise the score; one current item of each kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind"]))]
    pub evidence: Option<Vec<Evidence>>,
}

/// A runtime with known ports and flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the products'")]
pub enum Runtime {
    #[default]
    Generic,
    PyTorch,
    Trainer,
    MPI,
    Ray,
    KServe,
    VLLM,
    Triton,
    Notebook,
}

/// The flows of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadNetwork {
    /// What it connects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub connect_to: Option<Vec<ConnectTo>>,
    /// What may connect to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub accept_from: Option<Vec<AcceptFrom>>,
    /// Ports with metrics; absent means the runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4), inner(range(min = 1, max = 65535)), extend("x-kubernetes-list-type" = "set"))]
    pub metrics_ports: Option<Vec<i32>>,
}

/// How Secrets reach the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    /// Mounted files only.
    FilesOnly,
    /// Environment variables from Secrets are allowed.
    EnvFromSecretsAllowed,
}

/// Whether Secrets must be immutable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Immutability {
    /// They must be.
    Required,
    /// They should be.
    Preferred,
}

/// Whether volumes must be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeEncryption {
    /// Only storage classes the policy lists as encrypted.
    Encrypted,
    /// Any.
    Any,
}

/// Settings for Secrets; only stricter than the policy's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSecrets {
    /// How Secrets reach the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Whether Secrets must be immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutability: Option<Immutability>,
    /// The oldest a Secret may be, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub max_age_days: Option<i32>,
    /// Whether volumes must be encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumeEncryption>,
}

/// How confidential data is. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words are the scale's")]
pub enum Classification {
    Public,
    #[default]
    Internal,
    Restricted,
    Confidential,
}

/// Whether data is about people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PersonalData {
    /// It is not.
    #[default]
    None,
    /// It is.
    Personal,
    /// It belongs to a special category (GDPR Art. 9).
    Special,
}

/// The data a workload works on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadData {
    /// How confidential it is.
    #[serde(default)]
    pub classification: Classification,
    /// Whether it is about people.
    #[serde(default)]
    pub personal: PersonalData,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub datasets: Option<Vec<Dataset>>,
}

/// A dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dataset {
    /// Its name.
    pub name: DnsLabel,
    /// Its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Where it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Line>,
    /// Its licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<Line>,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Its name.
    pub name: ObjectName,
    /// Its digest.
    pub digest: Digest,
    /// Its file format, for instance `Safetensors`.
    pub format: CamelCase,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Line>,
    /// Where it is fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Line>,
    /// The training workload that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WorkloadRef>,
}

/// A model or dataset that a workload made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// Its name.
    pub name: ObjectName,
    /// Its digest.
    pub digest: Digest,
}

/// How far an AI acts by itself. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Autonomy {
    /// It answers.
    #[default]
    Answers,
    /// It suggests actions to a person.
    Suggests,
    /// It acts once a person approved.
    ActsWithApproval,
    /// It acts.
    Acts,
}

/// Role under the AI Act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words are the law's")]
pub enum AiActRole {
    Provider,
    Deployer,
}

/// Risk class under the AI Act. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words are the law's")]
pub enum RiskClass {
    #[default]
    Unclassified,
    Minimal,
    Limited,
    High,
}

/// Role and risk class under the AI Act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AiAct {
    /// The organisation's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AiActRole>,
    /// The risk class.
    #[serde(default)]
    pub risk_class: RiskClass,
}

/// Whom to call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contacts {
    /// For security.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Contact>,
    /// For incidents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incidents: Option<Contact>,
}

/// How long logs and data are kept, in days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retention {
    /// Logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub logs_days: Option<i32>,
    /// Data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub data_days: Option<i32>,
}
