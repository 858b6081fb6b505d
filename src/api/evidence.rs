//! Evidence: what a workload names, and what the policy asks of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{CamelCase, Contact, Digest, DnsLabel, ObjectName, Url};

/// What a piece of evidence shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words say it")]
pub enum EvidenceKind {
    RiskAssessment,
    ImpactAssessment,
    LegalAssessment,
    RightsAssessment,
    DataProtection,
    Sbom,
    SecurityAudit,
    Tests,
    Fallback,
    Review,
    Certificate,
}

/// One document: exactly one of `configMapRef`, `objectRef`, `url`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.configMapRef), has(self.objectRef), has(self.url)].filter(x, x).size() == 1",
    "message": "EVD-02/reference exactly one of `configMapRef`, `objectRef`, `url` must be set",
}]))]
pub struct Evidence {
    /// What it shows.
    pub kind: EvidenceKind,
    /// A ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapRef>,
    /// An object of a kind the program can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
    /// An address. Always `declared`: it is never fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// The document's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
    /// Who approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Contact>,
}

/// A ConfigMap, in the workload's namespace or one the policy names for evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapRef {
    /// Its name.
    pub name: ObjectName,
    /// The key; absent means the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ObjectName>,
}

/// An object in the workload's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Its API version.
    pub api_version: ObjectName,
    /// Its kind.
    pub kind: CamelCase,
    /// Its name.
    pub name: ObjectName,
}

/// Where evidence is and how old it may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyEvidence {
    /// Namespaces whose evidence counts as verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Option<Vec<DnsLabel>>,
    /// How old a kind of evidence may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind"]))]
    pub max_age: Option<Vec<EvidenceAge>>,
    /// A Lynis index must be strictly greater.
    #[serde(default = "lynis")]
    #[schemars(range(min = 0, max = 100))]
    pub lynis_threshold: i32,
}

const fn lynis() -> i32 {
    80
}

impl Default for PolicyEvidence {
    fn default() -> Self {
        Self {
            namespaces: None,
            max_age: None,
            lynis_threshold: lynis(),
        }
    }
}

/// How old a kind of evidence may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceAge {
    /// The kind.
    pub kind: EvidenceKind,
    /// In days.
    #[schemars(range(min = 1, max = 3650))]
    pub days: i32,
}

/// The organisation's policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pssi {
    /// The ConfigMap it is in.
    pub config_map_ref: NamespacedConfigMapRef,
    /// The oldest version that counts, compared as (major, minor).
    #[serde(default = "pssi_version")]
    #[schemars(regex(pattern = r"^[0-9]{1,4}\.[0-9]{1,4}$"), length(max = 9))]
    pub min_version: String,
}

fn pssi_version() -> String {
    "2.1".to_owned()
}

/// A ConfigMap in a namespace that the admin names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespacedConfigMapRef {
    /// Its namespace.
    pub namespace: DnsLabel,
    /// Its name.
    pub name: ObjectName,
    /// The key; absent means the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ObjectName>,
}
