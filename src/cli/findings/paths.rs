//! Forbidden paths: each with both of its rules, where the verdict needs but one to be False.

use super::{Case, subject};
use crate::compliance::id::{NET_03, RuleId};
use crate::compliance::{Assurance, Finding, Location, Subject};
use crate::network::reach::paths::MOST;
use crate::network::reach::{End, Isolation, Place, Provenance, Witness};
use crate::network::verdict;

/// The verdicts that are not True, and what is worth mending beside them.
pub(super) fn isolation(case: &Case<'_>) -> Vec<Finding> {
    let analysis = verdict::of(case.world, case.stored, case.unmodelled);
    let widening = analysis.findings.into_values().flatten();
    let mut findings: Vec<Finding> = widening.filter(|finding| case.is_own(&finding.subject)).collect();
    let mut open = false;
    for (namespace, isolation) in analysis.namespaces {
        match isolation {
            Isolation::Isolated => {}
            Isolation::PathExists(_) => open = true,
            Isolation::Unknown { reason, message } => {
                if concerns(case, &namespace) {
                    let subject = Subject::cluster("Namespace", namespace);
                    findings.push(Finding::new(unknown(reason), subject, message).with_assurance(Assurance::Unknown));
                }
            }
        }
    }
    if open {
        let all = verdict::paths(case.world, case.stored, &|out, into| {
            is_own(case, out) || is_own(case, into)
        });
        if all.len() >= MOST {
            let message =
                format!("more than {MOST} pairs of rules lead from one stage to another; the others are not listed");
            let cluster = Subject::cluster("AiSecurityPolicy", crate::api::names::SINGLETON);
            findings.push(Finding::new(NET_03.rule("path"), cluster, message));
        }
        findings.extend(all.iter().map(|witness| path(case, witness)));
    }
    findings
}

fn unknown(reason: &str) -> RuleId {
    match reason {
        "CniDependent" => NET_03.rule("cni-dependent"),
        "UnmodelledPolicy" => NET_03.rule("unmodelled"),
        _ => NET_03.rule("unseen"),
    }
}

/// Whether a namespace, or anything in it, is of what is judged.
pub(super) fn concerns(case: &Case<'_>, namespace: &str) -> bool {
    let Some(objects) = case.objects else { return true };
    let of = |(key, own): (&(String, String), bool)| own && key.0 == namespace;
    let mut policies = objects.network_policies.iter().map(|(key, found)| (key, found.own));
    let mut workloads = objects.workloads.iter().map(|(key, found)| (key, found.own));
    let own = objects.source("Namespace", "", namespace).is_some_and(|(_, own)| own);
    own || policies.any(of) || workloads.any(of)
}

/// Whether one half of a path is of what is judged. What we render follows from the workloads and makes no path alone.
fn is_own(case: &Case<'_>, half: &Provenance) -> bool {
    match (case.objects, half) {
        (None, _) => true,
        (Some(_), Provenance::Rule { policy, .. }) => case.is_own(&subject(policy)),
        (Some(objects), Provenance::NotIsolated { namespace }) => namespace
            .as_deref()
            .and_then(|namespace| objects.source("Namespace", "", namespace))
            .is_some_and(|(_, own)| own),
    }
}

/// A rule, with its place in a file where it has one.
pub(super) fn told(case: &Case<'_>, rule: &Provenance) -> String {
    match rule {
        Provenance::Rule { policy, field } if case.locate_policy(policy, "").file.is_some() => {
            case.place(policy, &format!("spec.{field}"))
        }
        rule => rule.to_string(),
    }
}

pub(super) fn path(case: &Case<'_>, witness: &Witness) -> Finding {
    let message = witness.told(|rule| told(case, rule));
    let rules = [&witness.egress, &witness.ingress].map(|rule| match rule {
        Provenance::Rule { policy, field } => {
            let at = case.locate_policy(policy, &format!("spec.{field}"));
            Some((subject(policy), at))
        }
        Provenance::NotIsolated { .. } => None,
    });
    let known = || rules.iter().flatten();
    let of_file = known().find(|(subject, at)| at.file.is_some() && case.is_own(subject));
    let (subject, at) = match of_file.or_else(|| known().next()) {
        Some((subject, at)) => (subject.clone(), at.clone()),
        None => (
            Subject::cluster("Namespace", staged(case, witness)),
            Location::default(),
        ),
    };
    let finding = Finding::new(NET_03.rule("path"), subject, message);
    if at == Location::default() {
        finding
    } else {
        finding.at(at)
    }
}

/// The namespace of a stage at one end of a path.
fn staged(case: &Case<'_>, witness: &Witness) -> String {
    let name = |end: &End| match &end.namespace {
        Place::Namespace(name) => Some(name.clone()),
        Place::Later(_) => None,
    };
    let mut ends = [&witness.from, &witness.to].into_iter().filter_map(name);
    let staged = |name: &String| {
        case.world
            .stage_of(name)
            .is_some_and(|stage| stage.workload_stage().is_some())
    };
    ends.find(staged).unwrap_or_default()
}
