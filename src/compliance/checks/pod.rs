//! What the checks look at of a pod: read from its `spec` as the API spells it, be it of a watch, of a request at the door
//! or of a manifest. The value of a variable is looked at while it is read, and dropped.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::credentials;

/// What of a pod's `spec` has to do with Secrets. Fields are named from the `spec` on: `containers[0].env[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "Spec")]
pub struct PodFacts {
    /// Its ServiceAccount; `default` where it names none.
    pub account: String,
    /// Its own word on the token of the API server.
    pub automount: Option<bool>,
    /// Whether the API server added a token for itself when the pod was made.
    pub added_token: bool,
    /// The other tokens that it mounts.
    pub tokens: Vec<Token>,
    /// Variables that take a value from a Secret.
    pub from_secrets: Vec<FromSecret>,
    /// Credentials that are written out.
    pub literals: Vec<Literal>,
    /// The Secrets that enter its containers, as files or as variables.
    pub secrets: BTreeSet<String>,
    /// Volumes that may keep data, each with its field.
    pub volumes: Vec<(String, VolumeUse)>,
}

/// A volume that may keep data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VolumeUse {
    /// A PersistentVolumeClaim of this name.
    Claim(String),
    /// A claim that is made with the pod: the name of the volume, and its StorageClass.
    Ephemeral(String, Option<String>),
    /// The node's own disk: `hostPath`, or an `emptyDir` that is not in memory.
    NodeDisk,
    /// An inline volume of this CSI driver.
    Driver(String),
    /// A volume of another kind, by the name of its field: `nfs`.
    Other(String),
}

/// A projected token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Its volume.
    pub volume: String,
    /// Whom it is for; `None` is the API server.
    pub audience: Option<String>,
    /// How long it lives, in seconds.
    pub seconds: i64,
    /// Where it is.
    pub field: String,
}

/// A variable, or a whole environment, out of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FromSecret {
    /// The container.
    pub container: String,
    /// The variable; `None` where the whole Secret is taken.
    pub variable: Option<String>,
    /// The Secret.
    pub secret: String,
    /// Where it is.
    pub field: String,
}

/// A credential that is written out. What it is, never its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    /// The container.
    pub container: String,
    /// What it looks like.
    pub what: &'static str,
    /// Where it is.
    pub field: String,
}

/// What the kubelet takes where a pod says nothing.
const DEFAULT_TOKEN_SECONDS: i64 = 3_600;
/// The volume that the API server adds begins like this, and ends at random.
const ADDED_VOLUME: &str = "kube-api-access-";
/// How long its token lives, in seconds: the API server's `WarnOnlyBoundTokenExpirationPeriod`, an hour and seven seconds.
const ADDED_SECONDS: i64 = 3_607;
/// The account of pods that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The part of a `spec` that is read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are Kubernetes'")]
pub struct Spec {
    pub service_account_name: Option<String>,
    pub automount_service_account_token: Option<bool>,
    pub containers: Option<Vec<Container>>,
    pub init_containers: Option<Vec<Container>>,
    pub ephemeral_containers: Option<Vec<Container>>,
    pub volumes: Option<Vec<Volume>>,
}

/// The part of a container that is read.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are Kubernetes'")]
pub struct Container {
    pub name: String,
    pub env: Option<Vec<Variable>>,
    pub env_from: Option<Vec<EnvFrom>>,
    pub command: Option<Vec<String>>,
    pub args: Option<Vec<String>>,
}

/// A variable. Its value does not outlive the reading.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Variable {
    name: String,
    value: Option<String>,
    value_from: Option<ValueFrom>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ValueFrom {
    secret_key_ref: Option<Name>,
}

/// A source of variables.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvFrom {
    secret_ref: Option<Name>,
}

/// A reference in the same namespace.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Name {
    name: String,
}

/// A volume.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    name: String,
    projected: Option<Projected>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<EphemeralVolume>,
    empty_dir: Option<EmptyDir>,
    host_path: Option<IgnoredAny>,
    csi: Option<Inline>,
    secret: Option<SecretVolume>,
    /// All other kinds, those of later versions too.
    #[serde(flatten)]
    #[allow(
        clippy::zero_sized_map_values,
        reason = "a set cannot be read from a map, and the values are not to be kept"
    )]
    others: BTreeMap<String, Option<IgnoredAny>>,
}

/// Kinds of volumes that only bring something in.
const SOURCES: [&str; 3] = ["configMap", "downwardAPI", "image"];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EphemeralVolume {
    volume_claim_template: ClaimTemplate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClaimTemplate {
    spec: ClaimSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    storage_class_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EmptyDir {
    medium: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inline {
    driver: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Projected {
    sources: Option<Vec<Source>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    secret: Option<Name>,
    service_account_token: Option<ProjectedToken>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ProjectedToken {
    audience: Option<String>,
    expiration_seconds: Option<i64>,
}

impl From<Spec> for PodFacts {
    fn from(spec: Spec) -> Self {
        let named = spec.service_account_name.filter(|name| !name.is_empty());
        let mut facts = Self {
            account: named.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
            automount: spec.automount_service_account_token,
            ..Self::default()
        };
        for (list, containers) in [
            ("containers", spec.containers),
            ("initContainers", spec.init_containers),
            ("ephemeralContainers", spec.ephemeral_containers),
        ] {
            for (index, container) in containers.into_iter().flatten().enumerate() {
                facts.container(&format!("{list}[{index}]"), container);
            }
        }
        for (index, volume) in spec.volumes.into_iter().flatten().enumerate() {
            facts.volume(&format!("volumes[{index}]"), volume);
        }
        facts
    }
}

impl PodFacts {
    /// The PersistentVolumeClaims that it names.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().filter_map(|(_, volume)| match volume {
            VolumeUse::Claim(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The same of a pod that runs: its claims are there by the name that the API server gives them, and the volumes that
    /// they are bound to say more than the class they were asked of.
    #[must_use]
    pub fn of_running(mut self, pod: &str) -> Self {
        for (_, used) in &mut self.volumes {
            if let VolumeUse::Ephemeral(volume, _) = used {
                *used = VolumeUse::Claim(format!("{pod}-{volume}"));
            }
        }
        self
    }

    fn container(&mut self, at: &str, container: Container) {
        let Container {
            name,
            env,
            env_from,
            command,
            args,
        } = container;
        for (index, variable) in env.into_iter().flatten().enumerate() {
            let field = format!("{at}.env[{index}]");
            if let Some(secret) = variable.value_from.and_then(|from| from.secret_key_ref) {
                self.reference(&name, Some(variable.name), secret.name, field);
            } else if let Some(value) = variable.value {
                let what = credentials::in_variable(&variable.name, &value);
                self.literal(&name, what, format!("{field}.value"));
            }
        }
        for (index, source) in env_from.into_iter().flatten().enumerate() {
            if let Some(secret) = source.secret_ref {
                self.reference(&name, None, secret.name, format!("{at}.envFrom[{index}]"));
            }
        }
        for (list, texts) in [("command", command), ("args", args)] {
            for (index, text) in texts.into_iter().flatten().enumerate() {
                self.literal(&name, credentials::first(&text), format!("{at}.{list}[{index}]"));
            }
        }
    }

    fn reference(&mut self, container: &str, variable: Option<String>, secret: String, field: String) {
        let container = container.to_owned();
        self.secrets.insert(secret.clone());
        self.from_secrets.push(FromSecret {
            container,
            variable,
            secret,
            field,
        });
    }

    fn literal(&mut self, container: &str, what: Option<&'static str>, field: String) {
        let container = container.to_owned();
        self.literals
            .extend(what.map(|what| Literal { container, what, field }));
    }

    fn volume(&mut self, at: &str, volume: Volume) {
        let sources = volume.projected.and_then(|projected| projected.sources);
        for (index, source) in sources.into_iter().flatten().enumerate() {
            self.secrets.extend(source.secret.map(|secret| secret.name));
            let Some(token) = source.service_account_token else {
                continue;
            };
            let audience = token.audience.filter(|audience| !audience.is_empty());
            let seconds = token.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS);
            // Not by its name alone: anybody may call a volume so.
            if volume.name.starts_with(ADDED_VOLUME) && audience.is_none() && seconds == ADDED_SECONDS {
                self.added_token = true;
                continue;
            }
            self.tokens.push(Token {
                volume: volume.name.clone(),
                audience,
                seconds,
                field: format!("{at}.projected.sources[{index}].serviceAccountToken"),
            });
        }
        self.secrets.extend(volume.secret.map(|secret| secret.secret_name));
        let in_memory = |dir: &EmptyDir| {
            let medium = dir.medium.as_deref().unwrap_or_default();
            medium == "Memory" || medium.starts_with("HugePages")
        };
        let name = volume.name;
        let uses = [
            volume
                .persistent_volume_claim
                .map(|claim| VolumeUse::Claim(claim.claim_name)),
            volume
                .ephemeral
                .map(|made| VolumeUse::Ephemeral(name, made.volume_claim_template.spec.storage_class_name)),
            volume
                .empty_dir
                .filter(|dir| !in_memory(dir))
                .map(|_| VolumeUse::NodeDisk),
            volume.host_path.map(|_| VolumeUse::NodeDisk),
            volume.csi.map(|inline| VolumeUse::Driver(inline.driver)),
        ];
        let others = volume.others.into_iter().filter(|(_, said)| said.is_some());
        let others = others.filter(|(kind, _)| !SOURCES.contains(&kind.as_str()));
        let uses = uses
            .into_iter()
            .flatten()
            .chain(others.map(|(kind, _)| VolumeUse::Other(kind)));
        self.volumes.extend(uses.map(|used| (at.to_owned(), used)));
    }
}
