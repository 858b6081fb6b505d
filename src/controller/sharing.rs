//! Looks what pods of two stages share: one loop, whatever the number of workloads. Volumes are watched. Allocations of devices
//! are listed when pods or volumes change and every ten minutes, and only where some pod has a claim for one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;

use super::backoff::Backoff;
use super::context::{Context, key_of as key_of_workload};
use super::error::Error;
use super::pods::Pod;
use super::scan::{Found, news};
use crate::admission::overrides;
use crate::api::workload::Classification;
use crate::cluster::allocations;
use crate::compliance::checks::sharing::{self, Allocation, Holder};
use crate::network::world::{WorkloadKey, World};

/// Changes come in bursts: at most one look in this time.
const GATHER: Duration = Duration::from_secs(2);
/// After a look nothing is listed for so many times as long as it took.
const REST: u32 = 9;
/// Allocations come and go without a change of any pod.
const AGAIN: Duration = Duration::from_secs(600);

/// What was allocated, as it was listed last; `None` while no list has succeeded.
pub type Allocations = Option<Vec<Allocation>>;

/// Looks for the first time.
pub async fn first(ctx: &Context) -> Allocations {
    let mut known = None;
    if let Err(error) = look(ctx, &mut known).await {
        tracing::warn!(error = error.line(), "which devices pods have is not known yet");
        ctx.triggers.sharing.notify_one();
    }
    known
}

/// Looks whenever pods or volumes changed, and from time to time, for ever.
pub async fn run(ctx: Arc<Context>, mut known: Allocations) {
    let failures = Backoff::default();
    let mut again = AGAIN;
    loop {
        tokio::select! {
            () = ctx.triggers.sharing.notified() => {}
            () = tokio::time::sleep(again) => {}
        }
        tokio::time::sleep(GATHER).await;
        let start = tokio::time::Instant::now();
        let before = ctx.shared.borrow().clone();
        again = match look(&ctx, &mut known).await {
            Ok(()) => {
                failures.succeeded(&());
                AGAIN
            }
            Err(error) => {
                tracing::warn!(error = error.line(), "which devices pods have is not known now");
                failures.failed((), error.class())
            }
        };
        let now = ctx.shared.borrow().clone();
        for WorkloadKey { namespace, name } in news(&before, &now) {
            ctx.triggers.workload(ObjectRef::new(name).within(namespace));
        }
        tokio::time::sleep(start.elapsed() * REST).await;
    }
}

/// Looks once. Where the claims for devices cannot be listed, those of the last time count.
async fn look(ctx: &Context, known: &mut Allocations) -> Result<(), Error> {
    let mut failed = None;
    let world = ctx.world();
    let overrides = overrides(&world.policy, Context::moment());
    let classifications = classifications(ctx);
    let holder = |key: &WorkloadKey, claim: &str| holder(&world, &classifications, key, claim);
    let mounted = ctx.caches.pod_facts.claims();
    let mounted = mounted.iter().filter_map(|(key, claim)| holder(key, claim));
    let mut findings = sharing::volumes(mounted, &ctx.storage.borrow(), &overrides);

    let asking: Vec<Arc<Pod>> = ctx.caches.pods.state();
    let asking = asking
        .iter()
        .filter(|pod| !pod.ended && !pod.interfaces.claims.is_empty());
    let mut asking: Vec<WorkloadKey> = asking.filter_map(|pod| key_of(pod)).collect();
    asking.retain(|key| world.stage_of(&key.namespace).is_some());
    asking.sort();
    asking.dedup();
    if asking.is_empty() {
        *known = None;
    } else {
        match allocations::list(&ctx.client).await {
            Ok(listed) => *known = Some(listed),
            Err(source) => failed = Some(Error::api("list ResourceClaims")(source)),
        }
    }
    if let Some(allocations) = known {
        let given = allocations
            .iter()
            .flat_map(|it| it.pods.iter().map(move |pod| (it, pod)));
        let given = given.filter_map(|(allocation, pod)| {
            let pod = ObjectRef::<Pod>::new(pod).within(&allocation.namespace);
            let pod = ctx.caches.pods.get(&pod).filter(|pod| !pod.ended)?;
            let holder = holder(&key_of(&pod)?, &allocation.claim)?;
            Some((holder, allocation.devices.clone()))
        });
        findings.extend(sharing::devices(given, &overrides));
    } else {
        let unknown = asking
            .iter()
            .map(|key| sharing::devices_unknown(&key.namespace, &key.name));
        findings.extend(unknown);
    }
    let mut found = Found::new();
    for finding in findings {
        let namespace = finding.subject.namespace.clone().unwrap_or_default();
        let key = WorkloadKey::new(namespace, finding.subject.name.clone());
        found.entry(key).or_default().push(finding);
    }
    ctx.shared.send_replace(Arc::new(found));
    failed.map_or(Ok(()), Err)
}

fn key_of(pod: &Pod) -> Option<WorkloadKey> {
    let namespace = kube::Resource::meta(pod).namespace.as_deref()?;
    Some(WorkloadKey::new(namespace, pod.workload()))
}

fn classifications(ctx: &Context) -> BTreeMap<WorkloadKey, Classification> {
    let workloads = ctx.caches.workloads.state();
    let each = workloads.iter().filter_map(|workload| {
        let key = key_of_workload(workload)?;
        Some((key, workload.spec.data.classification))
    });
    each.collect()
}

/// `None` for pods of a namespace without a stage.
fn holder(
    world: &World,
    classifications: &BTreeMap<WorkloadKey, Classification>,
    key: &WorkloadKey,
    claim: &str,
) -> Option<Holder> {
    Some(Holder {
        namespace: key.namespace.clone(),
        workload: key.name.clone(),
        stage: world.stage_of(&key.namespace)?,
        classification: classifications.get(key).copied(),
        claim: claim.to_owned(),
    })
}
