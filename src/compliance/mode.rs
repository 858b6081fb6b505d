//! How strictly a control is applied: the built-in default, and what the policy says instead.

use serde::{Deserialize, Serialize};

use super::catalogue::{Catalogue, Control};
use super::id::RuleId;
use crate::api::stage::{ControlMode, NamespaceStage};

/// A mode for some of the stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerStage {
    /// In training namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<ControlMode>,
    /// In evaluation namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<ControlMode>,
    /// In inference namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference: Option<ControlMode>,
    /// In shared namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<ControlMode>,
}

impl PerStage {
    /// The mode for one stage, where there is one.
    pub const fn get(&self, stage: NamespaceStage) -> Option<ControlMode> {
        match stage {
            NamespaceStage::Training => self.training,
            NamespaceStage::Evaluation => self.evaluation,
            NamespaceStage::Inference => self.inference,
            NamespaceStage::Shared => self.shared,
        }
    }
}

/// What the policy says about one control, or about one rule of it. One whose `effectiveTime` has not come is left out
/// by whoever converts it, because this module knows no clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOverride {
    /// The control or the rule; an override of the rule wins over one of its control.
    pub id: RuleId,
    /// The mode for the stages that `per_stage` leaves out; `None` keeps the built-in one there.
    pub mode: Option<ControlMode>,
    /// The mode stage by stage.
    pub per_stage: PerStage,
}

impl ControlOverride {
    fn mode_in(&self, stage: Option<NamespaceStage>) -> Option<ControlMode> {
        pick(stage, self.per_stage, self.mode)
    }
}

/// The mode for the stage if there is one, else the general one.
fn pick(stage: Option<NamespaceStage>, per_stage: PerStage, mode: Option<ControlMode>) -> Option<ControlMode> {
    stage.and_then(|stage| per_stage.get(stage)).or(mode)
}

impl Catalogue {
    /// The built-in mode of a rule, or of a whole control, in a namespace of that stage. `Off` where the control does
    /// not apply. The stage is of no account to controls of the cluster; `None` asks for the mode before any stage.
    /// An id the catalogue lacks is `On`: a rule whose entry was forgotten must not be a rule that is skipped.
    pub fn default_mode(&self, rule: &RuleId, stage: impl Into<Option<NamespaceStage>>) -> ControlMode {
        self.effective_mode(rule, stage, &[])
    }

    /// The mode under a policy. The most specific word holds: the policy on the rule, the policy on its control, the
    /// catalogue on the rule, the catalogue on the control; and within each, the stage before the general mode.
    /// `Off` for a control that may not be switched off is not heard.
    pub fn effective_mode(
        &self,
        rule: &RuleId,
        stage: impl Into<Option<NamespaceStage>>,
        overrides: &[ControlOverride],
    ) -> ControlMode {
        let Some(control) = self.control(rule.control()) else {
            return ControlMode::On;
        };
        let stage = stage.into().filter(|_| !control.cluster);
        if stage.is_some_and(|stage| !control.applies_to(stage)) {
            return ControlMode::Off;
        }
        let whole = RuleId::from(control.id);
        let said_of = |id: &RuleId| overrides.iter().find(|said| said.id == *id)?.mode_in(stage);
        [rule, &whole]
            .into_iter()
            .filter_map(said_of)
            .find(|mode| !(control.untouchable && *mode == ControlMode::Off))
            .unwrap_or_else(|| built_in(control, rule, stage))
    }

    /// Whether an override is weaker than the built-in mode anywhere, for the control or for one of its rules: such a
    /// one needs a reason.
    pub fn weakens(&self, said: &ControlOverride) -> bool {
        let Some(control) = self.control(said.id.control()) else {
            return false;
        };
        let stages: Vec<Option<NamespaceStage>> = if control.cluster {
            vec![None]
        } else {
            control.stages.iter().copied().map(Some).collect()
        };
        let ids = std::iter::once(RuleId::from(control.id)).chain(control.rule_ids());
        let overrides = std::slice::from_ref(said);
        ids.filter(|id| said.id.covers(id)).any(|id| {
            stages
                .iter()
                .any(|stage| self.effective_mode(&id, *stage, overrides) < self.default_mode(&id, *stage))
        })
    }
}

/// What the catalogue says: the rule's own word, else its control's.
fn built_in(control: &Control, rule: &RuleId, stage: Option<NamespaceStage>) -> ControlMode {
    control
        .rule(rule)
        .and_then(|rule| pick(stage, rule.per_stage, rule.mode))
        .or_else(|| pick(stage, control.per_stage, None))
        .unwrap_or(control.mode)
}
