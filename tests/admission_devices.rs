//! `cloison-pod` on a real API server: accelerators that nobody asked for, places and priorities past the scheduler,
//! networks that no policy sees, and how credentials come in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use common::*;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-pod";
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
const GKE: &str = "networking.gke.io/interfaces";

/// Built-in modes; networks that are dedicated to stages.
async fn cluster() -> &'static Cluster {
    let policy = spec(json!({"network": {"dedicatedInterfaces": [
        {"name": "storage", "networkAttachment": "fabric/storage", "stages": ["Training"]},
        {"name": "serving", "networkAttachment": "fabric/serving", "stages": ["Inference"]},
        {"name": "own", "networkAttachment": "nets/own", "stages": ["Training", "Inference"]},
    ]}}));
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], policy))
        .await
}

async fn tenant(namespace: &str, stage: &str) -> (&'static Cluster, Client) {
    let cluster = cluster().await;
    cluster
        .stage_namespace(namespace, stage, Some("enforce"), "default")
        .await;
    (cluster, cluster.tenant("alice", namespace, "edit").await)
}

/// The spec of the one container.
fn container(change: Value) -> Value {
    let main = json!({"name": "main", "image": format!("registry.example.com/train/app@{}", digest())});
    json!({"spec": {"containers": [with(main, change)]}})
}

#[tokio::test]
async fn no_variable_takes_devices_that_were_not_requested() {
    let (cluster, alice) = tenant("visible", "training").await;
    let variable = |value: Value| json!({"env": [{"name": "A", "value": "b"}, with(json!({"name": "NVIDIA_VISIBLE_DEVICES"}), value)]});
    let all = || variable(json!({"value": "all"}));
    let limits = |limits: Value| json!({"resources": {"limits": limits}});
    let claims = json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]}});
    for fine in [
        container(variable(json!({"value": "void"}))),
        container(variable(json!({"value": "none"}))),
        container(variable(json!({"value": ""}))),
        container(with(all(), limits(json!({"nvidia.com/gpu": 1})))),
        container(with(all(), limits(json!({"nvidia.com/mig-1g.5gb": 2})))),
        with(
            container(with(all(), json!({"resources": {"claims": [{"name": "gpu"}]}}))),
            claims,
        ),
        container(json!({"env": [{"name": "CUDA_VISIBLE_DEVICES", "value": "0"}]})),
    ] {
        try_create(&alice, with(pod("visible", "a"), fine.clone()))
            .await
            .unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
    let from_map = json!({"valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}});
    for broken in [
        all(),
        variable(json!({"value": "0"})),
        variable(json!({"value": "$(A)"})),
        variable(from_map),
        with(all(), limits(json!({"cpu": 1}))),
        with(all(), limits(json!({"nvidia.com/gpu": 0}))),
        with(all(), limits(json!({"nvidia.com/hostdev": 1}))),
    ] {
        let broken = container(broken);
        let mut first = with(pod("visible", "a"), broken.clone());
        let answer = try_create(&alice, first.clone()).await;
        let said = cluster.refused(answer, POLICY, "WKL-04/visible-devices");
        assert!(
            said.contains("without a request of a device: container \"main\""),
            "{said}"
        );
        // Another container's request is not this one's.
        let mut init = first["spec"]["containers"][0].clone();
        init["name"] = json!("init");
        first["spec"]["initContainers"] = json!([init]);
        first["spec"]["containers"] = container(limits(json!({"nvidia.com/gpu": 1})))["spec"]["containers"].clone();
        cluster.refused(try_create(&alice, first).await, POLICY, "WKL-04/visible-devices");
    }
}

#[tokio::test]
async fn nobody_places_a_pod_past_the_scheduler() {
    let (cluster, alice) = tenant("placed", "inference").await;
    let on_node = with(pod("placed", "a"), json!({"spec": {"nodeName": "n-1"}}));
    let chosen = with(pod("placed", "a"), json!({"spec": {"nodeSelector": {"gpu": "yes"}}}));
    try_create(&alice, chosen).await.unwrap();
    let said = cluster.refused(try_create(&alice, on_node.clone()).await, POLICY, "WKL-04/node-name");
    assert!(said.contains("the pod names node \"n-1\" itself"), "{said}");
    // A controller does what a tenant's template says.
    let controller = cluster
        .plane
        .service_account("kube-system", "daemon-set-controller")
        .await
        .unwrap();
    try_create(&controller, pod("placed", "a")).await.unwrap();
    cluster.refused(
        try_create(&controller, on_node.clone()).await,
        POLICY,
        "WKL-04/node-name",
    );

    // A kubelet shows its static pods; the name alone, or the group alone, makes no kubelet.
    let rights = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    for user in ["system:node:n-1", "not-a-node"] {
        cluster.grant_user(user, rights.clone()).await;
    }
    let node = apply(
        &cluster.admin(),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n-1"}}),
    )
    .await;
    let owner =
        json!({"apiVersion": "v1", "kind": "Node", "name": "n-1", "uid": node.metadata.uid, "controller": true});
    let mirror = with(
        on_node,
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]},
               "spec": {"automountServiceAccountToken": false}}),
    );
    let client = |user: &str, groups: &[&str]| cluster.plane.client_as(user, groups).unwrap();
    let kubelet = client("system:node:n-1", &["system:nodes"]);
    eventually_ok("a mirror pod", async || try_create(&kubelet, mirror.clone()).await).await;
    for (user, groups) in [("system:node:n-1", &[][..]), ("not-a-node", &["system:nodes"])] {
        let answer = try_create(&client(user, groups), mirror.clone()).await;
        cluster.refused(answer, POLICY, "WKL-04/node-name");
    }
}

#[tokio::test]
async fn nobody_takes_the_priority_of_the_system() {
    let (cluster, alice) = tenant("priority", "training").await;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"}, "value": 7});
    apply(&cluster.admin(), class).await;
    let of = |class: &str| with(pod("priority", "a"), json!({"spec": {"priorityClassName": class}}));
    eventually_ok("the class arrives", async || try_create(&alice, of("batch")).await).await;
    for class in ["system-node-critical", "system-cluster-critical"] {
        let said = cluster.refused(try_create(&alice, of(class)).await, POLICY, "ECO-01/system-priority");
        assert!(said.contains(&format!("PriorityClass {class}")), "{said}");
    }
}

#[tokio::test]
async fn only_networks_of_the_stage_are_attached() {
    let (cluster, alice) = tenant("nets", "training").await;
    let annotated = |key: &str, says: &str| with(pod("nets", "a"), json!({"metadata": {"annotations": {key: says}}}));
    for (key, fine) in [
        (NETWORKS, ""),
        (NETWORKS, " "),
        (NETWORKS, "fabric/storage"),
        (NETWORKS, "own"),
        (NETWORKS, " own , fabric/storage@net1\n"),
        (NETWORKS, "[]"),
        (NETWORKS, r#"[{"name": "own"}]"#),
        (
            NETWORKS,
            "[\n  {\"name\": \"storage\", \"namespace\": \"fabric\", \"interface\": \"net1\"},\n  {\"name\": \"own\"}\n]",
        ),
        (DEFAULT_NETWORK, "fabric/storage"),
        (
            GKE,
            r#"[{"interfaceName": "eth0", "network": "default"}, {"interfaceName": "eth1", "network": "own"}]"#,
        ),
        ("example.com/other", "fabric/fast"),
    ] {
        try_create(&alice, annotated(key, fine))
            .await
            .unwrap_or_else(|error| panic!("{key} {fine}: {error}"));
    }
    let unreadable = |key: &str| format!("what annotation {key} says, which cannot be read here");
    for (key, broken, named) in [
        (NETWORKS, "fast", "nets/fast".to_owned()),
        (NETWORKS, "storage", "nets/storage".to_owned()),
        (NETWORKS, "fabric/storage,fabric/fast@net2", "fabric/fast".to_owned()),
        // Another stage's.
        (NETWORKS, "fabric/serving", "fabric/serving".to_owned()),
        (NETWORKS, r#"[{"name": "storage"}]"#, "nets/storage".to_owned()),
        (
            NETWORKS,
            r#"[{"name":"own"},{"name":"fast","namespace":"fabric"}]"#,
            "fabric/fast".to_owned(),
        ),
        // Read otherwise by who attaches: a second name, names in other letters, and what is escaped.
        (NETWORKS, r#"[{"name":"own","name":"fast"}]"#, unreadable(NETWORKS)),
        (NETWORKS, r#"[{"name":"own","Name":"fast"}]"#, unreadable(NETWORKS)),
        (NETWORKS, r#"[{"name":"own","n\u0061me":"fast"}]"#, unreadable(NETWORKS)),
        (
            NETWORKS,
            r#"[{"name":"storage","namespace":"fabric","namespace":"x"}]"#,
            unreadable(NETWORKS),
        ),
        (
            NETWORKS,
            r#"[{"name":"own","cni-args":{"a":"b"}}]"#,
            unreadable(NETWORKS),
        ),
        (NETWORKS, r#"[{"name":"own"}"#, unreadable(NETWORKS)),
        (NETWORKS, r#"[{"network":"own"}]"#, unreadable(NETWORKS)),
        (DEFAULT_NETWORK, "kube-system/other", "kube-system/other".to_owned()),
        (
            GKE,
            r#"[{"interfaceName":"eth1","network":"blue"}]"#,
            "nets/blue".to_owned(),
        ),
        (GKE, "own", unreadable(GKE)),
    ] {
        let answer = try_create(&alice, annotated(key, broken)).await;
        let said = cluster.refused(answer, POLICY, "NET-11/secondary-network");
        assert!(
            said.contains(&format!("networks that no NetworkPolicy sees: {named}; ")),
            "{broken}: {said}"
        );
    }

    // An annotation may come later.
    create(&alice, annotated(NETWORKS, "own")).await.unwrap();
    let edit = async |change: Value| patch(&alice, "v1", "Pod", Some("nets"), "a", change).await;
    let annotate = |says: &str| json!({"metadata": {"annotations": {NETWORKS: says}}});
    cluster.refused(edit(annotate("fabric/fast")).await, POLICY, "NET-11/secondary-network");
    edit(annotate("fabric/storage")).await.unwrap();
    edit(json!({"metadata": {"annotations": {NETWORKS: null}}}))
        .await
        .unwrap();
}

/// What was there before the rules may stay.
#[tokio::test]
async fn an_old_pod_keeps_its_networks() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("nets-old", "training", Some("audit"), "default")
        .await;
    let alice = cluster.tenant("alice", "nets-old", "edit").await;
    let old = |name: &str| {
        with(
            pod("nets-old", name),
            json!({"metadata": {"annotations": {NETWORKS: "fast"}}}),
        )
    };
    create(&alice, old("a")).await.unwrap();
    let enforce = json!({"metadata": {"labels": {"cloison.dev/mode": "enforce"}}});
    patch(&cluster.admin(), "v1", "Namespace", None, "nets-old", enforce)
        .await
        .unwrap();
    eventually_refused(cluster, "NET-11/secondary-network", async || {
        try_create(&alice, old("b")).await
    })
    .await;
    let label = json!({"metadata": {"labels": {"team": "vision"}}});
    patch(&alice, "v1", "Pod", Some("nets-old"), "a", label).await.unwrap();
}

/// What is only reported by the built-in modes is refused where the policy says so itself, and there alone.
#[tokio::test]
async fn the_policys_own_word_refuses_more() {
    let built_in = spec(json!({"network": {"mesh": "Istio"}}));
    let cluster = Cluster::start(vec![Default::default()], built_in).await;
    for (namespace, stage) in [("serve", "inference"), ("train", "training")] {
        cluster
            .stage_namespace(namespace, stage, Some("enforce"), "default")
            .await;
    }
    let (serve, train) = (
        cluster.tenant("alice", "serve", "edit").await,
        cluster.tenant("alice", "train", "edit").await,
    );
    let variable = json!({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}});
    let fields = json!({"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}});
    let annotation = |key: &str, value: &str| json!({"metadata": {"annotations": {key: value}}});
    let rows = [
        (
            "ENC-04/reference",
            container(json!({"env": [{"name": "A", "value": "b"}, fields, variable]})),
            "container \"main\" HF_TOKEN; ",
        ),
        (
            "ENC-04/env-from",
            container(json!({"envFrom": [{"secretRef": {"name": "hf"}}]})),
            "an environment out of a Secret: container \"main\"",
        ),
        (
            "NET-11/steering-annotation",
            annotation("sidecar.istio.io/inject", "false"),
            "sidecar.istio.io/inject=false",
        ),
        (
            "NET-11/steering-annotation",
            annotation("traffic.sidecar.istio.io/excludeOutboundPorts", "443"),
            "excludeOutboundPorts=443",
        ),
        (
            "NET-11/steering-annotation",
            annotation("cni.projectcalico.org/ipAddrsNoIpam", "[\"10.0.0.9\"]"),
            "ipAddrsNoIpam=",
        ),
        (
            "WKL-04/shared-request",
            container(json!({"resources": {"limits": {"nvidia.com/gpu.shared": 1}}})),
            "devices that containers take turns on: container \"main\"",
        ),
    ];
    let fine = [
        container(json!({"env": [fields], "envFrom": [{"configMapRef": {"name": "m"}}]})),
        annotation("sidecar.istio.io/inject", "true"),
        annotation("linkerd.io/inject", "disabled"),
        container(json!({"resources": {"limits": {"nvidia.com/gpu": 1}}})),
        json!({"spec": {"serviceAccountName": "default"}}),
    ];
    for (_, change, _) in &rows {
        try_create(&serve, with(pod("serve", "a"), change.clone()))
            .await
            .unwrap();
    }
    let inference = json!({"inference": "Enforce"});
    let ids = ["ENC-04", "NET-11", "WKL-04"];
    let said = ids.map(|id| json!({"id": id, "perStage": inference}));
    let policy = json!({"network": {"mesh": "Istio"}, "controls": said});
    cluster.replace_policy(spec(policy)).await;
    for (rule, change, words) in rows {
        let answer = try_create(&serve, with(pod("serve", "a"), change.clone())).await;
        let said = cluster.refused(answer, POLICY, rule);
        assert!(said.contains(words), "{said}");
        // Nobody said it of training.
        try_create(&train, with(pod("train", "a"), change)).await.unwrap();
    }
    for change in fine {
        try_create(&serve, with(pod("serve", "a"), change)).await.unwrap();
    }
    // The same rules for who runs first.
    let init = json!({"spec": {"initContainers": [{"name": "init", "image": format!("registry.example.com/train/app@{}", digest()),
                                                   "envFrom": [{"secretRef": {"name": "hf"}}]}]}});
    cluster.refused(
        try_create(&serve, with(pod("serve", "a"), init)).await,
        POLICY,
        "ENC-04/env-from",
    );
}
