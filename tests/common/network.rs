//! What the tests of the network leg share: an installed operator, a record of everything the API server showed, and the
//! controller's own counters. Waits are conditions with deadlines, never sleeps.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloison::api::names;
use cloison::api::workload::FlowState;
use cloison::api::{AiSecurityPolicy, AiWorkload};
use cloison_testbed::{ControlPlane, Program, eventually};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::operator::{self, PATIENCE};

/// A control plane with the operator at work.
pub struct Installation {
    pub plane: ControlPlane,
    pub controller: Program,
}

impl Installation {
    /// Installs the operator, makes `policy` the organisation's and starts the controller.
    pub async fn start(plane: ControlPlane, policy: Value) -> Self {
        operator::install(&plane, &[]);
        let controller = operator::controller(&plane, "controller").await;
        let installation = Self { plane, controller };
        installation.controller.start().unwrap();
        installation.set_policy(policy).await;
        installation
    }

    pub fn admin(&self) -> Client {
        self.plane.admin().unwrap()
    }

    /// Replaces the spec of the `AiSecurityPolicy` and waits until the controller has taken it.
    pub async fn set_policy(&self, spec: Value) {
        let policy = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy",
                            "metadata": {"name": names::SINGLETON}, "spec": spec});
        let generation = operator::apply(&self.admin(), policy)
            .await
            .unwrap()
            .metadata
            .generation;
        let api: Api<AiSecurityPolicy> = Api::all(self.admin());
        eventually(PATIENCE, "the policy is taken", || async {
            let found = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
            let seen = found.status.and_then(|status| status.observed_generation);
            if seen == generation {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await
        .unwrap();
    }
}

/// For tests of what the analysis finds: `controls` of a policy under which tenants write what is refused otherwise.
pub fn tenants_may_open() -> Value {
    json!([{"id": "NET-10", "mode": "Audit", "reason": "what is refused at the door is found by nobody"}])
}

/// Everything a watch showed, in order.
pub struct Record<K>(Arc<Mutex<Vec<WatchEvent<K>>>>, tokio::task::JoinHandle<()>);

impl<K> Record<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    /// Records from now on.
    pub async fn start(api: Api<K>) -> Self {
        let now = api.list_metadata(&ListParams::default().limit(1)).await.unwrap();
        let mut version = now.metadata.resource_version.unwrap_or_default();
        let seen: Arc<Mutex<Vec<WatchEvent<K>>>> = Arc::default();
        let record = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok(stream) = api.watch(&WatchParams::default(), &version).await else {
                    continue;
                };
                let mut stream = std::pin::pin!(stream);
                while let Some(Ok(event)) = stream.next().await {
                    if let WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) = &event {
                        version = o.resource_version().unwrap();
                    }
                    record.lock().unwrap().push(event);
                }
            }
        });
        Self(seen, task)
    }

    /// What was seen so far: the kind of change, and the object.
    pub fn seen(&self) -> Vec<(Change, K)> {
        let seen = self.0.lock().unwrap();
        let changes = seen.iter().filter_map(|event| match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => Some((Change::Applied, object.clone())),
            WatchEvent::Deleted(object) => Some((Change::Deleted, object.clone())),
            WatchEvent::Bookmark(_) | WatchEvent::Error(_) => None,
        });
        changes.collect()
    }

    /// Waits until something was seen, and returns its revision.
    pub async fn revision_of(&self, what: &str, found: impl Fn(Change, &K) -> bool) -> u64 {
        eventually(PATIENCE, what, || async {
            let seen = self.seen();
            let first = seen.iter().find(|(change, object)| found(*change, object));
            first.map(|(_, object)| revision(object)).ok_or("not seen yet")
        })
        .await
        .unwrap()
    }
}

impl<K> Drop for Record<K> {
    fn drop(&mut self) {
        self.1.abort();
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Applied,
    Deleted,
}

/// The revision of an object: etcd counts them over all kinds, so revisions of different kinds have an order.
pub fn revision<K: ResourceExt>(object: &K) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

/// Replays what was seen: at no revision was there an allow of ours with a rule and no deny.
pub fn assert_deny_before_allow(seen: &[(Change, NetworkPolicy)]) {
    let mut there: BTreeMap<String, bool> = BTreeMap::new();
    for (change, policy) in seen {
        match change {
            Change::Applied => there.insert(policy.name_any(), has_rules(policy)),
            Change::Deleted => there.remove(&policy.name_any()),
        };
        let allows = |(name, rules): (&String, &bool)| name.starts_with(names::WORKLOAD_POLICY_PREFIX) && *rules;
        let open = there.iter().any(allows);
        assert!(
            !open || there.contains_key(names::DENY_POLICY),
            "at revision {} these are there without the deny: {there:?}",
            revision(policy)
        );
    }
}

/// Whether a policy allows anything.
pub fn has_rules(policy: &NetworkPolicy) -> bool {
    let spec = policy.spec.clone().unwrap_or_default();
    spec.ingress.is_some_and(|rules| !rules.is_empty()) || spec.egress.is_some_and(|rules| !rules.is_empty())
}

/// The spec of a policy as JSON.
pub fn spec(policy: &NetworkPolicy) -> Value {
    serde_json::to_value(&policy.spec).unwrap()
}

/// Merge-patches a NetworkPolicy.
pub async fn patch_policy(client: &Client, namespace: &str, name: &str, change: Value) {
    operator::network_policies(client, namespace)
        .patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
}

/// Merge-patches the labels of a Namespace; null takes one away.
pub async fn label(client: &Client, namespace: &str, labels: Value) {
    let api: Api<Namespace> = Api::all(client.clone());
    let change = json!({"metadata": {"labels": labels}});
    api.patch(namespace, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
}

/// Waits until the NetworkPolicies of a namespace are `wanted`, by name.
pub async fn policy_names(client: &Client, namespace: &str, wanted: &[&str]) {
    let api = operator::network_policies(client, namespace);
    eventually(PATIENCE, &format!("{namespace} holds {wanted:?}"), || async {
        let found = api
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
        if names == wanted {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await
    .unwrap();
}

/// Waits until a flow of an `AiWorkload` has a state, and returns its message.
pub async fn flow(client: &Client, namespace: &str, name: &str, flow: &str, state: FlowState) -> String {
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), namespace);
    eventually(PATIENCE, &format!("{namespace}/{name}: {flow} {state:?}"), || async {
        let workload = api.get(name).await.map_err(|error| error.to_string())?;
        let flows = workload.status.unwrap_or_default().flows;
        let found = flows.iter().find(|known| known.name == flow);
        match found {
            Some(found) if found.state == state => Ok(found.message.clone()),
            _ => Err(format!("{flows:?}")),
        }
    })
    .await
    .unwrap()
}

/// Waits for an event about the object `name` whose note holds `text`; the notes of all with this reason.
pub async fn noted(client: &Client, name: &str, reason: &str, text: &str) -> Vec<String> {
    let api: Api<Event> = Api::all(client.clone());
    eventually(PATIENCE, &format!("an event {reason} about {name}: {text}"), || async {
        let events = api
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let about = |event: &&Event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name)
        };
        let notes: Vec<String> = events
            .iter()
            .filter(about)
            .filter_map(|event| event.note.clone())
            .collect();
        if notes.iter().any(|note| note.contains(text)) {
            Ok(notes)
        } else {
            Err(format!("{notes:?}"))
        }
    })
    .await
    .unwrap()
}

/// A pod of nobody's node: it stays Pending, and is a pod all the same.
pub async fn pod(client: &Client, namespace: &str, name: &str, labels: Value) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
                     "spec": {"containers": [{"name": "main", "image": "registry.example.com/train/app:1"}]}});
    // The ServiceAccount `default` comes a moment after its namespace.
    eventually(PATIENCE, &format!("pod {namespace}/{name}"), || async {
        operator::apply(client, pod.clone()).await.map(drop)
    })
    .await
    .unwrap();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    api.get(name).await.unwrap();
}
