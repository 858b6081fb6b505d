//! An offline plan as people and programs read it.

use std::fmt::Write as _;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Resource, ResourceExt};

use super::offline::Plan;
use crate::api::stage::Mode;
use crate::api::workload::{FlowDirection, FlowState};
use crate::cli::{CliError, out};
use crate::compliance::{Assurance, Finding};

/// The tables: objects, flows, findings, notes. `whole`: everything could be read.
pub(super) fn tables(plan: &Plan, whole: bool) -> String {
    let mut sections = vec![objects(plan), flows(plan), findings(plan)];
    if sections.iter().all(String::is_empty) {
        sections.insert(0, "Nothing would be written.\n".to_owned());
    } else if plan.findings.is_empty() && whole {
        sections.push("no findings\n".to_owned());
    }
    sections.push(notes(plan));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// What `-o yaml` says beside the objects.
pub(super) fn remarks(plan: &Plan) -> String {
    let unwritten = plan.policies.iter().filter(|policy| !is_written(plan, policy)).count();
    let mut text = findings(plan) + &notes(plan);
    if unwritten > 0 {
        let many = out::count(unwritten, "NetworkPolicy object");
        let _ = writeln!(
            text,
            "note: {many} left out, because modes Audit and Warn write none; --as-enforced prints them"
        );
    }
    text
}

/// The objects that would be applied, sorted by kind, namespace and name.
pub(super) fn yaml(plan: &Plan) -> Result<String, CliError> {
    let mut documents = Vec::new();
    for policy in plan.policies.iter().filter(|policy| is_written(plan, policy)) {
        documents.push(out::document(policy)?);
    }
    if let Some(set) = &plan.admission {
        for policy in &set.policies {
            documents.push(out::document(policy)?);
        }
        for binding in &set.bindings {
            documents.push(out::document(binding)?);
        }
    }
    Ok(documents.concat())
}

/// In audit and warn nothing is written: an allow policy isolates as well.
fn is_written(plan: &Plan, policy: &NetworkPolicy) -> bool {
    let namespace = policy.namespace().unwrap_or_default();
    let facts = plan.world.namespaces.get(&namespace);
    facts.is_some_and(|facts| facts.mode == Mode::Enforce)
}

fn objects(plan: &Plan) -> String {
    let mut rows = Vec::new();
    for policy in &plan.policies {
        let namespace = policy.namespace().unwrap_or_default();
        let facts = plan.world.namespaces.get(&namespace);
        let stage = facts.and_then(|facts| facts.stage).map(|stage| stage.to_string());
        let mode = facts.map(|facts| facts.mode).unwrap_or_default();
        let applied = if is_written(plan, policy) {
            "yes".to_owned()
        } else {
            format!("not in mode {mode}")
        };
        let object = object(policy);
        rows.push(vec![
            namespace,
            stage.unwrap_or_default(),
            mode.to_string(),
            object,
            applied,
        ]);
    }
    if let Some(set) = &plan.admission {
        let names = set.policies.iter().map(object).chain(set.bindings.iter().map(object));
        rows.extend(names.map(|name| {
            let none = || "-".to_owned();
            vec![none(), none(), none(), name, "yes".to_owned()]
        }));
    }
    out::table(&["NAMESPACE", "STAGE", "MODE", "OBJECT", "WOULD BE APPLIED"], rows)
}

fn object<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

fn flows(plan: &Plan) -> String {
    let row = |(key, flow): &(_, crate::api::workload::FlowStatus)| {
        let direction = match flow.direction {
            FlowDirection::Egress => "egress",
            FlowDirection::Ingress => "ingress",
        };
        vec![
            format!("{key}"),
            direction.to_owned(),
            flow.name.clone(),
            state(flow.state).to_owned(),
            flow.message.clone(),
        ]
    };
    let header = ["WORKLOAD", "DIRECTION", "FLOW", "STATE", "MESSAGE"];
    out::table(
        &header,
        plan.flows
            .iter()
            .map(|flow: &(crate::network::world::WorkloadKey, _)| row(flow))
            .collect(),
    )
}

/// As the API spells it.
pub(in crate::cli) const fn state(state: FlowState) -> &'static str {
    match state {
        FlowState::Open => "Open",
        FlowState::AwaitingPeer => "AwaitingPeer",
        FlowState::Unresolved => "Unresolved",
        FlowState::Refused => "Refused",
    }
}

fn findings(plan: &Plan) -> String {
    plan.findings.iter().map(finding).collect()
}

/// Place, severity, and the line that the door would print. What is not known is called so, however grave it would be.
pub(in crate::cli) fn finding(finding: &Finding) -> String {
    let at = match &finding.at {
        Some(at) if at.file.is_some() => at.to_string(),
        Some(at) => format!("{} {at}", finding.subject),
        None => finding.subject.to_string(),
    };
    let severity = match finding.assurance {
        Assurance::Unknown => "Unknown".to_owned(),
        _ => finding.severity.to_string(),
    };
    out::clean(&format!("{at}: {severity} {}", finding.line())) + "\n"
}

fn notes(plan: &Plan) -> String {
    plan.notes.iter().fold(String::new(), |mut text, note| {
        let _ = writeln!(text, "note: {}", out::clean(note));
        text
    })
}
