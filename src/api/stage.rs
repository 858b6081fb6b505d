//! The two small vocabularies everything else speaks: which stage of the AI life cycle, and how strictly it is kept.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage of an `AiWorkload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// The workload makes or tunes a model.
    Training,
    /// The workload judges a model before it serves.
    Evaluation,
    /// The workload serves a model.
    Inference,
}

/// The stage of a namespace, from its label `cloison.dev/stage`: the stages of workloads, and `shared` for what serves
/// all of them (registries, object stores, experiment trackers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceStage {
    /// Label value `training`.
    Training,
    /// Label value `evaluation`.
    Evaluation,
    /// Label value `inference`.
    Inference,
    /// Label value `shared`.
    Shared,
}

impl NamespaceStage {
    /// Every stage, in the order in which tables show them.
    pub const ALL: [Self; 4] = [Self::Training, Self::Evaluation, Self::Inference, Self::Shared];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Training => "training",
            Self::Evaluation => "evaluation",
            Self::Inference => "inference",
            Self::Shared => "shared",
        }
    }

    /// Reads a label value. Anything but the four known values is `None`: an unknown stage is never guessed.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == label)
    }

    /// The stage a workload in such a namespace must have; none in `shared`, which holds no `AiWorkload`.
    pub const fn workload_stage(self) -> Option<Stage> {
        match self {
            Self::Training => Some(Stage::Training),
            Self::Evaluation => Some(Stage::Evaluation),
            Self::Inference => Some(Stage::Inference),
            Self::Shared => None,
        }
    }
}

impl From<Stage> for NamespaceStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Training => Self::Training,
            Stage::Evaluation => Self::Evaluation,
            Stage::Inference => Self::Inference,
        }
    }
}

impl fmt::Display for NamespaceStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Training => "Training",
            Self::Evaluation => "Evaluation",
            Self::Inference => "Inference",
        })
    }
}

/// How a namespace is governed, from its label `cloison.dev/mode` or, without one, the policy's default.
/// Ordered from the weakest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Nothing is written into the namespace and nothing is refused; what would happen is reported.
    #[default]
    Audit,
    /// As `Audit`, and the person who typed the command is warned.
    Warn,
    /// Policies are written, the namespace is sealed, unsafe requests are refused.
    Enforce,
}

impl Mode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Warn, Self::Enforce];

    /// The value of the label `cloison.dev/mode`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        }
    }

    /// Reads a label value; `None` for anything unknown.
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.label() == label)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audit => "Audit",
            Self::Warn => "Warn",
            Self::Enforce => "Enforce",
        })
    }
}

/// How one control is applied, whatever the namespace's mode; the weaker of both holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ControlMode {
    /// Not evaluated.
    Disabled,
    /// Evaluated and reported, never refused.
    Audit,
    /// Refused where the namespace is in mode `Enforce` too.
    Enforce,
}
