//! Requests as tests write them: objects are JSON, and answers are kept with their errors.

use std::fmt::{Debug, Display};

use cloison::admission::{CanaryRequest, Outcome, Verb};
use cloison_testbed::eventually;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};

use super::{Answered, Cluster, SOON, digest};

pub async fn send(client: &Client, request: &CanaryRequest) -> Outcome {
    let (method, content_type) = match request.verb {
        Verb::Create => ("POST", "application/json"),
        Verb::MergePatch => ("PATCH", "application/merge-patch+json"),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{}?dryRun=All", request.path))
        .header("content-type", content_type)
        .body(serde_json::to_vec(&request.body).unwrap())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => Outcome::Passed,
        Err(Error::Api(status)) => Outcome::from_status(status.code, status.message.clone()),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Objects of one kind.
pub fn objects(client: &Client, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

fn place(object: &Value) -> (String, String, Option<String>) {
    let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    (
        field("/apiVersion").unwrap(),
        field("/kind").unwrap(),
        field("/metadata/namespace"),
    )
}

/// Creates an object.
pub async fn create(client: &Client, object: Value) -> Answered {
    create_with(client, object, &PostParams::default()).await
}

/// Asks whether an object could be created.
pub async fn try_create(client: &Client, object: Value) -> Answered {
    create_with(
        client,
        object,
        &PostParams {
            dry_run: true,
            ..PostParams::default()
        },
    )
    .await
}

async fn create_with(client: &Client, object: Value, params: &PostParams) -> Answered {
    let (version, kind, namespace) = place(&object);
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    objects(client, &version, &kind, namespace.as_deref())
        .create(params, &object)
        .await
}

/// A JSON merge patch.
pub async fn patch(
    client: &Client,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    change: Value,
) -> Answered {
    objects(client, version, kind, namespace)
        .patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await
}

/// A JSON merge patch of the status subresource.
pub async fn patch_status(
    client: &Client,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    change: Value,
) -> Answered {
    objects(client, version, kind, namespace)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(change))
        .await
}

pub async fn delete(
    client: &Client,
    version: &str,
    kind: &str,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), Error> {
    objects(client, version, kind, namespace)
        .delete(name, &DeleteParams::default())
        .await
        .map(drop)
}

/// Places a pod as the scheduler does.
pub async fn bind_to_node(client: &Client, namespace: &str, pod: &str, node: &str) {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
                         "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&binding).unwrap())
        .unwrap();
    client.request::<Value>(request).await.unwrap();
}

/// Server-side apply.
pub async fn apply(client: &Client, object: Value) -> DynamicObject {
    let (version, kind, namespace) = place(&object);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let params = PatchParams::apply("test").force();
    objects(client, &version, &kind, namespace.as_deref())
        .patch(&name, &params, &Patch::Apply(&object))
        .await
        .unwrap_or_else(|error| panic!("apply {kind} {name}: {error}"))
}

pub fn typed<K: serde::Serialize>(version: &str, kind: &str, object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    value["apiVersion"] = json!(version);
    value["kind"] = json!(kind);
    value
}

/// A digest for images.
/// A pod that breaks no rule.
pub fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": format!("registry.example.com/train/app@{}", digest())}]},
    })
}

/// Waits until a request passes.
pub async fn eventually_ok<T, E: Display, F: Future<Output = Result<T, E>>>(what: &str, attempt: impl Fn() -> F) -> T {
    eventually(SOON, what, attempt).await.unwrap()
}

/// Waits until a request is refused by `cloison-pod` under a rule, and returns what was said.
pub async fn eventually_refused<T: Debug, F: Future<Output = Result<T, Error>>>(
    cluster: &Cluster,
    rule: &str,
    attempt: impl Fn() -> F,
) -> String {
    eventually_refused_by(cluster, "cloison-pod", rule, attempt).await
}

/// The same, for another policy.
pub async fn eventually_refused_by<T: Debug, F: Future<Output = Result<T, Error>>>(
    cluster: &Cluster,
    policy: &str,
    rule: &str,
    attempt: impl Fn() -> F,
) -> String {
    let answer = eventually(SOON, "a refusal", async || match attempt().await {
        Err(Error::Api(status)) if status.message.contains(&format!("{rule} ")) => Ok(Error::Api(status)),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
    cluster.refused(Err::<T, _>(answer), policy, rule)
}

/// Waits until an object is gone: the controllers that finish a deletion take their time.
pub async fn gone(objects: &Api<DynamicObject>, name: &str) {
    eventually(SOON * 2, "the object is gone", async || {
        match objects.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}
