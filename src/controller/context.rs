//! What every reconcile shares.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::analysis::Analysed;
use super::backoff::Backoff;
use super::evidence::Evidence;
use super::patience::Patience;
use super::pod_facts::PodIndex;
use super::pods::Pod;
use super::rights;
use super::scan::{self, Found};
use super::triggers::Triggers;
use super::unmodelled::Others;
use super::unreadable::UnreadableWorkloads;
use super::view::{View, kept_mode};
use super::withdrawals::Withdrawals;
use super::writer::Writer;
use crate::admission::Waived;
use crate::api::off::Off;
use crate::api::policy::{AiSecurityPolicySpec, AiSecurityPolicyStatus};
use crate::api::stage::{Mode, NamespaceStage};
use crate::api::workload::AiWorkloadStatus;
use crate::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, Waiver, names};
use crate::cluster::telemetry::Metrics;
use crate::compliance::checks::volumes::{Claim, Class, Storage, Volume};
use crate::network::waivers;
use crate::network::world::{self, ClusterNetwork, WorkloadKey, World};

/// The stores, one per kind.
#[derive(Clone)]
pub struct Caches {
    /// Namespaces.
    pub namespaces: Store<Namespace>,
    /// Workloads.
    pub workloads: Store<AiWorkload>,
    /// NetworkPolicies, ours and those of others.
    pub network_policies: Store<NetworkPolicy>,
    /// Pods: who they are, and their interfaces.
    pub pods: Store<Pod>,
    /// What they do with Secrets, by workload.
    pub pod_facts: Arc<PodIndex>,
    /// The policy.
    pub security_policies: Store<AiSecurityPolicy>,
    /// Waivers.
    pub waivers: Store<Waiver>,
    /// The encryption settings.
    pub encryptions: Store<SecretEncryption>,
    /// Our admission policies.
    pub admission_policies: Store<ValidatingAdmissionPolicy>,
    /// Their bindings.
    pub admission_bindings: Store<ValidatingAdmissionPolicyBinding>,
    /// Our webhook configuration.
    pub webhooks: Store<ValidatingWebhookConfiguration>,
    /// EndpointSlices of the Service `kubernetes`.
    pub slices: Store<EndpointSlice>,
    /// The stop button.
    pub off: Store<ConfigMap>,
    /// StorageClasses.
    pub storage_classes: Store<Class>,
    /// Claims.
    pub claims: Store<Claim>,
    /// Volumes.
    pub volumes: Store<Volume>,
    /// Roles.
    pub roles: Store<Role>,
    /// ClusterRoles.
    pub cluster_roles: Store<ClusterRole>,
    /// RoleBindings.
    pub role_bindings: Store<RoleBinding>,
    /// ClusterRoleBindings.
    pub cluster_role_bindings: Store<ClusterRoleBinding>,
}

/// What every reconcile shares.
pub struct Context {
    /// For reads; writes go through `writer`.
    pub client: Client,
    /// The only way to write.
    pub writer: Writer,
    /// The stores.
    pub caches: Caches,
    /// Proofs about the cluster.
    pub evidence: Arc<Evidence>,
    /// The analysis of all policies.
    pub analysed: watch::Receiver<Arc<Analysed>>,
    /// Rights that lead to Secrets of inference.
    pub rights: watch::Sender<Arc<rights::Found>>,
    /// The Waivers that hold for pods.
    pub waived: watch::Sender<Arc<Waived>>,
    /// What is known of running pods.
    pub scanned: watch::Sender<scan::Scanned>,
    /// What pods share with those of another stage, by workload.
    pub shared: watch::Sender<Arc<Found>>,
    /// Classes, claims and volumes.
    pub storage: watch::Sender<Arc<Storage>>,
    /// How reconciles are set off.
    pub triggers: Triggers,
    /// Who we are in events.
    pub reporter: Reporter,
    /// Counters.
    pub metrics: Metrics,
    /// Who we are, by the API server's word.
    pub user: String,
    /// The namespace we run in.
    pub namespace: String,
    /// Whether there is a webhook.
    pub webhook: bool,
    /// Waits after failures.
    pub backoff: Backoff<String>,
    /// Deleted workloads.
    pub withdrawals: Arc<Mutex<Withdrawals>>,
    /// Policies of other kinds than NetworkPolicy.
    pub other_policies: watch::Receiver<Others>,
    /// The cluster's own addresses.
    pub facts: watch::Receiver<ClusterNetwork>,
    /// What was last written, for reads that come before the watch has seen it.
    pub written: Mutex<HashMap<ObjectRef<AiWorkload>, (String, AiWorkloadStatus)>>,
    /// What the policies placed so far were meant to say, by namespace and name, as a hash.
    meant: Mutex<HashMap<(String, String), u64>>,
    /// The cluster's status as it was written last, and the revision, while the watch has not caught up with it.
    pub written_policy: Mutex<Option<(u64, AiSecurityPolicyStatus)>>,
    /// Workloads of which only the last readable version is known.
    pub unreadable: UnreadableWorkloads,
    /// Who is waited for before anything is said.
    pub patience: Patience,
    /// What was last said about a namespace, so that it is said once.
    pub said: Mutex<BTreeMap<String, String>>,
    /// Why namespaces are not sealed, as their workloads say it: reason and text.
    pub unsealed: Mutex<BTreeMap<String, (&'static str, String)>>,
    /// The hash of the admission policies in force, empty before the first were generated.
    pub policy_hash: watch::Receiver<String>,
    view: RwLock<(u64, Arc<View>)>,
    built: AtomicU64,
}

/// What [`Context::new`] takes.
pub struct Parts {
    /// See [`Context`].
    pub client: Client,
    /// See [`Context`].
    pub caches: Caches,
    /// See [`Context`].
    pub evidence: Arc<Evidence>,
    /// See [`Context`].
    pub analysed: watch::Receiver<Arc<Analysed>>,
    /// See [`Context`].
    pub triggers: Triggers,
    /// See [`Context`].
    pub reporter: Reporter,
    /// See [`Context`].
    pub metrics: Metrics,
    /// See [`Context`].
    pub user: String,
    /// See [`Context`].
    pub namespace: String,
    /// See [`Context`].
    pub webhook: bool,
    /// See [`Context`].
    pub other_policies: watch::Receiver<Others>,
    /// See [`Context`].
    pub facts: watch::Receiver<ClusterNetwork>,
    /// See [`Context`].
    pub policy_hash: watch::Receiver<String>,
    /// See [`Context`].
    pub withdrawals: Arc<Mutex<Withdrawals>>,
    /// See [`Context`].
    pub unreadable: UnreadableWorkloads,
}

impl Context {
    /// A context for one term of leadership.
    pub fn new(parts: Parts) -> Self {
        Self {
            writer: Writer::new(parts.client.clone(), parts.metrics.clone()),
            client: parts.client,
            caches: parts.caches,
            evidence: parts.evidence,
            analysed: parts.analysed,
            rights: watch::Sender::default(),
            waived: watch::Sender::default(),
            scanned: watch::Sender::default(),
            shared: watch::Sender::default(),
            storage: watch::Sender::default(),
            triggers: parts.triggers,
            reporter: parts.reporter,
            metrics: parts.metrics,
            user: parts.user,
            namespace: parts.namespace,
            webhook: parts.webhook,
            backoff: Backoff::default(),
            withdrawals: parts.withdrawals,
            other_policies: parts.other_policies,
            facts: parts.facts,
            written: Mutex::default(),
            meant: Mutex::default(),
            written_policy: Mutex::default(),
            unreadable: parts.unreadable,
            patience: Patience::default(),
            said: Mutex::default(),
            unsealed: Mutex::default(),
            policy_hash: parts.policy_hash,
            view: RwLock::new((0, Arc::default())),
            built: AtomicU64::new(0),
        }
    }

    /// The policy in force; `None` while it is missing or unreadable.
    pub fn policy(&self) -> Option<Arc<AiSecurityPolicy>> {
        self.caches.security_policies.get(&ObjectRef::new(names::SINGLETON))
    }

    /// The world as the stores show it.
    pub fn world(&self) -> Arc<World> {
        self.view().world.clone()
    }

    /// The world, and what is held, as the stores show both at one moment. Built anew only when something changed.
    pub fn view(&self) -> Arc<View> {
        let wanted = self.triggers.world_version();
        {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            if view.0 == wanted && self.built.load(Ordering::Acquire) != 0 {
                return view.1.clone();
            }
        }
        let built = Arc::new(self.look());
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        *view = (wanted, built.clone());
        self.built.store(1, Ordering::Release);
        built
    }

    /// Reads the policy and the stop button once.
    fn look(&self) -> View {
        let policy = self.policy();
        let policy_missing = policy.is_none();
        let policy = policy.map(|policy| policy.spec.clone()).unwrap_or_default();
        let off = self.caches.off.find(|map| map.name_any() == names::OFF_CONFIGMAP);
        let off = off.map(|map| Off::read(map.data.as_ref().unwrap_or(&BTreeMap::new())));
        let kept = |name: &str| off.as_ref().and_then(|off| kept_mode(off, name, policy.mode));
        let namespaces = self.caches.namespaces.state().into_iter().map(|namespace| {
            let facts = facts_of(&namespace, &policy);
            let mode = kept(&facts.name).unwrap_or(facts.mode);
            (facts.name.clone(), world::Namespace { mode, ..facts })
        });
        let present = self.caches.workloads.state();
        let waivers = self.caches.waivers.state();
        let waivers = waivers.iter().map(AsRef::as_ref);
        let withdrawals = self.withdrawals.lock().unwrap_or_else(PoisonError::into_inner);
        // What vanished counts until its flows are withdrawn; what is there wins over what was.
        let vanished = withdrawals.vanished().filter_map(vanished_of);
        let workloads = vanished.chain(present.iter().filter_map(|w| workload_facts(w)));
        let world = World {
            namespaces: namespaces.collect(),
            workloads: workloads.map(|workload| (workload.key.clone(), workload)).collect(),
            waivers: waivers::of(waivers, policy.waivers.max_days, Self::moment()),
            policy: Arc::new(policy.clone()),
            cluster: self.facts.borrow().clone(),
            cluster_policies: self.other_policies.borrow().cluster_policies(),
        };
        View {
            world: Arc::new(world),
            off,
            policy_missing,
        }
    }

    /// The NetworkPolicies of a namespace, by name, as the store shows them.
    pub fn policies_in(&self, namespace: &str) -> BTreeMap<String, Arc<NetworkPolicy>> {
        let here = |policy: &NetworkPolicy| policy.metadata.namespace.as_deref() == Some(namespace);
        self.caches
            .network_policies
            .state_filter(here)
            .into_iter()
            .map(|p| (p.name_any(), p))
            .collect()
    }

    /// One NetworkPolicy.
    pub fn policy_named(&self, namespace: &str, name: &str) -> Option<Arc<NetworkPolicy>> {
        self.caches
            .network_policies
            .get(&ObjectRef::new(name).within(namespace))
    }

    /// Remembers what a policy is meant to say; true when it was meant to say the same before.
    pub fn placed(&self, desired: &NetworkPolicy) -> bool {
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(desired).unwrap_or_default().hash(&mut hasher);
        let meant = hasher.finish();
        let key = (desired.namespace().unwrap_or_default(), desired.name_any());
        let mut known = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, meant) == Some(meant)
    }

    /// Forgets what the policies that are not to be kept were meant to say.
    pub fn forget_meant(&self, keep: impl Fn(&str, &str) -> bool) {
        let mut known = self.meant.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(namespace, name), _| keep(namespace, name));
    }

    /// The time to the nanosecond, to tell the age of a proof: a proof is never younger than now.
    pub fn moment() -> Timestamp {
        Timestamp::now()
    }

    /// The time. The only clock of the controller; pure code gets it as an argument.
    pub fn now() -> Timestamp {
        // Conditions keep whole seconds.
        let now = Timestamp::now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }
}

/// The identity of a workload.
pub fn key_of(workload: &AiWorkload) -> Option<WorkloadKey> {
    Some(WorkloadKey::new(workload.namespace()?, workload.name_any()))
}

/// What the network leg needs of an `AiWorkload`; `None` without a namespace.
pub fn workload_facts(workload: &AiWorkload) -> Option<world::Workload> {
    Some(world::Workload {
        key: key_of(workload)?,
        stage: workload.spec.stage,
        runtime: workload.spec.runtime,
        network: workload.spec.network.clone(),
        terminating: workload.metadata.deletion_timestamp.is_some(),
        quarantined: workload.annotations().contains_key(names::QUARANTINE_ANNOTATION),
    })
}

/// The same of one that is gone and whose flows are not.
fn vanished_of(workload: &AiWorkload) -> Option<world::Workload> {
    workload_facts(workload).map(|workload| world::Workload {
        terminating: true,
        ..workload
    })
}

/// What the network leg needs of a Namespace.
pub fn facts_of(namespace: &Namespace, policy: &AiSecurityPolicySpec) -> world::Namespace {
    let label = |key: &str| namespace.labels().get(key);
    world::Namespace {
        name: namespace.name_any(),
        uid: namespace.uid().unwrap_or_default(),
        labels: namespace.labels().clone(),
        stage: label(names::STAGE_LABEL).and_then(|value| NamespaceStage::parse(value)),
        // A mode nobody knows selects no binding of ours but the default one: the same here.
        mode: label(names::MODE_LABEL)
            .and_then(|value| Mode::parse(value))
            .unwrap_or(policy.mode),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
    }
}
