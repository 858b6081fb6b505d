//! The verbs that need a cluster, on real control planes: as tenants with the stock roles, and as the admin on call.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/admission.rs"]
mod common;
#[path = "../common/operator.rs"]
mod operator;

mod doctor;
mod off;
mod plan;
mod status;
mod why;

use std::path::{Path, PathBuf};
use std::process::Command;

use cloison::api::names;
use cloison_testbed::{ApiServerOptions, eventually};
use common::{Cluster, SOON, spec};
use kube::api::ListParams;
use serde_json::{Value, json};

/// What a run said.
#[derive(Clone, Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn run(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
    let output = command.env("HOME", kubeconfig.parent().unwrap()).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn cloison(kubeconfig: &Path, arguments: &[&str]) -> Said {
    run(Path::new(env!("CARGO_BIN_EXE_cloison")), kubeconfig, arguments)
}

/// Runs until it says something, and returns all of it.
async fn until(kubeconfig: &Path, arguments: &[&str], what: &str) -> Said {
    eventually(SOON, what, async || {
        let said = cloison(kubeconfig, arguments);
        if said.out.contains(what) {
            Ok(said)
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await
    .unwrap()
}

fn contains(said: &Said, all: &[&str]) {
    for text in all {
        assert!(said.out.contains(text), "{text}\n{}\n{}", said.out, said.err);
    }
}

/// How many objects of ours there are, by kind.
async fn ours(client: &kube::Client, version: &str, kind: &str) -> usize {
    let label = format!("{}={}", names::PART_OF_LABEL, names::CLOISON);
    let list = common::objects(client, version, kind, None)
        .list(&ListParams::default().labels(&label))
        .await;
    list.unwrap().items.len()
}

const BINDING: (&str, &str) = ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding");

/// A control plane with the policies in force, no controller, and a tenant with the stock role `edit`.
async fn cluster() -> (Cluster, PathBuf, PathBuf) {
    let cluster = Cluster::start(vec![ApiServerOptions::default()], spec(json!({}))).await;
    cluster
        .stage_namespace("vision-train", "training", Some("enforce"), "default")
        .await;
    let admin = cluster.plane.admin_kubeconfig().unwrap();
    cluster.tenant("mona", "vision-train", "edit").await;
    let tenant = cluster
        .plane
        .tenant_identity("mona", "vision-train", "edit")
        .await
        .unwrap();
    (cluster, admin, tenant.kubeconfig().unwrap())
}

fn job(name: &str, pod_spec: &Value) -> Value {
    let mut pod_spec = pod_spec.clone();
    pod_spec["restartPolicy"] = json!("Never");
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "vision-train"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod_spec}},
    })
}
