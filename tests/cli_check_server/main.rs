//! `cloison check -f --server` on a real API server: what an injector adds is found before the merge, what others refuse is told,
//! and what could not be asked is said to be unknown. No pod is made.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/check.rs"]
mod check;
#[path = "../common/command.rs"]
mod command;
#[path = "../common/admission.rs"]
mod common;
mod injector;
mod quota;

use std::path::{Path, PathBuf};

use check::folder;
use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use command::Said;
use common::{Cluster, SOON, apply, digest, objects, patch, spec, try_create};
use injector::{Injector, LABEL};
use kube::Client;
use kube::api::ListParams;
use serde_json::{Value, json};

const ADDED: &str = "(not in the manifest: an injector or a default of the API server added it)";

/// A Job of a namespace; its template is in line 5.
fn job(namespace: &str, account: &str) -> String {
    format!(
        "\
apiVersion: batch/v1
kind: Job
metadata: {{name: road, namespace: {namespace}}}
spec:
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: {account}
      automountServiceAccountToken: false
      containers:
      - {{name: main, image: registry.example.com/train/app@{}}}
",
        digest()
    )
}

/// The namespace and its AiWorkload, as they are to be.
fn base(namespace: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{cloison.dev/stage: training, cloison.dev/mode: enforce}}}}
---
apiVersion: cloison.dev/v1alpha1
kind: AiWorkload
metadata: {{name: default, namespace: {namespace}}}
spec: {{stage: Training, owner: team@ville.example, purpose: Detect road defects}}
"
    )
}

fn manifests(namespace: &str) -> tempfile::TempDir {
    folder(&[("base.yaml", &base(namespace)), ("job.yaml", &job(namespace, "own"))])
}

const FILES: [&str; 4] = ["-f", "base.yaml", "-f", "job.yaml"];

/// `check -f` with the API server of a kubeconfig.
fn server(folder: &Path, kubeconfig: &Path, more: &[&str]) -> Said {
    let kubeconfig = kubeconfig.to_str().unwrap();
    check::check(
        folder,
        &[&FILES[..], &["--server", "--kubeconfig", kubeconfig], more].concat(),
    )
}

/// The lines of a report that are about pods of the Job.
fn lines(said: &Said) -> Vec<&str> {
    said.out.lines().filter(|line| line.starts_with("job.yaml:")).collect()
}

fn note<'s>(said: &'s Said, text: &str) -> &'s str {
    let mut notes = said.out.lines().filter(|line| line.starts_with("note: "));
    notes
        .find(|line| line.contains(text))
        .unwrap_or_else(|| panic!("{text}: {said:?}"))
}

async fn account(admin: &Client, namespace: &str) {
    apply(
        admin,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own", "namespace": namespace}}),
    )
    .await;
}

async fn label(admin: &Client, namespace: &str, key: &str, value: &str) {
    let labels = json!({"metadata": {"labels": {key: value}}});
    patch(admin, "v1", "Namespace", None, namespace, labels).await.unwrap();
}

/// Nothing was created, and nothing was left behind.
async fn no_pods(admin: &Client) {
    let pods = objects(admin, "v1", "Pod", None)
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(pods.items.is_empty(), "{:?}", pods.items);
}

/// A tenant with a stock role in namespaces.
async fn tenant(plane: &ControlPlane, role: &str, namespaces: &[&str]) -> PathBuf {
    let mut file = None;
    for namespace in namespaces {
        let identity = plane.tenant_identity(role, namespace, role).await.unwrap();
        file = Some(identity.kubeconfig().unwrap());
    }
    file.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_injector_adds_is_found_before_the_merge() {
    let cluster = Cluster::start(vec![ApiServerOptions::default()], spec(json!({}))).await;
    let admin = cluster.admin();
    // What is enforced after the merge is only watched now, but for `strict`.
    for (namespace, mode) in [("train", "audit"), ("quiet", "audit"), ("strict", "enforce")] {
        cluster
            .stage_namespace(namespace, "training", Some(mode), names::DEFAULT_WORKLOAD)
            .await;
        account(&admin, namespace).await;
    }
    label(&admin, "train", LABEL, "enabled").await;
    let sidecar = json!({"name": "proxy", "image": "mesh.example/proxy:1", "securityContext": {"privileged": true}});
    let injector = Injector::start(sidecar);
    injector.register(&admin, "train").await;
    let mona = tenant(&cluster.plane, "edit", &["train", "quiet", "strict"]).await;
    let wanted = [
        "WKL-01/privileged privileged: container \"proxy\"",
        "SUP-01/digest no digest: container \"proxy\" uses",
    ];

    let train = manifests("train");
    let alone = check::check(train.path(), &FILES);
    assert_eq!((alone.code, lines(&alone).len()), (0, 0), "{alone:?}");
    let said = server(train.path(), &mona, &[]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "{said:?}");
    let found = lines(&said);
    assert_eq!(found.len(), wanted.len(), "{said:?}");
    for text in wanted {
        let line = found
            .iter()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text}: {said:?}"));
        assert!(line.starts_with("job.yaml:6:5 spec.template: "), "{line}");
        assert!(line.contains(ADDED), "{line}");
    }
    note(&said, "1 pod came back from the API server");

    // The control: the same where the injector does nothing.
    let quiet = manifests("quiet");
    let said = server(quiet.path(), &mona, &[]);
    assert_eq!((said.code, lines(&said).len()), (0, 0), "{said:?}");
    note(&said, "1 pod came back from the API server");

    // A baseline accepts it as what is in a file, and a program reads it as that.
    let written = server(train.path(), &mona, &["--write-baseline", ".known.yaml"]);
    assert_eq!(written.code, 0, "{written:?}");
    let said = server(train.path(), &mona, &["--baseline", ".known.yaml", "-o", "json"]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(report["findings"].as_array().unwrap().len(), 0, "{report}");
    assert_eq!(report["known"][0]["at"]["file"], "job.yaml", "{report}");

    // Where the policy is in force, it refuses what the injector leaves, and so does the merge.
    label(&admin, "strict", LABEL, "enabled").await;
    let strict = manifests("strict");
    let said = eventually(SOON, "the pod is refused", async || {
        match server(strict.path(), &mona, &[]) {
            said if said.code == 1 => Ok(said),
            said => Err(format!("{said:?}")),
        }
    })
    .await
    .unwrap();
    // It names what it refuses for; an image without a digest is only reported in this stage.
    let found = lines(&said);
    assert_eq!(found.len(), 1, "{said:?}");
    assert!(
        found[0].starts_with("job.yaml:6:5 spec.template: ")
            && found[0].contains(wanted[0])
            && found[0].contains(ADDED),
        "{said:?}"
    );
    assert!(!said.out.contains("came back"), "{said:?}");
    no_pods(&admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_refuse_is_told_and_what_is_not_known_changes_no_exit_code() {
    let plane = ControlPlane::start(Options {
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let admin = plane.admin().unwrap();
    for namespace in ["train", "safe", "deaf"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        apply(&admin, object).await;
        account(&admin, namespace).await;
    }
    label(&admin, "safe", "pod-security.kubernetes.io/enforce", "restricted").await;
    label(&admin, "deaf", "test", "deaf").await;
    // Nobody listens there.
    injector::register(&admin, "nobody", "https://127.0.0.1:1/", None, json!({"test": "deaf"})).await;
    let editor = tenant(&plane, "edit", &["train", "safe", "deaf"]).await;
    let viewer = tenant(&plane, "view", &["train"]).await;
    let admin_config = plane.admin_kubeconfig().unwrap();
    for (namespace, word) in [("safe", "PodSecurity"), ("deaf", "nobody.mesh.example")] {
        eventually(SOON, "pods are refused", async || {
            match try_create(&admin, common::pod(namespace, "probe")).await {
                Err(error) if error.to_string().contains(word) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }

    // Pod Security refuses: with its place, and exit code 2. The control is the namespace beside it.
    let safe = manifests("safe");
    let said = server(safe.path(), &editor, &[]);
    assert_eq!((said.code, lines(&said).len()), (2, 0), "{said:?}");
    let start = "job.yaml:6:5 spec.template: the API server would refuse its pods, and not by Cloison: ";
    assert!(
        said.err.starts_with(start) && said.err.contains("violates PodSecurity"),
        "{said:?}"
    );
    assert!(
        !said.err.contains("cloison-dry-run-") || said.err.contains("cloison-dry-run-*"),
        "{said:?}"
    );
    let again = server(safe.path(), &editor, &[]);
    assert_eq!(said, again, "the same words twice");
    let train = manifests("train");
    let said = server(train.path(), &editor, &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");

    // What nobody answered is a note, with what to do, and the exit code is that of the manifests.
    let absent = manifests("absent");
    let bare = folder(&[("base.yaml", &base("train")), ("job.yaml", &job("train", "nobody"))]);
    let deaf = manifests("deaf");
    for (folder, who, why) in [
        (
            &absent,
            &admin_config,
            "namespace \"absent\" is not there; try again once it is",
        ),
        (&absent, &editor, "you may not create pods in namespace \"absent\""),
        (&train, &viewer, "you may not create pods in namespace \"train\""),
        (
            &bare,
            &editor,
            "a ServiceAccount is not there (pods \"cloison-dry-run-*\" is forbidden: ",
        ),
        (&deaf, &editor, "nobody.mesh.example"),
    ] {
        let said = server(folder.path(), who, &[]);
        assert_eq!(
            (said.code, said.err.as_str(), lines(&said).len()),
            (0, "", 0),
            "{said:?}"
        );
        let line = note(&said, "what the API server makes of pods of Job ");
        assert!(line.contains(why), "{why}\n{line}");
        assert!(!said.out.contains("came back"), "{said:?}");
    }
    no_pods(&admin).await;
}

#[test]
fn without_a_connection_it_fails() {
    let train = manifests("train");
    // The control.
    assert_eq!(check::check(train.path(), &FILES).code, 0);
    let said = check::check(train.path(), &[&FILES[..], &["--server"]].concat());
    assert!(said.code == 2 && said.err.contains("KUBECONFIG"), "{said:?}");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "c", "user": {"token": "x"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let file = train.path().join(".kubeconfig");
    std::fs::write(&file, config.to_string()).unwrap();
    let said = server(train.path(), &file, &[]);
    assert!(
        said.code == 2 && said.err.contains("ask the API server for its version"),
        "{said:?}"
    );
    // It is about manifests.
    assert_eq!(check::check(train.path(), &["--server"]).code, 2);
}
