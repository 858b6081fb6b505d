//! Whatever of ours dies, is taken away in the wrong order, or meets an API server of another version: the cluster works on.
//! API servers of the oldest and the newest version that we support stand side by side on one etcd.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "lists and stories read best whole"
)]

mod asking;
#[path = "../common/audit.rs"]
#[allow(dead_code, reason = "the scene asks for it")]
mod audit;
#[path = "../common/operator.rs"]
mod operator;
#[path = "../webhook/raw.rs"]
#[allow(dead_code, reason = "the scene asks for it")]
mod raw;
#[path = "../webhook/scene.rs"]
#[allow(dead_code, reason = "it has more than is needed here")]
mod scene;
mod stopping;
mod vital;

use asking::{Asked, Asking};
use cloison::api::{AiSecurityPolicy, names};
use cloison_testbed::{ApiServerOptions, Minor, eventually};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use operator::{PATIENCE, apply};
use scene::Scene;
use serde_json::{Value, json};
use vital::{ask, changes, pod, vital};

const OURS: &str = "app.kubernetes.io/managed-by=cloison";

/// Everything that a cluster lives on goes through, at each API server, for a person without any verb of ours.
async fn works_on(scene: &Scene, drill: &str) {
    for server in scene.plane.api_servers() {
        let root = server.identity("root", &[]).unwrap().client().unwrap();
        let vital = vital().into_iter().map(|(path, body)| ("POST", path, body));
        for (verb, path, body) in vital.chain(changes()) {
            let answer = eventually(PATIENCE, path, || async {
                match ask(&root, verb, path, &body).await {
                    // It has just been started.
                    Err(error) if !error.contains("cloison") => Err(error),
                    answer => Ok(answer),
                }
            })
            .await
            .unwrap_or_else(|error| panic!("{drill}: {error}"));
            assert_eq!(answer, Ok(()), "{drill}: {verb} {path}");
        }
    }
}

/// Isolation goes on, at each API server: a pod that holds on to its node does not come in.
async fn still_refuses(scene: &Scene, drill: &str) {
    refuses(scene, drill, "WKL-01/host-pid").await;
}

/// The same, in these words.
async fn refuses(scene: &Scene, drill: &str, words: &str) {
    for server in scene.plane.api_servers() {
        let root = server.identity("root", &[]).unwrap().client().unwrap();
        let held = pod(
            "held",
            json!({"cloison.dev/workload": "steady"}),
            json!({"hostPID": true}),
        );
        eventually(PATIENCE, &format!("{drill}: it is refused"), || async {
            match ask(&root, "POST", "/api/v1/namespaces/train/pods", &held).await {
                Err(error) if error.contains(words) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }
}

/// A namespace is deleted, and is gone.
async fn ends(admin: &Client, name: &str) {
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, &format!("namespace {name} ends"), || async {
        match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

async fn count<K>(client: &Client) -> usize
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let all = Api::<K>::all(client.clone())
        .list_metadata(&ListParams::default().labels(OURS))
        .await;
    all.unwrap().items.len()
}

/// What tenants ask all day: what is theirs passes, and what is not is refused.
fn of_tenants() -> Vec<Asked> {
    let pods = "/api/v1/namespaces/train/pods";
    let policies = "/apis/networking.k8s.io/v1/namespaces/train/networkpolicies";
    let steady = json!({"cloison.dev/workload": "steady"});
    let own =
        json!({"metadata": {"name": "own"}, "spec": {"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}});
    vec![
        Asked::refused(
            "POST",
            pods,
            pod("held", steady.clone(), json!({"hostPID": true})),
            "WKL-01/host-pid",
        ),
        Asked::refused(
            "DELETE",
            format!("{policies}/{}", names::DENY_POLICY),
            Value::Null,
            "CLU-04/managed-object",
        ),
        Asked::passes("POST", pods, pod("fine", steady, json!({}))),
        Asked::passes("POST", policies, own),
    ]
}

/// The hash of the policies that the controller wants.
async fn wanted(admin: &Client) -> Option<String> {
    let policies: Api<AiSecurityPolicy> = Api::all(admin.clone());
    policies.get(names::SINGLETON).await.unwrap().status?.policy_hash
}

/// Nobody of ours lives. The chart and the settings are changed all the same, and another controller puts other policies in
/// the place of those that are there; then it is killed again and again.
async fn upgraded_and_restarted(scene: &Scene) {
    let admin = &scene.admin;
    let before = wanted(admin).await;
    operator::install(&scene.plane, &["webhook.replicas=3"]);
    let changed = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"mode": "Enforce", "prohibitedUses": ["SocialScoring"]}});
    apply(admin, changed).await.unwrap();
    works_on(scene, "upgraded with nobody of ours alive").await;
    for _ in 0..3 {
        scene.start_controller();
        scene.leads().await;
        scene.kill_controller();
    }
    scene.start_controller();
    let hash = eventually(PATIENCE, "other policies are wanted", || async {
        match wanted(admin).await {
            Some(hash) if Some(&hash) != before.as_ref() => Ok(hash),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    refuses(scene, "after the upgrade", &format!("[cloison {hash}] WKL-01/host-pid")).await;
    scene.kill_controller();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_ours_locks_a_cluster_out() {
    let minors = [Minor::V1_33, Minor::V1_36].map(|minor| ApiServerOptions {
        minor,
        ..ApiServerOptions::default()
    });
    let scene = Scene::start_with(minors.to_vec(), &[]).await;
    let admin = &scene.admin;
    let strict = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"mode": "Enforce"}});
    apply(admin, strict).await.unwrap();
    let verbs = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ];
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": verbs}]);
    operator::grant(admin, "root", everything).await;
    operator::healthy(admin, "train", "Training").await;
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plain"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1", "namespace": "kube-node-lease"}}),
    ] {
        apply(admin, object).await.unwrap();
    }
    operator::healthy(admin, "ends", "Training").await;
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    let mut first = pod("p1", json!({"cloison.dev/workload": "steady"}), json!({}));
    first["metadata"]["namespace"] = json!("train");
    eventually(PATIENCE, "a pod is let in", || async {
        apply(admin, first.clone()).await.map(drop)
    })
    .await
    .unwrap();
    scene.plane.tenant("alice", "train", "edit").await.unwrap();
    still_refuses(&scene, "at the start").await;
    works_on(&scene, "at the start").await;

    let tenants = Asking::start(&scene, "alice", of_tenants());
    scene.kill_controller();
    webhook.program.kill();
    works_on(&scene, "with nobody of ours alive").await;
    upgraded_and_restarted(&scene).await;
    tenants.none_went_wrong("while we were upgraded and restarted").await;

    for server in scene.plane.api_servers() {
        server.stop().await.unwrap();
    }
    for server in scene.plane.api_servers() {
        server.start().await.unwrap();
    }
    works_on(&scene, "after the API servers came back without us").await;
    still_refuses(&scene, "after the API servers came back without us").await;

    // In the wrong order: what our policies and conditions speak of goes first.
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    for definition in definitions.list_metadata(&ListParams::default()).await.unwrap().items {
        let name = definition.metadata.name.unwrap();
        if name.ends_with(".cloison.dev") {
            definitions.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }
    // With two API servers of different versions this was seen to take over a minute; why is not known.
    eventually(3 * PATIENCE, "the definitions are gone", || async {
        let left = definitions.list(&ListParams::default()).await.unwrap().items;
        let told = |it: &CustomResourceDefinition| format!("{:?} {:?}\n", it.metadata.name, it.status);
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.iter().map(told).collect::<String>())
        }
    })
    .await
    .unwrap();
    works_on(&scene, "without the definitions").await;
    still_refuses(&scene, "without the definitions").await;
    for server in scene.plane.api_servers() {
        server.stop().await.unwrap();
        server.start().await.unwrap();
    }
    works_on(&scene, "without the definitions, after another start").await;
    still_refuses(&scene, "without the definitions, after another start").await;

    // A namespace ends, with the deny that nobody lifts any more.
    operator::policy(admin, "ends", names::DENY_POLICY).await;
    ends(admin, "ends").await;

    // The programs go first, and then the garbage collector takes the rest in an order of its own: at no moment is anything
    // refused that a cluster lives on.
    let vital = vital()
        .into_iter()
        .map(|(path, body)| Asked::passes("POST", path, body));
    let goes_on = Asking::start(&scene, "root", vital.collect());
    operator::helm(&scene.plane, &["uninstall", "cloison"]);
    eventually(
        PATIENCE,
        "policies, bindings and webhooks go with the chart",
        || async {
            let left = [
                count::<ValidatingAdmissionPolicy>(admin).await,
                count::<ValidatingAdmissionPolicyBinding>(admin).await,
                count::<ValidatingWebhookConfiguration>(admin).await,
            ];
            if left == [0, 0, 0] {
                Ok(())
            } else {
                Err(format!("{left:?} left"))
            }
        },
    )
    .await
    .unwrap();
    goes_on.none_went_wrong("during the uninstallation").await;
    works_on(&scene, "after the uninstallation").await;
    // The deny stays, and holds nobody up.
    operator::policy(admin, "train", names::DENY_POLICY).await;
    ends(admin, "train").await;
}
