//! `SecretEncryption`: how Secrets are encrypted in etcd. One object, named `default`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encryption_status::SecretEncryptionStatus;
use super::text::{AgeRecipient, Contact, ObjectName, Url};

/// How Secrets are encrypted in etcd. `Observe`, the default, changes nothing and is safe on every cluster.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cloison.dev",
    version = "v1alpha1",
    kind = "SecretEncryption",
    plural = "secretencryptions",
    singular = "secretencryption",
    shortname = "senc",
    category = "cloison",
    status = "SecretEncryptionStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name == 'default'")
        .message("ENC-01/singleton there is one SecretEncryption and its name is `default`"),
    printcolumn(json_path = ".spec.mode", name = "Mode", type_ = "string"),
    printcolumn(json_path = r#".status.conditions[?(@.type=="Encrypted")].status"#, name = "Encrypted", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.mode) || self.mode != 'Manage' || self.escrow.requirement == 'Waived' || \
             (has(self.escrow.recipients) && self.escrow.recipients.size() > 0)",
    "message": "ENC-01/escrow `mode: Manage` needs an entry in `escrow.recipients`, or `escrow.requirement: Waived`",
}]))]
pub struct SecretEncryptionSpec {
    /// Whether the program only looks, or manages the encryption.
    #[serde(default)]
    pub mode: EncryptionMode,
    /// What the proof reads.
    #[serde(default)]
    pub proof: Proof,
    /// Stops every step of `Manage`; never decrypts.
    #[serde(default)]
    pub suspend: bool,
    /// The cipher of new keys.
    #[serde(default)]
    pub provider: Provider,
    /// Resources to encrypt, one by one.
    #[serde(default = "secrets")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub resources: Vec<ResourceName>,
    /// When keys rotate.
    #[serde(default)]
    pub rotation: Rotation,
    /// Who can recover the keys offline.
    #[serde(default)]
    pub escrow: Escrow,
    /// What becomes of retired keys.
    #[serde(default)]
    pub retired_keys: RetiredKeys,
    /// How fast values are rewritten.
    #[serde(default)]
    pub sweep: Sweep,
    /// Where the API servers are.
    #[serde(default)]
    pub api_servers: ApiServers,
    /// How old a proof may be, in hours.
    #[serde(default = "proof_hours")]
    #[schemars(range(min = 1, max = 720))]
    pub proof_max_age_hours: i32,
    /// A person's word, for managed control planes that hide the evidence. Never makes a condition True.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
}

impl Default for SecretEncryptionSpec {
    fn default() -> Self {
        Self {
            mode: EncryptionMode::default(),
            proof: Proof::default(),
            suspend: false,
            provider: Provider::default(),
            resources: secrets(),
            rotation: Rotation::default(),
            escrow: Escrow::default(),
            retired_keys: RetiredKeys::default(),
            sweep: Sweep::default(),
            api_servers: ApiServers::default(),
            proof_max_age_hours: proof_hours(),
            attestation: None,
        }
    }
}

fn secrets() -> Vec<ResourceName> {
    vec![ResourceName("secrets".to_owned())]
}
const fn proof_hours() -> i32 {
    24
}

/// Whether the program only looks, or manages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncryptionMode {
    /// Look only.
    #[default]
    Observe,
    /// Own the EncryptionConfiguration of every API server and rotate its keys.
    Manage,
}

/// What the proof reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Proof {
    /// A canary Secret of its own: proves new writes.
    #[default]
    Writes,
    /// Also the metadata of every Secret: proves old values.
    Reads,
}

/// A cipher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Provider {
    /// Binds a value to its place in etcd.
    #[default]
    AESGCM,
    /// Does not: a copied ciphertext is served in another namespace.
    Secretbox,
}

/// A group-resource such as `secrets` or `configmaps`; no wildcard, and nothing of our own group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("x-kubernetes-validations" = [
    { "rule": "!self.contains('*')", "message": "ENC-01/resources name resources one by one; wildcards are not allowed" },
    {
        "rule": "!self.endsWith('cloison.dev')",
        "message": "ENC-01/resources our own objects must stay readable to recover the keys; leave cloison.dev out",
    },
]))]
pub struct ResourceName(#[schemars(length(min = 1, max = 253))] pub String);

/// When keys rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    /// After so many days.
    #[serde(default = "period_days")]
    #[schemars(range(min = 1, max = 365))]
    pub period_days: i32,
    /// After so many writes under one key (AES-GCM with random nonces: below 2^32 by a wide margin).
    #[serde(default = "max_writes")]
    #[schemars(range(min = 1000, max = 200_000))]
    pub max_writes_per_key: i64,
}

const fn period_days() -> i32 {
    30
}
const fn max_writes() -> i64 {
    150_000
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            period_days: period_days(),
            max_writes_per_key: max_writes(),
        }
    }
}

/// Whether escrow is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EscrowRequirement {
    /// It is.
    #[default]
    Required,
    /// Losing all control-plane nodes loses the Secrets, and that is accepted.
    Waived,
}

/// Who can recover the keys offline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Escrow {
    /// age recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub recipients: Option<Vec<AgeRecipient>>,
    /// Whether at least one is needed.
    #[serde(default)]
    pub requirement: EscrowRequirement,
}

/// What becomes of retired keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// They are kept, sealed.
    #[default]
    Keep,
    /// They are destroyed after some days; backups older than that cannot be read.
    DeleteAfterDays,
}

/// What becomes of retired keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.retention == 'DeleteAfterDays') == has(self.days)",
    "message": "ENC-01/retention `days` must be set exactly when `retention` is DeleteAfterDays",
}]))]
pub struct RetiredKeys {
    /// Kept or destroyed.
    #[serde(default)]
    pub retention: Retention,
    /// After so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3650))]
    pub days: Option<i32>,
}

/// How fast values are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sweep {
    /// Requests a second.
    #[serde(default = "sweep_rate")]
    #[schemars(range(min = 1, max = 5000))]
    pub max_requests_per_second: i32,
}

const fn sweep_rate() -> i32 {
    200
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            max_requests_per_second: sweep_rate(),
        }
    }
}

/// How API servers are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Discovery {
    /// From the EndpointSlice of the Service `kubernetes`.
    #[default]
    Auto,
    /// From `endpoints`.
    Static,
}

/// Where the API servers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.discovery == 'Static') == has(self.endpoints)",
    "message": "ENC-01/api-servers `endpoints` must be set exactly when `discovery` is Static",
}]))]
pub struct ApiServers {
    /// How they are found.
    #[serde(default)]
    pub discovery: Discovery,
    /// Addresses as `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub endpoints: Option<Vec<ObjectName>>,
}

/// A person's word about encryption that cannot be seen from inside the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attestation {
    /// What is attested.
    #[schemars(length(min = 10, max = 1000))]
    pub statement: String,
    /// By whom.
    pub attested_by: Contact,
    /// Until when.
    pub expiration_time: Time,
    /// Where it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
}
