//! Which change sets off which reconcile.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{Notify, mpsc};

use super::caches::Seen;
use crate::api::stage::NamespaceStage;
use crate::api::{AiSecurityPolicy, AiWorkload, Waiver, names};
use crate::network::policies;
use crate::network::world::WorkloadKey;

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

    /// A Namespace changed.
    pub fn on_namespace(&self, index: &Index, seen: &Seen<'_, Namespace>) {
        let namespace = seen.object();
        let name = namespace.name_any();
        self.shown(seen);
        let old = match seen {
            Seen::Applied { old: Some(old), .. } => Some(old),
            _ => None,
        };
        let same_labels = old.is_some_and(|old| {
            old.labels() == namespace.labels()
                && old.uid() == namespace.uid()
                && old.metadata.deletion_timestamp == namespace.metadata.deletion_timestamp
        });
        if !same_labels {
            self.changed_world();
            self.cluster.notify_one();
            self.rights.notify_one();
            self.pods_changed(&name);
            // Anybody may use what the catalogue has here, and no workload names it.
            if lock(&self.catalogue).contains(&name) {
                self.everything(index);
                return;
            }
            self.shared_namespaces(index);
            // A new or changed stage opens or closes the flows of those who name this namespace.
            let named = |w: &AiWorkload| references(w).any(|(ns, _)| ns == name);
            for workload in index.workloads.state_filter(named) {
                self.workload(ObjectRef::from_obj(workload.as_ref()));
            }
        }
        if !same_labels || old.is_some_and(|old| old.annotations() != namespace.annotations()) {
            self.namespace(&name);
            self.workloads_in(index, &name);
        }
    }

    /// An `AiWorkload` changed.
    pub fn on_workload(&self, index: &Index, seen: &Seen<'_, AiWorkload>) {
        let workload = seen.object();
        if let Seen::Applied { old: Some(old), new } = seen
            && old.metadata.generation == new.metadata.generation
            && old.uid() == new.uid()
            && old.annotations() == new.annotations()
            && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        {
            return;
        }
        self.changed_world();
        self.cluster.notify_one();
        if let Seen::Deleted(deleted) = seen {
            let _ = self.deletions.send((*deleted).clone());
        }
        let Some(namespace) = workload.namespace() else { return };
        let name = workload.name_any();
        self.pods_changed(&namespace);
        self.namespace(&namespace);
        self.workload(ObjectRef::from_obj(workload));
        let old = match seen {
            Seen::Applied { old, .. } => old.as_deref(),
            Seen::Deleted(_) | Seen::Gone(_) => None,
        };
        for (peer_namespace, peer) in references(workload).chain(old.into_iter().flat_map(references)) {
            self.workload(ObjectRef::new(&peer).within(&peer_namespace));
        }
        let names_us = |w: &AiWorkload| references(w).any(|(ns, peer)| ns == namespace && peer == name);
        for peer in index.workloads.state_filter(names_us) {
            self.workload(ObjectRef::from_obj(peer.as_ref()));
        }
        self.shared_namespaces(index);
    }

    /// Sets off the shared namespaces: their services are rendered from the workloads that declare them.
    fn shared_namespaces(&self, index: &Index) {
        let shared = |ns: &Namespace| {
            ns.labels()
                .get(names::STAGE_LABEL)
                .is_some_and(|s| s == NamespaceStage::Shared.as_str())
        };
        index
            .namespaces
            .state_filter(shared)
            .iter()
            .for_each(|ns| self.namespace(&ns.name_any()));
    }

    /// A NetworkPolicy changed.
    pub fn on_network_policy(&self, index: &Index, seen: &Seen<'_, NetworkPolicy>) {
        let policy = seen.object();
        let Some(namespace) = policy.namespace() else { return };
        lock(&self.touched).insert(namespace.clone());
        self.shown(seen);
        self.analysis.notify_one();
        // What they say of their flows depends on it: the other end has to be in place.
        for WorkloadKey { namespace, name } in told(seen) {
            self.workload(ObjectRef::new(&name).within(&namespace));
        }
        let name = policy.name_any();
        if let Some(workload) = name.strip_prefix(names::WORKLOAD_POLICY_PREFIX) {
            self.workload(ObjectRef::new(workload).within(&namespace));
            self.namespace(&namespace);
        } else if name == names::DENY_POLICY {
            self.namespace(&namespace);
            self.workloads_in(index, &namespace);
        } else if name.starts_with(names::SERVICE_POLICY_PREFIX) {
            self.namespace(&namespace);
        }
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

    /// A Waiver changed. Its end is none: nobody writes it.
    pub fn on_waiver(&self, seen: &Seen<'_, Waiver>) {
        let of = |waiver: &Waiver| {
            let approval = waiver.status.as_ref().and_then(|status| status.approval.clone());
            let metadata = &waiver.metadata;
            (
                metadata.uid.clone(),
                metadata.generation,
                metadata.deletion_timestamp.clone(),
                approval,
            )
        };
        if matches!(seen, Seen::Applied { old: Some(old), new } if of(old) == of(new)) {
            return;
        }
        // Before it is told: whoever looks from now on sees it.
        self.changed_world();
        self.waivers.notify_one();
    }

    /// What Waivers open between two workloads changed.
    pub fn waived_flow(&self, ends: [&WorkloadKey; 2]) {
        self.changed_world();
        self.cluster.notify_one();
        for WorkloadKey { namespace, name } in ends {
            self.workload(ObjectRef::new(name).within(namespace));
        }
    }

    /// The policy, or the stop button, changed.
    pub fn on_policy(&self, index: &Index, seen: &Seen<'_, AiSecurityPolicy>) {
        let same = matches!(seen, Seen::Applied { old: Some(old), new } if old.metadata.generation == new.metadata.generation && old.uid() == new.uid());
        if !same {
            let network = &seen.object().spec.network;
            let services = network
                .services
                .iter()
                .flatten()
                .filter_map(|entry| entry.to.namespace.as_deref());
            let sources = network
                .sources
                .iter()
                .flatten()
                .filter_map(|entry| entry.from.namespace.as_deref());
            *lock(&self.catalogue) = services.chain(sources).map(str::to_owned).collect();
            self.everything(index);
        }
    }
}

/// The workloads for which a change of a policy of ours is news. A service has many users, and each of them changes its
/// policy: news is only to those that came or left, unless anything else changed.
fn told(seen: &Seen<'_, NetworkPolicy>) -> BTreeSet<WorkloadKey> {
    let now = policies::named(seen.object());
    let Seen::Applied { old: Some(old), new } = seen else {
        return now;
    };
    let before = policies::named(old);
    let rest = |policy: &NetworkPolicy| {
        let mut policy = policy.clone();
        let rules = policy
            .spec
            .iter_mut()
            .flat_map(|spec| spec.ingress.iter_mut().flatten());
        rules.for_each(|rule| rule.from = None);
        (policy.spec, policy.metadata.labels, policy.metadata.deletion_timestamp)
    };
    if rest(old) == rest(new) {
        now.symmetric_difference(&before).cloned().collect()
    } else {
        now.union(&before).cloned().collect()
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

/// The workloads that a workload names.
fn references(workload: &AiWorkload) -> impl Iterator<Item = (String, String)> {
    let own = workload.namespace().unwrap_or_default();
    let network = workload.spec.network.clone().unwrap_or_default();
    let to = network
        .connect_to
        .unwrap_or_default()
        .into_iter()
        .filter_map(|flow| flow.workload);
    let from = network
        .accept_from
        .unwrap_or_default()
        .into_iter()
        .filter_map(|flow| flow.workload);
    to.chain(from).map(move |peer| {
        (
            peer.namespace.map_or_else(|| own.clone(), |ns| ns.to_string()),
            peer.name.to_string(),
        )
    })
}
