//! The pods section of `AiSecurityPolicy`: images, capabilities, drivers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::stage::Stage;
use crate::api::text::ObjectName;

/// What pods may contain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyPods {
    /// Registries that images may come from; absent or empty means any, and that is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["prefix"]))]
    pub images: Option<Vec<ImageRule>>,
    /// Capabilities that containers may add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["capability"]))]
    pub add_capabilities: Option<Vec<CapabilityRule>>,
    /// CSI drivers that pods may use inline.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "inlineCSIDrivers")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub inline_csi_drivers: Option<Vec<ObjectName>>,
    /// Accounts that may ask tokens for others (External Secrets, Vault), as the API server spells them:
    /// `system:serviceaccount:external-secrets:external-secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub token_requesters: Option<Vec<ObjectName>>,
    /// Runtime classes that count as sandboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub sandbox_runtime_classes: Option<Vec<ObjectName>>,
}

/// Whether an image needs a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DigestRule {
    /// `…@sha256:…` only.
    Required,
    /// A tag is enough.
    Optional,
}

/// A registry, or a part of one, that images may come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRule {
    /// The start of the image reference, up to a `/`, `:` or `@`.
    #[schemars(length(min = 1, max = 255))]
    pub prefix: String,
    /// Whether a digest is needed; absent means as control SUP-01 says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestRule>,
    /// Stages that may use it; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Option<Vec<Stage>>,
}

/// A capability that containers may add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CapabilityRule {
    /// The capability without `CAP_`, for instance `IPC_LOCK`.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Z][A-Z0-9_]*$"))]
    pub capability: String,
    /// Stages that may add it; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub stages: Option<Vec<Stage>>,
}
