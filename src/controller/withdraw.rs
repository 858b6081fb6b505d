//! Carries out withdrawals, as fast as [`super::withdrawals`] lets them.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc;

use super::caches::Seen;
use super::context::Context;
use super::triggers::Index;
use super::withdrawals::Withdrawals;
use super::{namespace, report};
use crate::api::{AiWorkload, names};
use crate::network::world::WorkloadKey;

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
    }
}

async fn withdraw(ctx: &Context, index: &Index, now: Duration) {
    let world = ctx.world();
    let size = |stage| {
        world
            .workloads
            .values()
            .filter(|workload| workload.stage == stage)
            .count()
    };
    let due = lock(ctx).due(now, size, |key| ctx.hold(&key.namespace).is_none());
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
