//! Statuses, events: what people read. Written only when something but the time changed.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use k8s_openapi::api::core::v1::{Namespace, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};

use super::context::Context;
use super::error::Error;
use crate::api::conditions::{self, Verdict};
use crate::api::stage::Mode;
use crate::api::workload::{AiWorkloadStatus, FindingStatus, FlowStatus};
use crate::api::{AiWorkload, Waiver, names};
use crate::compliance::{Finding, waiver, worst};
use crate::network::world::{WorkloadKey, World};

/// Most findings a status holds.
const FINDINGS: usize = 10;
/// Longest message of a finding or an event (events.k8s.io refuses notes over 1 KiB).
const NOTE: usize = 1_000;

/// What a pass has to say about a workload.
pub struct WorkloadReport {
    /// The conditions.
    pub verdicts: Vec<Verdict>,
    /// The namespace's mode.
    pub mode: Mode,
    /// The flows.
    pub flows: Vec<FlowStatus>,
    /// All findings; the worst are written.
    pub findings: Vec<Finding>,
    /// The hash of the admission policies in force.
    pub policy_hash: String,
}

/// Writes a workload's status if it says anything new, and an event for each condition that flipped.
pub async fn workload(ctx: &Context, workload: &AiWorkload, report: WorkloadReport) -> Result<(), Error> {
    let reference = ObjectRef::from_obj(workload);
    // This is its last readable version; what it says now was told by the guard.
    if ctx.unreadable.contains(&reference) {
        return Ok(());
    }
    let present = last_status(ctx, &reference, workload);
    let now = Time(Context::now());
    let status = AiWorkloadStatus {
        observed_generation: workload.metadata.generation,
        conditions: conditions::conditions(
            &present.conditions,
            &report.verdicts,
            workload.metadata.generation,
            &now,
        ),
        mode: Some(report.mode),
        score: None,
        policy_hash: (!report.policy_hash.is_empty()).then_some(report.policy_hash),
        flows: report.flows,
        findings: worst(report.findings, FINDINGS).iter().map(finding_status).collect(),
    };
    if status == present {
        return Ok(());
    }
    let Some(namespace) = workload.namespace() else {
        return Ok(());
    };
    // The object may have turned unreadable meanwhile, and the answer with it: what was written must be noted all the same.
    let api: Api<PartialObjectMeta<AiWorkload>> = Api::namespaced(ctx.client.clone(), &namespace);
    let written = ctx
        .writer
        .apply_status(&api, "AiWorkload", &workload.name_any(), &status)
        .await?;
    ctx.unreadable.wrote(&reference);
    for flip in conditions::flips(&present.conditions, &status.conditions) {
        event(ctx, workload, flip).await;
    }
    if let Some(version) = written.resource_version() {
        let mut cache = ctx.written.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(reference, (version, status));
    }
    Ok(())
}

/// The status as it is: what we wrote last, while the watch has not caught up with it.
fn last_status(ctx: &Context, reference: &ObjectRef<AiWorkload>, seen: &AiWorkload) -> AiWorkloadStatus {
    let mut cache = ctx.written.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |version: &str| version.parse::<u64>().unwrap_or_default();
    if let Some((version, status)) = cache.get(reference) {
        let seen_version = seen.resource_version().unwrap_or_default();
        if number(version) > number(&seen_version) {
            return status.clone();
        }
    }
    cache.remove(reference);
    seen.status.clone().unwrap_or_default()
}

/// Forgets a workload that is gone.
pub fn forget(ctx: &Context, reference: &ObjectRef<AiWorkload>) {
    ctx.written
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(reference);
}

fn finding_status(finding: &Finding) -> FindingStatus {
    let rule = finding.rule.to_string();
    FindingStatus {
        control: finding.control().to_string(),
        rule: rule.contains('/').then_some(rule),
        severity: finding.severity.to_string(),
        message: cut(&finding.line(), NOTE),
    }
}

async fn event(ctx: &Context, workload: &AiWorkload, condition: &Condition) {
    let kind = if condition.status == "False" || condition.type_ == "Stalled" {
        EventType::Warning
    } else {
        EventType::Normal
    };
    let event = Event {
        type_: kind,
        reason: condition.reason.clone(),
        note: Some(cut(
            &format!("{} is {}: {}", condition.type_, condition.status, condition.message),
            NOTE,
        )),
        action: condition.type_.clone(),
        secondary: None,
    };
    publish(ctx, &event, &workload.object_ref(&())).await;
}

/// Says something about a namespace, once until it changes.
pub async fn say(ctx: &Context, namespace: &Namespace, kind: EventType, reason: &'static str, message: String) {
    if !is_news(ctx, format!("{}/{reason}", namespace.name_any()), &message) {
        return;
    }
    tracing::info!(namespace = namespace.name_any(), reason, message);
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: Some(cut(&message, NOTE)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    publish(ctx, &event, &namespace.object_ref(&())).await;
}

fn is_news(ctx: &Context, key: String, message: &str) -> bool {
    let mut said = ctx.said.lock().unwrap_or_else(PoisonError::into_inner);
    said.insert(key, message.to_owned())
        .is_none_or(|before| before != message)
}

/// Says in time that a Waiver will end.
pub async fn ends_soon(ctx: &Context, waiver: &Waiver, message: &str) {
    if !is_news(ctx, format!("Waiver {}", waiver.name_any()), message) {
        return;
    }
    let event = Event {
        type_: EventType::Warning,
        reason: waiver::State::ExpiresSoon.as_str().to_owned(),
        note: Some(cut(message, NOTE)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    publish(ctx, &event, &waiver.object_ref(&())).await;
}

/// What was said of a namespace holds no more: the next time it is news again.
pub fn unsay(ctx: &Context, namespace: &str, reason: &'static str) {
    let mut said = ctx.said.lock().unwrap_or_else(PoisonError::into_inner);
    said.remove(&format!("{namespace}/{reason}"));
}

/// Each event is a new one: a recorder that remembers the last of its reason only counts it up, and the new note is lost.
async fn publish(ctx: &Context, event: &Event, about: &ObjectReference) {
    let recorder = Recorder::new(ctx.client.clone(), ctx.reporter.clone());
    if let Err(error) = recorder.publish(event, about).await {
        tracing::debug!(%error, "event not recorded");
    }
}

/// Reports running pods that belong to no workload: refused where it is enforced, only told elsewhere.
pub async fn orphan_pods(ctx: &Context, namespace: &Namespace, world: &World) {
    let here = namespace.name_any();
    let pods = ctx
        .caches
        .pods
        .state_filter(|pod| pod.namespace().as_deref() == Some(&here));
    let mut unknown: BTreeSet<String> = BTreeSet::new();
    for pod in pods {
        let name = pod.workload();
        if !world.workloads.contains_key(&WorkloadKey::new(&here, name)) {
            unknown.insert(name.to_owned());
        }
    }
    if unknown.is_empty() {
        unsay(ctx, &here, "UnknownWorkload");
        return;
    }
    // Names, not numbers: a CronJob would make another event of each of its pods.
    let list = unknown.into_iter().take(10).collect::<Vec<_>>().join(", ");
    let message = format!(
        "WKL-02/unknown running pods belong to workloads that do not exist here: {list}; create the AiWorkload, or \
         label the pods' template with {}: NAME",
        names::WORKLOAD_LABEL
    );
    say(ctx, namespace, EventType::Warning, "UnknownWorkload", message).await;
}

fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit - 4;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} …", &text[..end])
}
