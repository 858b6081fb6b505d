//! The status of `SecretEncryption`: what the controller sees of the encryption, and what it asks of the agents. Every
//! field is derived anew from what is observed; nothing decides by what stands here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::control_plane_report::KeyValues;
use super::encryption::Provider;
use super::text::{KeyName, LabelValue, Line, ObjectName};

/// What the controller sees of the encryption.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretEncryptionStatus {
    /// The generation this status speaks of; −1 until the first visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Encrypted`, `Converged`, `Degraded`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What each API server was seen to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["identity"]))]
    pub replicas: Vec<ReplicaStatus>,
    /// The step of the rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// The keys of the ring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub keys: Vec<KeyStatus>,
    /// Values in etcd for each resource and key, by the last proof.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resource", "key"])
    )]
    pub values_per_key: Vec<KeyValues>,
    /// What keeps the next step from being taken, each with its object and cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub blocked_by: Vec<Line>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_command: Option<Line>,
    /// What the agents are asked to do. They do what keeps the ring's rules, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// A step of a rotation. In this order; `Archive` is followed by `Idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Step {
    /// One key, all values under it.
    Idle,
    /// A new key is made and sealed.
    Mint,
    /// Every API server learns to read it.
    Read,
    /// Every API server writes it.
    Promote,
    /// Old values are rewritten.
    Sweep,
    /// etcd is read, to see that none is left.
    Prove,
    /// Old revisions are waited out.
    Drain,
    /// The old key leaves every API server.
    Retire,
    /// The old key is marked in the ring.
    Archive,
}

/// What a key is good for, as observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyState {
    /// It is sealed, and no API server has it.
    Minted,
    /// API servers read with it.
    Read,
    /// API servers write with it.
    Write,
    /// No value is under it any more, and no API server has it.
    Retired,
    /// Its material was destroyed.
    Destroyed,
}

/// A key, without its material.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Its number in the ring.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub id: i64,
    /// Its name in the EncryptionConfiguration.
    pub name: KeyName,
    /// What it is good for.
    pub state: KeyState,
    /// When it was made.
    pub creation_time: Time,
    /// Values written under it, by all API servers together.
    #[schemars(range(min = 0))]
    pub writes: i64,
}

/// What the agents are asked to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Grows with each change of the order, and never falls: a report that names it was made by an agent that has nothing
    /// older left to do.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub number: i64,
    /// Make a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mint: Option<MintOrder>,
    /// The configuration that every API server is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ConfigurationOrder>,
    /// Nodes that are gone: the keys are no longer sealed for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub remove: Vec<ObjectName>,
    /// Keys, by number, that are to be marked as retired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "set"))]
    pub retire: Vec<i64>,
    /// Retired keys, by number, whose material is to be destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "set"))]
    pub destroy: Vec<i64>,
}

/// A key that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MintOrder {
    /// Only while this is the ring's `lastID`: an order that is read twice makes one key.
    #[serde(rename = "afterID")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub after_id: i64,
    /// Its cipher.
    pub provider: Provider,
    /// The request for a rotation that it serves: the value of the annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<LabelValue>,
}

/// A configuration, by the names of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationOrder {
    /// What encrypts; `identity` to write plaintext.
    pub write: KeyName,
    /// What else is read, in this order; `identity` to read plaintext.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "atomic"))]
    pub read: Vec<KeyName>,
}

/// What one API server was seen to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// The name of its identity Lease in kube-system.
    #[schemars(length(min = 1, max = 253))]
    pub identity: String,
    /// Its address, where it was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// The hash of the configuration it loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub configuration_hash: Option<String>,
    /// The prefix under which it was last seen to write the canary Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub writes: Option<String>,
}
