//! `cloison-connect` on a real API server: the streams that cross every NetworkPolicy, debug containers, and tokens of
//! other accounts, asked for by tenants with the stock roles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "../common/admission.rs"]
mod common;
mod tokens;

use std::fmt::Debug;

use common::*;
use http::{Method, Request};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-connect";
const REQUESTER: &str = "system:serviceaccount:external-secrets:external-secrets";
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The policy of an admin who runs External Secrets.
async fn cluster() -> &'static Cluster {
    let policy = || spec(json!({"pods": {"tokenRequesters": [REQUESTER]}}));
    CLUSTER
        .get_or_init(async || Cluster::start(vec![Default::default()], policy()).await)
        .await
}

/// A namespace with the pod `p1`, which no node runs, and the Service `s1` without endpoints.
async fn inhabited(namespace: &str, stage: &str, mode: &str) -> &'static Cluster {
    let cluster = cluster().await;
    let admin = cluster.admin();
    apply(
        &admin,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
    )
    .await;
    // Without a selector it has no endpoints at all: it is older than the stage.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s1", "namespace": namespace},
                         "spec": {"ports": [{"port": 80}]}});
    create(&admin, service).await.unwrap();
    cluster.stage_namespace(namespace, stage, Some(mode), "default").await;
    eventually_ok("the seal is seen", async || create(&admin, pod(namespace, "p1")).await).await;
    cluster
}

async fn set_mode(cluster: &Cluster, namespace: &str, mode: &str) {
    let change = json!({"metadata": {"labels": {"cloison.dev/mode": mode}}});
    patch(&cluster.admin(), "v1", "Namespace", None, namespace, change)
        .await
        .unwrap();
}

async fn ask(client: &Client, method: Method, path: &str, body: Value) -> Result<String, Error> {
    let body = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(&body).unwrap()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    client.request_text(request).await
}

async fn post(client: &Client, path: &str) -> Result<String, Error> {
    ask(client, Method::POST, path, Value::Null).await
}

/// As `kubectl exec` asks since 1.31.
async fn web_socket(client: &Client, path: &str) -> Result<String, Error> {
    let request = Request::get(path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v5.channel.k8s.io")
        .body(Vec::new())
        .unwrap();
    client.request_text(request).await
}

/// Nobody refused it; that no node runs the pod is found out only then.
#[track_caller]
fn let_in<T: Debug>(answer: Result<T, Error>) {
    match answer {
        Ok(_) => {}
        Err(Error::Api(status)) if [400, 404, 500, 502, 503].contains(&status.code) => {
            assert!(!status.message.contains("cloison"), "{}", status.message);
        }
        other => panic!("{other:?}"),
    }
}

/// Every stream: what is asked for, how, and the rule.
fn streams(namespace: &str) -> Vec<(&'static str, Method, String)> {
    let at = |path: &str| format!("/api/v1/namespaces/{namespace}/{path}");
    vec![
        (
            "WKL-06/exec",
            Method::POST,
            at("pods/p1/exec?command=id&container=main&stdout=true"),
        ),
        (
            "WKL-06/exec",
            Method::GET,
            at("pods/p1/exec?command=id&container=main&stdout=true"),
        ),
        (
            "WKL-06/attach",
            Method::POST,
            at("pods/p1/attach?container=main&stdout=true"),
        ),
        (
            "WKL-06/attach",
            Method::GET,
            at("pods/p1/attach?container=main&stdout=true"),
        ),
        ("WKL-06/port-forward", Method::POST, at("pods/p1/portforward?ports=80")),
        ("WKL-06/port-forward", Method::GET, at("pods/p1/portforward?ports=80")),
    ]
}

/// Those that need no stream: any verb goes through.
fn proxies(namespace: &str) -> Vec<(Method, String)> {
    let mut all = Vec::new();
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        for path in [
            "pods/p1:80/proxy/",
            "pods/p1/proxy/a/b",
            "services/s1:80/proxy/",
            "services/http:s1:80/proxy",
        ] {
            all.push((method.clone(), format!("/api/v1/namespaces/{namespace}/{path}")));
        }
    }
    all
}

async fn open(client: &Client, method: &Method, path: &str) -> Result<String, Error> {
    if *method == Method::GET && !path.contains("/proxy") {
        web_socket(client, path).await
    } else {
        ask(client, method.clone(), path, Value::Null).await
    }
}

/// Appendix A E3: no stream gets into a pod that serves, by POST or by WebSocket, and no proxy into any stage.
#[tokio::test]
async fn nobody_reaches_into_a_pod_that_serves() {
    let cluster = inhabited("serving", "inference", "enforce").await;
    inhabited("notebooks", "training", "enforce").await;
    inhabited("scoring", "evaluation", "enforce").await;
    for role in ["edit", "admin"] {
        let alice = cluster.tenant(&format!("alice-{role}"), "serving", role).await;
        for (rule, method, path) in streams("serving") {
            let said = cluster.refused(open(&alice, &method, &path).await, POLICY, rule);
            assert!(said.contains(" pod \"p1\"; "), "{said}");
        }
        // Notebooks live here: observed, and let in.
        for namespace in ["notebooks", "scoring"] {
            let theirs = cluster.tenant(&format!("alice-{role}"), namespace, role).await;
            for (_, method, path) in streams(namespace) {
                let_in(open(&theirs, &method, &path).await);
            }
        }
        for namespace in ["serving", "notebooks", "scoring"] {
            for (method, path) in proxies(namespace) {
                let said = cluster.refused(
                    open(&alice_of(cluster, role), &method, &path).await,
                    POLICY,
                    "WKL-06/proxy",
                );
                assert!(said.contains("proxy to pods \"p1") || said.contains("s1"), "{said}");
            }
        }
    }
    // Where no AI runs, they are nobody's.
    apply(
        &cluster.admin(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}),
    )
    .await;
    let bob = cluster.tenant("bob", "elsewhere", "edit").await;
    for (_, method, path) in streams("elsewhere") {
        let_in(open(&bob, &method, &path).await);
    }
    for (method, path) in proxies("elsewhere") {
        let_in(open(&bob, &method, &path).await);
    }
}

fn alice_of(cluster: &Cluster, role: &str) -> Client {
    cluster.plane.client_as(&format!("alice-{role}"), &[]).unwrap()
}

#[tokio::test]
async fn the_namespace_picks_the_binding() {
    let cluster = inhabited("modes", "inference", "audit").await;
    let alice = cluster.tenant("alice", "modes", "edit").await;
    let exec = "/api/v1/namespaces/modes/pods/p1/exec?command=id&stdout=true";
    let proxy = "/api/v1/namespaces/modes/services/s1:80/proxy/";
    let warnings = async || {
        let request = Request::post("/api/v1/namespaces/modes/serviceaccounts/default/token")
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&token_request()).unwrap().into())
            .unwrap();
        let response = alice.send(request).await.unwrap();
        let headers = response.headers().get_all("warning");
        let heard: Vec<String> = headers.iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        (response.status().as_u16(), heard)
    };
    let_in(post(&alice, exec).await);
    let_in(ask(&alice, Method::GET, proxy, Value::Null).await);
    assert_eq!(warnings().await, (201, Vec::new()));

    set_mode(cluster, "modes", "warn").await;
    eventually_ok("warn is heard, and lets it pass", async || match warnings().await {
        (201, heard)
            if heard
                .iter()
                .any(|it| it.contains("cloison-connect-warn") && it.contains("IAM-06/token-request")) =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    let_in(post(&alice, exec).await);

    set_mode(cluster, "modes", "enforce").await;
    eventually_refused_by(cluster, POLICY, "WKL-06/exec", async || post(&alice, exec).await).await;
    cluster.refused(token(&alice, "modes", "default").await, POLICY, "IAM-06/token-request");
}

fn token_request() -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}})
}

async fn token(client: &Client, namespace: &str, account: &str) -> Result<String, Error> {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    ask(client, Method::POST, &path, token_request()).await
}

async fn account(cluster: &Cluster, namespace: &str, name: &str) -> Client {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
    apply(&cluster.admin(), account).await;
    cluster.plane.service_account(namespace, name).await.unwrap()
}

/// A role of the cluster for one subject.
async fn bind(cluster: &Cluster, name: &str, role: &str, subject: Value) {
    let binding = json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [subject]});
    apply(&cluster.admin(), binding).await;
}

fn subject(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
}

#[tokio::test]
async fn a_person_may_break_glass_and_a_program_may_not() {
    let cluster = inhabited("glass", "inference", "enforce").await;
    let reach = json!([
        {"apiGroups": [""], "resources": ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "serviceaccounts/token", "secrets"],
         "verbs": ["create", "get", "update", "delete"]},
    ]);
    let bypass = json!({"apiGroups": ["cloison.dev"], "resources": ["protections"], "verbs": ["bypass"]});
    let with_bypass = json!([reach[0], bypass]);
    cluster.grant_user("nora", reach).await;
    cluster.grant_user("omar", with_bypass).await;
    account(cluster, "default", "argocd").await;
    bind(cluster, "connect-argocd", "cluster-admin", subject("default", "argocd")).await;
    let argo = cluster.plane.service_account("default", "argocd").await.unwrap();
    let nora = cluster.plane.client_as("nora", &[]).unwrap();
    let omar = cluster.plane.client_as("omar", &[]).unwrap();
    let exec = "/api/v1/namespaces/glass/pods/p1/exec?command=id&stdout=true";
    for nobody in [&nora, &argo] {
        eventually_refused_by(cluster, POLICY, "WKL-06/exec", async || post(nobody, exec).await).await;
        for (rule, method, path) in streams("glass") {
            cluster.refused(open(nobody, &method, &path).await, POLICY, rule);
        }
        for (method, path) in proxies("glass") {
            cluster.refused(open(nobody, &method, &path).await, POLICY, "WKL-06/proxy");
        }
        cluster.refused(token(nobody, "glass", "default").await, POLICY, "IAM-06/token-request");
        cluster.refused(
            try_create(nobody, token_secret("glass")).await,
            POLICY,
            "IAM-06/token-secret",
        );
    }
    let admin = cluster.admin();
    eventually_ok("the right arrives", async || token(&omar, "glass", "default").await).await;
    for person in [&omar, &admin] {
        for (_, method, path) in streams("glass") {
            let_in(open(person, &method, &path).await);
        }
        for (method, path) in proxies("glass") {
            let_in(open(person, &method, &path).await);
        }
        token(person, "glass", "default").await.unwrap();
        try_create(person, token_secret("glass")).await.unwrap();
    }
}

/// `kubectl debug`: stock roles may not, a role of one's own may.
#[tokio::test]
async fn nobody_adds_a_debug_container_to_a_pod_that_serves() {
    let cluster = inhabited("debug", "inference", "audit").await;
    inhabited("debug-train", "training", "enforce").await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods", "pods/ephemeralcontainers"], "verbs": ["get", "patch", "update"]}]);
    cluster.grant_user("dora", rules).await;
    let dora = cluster.plane.client_as("dora", &[]).unwrap();
    let image = format!("registry.example.com/train/app@{}", digest());
    let debug = async |namespace: &str, name: &str| {
        let path = format!("/api/v1/namespaces/{namespace}/pods/p1/ephemeralcontainers");
        let request = Request::patch(path)
            .header("content-type", "application/strategic-merge-patch+json")
            .body(
                serde_json::to_vec(&json!({"spec": {"ephemeralContainers": [{"name": name, "image": image}]}}))
                    .unwrap(),
            )
            .unwrap();
        dora.request::<Value>(request).await
    };
    eventually_ok("in training", async || debug("debug-train", "d1").await).await;
    debug("debug", "d1").await.unwrap();
    set_mode(cluster, "debug", "enforce").await;
    let said = eventually_refused_by(cluster, POLICY, "WKL-06/debug", async || debug("debug", "d2").await).await;
    assert!(said.contains("a debug container in pod \"p1\""), "{said}");
    // The one of before stays, and a write that adds none passes.
    let kept = debug("debug", "d1").await.unwrap();
    assert_eq!(kept["spec"]["ephemeralContainers"].as_array().unwrap().len(), 1);
}

fn token_secret(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
           "metadata": {"name": "forever", "namespace": namespace, "annotations": {"kubernetes.io/service-account.name": "default"}}})
}
