//! `ControlPlaneReport`: what the agent of one control-plane node sees there. Named like the node, written by that node's
//! agent alone; admission compares the name with the node in the agent's token. No key is in it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encryption::Provider;
use super::text::{AgeRecipient, Digest, KeyName, Line, MinorVersion, ResourceText};

/// What the agent of one control-plane node sees there: flags, configuration file, counters and raw values of etcd.
/// Written by that agent alone.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cloison.dev",
    version = "v1alpha1",
    kind = "ControlPlaneReport",
    plural = "controlplanereports",
    singular = "controlplanereport",
    shortname = "cpr",
    category = "cloison",
    derive = "PartialEq",
    printcolumn(json_path = ".spec.observedTime", name = "Observed", type_ = "date"),
    printcolumn(json_path = ".spec.file.hash", name = "File", type_ = "string"),
    printcolumn(json_path = ".spec.apiServer.loadedHash", name = "Loaded", type_ = "string"),
    printcolumn(json_path = ".spec.error", name = "Error", type_ = "string")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlaneReportSpec {
    /// When the node was last looked at.
    pub observed_time: Time,
    /// The public part of the identity that the agent made on this node; absent until it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<AgeRecipient>,
    /// The flags the API server was started with; absent when they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<FlagsSeen>,
    /// The API server of this node; absent when it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServerSeen>,
    /// The configuration file on this node; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileSeen>,
    /// The newest key that is in the sealed copy on this node's disk, and opens.
    #[serde(default, rename = "sealedID", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub sealed_id: Option<i64>,
    /// The number of the order that the agent last read, and did or refused, before it looked at the file: no older order
    /// can change the file any more. The order is read from etcd and not from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub order_number: Option<i64>,
    /// What is stored in etcd, read without the API server; absent until it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<RawProof>,
    /// What went wrong last, in one line; absent when nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Line>,
}

/// The flags of an API server, as far as encryption goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlagsSeen {
    /// `--encryption-provider-config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_provider_config: Option<Line>,
    /// `--encryption-provider-config-automatic-reload`.
    #[serde(default)]
    pub automatic_reload: bool,
    /// What has to be added, flag by flag and mount by mount, ready to copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub missing: Vec<Line>,
    /// Whether the next upgrade of the control plane keeps them; absent when nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// What has to be added to kubeadm's ClusterConfiguration for that, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub to_persist: Vec<Line>,
    /// `--request-timeout`, its default where the flag is absent, a day where it is zero, longer, or not understood: a request
    /// may write under the key before for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub request_timeout_seconds: Option<i64>,
}

/// The API server of one node, as its metrics show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiServerSeen {
    /// `apiserver_id_hash`: SHA-256 of the name of its identity Lease. Absent where it shows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_hash: Option<Digest>,
    /// SHA-256 of the configuration that it loaded. Absent where it loaded none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_hash: Option<Digest>,
    /// When this process started, in seconds since 1970: its counters begin there.
    #[schemars(range(min = 0))]
    pub started: i64,
    /// Its version of Kubernetes, `1.36`. Absent where it does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<MinorVersion>,
    /// Values read and written since then, for each resource and key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resource", "key"])
    )]
    pub counters: Vec<KeyCounter>,
    /// Values since then that no key of the configuration fits.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unknown: i64,
}

/// What one API server read and wrote under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyCounter {
    /// The resource, `secrets` or `widgets.example.com`.
    pub resource: ResourceText,
    /// The key's name; `identity` for values that are not encrypted.
    pub key: KeyName,
    /// Values read.
    #[schemars(range(min = 0))]
    pub reads: i64,
    /// Values written.
    #[schemars(range(min = 0))]
    pub writes: i64,
}

/// The configuration file of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSeen {
    /// SHA-256 of its bytes: the API server shows the same of what it loaded.
    pub hash: Digest,
    /// Whether the agent wrote it. Another's is never overwritten.
    pub own: bool,
    /// Whether a KMS plugin is in it: then the keys are not in a file, and it is observed and never written.
    #[serde(default)]
    pub kms: bool,
    /// Its keys in their order, the write key first. Names alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 130), extend("x-kubernetes-list-type" = "atomic"))]
    pub keys: Vec<FileKey>,
}

/// A key of a configuration file, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileKey {
    /// Its name; `identity` for the provider that does not encrypt.
    pub name: KeyName,
    /// Its cipher; absent for `identity` and for ciphers that are not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

/// What is stored in etcd under the prefixes of the encrypted resources. All pages were read at one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawProof {
    /// When it was read.
    pub time: Time,
    /// The revision of etcd it was read at.
    #[schemars(range(min = 1))]
    pub revision: i64,
    /// The newest revision that etcd was seen to have compacted: nothing before it can be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub compacted_revision: Option<i64>,
    /// The resources that were read. Nothing is known of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub resources: Vec<ResourceText>,
    /// Values for each of these resources and key; what is not listed has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resource", "key"])
    )]
    pub values: Vec<KeyValues>,
}

/// How many values of one resource are stored under one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyValues {
    /// The resource, `secrets` or `widgets.example.com`.
    pub resource: ResourceText,
    /// The key's name; `identity` for plaintext, `unknown` for a prefix that means nothing to us.
    pub key: KeyName,
    /// Values.
    #[schemars(range(min = 0))]
    pub count: i64,
}
