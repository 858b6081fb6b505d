//! `cloison-net` on a real API server, beside NetworkPolicies: Services that open a stage or lead out of it, Endpoints
//! written by hand, and the routes and grants of gateways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "../common/admission.rs"]
mod common;
mod gateways;
mod services;

use common::*;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-net";

/// The policy nobody configured.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

fn service(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// One that breaks no rule.
fn plain() -> Value {
    json!({"selector": {"app": "model"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
}

fn alias(name: &str) -> Value {
    json!({"type": "ExternalName", "externalName": name})
}

fn addresses(namespace: &str, name: &str, subsets: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": namespace}, "subsets": subsets})
}

fn hijack() -> Value {
    json!([{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 8080}]}])
}

async fn enforce(cluster: &Cluster, namespace: &str) {
    let label = json!({"metadata": {"labels": {"cloison.dev/mode": "enforce"}}});
    patch(&cluster.admin(), "v1", "Namespace", None, namespace, label)
        .await
        .unwrap();
    let open = with(plain(), json!({"type": "NodePort"}));
    eventually_refused_by(cluster, POLICY, "NET-06/node-port", async || {
        try_create(&cluster.admin(), service(namespace, "probe", open.clone())).await
    })
    .await;
}
