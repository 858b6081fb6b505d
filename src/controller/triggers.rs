//! What is to be reconciled or looked at again, and the queues of it.

mod changes;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{Notify, mpsc};

use super::caches::Seen;
use crate::api::AiWorkload;

/// Longest that a write is awaited in the store.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// Namespace, empty for what has none, and name.
type ObjectName = (String, String);

/// Where triggers go.
#[derive(Clone)]
pub struct Triggers {
    workloads: mpsc::UnboundedSender<ObjectRef<AiWorkload>>,
    namespaces: mpsc::UnboundedSender<ObjectRef<Namespace>>,
    deletions: mpsc::UnboundedSender<AiWorkload>,
    world: Arc<AtomicU64>,
    touched: Arc<Mutex<BTreeSet<String>>>,
    /// The namespaces of the policy's services and sources.
    catalogue: Arc<Mutex<BTreeSet<String>>>,
    /// Writes that the stores do not show yet: the revision and the moment.
    writes: Arc<Mutex<HashMap<ObjectName, (u64, Instant)>>>,
    /// Wakes the cluster loop.
    pub cluster: Arc<Notify>,
    /// Wakes the analysis.
    pub analysis: Arc<Notify>,
    /// Wakes whoever ends Waivers.
    pub waivers: Arc<Notify>,
    /// Wakes whoever follows the settings of the encryption.
    pub encryption: Arc<Notify>,
    /// Wakes the packet canary, which follows the policy and the stop button.
    pub packets: Arc<Notify>,
    /// Wakes the search for rights that lead to Secrets.
    pub rights: Arc<Notify>,
    /// Wakes whoever follows the storage.
    pub storage: Arc<Notify>,
    /// Wakes the scan of running pods.
    pub scan: Arc<Notify>,
    unscanned: Arc<Mutex<BTreeSet<String>>>,
    /// Wakes whoever looks what pods of two stages share.
    pub sharing: Arc<Notify>,
}

/// The receiving ends.
pub struct Queues {
    /// Workloads to reconcile.
    pub workloads: mpsc::UnboundedReceiver<ObjectRef<AiWorkload>>,
    /// Namespaces to reconcile.
    pub namespaces: mpsc::UnboundedReceiver<ObjectRef<Namespace>>,
    /// Workloads that were deleted.
    pub deletions: mpsc::UnboundedReceiver<AiWorkload>,
}

/// The stores that mappings look into.
#[derive(Clone)]
pub struct Index {
    /// Workloads.
    pub workloads: Store<AiWorkload>,
    /// Namespaces.
    pub namespaces: Store<Namespace>,
}

impl Triggers {
    /// Triggers and their queues.
    pub fn new() -> (Self, Queues) {
        let (workloads, workloads_rx) = mpsc::unbounded_channel();
        let (namespaces, namespaces_rx) = mpsc::unbounded_channel();
        let (deletions, deletions_rx) = mpsc::unbounded_channel();
        let triggers = Self {
            workloads,
            namespaces,
            deletions,
            world: Arc::new(AtomicU64::new(1)),
            touched: Arc::default(),
            catalogue: Arc::default(),
            writes: Arc::default(),
            cluster: Arc::default(),
            analysis: Arc::default(),
            waivers: Arc::default(),
            encryption: Arc::default(),
            packets: Arc::default(),
            rights: Arc::default(),
            storage: Arc::default(),
            scan: Arc::default(),
            unscanned: Arc::default(),
            sharing: Arc::default(),
        };
        let queues = Queues {
            workloads: workloads_rx,
            namespaces: namespaces_rx,
            deletions: deletions_rx,
        };
        (triggers, queues)
    }

    /// Changes whenever the world does.
    pub fn world_version(&self) -> u64 {
        self.world.load(Ordering::Acquire)
    }

    /// The namespaces whose policies changed since the last call. The analysis alone takes them.
    pub fn take_touched(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.touched))
    }

    /// The namespaces whose pods are to be scanned since the last call. The scan alone takes them.
    pub fn take_unscanned(&self) -> BTreeSet<String> {
        std::mem::take(&mut *lock(&self.unscanned))
    }

    /// The pods of a namespace, or whose they are, changed.
    pub fn pods_changed(&self, namespace: &str) {
        lock(&self.unscanned).insert(namespace.to_owned());
        self.scan.notify_one();
        self.sharing.notify_one();
    }

    /// A NetworkPolicy or a Namespace was written; `shown` is what the store holds of it.
    pub fn wrote<K: ResourceExt>(&self, written: &K, shown: Option<&K>) {
        if shown.is_none_or(|shown| revision(shown) < revision(written)) {
            lock(&self.writes).insert(key(written), (revision(written), Instant::now()));
        }
    }

    /// Whether the last write of a NetworkPolicy or a Namespace is not in its store yet. After a while it is taken to be:
    /// what was deleted before the write was noted is shown by no later change.
    pub fn in_flight(&self, object: &impl ResourceExt) -> bool {
        let writes = lock(&self.writes);
        writes.get(&key(object)).is_some_and(|(_, at)| at.elapsed() < IN_FLIGHT)
    }

    /// Forgets a write that the store shows now, or that it never will.
    fn shown<K: ResourceExt>(&self, seen: &Seen<'_, K>) {
        let object = seen.object();
        let key = key(object);
        let mut writes = lock(&self.writes);
        let older = |(written, _): &(u64, Instant)| revision(object) < *written;
        if matches!(seen, Seen::Gone(_)) || !writes.get(&key).is_some_and(older) {
            writes.remove(&key);
        }
    }

    /// Sets off a workload.
    pub fn workload(&self, reference: ObjectRef<AiWorkload>) {
        let _ = self.workloads.send(reference);
    }

    /// Sets off a namespace.
    pub fn namespace(&self, name: &str) {
        let _ = self.namespaces.send(ObjectRef::new(name));
    }

    /// Sets off the workloads of a namespace.
    pub fn workloads_in(&self, index: &Index, namespace: &str) {
        for workload in index
            .workloads
            .state_filter(|w| w.metadata.namespace.as_deref() == Some(namespace))
        {
            self.workload(ObjectRef::from_obj(workload.as_ref()));
        }
    }

    /// Sets off everything.
    pub fn everything(&self, index: &Index) {
        self.changed_world();
        for namespace in index.namespaces.state() {
            let name = namespace.name_any();
            self.namespace(&name);
            self.pods_changed(&name);
        }
        index
            .workloads
            .state()
            .iter()
            .for_each(|w| self.workload(ObjectRef::from_obj(w.as_ref())));
        self.cluster.notify_one();
        self.waivers.notify_one();
        self.encryption.notify_one();
        self.packets.notify_one();
        self.rights.notify_one();
        self.storage.notify_one();
    }

    fn changed_world(&self) {
        self.world.fetch_add(1, Ordering::AcqRel);
        self.analysis.notify_one();
    }

    /// Policies of other kinds than NetworkPolicy changed.
    pub fn other_policies_changed(&self) {
        self.changed_world();
        self.cluster.notify_one();
        self.waivers.notify_one();
    }

    /// The cluster's own addresses changed.
    pub fn facts_changed(&self, index: &Index) {
        self.everything(index);
    }
}

fn key(object: &impl ResourceExt) -> ObjectName {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The revision of an object; zero where it has none.
fn revision(object: &impl ResourceExt) -> u64 {
    let version = object.resource_version().unwrap_or_default();
    version.parse().unwrap_or_default()
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
