//! A `Waiver`: whether it could ever hold, by the function that decides whether it does. Who asked and who approved is for
//! `cloison-guard`.

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;

use super::{Answer, InAFile, Place, Request, Sight, answer, parse, told};
use crate::admission::effect;
use crate::api::Waiver;
use crate::api::policy::AiSecurityPolicySpec;
use crate::compliance::id::OPS_02;
use crate::compliance::waiver::{self, Effect};
use crate::compliance::{Finding, Location, RuleId, Subject};
use crate::network::ports::PortSet;
use crate::network::validate::did_you_mean;
use crate::network::world::WorkloadKey;

pub(super) fn review(request: &Request, object: &DynamicObject, sight: &Sight, now: Timestamp) -> Answer {
    let found: Waiver = match parse(request, object) {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    // The schema keeps the spec as it is: an update changes nothing that is judged here.
    if request.old_object.is_some() {
        return Answer::default();
    }
    let findings = written(&found, sight.world.policy.waivers.max_days, now);
    let mut answer = answer(findings, &Place::cluster(), sight, now);
    let unknown = unknown_target(&found, sight).map(|finding| told(&sight.hash, &finding));
    answer.warnings.extend(unknown);
    let deaf = unheard(&found).map(|finding| told(&sight.hash, &finding));
    answer.warnings.extend(deaf);
    answer
}

/// What the webhook would say to a new Waiver where such a policy holds; `assumed`: nobody has seen the policy. Whether its
/// target is there is not asked, because only a cluster knows.
pub fn in_a_file(found: &Waiver, policy: &AiSecurityPolicySpec, assumed: bool, now: Timestamp) -> InAFile {
    let sight = Sight::of(policy);
    let unsure = |finding: &Finding| {
        // How long one may last is for the policy to say.
        let too_long = assumed && finding.rule == OPS_02.rule("too-long");
        // One that has ended is refused as a new one alone, and this one may be stored since long.
        let ended = finding.rule == RuleId::from(OPS_02) && field(finding) == Some(EXPIRY);
        too_long || ended
    };
    let findings = written(found, policy.waivers.max_days, now).into_iter();
    let (unsure, sure): (Vec<_>, Vec<_>) = findings.partition(unsure);
    let mut said = InAFile::from(answer(sure, &Place::cluster(), &sight, now));
    said.told.extend(unsure);
    said.told.extend(unheard(found));
    said
}

/// Where a Waiver says when it ends.
const EXPIRY: &str = "spec.expirationTime";

fn field(finding: &Finding) -> Option<&str> {
    finding.at.as_ref()?.field.as_deref()
}

/// What is wrong with how it is written.
fn written(found: &Waiver, max_days: i32, now: Timestamp) -> Vec<Finding> {
    let subject = || Subject::cluster("Waiver", found.metadata.name.clone().unwrap_or_default());
    let mut findings: Vec<Finding> = waiver::malformed(found, max_days, now)
        .into_iter()
        .map(|wrong| {
            let finding = Finding::new(wrong.rule, subject(), wrong.message).at(Location::field(wrong.field));
            match wrong.fix {
                Some(fix) => finding.with_fix(fix),
                None => finding,
            }
        })
        .collect();
    if let Some(Err(error)) = found.spec.flow.as_ref().map(|flow| PortSet::written(&flow.ports)) {
        let finding = Finding::new(OPS_02.rule("flow"), subject(), error.to_string());
        findings.push(
            finding
                .at(Location::field("spec.flow.ports"))
                .with_fix("ports are numbers from 1 to 65535"),
        );
    }
    findings
}

/// What nobody will ask it about. It may be meant for a later version, so it is told and not refused.
fn unheard(found: &Waiver) -> Option<Finding> {
    let message = match effect(found) {
        Effect::Whole => return None,
        Effect::Part(why) => format!("it would not open all that it names: {why}"),
        Effect::Nothing(_, why) => format!("it would open nothing: {why}"),
    };
    let subject = Subject::cluster("Waiver", found.metadata.name.clone().unwrap_or_default());
    Some(Finding::new(RuleId::from(OPS_02), subject, message).at(Location::field("spec.controls")))
}

/// A target that is not there may still come; most often it is a slip.
fn unknown_target(found: &Waiver, sight: &Sight) -> Option<Finding> {
    let (namespaces, workloads) = (&sight.world.namespaces, &sight.world.workloads);
    let target = &found.spec.target;
    let (field, message, fix) = if namespaces.contains_key(&*target.namespace) {
        let name = target.workload.as_ref()?;
        let key = WorkloadKey::new(&*target.namespace, &**name);
        if workloads.contains_key(&key) {
            return None;
        }
        let known = sight.world.workloads_in(&target.namespace).map(|w| w.key.name.as_str());
        let fix = did_you_mean(name, known, "it holds once that workload exists");
        ("spec.target.workload", format!("there is no AiWorkload {key}"), fix)
    } else {
        let known = namespaces.keys().map(String::as_str);
        let fix = did_you_mean(&target.namespace, known, "it holds once that namespace exists");
        let message = format!("there is no namespace {:?}", &*target.namespace);
        ("spec.target.namespace", message, fix)
    };
    let subject = Subject::cluster("Waiver", found.metadata.name.clone().unwrap_or_default());
    let finding = Finding::new(OPS_02.rule("target"), subject, message);
    Some(finding.at(Location::field(field)).with_fix(fix))
}
