//! Pods that run are judged by the rules at the door, and what would be refused stands in the status of their workload: on a
//! real API server, by a controller under its own account.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;
#[path = "common/running.rs"]
mod running;

use std::process::Command;
use std::time::Duration;

use cloison::api::{AiSecurityPolicy, AiWorkload, Waiver};
use cloison_testbed::{ControlPlane, Options, Program, eventually};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use operator::{PATIENCE, apply, condition, namespace, workload};
use running::{delete, pod, told};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const IPC: &str = "WKL-01/host-ipc";
const PID: &str = "WKL-01/host-pid";
const REFERENCE: &str = "ENC-04/reference";
const DIGEST: &str = "SUP-01/digest";

static PLANE: OnceCell<(ControlPlane, Program)> = OnceCell::const_new();

async fn started() -> (ControlPlane, Program) {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let controller = operator::start(&plane).await;
    (plane, controller)
}

async fn client() -> Client {
    PLANE.get_or_init(started).await.0.admin().unwrap()
}

/// Waits until a rule is told, once, or is not told.
async fn is_told(client: &Client, namespace: &str, name: &str, rule: &str, wanted: bool) -> Option<String> {
    eventually(
        PATIENCE,
        &format!("{namespace}/{name} {rule} told: {wanted}"),
        || async {
            let found = told(client, namespace, name, rule).await;
            if found.len() == usize::from(wanted) {
                Ok(found.first().cloned())
            } else {
                Err(format!("{found:?}"))
            }
        },
    )
    .await
    .unwrap()
}

/// What a first day looks like: pods ran before anybody declared anything, and nothing is refused yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_refused_is_told_while_it_runs() {
    let client = client().await;
    namespace(&client, "train", "training", Some("audit")).await;
    pod(&client, "train", "old", None, &json!({"hostIPC": true})).await;
    pod(&client, "train", "other", Some("lane"), &json!({"hostPID": true})).await;
    apply(&client, workload("train", "default", "Training", Value::Null))
        .await
        .unwrap();
    let message = is_told(&client, "train", "default", IPC, true).await.unwrap();
    assert!(
        message.contains("a running pod would be refused in mode enforce: ") && !message.contains("old"),
        "{message}"
    );
    assert_eq!(
        told(&client, "train", "default", PID).await,
        [""; 0],
        "another workload's"
    );

    // `check` comes to the same.
    let kubeconfig = PLANE.get().unwrap().0.admin_kubeconfig().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_cloison"));
    check.arg("check").env_clear().env("KUBECONFIG", kubeconfig);
    let said = String::from_utf8(check.output().unwrap().stdout).unwrap();
    let line = said
        .lines()
        .find(|line| line.contains(IPC) && line.contains("train/default"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(
        line.contains("a running pod would be refused in mode enforce: "),
        "{line}"
    );

    // Another pod that breaks the same rule is no news.
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), "train");
    let findings = || async { api.get("default").await.unwrap().status.unwrap().findings };
    let before = findings().await;
    pod(&client, "train", "same", None, &json!({"hostIPC": true})).await;
    operator::stays(Duration::from_secs(5), || async {
        assert_eq!(findings().await, before, "something else is told");
    })
    .await;
    delete(&client, "train", "old").await;
    operator::stays(Duration::from_secs(5), || async {
        assert_eq!(
            told(&client, "train", "default", IPC).await.len(),
            1,
            "the same still runs"
        );
    })
    .await;
    delete(&client, "train", "same").await;
    is_told(&client, "train", "default", IPC, false).await;

    // A workload that is declared later finds what ran before it.
    apply(&client, workload("train", "lane", "Training", Value::Null))
        .await
        .unwrap();
    is_told(&client, "train", "lane", PID, true).await;
    // What has ended is over, though its pod is still there.
    let pods: Api<Pod> = Api::namespaced(client.clone(), "train");
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("other", &PatchParams::default(), &ended)
        .await
        .unwrap();
    is_told(&client, "train", "lane", PID, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_pod_or_of_the_policy_is_seen() {
    let client = client().await;
    namespace(&client, "change", "training", Some("enforce")).await;
    apply(&client, workload("change", "default", "Training", Value::Null))
        .await
        .unwrap();
    condition(&client, "change", "default", "Ready", "True").await;
    let pinned = format!("registry.example.com/app@sha256:{}", "0".repeat(64));
    let clean = json!({"containers": [{"name": "main", "image": pinned}]});
    pod(&client, "change", "p", None, &clean).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "change");
    let image = |image: &str| Patch::Strategic(json!({"spec": {"containers": [{"name": "main", "image": image}]}}));
    let any = PatchParams::default();
    pods.patch("p", &any, &image("registry.example.com/app:1"))
        .await
        .unwrap();
    is_told(&client, "change", "default", DIGEST, true).await;

    let policies: Api<AiSecurityPolicy> = Api::all(client.clone());
    let control = json!([{"id": "SUP-01", "mode": "Disabled", "reason": "images are pinned elsewhere"}]);
    let off = |controls: Value| Patch::Merge(json!({"spec": {"controls": controls}}));
    policies.patch("default", &any, &off(control)).await.unwrap();
    is_told(&client, "change", "default", DIGEST, false).await;
    policies.patch("default", &any, &off(Value::Null)).await.unwrap();
    is_told(&client, "change", "default", DIGEST, true).await;
    pods.patch("p", &any, &image(&pinned)).await.unwrap();
    is_told(&client, "change", "default", DIGEST, false).await;
}

/// Nothing stops a pod that came in by a Waiver when that ends; but it is told from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_told_when_its_waiver_has_ended() {
    let client = client().await;
    namespace(&client, "waived", "training", Some("enforce")).await;
    apply(&client, workload("waived", "default", "Training", Value::Null))
        .await
        .unwrap();
    condition(&client, "waived", "default", "AdmissionEnforced", "True").await;
    let end = Timestamp::from_second(Timestamp::now().as_second()).unwrap() + Duration::from_secs(40);
    let waiver = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": "ipc"}, "spec": {
        "target": {"namespace": "waived"}, "controls": [IPC, REFERENCE], "requestedBy": "alice",
        "reason": "NCCL of this driver needs it until it is replaced", "expirationTime": end,
    }});
    let plane = &PLANE.get().unwrap().0;
    let person = |name: &str| plane.client_as(name, &["system:masters"]).unwrap();
    apply(&person("alice"), waiver).await.unwrap();
    let waivers: Api<Waiver> = Api::all(person("bob"));
    let approval = json!({"status": {"approval": {"by": "bob", "time": Timestamp::now(), "generation": 1}}});
    waivers
        .patch_status("ipc", &PatchParams::default(), &Patch::Merge(approval))
        .await
        .unwrap();
    // Refused until the Waiver stands in the policy.
    let variable = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let containers = json!([{"name": "main", "image": "registry.example.com/app:1", "env": variable}]);
    let spec = json!({"hostIPC": true, "containers": containers});
    pod(&client, "waived", "p", None, &spec).await;
    assert!(Timestamp::now() < end, "it came in by the Waiver");
    // Found by the check of Secrets and not by the scan, and waived all the same.
    is_told(&client, "waived", "default", "IAM-01/own-account", true).await;
    let told_of = told(&client, "waived", "default", REFERENCE).await;
    assert!(told_of.is_empty() || Timestamp::now() >= end, "{told_of:?}");
    let message = is_told(&client, "waived", "default", IPC, true).await.unwrap();
    assert!(Timestamp::now() >= end, "told while it was waived: {message}");
    is_told(&client, "waived", "default", REFERENCE, true).await;
}

/// What a pod takes out of a ConfigMap no request shows, and the controller reads none: `check` does, with the caller's rights.
#[tokio::test(flavor = "multi_thread")]
async fn check_tells_of_accelerators_taken_by_a_config_map() {
    const RULE: &str = "WKL-04/visible-devices";
    let client = client().await;
    namespace(&client, "maps", "training", Some("enforce")).await;
    apply(&client, workload("maps", "default", "Training", Value::Null))
        .await
        .unwrap();
    condition(&client, "maps", "default", "Ready", "True").await;
    let map = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "env", "namespace": "maps"},
            "data": {"NVIDIA_VISIBLE_DEVICES": value}})
    };
    apply(&client, map("none")).await.unwrap();
    let main =
        json!({"name": "main", "image": "registry.example.com/app:1", "envFrom": [{"configMapRef": {"name": "env"}}]});
    // The door lets it in: it cannot know.
    pod(&client, "maps", "p", None, &json!({"containers": [main]})).await;
    let check = |arguments: &[&str], kubeconfig: &std::path::Path| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_cloison"));
        check
            .arg("check")
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", kubeconfig);
        let output = check.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        let lines = said
            .lines()
            .filter(|line| line.contains(RULE) || line.contains("ConfigMaps"));
        (lines.map(str::to_owned).collect::<Vec<_>>(), output.status.code())
    };
    let plane = &PLANE.get().unwrap().0;
    let admin = plane.admin_kubeconfig().unwrap();
    assert_eq!(check(&[], &admin).0, [""; 0]);
    apply(&client, map("all")).await.unwrap();
    let (lines, code) = check(&[], &admin);
    let words = "AiWorkload maps/default: ";
    let told = lines.first().filter(|line| line.starts_with(words));
    assert!(
        told.is_some_and(|line| line.contains("from ConfigMap env, which no request at the API server shows")),
        "{lines:?}"
    );
    assert_eq!((lines.len(), code), (1, Some(1)));
}

/// While the stop button is pressed nobody knows what runs: what was found says so, and nothing else is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_scan_and_its_release_begins_it_anew() {
    const EARLIER: &str = "(found earlier: no running pod is judged now)";
    // Two bursts and more.
    const A_WHILE: Duration = Duration::from_secs(8);
    let (plane, _controller) = started().await;
    let client = plane.admin().unwrap();
    for name in ["stopped", "works"] {
        namespace(&client, name, "training", Some("audit")).await;
        apply(&client, workload(name, "default", "Training", Value::Null))
            .await
            .unwrap();
    }
    let is_earlier = async |rule: &str| {
        eventually(PATIENCE, "it is said that nobody looks", || async {
            match told(&client, "stopped", "default", rule).await.as_slice() {
                [message] if message.contains(EARLIER) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    };
    let stays_so = async |known: &str, unknown: &str| {
        operator::stays(A_WHILE, || async {
            let before = told(&client, "stopped", "default", known).await;
            assert!(before.len() == 1 && before[0].contains(EARLIER), "{before:?}");
            assert_eq!(told(&client, "stopped", "default", unknown).await, [""; 0], "a scan");
        })
        .await;
    };
    let is_fresh = async |namespace: &str, rule: &str| {
        let message = is_told(&client, namespace, "default", rule, true).await.unwrap();
        assert!(!message.contains(EARLIER), "{message}");
    };
    pod(&client, "stopped", "old", None, &json!({"hostIPC": true})).await;
    is_fresh("stopped", IPC).await;

    // Everywhere.
    operator::press(&client, json!({"scope": "all", "reason": "INC-1"})).await;
    is_earlier(IPC).await;
    delete(&client, "stopped", "old").await;
    pod(&client, "stopped", "new", None, &json!({"hostPID": true})).await;
    stays_so(IPC, PID).await;
    operator::release(&client).await;
    is_fresh("stopped", PID).await;
    is_told(&client, "stopped", "default", IPC, false).await;

    // In one namespace, while the pods of others are judged.
    let one = json!({"scope": "admission", "reason": "INC-2", "namespaces": "stopped"});
    operator::press(&client, one).await;
    is_earlier(PID).await;
    delete(&client, "stopped", "new").await;
    pod(&client, "stopped", "last", None, &json!({"hostIPC": true})).await;
    pod(&client, "works", "other", None, &json!({"hostIPC": true})).await;
    is_fresh("works", IPC).await;
    stays_so(PID, IPC).await;
    operator::release(&client).await;
    is_fresh("stopped", IPC).await;
    is_told(&client, "stopped", "default", PID, false).await;

    // So it is where the pods cannot be listed.
    let role = running::take_list(&client, "pods").await;
    pod(&client, "stopped", "more", None, &json!({"hostPID": true})).await;
    let unjudged = is_told(&client, "stopped", "default", "WKL-01/unjudged", true)
        .await
        .unwrap();
    assert!(unjudged.contains("could not be listed"), "{unjudged}");
    is_earlier(IPC).await;
    assert_eq!(told(&client, "stopped", "default", PID).await, [""; 0]);
    assert_eq!(
        told(&client, "works", "default", "WKL-01/unjudged").await,
        [""; 0],
        "nothing changed there"
    );
    running::give_back(&client, role).await;
    is_told(&client, "stopped", "default", "WKL-01/unjudged", false).await;
    is_fresh("stopped", IPC).await;
    is_fresh("stopped", PID).await;
}
