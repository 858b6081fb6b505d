//! The only place that writes to the cluster.
//!
//! One server-side apply per object and field manager, always forced: lists of a NetworkPolicy are atomic, so an apply
//! puts back whatever another manager changed. Every write names a [`Scope`], and a scope comes only from the object
//! being reconciled: nothing a tenant wrote into a field can steer a write elsewhere.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::error::Error;
use crate::api::names;
use crate::cluster::cluster_policies;
use crate::cluster::telemetry::{KindResult, Metrics};
use crate::network::cluster_policy::KIND;
use crate::network::drift;

/// The namespace a reconcile may write into: that of the object it reconciles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// The namespace of a namespaced object; `None` for one that has none.
    pub fn of<K: ResourceExt>(object: &K) -> Option<Self> {
        object.namespace().map(Self)
    }

    /// A Namespace itself.
    pub fn of_namespace(namespace: &Namespace) -> Self {
        Self(namespace.name_any())
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.0
    }
}

/// Writes, and counts what it wrote.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    metrics: Metrics,
}

impl Writer {
    /// A writer.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics }
    }

    /// Applies a NetworkPolicy and returns it as the API server now holds it.
    pub async fn apply_network_policy(&self, scope: &Scope, policy: &NetworkPolicy) -> Result<NetworkPolicy, Error> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), scope.namespace());
        self.apply(&api, "NetworkPolicy", policy).await
    }

    /// Takes off a NetworkPolicy of ours what others added to it ([`drift::strip`]); fails when it changed since `seen`.
    pub async fn strip_network_policy(&self, scope: &Scope, seen: &NetworkPolicy) -> Result<NetworkPolicy, Error> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), scope.namespace());
        let patch = drift::strip(seen);
        let what = format!("strip NetworkPolicy {}/{}", scope.namespace(), seen.name_any());
        let result = api
            .patch(&seen.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.counted("NetworkPolicy", "stripped", what, result)
    }

    /// Deletes a NetworkPolicy of ours: the very object that was seen, not one that took its name since.
    pub async fn delete_network_policy(&self, scope: &Scope, seen: &NetworkPolicy) -> Result<(), Error> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), scope.namespace());
        let what = format!("delete NetworkPolicy {}/{}", scope.namespace(), seen.name_any());
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: seen.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let result = api.delete(&seen.name_any(), &params).await.map(|_| ());
        if matches!(&result, Err(kube::Error::Api(status)) if status.code == 404) {
            return Ok(());
        }
        self.counted("NetworkPolicy", "deleted", what, result)
    }

    /// Creates a pod of the packet canary. By an apply, because a role can limit that to the pod's name.
    pub async fn apply_pod(&self, pod: &Pod) -> Result<Pod, Error> {
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        self.apply(&api, "Pod", pod).await
    }

    /// Deletes a pod of the packet canary; one that is gone already is fine.
    pub async fn delete_pod(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let result = api.delete(name, &DeleteParams::default()).await.map(|_| ());
        if matches!(&result, Err(kube::Error::Api(status)) if status.code == 404) {
            return Ok(());
        }
        self.counted("Pod", "deleted", format!("delete Pod {namespace}/{name}"), result)
    }

    /// Writes the two annotations of a Namespace, nothing else of it. `None` removes an annotation of ours.
    pub async fn annotate_namespace(
        &self,
        namespace: &Namespace,
        sealed: Option<&str>,
        open: Option<&str>,
    ) -> Result<Namespace, Error> {
        let name = namespace.name_any();
        let mut annotations = serde_json::Map::new();
        if let Some(sealed) = sealed {
            annotations.insert(names::SEALED_ANNOTATION.to_owned(), json!(sealed));
        }
        if let Some(open) = open {
            annotations.insert(names::OPEN_ANNOTATION.to_owned(), json!(open));
        }
        // The uid makes the apply fail for a namespace that is gone, which must not come back, and for another of its name.
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "uid": namespace.uid(), "annotations": annotations },
        });
        let params = PatchParams::apply(names::STATUS_MANAGER).force();
        let result = Api::all(self.client.clone())
            .patch(&name, &params, &Patch::Apply(&object))
            .await;
        self.counted("Namespace", "annotated", format!("annotate Namespace {name}"), result)
    }

    /// Applies a cluster-scoped object of ours.
    pub async fn apply_cluster<K>(&self, kind: &'static str, object: &K) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        self.apply(&Api::all(self.client.clone()), kind, object).await
    }

    /// Applies a ClusterNetworkPolicy of ours.
    pub async fn apply_cluster_policy(&self, policy: &DynamicObject) -> Result<DynamicObject, Error> {
        let name = policy.name_any();
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let result = self
            .cluster_policies()
            .patch(&name, &params, &Patch::Apply(policy))
            .await;
        self.counted(KIND, "applied", format!("apply {KIND} {name}"), result)
    }

    /// Puts a whole ClusterNetworkPolicy of ours in the place of the one with its resource version.
    pub async fn replace_cluster_policy(&self, whole: &DynamicObject) -> Result<DynamicObject, Error> {
        let name = whole.name_any();
        let result = self.cluster_policies().replace(&name, &posted(), whole).await;
        self.counted(KIND, "replaced", format!("replace {KIND} {name}"), result)
    }

    /// Deletes a ClusterNetworkPolicy of ours; one that is gone already is fine.
    pub async fn delete_cluster_policy(&self, name: &str) -> Result<(), Error> {
        let result = self.cluster_policies().delete(name, &DeleteParams::default()).await;
        let result = result.map(|_| ());
        if matches!(&result, Err(kube::Error::Api(status)) if status.code == 404) {
            return Ok(());
        }
        self.counted(KIND, "deleted", format!("delete {KIND} {name}"), result)
    }

    fn cluster_policies(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &cluster_policies::resource())
    }

    /// Puts a whole cluster-scoped object of ours in the place of the one with its resource version.
    pub async fn replace_cluster<K>(&self, kind: &'static str, whole: &K) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let name = whole.name_any();
        let result = Api::<K>::all(self.client.clone())
            .replace(&name, &posted(), whole)
            .await;
        self.counted(kind, "replaced", format!("replace {kind} {name}"), result)
    }

    /// Creates an object that must not be there yet.
    pub async fn create<K>(&self, api: &Api<K>, kind: &'static str, object: &K) -> Result<K, Error>
    where
        K: ResourceExt + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let result = api.create(&posted(), object).await;
        self.counted(kind, "created", format!("create {kind} {}", object.name_any()), result)
    }

    /// Deletes a cluster-scoped object of ours; one that is gone already is fine.
    pub async fn delete_cluster<K>(&self, kind: &'static str, name: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let result = Api::<K>::all(self.client.clone())
            .delete(name, &DeleteParams::default())
            .await
            .map(|_| ());
        if matches!(&result, Err(kube::Error::Api(status)) if status.code == 404) {
            return Ok(());
        }
        self.counted(kind, "deleted", format!("delete {kind} {name}"), result)
    }

    /// Writes a status: the whole of it, as the only manager of its fields.
    pub async fn apply_status<K>(
        &self,
        api: &Api<K>,
        kind: &'static str,
        name: &str,
        status: &impl Serialize,
    ) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": { "name": name }, "status": status,
        });
        let params = PatchParams::apply(names::STATUS_MANAGER).force();
        let result = api.patch_status(name, &params, &Patch::Apply(&object)).await;
        self.counted(kind, "status", format!("write the status of {kind} {name}"), result)
    }

    async fn apply<K>(&self, api: &Api<K>, kind: &'static str, object: &K) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let name = object.name_any();
        let what = match object.namespace() {
            Some(namespace) => format!("apply {kind} {namespace}/{name}"),
            None => format!("apply {kind} {name}"),
        };
        let result = api
            .patch(
                &name,
                &PatchParams::apply(names::FIELD_MANAGER).force(),
                &Patch::Apply(object),
            )
            .await;
        self.counted(kind, "applied", what, result)
    }

    fn counted<T>(
        &self,
        kind: &'static str,
        done: &'static str,
        what: String,
        result: Result<T, kube::Error>,
    ) -> Result<T, Error> {
        let result = result.map_err(Error::api(what));
        let label = result.as_ref().map_or_else(Error::reason, |_| done);
        self.metrics
            .writes
            .get_or_create(&KindResult { kind, result: label })
            .inc();
        result
    }
}

fn posted() -> PostParams {
    PostParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
