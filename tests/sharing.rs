//! Storage and devices that pods of two stages hold at one time stand in the status of both workloads: on a real API server, by a
//! controller under its own account. What a binder of volumes and a scheduler would write is written by the test.
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

use cloison::api::names;
use cloison_testbed::{ControlPlane, Options, Program, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};
use operator::{PATIENCE, apply, namespace, workload};
use running::{delete, pod, told};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const STORAGE: &str = "DAT-07/shared-volume";
const DEVICE: &str = "WKL-04/mixed-device";

static PLANE: OnceCell<(ControlPlane, Program)> = OnceCell::const_new();

async fn client() -> Client {
    let start = || async {
        let options = Options {
            controller_manager: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        let controller = operator::start(&plane).await;
        (plane, controller)
    };
    PLANE.get_or_init(start).await.0.admin().unwrap()
}

/// Waits until a rule is told once, in words that hold these, or is not told.
async fn is_told(client: &Client, namespace: &str, name: &str, rule: &str, words: Option<&str>) {
    let what = format!("{namespace}/{name} {rule}: {words:?}");
    eventually(PATIENCE, &what, || async {
        match (&*told(client, namespace, name, rule).await, words) {
            ([], None) => Ok(()),
            ([one], Some(words)) if one.contains(words) => Ok(()),
            (found, _) => Err(format!("{found:?}")),
        }
    })
    .await
    .unwrap();
}

/// What `cloison check` of the cluster says of a rule, a line each.
fn checked(rule: &str, namespace: &str) -> Vec<String> {
    let kubeconfig = PLANE.get().unwrap().0.admin_kubeconfig().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_cloison"));
    check.arg("check").env_clear().env("KUBECONFIG", kubeconfig);
    let said = String::from_utf8(check.output().unwrap().stdout).unwrap();
    let lines = said
        .lines()
        .filter(|line| line.contains(rule) && line.starts_with(&format!("AiWorkload {namespace}/")));
    lines.map(str::to_owned).collect()
}

async fn stage(client: &Client, name: &str, stage: &str) {
    namespace(client, name, stage, Some("audit")).await;
    let kind = if stage == "training" { "Training" } else { "Inference" };
    for name_of in ["default", "other"] {
        apply(client, workload(name, name_of, kind, Value::Null)).await.unwrap();
    }
}

/// A claim of a namespace and the volume it is bound to, whose data is where `handle` says.
async fn bound(client: &Client, namespace: &str, name: &str, handle: &str) {
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{namespace}-{name}")}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "claimRef": {"namespace": namespace, "name": name},
        "csi": {"driver": "files.example.com", "volumeHandle": handle}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace}, "spec": {
        "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "", "volumeName": format!("{namespace}-{name}")}});
    apply(client, volume).await.unwrap();
    apply(client, claim).await.unwrap();
}

fn mounts(claim: &str) -> Value {
    json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]})
}

/// A ResourceClaim of a pod, and the device that a scheduler gave it.
async fn given(client: &Client, namespace: &str, name: &str, pod: &Pod, device: &str) {
    let kind = GroupVersionKind::gvk("resource.k8s.io", "v1", "ResourceClaim");
    let claims: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let status = json!({"status": {
        "allocation": {"devices": {"results": [
            {"request": "gpu", "driver": "gpu.example.com", "pool": "a", "device": device}]}},
        "reservedFor": [{"resource": "pods", "name": pod.name_any(), "uid": pod.uid().unwrap()}]}});
    claims
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
}

async fn asked(client: &Client, namespace: &str, name: &str) {
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name, "namespace": namespace},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}}});
    apply(client, claim).await.unwrap();
}

fn uses(claim: &str) -> Value {
    json!({
        "resourceClaims": [{"name": "gpu", "resourceClaimName": claim}],
        "containers": [{"name": "main", "image": "registry.example.com/app:1", "resources": {"claims": [{"name": "gpu"}]}}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stages_on_one_storage_are_told() {
    let client = client().await;
    stage(&client, "shelf-train", "training").await;
    stage(&client, "shelf-infer", "inference").await;
    bound(&client, "shelf-train", "data", "export-1").await;
    bound(&client, "shelf-train", "own", "export-2").await;
    bound(&client, "shelf-infer", "models", "export-1").await;
    pod(&client, "shelf-train", "one", Some("default"), &mounts("data")).await;
    pod(&client, "shelf-train", "two", Some("other"), &mounts("own")).await;
    // A claim that nobody mounts carries nothing yet.
    operator::stays(Duration::from_secs(5), || async {
        assert_eq!(told(&client, "shelf-train", "default", STORAGE).await, [""; 0]);
    })
    .await;
    pod(&client, "shelf-infer", "one", Some("default"), &mounts("models")).await;
    let words = "PersistentVolumeClaim data is kept where namespace shelf-infer, of stage inference, keeps its claim models: \
                 PersistentVolumes shelf-train-data and shelf-infer-models lead to one storage";
    is_told(&client, "shelf-train", "default", STORAGE, Some(words)).await;
    let words = "keeps its claim data: ";
    is_told(&client, "shelf-infer", "default", STORAGE, Some(words)).await;
    assert_eq!(told(&client, "shelf-train", "other", STORAGE).await, [""; 0]);
    assert_eq!(told(&client, "shelf-infer", "other", STORAGE).await, [""; 0]);

    // `check` comes to the same.
    let lines = checked(STORAGE, "shelf-train");
    assert!(
        lines.len() == 1 && lines[0].contains("shelf-train/default"),
        "{lines:?}"
    );
    assert!(lines[0].contains("lead to one storage"), "{lines:?}");

    delete(&client, "shelf-infer", "one").await;
    is_told(&client, "shelf-train", "default", STORAGE, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stages_on_one_device_are_told() {
    let client = client().await;
    stage(&client, "gpu-train", "training").await;
    stage(&client, "gpu-infer", "inference").await;
    for (namespace, name) in [("gpu-train", "gpu"), ("gpu-train", "own"), ("gpu-infer", "gpu")] {
        asked(&client, namespace, name).await;
    }
    let one = pod(&client, "gpu-train", "one", Some("default"), &uses("gpu")).await;
    given(&client, "gpu-train", "gpu", &one, "gpu-0").await;
    let two = pod(&client, "gpu-train", "two", Some("other"), &uses("own")).await;
    given(&client, "gpu-train", "own", &two, "gpu-1").await;
    let infer = pod(&client, "gpu-infer", "one", Some("default"), &uses("gpu")).await;
    given(&client, "gpu-infer", "gpu", &infer, "gpu-0").await;
    // Allocations are not watched: the next change of a pod sets off the look.
    pod(&client, "gpu-infer", "news", Some("other"), &json!({})).await;
    let words = "ResourceClaim gpu has device gpu.example.com/a/gpu-0, which workload gpu-infer/default, of stage inference, has too";
    is_told(&client, "gpu-train", "default", DEVICE, Some(words)).await;
    is_told(
        &client,
        "gpu-infer",
        "default",
        DEVICE,
        Some("workload gpu-train/default, of stage training,"),
    )
    .await;
    assert_eq!(told(&client, "gpu-train", "other", DEVICE).await, [""; 0]);
    let lines = checked(DEVICE, "gpu-train");
    assert!(lines.len() == 1 && lines[0].contains("gpu-train/default"), "{lines:?}");

    // What is known stays, and that it is not known now is said, where nobody may list the claims.
    let role = running::take_list(&client, "resourceclaims").await;
    pod(&client, "gpu-infer", "more", Some("other"), &json!({})).await;
    let unlisted = "which devices its pods have is not known: ResourceClaims could not be listed";
    is_told(&client, "gpu-train", "other", DEVICE, Some(unlisted)).await;
    eventually(PATIENCE, "both are told", || async {
        match &*told(&client, "gpu-train", "default", DEVICE).await {
            [one, two] if [one, two].iter().any(|it| it.contains(words)) => Ok(()),
            found => Err(format!("{found:?}")),
        }
    })
    .await
    .unwrap();
    assert_eq!(
        told(&client, "gpu-infer", "other", DEVICE).await,
        [""; 0],
        "its pods have no claim"
    );
    running::give_back(&client, role).await;
    is_told(&client, "gpu-train", "other", DEVICE, None).await;
    is_told(&client, "gpu-train", "default", DEVICE, Some(words)).await;

    delete(&client, "gpu-infer", "one").await;
    is_told(&client, "gpu-train", "default", DEVICE, None).await;
}

#[test]
fn manifests_say_it_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yaml");
    let write = |handle: &str| {
        let mut all = Vec::new();
        for (namespace, stage, kind, handle) in [
            ("train", "training", "Training", "export-1"),
            ("infer", "inference", "Inference", handle),
        ] {
            all.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {names::STAGE_LABEL: stage}}}));
            all.push(workload(namespace, "road", kind, Value::Null));
            all.push(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("of-{namespace}")}, "spec": {
                "claimRef": {"namespace": namespace, "name": "data"}, "nfs": {"server": "files.example.com", "path": format!("/{handle}")}}}));
            // One names its volume; the other leaves it to the volume that is reserved for it.
            let mut spec = json!({"storageClassName": ""});
            if kind == "Training" {
                spec["volumeName"] = json!(format!("of-{namespace}"));
            }
            all.push(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": namespace},
                "spec": spec}));
            let mut spec = mounts("data");
            spec["containers"] = json!([{"name": "main", "image": "registry.example.com/app:1"}]);
            all.push(json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
                "name": "p", "namespace": namespace, "labels": {names::WORKLOAD_LABEL: "road"}}}));
        }
        let documents: Vec<String> = all.iter().map(Value::to_string).collect();
        std::fs::write(&file, documents.join("\n---\n")).unwrap();
    };
    let said = || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_cloison"));
        check.args(["check", "-f"]).arg(&file).env_clear();
        let output = check.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines()
            .filter(|line| line.contains(STORAGE))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    write("export-2");
    assert_eq!(said(), [""; 0]);
    write("export-1");
    let lines = said();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let of_train = lines.iter().find(|line| line.contains("of stage inference"));
    let of_train = of_train.unwrap_or_else(|| panic!("{lines:?}"));
    assert!(
        of_train.contains("all.yaml:") && of_train.contains("keeps its claim data"),
        "{of_train}"
    );
}
