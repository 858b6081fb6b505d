//! `cloison waiver` beside a running controller, as the people it is for: one asks, another approves, the pod comes in, and
//! what is over is told, also when the controller is dead.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/network.rs"]
mod network;
#[path = "common/operator.rs"]
mod operator;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cloison::api::{Waiver, names};
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use network::Installation;
use operator::{PATIENCE, apply, condition, namespace, sealed, workload};
use serde_json::json;

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn waiver(kubeconfig: &Path, arguments: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command
        .arg("waiver")
        .args(arguments.split(' ').map(|word| word.replace('_', " ")));
    let output = command.env_clear().env("KUBECONFIG", kubeconfig).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A user who holds one of the chart's roles for people.
async fn person(plane: &ControlPlane, user: &str, role: &str) -> PathBuf {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]});
    apply(&plane.admin().unwrap(), binding).await.unwrap();
    plane.kubeconfig_as(user, &[]).unwrap()
}

/// A pod of the workload that shares memory with its node, as a dry run.
async fn comes_in(alice: &Client) -> Result<(), String> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {names::WORKLOAD_LABEL: "road"}},
        "spec": {"hostIPC": true, "automountServiceAccountToken": false, "containers": [{"name": "main",
                 "image": format!("registry.example.com/app@sha256:{}", "a".repeat(64))}]}});
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(alice.clone(), "train");
    let created = pods.create(&dry_run, &serde_json::from_value(pod).unwrap()).await;
    created.map(drop).map_err(|error| error.to_string())
}

/// An installation, with `train/road` and `infer/model` that declare a flow to each other, and two people: alice asks, bob
/// approves.
async fn scene() -> (Installation, PathBuf, PathBuf) {
    let plane = ControlPlane::start(Options {
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let installation = Installation::start(plane, json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}})).await;
    let (plane, client) = (&installation.plane, installation.admin());
    let alice = person(plane, "alice", "cloison-admin").await;
    let bob = person(plane, "bob", "cloison-approver").await;
    for (home, stage) in [("train", "training"), ("infer", "inference")] {
        namespace(&client, home, stage, Some("enforce")).await;
        sealed(&client, home, stage).await;
    }
    let other =
        |name: &str, home: &str| json!([{"workload": {"name": name, "namespace": home}, "ports": [{"port": 8080}]}]);
    let road = workload(
        "train",
        "road",
        "Training",
        json!({"connectTo": other("model", "infer")}),
    );
    let model = workload(
        "infer",
        "model",
        "Inference",
        json!({"acceptFrom": other("road", "train")}),
    );
    for object in [road, model] {
        apply(&client, object).await.unwrap();
    }
    condition(&client, "train", "road", "AdmissionEnforced", "True").await;
    (installation, alice, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_asks_and_another_approves() {
    let (installation, alice, bob) = scene().await;
    let (plane, client) = (&installation.plane, installation.admin());
    let carol = plane.kubeconfig_as("carol", &[]).unwrap();
    let tenant = plane.tenant("dave", "train", "edit").await.unwrap();
    let refused = eventually(PATIENCE, "the rule refuses", async || match comes_in(&tenant).await {
        Err(said) if said.contains("WKL-01/host-ipc") => Ok(said),
        other => Err(format!("{other:?}")),
    });
    refused.await.unwrap();

    // Who asks.
    let wish = "request ipc -n train -w road --control WKL-01/host-ipc --reason NCCL_of_this_driver_needs_it --days 10";
    let told = waiver(&carol, wish);
    assert!(
        told.code == 2 && told.err.contains("you may not create Waivers: print it with -o yaml"),
        "{}",
        told.err
    );
    let printed = waiver(&carol, &format!("{wish} -o yaml"));
    assert!(
        printed.code == 0 && printed.out.contains("requestedBy: carol"),
        "{}",
        printed.out
    );
    let wrong = waiver(&alice, &wish.replace("host-ipc", "no-such-rule"));
    assert!(
        wrong.code == 2 && wrong.err.contains("there is no WKL-01/no-such-rule"),
        "{}",
        wrong.err
    );
    let asked = waiver(&alice, wish);
    assert!(
        asked.code == 0 && asked.out.contains("asked for by alice"),
        "{}{}",
        asked.out,
        asked.err
    );
    assert!(waiver(&alice, "list").out.contains("NotApproved"));

    // Who approves: not who asked, whatever roles she holds.
    let second = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "alice-too"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cloison-approver"},
        "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}]});
    apply(&client, second).await.unwrap();
    let own = eventually(PATIENCE, "her right to approve arrives", async || {
        let said = waiver(&alice, "approve ipc");
        if said.err.contains("OPS-02/own-approval") {
            Ok(said)
        } else {
            Err(said.err)
        }
    });
    assert_eq!(own.await.unwrap().code, 2);
    let approved = waiver(&bob, "approve ipc --comment until_the_driver_is_new");
    assert!(
        approved.code == 0
            && approved
                .out
                .contains("bob approved Waiver ipc of alice: WKL-01/host-ipc for train/road"),
        "{}{}",
        approved.out,
        approved.err
    );
    let twice = waiver(&bob, "approve ipc");
    assert!(
        twice.code == 2 && twice.err.contains("was approved by bob"),
        "{}",
        twice.err
    );
    eventually(PATIENCE, "the pod comes in", async || comes_in(&tenant).await)
        .await
        .unwrap();
    let seen = eventually(PATIENCE, "it is seen in force", async || {
        let list = waiver(&alice, "list -n train").out;
        if list.contains("train/road") && list.contains("Active") && list.contains("bob") {
            Ok(())
        } else {
            Err(list)
        }
    });
    seen.await.unwrap();
    assert!(waiver(&alice, "list -n infer").out.contains("no Waiver"));
    operator::metric_is(
        &installation.controller,
        "cloison_waivers",
        &["status=\"Active\""],
        |n| n == 1,
    )
    .await;

    a_rule_that_knows_no_waivers_is_told(&client, &alice, &bob).await;

    // It is deleted: the pod is refused again.
    Api::<Waiver>::all(client.clone())
        .delete("ipc", &DeleteParams::default())
        .await
        .unwrap();
    let closed = eventually(PATIENCE, "the rule refuses again", async || {
        match comes_in(&tenant).await {
            Err(said) if said.contains("WKL-01/host-ipc") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    closed.await.unwrap();
}

/// What knows no Waivers is not said to hold.
async fn a_rule_that_knows_no_waivers_is_told(client: &Client, alice: &Path, bob: &Path) {
    let exec = "request exec -n train --control WKL-06/exec --reason Somebody_has_to_look_into_it --days 1";
    let asked = waiver(alice, exec);
    let deaf = "it opens nothing: nothing that judges WKL-06/exec knows Waivers";
    assert!(asked.code == 0 && asked.err.contains(deaf), "{}", asked.err);
    let approved = waiver(bob, "approve exec");
    assert!(approved.code == 0 && approved.out.contains(deaf), "{}", approved.out);
    let told = eventually(PATIENCE, "it has no effect", async || {
        let found: Waiver = Api::all(client.clone()).get("exec").await.unwrap();
        let conditions = found.status.unwrap_or_default().conditions;
        match conditions.into_iter().find(|condition| condition.reason == "NoEffect") {
            Some(condition) => Ok((condition.status, condition.message)),
            None => Err("nothing yet"),
        }
    });
    let (status, message) = told.await.unwrap();
    assert!(
        status == "False" && message.contains("nothing that judges WKL-06/exec knows Waivers"),
        "{message}"
    );
    assert!(waiver(alice, "list").out.contains("NoEffect"));
    // Beside a rule that is heard it does not hide that the rest is open.
    let both = "request both -n train --control WKL-06/exec --control WKL-01/host-pid --reason Somebody_has_to_look_into_it \
                --days 1";
    assert_eq!(waiver(alice, both).code, 0);
    // What is written beside the spec meanwhile, as the controller writes the status, is no reason to refuse.
    let waivers: Api<Waiver> = Api::all(client.clone());
    let writing = tokio::spawn(async move {
        for round in 0..10_000_u32 {
            let change = json!({"metadata": {"annotations": {"round": round.to_string()}}});
            let patch = Patch::Merge(change);
            waivers.patch("both", &PatchParams::default(), &patch).await.unwrap();
        }
    });
    let approved = waiver(bob, "approve both");
    assert!(approved.code == 0 && !writing.is_finished(), "{}", approved.err);
    writing.abort();
    let told = eventually(PATIENCE, "it is told to hold in part", async || {
        let found: Waiver = Api::all(client.clone()).get("both").await.unwrap();
        let conditions = found.status.unwrap_or_default().conditions;
        let active = conditions.into_iter().find(|condition| condition.type_ == "Active");
        active
            .filter(|active| active.status == "True")
            .map(|active| active.message)
            .ok_or("nothing yet")
    });
    let message = told.await.unwrap();
    let part = "it does not open all that it names: nothing that judges WKL-06/exec knows Waivers";
    assert!(
        message.starts_with("it holds until ") && message.contains(part),
        "{message}"
    );
    Api::<Waiver>::all(client.clone())
        .delete("both", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_nobody_closes_is_told_to_be_overdue() {
    let (installation, alice, bob) = scene().await;
    let client = installation.admin();
    // A flow whose end comes while the controller is dead stays open, and that is said.
    let end = (Timestamp::now() + Duration::from_secs(25)).to_string();
    let flow = format!(
        "request shadow -n train --control NET-03/cross-stage --reason Shadow_evaluation_of_the_detector --until {end} \
         --flow-from train/road --flow-to infer/model --port 8080"
    );
    assert_eq!(waiver(&alice, &flow).code, 0);
    assert_eq!(waiver(&bob, "approve shadow").code, 0);
    let active = eventually(PATIENCE, "it is told to hold", async || {
        let said = waiver(&alice, "list -n infer");
        let found: Waiver = Api::all(client.clone()).get("shadow").await.unwrap();
        let told = found.status.is_some_and(|status| {
            status
                .conditions
                .iter()
                .any(|c| c.type_ == "Active" && c.status == "True")
        });
        if told { Ok(()) } else { Err(said.out) }
    });
    active.await.unwrap();
    assert_eq!(waiver(&alice, "list").code, 0);
    installation.controller.kill();
    let overdue = eventually(PATIENCE, "it is overdue", async || {
        let said = waiver(&alice, "list");
        if said.out.contains("WaiverOverdue: shadow") {
            Ok(said.code)
        } else {
            Err(said.out)
        }
    });
    assert_eq!(overdue.await.unwrap(), 1);
    let kubeconfig = installation.plane.admin_kubeconfig().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_cloison"));
    check.arg("check").env_clear().env("KUBECONFIG", kubeconfig);
    let said = String::from_utf8(check.output().unwrap().stdout).unwrap();
    let line = said.lines().find(|line| line.contains("OPS-02/overdue"));
    assert!(
        line.is_some_and(|line| line.contains("shadow") && line.contains("may be open")),
        "{said}"
    );
    installation.controller.start().unwrap();
    let closed = eventually(PATIENCE, "the controller closes it", async || {
        let said = waiver(&alice, "list");
        if said.out.contains("Expired") {
            Ok(said.code)
        } else {
            Err(said.out)
        }
    });
    assert_eq!(closed.await.unwrap(), 0);
}
