//! A quarantine cuts a workload off from everything, by the hand of who may edit it; only who may release it lets it back
//! in; and it is claimed only while no policy opens anything for its pods.
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

use std::path::Path;
use std::process::Command;

use cloison::api::workload::FlowState;
use cloison::api::{AiWorkload, conditions};
use cloison_testbed::{ControlPlane, Options, eventually};
use kube::api::DeleteParams;
use kube::{Api, Client};
use network::{Installation, flow, has_rules, tenants_may_open};
use operator::{PATIENCE, apply, condition, namespace, network_policies, policy, workload};
use serde_json::json;

/// Runs the program as whoever a kubeconfig is for: the exit code, and all it said.
fn cloison(kubeconfig: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// Two workloads that talk to each other.
async fn pair(admin: &Client, home: &str) {
    let ports = json!([{"port": 8080}]);
    let with = |other: &str| {
        json!({"connectTo": [{"workload": {"name": other}, "ports": ports}],
               "acceptFrom": [{"workload": {"name": other}, "ports": ports}]})
    };
    for (name, other) in [("front", "model"), ("model", "front")] {
        apply(admin, workload(home, name, "Inference", with(other)))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_cuts_everything_until_somebody_who_may_ends_it() {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let installation = Installation::start(plane, json!({"controls": tenants_may_open()})).await;
    let admin = installation.admin();
    let admins = installation.plane.admin_kubeconfig().unwrap();
    namespace(&admin, "serve", "inference", Some("enforce")).await;
    namespace(&admin, "tried", "inference", Some("audit")).await;
    pair(&admin, "serve").await;
    pair(&admin, "tried").await;
    flow(&admin, "serve", "front", "workload serve/model", FlowState::Open).await;
    assert!(has_rules(&policy(&admin, "serve", "cloison-wl-model").await));

    // The one who runs the model pulls the plug.
    let edit = installation
        .plane
        .tenant_identity("mona", "serve", "edit")
        .await
        .unwrap();
    let mona = edit.kubeconfig().unwrap();
    let cut = ["quarantine", "model", "-n", "serve", "--reason", "INC-4711"];
    let (code, said) = cloison(&mona, &cut);
    assert!(
        code == 0 && said.contains("AiWorkload serve/model is in quarantine"),
        "{code} {said}"
    );
    let (reason, message) = condition(&admin, "serve", "model", "Quarantined", "True").await;
    assert_eq!(reason, "EstablishedConnectionsMayPersist");
    assert!(
        message.contains("kubectl delete pod -n serve -l cloison.dev/workload=model"),
        "{message}"
    );
    assert!(!has_rules(&policy(&admin, "serve", "cloison-wl-model").await));
    flow(&admin, "serve", "model", "workload serve/front", FlowState::Refused).await;
    let waits = flow(
        &admin,
        "serve",
        "front",
        "workload serve/model",
        FlowState::AwaitingPeer,
    )
    .await;
    assert!(waits.contains("serve/model is in quarantine"), "{waits}");
    eventually(PATIENCE, "the other end closes too", || async {
        let front = serde_json::to_string(&policy(&admin, "serve", "cloison-wl-front").await.spec).unwrap();
        if front.contains("\"model\"") {
            Err(front)
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    condition(&admin, "serve", "front", "Ready", "True").await;

    // A policy of somebody else opens what ours no longer does: that is no quarantine.
    let theirs = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "theirs", "namespace": "serve"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {}}]}]}});
    apply(&admin, theirs).await.unwrap();
    let (reason, message) = condition(&admin, "serve", "model", "Quarantined", "False").await;
    assert_eq!(reason, "PathExists");
    assert!(message.contains("serve/theirs egress[0].to[0]"), "{message}");
    network_policies(&admin, "serve")
        .delete("theirs", &DeleteParams::default())
        .await
        .unwrap();
    condition(&admin, "serve", "model", "Quarantined", "True").await;

    // In audit nothing is written, so nothing is cut.
    let (code, said) = cloison(&admins, &["quarantine", "model", "-n", "tried", "--reason", "INC-4711"]);
    assert_eq!(code, 0, "{said}");
    let (reason, message) = condition(&admin, "tried", "model", "Quarantined", "False").await;
    assert!(reason == "AuditMode" && message.contains("nothing is cut"), "{message}");

    // Who pulled it may not let it back in, once every API server was seen to refuse.
    condition(&admin, "serve", "model", "AdmissionEnforced", "True").await;
    let release = ["quarantine", "model", "-n", "serve", "--release"];
    let (code, said) = cloison(&mona, &release);
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("'cloison-guard'") && said.contains("OPS-01/release"),
        "{said}"
    );
    let (code, said) = cloison(&admins, &release);
    assert_eq!((code, said.contains("serve/model is released")), (0, true), "{said}");
    flow(&admin, "serve", "front", "workload serve/model", FlowState::Open).await;
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "serve");
    eventually(PATIENCE, "the condition goes with the annotation", || async {
        let found = workloads.get("model").await.map_err(|error| error.to_string())?;
        match conditions::find(&found.status.unwrap_or_default().conditions, "Quarantined") {
            None => Ok(()),
            Some(found) => Err(format!("{found:?}")),
        }
    })
    .await
    .unwrap();
    assert!(has_rules(&policy(&admin, "serve", "cloison-wl-model").await));
}

#[test]
fn a_quarantine_has_a_reason() {
    for (arguments, says) in [
        (&["quarantine", "model"][..], "--reason"),
        (&["quarantine", "model", "--reason", " "][..], "say why"),
        (
            &["quarantine", "model", "--reason", "x", "--release"][..],
            "cannot be used with",
        ),
    ] {
        let (code, said) = cloison(Path::new("/nowhere"), arguments);
        assert!(code == 2 && said.contains(says), "{said}");
    }
}
