//! `cloison-templates` on a real API server: whoever writes a template hears what its pods will meet, and nobody is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use std::time::Duration;

use cloison::api::Waiver;
use cloison_testbed::{ApiServerOptions, Minor};
use common::*;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const BAD: &str = "WKL-01/host-pid";
const KINDS: [(&str, &str, &str); 7] = [
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("v1", "ReplicationController", "replicationcontrollers"),
    ("batch/v1", "Job", "jobs"),
    ("batch/v1", "CronJob", "cronjobs"),
];

/// The policy nobody configured.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async {
            let cluster = Cluster::start(vec![Default::default()], spec(json!({}))).await;
            cluster
                .stage_namespace("first", "training", Some("enforce"), "default")
                .await;
            until_heard(
                &cluster,
                &cluster.admin(),
                &object("Deployment", "first", template(host_pid())),
            )
            .await;
            cluster
        })
        .await
}

/// A pod template that breaks no rule, with a change.
fn template(change: Value) -> Value {
    let image = format!("registry.example.com/train/app@{}", digest());
    let plain =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "main", "image": image}]}});
    with(plain, change)
}

fn host_pid() -> Value {
    json!({"spec": {"hostPID": true}})
}

/// An object of the kind around a template.
fn object(kind: &str, namespace: &str, template: Value) -> Value {
    let (version, ..) = KINDS.into_iter().find(|(_, it, _)| *it == kind).unwrap();
    let selector = json!({"matchLabels": {"app": "a"}});
    let ends = with(template.clone(), json!({"spec": {"restartPolicy": "Never"}}));
    let spec = match kind {
        "Job" => json!({"template": ends}),
        "CronJob" => json!({"schedule": "@yearly", "jobTemplate": {"spec": {"template": ends}}}),
        "ReplicationController" => json!({"replicas": 0, "selector": {"app": "a"}, "template": template}),
        "DaemonSet" => json!({"selector": selector, "template": template}),
        "StatefulSet" => json!({"replicas": 0, "serviceName": "a", "selector": selector, "template": template}),
        _ => json!({"replicas": 0, "selector": selector, "template": template}),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": namespace}, "spec": spec})
}

fn path(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let (.., resource) = KINDS.into_iter().find(|(_, kind, _)| object["kind"] == **kind).unwrap();
    let root = if version.contains('/') { "apis" } else { "api" };
    format!(
        "/{root}/{version}/namespaces/{}/{resource}",
        object["metadata"]["namespace"].as_str().unwrap()
    )
}

/// The warnings of a dry run, which succeeded.
async fn heard(client: &Client, method: &str, path: &str, body: &Value) -> Vec<String> {
    let content = if method == "POST" {
        "application/json"
    } else {
        "application/merge-patch+json"
    };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?dryRun=All"))
        .header("content-type", content)
        .body(serde_json::to_vec(body).unwrap().into())
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert!(
        response.status().is_success(),
        "{method} {path}: {:?}",
        response.status()
    );
    let headers = response.headers().get_all("warning");
    headers.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

async fn created(client: &Client, object: &Value) -> Vec<String> {
    heard(client, "POST", &path(object), object).await
}

/// Asserts that our policy warned, through its binding, of this rule.
#[track_caller]
fn warned(cluster: &Cluster, heard: &[String], rule: &str) -> String {
    let door = format!(
        "ValidatingAdmissionPolicy 'cloison-templates' with binding 'cloison-templates-warn': [cloison {}] ",
        cluster.set().hash
    );
    let said = heard.iter().find_map(|warning| warning.split_once(&door));
    let (_, said) = said.unwrap_or_else(|| panic!("no warning of ours: {heard:?}"));
    assert!(
        said.split("; ").any(|part| part.starts_with(&format!("{rule} "))),
        "{said}"
    );
    said.to_owned()
}

/// Waits until the templates' policy of this generation is heard. No canary proves it, because it refuses nothing: the
/// others may be in force before it.
async fn until_heard(cluster: &Cluster, client: &Client, bad: &Value) {
    let hash = cluster.set().hash;
    eventually_ok("this generation is heard", async || {
        let heard = created(client, bad).await;
        if heard.iter().any(|warning| warning.contains(&hash)) {
            Ok(())
        } else {
            Err(format!("{heard:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_writes_a_template_hears_what_its_pods_will_meet() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("told", "training", Some("enforce"), "default road-train face-id:EVD-02")
        .await;
    let alice = cluster.tenant("alice", "told", "edit").await;
    for (_, kind, _) in KINDS {
        let bad = object(kind, "told", template(host_pid()));
        let said = warned(cluster, &created(&alice, &bad).await, BAD);
        assert!(said.contains("the pod sets hostPID"), "{kind}: {said}");
        let good = created(&alice, &object(kind, "told", template(json!({})))).await;
        assert_eq!(good, Vec::<String>::new(), "{kind}");
    }
    // The rules are those of pods, in their words.
    let labelled = |name: &str| json!({"metadata": {"labels": {"cloison.dev/workload": name}}});
    let apparmor = "container.apparmor.security.beta.kubernetes.io/main";
    for (change, rule) in [
        (labelled("nobody"), "WKL-02/unknown"),
        (labelled("face-id"), "WKL-02/gated"),
        (
            json!({"metadata": {"annotations": {apparmor: "unconfined"}}}),
            "WKL-01/apparmor",
        ),
        (
            json!({"spec": {"containers": [{"name": "main", "image": "r.example/a", "securityContext": {"privileged": true}}]}}),
            "WKL-01/privileged",
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
            "WKL-01/host-path",
        ),
        (
            json!({"spec": {"initContainers": [{"name": "i", "image": "r.example/a b"}]}}),
            "SUP-01/unreadable",
        ),
    ] {
        let deployment = object("Deployment", "told", template(change.clone()));
        let heard = created(&alice, &deployment).await;
        let said = warned(cluster, &heard, rule);
        let pod = with(
            deployment["spec"]["template"].clone(),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "told"}}),
        );
        let refused = cluster.refused(try_create(&alice, pod).await, "cloison-pod", rule);
        // Quotes are escaped in the header of a warning.
        assert_eq!(said.replace("\\\"", "\"").trim_end_matches('"'), refused, "{change}");
    }
    let member = created(&alice, &object("Job", "told", template(labelled("road-train")))).await;
    assert_eq!(member, Vec::<String>::new());

    // No label is the workload `default`, which this namespace lacks; in inference images are pinned.
    cluster
        .stage_namespace("told-infer", "inference", Some("enforce"), "road-det")
        .await;
    let admin = cluster.admin();
    let said = warned(
        cluster,
        &created(&admin, &object("Deployment", "told-infer", template(json!({})))).await,
        "WKL-02/unknown",
    );
    assert!(said.contains("no AiWorkload") && said.contains("default"), "{said}");
    let tagged = json!({"spec": {"containers": [{"name": "main", "image": "r.example/a:1"}]}});
    let unpinned = object(
        "Deployment",
        "told-infer",
        template(with(labelled("road-det"), tagged.clone())),
    );
    warned(cluster, &created(&admin, &unpinned).await, "SUP-01/digest");
    let in_training = created(&alice, &object("Deployment", "told", template(tagged))).await;
    assert_eq!(in_training, Vec::<String>::new());
}

/// What is said is said in namespaces that refuse or warn. In the others the audit log alone hears it.
#[tokio::test]
async fn nobody_is_told_in_audit() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    let bad = |namespace: &str| object("Deployment", namespace, template(host_pid()));
    for (namespace, stage, mode) in [
        ("tells-enforce", "evaluation", Some("enforce")),
        ("tells-warn", "inference", Some("warn")),
        ("silent-audit", "inference", Some("audit")),
        ("silent-default", "training", None),
        ("silent-shared", "shared", Some("enforce")),
    ] {
        cluster.stage_namespace(namespace, stage, mode, "default").await;
        let heard = created(&admin, &bad(namespace)).await;
        if namespace.starts_with("tells") {
            warned(cluster, &heard, BAD);
        } else {
            assert_eq!(heard, Vec::<String>::new(), "{namespace}");
        }
    }
    assert_eq!(created(&admin, &bad("default")).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_another_template_is_judged() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("changes", "training", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "changes", "edit").await;
    for kind in ["Deployment", "CronJob"] {
        let bad = object(kind, "changes", template(host_pid()));
        create(&alice, bad.clone()).await.unwrap();
        let at = format!("{}/a", path(&bad));
        let patched = async |change: Value| heard(&alice, "PATCH", &at, &change).await;
        // Scaled, suspended, relabelled: the pods are as they were.
        let (scale, wrapped) = if kind == "CronJob" {
            (json!({"spec": {"suspend": true}}), "jobTemplate")
        } else {
            (json!({"spec": {"replicas": 3}}), "template")
        };
        assert_eq!(patched(scale).await, Vec::<String>::new(), "{kind}");
        assert_eq!(
            patched(json!({"metadata": {"labels": {"a": "b"}}})).await,
            Vec::<String>::new()
        );
        let restarted = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "today"}}});
        let change = if wrapped == "template" {
            json!({"spec": {"template": restarted}})
        } else {
            json!({"spec": {"jobTemplate": {"spec": {"template": restarted}}}})
        };
        warned(cluster, &patched(change).await, BAD);
        let mended = json!({"spec": {"hostPID": null}});
        let change = if wrapped == "template" {
            json!({"spec": {"template": mended}})
        } else {
            json!({"spec": {"jobTemplate": {"spec": {"template": mended}}}})
        };
        assert_eq!(patched(change).await, Vec::<String>::new(), "{kind}");
    }
    // What a controller made for an object of its own has nobody to tell.
    let owned = |controller: bool| {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u", "controller": controller});
        with(
            object("Job", "changes", template(host_pid())),
            json!({"metadata": {"ownerReferences": [owner]}}),
        )
    };
    assert_eq!(created(&alice, &owned(true)).await, Vec::<String>::new());
    warned(cluster, &created(&alice, &owned(false)).await, BAD);
}

/// An expression that costs too much is an error, and an error would be silent here. The longest policy and a huge
/// template stay below.
#[tokio::test]
async fn a_huge_template_is_judged() {
    let images: Vec<Value> = (1..64)
        .map(|n| json!({"prefix": format!("registry.example.com/{}{n}", "x".repeat(220)), "stages": ["Inference"]}))
        .chain([json!({"prefix": "registry.example.com/ok"})])
        .collect();
    let options = ApiServerOptions {
        minor: Minor::V1_33,
        ..ApiServerOptions::default()
    };
    let cluster = Cluster::start(vec![options], spec(json!({"pods": {"images": images}}))).await;
    let open: Vec<String> = (0..500).map(|n| format!("workload-with-a-name-{n}")).collect();
    let open = format!("{} default", open.join(" "));
    cluster
        .stage_namespace("huge", "inference", Some("enforce"), &open)
        .await;
    let env: Vec<Value> = (0..250)
        .map(|n| json!({"name": format!("V{n}"), "value": "x"}))
        .collect();
    let image = format!("registry.example.com/ok@{}", digest());
    let containers: Vec<Value> = (0..40)
        .map(|n| {
            json!({"name": format!("c{n}"), "image": image, "env": env,
                   "securityContext": {"capabilities": {"add": ["CHOWN", "KILL"]}}, "livenessProbe": {"tcpSocket": {"port": 80}}})
        })
        .collect();
    let huge = |change: Value| {
        let whole = with(json!({"spec": {"containers": containers}}), change);
        object("Deployment", "huge", template(whole))
    };
    let admin = cluster.admin();
    until_heard(&cluster, &admin, &huge(host_pid())).await;
    warned(&cluster, &created(&admin, &huge(host_pid())).await, BAD);
    assert_eq!(created(&admin, &huge(json!({}))).await, Vec::<String>::new());
    // What a Waiver lets the pods do is no news.
    let waiver = |number: usize, namespace: &str, control: &str| {
        let waiver = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": format!("w{number:03}"), "generation": 1, "creationTimestamp": Timestamp::now()},
            "spec": {"target": {"namespace": namespace}, "controls": [control], "reason": "A test of a driver",
                "requestedBy": "alice", "expirationTime": Timestamp::now() + Duration::from_hours(1)},
            "status": {"approval": {"by": "bob", "time": Timestamp::now(), "generation": 1}},
        });
        serde_json::from_value::<Waiver>(waiver).unwrap()
    };
    cluster.waive(&[waiver(0, "huge", BAD)]).await;
    let other = huge(json!({"spec": {"hostPID": true, "hostIPC": true}}));
    until_heard(&cluster, &admin, &other).await;
    assert_eq!(created(&admin, &huge(host_pid())).await, Vec::<String>::new());
    warned(&cluster, &created(&admin, &other).await, "WKL-01/host-ipc");
    // Of more than have room the first still count; whoever has another one hears nothing, and everybody else as before.
    for name in ["far", "near"] {
        cluster
            .stage_namespace(name, "inference", Some("enforce"), "default")
            .await;
    }
    let many = (1..100).map(|number| match number {
        60 => waiver(number, "far", "WKL-01"),
        _ => waiver(number, &format!("other-{number}"), "WKL-01"),
    });
    let many: Vec<Waiver> = std::iter::once(waiver(0, "huge", BAD)).chain(many).collect();
    cluster.waive(&many).await;
    let image = format!("registry.example.com/ok@{}", digest());
    let small = json!({"spec": {"hostPID": true, "containers": [{"name": "main", "image": image}]}});
    let small = |namespace: &str| object("Deployment", namespace, template(small.clone()));
    until_heard(&cluster, &admin, &small("near")).await;
    assert_eq!(created(&admin, &huge(host_pid())).await, Vec::<String>::new());
    warned(&cluster, &created(&admin, &other).await, "WKL-01/host-ipc");
    assert_eq!(created(&admin, &small("far")).await, Vec::<String>::new());
    warned(&cluster, &created(&admin, &small("near")).await, BAD);
    cluster.waive(&[]).await;
    until_heard(&cluster, &admin, &small("far")).await;
    // A change of it compares both templates whole.
    create(&admin, huge(host_pid())).await.unwrap();
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}});
    let at = "/apis/apps/v1/namespaces/huge/deployments/a";
    warned(&cluster, &heard(&admin, "PATCH", at, &change).await, BAD);
}
