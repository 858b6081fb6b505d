//! Keeps what is known of the storage fresh: one loop, whatever the number of workloads.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use super::triggers::Index;
use crate::compliance::checks::volumes::Storage;

/// Changes come in bursts: a StatefulSet brings a claim and a volume for each of its pods.
const GATHER: Duration = Duration::from_millis(100);

/// Looks whenever a class, a claim or a volume changed, for ever.
pub async fn run(ctx: Arc<Context>, index: Index) {
    loop {
        ctx.triggers.storage.notified().await;
        tokio::time::sleep(GATHER).await;
        let caches = &ctx.caches;
        let (classes, claims, volumes) = (
            caches.storage_classes.state(),
            caches.claims.state(),
            caches.volumes.state(),
        );
        let now = Storage::new(
            classes.iter().map(AsRef::as_ref),
            claims.iter().map(AsRef::as_ref),
            volumes.iter().map(AsRef::as_ref),
        );
        let now = Arc::new(now);
        let changed = ctx.storage.send_replace(now.clone()).changed_since(&now);
        for workload in index.workloads.state() {
            let namespace = workload.metadata.namespace.as_deref().unwrap_or_default();
            if changed.concerns(namespace) {
                ctx.triggers.workload(ObjectRef::from_obj(workload.as_ref()));
            }
        }
    }
}
