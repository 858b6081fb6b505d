//! Which rights on Secrets hand out their data, asked of a real API server: the search for rights takes these, and no
//! others, for reading.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::collections::BTreeSet;

use cloison::compliance::checks::rights::Rights;
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use operator::{PATIENCE, apply};
use serde_json::{Value, json};

/// `canary-value` in base64, as an answer would hold it.
const VALUE: &str = "Y2FuYXJ5LXZhbHVl";
const ALL: &str = "/api/v1/namespaces/infer/secrets";

fn secret(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "infer"}, "data": {"k": value}})
}

/// The answer to a request, or the refusal.
async fn answer(client: &Client, method: &str, path: &str, body: &Value) -> Result<String, kube::Error> {
    let patch = method == "PATCH";
    let kind = if patch {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("Content-Type", kind).body(body).unwrap();
    client.request_text(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_on_secrets_is_a_path_if_the_api_server_answers_it_with_their_data() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let admin = plane.admin().unwrap();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "infer"}});
    apply(&admin, namespace).await.unwrap();
    apply(&admin, secret(VALUE)).await.unwrap();
    let one = format!("{ALL}/s");
    let rows = [
        ("get", "GET", one.clone(), Value::Null, true),
        ("list", "GET", ALL.to_owned(), Value::Null, true),
        (
            "watch",
            "GET",
            format!("{ALL}?watch=1&timeoutSeconds=1"),
            Value::Null,
            true,
        ),
        ("patch", "PATCH", one.clone(), json!({}), true),
        (
            "deletecollection",
            "DELETE",
            format!("{ALL}?dryRun=All"),
            Value::Null,
            true,
        ),
        (
            "delete",
            "DELETE",
            format!("{one}?dryRun=All&propagationPolicy=Orphan"),
            Value::Null,
            true,
        ),
        ("update", "PUT", one.clone(), secret("eA=="), false),
        ("create", "POST", ALL.to_owned(), secret("eA=="), false),
    ];
    for (verb, method, path, body, hands_out) in rows {
        let group = "rbac.authorization.k8s.io";
        let metadata = json!({"name": verb, "namespace": "infer"});
        let user = format!("system:serviceaccount:train:{verb}");
        let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]}]});
        let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": verb},
            "subjects": [{"kind": "ServiceAccount", "namespace": "train", "name": verb}]});
        let roles: [Role; 1] = [serde_json::from_value(role.clone()).unwrap()];
        let bindings: [RoleBinding; 1] = [serde_json::from_value(binding.clone()).unwrap()];
        let rights = Rights::new(&roles, [], &bindings, []);
        let chain = rights.chain("train", verb, &BTreeSet::from(["infer"])).unwrap();
        assert_eq!(chain.is_some(), hands_out, "{verb}: {chain:?}");

        apply(&admin, role).await.unwrap();
        apply(&admin, binding).await.unwrap();
        let client = plane.client_as(&user, &[]).unwrap();
        let what = format!("{verb} is allowed");
        let said = eventually(PATIENCE, &what, || async {
            match answer(&client, method, &path, &body).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Err(status.message),
                answered => Ok(answered),
            }
        });
        // A refusal for another reason, such as that it is there already, is an answer too.
        let said = said.await.unwrap().unwrap_or_else(|error| error.to_string());
        assert_eq!(said.contains(VALUE), hands_out, "{verb} {path}: {said}");
    }
}
