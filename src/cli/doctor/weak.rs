//! Controls that the policy sets below what is built in. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::verdict::{Verdict, Word, first, verdict};
use crate::admission::overrides;
use crate::api::policy::{AiSecurityPolicySpec, ControlSetting};
use crate::api::stage::{ControlMode, NamespaceStage};
use crate::compliance::{Catalogue, Control, ControlOverride, RuleId};

const ABOUT: &str = "controls";

/// What is said of them. A setting that is not heard weakens nothing.
pub(super) fn verdicts(spec: &AiSecurityPolicySpec, now: Timestamp) -> Vec<Verdict> {
    let heard = overrides(spec, now);
    let (mut ending, mut lasting) = (Vec::new(), Vec::new());
    for setting in spec.controls.iter().flatten() {
        let Some(line) = weakened(setting, &heard) else {
            continue;
        };
        // Before its time a stricter mode is Audit, and ends by itself.
        match setting.effective_time.as_ref().filter(|time| time.0 > now) {
            Some(until) if weakened(setting, &overrides(spec, until.0)).is_none() => {
                ending.push(format!("{line}, until {}", until.0));
            }
            _ => lasting.push(line),
        }
    }
    let mut told = Vec::new();
    if !lasting.is_empty() {
        let message = format!("weaker than built in, without an end: {}", first(&lasting));
        told.push(verdict(ABOUT, Word::Attention, message));
    }
    if !ending.is_empty() {
        let message = format!("weaker than built in for a time: {}", first(&ending));
        told.push(verdict(ABOUT, Word::Fine, message));
    }
    if told.is_empty() {
        told.push(verdict(ABOUT, Word::Fine, "the policy sets none weaker than built in"));
    }
    told
}

/// `NET-04 Audit in training (a trial)`, where the setting is weaker than built in for the control or one of its rules.
fn weakened(setting: &ControlSetting, heard: &[ControlOverride]) -> Option<String> {
    let said = heard.iter().find(|said| said.id.to_string() == *setting.id)?;
    let catalogue = Catalogue::builtin();
    let control = catalogue.control(said.id.control())?;
    let all = stages(control);
    let mut weaker = BTreeMap::<ControlMode, Vec<Option<NamespaceStage>>>::new();
    for stage in &all {
        let ids = std::iter::once(RuleId::from(control.id)).chain(control.rule_ids());
        let lowered = ids.filter_map(|id| {
            let mode = catalogue.effective_mode(&id, *stage, std::slice::from_ref(said));
            (mode < catalogue.default_mode(&id, *stage)).then_some(mode)
        });
        if let Some(mode) = lowered.min() {
            weaker.entry(mode).or_default().push(*stage);
        }
    }
    let parts = weaker.iter().map(|(mode, stages)| {
        let word = match mode {
            ControlMode::Disabled => "Disabled",
            ControlMode::Audit => "Audit",
            ControlMode::Enforce => "Enforce",
        };
        let named: Vec<String> = stages.iter().flatten().map(ToString::to_string).collect();
        if stages.len() == all.len() {
            word.to_owned()
        } else {
            format!("{word} in {}", named.join(" and "))
        }
    });
    let parts = parts.collect::<Vec<_>>().join(", ");
    let reason = setting.reason.as_deref().unwrap_or_default();
    (!parts.is_empty()).then(|| format!("{} {parts} ({reason})", said.id))
}

/// Where a control can have a mode: one of the cluster has the same everywhere.
fn stages(control: &Control) -> Vec<Option<NamespaceStage>> {
    if control.cluster {
        vec![None]
    } else {
        control.stages.iter().copied().map(Some).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(controls: &Value) -> Vec<(Word, String)> {
        let spec = serde_json::from_value(json!({"controls": controls})).unwrap();
        let lines = verdicts(&spec, "2030-01-01T00:00:00Z".parse().unwrap()).into_iter();
        lines.map(|line| (line.word, line.message)).collect()
    }

    #[test]
    fn what_is_weaker_than_built_in_is_named_with_its_reason() {
        let lasting = told(&json!([
            {"id": "NET-04", "mode": "Audit", "reason": "a trial"},
            {"id": "WKL-01", "perStage": {"training": "Disabled"}, "reason": "RDMA"},
        ]));
        let wanted = "weaker than built in, without an end: NET-04 Audit (a trial), WKL-01 Disabled in training (RDMA)";
        assert_eq!(lasting, [(Word::Attention, wanted.to_owned())]);
    }

    #[test]
    fn what_comes_into_force_later_has_an_end() {
        let time =
            |time: &str| json!([{"id": "NET-04", "mode": "Enforce", "effectiveTime": time, "reason": "told first"}]);
        let wanted = "weaker than built in for a time: NET-04 Audit (told first), until 2030-02-01T00:00:00Z";
        assert_eq!(told(&time("2030-02-01T00:00:00Z")), [(Word::Fine, wanted.to_owned())]);
        assert_eq!(told(&time("2029-02-01T00:00:00Z")), told(&json!(null)));
        // What is as weak after that time does not end with it.
        let weak =
            json!([{"id": "NET-04", "mode": "Audit", "effectiveTime": "2030-02-01T00:00:00Z", "reason": "a trial"}]);
        assert_eq!(told(&weak)[0].0, Word::Attention);
    }

    #[test]
    fn what_is_stricter_or_not_heard_weakens_nothing() {
        let none = [(Word::Fine, "the policy sets none weaker than built in".to_owned())];
        assert_eq!(told(&json!(null)), none);
        assert_eq!(told(&json!([{"id": "NET-04", "mode": "Enforce"}])), none);
        assert_eq!(
            told(&json!([{"id": "NET-04", "mode": "Audit"}])),
            none,
            "no reason: the built-in mode holds"
        );
    }
}
