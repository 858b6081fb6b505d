//! Carries out withdrawals, as fast as [`super::withdrawals`] lets them.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;

use super::context::{Context, key_of};
use super::withdrawals::Withdrawals;
use super::{namespace, report};
use crate::api::{AiWorkload, names};

/// How often rationed withdrawals are looked at.
const AGAIN: Duration = Duration::from_secs(5);

/// Carries out rationed withdrawals, and only while the definition of `AiWorkload` stands as it stood: when it is
/// deleted, every workload looks deleted.
pub async fn run(ctx: Arc<Context>, mut deletions: mpsc::UnboundedReceiver<AiWorkload>) {
    let definition = definition(&ctx).await;
    let start = Instant::now();
    loop {
        tokio::select! {
            deleted = deletions.recv() => {
                let Some(deleted) = deleted else { return };
                report::forget(&ctx, &ObjectRef::from_obj(&deleted));
                if let Some(key) = key_of(&deleted) {
                    lock(&ctx).deleted(key, deleted.spec.stage);
                }
                continue_gathering(&ctx, &mut deletions).await;
            }
            () = tokio::time::sleep(AGAIN) => {}
        }
        if lock(&ctx).is_empty() {
            ctx.metrics.withdrawals_waiting.set(0);
            continue;
        }
        let now = self::definition(&ctx).await;
        match (&definition, &now) {
            (Some(then), Some(now)) if then == now => {}
            (_, None) => {
                tracing::warn!("the definition of AiWorkload is being deleted: no flow is withdrawn");
                lock(&ctx).hold();
                continue;
            }
            _ => {
                tracing::warn!("the definition of AiWorkload was replaced: what vanished with it is not withdrawn");
                lock(&ctx).hold();
                return std::future::pending::<()>().await;
            }
        }
        let world = ctx.world();
        let due = {
            let mut withdrawals = lock(&ctx);
            let waiting = withdrawals.len();
            withdrawals.due(start.elapsed(), |stage| {
                world
                    .workloads
                    .values()
                    .filter(|workload| workload.stage == stage)
                    .count()
                    + waiting
            })
        };
        for key in due {
            if let Err(error) = namespace::withdraw_workload(&ctx, &key).await {
                tracing::warn!(%key, %error, "withdrawal failed; it is tried again");
                if let Some(stage) = world
                    .namespaces
                    .get(&key.namespace)
                    .and_then(|ns| ns.stage?.workload_stage())
                {
                    lock(&ctx).deleted(key, stage);
                }
            }
        }
        let waiting = lock(&ctx).len();
        ctx.metrics
            .withdrawals_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if waiting > 0 {
            tracing::warn!(
                waiting,
                "many workloads were deleted at once; their flows are withdrawn a few a minute"
            );
        }
    }
}

/// Takes what else is queued, so that the ration is counted over all of it.
async fn continue_gathering(ctx: &Context, deletions: &mut mpsc::UnboundedReceiver<AiWorkload>) {
    while let Ok(Some(deleted)) = tokio::time::timeout(Duration::from_millis(200), deletions.recv()).await {
        if let Some(key) = key_of(&deleted) {
            lock(ctx).deleted(key, deleted.spec.stage);
        }
    }
}

fn lock(ctx: &Context) -> MutexGuard<'_, Withdrawals> {
    ctx.withdrawals.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The uid of the definition of `AiWorkload` while it stands; `None` when it is gone, on its way out or unreadable.
async fn definition(ctx: &Context) -> Option<String> {
    let name = format!("aiworkloads.{}", names::GROUP);
    let found = Api::<CustomResourceDefinition>::all(ctx.client.clone())
        .get_metadata_opt(&name)
        .await
        .ok()??;
    if found.metadata.deletion_timestamp.is_some() {
        None
    } else {
        found.uid()
    }
}
