//! Carries out withdrawals, as fast as [`super::withdrawals`] lets them.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use tokio::sync::mpsc;

use super::caches::Seen;
use super::context::Context;
use super::triggers::Index;
use super::withdrawals::Withdrawals;
use super::{namespace, report};
use crate::api::{AiWorkload, names};
use crate::network::world::{Workload, WorkloadKey};
use crate::network::{policies, remnants};

/// How often rationed withdrawals are looked at.
const AGAIN: Duration = Duration::from_secs(5);
/// Deletions come in bursts; the ration is counted over all of one.
const GATHER: Duration = Duration::from_millis(200);

/// Whether what was deleted was deleted by itself.
enum Definition {
    /// The definition of `AiWorkload` stands, since this time.
    Stands(Option<Time>),
    /// It is gone or on its way out: every workload looks deleted.
    Leaving,
    /// Nobody knows.
    Unreadable(kube::Error),
}

/// Carries out rationed withdrawals, and only while the definition of `AiWorkload` stands as it stood: when it is
/// deleted, every workload looks deleted. `since` is the moment the ration is counted from.
pub async fn run(ctx: Arc<Context>, index: Index, since: Instant, mut deletions: mpsc::UnboundedReceiver<AiWorkload>) {
    loop {
        tokio::select! {
            deleted = deletions.recv() => {
                let Some(deleted) = deleted else { return };
                report::forget(&ctx, &ObjectRef::from_obj(&deleted));
                while let Ok(Some(deleted)) = tokio::time::timeout(GATHER, deletions.recv()).await {
                    report::forget(&ctx, &ObjectRef::from_obj(&deleted));
                }
            }
            () = tokio::time::sleep(AGAIN) => {}
        }
        forget_namespaces(&ctx);
        forget_deleted(&ctx, &index);
        if lock(&ctx).waiting() > 0 {
            match definition(&ctx).await {
                Definition::Stands(created) => {
                    // What is older than the definition vanished with an older one, not by itself.
                    lock(&ctx).hold(|workload| workload.metadata.creation_timestamp < created);
                    withdraw(&ctx, &index, since.elapsed()).await;
                }
                Definition::Leaving => {
                    tracing::warn!("the definition of AiWorkload is being deleted: no flow is withdrawn");
                    lock(&ctx).hold(|_| true);
                }
                Definition::Unreadable(error) => {
                    tracing::warn!(%error, "the definition of AiWorkload is not readable: withdrawals wait");
                }
            }
        }
        tell(&ctx);
        tell_of_held(&ctx).await;
    }
}

/// Before anything is rendered: of a workload whose policy is there and which is not, nobody knows whether it was
/// deleted while nobody watched. It counts as vanished, with the flows that policies give it.
pub fn adopt(ctx: &Context, index: &Index) {
    let found = remnants::find(&ctx.world(), &ctx.caches.network_policies.state());
    if found.is_empty() {
        return;
    }
    tracing::warn!(
        workloads = found.len(),
        "policies are there whose AiWorkloads are not: their flows stay"
    );
    for workload in found {
        let key = workload.key.clone();
        if let Some(object) = object_of(workload) {
            lock(ctx).gone(key, object);
        }
    }
    ctx.triggers.everything(index);
}

/// What only a policy is left of, as an object: withdrawals keep workloads as they were last seen.
fn object_of(workload: Workload) -> Option<AiWorkload> {
    let spec = json!({"stage": workload.stage, "owner": "", "purpose": "", "network": workload.network});
    let mut object = AiWorkload::new(&workload.key.name, serde_json::from_value(spec).ok()?);
    object.metadata.namespace = Some(workload.key.namespace);
    Some(object)
}

fn placed(ctx: &Context, key: &WorkloadKey) -> bool {
    ctx.policy_named(&key.namespace, &policies::workload_policy_name(&key.name))
        .is_some()
}

/// Who deletes the policy of a workload that vanished has decided; its peers are told.
fn forget_deleted(ctx: &Context, index: &Index) {
    let deleted = lock(ctx).forget_deleted(|key| placed(ctx, key));
    for workload in deleted {
        ctx.triggers.on_workload(index, &Seen::Gone(&workload));
    }
}

/// Says in each namespace which flows stay open, and what ends that.
async fn tell_of_held(ctx: &Context) {
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in lock(ctx).held().filter(|key| placed(ctx, key)) {
        held.entry(key.namespace.clone()).or_default().push(key.name.clone());
    }
    for (namespace, workloads) in held {
        let Some(object) = ctx.caches.namespaces.get(&ObjectRef::new(&namespace)) else {
            continue;
        };
        let shown = workloads.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
        let more = match workloads.len().saturating_sub(10) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "WKL-02/vanished the flows of {shown}{more} stay open: the AiWorkload is gone or cannot be read, and nobody saw \
             its deletion. Apply it again, or end its flows: kubectl -n {namespace} delete networkpolicy {}NAME",
            names::WORKLOAD_POLICY_PREFIX
        );
        report::say(ctx, &object, EventType::Warning, "VanishedWorkload", message).await;
    }
}

async fn withdraw(ctx: &Context, index: &Index, now: Duration) {
    let view = ctx.view();
    let size = |stage| {
        view.world
            .workloads
            .values()
            .filter(|workload| workload.stage == stage)
            .count()
    };
    let due = lock(ctx).due(now, size, |key| view.hold(&key.namespace).is_none());
    for key in due {
        if let Err(error) = namespace::withdraw_workload(ctx, &key).await {
            tracing::warn!(%key, %error, "withdrawal failed; it is tried again");
            continue;
        }
        let withdrawn = lock(ctx).forget(&key);
        // Its peers, and the services it declared, are told only now.
        if let Some(withdrawn) = withdrawn {
            ctx.triggers.on_workload(index, &Seen::Gone(&withdrawn));
        }
    }
}

/// With its namespace a workload takes its policy along: nothing is left to withdraw.
fn forget_namespaces(ctx: &Context) {
    let there = |key: &WorkloadKey| {
        let namespace = ctx.caches.namespaces.get(&ObjectRef::new(&key.namespace));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    };
    lock(ctx).retain(there);
}

fn tell(ctx: &Context) {
    let (waiting, vanished) = {
        let withdrawals = lock(ctx);
        (withdrawals.waiting(), withdrawals.vanished().count())
    };
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let before = ctx.metrics.withdrawals_waiting.set(number(waiting));
    ctx.metrics.vanished_workloads.set(number(vanished - waiting));
    if waiting > 0 && before != number(waiting) {
        tracing::warn!(
            waiting,
            "many workloads were deleted at once; their flows are withdrawn a few a minute. Apply them again to keep them"
        );
    }
}

fn lock(ctx: &Context) -> MutexGuard<'_, Withdrawals> {
    ctx.withdrawals.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn definition(ctx: &Context) -> Definition {
    let name = format!("aiworkloads.{}", names::GROUP);
    let found = Api::<CustomResourceDefinition>::all(ctx.client.clone())
        .get_metadata_opt(&name)
        .await;
    match found {
        Ok(Some(found)) if found.metadata.deletion_timestamp.is_none() => {
            Definition::Stands(found.metadata.creation_timestamp)
        }
        Ok(_) => Definition::Leaving,
        Err(error) => Definition::Unreadable(error),
    }
}
