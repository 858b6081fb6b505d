//! Waivers at the door of a real API server: who asks and who approves in whose name, and what a Waiver lets in, until its
//! end by the API server's own clock. No operator runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use std::time::Duration;

use cloison::api::names;
use common::*;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-guard";
const CLOISON: &str = "cloison.dev/v1alpha1";
const ARGO: &str = "system:serviceaccount:argocd:argocd-application-controller";

async fn cluster() -> &'static Cluster {
    let policy = spec(json!({"waivers": {"trustedAppliers": [ARGO]}}));
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], policy))
        .await
}

/// Somebody who may do everything that roles can give: only the policies stand in the way.
fn person(cluster: &Cluster, user: &str) -> Client {
    cluster.plane.client_as(user, &["system:masters"]).unwrap()
}

fn from_now(lasts: Duration) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap() + lasts
}

const HOUR: Duration = Duration::from_secs(3_600);

fn waiver(name: &str, by: &str, change: Value) -> Value {
    let plain = json!({"apiVersion": CLOISON, "kind": "Waiver", "metadata": {"name": name}, "spec": {
        "target": {"namespace": "nowhere"}, "controls": ["WKL-01/host-ipc"],
        "reason": "NCCL of this driver needs it until it is replaced", "requestedBy": by,
        "expirationTime": from_now(HOUR),
    }});
    with(plain, change)
}

async fn approve(client: &Client, name: &str, by: &str, generation: i64) -> Answered {
    let approval = json!({"by": by, "time": Timestamp::now(), "generation": generation});
    patch_status(
        client,
        CLOISON,
        "Waiver",
        None,
        name,
        json!({"status": {"approval": approval}}),
    )
    .await
}

#[tokio::test]
async fn a_waiver_is_asked_for_in_ones_own_name() {
    let cluster = cluster().await;
    let alice = person(cluster, "alice");
    let asked = |change: Value| try_create(&alice, waiver("own-name", "alice", change));
    asked(json!({})).await.unwrap();
    let rows = [
        ("OPS-02/requested-by", json!({"spec": {"requestedBy": "bob"}})),
        ("OPS-02/approved-by", json!({"spec": {"approvedBy": "bob"}})),
        (
            "OPS-02/too-long",
            json!({"spec": {"expirationTime": from_now(91 * 24 * HOUR)}}),
        ),
        // The server writes the time of creation, whatever the client sends.
        (
            "OPS-02/too-long",
            json!({"metadata": {"creationTimestamp": from_now(10 * 24 * HOUR)},
                   "spec": {"expirationTime": from_now(91 * 24 * HOUR)}}),
        ),
    ];
    for (rule, change) in rows {
        cluster.refused(asked(change).await, POLICY, rule);
    }
    asked(json!({"spec": {"expirationTime": from_now((90 * 24 - 1) * HOUR)}}))
        .await
        .unwrap();

    // A pipeline's word is taken where the policy says so, and nobody else's.
    let word = json!({"spec": {"requestedBy": "bob", "approvedBy": "carol"}});
    let gitops = person(cluster, ARGO);
    try_create(&gitops, waiver("own-name", ARGO, word.clone()))
        .await
        .unwrap();
    let other = person(cluster, "system:serviceaccount:argocd:other");
    cluster.refused(
        try_create(&other, waiver("own-name", ARGO, word)).await,
        POLICY,
        "OPS-02/requested-by",
    );
}

#[tokio::test]
async fn a_waiver_is_approved_in_person_by_somebody_else_and_once() {
    let cluster = cluster().await;
    let (alice, bob, carol) = (
        person(cluster, "alice"),
        person(cluster, "bob"),
        person(cluster, "carol"),
    );
    create(&alice, waiver("once", "alice", json!({}))).await.unwrap();
    let robot = person(cluster, "system:serviceaccount:argocd:approver");
    let rows = [
        ("her own request", &alice, "alice", 1),
        ("in another's name", &alice, "bob", 1),
        ("in another's name", &carol, "bob", 1),
        ("a program", &robot, "system:serviceaccount:argocd:approver", 1),
        ("a program in a person's name", &robot, "bob", 1),
        ("another generation", &bob, "bob", 2),
    ];
    for (what, client, by, generation) in rows {
        let said = cluster.refused(
            approve(client, "once", by, generation).await,
            POLICY,
            "OPS-02/own-approval",
        );
        assert!(!said.is_empty(), "{what}");
    }
    // Whether it holds is for the operator to say.
    let conditions = json!({"status": {"conditions": [{"type": "Active", "status": "True", "reason": "Active",
                            "message": "mine", "lastTransitionTime": Timestamp::now()}]}});
    let claimed = patch_status(&bob, CLOISON, "Waiver", None, "once", conditions.clone()).await;
    cluster.refused(claimed, POLICY, "CLU-04/status");
    let operator = cluster.operator().await;
    patch_status(&operator, CLOISON, "Waiver", None, "once", conditions)
        .await
        .unwrap();
    // Not even the operator approves.
    let by_us = approve(&operator, "once", &cluster.operator.user, 1).await;
    cluster.refused(by_us, POLICY, "OPS-02/own-approval");

    approve(&bob, "once", "bob", 1).await.unwrap();
    for (client, by) in [(&carol, "carol"), (&bob, "bob")] {
        cluster.refused(approve(client, "once", by, 1).await, POLICY, "OPS-02/approval-edited");
    }
    let withdrawn = patch_status(
        &bob,
        CLOISON,
        "Waiver",
        None,
        "once",
        json!({"status": {"approval": null}}),
    )
    .await;
    cluster.refused(withdrawn, POLICY, "OPS-02/approval-edited");
    // What people do beside that.
    patch(
        &bob,
        CLOISON,
        "Waiver",
        None,
        "once",
        json!({"metadata": {"labels": {"seen": "yes"}}}),
    )
    .await
    .unwrap();
    delete(&alice, CLOISON, "Waiver", None, "once").await.unwrap();
}

/// The policies know it, nobody watches over it, and the API server's own clock ends it.
#[tokio::test]
async fn a_waiver_lets_pods_of_one_workload_in_until_its_end_with_no_operator() {
    let cluster = Cluster::start(vec![Default::default()], spec(json!({}))).await;
    for home in ["waived", "waived-not"] {
        cluster
            .stage_namespace(home, "training", Some("enforce"), "default road")
            .await;
    }
    let alice = cluster.tenant("alice", "waived", "edit").await;
    let mallory = cluster.tenant("mallory", "waived-not", "edit").await;
    let labelled = |home: &str, workload: Option<&str>, change: Value| {
        let labels = workload.map_or_else(|| json!({}), |name| json!({names::WORKLOAD_LABEL: name}));
        with(with(pod(home, "p"), json!({"metadata": {"labels": labels}})), change)
    };
    let ipc = || json!({"spec": {"hostIPC": true}});
    let road = |change: Value| try_create(&alice, labelled("waived", Some("road"), change));
    cluster.refused(road(ipc()).await, "cloison-pod", "WKL-01/host-ipc");

    // Long enough for a slow machine to come to the second half.
    let until = from_now(Duration::from_secs(30));
    let change = json!({
        "metadata": {"generation": 1, "creationTimestamp": Timestamp::now()},
        "spec": {"target": {"namespace": "waived", "workload": "road"}, "expirationTime": until},
        "status": {"approval": {"by": "bob", "time": Timestamp::now(), "generation": 1}},
    });
    let approved = serde_json::from_value(waiver("w", "alice", change)).unwrap();
    cluster.waive(&[approved]).await;
    road(ipc()).await.unwrap();
    // Nothing else: no other rule, workload or namespace.
    cluster.refused(
        road(json!({"spec": {"hostIPC": true, "hostPID": true}})).await,
        "cloison-pod",
        "WKL-01/host-pid",
    );
    let unlabelled = try_create(&alice, labelled("waived", None, ipc())).await;
    cluster.refused(unlabelled, "cloison-pod", "WKL-01/host-ipc");
    let elsewhere = try_create(&mallory, labelled("waived-not", Some("road"), ipc())).await;
    cluster.refused(elsewhere, "cloison-pod", "WKL-01/host-ipc");
    // A pod that was let in lives on, and gets no worse.
    create(&alice, labelled("waived", Some("road"), ipc())).await.unwrap();
    assert!(Timestamp::now() < until, "the machine is too slow for this test");

    eventually_refused(&cluster, "WKL-01/host-ipc", async || road(ipc()).await).await;
    assert!(Timestamp::now() >= until, "not before its end");
    let labelled = json!({"metadata": {"labels": {"app": "x"}}});
    patch(&alice, "v1", "Pod", Some("waived"), "p", labelled).await.unwrap();
    // The client's word on the time counts for nothing.
    let early = json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}, "spec": {"hostIPC": true}});
    cluster.refused(road(early).await, "cloison-pod", "WKL-01/host-ipc");
}
