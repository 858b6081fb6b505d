//! Which kinds are watched, and what each change sets off.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Config as WatchConfig;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::caches::{self, Cached, Seen, Unread};
use super::context::{Caches, key_of};
use super::pod_facts::PodIndex;
use super::pods::{self, Pod};
use super::triggers::{Index, Triggers};
use super::unreadable::Reporter;
use super::withdrawals::Withdrawals;
use crate::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, Waiver, names};
use crate::cluster::telemetry::Metrics;
use crate::compliance::checks::rights;
use crate::network::world::WorkloadKey;

/// Starts watches.
pub struct Watches<'a> {
    /// Where they run.
    pub tasks: &'a mut JoinSet<()>,
    /// The connection.
    pub client: Client,
    /// The namespace the controller runs in.
    pub namespace: &'a str,
    /// Counters.
    pub metrics: Metrics,
    /// Objects that cannot be read.
    pub reporter: Reporter,
    /// Workloads that vanished.
    pub withdrawals: Arc<Mutex<Withdrawals>>,
    /// Woken when the API servers' addresses change.
    pub addresses: Arc<Notify>,
}

impl Watches<'_> {
    /// One guarded watch of full objects.
    fn keep<K: Cached>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        config: WatchConfig,
        kind: &'static str,
        prune: impl FnMut(&mut K) + Send + 'static,
        on_change: impl FnMut(Seen<'_, K>) + Send + 'static,
    ) -> Store<K>
    where
        DeserializeGuard<K>: Resource<DynamicType = ()>,
    {
        let (store, writer) = reflector::store();
        let guard = self.reporter.for_kind(kind);
        let stream = caches::guarded(api, config, store.clone(), Unread::Leaves, guard);
        let labels = (kind, self.metrics.clone());
        caches::keep(self.tasks, writer, stream, prune, labels, |_| {}, on_change);
        store
    }

    /// Workloads. What is in place for one that vanished, or that cannot be read any more, stays as it is.
    fn workloads(&mut self, mut on_change: impl FnMut(&Seen<'_, AiWorkload>) + Send + 'static) -> Store<AiWorkload> {
        let kind = "AiWorkload";
        let (store, writer) = reflector::store();
        let api = Api::all(self.client.clone());
        let guard = self.reporter.for_kind(kind);
        let config = WatchConfig::default();
        let stream = caches::guarded(api, config, store.clone(), Unread::KeepsLast, guard);
        let labels = (kind, self.metrics.clone());
        let (leaving, back) = (self.withdrawals.clone(), self.withdrawals.clone());
        // Before the store loses it: no moment may show a world without a workload whose flows are open.
        let leaves = move |seen: &Seen<'_, AiWorkload>| {
            let Some(key) = key_of(seen.object()) else { return };
            let mut withdrawals = leaving.lock().unwrap_or_else(PoisonError::into_inner);
            match seen {
                Seen::Deleted(workload) => withdrawals.deleted(key, (*workload).clone()),
                Seen::Gone(workload) => withdrawals.gone(key, (*workload).clone()),
                Seen::Applied { .. } => {}
            }
        };
        let on_change = move |seen: Seen<'_, AiWorkload>| {
            if let (Seen::Applied { .. }, Some(key)) = (&seen, key_of(seen.object())) {
                back.lock().unwrap_or_else(PoisonError::into_inner).forget(&key);
            }
            on_change(&seen);
        };
        let prune = caches::prune::<AiWorkload>;
        caches::keep(self.tasks, writer, stream, prune, labels, leaves, on_change);
        store
    }

    /// Starts the watch of every kind.
    pub fn start(mut self, triggers: &Triggers) -> (Caches, Index) {
        let all = WatchConfig::default;
        let ours = || all().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::CLOISON));
        let client = self.client.clone();
        // The two watches whose stores make up the index also map through it. What they see before it is whole is lost,
        // and made good by the first `Triggers::everything`.
        let index: Arc<OnceLock<Index>> = Arc::default();

        let (t, i) = (triggers.clone(), index.clone());
        let api = Api::all(client.clone());
        let namespaces = self.keep(api, all(), "Namespace", caches::prune::<Namespace>, move |seen| {
            i.get().into_iter().for_each(|index| t.on_namespace(index, &seen));
        });
        let (t, i) = (triggers.clone(), index.clone());
        let workloads = self.workloads(move |seen| {
            i.get().into_iter().for_each(|index| t.on_workload(index, seen));
        });
        let made = Index {
            workloads: workloads.clone(),
            namespaces: namespaces.clone(),
        };
        let _ = index.set(made.clone());

        let (t, i) = (triggers.clone(), made.clone());
        let api = Api::all(client.clone());
        let prune = caches::prune_but_managers::<NetworkPolicy>;
        let network_policies = self.keep(api, all(), "NetworkPolicy", prune, move |seen| {
            t.on_network_policy(&i, &seen)
        });
        let (t, i) = (triggers.clone(), made.clone());
        let api = Api::all(client.clone());
        let prune = caches::prune::<AiSecurityPolicy>;
        let security_policies = self.keep(api, all(), "AiSecurityPolicy", prune, move |seen| {
            t.on_policy(&i, &seen)
        });
        let t = triggers.clone();
        let api = Api::all(client.clone());
        let waivers = self.keep(api, all(), "Waiver", caches::prune::<Waiver>, move |seen| {
            t.on_waiver(&seen)
        });
        let (t, i) = (triggers.clone(), made.clone());
        let api = Api::namespaced(client.clone(), self.namespace);
        let only = all().fields(&format!("metadata.name={}", names::OFF_CONFIGMAP));
        let off = self.keep(api, only, "ConfigMap", caches::prune::<ConfigMap>, move |_| {
            t.everything(&i)
        });
        let (t, i) = (triggers.clone(), made.clone());
        let api = Api::all(client.clone());
        let encryptions = self.keep(
            api,
            all(),
            "SecretEncryption",
            caches::prune::<SecretEncryption>,
            move |seen| {
                let same = matches!(&seen, Seen::Applied { old: Some(old), new } if old.metadata.generation == new.metadata.generation);
                if same {
                    t.cluster.notify_one();
                } else {
                    // How old a proof may be is part of every workload's word.
                    t.everything(&i);
                }
            },
        );
        let wakes = &triggers.cluster;
        let admission_policies = self.waking("ValidatingAdmissionPolicy", ours(), wakes, caches::prune);
        let admission_bindings = self.waking("ValidatingAdmissionPolicyBinding", ours(), wakes, caches::prune);
        let webhooks = self.waking("ValidatingWebhookConfiguration", ours(), wakes, caches::prune);
        let api = Api::namespaced(client.clone(), "default");
        let only = all().labels("kubernetes.io/service-name=kubernetes");
        let changed = self.addresses.clone();
        let slices = self.keep(api, only, "EndpointSlice", caches::prune::<EndpointSlice>, move |_| {
            changed.notify_one();
        });
        let pod_facts: Arc<PodIndex> = Arc::default();
        let pods = self.pods(triggers.clone(), namespaces.clone(), pod_facts.clone());
        let (of_storage, of_rights) = (&triggers.storage, &triggers.rights);
        let caches = Caches {
            pod_facts,
            storage_classes: self.waking("StorageClass", all(), of_storage, |_| {}),
            claims: self.waking("PersistentVolumeClaim", all(), of_storage, |_| {}),
            volumes: self.waking("PersistentVolume", all(), of_storage, |_| {}),
            roles: self.waking("Role", all(), of_rights, prune_role),
            cluster_roles: self.waking("ClusterRole", all(), of_rights, prune_cluster_role),
            role_bindings: self.waking("RoleBinding", all(), of_rights, prune_binding),
            cluster_role_bindings: self.waking("ClusterRoleBinding", all(), of_rights, prune_binding),
            namespaces,
            workloads,
            network_policies,
            pods,
            security_policies,
            waivers,
            encryptions,
            admission_policies,
            admission_bindings,
            webhooks,
            slices,
            off,
        };
        (caches, made)
    }

    /// Objects of which any change wakes one loop.
    fn waking<K: Cached>(
        &mut self,
        kind: &'static str,
        config: WatchConfig,
        wakes: &Arc<Notify>,
        prune: fn(&mut K),
    ) -> Store<K>
    where
        DeserializeGuard<K>: Resource<DynamicType = ()>,
    {
        let wakes = wakes.clone();
        let api = Api::all(self.client.clone());
        self.keep(api, config, kind, prune, move |_| wakes.notify_one())
    }

    /// Pods: only those of stage namespaces set anything off.
    fn pods(&mut self, triggers: Triggers, namespaces: Store<Namespace>, index: Arc<PodIndex>) -> Store<Pod> {
        let shared = index.clone();
        let on_change = move |seen: Seen<'_, Pod>| {
            let here = seen.object().namespace().unwrap_or_default();
            let before = match &seen {
                Seen::Applied { old, .. } => old.as_deref(),
                Seen::Deleted(pod) | Seen::Gone(pod) => Some(*pod),
            };
            let after = match &seen {
                Seen::Applied { new, .. } => Some(*new),
                Seen::Deleted(_) | Seen::Gone(_) => None,
            };
            // Also of namespaces without a stage: they may be given one.
            let news = index.changed(before, after);
            let judged = before.map(Pod::judged) != after.map(Pod::judged);
            let staged = |ns: Arc<Namespace>| ns.labels().contains_key(names::STAGE_LABEL);
            if !namespaces.get(&ObjectRef::new(&here)).is_some_and(staged) {
                return;
            }
            if judged {
                triggers.pods_changed(&here);
            }
            for WorkloadKey { namespace, name } in news {
                triggers.workload(ObjectRef::new(&name).within(&namespace));
            }
            if before.map(Pod::workload) != after.map(Pod::workload) {
                triggers.namespace(&here);
            }
            if before.map(Pod::network) == after.map(Pod::network) {
                return;
            }
            // One on the pod network alone is no news to its workload.
            for pod in [before, after]
                .into_iter()
                .flatten()
                .filter(|pod| !pod.interfaces.are_plain())
            {
                triggers.workload(ObjectRef::new(pod.workload()).within(&here));
            }
        };
        let prune = move |pod: &mut Pod| {
            pods::prune(pod);
            shared.share(&mut pod.facts);
        };
        let api = Api::all(self.client.clone());
        self.keep(api, WatchConfig::default(), "Pod", prune, on_change)
    }
}

fn prune_role(role: &mut Role) {
    caches::only_labels(role, |_| false);
    only_on_the_way(&mut role.rules);
}

/// Its labels say which others take it in.
fn prune_cluster_role(role: &mut ClusterRole) {
    caches::only_labels(role, |_| true);
    only_on_the_way(&mut role.rules);
}

fn prune_binding<K: ResourceExt>(binding: &mut K) {
    caches::only_labels(binding, |_| false);
}

/// Most rules lead nowhere near a Secret.
fn only_on_the_way(rules: &mut Option<Vec<PolicyRule>>) {
    rules.iter_mut().for_each(|rules| rules.retain(rights::leads_on));
}

/// Waits until every store holds a full list: a verdict from half a cache would be a guess.
pub async fn complete(caches: &Caches) {
    let Caches {
        namespaces,
        workloads,
        network_policies,
        pods,
        pod_facts: _,
        security_policies,
        waivers,
        encryptions,
        admission_policies,
        admission_bindings,
        webhooks,
        slices,
        off,
        storage_classes,
        claims,
        volumes,
        roles,
        cluster_roles,
        role_bindings,
        cluster_role_bindings,
    } = caches;
    // A store fails to become ready only when its watch was dropped, and then this term is over.
    let _ = tokio::join!(
        namespaces.wait_until_ready(),
        workloads.wait_until_ready(),
        network_policies.wait_until_ready(),
        pods.wait_until_ready(),
        security_policies.wait_until_ready(),
        waivers.wait_until_ready(),
        encryptions.wait_until_ready(),
        admission_policies.wait_until_ready(),
        admission_bindings.wait_until_ready(),
        webhooks.wait_until_ready(),
        slices.wait_until_ready(),
        off.wait_until_ready(),
        storage_classes.wait_until_ready(),
        claims.wait_until_ready(),
        volumes.wait_until_ready(),
        roles.wait_until_ready(),
        cluster_roles.wait_until_ready(),
        role_bindings.wait_until_ready(),
        cluster_role_bindings.wait_until_ready(),
    );
}
