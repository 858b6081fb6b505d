//! `cloison-namespace` on a real API server: who says which stage a namespace has, and who writes its seal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use cloison_testbed::ApiServerOptions;
use common::*;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-namespace";
const STAGE: &str = "cloison.dev/stage";
const MODE: &str = "cloison.dev/mode";
const SEALED: &str = "cloison.dev/sealed";
const OPEN: &str = "cloison.dev/open";
const LEVEL: &str = "pod-security.kubernetes.io/enforce";
const VERSION: &str = "pod-security.kubernetes.io/enforce-version";
/// Since 1.34, and before.
const ADMIN_ACCESS: [&str; 2] = ["resource.kubernetes.io/admin-access", "resource.k8s.io/admin-access"];

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

/// Someone who may write namespaces, as self-service portals let people do, and holds no verb of ours.
async fn mallory(cluster: &Cluster) -> Client {
    let namespaces = json!({"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
                            "verbs": ["get", "create", "update", "patch"]});
    cluster.grant_user("mallory", json!([namespaces])).await;
    ready(cluster.plane.client_as("mallory", &[]).unwrap()).await
}

/// The same with the verb `assign` on `stages`.
async fn onboarder(cluster: &Cluster) -> Client {
    let namespaces =
        json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "update", "patch"]});
    let assign = json!({"apiGroups": ["cloison.dev"], "resources": ["stages"], "verbs": ["assign"]});
    cluster.grant_user("onboarder", json!([namespaces, assign])).await;
    ready(cluster.plane.client_as("onboarder", &[]).unwrap()).await
}

async fn ready(client: Client) -> Client {
    let namespaces = objects(&client, "v1", "Namespace", None);
    eventually_ok("the role arrives", async || namespaces.get("default").await).await;
    client
}

fn namespace(name: &str, labels: Value, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels, "annotations": annotations}})
}

async fn change(client: &Client, name: &str, metadata: Value) -> Answered {
    patch(client, "v1", "Namespace", None, name, json!({"metadata": metadata})).await
}

#[tokio::test]
async fn only_who_may_assign_stages_sets_changes_or_removes_the_labels() {
    let cluster = cluster().await;
    let (mallory, onboarder) = (mallory(cluster).await, onboarder(cluster).await);
    let new = |labels: Value| namespace("assign", labels, json!({}));
    cluster.refused(
        create(&mallory, new(json!({STAGE: "training"}))).await,
        POLICY,
        "NET-02/stage-label",
    );
    create(&onboarder, new(json!({STAGE: "training"}))).await.unwrap();
    // What guards nothing is free.
    change(
        &mallory,
        "assign",
        json!({"labels": {"team": "vision"}, "annotations": {"a": "b"}}),
    )
    .await
    .unwrap();

    let attempts = [
        (json!({"labels": {STAGE: "inference"}}), "NET-02/stage-label"),
        (json!({"labels": {STAGE: null}}), "NET-02/stage-label"),
        (json!({"labels": {MODE: "audit"}}), "NET-02/mode-label"),
        // E1: one patch that drops the label by which a namespaceSelector would find the namespace, and changes another.
        (json!({"labels": {STAGE: null, MODE: "audit"}}), "NET-02/mode-label"),
    ];
    for (metadata, rule) in &attempts {
        cluster.refused(change(&mallory, "assign", metadata.clone()).await, POLICY, rule);
        // The subresources carry labels too.
        let whole = json!({"metadata": metadata});
        let answer = patch_status(&mallory, "v1", "Namespace", None, "assign", whole.clone()).await;
        cluster.refused(answer, POLICY, rule);
        cluster.refused(finalize(&mallory, "assign", metadata).await, POLICY, rule);
    }
    // The operator holds no such verb either: it writes annotations.
    cluster.refused(
        change(&cluster.operator().await, "assign", json!({"labels": {MODE: "audit"}})).await,
        POLICY,
        "NET-02/mode-label",
    );
    change(&onboarder, "assign", json!({"labels": {MODE: "warn"}}))
        .await
        .unwrap();
    change(&onboarder, "assign", json!({"labels": {STAGE: "inference"}}))
        .await
        .unwrap();
    change(&onboarder, "assign", json!({"labels": {STAGE: null}}))
        .await
        .unwrap();
    change(&onboarder, "assign", json!({"labels": {STAGE: "training"}}))
        .await
        .unwrap();
}

/// `PUT` of the subresource `finalize` with changed labels.
async fn finalize(client: &Client, name: &str, metadata: &Value) -> Answered {
    let current = objects(client, "v1", "Namespace", None).get(name).await.unwrap();
    let mut whole = serde_json::to_value(&current).unwrap();
    for (key, value) in metadata["labels"].as_object().unwrap() {
        match value {
            Value::Null => drop(whole["metadata"]["labels"].as_object_mut().unwrap().remove(key)),
            value => whole["metadata"]["labels"][key] = value.clone(),
        }
    }
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&whole).unwrap())
        .unwrap();
    client.request(request).await
}

#[tokio::test]
async fn a_value_that_means_nothing_is_refused_even_to_an_admin() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let new = |labels: Value| namespace("values", labels, json!({}));
    for stage in ["Training", "train", ""] {
        cluster.refused(
            create(&admin, new(json!({STAGE: stage}))).await,
            POLICY,
            "NET-02/unknown-stage",
        );
    }
    cluster.refused(
        create(&admin, new(json!({STAGE: "shared", MODE: "Enforce"}))).await,
        POLICY,
        "NET-02/mode-label",
    );
    create(&admin, new(json!({STAGE: "shared", MODE: "enforce"})))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_cluster_and_the_operator_never_get_a_stage() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    for name in ["kube-system", "kube-public", "kube-node-lease", "cloison-system"] {
        let answer = change(&admin, name, json!({"labels": {STAGE: "training"}})).await;
        cluster.refused(answer, POLICY, "NET-02/stage-label");
        change(&admin, name, json!({"labels": {"team": "platform"}}))
            .await
            .unwrap();
    }
    // Everything that keeps a cluster alive goes on there.
    try_create(
        &admin,
        with(pod("kube-system", "agent"), json!({"spec": {"hostNetwork": true}})),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn only_the_operator_writes_the_seal_and_the_open_list() {
    let cluster = cluster().await;
    let (mallory, onboarder, admin) = (mallory(cluster).await, onboarder(cluster).await, cluster.admin());
    let operator = cluster.operator().await;
    create(&onboarder, namespace("seal", json!({STAGE: "training"}), json!({})))
        .await
        .unwrap();
    let seal = json!(format!("{}/training", cluster.uid("seal").await));
    for (key, value) in [(SEALED, &seal), (OPEN, &json!("default"))] {
        for client in [&mallory, &onboarder, &admin] {
            let answer = change(client, "seal", json!({"annotations": {key: value}})).await;
            cluster.refused(answer, POLICY, "CLU-04/annotation");
            let through_status = json!({"metadata": {"annotations": {key: value}}});
            let answer = patch_status(&admin, "v1", "Namespace", None, "seal", through_status).await;
            cluster.refused(answer, POLICY, "CLU-04/annotation");
        }
        change(&operator, "seal", json!({"annotations": {key: value}}))
            .await
            .unwrap();
        // Others may keep writing what is not ours, and may not touch ours.
        change(&mallory, "seal", json!({"annotations": {"a": key}}))
            .await
            .unwrap();
        cluster.refused(
            change(&mallory, "seal", json!({"annotations": {key: null}})).await,
            POLICY,
            "CLU-04/annotation",
        );
    }
    // Taking the seal off closes the gate, so who assigns stages may.
    change(&onboarder, "seal", json!({"annotations": {SEALED: null, OPEN: null}}))
        .await
        .unwrap();
}

/// A seal that is older than the guard: at creation, while the namespace had no stage, or of the stage that comes next.
#[tokio::test]
async fn a_seal_is_never_planted() {
    let cluster = cluster().await;
    let (mallory, onboarder) = (mallory(cluster).await, onboarder(cluster).await);
    let operator = cluster.operator().await;
    for annotations in [json!({SEALED: "x/training"}), json!({OPEN: "default"})] {
        let forged = namespace("planted", json!({STAGE: "training"}), annotations);
        cluster.refused(create(&onboarder, forged).await, POLICY, "CLU-04/annotation");
    }
    // Two steps: without a stage nothing guards the annotation, so the stage must not come onto it.
    create(&mallory, namespace("planted", json!({}), json!({})))
        .await
        .unwrap();
    let uid = cluster.uid("planted").await;
    for key in [SEALED, OPEN] {
        change(
            &mallory,
            "planted",
            json!({"annotations": {key: format!("{uid}/training")}}),
        )
        .await
        .unwrap();
        let answer = change(&onboarder, "planted", json!({"labels": {STAGE: "training"}})).await;
        cluster.refused(answer, POLICY, "CLU-04/annotation");
        let cleanly = json!({"labels": {STAGE: "training"}, "annotations": {key: null}});
        change(&onboarder, "planted", cleanly).await.unwrap();
        change(&onboarder, "planted", json!({"labels": {STAGE: null}}))
            .await
            .unwrap();
    }
    // From one stage to another.
    change(&onboarder, "planted", json!({"labels": {STAGE: "training"}}))
        .await
        .unwrap();
    change(
        &operator,
        "planted",
        json!({"annotations": {SEALED: format!("{uid}/inference")}}),
    )
    .await
    .unwrap();
    let answer = change(&onboarder, "planted", json!({"labels": {STAGE: "inference"}})).await;
    cluster.refused(answer, POLICY, "CLU-04/annotation");
    change(
        &operator,
        "planted",
        json!({"annotations": {SEALED: format!("{uid}/training")}}),
    )
    .await
    .unwrap();
    change(&onboarder, "planted", json!({"labels": {STAGE: "inference"}}))
        .await
        .unwrap();
}

/// What Kubernetes itself refuses in a namespace of a stage is loosened only by who assigns stages.
#[tokio::test]
async fn pod_security_and_admin_access_are_loosened_only_by_who_may_assign_stages() {
    let cluster = cluster().await;
    let (mallory, onboarder) = (mallory(cluster).await, onboarder(cluster).await);
    let level = |word: Value| json!({"labels": {LEVEL: word}});
    // Where no stage is, the labels are whoever's the namespace is.
    create(&mallory, namespace("free", json!({LEVEL: "restricted"}), json!({})))
        .await
        .unwrap();
    change(&mallory, "free", level(json!("privileged"))).await.unwrap();
    change(&mallory, "free", json!({"labels": {ADMIN_ACCESS[0]: "true"}}))
        .await
        .unwrap();

    // A namespace begins with whatever level it has.
    for (name, word) in [("lower", "restricted"), ("begins", "privileged")] {
        create(
            &onboarder,
            namespace(name, json!({STAGE: "training", LEVEL: word}), json!({})),
        )
        .await
        .unwrap();
    }
    create(&onboarder, namespace("without", json!({STAGE: "inference"}), json!({})))
        .await
        .unwrap();
    let refused = async |name: &str, labels: Value, rule: &str| {
        let metadata = json!({"labels": labels});
        cluster.refused(change(&mallory, name, metadata.clone()).await, POLICY, rule);
        let whole = json!({"metadata": metadata});
        let answer = patch_status(&mallory, "v1", "Namespace", None, name, whole).await;
        cluster.refused(answer, POLICY, rule);
        cluster.refused(finalize(&mallory, name, &metadata).await, POLICY, rule);
    };
    let lowers = "WKL-01/pod-security-label";
    for word in [json!("baseline"), json!("privileged"), Value::Null] {
        refused("lower", json!({LEVEL: word}), lowers).await;
    }
    // Beside something else, and the same level written once more.
    refused("lower", json!({LEVEL: "baseline", "team": "vision"}), lowers).await;
    change(
        &mallory,
        "lower",
        json!({"labels": {LEVEL: "restricted", "team": "vision"}}),
    )
    .await
    .unwrap();
    change(&onboarder, "lower", level(json!("baseline"))).await.unwrap();
    for word in [json!("privileged"), Value::Null] {
        refused("lower", json!({LEVEL: word}), lowers).await;
    }
    change(&onboarder, "lower", level(Value::Null)).await.unwrap();
    // What stands in for a missing label is the cluster's default, which may be the highest.
    for word in ["privileged", "baseline"] {
        refused("without", json!({LEVEL: word}), lowers).await;
    }
    // Raising is free, from any level and from none.
    for (name, words) in [
        ("begins", ["privileged", "baseline", "restricted"].as_slice()),
        ("without", ["restricted"].as_slice()),
    ] {
        for word in words {
            change(&mallory, name, level(json!(word))).await.unwrap();
        }
    }
    // The levels of old versions ask for less.
    let version = |word: Value| json!({"labels": {VERSION: word}});
    refused("without", json!({VERSION: "v1.0"}), lowers).await;
    change(&mallory, "without", version(json!("latest"))).await.unwrap();
    refused("without", json!({VERSION: "v1.0"}), lowers).await;
    change(&onboarder, "without", version(json!("v1.30"))).await.unwrap();
    refused("without", json!({VERSION: "v1.29"}), lowers).await;
    change(
        &mallory,
        "without",
        json!({"labels": {VERSION: "v1.30", "team": "vision"}}),
    )
    .await
    .unwrap();
    change(&mallory, "without", version(Value::Null)).await.unwrap();
    // `privileged` asks for nothing, so nothing is lost with it.
    change(&onboarder, "lower", level(json!("privileged"))).await.unwrap();
    change(&mallory, "lower", level(Value::Null)).await.unwrap();

    for key in ADMIN_ACCESS {
        change(&mallory, "lower", json!({"labels": {key: "false"}}))
            .await
            .unwrap();
        refused("lower", json!({key: "true"}), "WKL-04/admin-access-label").await;
        change(&onboarder, "lower", json!({"labels": {key: "true"}}))
            .await
            .unwrap();
        change(
            &mallory,
            "lower",
            json!({"labels": {key: "true", "team": key.replace('/', ".")}}),
        )
        .await
        .unwrap();
        change(&mallory, "lower", json!({"labels": {key: null}})).await.unwrap();
        refused("lower", json!({key: "true"}), "WKL-04/admin-access-label").await;
    }
}

/// A word that is no level cannot be written where Kubernetes looks at it; where it is there all the same, Kubernetes takes it
/// for `restricted`, and written anew it is the least.
#[tokio::test]
async fn a_level_that_is_none_is_the_least_when_it_is_new_and_the_most_when_it_is_old() {
    let blind = ApiServerOptions {
        disable_admission_plugins: vec!["PodSecurity".to_owned()],
        ..ApiServerOptions::default()
    };
    let cluster = Cluster::start(vec![blind], spec(json!({}))).await;
    let (mallory, onboarder) = (mallory(&cluster).await, onboarder(&cluster).await);
    let level = |word: Value| json!({"labels": {LEVEL: word}});
    let rule = "WKL-01/pod-security-label";
    create(
        &onboarder,
        namespace("odd", json!({STAGE: "training", LEVEL: "Strict"}), json!({})),
    )
    .await
    .unwrap();
    for word in [
        json!("privileged"),
        json!("baseline"),
        json!("strict"),
        json!(""),
        Value::Null,
    ] {
        cluster.refused(change(&mallory, "odd", level(word)).await, POLICY, rule);
    }
    change(&mallory, "odd", json!({"labels": {LEVEL: "Strict", "team": "vision"}}))
        .await
        .unwrap();
    change(&mallory, "odd", level(json!("restricted"))).await.unwrap();
    for word in ["Restricted", ""] {
        cluster.refused(change(&mallory, "odd", level(json!(word))).await, POLICY, rule);
    }
    change(&onboarder, "odd", level(json!(""))).await.unwrap();
}

/// The namespace controller ends a namespace through `finalize`.
#[tokio::test]
async fn a_stage_namespace_can_be_deleted() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("ends", "training", Some("enforce"), "default")
        .await;
    let namespaces = objects(&cluster.admin(), "v1", "Namespace", None);
    namespaces.delete("ends", &Default::default()).await.unwrap();
    cloison_testbed::eventually(SOON * 2, "the namespace is gone", async || {
        match namespaces.get_opt("ends").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}
