//! The verbs that need a cluster, on real control planes: as tenants with the stock roles, and as the admin on call.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/admission.rs"]
mod common;
#[allow(dead_code, reason = "each test file uses a part of it")]
#[path = "common/operator.rs"]
mod operator;

use std::path::{Path, PathBuf};
use std::process::Command;

use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Tool, eventually, find};
use common::{Cluster, SOON, apply, create, pod, spec, try_create, with};
use kube::api::ListParams;
use serde_json::{Value, json};

/// What a run said.
#[derive(Clone, Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn run(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
    let output = command.env("HOME", kubeconfig.parent().unwrap()).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn cloison(kubeconfig: &Path, arguments: &[&str]) -> Said {
    run(Path::new(env!("CARGO_BIN_EXE_cloison")), kubeconfig, arguments)
}

/// Runs until it says something, and returns all of it.
async fn until(kubeconfig: &Path, arguments: &[&str], what: &str) -> Said {
    eventually(SOON, what, async || {
        let said = cloison(kubeconfig, arguments);
        if said.out.contains(what) {
            Ok(said)
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await
    .unwrap()
}

fn contains(said: &Said, all: &[&str]) {
    for text in all {
        assert!(said.out.contains(text), "{text}\n{}\n{}", said.out, said.err);
    }
}

/// How many objects of ours there are, by kind.
async fn ours(client: &kube::Client, version: &str, kind: &str) -> usize {
    let label = format!("{}={}", names::PART_OF_LABEL, names::CLOISON);
    let list = common::objects(client, version, kind, None)
        .list(&ListParams::default().labels(&label))
        .await;
    list.unwrap().items.len()
}

const BINDING: (&str, &str) = ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding");

/// A control plane with the policies in force, no controller, and a tenant with the stock role `edit`.
async fn cluster() -> (Cluster, PathBuf, PathBuf) {
    let cluster = Cluster::start(vec![ApiServerOptions::default()], spec(json!({}))).await;
    cluster
        .stage_namespace("vision-train", "training", Some("enforce"), "default")
        .await;
    let admin = cluster.plane.admin_kubeconfig().unwrap();
    cluster.tenant("mona", "vision-train", "edit").await;
    let tenant = cluster
        .plane
        .tenant_identity("mona", "vision-train", "edit")
        .await
        .unwrap();
    (cluster, admin, tenant.kubeconfig().unwrap())
}

fn job(name: &str, pod_spec: &Value) -> Value {
    let mut pod_spec = pod_spec.clone();
    pod_spec["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "vision-train"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod_spec}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn why_leads_from_the_object_to_the_rule_and_the_fix() {
    let (cluster, _, tenant) = cluster().await;
    let admin = cluster.admin();
    let fine = pod("vision-train", "x")["spec"].clone();
    let unsafe_spec = with(fine.clone(), json!({"hostIPC": true}));
    create(&admin, job("road", &unsafe_spec)).await.unwrap();
    let said = until(&tenant, &["why", "job/road", "-n", "vision-train"], "refused").await;
    let said = if said.out.contains("(refused") {
        said
    } else {
        until(&tenant, &["why", "job/road", "-n", "vision-train"], "(refused").await
    };
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "Job road > Pod (refused 1 time, last ",
            "\n  WKL-01/host-ipc  ",
            "\n    fix: remove hostIPC; for NCCL mount emptyDir {medium: Memory} at /dev/shm\n",
            "a pod of it would be refused now (server-side dry run as you)",
        ],
    );
    let pods = common::objects(&admin, "v1", "Pod", Some("vision-train"));
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        0,
        "asking makes no pod"
    );
    let two_words = cloison(&tenant, &["why", "Job", "road", "-n", "vision-train"]);
    assert_eq!(two_words.code, 1, "{two_words:?}");

    // The positive control, three owners deep.
    let template = json!({"metadata": {"labels": {"app": "serve"}}, "spec": fine});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serve", "namespace": "vision-train"},
        "spec": {"selector": {"matchLabels": {"app": "serve"}}, "template": template},
    });
    create(&admin, deployment).await.unwrap();
    let said = until(&tenant, &["why", "deploy/serve", "-n", "vision-train"], "1 pod there").await;
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            "Deployment serve > ReplicaSet serve-",
            " > Pod (1 pod there)",
            "would be admitted now",
        ],
    );
    // From the pod up.
    let pods = pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 1, "asking makes no pod");
    let name = format!("pod/{}", pods.items[0].metadata.name.clone().unwrap());
    let said = cloison(&tenant, &["why", &name, "-n", "vision-train"]);
    contains(
        &said,
        &["Deployment serve > ReplicaSet serve-", " > Pod serve-", "(exists)"],
    );

    // What an event says is the past; the dry run is the present.
    let labels = json!({"metadata": {"labels": {names::MODE_LABEL: "audit"}}});
    common::patch(&admin, "v1", "Namespace", None, "vision-train", labels)
        .await
        .unwrap();
    let said = until(&tenant, &["why", "job/road", "-n", "vision-train"], "that was before").await;
    assert_eq!(said.code, 0, "{said:?}");
    contains(&said, &["WKL-01/host-ipc", "would be admitted now"]);
    assert_eq!(cloison(&tenant, &["why", "job/absent", "-n", "vision-train"]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_every_problem_where_a_refusal_has_room_for_three() {
    let (cluster, _, tenant) = cluster().await;
    let admin = cluster.admin();
    apply(&admin, json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {}})).await;
    let reading = json!([{"apiGroups": [names::GROUP], "resources": ["aisecuritypolicies"], "verbs": ["get"]}]);
    cluster.grant_user("mona", reading).await;
    let base = pod("vision-train", "x")["spec"].clone();
    let change = json!({
        "hostIPC": true, "hostPID": true, "hostNetwork": true,
        "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
        "containers": [with(base["containers"][0].clone(), json!({"securityContext": {"privileged": true}}))],
    });
    create(&admin, job("worst", &with(base, change))).await.unwrap();
    let rules =
        ["host-ipc", "host-pid", "host-network", "host-path", "privileged"].map(|rule| format!("  WKL-01/{rule}  "));
    let said = until(
        &tenant,
        &["why", "job/worst", "-n", "vision-train"],
        "WKL-01/privileged",
    )
    .await;
    for rule in rules {
        assert_eq!(said.out.matches(&rule).count(), 1, "{rule}\n{}", said.out);
    }
    // An AiWorkload says what of it is not True.
    let workload = operator::workload(
        "vision-train",
        "default",
        "Training",
        json!({"connectTo": [{"service": "nowhere"}]}),
    );
    apply(&admin, workload).await;
    let time = "2026-11-22T12:00:00Z";
    let status = json!({"status": {
        "observedGeneration": 1,
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Refused", "message": "no", "lastTransitionTime": time},
            {"type": "PoliciesIsolate", "status": "True", "reason": "Isolated", "message": "", "lastTransitionTime": time},
        ],
        "flows": [{"direction": "Egress", "name": "service nowhere", "state": "Unresolved", "message": "unknown service"}],
        "findings": [{"control": "NET-04", "severity": "High", "message": "NET-04/unknown-service unknown service"}],
    }});
    let controller = cluster.operator().await;
    common::patch_status(
        &controller,
        "cloison.dev/v1alpha1",
        "AiWorkload",
        Some("vision-train"),
        "default",
        status,
    )
    .await
    .unwrap();
    let admin_config = cluster.plane.admin_kubeconfig().unwrap();
    let said = cloison(&admin_config, &["why", "aiw/default", "-n", "vision-train"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "Ready       False    Refused",
            "egress      service nowhere   Unresolved",
            "High       NET-04/unknown-service",
        ],
    );
    assert!(!said.out.contains("PoliciesIsolate"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_how_old_everything_is() {
    let (cluster, admin, tenant) = cluster().await;
    let client = cluster.admin();
    let controller = cluster.operator().await;
    apply(
        &client,
        operator::workload("vision-train", "default", "Training", Value::Null),
    )
    .await;
    let none = cloison(&admin, &["status", "-A"]);
    assert_eq!(none.code, 1, "{none:?}");
    contains(
        &none,
        &[
            "STALE: there is no Lease cloison-system/cloison-controller",
            "the controller has not looked at it yet",
        ],
    );
    let lease = |minutes: i64| {
        let renewed = k8s_openapi::jiff::Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_mins(minutes);
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": names::CONTROLLER_LEASE, "namespace": names::DEFAULT_NAMESPACE},
            "spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 30, "renewTime": format!("{renewed:.6}")},
        })
    };
    let status = |truth: &str| {
        json!({"status": {"observedGeneration": 1, "mode": "Enforce", "conditions": [
            {"type": "Ready", "status": truth, "reason": "ConditionNotMet", "message": "a\nb", "lastTransitionTime": "2026-11-22T12:00:00Z"},
        ]}})
    };
    let write = async |truth: &str| {
        common::patch_status(
            &controller,
            "cloison.dev/v1alpha1",
            "AiWorkload",
            Some("vision-train"),
            "default",
            status(truth),
        )
        .await
        .unwrap();
    };
    write("True").await;
    apply(&client, lease(0)).await;
    let fresh = cloison(&admin, &["status", "-n", "vision-train"]);
    assert_eq!(fresh.code, 0, "{fresh:?}");
    contains(
        &fresh,
        &[
            "controller pod-1 renewed its lease",
            "vision-train   default    Training   Enforce   True",
        ],
    );
    apply(&client, lease(200)).await;
    let stale = cloison(&admin, &["status", "-n", "vision-train"]);
    assert_eq!(stale.code, 1, "{stale:?}");
    contains(
        &stale,
        &["STALE: the controller last renewed its lease 3 h ago; every condition below is as old\n"],
    );
    apply(&client, lease(0)).await;
    write("False").await;
    let unready = cloison(&admin, &["status", "-A", "-o", "json"]);
    assert_eq!(unready.code, 1, "{unready:?}");
    let read: Value = serde_json::from_str(&unready.out).unwrap();
    assert_eq!(
        (&read["controller"]["stale"], &read["workloads"][0]["ready"]),
        (&json!(false), &json!("False"))
    );
    let table = cloison(&admin, &["status", "-A"]);
    contains(
        &table,
        &["False   Unknown    Unknown     Unknown    ConditionNotMet: a b\n"],
    );
    // What was said about another generation says nothing about this one.
    write("True").await;
    let mut changed = operator::workload("vision-train", "default", "Training", Value::Null);
    changed["spec"]["purpose"] = json!("Something else that is worth testing");
    apply(&client, changed).await;
    let behind = cloison(&admin, &["status", "-A"]);
    assert_eq!(behind.code, 1, "{behind:?}");
    contains(&behind, &["the controller has not looked at the last change yet"]);
    // What may not be read is said to be unknown, and the rest goes on.
    let reading = json!([{"apiGroups": [names::GROUP], "resources": ["aiworkloads"], "verbs": ["list"]}]);
    cluster.grant_user("mona", reading).await;
    let theirs = until(&tenant, &["status"], "default").await;
    contains(
        &theirs,
        &[
            "how old this is cannot be told: you may not read Leases",
            "the cluster's conditions cannot be told",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_plan_says_what_would_be_refused_and_what_would_close() {
    let (cluster, admin, tenant) = cluster().await;
    let client = cluster.admin();
    for name in ["old", "minio"] {
        apply(
            &client,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }
    let policy = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {
        "network": {"services": [{"name": "store", "to": {"namespace": "minio"}, "ports": [{"port": 9000}]}]}}});
    apply(&client, policy).await;
    let service = |namespace: &str, name: &str, port: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        })
    };
    for service in [
        service("minio", "minio", 9000),
        service("minio", "console", 9001),
        service("old", "own", 80),
    ] {
        apply(&client, service).await;
    }
    let gpu = json!({"spec": {"restartPolicy": "Never"}});
    let mut bad = with(pod("old", "bad"), gpu);
    bad["spec"]["hostIPC"] = json!(true);
    bad["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    eventually(SOON, "the account of the namespace", async || {
        create(&client, bad.clone()).await.map(drop)
    })
    .await
    .unwrap();
    let labelled = json!({"metadata": {"labels": {names::WORKLOAD_LABEL: "ghost"}}});
    create(&client, with(pod("old", "good"), labelled)).await.unwrap();

    let said = cloison(&admin, &["plan", "-n", "old"]);
    assert_eq!(said.code, 1, "{said:?}");
    contains(
        &said,
        &[
            "old         looks like training   -      2      1                2 (WKL-01/host-ipc 1, WKL-02/unknown 1)",
            "note: \"looks like\" is a guess",
            "  WKL-01/host-ipc  1 pod (bad): ",
            "  default/kubernetes:443\n  minio/console:9001\n  minio/minio:9000\n  addresses outside the cluster\n",
            "    - service: kubernetes-api\n    - service: store\n    # minio/console:9001: no service of the catalogue leads there",
            "note: not judged here: cloison-namespace, because it depends on the caller's rights",
        ],
    );
    assert!(
        !said.out.contains("old/own") && !said.out.contains(" used"),
        "{}",
        said.out
    );
    // The skeleton is accepted as it is, and then counts.
    let skeleton = said.out.split("---\n").nth(1).unwrap().split("note:").next().unwrap();
    let skeleton: Value = serde_saphyr::from_str(skeleton).unwrap();
    let labels = json!({"metadata": {"labels": {names::STAGE_LABEL: "training", names::MODE_LABEL: "audit"}}});
    common::patch(&client, "v1", "Namespace", None, "old", labels)
        .await
        .unwrap();
    apply(&client, skeleton).await;
    let all = cloison(&admin, &["plan", "-A"]);
    contains(
        &all,
        &[
            "old            training",
            "minio/console:9001, addresses outside the cluster\n",
        ],
    );
    assert!(
        !all.out.contains("kube-system") && !all.out.contains("\nminio "),
        "{}",
        all.out
    );
    // A tenant sees its own namespace, and is told what it may not see.
    let reading = json!([{"apiGroups": [names::GROUP], "resources": ["aiworkloads"], "verbs": ["list"]}]);
    cluster.grant_user("mona", reading).await;
    let theirs = until(&tenant, &["plan", "-n", "vision-train"], "vision-train").await;
    assert_eq!(theirs.code, 0, "{theirs:?}");
    contains(
        &theirs,
        &[
            "you may not list Services of the cluster",
            "you may not read the AiSecurityPolicy: judged by the defaults",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn off_ends_refusals_with_the_controller_dead_and_so_do_three_kubectl_lines() {
    let (cluster, admin, _) = cluster().await;
    let client = cluster.admin();
    let unsafe_pod = with(pod("vision-train", "x"), json!({"spec": {"hostIPC": true}}));
    let refused = async || match try_create(&client, unsafe_pod.clone()).await {
        Err(kube::Error::Api(status)) if status.message.contains("[cloison ") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    let admitted = async || try_create(&client, unsafe_pod.clone()).await.map(drop);
    eventually(SOON, "a refusal", refused).await.unwrap();
    let bindings = ours(&client, BINDING.0, BINDING.1).await;
    let said = cloison(&admin, &["off", "--scope", "admission", "--reason", "INC-4711"]);
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            &format!("bindings 0/{bindings} left   webhooks 0/0 left"),
            "cloison-system/cloison-off",
        ],
    );
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, 0);
    eventually(SOON, "nothing is refused", admitted).await.unwrap();
    let maps = common::objects(&client, "v1", "ConfigMap", Some(names::DEFAULT_NAMESPACE));
    let map = maps.get(names::OFF_CONFIGMAP).await.unwrap();
    assert_eq!(
        (&map.data["data"]["scope"], &map.data["data"]["reason"]),
        (&json!("admission"), &json!("INC-4711"))
    );
    contains(
        &cloison(&admin, &["status", "-A"]),
        &["OFF everywhere: scope admission, reason INC-4711"],
    );
    // Narrowing it would switch the rest on.
    let narrower = cloison(
        &admin,
        &["off", "--scope", "admission", "--reason", "x", "-n", "vision-train"],
    );
    assert_eq!(narrower.code, 2, "{narrower:?}");
    let said = cloison(&admin, &["on"]);
    contains(
        &said,
        &[
            "ConfigMap cloison-system/cloison-off deleted",
            "no controller is running",
        ],
    );
    assert_eq!(said.code, 0);
    assert!(maps.get_opt(names::OFF_CONFIGMAP).await.unwrap().is_none());
    contains(&cloison(&admin, &["on"]), &["nothing is off"]);

    // Put back by hand, from what the command line prints; then the three lines of the chart's notes.
    let kubectl = find(Tool::Kubectl).unwrap();
    let policy = cluster.plane.folder().join("policy.yaml");
    std::fs::write(
        &policy,
        "apiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {name: default}\n",
    )
    .unwrap();
    let plan = cloison(
        &admin,
        &["plan", "-f", policy.to_str().unwrap(), "--admission", "-o", "yaml"],
    );
    let file = cluster.plane.folder().join("admission.yaml");
    std::fs::write(&file, &plan.out).unwrap();
    let kubectl = |arguments: &[&str]| {
        let said = run(&kubectl, &admin, arguments);
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    kubectl(&["apply", "-f", file.to_str().unwrap()]);
    eventually(SOON, "a refusal again", refused).await.unwrap();
    kubectl(&[
        "-n",
        names::DEFAULT_NAMESPACE,
        "create",
        "configmap",
        "cloison-off",
        "--from-literal=scope=all",
        "--from-literal=reason=INC",
    ]);
    let kinds = "validatingwebhookconfigurations,validatingadmissionpolicybindings";
    kubectl(&["delete", kinds, "-l", "app.kubernetes.io/part-of=cloison"]);
    kubectl(&[
        "delete",
        "networkpolicies",
        "-A",
        "-l",
        "app.kubernetes.io/part-of=cloison",
    ]);
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, 0);
    eventually(SOON, "nothing is refused again", admitted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn off_in_one_namespace_leaves_the_others_refused() {
    let (cluster, admin, _) = cluster().await;
    cluster
        .stage_namespace("vision-infer", "inference", Some("enforce"), "default")
        .await;
    let client = cluster.admin();
    let bindings = ours(&client, BINDING.0, BINDING.1).await;
    let off = ["off", "--scope", "all", "--reason", "INC", "-n", "vision-train"];
    let said = cloison(&admin, &off);
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            "bindings and webhooks stay",
            "namespace vision-train: cloison.dev/mode=audit (was enforce)",
        ],
    );
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, bindings);
    let unsafe_in = |namespace: &str| with(pod(namespace, "x"), json!({"spec": {"hostIPC": true}}));
    eventually(SOON, "nothing is refused there", async || {
        try_create(&client, unsafe_in("vision-train")).await.map(drop)
    })
    .await
    .unwrap();
    cluster.refused(
        try_create(&client, unsafe_in("vision-infer")).await,
        "cloison-pod",
        "WKL-01/host-ipc",
    );
    let said = cloison(&admin, &["on"]);
    contains(&said, &["namespace vision-train: cloison.dev/mode is enforce again"]);
    common::eventually_refused(&cluster, "WKL-01/host-ipc", async || {
        try_create(&client, unsafe_in("vision-train")).await
    })
    .await;
}

/// Every deletion of a NetworkPolicy of the namespace, in order, from the audit log.
fn deletions(plane: &ControlPlane) -> Vec<String> {
    let log = std::fs::read_to_string(plane.api_server(0).audit_log()).unwrap();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let deletions = events.filter(|event| {
        let object = &event["objectRef"];
        event["verb"] == "delete" && object["resource"] == "networkpolicies" && object["namespace"] == "vision-train"
    });
    deletions
        .map(|event| event["objectRef"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn off_holds_against_a_living_controller_and_on_brings_everything_back() {
    let audit = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  verbs: [delete]\n  \
                 resources: [{group: networking.k8s.io, resources: [networkpolicies]}]\n- level: None\n";
    let server = ApiServerOptions {
        audit_policy: Some(audit.to_owned()),
        ..ApiServerOptions::default()
    };
    let plane = ControlPlane::start(Options {
        api_servers: vec![server],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let _controller = operator::start(&plane).await;
    let client = plane.admin().unwrap();
    operator::namespace(&client, "vision-train", "training", Some("enforce")).await;
    for name in ["aaa", "road"] {
        operator::apply(
            &client,
            operator::workload("vision-train", name, "Training", Value::Null),
        )
        .await
        .unwrap();
    }
    for name in ["aaa", "road"] {
        operator::condition(&client, "vision-train", name, "Ready", "True").await;
    }
    let admin = plane.admin_kubeconfig().unwrap();
    let ready = cloison(&admin, &["status", "-A"]);
    assert_eq!(ready.code, 0, "{ready:?}");

    operator::condition(&client, "vision-train", "road", "AdmissionEnforced", "True").await;
    let bindings = ours(&client, BINDING.0, BINDING.1).await;
    assert!(bindings > 0);

    // What the plan prints for the same objects is what the controller wrote.
    let planned = planned(&plane, &admin);
    for name in ["cloison-ns-deny", "cloison-wl-aaa", "cloison-wl-road"] {
        let written = operator::policy(&client, "vision-train", name).await;
        let same = planned
            .iter()
            .filter(|policy| policy.metadata.name == written.metadata.name)
            .filter(|policy| policy.metadata.namespace == written.metadata.namespace);
        let same: Vec<bool> = same
            .map(|policy| cloison::network::drift::same_rules(policy, &written))
            .collect();
        assert_eq!(same, [true], "{name}");
    }

    let said = cloison(&admin, &["off", "--scope", "all", "--reason", "INC-4711"]);
    assert_eq!(said.code, 0, "{said:?}");
    contains(
        &said,
        &[
            &format!("bindings 0/{bindings} left"),
            "0 of 4 NetworkPolicy objects left, denies deleted first",
        ],
    );
    // Of the four, one is the deny of the canaries' own namespace.
    let order = deletions(&plane);
    assert_eq!(order.first().map(String::as_str), Some("cloison-ns-deny"), "{order:?}");
    assert_eq!(order.len(), 3, "nothing came back: {order:?}");
    let (reason, message) = operator::condition(&client, "vision-train", "road", "Ready", "Unknown").await;
    assert_eq!(
        (reason.as_str(), message.contains("INC-4711")),
        ("Off", true),
        "{message}"
    );
    assert_eq!(ours(&client, BINDING.0, BINDING.1).await, 0);
    assert_eq!(ours(&client, "networking.k8s.io/v1", "NetworkPolicy").await, 0);

    let said = cloison(&admin, &["on"]);
    contains(&said, &["the controller puts the denies back first"]);
    for name in ["cloison-ns-deny", "cloison-wl-aaa", "cloison-wl-road"] {
        operator::policy(&client, "vision-train", name).await;
    }
    operator::condition(&client, "vision-train", "road", "Ready", "True").await;
    assert!(ours(&client, BINDING.0, BINDING.1).await > 0);
}

/// The NetworkPolicies of the namespace, planned from its objects as they are stored. The addresses of the API servers
/// are of no account here, and DNS there is none.
fn planned(plane: &ControlPlane, admin: &Path) -> Vec<k8s_openapi::api::networking::v1::NetworkPolicy> {
    let kubectl = find(Tool::Kubectl).unwrap();
    let stored = run(
        &kubectl,
        admin,
        &["get", "ns,aiw,aisp", "-n", "vision-train", "-o", "yaml"],
    );
    let file = plane.folder().join("stored.yaml");
    std::fs::write(&file, &stored.out).unwrap();
    let plan = cloison(admin, &["plan", "-f", file.to_str().unwrap(), "-o", "yaml"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    serde_saphyr::from_multiple(&plan.out).unwrap()
}
