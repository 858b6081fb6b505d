//! `cloison-pod` on a real API server: what a pod of a stage may not contain, said to a tenant with the stock role `edit`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use common::*;
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
        "addCapabilities": [{"capability": "IPC_LOCK", "stages": ["Training"]}, {"capability": "SYS_NICE"},
            // What Istio's init container has; its CNI plugin does without.
            {"capability": "NET_ADMIN", "stages": ["Training"]}, {"capability": "NET_RAW", "stages": ["Training"]}],
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

fn security(change: Value) -> Value {
    container(json!({"securityContext": change}))
}

#[tokio::test]
async fn no_pod_has_a_hold_on_its_node() {
    let (cluster, alice) = tenant("node-hold", "inference", "default").await;
    let volume = |source: Value| json!({"spec": {"volumes": [with(json!({"name": "v"}), source)]}});
    let probe = json!({"httpGet": {"port": 80, "host": "10.0.0.9"}});
    let rows = [
        ("WKL-01/privileged", security(json!({"privileged": true}))),
        ("WKL-01/host-network", json!({"spec": {"hostNetwork": true}})),
        ("WKL-01/host-pid", json!({"spec": {"hostPID": true}})),
        ("WKL-01/host-ipc", json!({"spec": {"hostIPC": true}})),
        ("WKL-01/host-path", volume(json!({"hostPath": {"path": "/dev/shm"}}))),
        (
            "WKL-01/host-port",
            container(json!({"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]})),
        ),
        (
            "WKL-01/capabilities",
            security(json!({"capabilities": {"add": ["CHOWN", "NET_ADMIN"]}})),
        ),
        (
            "WKL-01/capabilities",
            security(json!({"capabilities": {"add": ["ALL"]}})),
        ),
        // The list has it for training only.
        (
            "WKL-01/capabilities",
            security(json!({"capabilities": {"add": ["IPC_LOCK"]}})),
        ),
        (
            "WKL-01/proc-mount",
            with(
                security(json!({"procMount": "Unmasked"})),
                json!({"spec": {"hostUsers": false}}),
            ),
        ),
        (
            "WKL-01/seccomp-unconfined",
            security(json!({"seccompProfile": {"type": "Unconfined"}})),
        ),
        (
            "WKL-01/seccomp-unconfined",
            json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}),
        ),
        (
            "WKL-01/apparmor",
            security(json!({"appArmorProfile": {"type": "Unconfined"}})),
        ),
        (
            "WKL-01/apparmor",
            json!({"spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}),
        ),
        (
            "WKL-01/apparmor",
            json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}}}),
        ),
        ("WKL-01/selinux", security(json!({"seLinuxOptions": {"type": "spc_t"}}))),
        (
            "WKL-01/selinux",
            json!({"spec": {"securityContext": {"seLinuxOptions": {"user": "system_u"}}}}),
        ),
        (
            "WKL-01/selinux",
            security(json!({"seLinuxOptions": {"role": "sysadm_r"}})),
        ),
        (
            "WKL-01/sysctls",
            json!({"spec": {"securityContext": {"sysctls": [
            {"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": "net.core.somaxconn", "value": "9"}]}}}),
        ),
        (
            "WKL-01/windows-host-process",
            json!({"spec": {"os": {"name": "windows"}, "hostNetwork": true,
            "securityContext": {"windowsOptions": {"hostProcess": true, "runAsUserName": "NT AUTHORITY\\SYSTEM"}}}}),
        ),
        ("WKL-01/probe-host", container(json!({"readinessProbe": probe}))),
        (
            "WKL-01/probe-host",
            container(json!({"lifecycle": {"preStop": {"httpGet": {"port": 80, "host": "10.0.0.9"}}}})),
        ),
        (
            "WKL-01/volume-type",
            volume(json!({"nfs": {"server": "10.0.0.9", "path": "/"}})),
        ),
        (
            "WKL-01/volume-type",
            volume(json!({"iscsi": {"targetPortal": "10.0.0.9", "iqn": "iqn.2001-04.com.example:storage", "lun": 1}})),
        ),
        (
            "WKL-01/inline-csi",
            volume(json!({"csi": {"driver": "other.example.com"}})),
        ),
    ];
    try_create(&alice, pod("node-hold", "a")).await.unwrap();
    for (rule, change) in rows {
        let answer = try_create(&alice, with(pod("node-hold", "a"), change.clone())).await;
        cluster.refused(answer, "cloison-pod", rule);
        // The same in an init container, where the row is about containers.
        if let Some(containers) = change.pointer("/spec/containers") {
            let mut init = containers.clone();
            init[0]["name"] = json!("init");
            if init[0].get("readinessProbe").or(init[0].get("lifecycle")).is_some() {
                init[0]["restartPolicy"] = json!("Always");
            }
            let mut moved = with(pod("node-hold", "a"), json!({"spec": {"initContainers": init}}));
            if let Some(users) = change.pointer("/spec/hostUsers") {
                moved["spec"]["hostUsers"] = users.clone();
            }
            cluster.refused(try_create(&alice, moved).await, "cloison-pod", rule);
        }
    }
}

/// `reference/user-days.md` §3: what real workloads need.
#[tokio::test]
async fn real_workloads_live() {
    let (_, alice) = tenant("alive", "inference", "default").await;
    let volume = |source: Value| json!({"spec": {"volumes": [with(json!({"name": "v"}), source)]}});
    let changes = [
        volume(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}})),
        volume(json!({"persistentVolumeClaim": {"claimName": "models"}})),
        volume(json!({"csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}})),
        volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
        volume(
            json!({"ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}),
        ),
        container(
            json!({"env": [{"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "k"}}}]}),
        ),
        container(json!({"envFrom": [{"secretRef": {"name": "hf"}}]})),
        json!({"spec": {"serviceAccountName": "default", "automountServiceAccountToken": true}}),
        security(json!({"capabilities": {"add": ["SYS_NICE", "NET_BIND_SERVICE"], "drop": ["ALL"]}})),
        security(
            json!({"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"}, "procMount": "Default"}),
        ),
        security(json!({"seLinuxOptions": {"type": "container_t", "level": "s0:c1,c2"}})),
        security(json!({"runAsUser": 0})),
        json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "4096 131072 6291456"}]}}}),
        container(
            json!({"readinessProbe": {"httpGet": {"port": 80}}, "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}}),
        ),
        json!({"spec": {"nodeSelector": {"gpu": "yes"}, "tolerations": [{"operator": "Exists"}]}}),
    ];
    for change in changes {
        let answer = try_create(&alice, with(pod("alive", "a"), change.clone())).await;
        assert!(answer.is_ok(), "{change}: {answer:?}");
    }

    // A trainer over RDMA with shared memory, in a mesh.
    let (_, bob) = tenant("alive-train", "training", "default").await;
    let main = json!({"name": "main", "image": format!("registry.example.com/train/app@{}", digest()),
        "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
        "resources": {"limits": {"nvidia.com/gpu": "8", "rdma/hca_shared_devices_a": "1"}}});
    let init = json!({"name": "istio-init", "image": "docker.io/library/proxyv2:1.28",
        "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}, "runAsUser": 0}});
    let trainer = json!({"spec": {"initContainers": [init], "containers": [main],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}}]}});
    let answer = try_create(&bob, with(pod("alive-train", "a"), trainer)).await;
    assert!(answer.is_ok(), "{answer:?}");
}

/// Pods are stored as they are written: etcd encrypts Secrets alone.
#[tokio::test]
async fn a_token_that_is_written_out_is_refused_and_not_repeated() {
    let (cluster, alice) = tenant("in-sight", "training", "default").await;
    // Put together here: this file holds none.
    let hugging_face = format!("hf_{}", "qwertzuiopasdfghjklyxcvbnmQWERTZUI");
    let git_lab = format!("glpat-{}", "Qw3-Rt5_Zu7Io9Pa1Sd3");
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let bad = [
        container(
            json!({"env": [env("MODE", "fast"), env("HF_TOKEN", &hugging_face), env("OTHER", &format!("{git_lab}\n"))]}),
        ),
        with(
            container(json!({})),
            json!({"spec": {"initContainers": [{"name": "main", "image": format!("registry.example.com/train/app@{}", digest()),
                "env": [env("HF_TOKEN", &hugging_face), env("OTHER", &git_lab)]}]}}),
        ),
    ];
    for mut pod_of in bad {
        if pod_of["spec"]["initContainers"].is_array() {
            pod_of["spec"]["containers"][0]["name"] = json!("second");
        }
        let answer = try_create(&alice, with(pod("in-sight", "a"), pod_of)).await;
        let said = format!("{answer:?}");
        cluster.refused(answer, "cloison-pod", "ENC-04/literal");
        assert!(said.contains("container \\\"main\\\" HF_TOKEN OTHER; "), "{said}");
        assert!(
            !said.contains(&hugging_face[3..]) && !said.contains(&git_lab[6..]),
            "{said}"
        );
    }
    // One of each kind.
    let letters = |number: usize| "Ab2cDe3fGh4iJk5l".repeat(8)[..number].to_owned();
    let upper = |number: usize| letters(number).to_uppercase();
    let (digits, key) = ("1234567890", |start: &str, number: usize| {
        format!("{start}{}", letters(number))
    });
    let each = [
        key("AIza", 35),
        key("GOCSPX-", 28),
        key("gho_", 36),
        format!("{}_{}", key("github_pat_", 22), letters(59)),
        git_lab,
        hugging_face,
        format!("xoxb-{digits}-{}", letters(24)),
        key("sk-proj-", 48),
        format!("{}T3BlbkFJ{}", key("sk-", 20), letters(20)),
        key("sk-ant-api03-", 90),
        key("nvapi-", 64),
        key("hvs.", 24),
        format!("AGE-SECRET-KEY-1{}", upper(58)),
    ];
    let variables: Vec<Value> = (0..)
        .zip(&each)
        .map(|(n, value): (u8, _)| env(&format!("T{n}"), value))
        .collect();
    let answer = try_create(&alice, with(pod("in-sight", "a"), container(json!({"env": variables})))).await;
    let said = format!("{answer:?}");
    assert!(said.contains("T0 T1 T2 T3 T4 T5 T6 T7 T8 T9 T10 T11 T12; "), "{said}");

    let reference = json!({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}});
    let fine = [
        reference,
        env("A", ""),
        env("AWS_ACCESS_KEY_ID", &format!("AKIA{}", upper(16))),
        env("HF_TOKEN", &format!("hf_{}", "x".repeat(34))),
        env("HF_TOKEN", &format!("hf_{}EXAMPLE", "qwertzuiopasdfghjklyxcvbnmQ")),
        env("NAME", "sk-learn-and-more-of-it-that-is-no-key-at-all"),
        // A part of a text: the scan tells of it.
        env("COMMAND", &format!("login --token {}", each[5])),
    ];
    for variable in fine {
        let pod = with(pod("in-sight", "a"), container(json!({"env": [variable]})));
        try_create(&alice, pod).await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_belongs_to_a_workload_whose_gates_are_open() {
    let cluster = cluster().await;
    cluster
        .stage_namespace(
            "members",
            "training",
            Some("enforce"),
            "road-train face-id:EVD-02 two-gates:EVD-02,SUP-03",
        )
        .await;
    let alice = cluster.tenant("alice", "members", "edit").await;
    let labelled = |value: &str| {
        with(
            pod("members", "a"),
            json!({"metadata": {"labels": {"cloison.dev/workload": value}}}),
        )
    };
    try_create(&alice, labelled("road-train")).await.unwrap();
    cluster.refused(
        try_create(&alice, pod("members", "a")).await,
        "cloison-pod",
        "WKL-02/unknown",
    );
    for unknown in ["", "road", "road-train-2", "face"] {
        cluster.refused(
            try_create(&alice, labelled(unknown)).await,
            "cloison-pod",
            "WKL-02/unknown",
        );
    }
    let said = cluster.refused(
        try_create(&alice, labelled("face-id")).await,
        "cloison-pod",
        "WKL-02/gated",
    );
    assert!(said.contains("waits for EVD-02"), "{said}");
    let said = cluster.refused(
        try_create(&alice, labelled("two-gates")).await,
        "cloison-pod",
        "WKL-02/gated",
    );
    assert!(said.contains("waits for EVD-02,SUP-03"), "{said}");
    // Once `default` is there, pods without a label are its.
    cluster.seal("members", "training", "default").await;
    eventually_ok("the unlabelled pod is let in", async || {
        try_create(&alice, pod("members", "a")).await
    })
    .await;
    // Nobody exists: an empty list is not a list of one empty name.
    cluster.seal("members", "training", "").await;
    eventually_refused(cluster, "WKL-02/unknown", async || {
        try_create(&alice, labelled("")).await
    })
    .await;
}

#[tokio::test]
async fn no_pod_starts_before_the_seal() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let uid = async || cluster.uid("unsealed").await;
    cluster
        .stage_namespace("unsealed", "inference", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "unsealed", "edit").await;
    try_create(&alice, pod("unsealed", "a")).await.unwrap();
    // A seal of another stage, of another namespace and of an earlier life, and none at all.
    let operator = cluster.operator().await;
    let other = cluster.uid("default").await;
    for seal in [
        json!(format!("{}/training", uid().await)),
        json!(format!("{other}/inference")),
        json!("inference"),
        json!(null),
    ] {
        let change = json!({"metadata": {"annotations": {"cloison.dev/sealed": seal}}});
        // Taking the seal off is a claim on the stage, which only people hold.
        let writer = if seal.is_null() { &admin } else { &operator };
        patch(writer, "v1", "Namespace", None, "unsealed", change)
            .await
            .unwrap();
        let said = eventually_refused(cluster, "NET-01/seal", async || {
            try_create(&alice, pod("unsealed", "a")).await
        })
        .await;
        assert!(said.contains("namespace unsealed is being sealed"), "{said}");
    }
}

#[tokio::test]
async fn the_message_is_short_whatever_the_pod() {
    let (cluster, alice) = tenant("short", "inference", "default").await;
    let containers: Vec<Value> = (0..60)
        .map(|n| {
            json!({"name": format!("container-with-a-long-name-{n:02}"), "image": format!("evil.example/{}:{n}", "x".repeat(200)),
                   "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN", "NET_RAW"]}, "seccompProfile": {"type": "Unconfined"}}})
        })
        .collect();
    let all = json!({"spec": {"hostPID": true, "hostIPC": true, "containers": containers}});
    let said = cluster.refused(
        try_create(&alice, with(pod("short", "a"), all)).await,
        "cloison-pod",
        "WKL-01/host-pid",
    );
    // host-pid, host-ipc, privileged, capabilities, seccomp, registry. `SUP-01/digest` leaves foreign images alone.
    assert!(said.ends_with("; +3 more: kubectl cloison why"), "{said}");
}
