//! The two singletons: what the schema lets a person write and nobody would hear.

use std::str::FromStr;

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;

use super::{Answer, InAFile, Place, Request, Sight, added, answer, parse};
use crate::admission::modes::overrides;
use crate::api::policy::{AiSecurityPolicySpec, ControlSetting};
use crate::api::stage::ControlMode;
use crate::api::{AiSecurityPolicy, SecretEncryption};
use crate::compliance::id::{CLU_02, ENC_01};
use crate::compliance::{Catalogue, ControlId, Finding, Location, Subject};

pub(super) fn policy(request: &Request, object: &DynamicObject, sight: &Sight, now: Timestamp) -> Answer {
    let found: AiSecurityPolicy = match parse(request, object) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let old = request.old_object.as_ref();
    let old = old.and_then(|old| old.clone().try_parse::<AiSecurityPolicy>().ok());
    let before = old.map(|old| controls(&old.spec, now)).unwrap_or_default();
    by_the_built_in_modes(added(controls(&found.spec, now), &before), &sight.hash, now)
}

/// A policy is judged by the built-in modes: one that is missing must be possible to write, and so must a good one over a
/// bad one.
fn by_the_built_in_modes(findings: Vec<Finding>, hash: &str, now: Timestamp) -> Answer {
    let sight = Sight {
        hash: hash.to_owned(),
        ..Sight::default()
    };
    answer(findings, &Place::cluster(), &sight, now)
}

/// What the webhook would say to a new AiSecurityPolicy.
pub fn policy_in_a_file(found: &AiSecurityPolicy, now: Timestamp) -> InAFile {
    by_the_built_in_modes(controls(&found.spec, now), "", now).into()
}

/// Settings of controls that are not heard.
fn controls(spec: &AiSecurityPolicySpec, now: Timestamp) -> Vec<Finding> {
    let settings = spec.controls.iter().flatten().enumerate();
    settings
        .filter_map(|(index, setting)| control(spec, index, setting, now))
        .collect()
}

fn control(spec: &AiSecurityPolicySpec, index: usize, setting: &ControlSetting, now: Timestamp) -> Option<Finding> {
    let subject = Subject::cluster("AiSecurityPolicy", crate::api::names::SINGLETON);
    let told = |rule: &'static str, message: String, field: &str| {
        let at = Location::field(format!("spec.controls[{index}]{field}"));
        Some(Finding::new(CLU_02.rule(rule), subject, message).at(at))
    };
    let id = &*setting.id;
    let known = id
        .parse::<ControlId>()
        .ok()
        .and_then(|id| Catalogue::builtin().control(id));
    let Some(control) = known else {
        return told(
            "unknown-control",
            format!("{id:?} is no control of the catalogue"),
            ".id",
        );
    };
    let off = |mode: Option<ControlMode>| mode == Some(ControlMode::Disabled);
    let stages = setting.per_stage.as_ref();
    let off_somewhere = off(setting.mode)
        || stages.is_some_and(|s| [s.training, s.evaluation, s.inference, s.shared].into_iter().any(off));
    if control.untouchable && off_somewhere {
        return told("untouchable", format!("{id} cannot be switched off"), "");
    }
    // As it is heard: alone, so that no other entry about the same control answers for it.
    let alone = AiSecurityPolicySpec {
        controls: Some(vec![setting.clone()]),
        ..spec.clone()
    };
    if setting.reason.is_none() && overrides(&alone, now).is_empty() {
        return told(
            "reason",
            format!("{id} is weaker than built in and says no reason"),
            ".reason",
        );
    }
    None
}

pub(super) fn encryption(request: &Request, object: &DynamicObject, sight: &Sight, now: Timestamp) -> Answer {
    let found: SecretEncryption = match parse(request, object) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let old = request.old_object.as_ref();
    let old = old.and_then(|old| old.clone().try_parse::<SecretEncryption>().ok());
    let before = old.map(|old| escrow(&old)).unwrap_or_default();
    answer(added(escrow(&found), &before), &Place::cluster(), sight, now)
}

/// What the webhook would say to a new SecretEncryption where such a policy holds.
pub fn encryption_in_a_file(found: &SecretEncryption, policy: &AiSecurityPolicySpec, now: Timestamp) -> InAFile {
    answer(escrow(found), &Place::cluster(), &Sight::of(policy), now).into()
}

/// Recipients that nothing can be sealed for. The schema knows how one looks, not its checksum: a slip in one letter would
/// be found out on the day the keys are needed.
fn escrow(encryption: &SecretEncryption) -> Vec<Finding> {
    let recipients = encryption.spec.escrow.recipients.iter().flatten().enumerate();
    let bad = recipients.filter_map(|(index, recipient)| {
        let error = age::x25519::Recipient::from_str(recipient).err()?;
        let subject = Subject::cluster("SecretEncryption", crate::api::names::SINGLETON);
        let message = format!("escrow recipient {:?} is no key: {error}", &**recipient);
        let at = Location::field(format!("spec.escrow.recipients[{index}]"));
        Some(Finding::new(ENC_01.rule("escrow"), subject, message).at(at))
    });
    bad.collect()
}
