//! `EncryptionKeyRing`: the keys of the Secrets in etcd, sealed. One object, named `default`, written by the agents on
//! control-plane nodes alone. It is never encrypted in etcd, so that it can be read when nothing else can.
//!
//! It holds facts that cannot be observed anywhere else. What a key is good for at the moment, write key, read key or
//! none, is derived from the API servers and never stored here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encryption::Provider;
use super::text::{AgeRecipient, Armored, Contact, Digest, KeyName, LabelValue, ObjectName};

/// Most keys that a ring holds: ten years of a new key a month.
pub const MAX_KEYS: usize = 128;
/// Most recipients of one key: 16 nodes and 16 of escrow.
pub const MAX_WRAPS: usize = 32;

/// The keys of the Secrets in etcd, each sealed for every control-plane node and for the offline escrow. Written by the
/// agents alone.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cloison.dev",
    version = "v1alpha1",
    kind = "EncryptionKeyRing",
    plural = "encryptionkeyrings",
    singular = "encryptionkeyring",
    shortname = "ekr",
    category = "cloison",
    status = "EncryptionKeyRingStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name == 'default'")
        .message("ENC-01/singleton there is one EncryptionKeyRing and its name is `default`"),
    printcolumn(json_path = ".spec.lastID", name = "Newest", type_ = "integer"),
    printcolumn(json_path = ".spec.members[*].node", name = "Members", type_ = "string"),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.lastID >= oldSelf.lastID",
        "message": "ENC-01/ring `lastID` never falls: the name of a key is part of every value it encrypted",
    },
    {
        "rule": "self.keys.all(k, k.id <= self.lastID)",
        "message": "ENC-01/ring no key has an id above `lastID`",
    },
    {
        "rule": "self.keys.all(k, k.id > oldSelf.lastID || oldSelf.keys.exists(o, o.id == k.id))",
        "message": "ENC-01/ring a new key has an id above every id that was in use",
    },
    {
        "rule": "oldSelf.keys.all(o, has(o.destroyedTime) || self.keys.exists(k, k.id == o.id))",
        "message": "ENC-01/ring a key leaves the ring only after it was destroyed",
    },
]))]
pub struct EncryptionKeyRingSpec {
    /// The highest id that any key ever had.
    #[serde(rename = "lastID")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub last_id: i64,
    /// The keys, oldest first.
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub keys: Vec<RingKey>,
    /// The control-plane nodes that hold the keys.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub members: Vec<Member>,
    /// The offline recipients that every key is sealed for.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub escrow: Vec<AgeRecipient>,
}

/// One key. Its material is in `wraps` alone, sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.name == oldSelf.name && self.provider == oldSelf.provider && self.origin == oldSelf.origin && \
                 self.commitment == oldSelf.commitment && self.creationTime == oldSelf.creationTime && \
                 (has(self.request) ? [self.request] : []) == (has(oldSelf.request) ? [oldSelf.request] : [])",
        "message": "ENC-01/ring name, provider, origin, commitment, time and request of a key never change",
    },
    {
        "rule": "self.origin == 'Imported' || (self.name.matches('^k[1-9][0-9]*$') && int(self.name.substring(1)) == self.id)",
        "message": "ENC-01/ring a key that was minted is named `k` and its id",
    },
    {
        "rule": "!has(oldSelf.retiredTime) || (has(self.retiredTime) && self.retiredTime == oldSelf.retiredTime)",
        "message": "ENC-01/ring a retired key stays retired",
    },
    {
        "rule": "!has(oldSelf.destroyedTime) || (has(self.destroyedTime) && self.destroyedTime == oldSelf.destroyedTime)",
        "message": "ENC-01/ring a destroyed key stays destroyed",
    },
    {
        "rule": "has(self.destroyedTime) ? has(self.retiredTime) && self.wraps.size() == 0 : self.wraps.size() > 0",
        "message": "ENC-01/ring a key is sealed for somebody until it is destroyed, and retired before",
    },
]))]
pub struct RingKey {
    /// Its number. Never used again.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub id: i64,
    /// Its name in the EncryptionConfiguration: `k` and the id, or what it was called where it was imported from.
    pub name: KeyName,
    /// The cipher it is for.
    pub provider: Provider,
    /// Where it comes from.
    pub origin: KeyOrigin,
    /// When it was made or imported.
    pub creation_time: Time,
    /// The request for a rotation that made it: the value of the annotation, so that no request is served twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<LabelValue>,
    /// SHA-256 over id, name, provider and material: shows that a sealed key is the one that was minted.
    pub commitment: Digest,
    /// The material, once for each recipient.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["recipient"]))]
    pub wraps: Vec<Wrap>,
    /// What each control-plane node's API server wrote under it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub writes: Vec<KeyWrites>,
    /// When it was proven that no value is under it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_time: Option<Time>,
    /// When its material was destroyed. Backups from before it was retired cannot be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed_time: Option<Time>,
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyOrigin {
    /// An agent made it.
    Minted,
    /// It was in a configuration that somebody else wrote and was adopted to read what it encrypted.
    Imported,
}

/// The material of a key, sealed for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.sealed == oldSelf.sealed",
    "message": "ENC-01/ring a sealed key never changes",
}]))]
pub struct Wrap {
    /// Whose identity opens it.
    pub recipient: AgeRecipient,
    /// An armored age file: 32 bytes in base64, as the EncryptionConfiguration holds them.
    pub sealed: Armored,
}

/// What the API server of one control-plane node wrote under a key, restarts included. Counted too high rather than too
/// low: after 2^32 values under one key AES-GCM is no longer safe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.count >= oldSelf.count",
    "message": "ENC-01/ring what was written stays written: `count` never falls",
}]))]
pub struct KeyWrites {
    /// The node.
    pub node: ObjectName,
    /// Values written.
    #[schemars(range(min = 0))]
    pub count: i64,
}

/// A control-plane node that holds the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.recipient == oldSelf.recipient",
    "message": "ENC-01/ring a node that has a new identity is taken out first and approved again",
}]))]
pub struct Member {
    /// The node's name.
    pub node: ObjectName,
    /// The public part of the identity that its agent made there.
    pub recipient: AgeRecipient,
    /// Who approved it. Absent for nodes that were there before the first key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Contact>,
    /// Since when.
    pub joined_time: Time,
}

/// What people say about the ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionKeyRingStatus {
    /// Nodes that a person lets in: `cloison ring approve`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub approvals: Vec<Approval>,
}

/// A person's word that a node may hold the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// The node.
    pub node: ObjectName,
    /// The identity that was compared with what the node's agent shows on the node.
    pub recipient: AgeRecipient,
    /// The person, as the API server knows it.
    pub by: Contact,
    /// When.
    pub time: Time,
}
