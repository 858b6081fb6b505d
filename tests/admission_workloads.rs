//! `cloison-crd` and `cloison-guard` on a real API server: what an AiWorkload may declare, and what of it is the
//! operator's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use cloison::api::names;
use common::*;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const CLOISON: &str = "cloison.dev/v1alpha1";

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

fn workload(namespace: &str, name: &str, change: Value) -> Value {
    let plain = json!({
        "apiVersion": CLOISON, "kind": "AiWorkload", "metadata": {"name": name, "namespace": namespace},
        "spec": {"stage": "Training", "owner": "team-vision", "purpose": "Detect road defects"},
    });
    with(plain, change)
}

/// The role `editor` of the chart, as far as these tests need it; status and all, which that role does not give.
async fn engineer(cluster: &Cluster) -> Client {
    let rules = json!([{"apiGroups": ["cloison.dev"], "resources": ["aiworkloads", "aiworkloads/status"],
                        "verbs": ["get", "list", "create", "update", "patch", "delete"]}]);
    cluster.grant_user("ml-engineer", rules).await;
    let client = cluster.plane.client_as("ml-engineer", &[]).unwrap();
    eventually_ok("the role arrives", async || {
        objects(&client, CLOISON, "AiWorkload", None)
            .list(&Default::default())
            .await
    })
    .await;
    client
}

async fn change(client: &Client, namespace: &str, name: &str, change: Value) -> Answered {
    patch(client, CLOISON, "AiWorkload", Some(namespace), name, change).await
}

fn uses(uses: &[&str]) -> Value {
    json!({"spec": {"uses": uses}})
}

#[tokio::test]
async fn prohibited_uses_are_refused_and_restricted_ones_only_gated() {
    let cluster = cluster().await;
    cluster.stage_namespace("uses", "training", Some("enforce"), "").await;
    let engineer = engineer(cluster).await;
    let declare = async |list: &[&str]| try_create(&engineer, workload("uses", "w", uses(list))).await;
    for used in cloison::admission::PROHIBITED_USES {
        let rule = match used.name {
            "NonConsensualIntimateImagery" | "ChildSexualAbuseMaterial" => "DAT-01/intimate-imagery",
            _ => "DAT-01/prohibited",
        };
        let said = cluster.refused(declare(&["Translation", used.name]).await, "cloison-crd", rule);
        assert!(said.contains(used.name) && !said.contains("Translation"), "{said}");
    }
    for used in cloison::admission::RESTRICTED_USES {
        declare(&[used.name]).await.unwrap();
    }
    declare(&["Translation"]).await.unwrap();
}

#[tokio::test]
async fn what_was_declared_in_audit_can_still_be_edited() {
    let cluster = cluster().await;
    cluster.stage_namespace("uses-old", "training", Some("audit"), "").await;
    let engineer = engineer(cluster).await;
    create(&engineer, workload("uses-old", "w", uses(&["SocialScoring"])))
        .await
        .unwrap();
    let mode = json!({"metadata": {"labels": {"cloison.dev/mode": "enforce"}}});
    patch(&cluster.admin(), "v1", "Namespace", None, "uses-old", mode)
        .await
        .unwrap();
    let other = workload("uses-old", "other", uses(&["SocialScoring"]));
    cloison_testbed::eventually(SOON, "enforce", async || {
        match try_create(&engineer, other.clone()).await {
            Err(_) => Ok(()),
            Ok(_) => Err("it passes"),
        }
    })
    .await
    .unwrap();
    cluster.refused(try_create(&engineer, other).await, "cloison-crd", "DAT-01/prohibited");
    change(&engineer, "uses-old", "w", json!({"spec": {"owner": "team-roads"}}))
        .await
        .unwrap();
    let further = uses(&["SocialScoring", "SubliminalManipulation"]);
    let said = cluster.refused(
        change(&engineer, "uses-old", "w", further).await,
        "cloison-crd",
        "DAT-01/prohibited",
    );
    assert!(!said.contains("SocialScoring"), "{said}");
    change(&engineer, "uses-old", "w", uses(&[])).await.unwrap();
}

#[tokio::test]
async fn a_workload_has_the_stage_of_its_namespace() {
    let cluster = cluster().await;
    let engineer = engineer(cluster).await;
    for (stage, fits) in [
        ("training", "Training"),
        ("evaluation", "Evaluation"),
        ("inference", "Inference"),
        ("shared", ""),
    ] {
        let namespace = format!("stage-{stage}");
        cluster.stage_namespace(&namespace, stage, Some("enforce"), "").await;
        for declared in ["Training", "Evaluation", "Inference"] {
            let answer = try_create(
                &engineer,
                workload(&namespace, "w", json!({"spec": {"stage": declared}})),
            )
            .await;
            if declared == fits {
                answer.unwrap();
            } else {
                cluster.refused(answer, "cloison-crd", "NET-02/stage-mismatch");
            }
        }
    }
    // A namespace that has no stage yet has no opinion.
    try_create(&engineer, workload("default", "w", json!({})))
        .await
        .unwrap();
}

#[tokio::test]
async fn status_is_the_operators() {
    let cluster = cluster().await;
    cluster.stage_namespace("status", "training", Some("audit"), "").await;
    let (engineer, admin, operator) = (engineer(cluster).await, cluster.admin(), cluster.operator().await);
    create(&engineer, workload("status", "w", json!({}))).await.unwrap();
    let enforced = json!({"status": {"score": 100}});
    for client in [&engineer, &admin] {
        let answer = patch_status(client, CLOISON, "AiWorkload", Some("status"), "w", enforced.clone()).await;
        cluster.refused(answer, "cloison-guard", "CLU-04/status");
    }
    patch_status(&operator, CLOISON, "AiWorkload", Some("status"), "w", enforced.clone())
        .await
        .unwrap();
    // The same content again changes nothing.
    patch_status(&engineer, CLOISON, "AiWorkload", Some("status"), "w", enforced)
        .await
        .unwrap();
    for kind in ["AiSecurityPolicy", "SecretEncryption"] {
        apply(
            &admin,
            json!({"apiVersion": CLOISON, "kind": kind, "metadata": {"name": "default"}, "spec": {}}),
        )
        .await;
        let observed = json!({"status": {"observedGeneration": 7}});
        cluster.refused(
            patch_status(&admin, CLOISON, kind, None, "default", observed).await,
            "cloison-guard",
            "CLU-04/status",
        );
    }
}

/// The operator with a right that its role does not give it, so that the policies' own clauses are what decides.
async fn operator_that_may_patch(cluster: &Cluster) -> Client {
    let rules = json!([{"apiGroups": ["cloison.dev"], "resources": ["aiworkloads"], "verbs": ["get", "patch"]}]);
    cluster.grant_more(names::CONTROLLER_ACCOUNT, rules).await;
    let operator = cluster.operator().await;
    eventually_ok("the right arrives", async || {
        objects(&operator, CLOISON, "AiWorkload", Some("default"))
            .get_opt("none")
            .await
    })
    .await;
    operator
}

#[tokio::test]
async fn our_finalizers_are_the_operators() {
    let cluster = cluster().await;
    let (engineer, operator) = (engineer(cluster).await, operator_that_may_patch(cluster).await);
    let ours = json!({"metadata": {"finalizers": ["cloison.dev/withdraw"]}});
    let theirs = json!({"metadata": {"finalizers": ["example.com/backup"]}});
    cluster.refused(
        create(&engineer, workload("default", "fin", ours.clone())).await,
        "cloison-guard",
        "CLU-04/finalizer",
    );
    create(&engineer, workload("default", "fin", theirs)).await.unwrap();
    cluster.refused(
        change(&engineer, "default", "fin", ours.clone()).await,
        "cloison-guard",
        "CLU-04/finalizer",
    );
    change(&operator, "default", "fin", ours).await.unwrap();
    let none = json!({"metadata": {"finalizers": null}});
    cluster.refused(
        change(&engineer, "default", "fin", none.clone()).await,
        "cloison-guard",
        "CLU-04/finalizer",
    );
    change(&engineer, "default", "fin", json!({"spec": {"owner": "team-roads"}}))
        .await
        .unwrap();
    // A person may break glass when the operator is gone for good.
    change(&cluster.admin(), "default", "fin", none).await.unwrap();
}

#[tokio::test]
async fn quarantine_ends_only_by_who_may_release_it() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("quarantine", "training", Some("audit"), "")
        .await;
    let engineer = engineer(cluster).await;
    let rules = json!([{"apiGroups": ["cloison.dev"], "resources": ["aiworkloads"], "verbs": ["get", "patch", "delete"]},
                       {"apiGroups": ["cloison.dev"], "resources": ["quarantines"], "verbs": ["release"]}]);
    cluster.grant_user("duty", rules).await;
    let duty = cluster.plane.client_as("duty", &[]).unwrap();
    let annotate = |value: Value| json!({"metadata": {"annotations": {"cloison.dev/quarantine": value}}});
    create(&engineer, workload("quarantine", "w", json!({}))).await.unwrap();
    change(&engineer, "quarantine", "w", annotate(json!("stolen weights")))
        .await
        .unwrap();
    let refused = |answer: Answered| cluster.refused(answer, "cloison-guard", "OPS-01/release");
    refused(change(&engineer, "quarantine", "w", annotate(json!(null))).await);
    refused(change(&engineer, "quarantine", "w", annotate(json!(""))).await);
    let operator = operator_that_may_patch(cluster).await;
    refused(change(&operator, "quarantine", "w", annotate(json!(null))).await);
    change(&engineer, "quarantine", "w", json!({"spec": {"owner": "team-roads"}}))
        .await
        .unwrap();
    // Deleting it and writing it again without the annotation would be the same.
    let deleted = delete(&engineer, CLOISON, "AiWorkload", Some("quarantine"), "w").await;
    cluster.refused(deleted, "cloison-guard", "OPS-01/release");
    let all = objects(&engineer, CLOISON, "AiWorkload", Some("quarantine"));
    // The verb `deletecollection` is not in this role.
    assert!(
        all.delete_collection(&Default::default(), &Default::default())
            .await
            .is_err()
    );
    eventually_ok("duty releases", async || {
        change(&duty, "quarantine", "w", annotate(json!(null))).await
    })
    .await;
    change(&engineer, "quarantine", "w", annotate(json!("again")))
        .await
        .unwrap();
    // The end of the namespace is the end of it.
    let namespaces = objects(&cluster.admin(), "v1", "Namespace", None);
    namespaces.delete("quarantine", &Default::default()).await.unwrap();
    cloison_testbed::eventually(SOON * 2, "the namespace is gone", async || {
        match namespaces.get_opt("quarantine").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}
