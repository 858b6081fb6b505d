//! What a workload does with Secrets is in its status while pods run, and leaves it with them: on a real API server, by a
//! controller under its own account.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::collections::BTreeSet;
use std::time::Duration;

use cloison::api::AiWorkload;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, eventually};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use operator::{PATIENCE, apply, condition, namespace, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static PLANE: OnceCell<(ControlPlane, Program)> = OnceCell::const_new();

/// A control plane that encrypts Secrets: what a workload's own settings take away is then the word of nobody else.
async fn plane() -> &'static (ControlPlane, Program) {
    let start = || async {
        let key = json!({"name": "k1", "secret": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="});
        let encrypting = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": [key]}}, {"identity": {}}]}],
        });
        let api_server = ApiServerOptions {
            encryption_config: Some(encrypting.to_string()),
            ..ApiServerOptions::default()
        };
        let options = Options {
            controller_manager: true,
            api_servers: vec![api_server],
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        let controller = operator::start(&plane).await;
        (plane, controller)
    };
    PLANE.get_or_init(start).await
}

/// By its digest: the rules for images have nothing against it.
const IMAGE: &str = "registry.example.com/app@sha256:85aaee176b282ae1bd649d0ca2f62c41ca31bfd0566e54e241202c2411fb399d";

/// A Hugging Face token that never was one, put together here so that no file holds it.
fn token() -> String {
    format!("hf_{}", "qwertzuiopasdfghjklyxcvbnmQWERTZUI")
}

async fn findings(client: &Client, namespace: &str, name: &str) -> Vec<(String, String)> {
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), namespace);
    let status = api.get(name).await.unwrap().status.unwrap_or_default();
    let told = status.findings.into_iter();
    told.map(|finding| (finding.rule.unwrap_or(finding.control), finding.message))
        .collect()
}

/// Waits until the findings are of exactly these rules.
async fn rules(client: &Client, namespace: &str, name: &str, wanted: &[&str]) -> Vec<(String, String)> {
    let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
    eventually(PATIENCE, &format!("{namespace}/{name}: {wanted:?}"), || async {
        let found = findings(client, namespace, name).await;
        let rules: BTreeSet<&str> = found.iter().map(|(rule, _)| rule.as_str()).collect();
        if rules == wanted {
            Ok(found.clone())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap()
}

async fn pod(client: &Client, namespace: &str, name: &str, spec: Value) {
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    // The ServiceAccount `default` comes a moment after its namespace.
    eventually(PATIENCE, &format!("pod {namespace}/{name}"), || async {
        apply(client, pod.clone()).await.map(drop)
    })
    .await
    .unwrap();
}

async fn account(client: &Client, namespace: &str, name: &str) {
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
    apply(client, account).await.unwrap();
}

/// A spec against which there is nothing, and more.
fn spec(more: &Value) -> Value {
    let mut spec = json!({
        "serviceAccountName": "own", "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": IMAGE}],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_do_is_told_while_they_run_and_never_the_value() {
    let (plane, controller) = plane().await;
    let client = plane.admin().unwrap();
    namespace(&client, "train", "training", None).await;
    account(&client, "train", "own").await;
    apply(&client, workload("train", "default", "Training", Value::Null))
        .await
        .unwrap();
    pod(&client, "train", "clean", spec(&json!({}))).await;
    condition(&client, "train", "default", "Ready", "True").await;
    rules(&client, "train", "default", &[]).await;

    let bad = json!({
        "serviceAccountName": "default", "automountServiceAccountToken": true,
        "containers": [{"name": "main", "image": IMAGE, "args": [format!("--token={}", token())],
                        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
        "initContainers": [{"name": "first", "image": IMAGE, "envFrom": [{"secretRef": {"name": "s"}}]}],
    });
    let all = [
        "ENC-04/env-from",
        "ENC-04/literal",
        "ENC-04/reference",
        "IAM-01/own-account",
        "IAM-01/token",
    ];
    pod(&client, "train", "bad", spec(&bad)).await;
    let found = rules(&client, "train", "default", &all).await;
    let text = format!("{found:?}");
    assert!(text.contains("a Hugging Face token in plain sight"), "{text}");
    assert!(!text.contains(&token()[3..]), "{text}");
    let log = std::fs::read_to_string(controller.log()).unwrap();
    assert!(!log.contains(&token()[3..]), "the log holds the value");

    // Another that says the same is no news. Its version may change all the same: another test changes the policy, whose hash is
    // part of every status.
    let before = findings(&client, "train", "default").await;
    pod(&client, "train", "same", spec(&bad)).await;
    operator::stays(Duration::from_secs(2), || async {
        let now = findings(&client, "train", "default").await;
        assert_eq!(now, before, "something else is told");
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "train");
    let now = DeleteParams::default().grace_period(0);
    pods.delete("bad", &now).await.unwrap();
    operator::stays(Duration::from_secs(1), || async {
        let left = findings(&client, "train", "default").await.len();
        assert_eq!(left, all.len(), "the same pod runs");
    })
    .await;
    pods.delete("same", &now).await.unwrap();
    rules(&client, "train", "default", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_asks_for_files_only_is_not_said_to_be_encrypted_without() {
    let client = plane().await.0.admin().unwrap();
    namespace(&client, "files", "training", None).await;
    account(&client, "files", "own").await;
    let mut asking = workload("files", "default", "Training", Value::Null);
    asking["spec"]["secrets"] = json!({"delivery": "FilesOnly"});
    apply(&client, asking).await.unwrap();
    condition(&client, "files", "default", "SecretsEncrypted", "True").await;
    let env = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let containers = json!([{"name": "main", "image": IMAGE, "env": env}]);
    pod(&client, "files", "by-env", spec(&json!({"containers": containers}))).await;
    let (reason, message) = condition(&client, "files", "default", "SecretsEncrypted", "False").await;
    assert_eq!(reason, "NotFilesOnly", "{message}");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "files");
    pods.delete("by-env", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    let (reason, message) = condition(&client, "files", "default", "SecretsEncrypted", "True").await;
    assert_eq!(reason, "NewWritesEncrypted", "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_rights_is_told_to_the_namespace_it_starts_in() {
    let client = plane().await.0.admin().unwrap();
    namespace(&client, "rights-train", "training", None).await;
    namespace(&client, "rights-infer", "inference", None).await;
    for (home, stage) in [("rights-train", "Training"), ("rights-infer", "Inference")] {
        apply(&client, workload(home, "default", stage, Value::Null))
            .await
            .unwrap();
        condition(&client, home, "default", "Ready", "True").await;
    }
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": "rights-infer"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    apply(&client, role).await.unwrap();
    let binding = |name: &str, home: &str, kind: &str, role: &str, account: (&str, &str)| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": home},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
               "subjects": [{"kind": "ServiceAccount", "namespace": account.0, "name": account.1}]})
    };
    namespace(&client, "tools", "shared", None).await;
    // Kubernetes' own `edit` is made up of others; who has it makes pods of any account of the namespace.
    let first = binding("ci", "tools", "ClusterRole", "edit", ("rights-train", "trainer"));
    let second = binding("deployer", "rights-infer", "Role", "reader", ("tools", "deployer"));
    apply(&client, first.clone()).await.unwrap();
    rules(&client, "rights-train", "default", &[]).await;
    apply(&client, second).await.unwrap();
    let found = rules(&client, "rights-train", "default", &["IAM-07/secret-path"]).await;
    let message = &found[0].1;
    for part in [
        "in 2 steps",
        "ServiceAccount tools/deployer (RoleBinding tools/ci)",
        "get secrets in rights-infer",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    rules(&client, "rights-infer", "default", &[]).await;
    // More than once: other changes set off a search too, by chance.
    let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), "tools");
    for _ in 0..4 {
        bindings.delete("ci", &DeleteParams::default()).await.unwrap();
        rules(&client, "rights-train", "default", &[]).await;
        apply(&client, first.clone()).await.unwrap();
        rules(&client, "rights-train", "default", &["IAM-07/secret-path"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_volume_is_judged_and_the_policys_list_is_heard() {
    let client = plane().await.0.admin().unwrap();
    namespace(&client, "disks", "training", None).await;
    account(&client, "disks", "own").await;
    apply(&client, workload("disks", "default", "Training", Value::Null))
        .await
        .unwrap();
    let class = |name: &str, encrypted: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
               "provisioner": "ebs.csi.aws.com", "parameters": {"encrypted": encrypted}})
    };
    for (name, encrypted) in [("plain", "false"), ("sealed", "true")] {
        apply(&client, class(name, encrypted)).await.unwrap();
        let (capacity, modes) = (json!({"storage": "1Gi"}), json!(["ReadWriteOnce"]));
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("pv-{name}"), "annotations": {"pv.kubernetes.io/provisioned-by": "ebs.csi.aws.com"}},
            "spec": {"capacity": capacity, "accessModes": modes, "storageClassName": name,
                     "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": name},
                     "claimRef": {"namespace": "disks", "name": name}}});
        apply(&client, volume).await.unwrap();
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "disks"},
            "spec": {"accessModes": modes, "resources": {"requests": capacity}, "storageClassName": name,
                     "volumeName": format!("pv-{name}")}});
        apply(&client, claim).await.unwrap();
    }
    let mount = |name: &str| json!({"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": name}}]});
    pod(&client, "disks", "good", spec(&mount("sealed"))).await;
    condition(&client, "disks", "default", "Ready", "True").await;
    rules(&client, "disks", "default", &[]).await;
    pod(&client, "disks", "bad", spec(&mount("plain"))).await;
    let found = rules(&client, "disks", "default", &["ENC-02/storage-class"]).await;
    assert!(
        found[0]
            .1
            .contains("StorageClass plain of ebs.csi.aws.com does not ask for encryption"),
        "{found:?}"
    );
    // The organisation knows better: the account encrypts whatever is asked for.
    let policies: Api<cloison::api::AiSecurityPolicy> = Api::all(client.clone());
    let list = Patch::Merge(json!({"spec": {"secrets": {"encryptedStorageClasses": ["plain"]}}}));
    policies.patch("default", &PatchParams::default(), &list).await.unwrap();
    rules(&client, "disks", "default", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_start_forgets_nothing_on_the_way() {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let controller = operator::start(&plane).await;
    let client = plane.admin().unwrap();
    namespace(&client, "train", "training", None).await;
    namespace(&client, "infer", "inference", None).await;
    account(&client, "train", "own").await;
    apply(&client, workload("train", "default", "Training", Value::Null))
        .await
        .unwrap();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "reader", "namespace": "infer"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    apply(&client, role).await.unwrap();
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "reader", "namespace": "infer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "train", "name": "own"}]});
    apply(&client, binding).await.unwrap();
    // The same of what a scan of running pods finds.
    pod(&client, "train", "old", spec(&json!({"hostIPC": true}))).await;
    let (path, ipc) = ("IAM-07/secret-path", "WKL-01/host-ipc");
    rules(&client, "train", "default", &[path, ipc]).await;
    controller.stop().await;
    let api: Api<AiWorkload> = Api::namespaced(client.clone(), "train");
    let from = api.get("default").await.unwrap().metadata.resource_version.unwrap();
    // Told by the new start alone: what is written until then is what it wrote on its way.
    let shared = json!({"serviceAccountName": "default"});
    pod(&client, "train", "new", spec(&shared)).await;
    controller.start().unwrap();
    rules(&client, "train", "default", &[path, ipc, "IAM-01/own-account"]).await;
    let last = api.get("default").await.unwrap().metadata.resource_version;
    let events = api.watch(&WatchParams::default(), &from).await.unwrap();
    pin_mut!(events);
    let mut seen = 0;
    while let Some(event) = events.next().await {
        let WatchEvent::Modified(workload) = event.unwrap() else {
            panic!("it was only written");
        };
        seen += 1;
        let found = workload.status.unwrap_or_default().findings;
        for rule in [path, ipc] {
            let kept = found.iter().any(|finding| finding.rule.as_deref() == Some(rule));
            assert!(kept, "write {seen} after the start forgot {rule}: {found:?}");
        }
        if workload.metadata.resource_version == last {
            break;
        }
    }
    assert!(seen >= 1);
}
