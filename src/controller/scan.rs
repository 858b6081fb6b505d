//! Scans the pods that run for what would be refused now: those that are older than the policy, that came while nothing was
//! enforced or past the door, and those whose Waiver has ended. One loop, whatever the number of workloads.
//!
//! Pods are listed again, in pages, because the store keeps next to nothing of them. The verdicts stay in memory, so that a
//! pod is judged once by one set of policies ([`Scan`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::cluster;
use super::context::Context;
use super::error::{Class, Error};
use super::webhook::kept_by_cel;
use crate::admission::{Judged, Offline, PolicySet, Scan, Told};
use crate::compliance::Finding;
use crate::network::world::{WorkloadKey, World};

/// Changes come in bursts: at most one scan in this time.
const GATHER: Duration = Duration::from_secs(2);
/// After a scan nothing is listed for so many times as long as it took: in a cluster where pods come and go all day it takes a
/// tenth of the time, no more.
const REST: u32 = 9;
/// Labels and annotations change without another generation of the pod. What they break is found after this time.
const AGAIN: Duration = Duration::from_secs(600);
/// Pods in one answer, and in memory at a time.
const PAGE: u32 = 100;

/// What was found in running pods, by workload; one finding for each rule.
pub type Found = BTreeMap<WorkloadKey, Vec<Finding>>;

/// What is known of running pods.
#[derive(Clone, Debug, Default)]
pub struct Scanned {
    found: Arc<Found>,
    first: First,
    /// Namespaces whose pods could not be listed since they changed.
    unlisted: BTreeSet<String>,
}

/// How far the first scan of a term is.
#[derive(Clone, Debug, Default)]
enum First {
    #[default]
    NotBegun,
    /// These are left.
    Left(BTreeSet<String>),
    Over,
}

impl Scanned {
    /// What was found in the pods of a workload.
    pub fn of(&self, workload: &WorkloadKey) -> impl Iterator<Item = &Finding> {
        self.found.get(workload).into_iter().flatten()
    }

    /// Whether the pods of a namespace could not be listed since they changed: what was found there is of earlier.
    pub fn is_unlisted(&self, namespace: &str) -> bool {
        self.unlisted.contains(namespace)
    }

    /// Whether the first scan has not come to a namespace yet: until then a status would lose what it said of pods.
    pub fn awaits(&self, namespace: &str) -> bool {
        match &self.first {
            First::NotBegun => true,
            First::Left(names) => names.contains(namespace),
            First::Over => false,
        }
    }
}

/// What is remembered from scan to scan.
#[derive(Default)]
struct Memory {
    hasher: RandomState,
    /// The set of policies that everything was judged by.
    hash: String,
    /// By namespace.
    judged: HashMap<String, Judged>,
    /// Namespaces whose pods could not be listed, and when they are tried again: later each time.
    again: BTreeMap<String, Instant>,
    failures: Backoff<String>,
}

impl Memory {
    /// What is tried again now. What is left has to wait, whatever changes there.
    fn take_again(&mut self) -> BTreeSet<String> {
        let now = Instant::now();
        let ready: BTreeSet<String> = self
            .again
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        self.again.retain(|name, _| !ready.contains(name));
        ready
    }

    fn failed(&mut self, name: &str, class: Class) {
        let wait = self.failures.failed(name.to_owned(), class);
        self.again.insert(name.to_owned(), Instant::now() + wait);
    }
}

/// Scans everything, and from then on whatever has changed, for ever.
pub async fn run(ctx: Arc<Context>) {
    let mut policies = ctx.policy_hash.clone();
    let mut memory = Memory::default();
    let mut next_of_all = Instant::now();
    loop {
        let start = Instant::now();
        let all = next_of_all <= start;
        let was_scanned = scan(&ctx, &mut memory, all).await;
        if all && was_scanned {
            next_of_all = Instant::now() + AGAIN;
        }
        let next_try = memory.again.values().min().copied();
        tokio::time::sleep(GATHER.max(start.elapsed() * REST)).await;
        tokio::select! {
            () = ctx.triggers.scan.notified() => {}
            Ok(()) = policies.changed() => {}
            () = tokio::time::sleep_until(next_of_all), if was_scanned => {}
            () = tokio::time::sleep_until(next_try.unwrap_or(start)), if next_try.is_some() => {}
        }
    }
}

/// Scans the namespaces whose pods changed, or all of them: when it is time, and where the policies are others than before. While
/// nothing is decided about admission, what was found before stays; false then.
async fn scan(ctx: &Context, memory: &mut Memory, all: bool) -> bool {
    // Before the world is looked at: what changes from here on sets off the next scan.
    let mut touched = ctx.triggers.take_unscanned();
    touched.append(&mut memory.take_again());
    let view = ctx.view();
    let policy = ctx.policy().filter(|_| view.admission_hold("").is_none());
    let Some(policy) = policy else {
        // Whatever ends the hold sets off every namespace.
        return false;
    };
    let mut found = (*ctx.scanned.borrow().found).clone();
    let has_pods = |name: &str| {
        let namespace = view.world.namespaces.get(name);
        namespace.is_some_and(|it| it.stage.is_some()) && ctx.caches.pod_facts.any_in(name)
    };
    found.retain(|key, _| has_pods(&key.namespace));
    memory.judged.retain(|name, _| has_pods(name));
    memory.again.retain(|name, _| has_pods(name));
    memory.failures.retain(|name| has_pods(name));
    let names: Vec<&String> = view.world.namespaces.keys().filter(|name| has_pods(name)).collect();
    let mut due = Vec::new();
    // Without pods the policies are not even made ready.
    if !names.is_empty() {
        let set = cluster::policies(ctx, &kept_by_cel(ctx, &policy.spec), Context::moment());
        let all = all || memory.hash != set.hash;
        if memory.hash != set.hash {
            memory.judged.clear();
            memory.hash.clone_from(&set.hash);
        }
        due.extend(names.into_iter().filter(|name| {
            let is_due = all || touched.contains(*name);
            is_due && view.admission_hold(name).is_none() && !memory.again.contains_key(*name)
        }));
        publish(ctx, memory, &view.world, &found, &due);
        scan_all(ctx, memory, &set, &view.world, &due, &mut found).await;
    }
    publish(ctx, memory, &view.world, &found, &[]);
    true
}

/// Shows what was found, and sets off the workloads of which it is news. `left` are the namespaces that are yet to be scanned:
/// only the first scan is shown in parts.
fn publish(ctx: &Context, memory: &Memory, world: &World, found: &Found, left: &[&String]) {
    let before = ctx.scanned.borrow().clone();
    let first = if left.is_empty() {
        First::Over
    } else if matches!(before.first, First::Over) {
        return;
    } else {
        First::Left(left.iter().map(|name| (*name).clone()).collect())
    };
    let now = Arc::new(found.clone());
    let unlisted: BTreeSet<String> = memory.again.keys().cloned().collect();
    let others = before.unlisted.symmetric_difference(&unlisted);
    let others: Vec<&WorkloadKey> = others
        .flat_map(|name| world.workloads_in(name))
        .map(|it| &it.key)
        .collect();
    ctx.scanned.send_replace(Scanned {
        found: now,
        first,
        unlisted: unlisted.clone(),
    });
    for WorkloadKey { namespace, name } in news(&before.found, found).chain(others) {
        ctx.triggers.workload(ObjectRef::new(name).within(namespace));
    }
}

/// Scans these namespaces. Of one whose pods cannot be listed, what was found before stays.
async fn scan_all(
    ctx: &Context,
    memory: &mut Memory,
    set: &PolicySet,
    world: &World,
    names: &[&String],
    found: &mut Found,
) {
    if names.is_empty() {
        return;
    }
    let offline = match Offline::new(set) {
        Ok(offline) => Arc::new(offline),
        Err(error) => {
            tracing::error!(%error, "running pods are not judged now; what was found before stays");
            names.iter().for_each(|name| memory.failed(name, Class::Permanent));
            return;
        }
    };
    for (done, name) in names.iter().enumerate() {
        match scan_one(ctx, memory, &offline, world, name).await {
            Ok(of_workloads) => {
                memory.failures.succeeded(name);
                found.retain(|key, _| key.namespace != **name);
                found.extend(of_workloads);
            }
            Err(error) => {
                tracing::warn!(%error, namespace = name, "running pods are not judged now; what was found before stays");
                let class = error.downcast_ref().map_or(Class::Transient, Error::class);
                memory.failed(name, class);
            }
        }
        let left = &names[done + 1..];
        if !left.is_empty() {
            publish(ctx, memory, world, found, left);
        }
    }
}

async fn scan_one(
    ctx: &Context,
    memory: &mut Memory,
    offline: &Arc<Offline>,
    world: &World,
    name: &str,
) -> Result<Found, Box<dyn std::error::Error + Send + Sync>> {
    let known = memory.judged.remove(name).unwrap_or_default();
    let Some(scan) = Scan::of(world, name, memory.hasher.clone(), known) else {
        return Ok(Found::new());
    };
    let (scan, failed) = judge_pages(ctx, offline, name, scan).await?;
    if let Some(error) = failed {
        memory.judged.insert(name.to_owned(), scan.given_up());
        return Err(error.into());
    }
    let (found, judged) = scan.ended();
    memory.judged.insert(name.to_owned(), judged);
    let findings = |told: Vec<Told>| told.into_iter().map(|told| told.finding).collect();
    let found = found.into_iter();
    Ok(found
        .map(|(workload, told)| (WorkloadKey::new(name, workload), findings(told)))
        .collect())
}

/// Judges the pods of a namespace, up to the first page that cannot be had.
async fn judge_pages(
    ctx: &Context,
    offline: &Arc<Offline>,
    name: &str,
    mut scan: Scan,
) -> Result<(Scan, Option<Error>), tokio::task::JoinError> {
    let api: Api<DynamicObject> = Api::namespaced_with(ctx.client.clone(), name, &ApiResource::erase::<Pod>(&()));
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = match api.list(&page).await {
            Ok(listed) => listed,
            Err(error) => return Ok((scan, Some(Error::api(format!("list Pods in {name}"))(error)))),
        };
        page.continue_token = listed.metadata.continue_.filter(|token| !token.is_empty());
        let offline = offline.clone();
        // Busy: not on a thread that also carries requests.
        let judging = tokio::task::spawn_blocking(move || {
            for pod in listed.items {
                let pod = serde_json::to_value(pod).unwrap_or_default();
                scan.judge(&offline, &pod);
            }
            scan
        });
        scan = judging.await?;
        if page.continue_token.is_none() {
            return Ok((scan, None));
        }
    }
}

/// The workloads of which something else was found than before.
pub fn news<'f>(before: &'f Found, now: &'f Found) -> impl Iterator<Item = &'f WorkloadKey> {
    let changed = now.iter().filter(|(key, findings)| before.get(*key) != Some(*findings));
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    changed.map(|(key, _)| key).chain(gone)
}
