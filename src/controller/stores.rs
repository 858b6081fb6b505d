//! Which kinds are watched, and what each change sets off.

use std::sync::{Arc, OnceLock};

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Config as WatchConfig};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::task::JoinSet;

use super::caches::{self, Cached, Seen};
use super::context::Caches;
use super::triggers::{Index, Triggers};
use super::unreadable::Reporter;
use crate::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, names};
use crate::cluster::telemetry::Metrics;

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
}

impl Watches<'_> {
    /// One guarded watch of full objects.
    fn keep<K: Cached>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        config: WatchConfig,
        kind: &'static str,
        prune: fn(&mut K),
        on_change: impl FnMut(Seen<'_, K>) + Send + 'static,
    ) -> Store<K>
    where
        DeserializeGuard<K>: Resource<DynamicType = ()>,
    {
        let stream = caches::guarded(api, config, kind, self.reporter.for_kind(kind));
        caches::keep(self.tasks, stream, prune, kind, self.metrics.clone(), on_change)
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
        let api = Api::all(client.clone());
        let workloads = self.keep(api, all(), "AiWorkload", caches::prune::<AiWorkload>, move |seen| {
            i.get().into_iter().for_each(|index| t.on_workload(index, &seen));
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
        let (t, i) = (triggers.clone(), made.clone());
        let api = Api::namespaced(client.clone(), self.namespace);
        let only = all().fields(&format!("metadata.name={}", names::OFF_CONFIGMAP));
        let off = self.keep(api, only, "ConfigMap", caches::prune::<ConfigMap>, move |_| {
            t.everything(&i)
        });
        let t = triggers.clone();
        let api = Api::all(client.clone());
        let encryptions = self.keep(
            api,
            all(),
            "SecretEncryption",
            caches::prune::<SecretEncryption>,
            move |_| {
                t.cluster.notify_one();
                t.encryption.notify_one();
            },
        );
        let t = triggers.clone();
        let api = Api::all(client.clone());
        let prune = caches::prune::<ValidatingAdmissionPolicy>;
        let admission_policies = self.keep(api, ours(), "ValidatingAdmissionPolicy", prune, move |_| {
            t.cluster.notify_one()
        });
        let t = triggers.clone();
        let api = Api::all(client.clone());
        let prune = caches::prune::<ValidatingAdmissionPolicyBinding>;
        let admission_bindings = self.keep(api, ours(), "ValidatingAdmissionPolicyBinding", prune, move |_| {
            t.cluster.notify_one()
        });
        let api = Api::namespaced(client.clone(), "default");
        let only = all().labels("kubernetes.io/service-name=kubernetes");
        let slices = self.keep(api, only, "EndpointSlice", caches::prune::<EndpointSlice>, |_| {});
        let pods = self.pods(triggers.clone(), namespaces.clone());
        let caches = Caches {
            namespaces,
            workloads,
            network_policies,
            pods,
            security_policies,
            encryptions,
            admission_policies,
            admission_bindings,
            slices,
            off,
        };
        (caches, made)
    }

    /// Pods: metadata only, and only those of stage namespaces set anything off.
    fn pods(&mut self, triggers: Triggers, namespaces: Store<Namespace>) -> Store<PartialObjectMeta<Pod>> {
        let api = Api::<PartialObjectMeta<Pod>>::all(self.client.clone());
        let stream = watcher::watcher(api, WatchConfig::default());
        caches::keep(
            self.tasks,
            stream,
            caches::prune,
            "Pod",
            self.metrics.clone(),
            move |seen| {
                let same = matches!(&seen, Seen::Applied { old: Some(old), new } if old.labels() == new.labels());
                let here = seen.object().namespace().unwrap_or_default();
                let staged = |ns: Arc<Namespace>| ns.labels().contains_key(names::STAGE_LABEL);
                if !same && namespaces.get(&ObjectRef::new(&here)).is_some_and(staged) {
                    triggers.namespace(&here);
                }
            },
        )
    }
}

/// Waits until every store holds a full list: a verdict from half a cache would be a guess.
pub async fn complete(caches: &Caches) {
    let Caches {
        namespaces,
        workloads,
        network_policies,
        pods,
        security_policies,
        encryptions,
        admission_policies,
        admission_bindings,
        slices,
        off,
    } = caches;
    // A store fails to become ready only when its watch was dropped, and then this term is over.
    let _ = tokio::join!(
        namespaces.wait_until_ready(),
        workloads.wait_until_ready(),
        network_policies.wait_until_ready(),
        pods.wait_until_ready(),
        security_policies.wait_until_ready(),
        encryptions.wait_until_ready(),
        admission_policies.wait_until_ready(),
        admission_bindings.wait_until_ready(),
        slices.wait_until_ready(),
        off.wait_until_ready(),
    );
}
