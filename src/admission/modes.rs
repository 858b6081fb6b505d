//! The mode of every rule in every stage: the catalogue's, and what the policy says instead.

use k8s_openapi::jiff::Timestamp;

use crate::api::policy::{AiSecurityPolicySpec, ControlSetting};
use crate::api::stage::{ControlMode, NamespaceStage};
use crate::compliance::{Catalogue, ControlId, ControlOverride, PerStage, RuleId};

/// The stages that hold AI workloads.
pub(super) const STAGES: [NamespaceStage; 3] = [
    NamespaceStage::Training,
    NamespaceStage::Evaluation,
    NamespaceStage::Inference,
];

/// What the policy says about controls, as the catalogue understands it. A setting is not heard when it names no
/// control, or when it is weaker than the built-in mode and gives no reason; one whose time has not come is at most
/// `Audit` until then.
pub fn overrides(spec: &AiSecurityPolicySpec, now: Timestamp) -> Vec<ControlOverride> {
    let settings = spec.controls.iter().flatten();
    let heard = settings.filter_map(|setting| {
        let id: ControlId = setting.id.parse().ok()?;
        let said = convert(id, setting, now);
        let needs_reason = Catalogue::builtin().weakens(&said);
        (!needs_reason || setting.reason.is_some()).then_some(said)
    });
    heard.collect()
}

fn convert(id: ControlId, setting: &ControlSetting, now: Timestamp) -> ControlOverride {
    let early = setting.effective_time.as_ref().is_some_and(|time| time.0 > now);
    let mode = |mode: Option<ControlMode>| mode.map(|mode| if early { mode.min(ControlMode::Audit) } else { mode });
    let per_stage = setting.per_stage.clone().unwrap_or_default();
    ControlOverride {
        id: RuleId::from(id),
        mode: mode(setting.mode),
        per_stage: PerStage {
            training: mode(per_stage.training),
            evaluation: mode(per_stage.evaluation),
            inference: mode(per_stage.inference),
            shared: mode(per_stage.shared),
        },
    }
}

/// Answers, for one policy, which mode a rule has in a stage.
#[derive(Clone, Debug)]
pub(super) struct Modes(Vec<ControlOverride>);

impl Modes {
    pub(super) fn new(overrides: Vec<ControlOverride>) -> Self {
        Self(overrides)
    }

    pub(super) fn get(&self, rule: &RuleId, stage: NamespaceStage) -> ControlMode {
        Catalogue::builtin().effective_mode(rule, stage, &self.0)
    }

    /// Whether the policy itself sets the mode of a rule's control in a stage.
    pub(super) fn says(&self, rule: &RuleId, stage: NamespaceStage) -> bool {
        let mut about = self.0.iter().filter(|said| said.id.covers(rule));
        about.any(|said| said.mode.is_some() || said.per_stage.get(stage).is_some())
    }

    /// The same where there may be no stage.
    pub(super) fn of(&self, rule: &RuleId, stage: Option<NamespaceStage>) -> ControlMode {
        Catalogue::builtin().effective_mode(rule, stage, &self.0)
    }

    /// The stages in which a rule has exactly this mode.
    pub(super) fn stages(&self, rule: &RuleId, mode: ControlMode) -> Vec<NamespaceStage> {
        STAGES
            .into_iter()
            .filter(|stage| self.get(rule, *stage) == mode)
            .collect()
    }
}
