//! Pods that run, as far as an API server knows, and what the controller says of them in the status of their workload.

use cloison::api::{AiWorkload, names};
use cloison_testbed::eventually;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::operator::{PATIENCE, apply};

/// Findings of one rule; their messages.
pub async fn told(client: &Client, namespace: &str, name: &str, rule: &str) -> Vec<String> {
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), namespace);
    let status = api.get(name).await.unwrap().status.unwrap_or_default();
    let of_rule = status
        .findings
        .into_iter()
        .filter(|finding| finding.rule.as_deref() == Some(rule));
    of_rule.map(|finding| finding.message).collect()
}

/// A pod with a change of its spec.
pub async fn pod(client: &Client, namespace: &str, name: &str, workload: Option<&str>, spec: &Value) -> Pod {
    let mut whole = json!({
        "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": "registry.example.com/app:1"}],
    });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": whole, "metadata": {"name": name, "namespace": namespace},
    });
    if let Some(workload) = workload {
        pod["metadata"]["labels"] = json!({names::WORKLOAD_LABEL: workload});
    }
    // The ServiceAccount `default` comes a moment after its namespace.
    let created = eventually(PATIENCE, &format!("pod {namespace}/{name}"), || async {
        apply(client, pod.clone()).await
    })
    .await;
    created.unwrap().try_parse().unwrap()
}

pub async fn delete(client: &Client, namespace: &str, name: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let now = DeleteParams::default().grace_period(0);
    pods.delete(name, &now).await.unwrap();
}

/// Takes the right to list a resource from the controller, as a role of an older release would lack it. What the role said before.
pub async fn take_list(client: &Client, resource: &str) -> ClusterRole {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let before = roles.get(names::CONTROLLER_ROLE).await.expect("the chart's role");
    let mut rules = before.rules.clone().unwrap_or_default();
    for rule in &mut rules {
        if rule.resources.iter().flatten().any(|it| it == resource) {
            rule.verbs.retain(|verb| verb != "list");
        }
    }
    rules.retain(|rule| !rule.verbs.is_empty());
    set_rules(&roles, &rules).await;
    before
}

/// Gives it back.
pub async fn give_back(client: &Client, before: ClusterRole) {
    set_rules(&Api::all(client.clone()), &before.rules.unwrap_or_default()).await;
}

async fn set_rules(roles: &Api<ClusterRole>, rules: &[PolicyRule]) {
    let patch = Patch::Merge(json!({"rules": rules}));
    let patched = roles
        .patch(names::CONTROLLER_ROLE, &PatchParams::default(), &patch)
        .await;
    patched.expect("other rules");
}
