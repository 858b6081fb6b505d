//! Keeps the search for rights that lead to Secrets of inference fresh: one loop, whatever the number of workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::triggers::Index;
use crate::api::stage::NamespaceStage;
use crate::compliance::Finding;
use crate::compliance::checks::rights::Rights;

/// Changes come in bursts, and a search reads every role and binding: at most one in this time.
const GATHER: Duration = Duration::from_millis(500);

/// What was found, by namespace.
pub type Found = BTreeMap<String, Vec<Finding>>;

/// Searches whenever a role, a binding or a stage changed, for ever.
pub async fn run(ctx: Arc<Context>, index: Index) {
    loop {
        ctx.triggers.rights.notified().await;
        tokio::time::sleep(GATHER).await;
        let before = ctx.rights.borrow().clone();
        search(&ctx).await;
        for namespace in news(&before, &ctx.rights.borrow()) {
            ctx.triggers.workloads_in(&index, namespace);
        }
    }
}

/// Searches once. What was known stays where the search fails.
pub async fn search(ctx: &Context) {
    let namespaces = ctx.world().namespaces.clone();
    let staged = namespaces
        .into_iter()
        .filter_map(|(name, facts)| Some((name, facts.stage?)));
    let stages: BTreeMap<String, NamespaceStage> = staged.collect();
    let caches = &ctx.caches;
    let (roles, cluster_roles) = (caches.roles.state(), caches.cluster_roles.state());
    let (bindings, cluster_bindings) = (caches.role_bindings.state(), caches.cluster_role_bindings.state());
    // Pure and busy: not on a thread that also carries requests.
    let search = tokio::task::spawn_blocking(move || {
        let rights = Rights::new(
            roles.iter().map(AsRef::as_ref),
            cluster_roles.iter().map(AsRef::as_ref),
            bindings.iter().map(AsRef::as_ref),
            cluster_bindings.iter().map(AsRef::as_ref),
        );
        rights.findings(&stages)
    });
    match search.await {
        Ok(found) => {
            ctx.rights.send_replace(Arc::new(found));
        }
        Err(error) => tracing::error!(%error, "the search for rights failed: what was found before stays"),
    }
}

/// The namespaces whose workloads have something new to say.
fn news<'f>(before: &'f Found, now: &'f Found) -> BTreeSet<&'f String> {
    let known = before.keys().chain(now.keys());
    known.filter(|name| before.get(*name) != now.get(*name)).collect()
}
