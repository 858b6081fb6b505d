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
    /// The built-in mode of a rule, or of a whole control, in a namespace of that stage. `Disabled` where the control does
    /// not apply. The stage is of no account to controls of the cluster; `None` asks for the mode before any stage.
    /// An id the catalogue lacks is `Enforce`: a rule whose entry was forgotten must not be a rule that is skipped.
    pub fn default_mode(&self, rule: &RuleId, stage: impl Into<Option<NamespaceStage>>) -> ControlMode {
        self.effective_mode(rule, stage, &[])
    }

    /// The mode under a policy. The most specific word holds: the policy on the rule, the policy on its control, the
    /// catalogue on the rule, the catalogue on the control; and within each, the stage before the general mode.
    /// `Disabled` for a control that may not be switched off is not heard.
    pub fn effective_mode(
        &self,
        rule: &RuleId,
        stage: impl Into<Option<NamespaceStage>>,
        overrides: &[ControlOverride],
    ) -> ControlMode {
        let Some(control) = self.control(rule.control()) else {
            return ControlMode::Enforce;
        };
        let stage = stage.into().filter(|_| !control.cluster);
        if stage.is_some_and(|stage| !control.applies_to(stage)) {
            return ControlMode::Disabled;
        }
        let whole = RuleId::from(control.id);
        let said_of = |id: &RuleId| overrides.iter().find(|said| said.id == *id)?.mode_in(stage);
        [rule, &whole]
            .into_iter()
            .filter_map(said_of)
            .find(|mode| !(control.untouchable && *mode == ControlMode::Disabled))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use ControlMode::{Audit, Disabled, Enforce};
    use NamespaceStage::{Evaluation, Inference, Shared, Training};

    use super::*;
    use crate::compliance::id::{CLU_04, DAT_01, ENC_01, NET_01, SUP_01, WKL_05, WKL_06};

    fn default_modes(id: &str) -> [ControlMode; 4] {
        let id: RuleId = id.parse().unwrap();
        assert!(Catalogue::builtin().contains(&id), "{id}");
        NamespaceStage::ALL.map(|stage| Catalogue::builtin().default_mode(&id, stage))
    }

    /// The last part of the admission chapter of the design, and the table of rules that would break real workloads.
    #[test]
    fn the_defaults_let_real_workloads_live() {
        let table = [
            // id                        training  evaluation inference shared
            ("NET-01/seal", [Enforce, Enforce, Enforce, Disabled]),
            ("NET-01/deny", [Enforce, Enforce, Enforce, Enforce]),
            ("NET-04/awaiting-peer", [Audit, Audit, Audit, Disabled]),
            ("NET-06/node-port", [Enforce, Enforce, Enforce, Disabled]),
            // Baseline is refused, restricted only scored.
            ("WKL-01/privileged", [Enforce, Enforce, Enforce, Enforce]),
            ("WKL-01/host-ipc", [Enforce, Enforce, Enforce, Enforce]),
            ("WKL-01/capabilities", [Enforce, Enforce, Enforce, Enforce]),
            ("WKL-01/inline-csi", [Enforce, Enforce, Enforce, Enforce]),
            ("WKL-08/root", [Audit, Audit, Audit, Audit]),
            // Digests, own accounts, references to credentials.
            ("SUP-01/digest", [Audit, Audit, Enforce, Audit]),
            ("IAM-01/own-account", [Audit, Audit, Enforce, Disabled]),
            ("IAM-01/token", [Audit, Audit, Enforce, Disabled]),
            ("ENC-04/reference", [Audit, Audit, Enforce, Audit]),
            ("ENC-04/env-from", [Audit, Audit, Enforce, Audit]),
            ("ENC-04/literal", [Enforce, Enforce, Enforce, Audit]),
            // Notebooks live in training.
            ("WKL-06/exec", [Audit, Audit, Enforce, Audit]),
            ("WKL-06/attach", [Audit, Audit, Enforce, Audit]),
            ("WKL-06/port-forward", [Audit, Audit, Enforce, Audit]),
            ("WKL-06/debug", [Audit, Audit, Enforce, Audit]),
            ("WKL-06/proxy", [Enforce, Enforce, Enforce, Enforce]),
            ("IAM-06/token-request", [Enforce, Enforce, Enforce, Enforce]),
            // Evidence waits for an admin; prohibited uses do not.
            ("EVD-02", [Audit, Audit, Audit, Disabled]),
            ("EVD-06/audit", [Disabled, Disabled, Audit, Disabled]),
            ("EVD-06/tests", [Disabled, Audit, Audit, Disabled]),
            ("DAT-03", [Audit, Audit, Audit, Disabled]),
            ("DAT-01/prohibited", [Enforce, Enforce, Enforce, Disabled]),
            ("SUP-03/format", [Audit, Audit, Enforce, Disabled]),
        ];
        for (id, expected) in table {
            assert_eq!(default_modes(id), expected, "{id}");
        }
    }

    #[test]
    fn controls_of_the_cluster_know_no_stage() {
        assert_eq!(default_modes("CLU-04/managed-object"), [Enforce; 4]);
        assert_eq!(Catalogue::builtin().default_mode(&CLU_04.into(), None), Enforce);
        let said = [said(
            ENC_01,
            Some(Enforce),
            PerStage {
                training: Some(Disabled),
                ..PerStage::default()
            },
        )];
        assert_eq!(
            Catalogue::builtin().effective_mode(&ENC_01.into(), Training, &said),
            Enforce
        );
    }

    fn said(id: impl Into<RuleId>, mode: Option<ControlMode>, per_stage: PerStage) -> ControlOverride {
        ControlOverride {
            id: id.into(),
            mode,
            per_stage,
        }
    }

    fn only(stage: NamespaceStage, mode: ControlMode) -> PerStage {
        let when = |this| (this == stage).then_some(mode);
        PerStage {
            training: when(Training),
            evaluation: when(Evaluation),
            inference: when(Inference),
            shared: when(Shared),
        }
    }

    #[test]
    fn the_most_specific_word_holds() {
        let mode = |id: &RuleId, stage, said: &[ControlOverride]| Catalogue::builtin().effective_mode(id, stage, said);
        let (control, digest) = (RuleId::from(SUP_01), SUP_01.rule("digest"));
        let everywhere = [said(SUP_01, Some(Enforce), PerStage::default())];
        assert_eq!(mode(&control, Training, &everywhere), Enforce);
        assert_eq!(
            mode(&digest, Training, &everywhere),
            Enforce,
            "a control's override reaches its rules"
        );

        let training = [said(SUP_01, None, only(Training, Enforce))];
        assert_eq!(mode(&digest, Training, &training), Enforce);
        assert_eq!(
            mode(&digest, Evaluation, &training),
            Audit,
            "other stages keep the built-in mode"
        );
        assert_eq!(mode(&digest, Inference, &training), Enforce);

        let both = [
            said(SUP_01, Some(Disabled), only(Training, Enforce)),
            said(SUP_01.rule("digest"), Some(Audit), PerStage::default()),
        ];
        assert_eq!(mode(&digest, Training, &both), Audit, "the rule's override wins");
        assert_eq!(mode(&SUP_01.rule("registry"), Training, &both), Enforce);
        assert_eq!(mode(&SUP_01.rule("registry"), Inference, &both), Disabled);
        assert_eq!(
            mode(&RuleId::from(NET_01), Inference, &both),
            Enforce,
            "others are not touched"
        );
    }

    #[test]
    fn no_override_makes_a_control_apply_elsewhere() {
        let said = [said(WKL_05, Some(Enforce), PerStage::default())];
        assert_eq!(
            Catalogue::builtin().effective_mode(&WKL_05.into(), Training, &said),
            Disabled
        );
    }

    #[test]
    fn the_untouchable_are_never_off() {
        for control in Catalogue::builtin()
            .controls()
            .iter()
            .filter(|control| control.untouchable)
        {
            for id in control.rule_ids().chain([control.id.into()]) {
                for stage in NamespaceStage::ALL
                    .into_iter()
                    .filter(|stage| control.cluster || control.applies_to(*stage))
                {
                    let all = [
                        said(id.clone(), Some(Disabled), only(stage, Disabled)),
                        said(control.id, Some(Disabled), only(stage, Disabled)),
                    ];
                    let (mode, before) = (
                        Catalogue::builtin().effective_mode(&id, stage, &all),
                        Catalogue::builtin().default_mode(&id, stage),
                    );
                    assert!(mode == before && mode != Disabled, "{id} in {stage}");
                }
            }
        }
        let audit = [said(DAT_01, Some(Audit), PerStage::default())];
        assert_eq!(
            Catalogue::builtin().effective_mode(&DAT_01.into(), Training, &audit),
            Audit
        );
    }

    #[test]
    fn what_is_weaker_anywhere_needs_a_reason() {
        let weakens = |said: ControlOverride| Catalogue::builtin().weakens(&said);
        assert!(weakens(said(NET_01, Some(Audit), PerStage::default())));
        assert!(weakens(said(SUP_01, None, only(Inference, Audit))));
        assert!(!weakens(said(SUP_01, Some(Enforce), PerStage::default())));
        assert!(weakens(said(SUP_01, None, only(Training, Disabled))));
        // The control's own mode in training is Audit already; its rule `proxy` is Enforce there.
        assert!(weakens(said(WKL_06, None, only(Training, Audit))));
        assert!(!weakens(said(WKL_06.rule("exec"), None, only(Training, Audit))));
        assert!(weakens(said(CLU_04, Some(Audit), PerStage::default())));
        assert!(
            !weakens(said(CLU_04, Some(Disabled), PerStage::default())),
            "not heard, so not weaker"
        );
    }
}
