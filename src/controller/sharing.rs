//! Looks what pods of two stages share: one loop, whatever the number of workloads. Volumes are watched. Allocations of devices
//! are listed when pods or volumes change and every ten minutes, and only where some pod has a claim for one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

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

/// What is known of devices.
#[derive(Default)]
pub struct Devices {
    /// As they were listed last; `None` while no list has succeeded.
    known: Option<Vec<Allocation>>,
    /// When they may be listed again, after a list that failed.
    not_before: Option<Instant>,
    failures: Backoff<()>,
}

impl Devices {
    /// Lists them, unless a list failed a moment ago. Whether what is known is of now.
    async fn refresh(&mut self, ctx: &Context) -> bool {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        match allocations::list(&ctx.client).await {
            Ok(listed) => {
                self.failures.succeeded(&());
                self.known = Some(listed);
                self.not_before = None;
            }
            Err(source) => {
                let error = Error::api("list ResourceClaims")(source);
                tracing::warn!(error = error.line(), "which devices pods have is not known now");
                self.not_before = Some(Instant::now() + self.failures.failed((), error.class()));
            }
        }
        self.not_before.is_none()
    }
}

/// Looks for the first time.
pub async fn first(ctx: &Context) -> Devices {
    let mut devices = Devices::default();
    look(ctx, &mut devices).await;
    devices
}

/// Looks whenever pods or volumes changed, and from time to time, for ever.
pub async fn run(ctx: Arc<Context>, mut devices: Devices) {
    loop {
        let again = devices.not_before.unwrap_or_else(|| Instant::now() + AGAIN);
        tokio::select! {
            () = ctx.triggers.sharing.notified() => {}
            () = tokio::time::sleep_until(again) => {}
        }
        tokio::time::sleep(GATHER).await;
        let start = Instant::now();
        let before = ctx.shared.borrow().clone();
        look(&ctx, &mut devices).await;
        let now = ctx.shared.borrow().clone();
        for WorkloadKey { namespace, name } in news(&before, &now) {
            ctx.triggers.workload(ObjectRef::new(name).within(namespace));
        }
        tokio::time::sleep(start.elapsed() * REST).await;
    }
}

/// Looks once. Where the claims for devices cannot be listed, what was known of them before is told still, and that it is not
/// known now.
async fn look(ctx: &Context, devices: &mut Devices) {
    let world = ctx.world();
    let overrides = overrides(&world.policy, Context::moment());
    let classifications = classifications(ctx);
    let holder = |key: &WorkloadKey, claim: &str| holder(&world, &classifications, key, claim);
    let mounted = ctx.caches.pod_facts.claims();
    let mounted = mounted.iter().filter_map(|(key, claim)| holder(key, claim));
    let mut findings = sharing::volumes(mounted, &ctx.storage.borrow(), &overrides);

    let asking = asking(ctx, &world);
    if asking.is_empty() {
        *devices = Devices::default();
    } else if !devices.refresh(ctx).await {
        let unknown = asking
            .iter()
            .map(|key| sharing::devices_unknown(&key.namespace, &key.name));
        findings.extend(unknown);
    }
    let allocations = devices.known.iter().flatten();
    let given = allocations.flat_map(|it| it.pods.iter().map(move |(pod, uid)| (it, pod, uid)));
    let given = given.filter_map(|(allocation, pod, uid)| {
        let pod = ObjectRef::<Pod>::new(pod).within(&allocation.namespace);
        let pod = ctx.caches.pods.get(&pod).filter(|pod| !pod.ended)?;
        // One of the same name may have followed it.
        (kube::Resource::meta(&*pod).uid.as_ref() == Some(uid)).then_some(())?;
        let holder = holder(&key_of(&pod)?, &allocation.claim)?;
        Some((holder, allocation.devices.clone()))
    });
    findings.extend(sharing::devices(given, &overrides));
    let mut found = Found::new();
    for finding in findings {
        let namespace = finding.subject.namespace.clone().unwrap_or_default();
        let key = WorkloadKey::new(namespace, finding.subject.name.clone());
        found.entry(key).or_default().push(finding);
    }
    ctx.shared.send_replace(Arc::new(found));
}

/// The workloads of stage namespaces whose pods have claims for devices.
fn asking(ctx: &Context, world: &World) -> BTreeSet<WorkloadKey> {
    let pods = ctx.caches.pods.state();
    let asking = pods
        .iter()
        .filter(|pod| !pod.ended && !pod.interfaces.claims.is_empty());
    let keys = asking.filter_map(|pod| key_of(pod));
    keys.filter(|key| world.stage_of(&key.namespace).is_some()).collect()
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
