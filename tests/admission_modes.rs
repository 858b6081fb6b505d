//! The two axes of modes, and the ratchet: what an update may do to a pod that is older than the rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use common::*;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Patch;
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// The policy nobody configured.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

const BAD: &str = "WKL-01/host-pid";

fn bad(namespace: &str) -> Value {
    with(pod(namespace, "bad"), json!({"spec": {"hostPID": true}}))
}

async fn set_mode(cluster: &Cluster, namespace: &str, mode: Value) {
    let change = json!({"metadata": {"labels": {"cloison.dev/mode": mode}}});
    patch(&cluster.admin(), "v1", "Namespace", None, namespace, change)
        .await
        .unwrap();
}

/// The warnings of a dry-run creation.
async fn warnings(client: &Client, pod: &Value) -> Vec<String> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap();
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(pod).unwrap().into())
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert!(response.status().is_success(), "{:?}", response.status());
    let headers = response.headers().get_all("warning");
    headers.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_namespace_picks_the_binding() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("modes", "inference", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "modes", "edit").await;
    cluster.refused(try_create(&alice, bad("modes")).await, "cloison-pod", BAD);
    try_create(&alice, pod("modes", "good")).await.unwrap();

    // `warn`: it passes, and the person hears why it would not.
    set_mode(cluster, "modes", json!("warn")).await;
    eventually_ok("warn lets it pass", async || try_create(&alice, bad("modes")).await).await;
    let heard = warnings(&alice, &bad("modes")).await;
    assert!(
        heard.iter().any(|w| w.contains("cloison-pod-warn") && w.contains(BAD)),
        "{heard:?}"
    );
    assert_eq!(warnings(&alice, &pod("modes", "good")).await, Vec::<String>::new());

    // No label: the policy's default, Audit. It passes in silence.
    set_mode(cluster, "modes", json!(null)).await;
    eventually_ok("the default is silent", async || {
        match warnings(&alice, &bad("modes")).await {
            heard if heard.is_empty() => Ok(()),
            heard => Err(format!("{heard:?}")),
        }
    })
    .await;

    // And back, and off again: nothing but the label decides, with no operator in sight.
    set_mode(cluster, "modes", json!("enforce")).await;
    eventually_refused(cluster, BAD, async || try_create(&alice, bad("modes")).await).await;
    set_mode(cluster, "modes", json!("audit")).await;
    eventually_ok("audit refuses nothing", async || try_create(&alice, bad("modes")).await).await;
}

/// In audit and warn the controller seals nothing, so nobody may be told to wait for a seal.
#[tokio::test]
async fn only_enforce_asks_for_the_seal() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    cluster
        .stage_namespace("seal-modes", "training", Some("warn"), "default")
        .await;
    let alice = cluster.tenant("alice", "seal-modes", "edit").await;
    let unsealed = json!({"metadata": {"annotations": {"cloison.dev/sealed": null, "cloison.dev/open": null}}});
    patch(&admin, "v1", "Namespace", None, "seal-modes", unsealed)
        .await
        .unwrap();
    eventually_ok("no warning without annotations", async || {
        match warnings(&alice, &pod("seal-modes", "a")).await {
            heard if heard.is_empty() => Ok(()),
            heard => Err(format!("{heard:?}")),
        }
    })
    .await;
    // Where the controller has said who exists, an unknown workload is worth a warning.
    let open = json!({"metadata": {"annotations": {"cloison.dev/open": "default"}}});
    patch(&cluster.operator().await, "v1", "Namespace", None, "seal-modes", open)
        .await
        .unwrap();
    let unknown = with(
        pod("seal-modes", "a"),
        json!({"metadata": {"labels": {"cloison.dev/workload": "nobody"}}}),
    );
    eventually_ok("the unknown workload is warned of", async || {
        match warnings(&alice, &unknown).await {
            heard if heard.iter().any(|w| w.contains("WKL-02/unknown")) => Ok(()),
            heard => Err(format!("{heard:?}")),
        }
    })
    .await;
    assert_eq!(warnings(&alice, &pod("seal-modes", "a")).await, Vec::<String>::new());
}

/// A control in mode Audit refuses nothing, whatever the namespace: the weaker of both holds.
#[tokio::test]
async fn the_weaker_of_both_axes_holds() {
    let cluster = cluster().await;
    let unpinned = |namespace: &str| {
        with(
            pod(namespace, "a"),
            json!({"spec": {"containers": [{"name": "main", "image": "nginx:1"}]}}),
        )
    };
    cluster
        .stage_namespace("axis-train", "training", Some("enforce"), "default")
        .await;
    cluster
        .stage_namespace("axis-infer", "inference", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "axis-train", "edit").await;
    let bob = cluster.tenant("bob", "axis-infer", "edit").await;
    // SUP-01 is Enforce for inference and Audit for training.
    try_create(&alice, unpinned("axis-train")).await.unwrap();
    cluster.refused(
        try_create(&bob, unpinned("axis-infer")).await,
        "cloison-pod",
        "SUP-01/digest",
    );
    // Beside a rule that is Enforce, only that one is named.
    let both = with(unpinned("axis-train"), json!({"spec": {"hostPID": true}}));
    let said = cluster.refused(try_create(&alice, both).await, "cloison-pod", BAD);
    assert!(!said.contains("SUP-01"), "{said}");
}

#[tokio::test]
async fn an_old_pod_can_be_updated_and_never_made_worse() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("old", "inference", Some("audit"), "default")
        .await;
    let alice = cluster.tenant("alice", "old", "edit").await;
    let admin = cluster.admin();
    let pinned = |name: &str| format!("registry.example.com/{name}@{}", digest());
    let old = json!({
        "metadata": {"finalizers": ["example.com/hold"]},
        "spec": {"hostPID": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "main", "image": "nginx:1", "securityContext": {"privileged": true}}]},
    });
    create(&alice, with(pod("old", "bad"), old)).await.unwrap();
    set_mode(cluster, "old", json!("enforce")).await;
    eventually_refused(cluster, BAD, async || try_create(&alice, bad("old")).await).await;

    let change = async |client: &Client, change: Value| patch(client, "v1", "Pod", Some("old"), "bad", change).await;
    let set_image = async |image: &str| {
        let change = json!({"spec": {"containers": [{"name": "main", "image": image}]}});
        objects(&alice, "v1", "Pod", Some("old"))
            .patch("bad", &Default::default(), &Patch::Strategic(change))
            .await
    };
    // What controllers and people do to a pod all day.
    change(
        &alice,
        json!({"metadata": {"labels": {"app": "x"}, "annotations": {"a": "b"}}}),
    )
    .await
    .unwrap();
    change(&alice, json!({"spec": {"activeDeadlineSeconds": 3600}}))
        .await
        .unwrap();
    patch_status(
        &admin,
        "v1",
        "Pod",
        Some("old"),
        "bad",
        json!({"status": {"phase": "Running"}}),
    )
    .await
    .unwrap();
    change(&admin, json!({"metadata": {"ownerReferences": []}}))
        .await
        .unwrap();
    // A pinned image is better, another tag is not.
    set_image(&pinned("app")).await.unwrap();
    cluster.refused(set_image("nginx:2").await, "cloison-pod", "SUP-01/digest");
    let annotation =
        json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}}});
    match change(&alice, annotation).await {
        // Newer API servers may refuse the change of the annotation themselves.
        Err(Error::Api(status)) if status.code == 422 => {}
        answer => drop(cluster.refused(answer, "cloison-pod", "WKL-01/apparmor")),
    }
    // And its end: deletion, then the finalizer.
    delete(&alice, "v1", "Pod", Some("old"), "bad").await.unwrap();
    change(&alice, json!({"metadata": {"finalizers": null}})).await.unwrap();
}

#[tokio::test]
async fn the_workload_label_is_set_once() {
    let cluster = cluster().await;
    cluster
        .stage_namespace(
            "frozen",
            "training",
            Some("enforce"),
            "default road-train face-id:EVD-02",
        )
        .await;
    let alice = cluster.tenant("alice", "frozen", "edit").await;
    // Someone with a role that reaches statuses, which `edit` does not.
    cluster
        .grant_user(
            "mallory",
            json!([{"apiGroups": [""], "resources": ["pods", "pods/status"], "verbs": ["get", "patch", "update"]}]),
        )
        .await;
    let mallory = cluster.plane.client_as("mallory", &[]).unwrap();
    create(&alice, pod("frozen", "a")).await.unwrap();
    let label = |value: Value| json!({"metadata": {"labels": {"cloison.dev/workload": value}}});
    let set = async |value: Value| patch(&alice, "v1", "Pod", Some("frozen"), "a", label(value)).await;
    let through_status =
        async |value: Value| patch_status(&mallory, "v1", "Pod", Some("frozen"), "a", label(value)).await;

    // Into a workload that does not exist, or whose gate is closed: no, as at creation.
    cluster.refused(set(json!("nobody")).await, "cloison-pod", "WKL-02/unknown");
    cluster.refused(set(json!("")).await, "cloison-pod", "WKL-02/unknown");
    cluster.refused(set(json!("face-id")).await, "cloison-pod", "WKL-02/gated");
    eventually_ok("the role reaches mallory", async || {
        patch_status(
            &mallory,
            "v1",
            "Pod",
            Some("frozen"),
            "a",
            json!({"status": {"message": "hello"}}),
        )
        .await
    })
    .await;
    cluster.refused(through_status(json!("face-id")).await, "cloison-pod", "WKL-02/gated");
    // Once is fine, so that a running pod need not restart; then never again, in one step or in two.
    set(json!("road-train")).await.unwrap();
    for value in [json!("default"), json!(null), json!("")] {
        cluster.refused(set(value.clone()).await, "cloison-pod", "WKL-02/frozen");
        cluster.refused(through_status(value).await, "cloison-pod", "WKL-02/frozen");
    }
    set(json!("road-train")).await.unwrap();
    patch(
        &alice,
        "v1",
        "Pod",
        Some("frozen"),
        "a",
        json!({"metadata": {"labels": {"app": "x"}}}),
    )
    .await
    .unwrap();
}

/// A Job that comes too early is retried by its controller and then succeeds.
#[tokio::test]
async fn a_job_outlives_the_wait_for_the_seal() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("early", "training", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "early", "edit").await;
    let unsealed = json!({"metadata": {"annotations": {"cloison.dev/sealed": null}}});
    patch(&cluster.admin(), "v1", "Namespace", None, "early", unsealed)
        .await
        .unwrap();
    eventually_refused(cluster, "NET-01/seal", async || {
        try_create(&alice, pod("early", "a")).await
    })
    .await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "trainer:1"}]}});
    create(
        &alice,
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "early"},
               "spec": {"backoffLimit": 0, "template": template}}),
    )
    .await
    .unwrap();
    let events = objects(&alice, "v1", "Event", Some("early"));
    cloison_testbed::eventually(SOON, "the job controller is refused", async || {
        let events = events.list(&Default::default()).await.map_err(|e| e.to_string())?;
        let refused = |e: &&kube::api::DynamicObject| {
            e.data["message"]
                .as_str()
                .is_some_and(|m| m.contains("namespace early is being sealed"))
        };
        events
            .iter()
            .find(refused)
            .map(drop)
            .ok_or_else(|| "no such event".to_owned())
    })
    .await
    .unwrap();
    cluster.seal("early", "training", "default").await;
    let pods: Api<Pod> = Api::namespaced(alice, "early");
    cloison_testbed::eventually(SOON * 2, "the job has its pod", async || {
        match pods.list(&Default::default()).await {
            Ok(list) if list.items.len() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}
