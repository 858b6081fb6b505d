//! What people are told of keys that rotate by themselves, and how a person asks for a rotation: on one API server with its
//! agent, by the controller as the chart installs it. Raw etcd is the judge.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::too_many_lines)] // a test fails by panicking
#![allow(clippy::default_trait_access)]

#[path = "common/agents.rs"]
mod agents;
#[path = "common/admission.rs"]
mod common;
#[path = "common/operator.rs"]
mod operator;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agents::Node;
use cloison::agent::node::FILE;
use cloison::agent::sealing::new_identity;
use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Minor, Options, eventually};
use common::{apply, objects};
use operator::metric;
use serde_json::{Value, json};

const CLOISON: &str = "cloison.dev/v1alpha1";
const SOON: Duration = Duration::from_secs(90);
/// Two reloads of up to a minute each, a minute for requests that are under way, and readings of etcd.
const ENABLED: Duration = Duration::from_secs(420);
/// Beside plaintext, that nothing of Kubernetes' own is under another key.
const OLD: usize = 20;

/// What a run said, and its exit code.
fn cloison(kubeconfig: &Path, arguments: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.args(arguments.split(' ')).env("KUBECONFIG", kubeconfig);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn says((code, text): &(i32, String), wanted: i32, all: &[&str]) {
    assert_eq!(*code, wanted, "{text}");
    for part in all {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

fn condition<'s>(status: &'s Value, kind: &str) -> (&'s str, &'s str) {
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = all.iter().find(|condition| condition["type"] == kind);
    let text = |field: &str| found.and_then(|found| found[field].as_str()).unwrap_or_default();
    (text("status"), text("reason"))
}

/// Waits until the status of an object named `default` is as wanted.
async fn status(
    plane: &ControlPlane,
    kind: &str,
    what: &str,
    within: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let all = objects(&plane.admin().unwrap(), CLOISON, kind, None);
    let found = eventually(within, what, async || {
        let found = all.get("default").await.map_err(|error| error.to_string())?;
        let status = found.data["status"].clone();
        if wanted(&status) {
            Ok(status)
        } else {
            Err(format!("not yet: {status}"))
        }
    });
    found.await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_asks_for_a_rotation_and_is_told_what_raw_etcd_shows() {
    let plane = ControlPlane::start(Options {
        api_servers: vec![agents::quick()],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let controller = operator::start_with(&plane, &["agent.enabled=true"]).await;
    let admin = plane.admin().unwrap();
    for number in 0..OLD {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("old-{number}"),
            "namespace": "default"}, "stringData": {"a": "written before"}});
        apply(&admin, secret).await;
    }
    // The person on call has the chart's role and nothing else.
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "rosa"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cloison-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "rosa"}]});
    apply(&admin, binding).await;
    let rosa = plane.kubeconfig_as("rosa", &[]).unwrap();
    let mona = plane.kubeconfig_as("mona", &[]).unwrap();
    says(
        &cloison(&rosa, "encryption rotate"),
        1,
        &["nothing rotates: there is no SecretEncryption"],
    );
    let escrow = new_identity().unwrap();
    let wanted = |mode: &str, suspend: bool| {
        json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": "default"}, "spec": {"mode": mode,
            "suspend": suspend, "escrow": {"recipients": [escrow.recipient().0]}}})
    };
    apply(&admin, wanted("Observe", false)).await;
    says(
        &cloison(&rosa, "encryption rotate"),
        1,
        &["nothing rotates: ", "mode Observe"],
    );
    apply(&admin, wanted("Manage", true)).await;
    says(
        &cloison(&rosa, "encryption rotate"),
        1,
        &["nothing rotates: ", "`spec.suspend: true`"],
    );
    says(
        &cloison(&mona, "encryption rotate"),
        2,
        &["get SecretEncryption default", "forbidden"],
    );

    let server = &plane.api_servers()[0];
    let node = Node::new(&plane, server).await;
    apply(&admin, wanted("Manage", false)).await;
    node.agent.start().unwrap();
    let asked = |status: &Value| condition(status, "Blocked").1 == "FlagsMissing";
    status(&plane, "SecretEncryption", "the flags are asked for", SOON, asked).await;
    let flags = [
        format!("--encryption-provider-config={}", node.folder.join(FILE).display()),
        "--encryption-provider-config-automatic-reload=true".to_owned(),
    ];
    let restarted = server.restart_with(|options| options.extra_args.extend(flags)).await;
    restarted.unwrap();
    node.write_manifest(server, &[&node.folder]);
    let plain = |status: &Value| {
        condition(status, "Encrypted") == ("False", "PlaintextValues")
            && condition(status, "IdentityRemoved") == ("False", "IdentityServed")
            && condition(status, "ResidualPlaintextPossible").0 == "True"
    };
    status(&plane, "SecretEncryption", "plaintext is told", SOON, plain).await;

    // Once the first key writes, another rotation has to wait for it.
    let writes = |status: &Value| {
        let step = status["step"].as_str().unwrap_or_default();
        ["Sweep", "Prove", "Drain", "Retire"].contains(&step)
    };
    status(&plane, "SecretEncryption", "the first key writes", ENABLED, writes).await;
    let kubeconfig = rosa.clone();
    let rotate = tokio::task::spawn_blocking(move || cloison(&kubeconfig, "encryption rotate --wait=15"));
    let said = rotate.await.unwrap();
    let (_, text) = &said;
    assert_eq!(said.0, 0, "{text}\n{}", controller.output());
    says(
        &said,
        0,
        &[
            "is finished first; then this one begins",
            "k2: step ",
            "done: everything is under k2",
        ],
    );
    for (_, value) in plane.etcd().list("/registry/secrets/").await.unwrap() {
        assert!(value.starts_with(b"k8s:enc:aesgcm:v1:k2:"), "{text}");
    }

    // What the status says, of which only the last is for a person to change.
    let well = |status: &Value| {
        let is = |kind, truth, reason| condition(status, kind) == (truth, reason);
        status["step"] == "Idle"
            && is("Encrypted", "True", "ValuesEncrypted")
            && is("Converged", "True", "Converged")
            && is("Escrowed", "True", "Escrowed")
            && is("IdentityRemoved", "True", "Removed")
            && is("RelocationProtected", "True", "AESGCM")
            && is("Degraded", "", "")
            && is("ResidualPlaintextPossible", "True", "FirstEnable")
    };
    status(&plane, "SecretEncryption", "all is well", SOON, well).await;
    let follows = |status: &Value| condition(status, "SecretsEncrypted") == ("True", "ValuesEncrypted");
    status(&plane, "AiSecurityPolicy", "the policy follows", SOON, follows).await;

    // The same as metrics.
    let shown = |name: &str, labels: &[&str]| metric(&controller, name, labels);
    assert_eq!(shown("cloison_encryption_step", &[r#"step="Idle""#]), 1);
    assert_eq!(shown("cloison_encryption_step", &[]), 1);
    assert_eq!(shown("cloison_encryption_replicas", &[]), 1);
    assert_eq!(shown("cloison_encryption_replicas_converged", &[]), 1);
    let values = shown(
        "cloison_encryption_values",
        &[r#"resource="secrets",key="k2",state="Write""#],
    );
    assert!(usize::try_from(values).unwrap() >= OLD, "{values}");
    assert_eq!(
        shown("cloison_encryption_values", &[]),
        values,
        "nothing under anything else"
    );
    assert!(shown("cloison_encryption_key_created_timestamp_seconds", &[r#"key="k2""#]) > 1_700_000_000);
    assert!(shown("cloison_encryption_key_writes", &[r#"key="k2""#]) > 0);
    let rewritten = shown("cloison_encryption_sweep_objects_total", &[r#"result="rewritten""#]);
    assert!(usize::try_from(rewritten).unwrap() >= 2 * OLD, "{rewritten}");
    assert_eq!(shown("cloison_encryption_blocked_objects", &[]), 0);
    assert!(shown("cloison_proof_timestamp_seconds", &[r#"kind="etcd""#]) > 0);
    let (_, of_agent) = operator::ask(&node.agent, "/metrics").unwrap();
    assert!(
        of_agent.contains("cloison_agent_file_write_errors_total 0"),
        "{of_agent}"
    );

    // And by the command line, with what it rests on.
    let told = cloison(&rosa, "encryption status");
    let parts = [
        "k2",
        "step Idle",
        "by the agent on Node/cp-0",
        "next: etcdctl defrag on every member",
    ];
    says(&told, 0, &parts);
    let everything = plane.admin_kubeconfig().unwrap();
    let proven = cloison(&everything, "encryption verify");
    says(
        &proven,
        0,
        &[
            "values in etcd: True (ValuesEncrypted)",
            "RESOURCE   KEY   VALUES",
            "secrets    k2    ",
        ],
    );
    let purged = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let change = json!({"metadata": {"annotations": {names::PURGED_ANNOTATION: purged}}});
    let all = objects(&admin, CLOISON, "SecretEncryption", None);
    let patch = kube::api::Patch::Merge(change);
    all.patch("default", &Default::default(), &patch).await.unwrap();
    let confirmed = |status: &Value| condition(status, "ResidualPlaintextPossible") == ("False", "Confirmed");
    status(&plane, "SecretEncryption", "a person confirmed", SOON, confirmed).await;
    says(&cloison(&everything, "encryption status"), 0, &["next: nothing to do"]);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_kubernetes_that_never_says_what_it_loaded_no_key_is_made() {
    let old = ApiServerOptions {
        minor: Minor::V1_33,
        ..ApiServerOptions::default()
    };
    let plane = ControlPlane::start(Options {
        api_servers: vec![old],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let controller = operator::start_with(&plane, &["agent.enabled=true"]).await;
    let wanted = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": "default"},
        "spec": {"mode": "Manage", "escrow": {"recipients": [new_identity().unwrap().recipient().0]}}});
    apply(&plane.admin().unwrap(), wanted).await;
    let node = Node::new(&plane, &plane.api_servers()[0]).await;
    node.agent.start().unwrap();
    let told = |status: &Value| condition(status, "Blocked") == ("True", "KubernetesTooOld");
    let said = status(&plane, "SecretEncryption", "the version is told", SOON, told).await;
    let line = said["blockedBy"].to_string();
    assert!(line.contains("Node/cp-0: its API server is Kubernetes 1.33"), "{said}");
    assert_eq!(
        (said["order"]["mint"].clone(), node.folder.join(FILE).exists()),
        (Value::Null, false)
    );
    controller.stop().await;
}
