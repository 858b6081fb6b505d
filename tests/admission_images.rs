//! `cloison-pod` on a real API server: where images come from, and whether they are pinned.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use common::*;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

async fn cluster() -> &'static Cluster {
    let policy = spec(json!({"pods": {
        "images": [
            {"prefix": "registry.example.com/train"},
            {"prefix": "registry.example.com/train/tools", "digest": "Optional"},
            {"prefix": "mirror.example.com:5000"},
            {"prefix": "docker.io/library", "stages": ["Training"]},
            {"prefix": "ghcr.io/pinned", "digest": "Required"},
        ],
        "addCapabilities": [{"capability": "IPC_LOCK", "stages": ["Training"]}, {"capability": "SYS_NICE"}],
        "inlineCSIDrivers": ["secrets-store.csi.k8s.io"],
    }}));
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], policy))
        .await
}

/// A tenant with `edit` in a sealed namespace of its own.
async fn tenant(namespace: &str, stage: &str, open: &str) -> (&'static Cluster, Client) {
    let cluster = cluster().await;
    cluster.stage_namespace(namespace, stage, Some("enforce"), open).await;
    (cluster, cluster.tenant("alice", namespace, "edit").await)
}

/// The spec of the one container.
fn container(change: Value) -> Value {
    let main = json!({"name": "main", "image": format!("registry.example.com/train/app@{}", digest())});
    json!({"spec": {"containers": [with(main, change)]}})
}

#[tokio::test]
async fn images_come_from_listed_registries_and_are_pinned() {
    let (cluster, alice) = tenant("images-infer", "inference", "default").await;
    let (_, bob) = tenant("images-train", "training", "default").await;
    let pinned = |name: &str| format!("{name}@{}", digest());
    // Image, what inference says, what training says.
    let rows = [
        (pinned("registry.example.com/train/app"), "", ""),
        (pinned("registry.example.com/train/app:v1"), "", ""),
        (pinned("registry.example.com/train"), "", ""),
        ("registry.example.com/train:v1".into(), "SUP-01/digest", ""),
        ("registry.example.com/train/app".into(), "SUP-01/digest", ""),
        ("registry.example.com/train/app@sha256:0".into(), "SUP-01/digest", ""),
        ("registry.example.com/train/tools/init:latest".into(), "", ""),
        (
            pinned("registry.example.com/trainer/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("registry.example.com/train-x"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("registry.example.com:5000/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("REGISTRY.example.com/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("evil.example/registry.example.com/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (pinned("mirror.example.com:5000/any/thing"), "", ""),
        (
            pinned("mirror.example.com:50001/any/thing"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("mirror.example.com/any/thing"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (pinned("nginx"), "SUP-01/registry", ""),
        ("nginx:1.27".into(), "SUP-01/registry", ""),
        (pinned("library/nginx"), "SUP-01/registry", ""),
        (pinned("docker.io/nginx"), "SUP-01/registry", ""),
        (pinned("docker.io/library/nginx"), "SUP-01/registry", ""),
        (pinned("index.docker.io/library/nginx"), "SUP-01/registry", ""),
        (pinned("bitnami/redis"), "SUP-01/registry", "SUP-01/registry"),
        (pinned("docker.io/bitnami/redis"), "SUP-01/registry", "SUP-01/registry"),
        ("ghcr.io/pinned/a:v1".into(), "SUP-01/digest", "SUP-01/digest"),
        (pinned("ghcr.io/pinned/a"), "", ""),
        (format!("ghcr.io/pinned/a@sha512:{}", "0".repeat(128)), "", ""),
        (
            "registry.example.com/train/a\nb".into(),
            "SUP-01/unreadable",
            "SUP-01/unreadable",
        ),
        (
            "registry.example.com/train/é".into(),
            "SUP-01/unreadable",
            "SUP-01/unreadable",
        ),
        // Hosts that look like others, or are none.
        (
            pinned("registry.example.com./train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("registry.example.com.evil.example/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("registry.examp1e.com/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("registry.еxample.com/train/app"),
            "SUP-01/unreadable",
            "SUP-01/unreadable",
        ),
        (
            pinned("user@registry.example.com/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            pinned("https://registry.example.com/train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (pinned("[::1]:5000/train/app"), "SUP-01/registry", "SUP-01/registry"),
        (pinned("localhost/train/app"), "SUP-01/registry", "SUP-01/registry"),
        (pinned("docker.io//nginx"), "SUP-01/registry", "SUP-01/registry"),
        (
            pinned("registry.example.com/../train/app"),
            "SUP-01/registry",
            "SUP-01/registry",
        ),
        (
            "registry.example.com/train/a b".into(),
            "SUP-01/unreadable",
            "SUP-01/unreadable",
        ),
        // No registry has such a path, and no runtime pulls it.
        (pinned("registry.example.com/train/../../evil/app"), "", ""),
        (pinned(&pinned("registry.example.com/train/app")), "", ""),
        // Digests are lower case, and at the end.
        (
            format!("registry.example.com/train/app@{}", digest().to_uppercase()),
            "SUP-01/digest",
            "",
        ),
        (
            format!("{}:v1", pinned("registry.example.com/train/app")),
            "SUP-01/digest",
            "",
        ),
        // Long ones, for the expressions that look for a name and a digest.
        (
            pinned(&format!("registry.example.com/train/{}", "a".repeat(100_000))),
            "",
            "",
        ),
        (
            format!("registry.example.com/train/{}", "@sha256:0".repeat(2_000)),
            "SUP-01/digest",
            "",
        ),
        (
            format!("registry.example.com/train/{}!", "a:/@[".repeat(2_000)),
            "SUP-01/unreadable",
            "SUP-01/unreadable",
        ),
    ];
    assert!(rows.len() > 40);
    // One so long that to quote it would cost more than the API server lets a message cost: refused without its rule.
    let endless = format!("registry.example.com/train/{}", "@sha256:0".repeat(20_000));
    let answer = try_create(
        &alice,
        with(pod("images-infer", "a"), container(json!({"image": endless}))),
    )
    .await;
    let said = format!("{:?}", answer.unwrap_err());
    assert!(
        said.contains("cloison-pod refused this request; run kubectl cloison why"),
        "{said:.500}"
    );
    for (image, inference, training) in &rows {
        for (client, namespace, rule) in [(&alice, "images-infer", inference), (&bob, "images-train", training)] {
            let answer = try_create(client, with(pod(namespace, "a"), container(json!({"image": image})))).await;
            if rule.is_empty() {
                assert!(answer.is_ok(), "{image:.90} in {namespace}: {answer:?}");
            } else {
                cluster.refused(answer, "cloison-pod", rule);
            }
        }
    }
}

#[tokio::test]
async fn every_place_that_takes_an_image_is_looked_at() {
    let (cluster, alice) = tenant("image-places", "inference", "default").await;
    let evil = format!("evil.example/a@{}", digest());
    let good = format!("registry.example.com/train/a@{}", digest());
    let places = |image: &str| {
        [
            container(json!({"image": image})),
            json!({"spec": {"initContainers": [{"name": "i", "image": image}]}}),
            json!({"spec": {"volumes": [{"name": "model", "image": {"reference": image}}]}}),
        ]
    };
    for change in places(&evil) {
        let answer = try_create(&alice, with(pod("image-places", "a"), change)).await;
        cluster.refused(answer, "cloison-pod", "SUP-01/registry");
    }
    for change in places(&good) {
        try_create(&alice, with(pod("image-places", "a"), change))
            .await
            .unwrap();
    }
    // Ephemeral containers come later, through a subresource that `edit` does not hold.
    create(&alice, pod("image-places", "running")).await.unwrap();
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.admin(), "image-places");
    let debug = async |container: Value| {
        let change = json!({"spec": {"ephemeralContainers": [with(json!({"name": "debug"}), container)]}});
        pods.patch_ephemeral_containers("running", &Default::default(), &kube::api::Patch::Strategic(change))
            .await
    };
    cluster.refused(debug(json!({"image": evil})).await, "cloison-pod", "SUP-01/registry");
    let privileged = json!({"image": good, "securityContext": {"privileged": true}});
    cluster.refused(debug(privileged).await, "cloison-pod", "WKL-01/privileged");
    debug(json!({"image": good})).await.unwrap();
}
