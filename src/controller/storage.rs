//! Keeps what is known of the storage fresh: one loop, whatever the number of workloads.

use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use super::triggers::Index;
use crate::compliance::checks::volumes::Storage;

/// Changes come in bursts: a StatefulSet brings a claim and a volume for each of its pods. At most one look in this time.
const GATHER: Duration = Duration::from_millis(500);

/// Looks whenever a class, a claim or a volume changed, for ever.
pub async fn run(ctx: Arc<Context>, index: Index) {
    loop {
        ctx.triggers.storage.notified().await;
        tokio::time::sleep(GATHER).await;
        let before = ctx.storage.borrow().clone();
        look(&ctx);
        ctx.triggers.sharing.notify_one();
        let changed = before.changed_since(&ctx.storage.borrow());
        for workload in index.workloads.state() {
            let namespace = workload.metadata.namespace.as_deref().unwrap_or_default();
            if changed.concerns(namespace) {
                ctx.triggers.workload(ObjectRef::from_obj(workload.as_ref()));
            }
        }
    }
}

/// Looks once.
pub fn look(ctx: &Context) {
    let caches = &ctx.caches;
    let (classes, claims) = (caches.storage_classes.state(), caches.claims.state());
    let storage = Storage::new(classes, claims, caches.volumes.state());
    ctx.storage.send_replace(Arc::new(storage));
}
