//! `cloison connectivity` and `cloison explain` on manifests, as a pipeline runs them.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/command.rs"]
mod command;

use std::path::Path;

use serde_json::{Value, json};

const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: a}
spec:
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: job-x7, namespace: b, ownerReferences: [{apiVersion: batch/v1, kind: Job, name: job, uid: u, controller: true}]}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: b}
spec: {containers: [{name: c}]}
status: {phase: Succeeded}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: door, namespace: a}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}, {ipBlock: {cidr: 10.0.0.0/8}}]
    ports: [{port: http}, {port: 90, endPort: 92, protocol: UDP}]
";

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let said = command::cloison(folder, arguments, "");
    (said.code, said.out, said.err)
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    folder
}

/// The JSON is a contract: other programs read it.
#[test]
fn the_json_is_sorted_rows_of_ends_protocol_and_port_ranges() {
    let folder = folder(MANIFESTS);
    let (code, out, err) = run(folder.path(), &["connectivity", "-f", "all.yaml", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let web = json!({"namespace": "a", "workload": "web[Deployment]"});
    let job = json!({"namespace": "b", "workload": "job[Job]"});
    let block = |range: &str| json!({"ipBlock": range});
    let row = |src: &Value, dst: &Value, protocol: &str, ports: Value| json!({"src": src, "dst": dst, "protocol": protocol, "ports": ports});
    let all = json!([[1, 65535]]);
    let mut wanted = vec![
        row(&job, &web, "TCP", json!([[8080, 8080]])),
        row(&job, &web, "UDP", json!([[90, 92]])),
    ];
    let protocols = ["TCP", "UDP", "SCTP"];
    wanted.extend(protocols.map(|name| row(&job, &block("0.0.0.0-255.255.255.255"), name, all.clone())));
    wanted.extend(protocols.map(|name| row(&block("0.0.0.0-9.255.255.255"), &job, name, all.clone())));
    let ten = block("10.0.0.0-10.255.255.255");
    wanted.push(row(&ten, &web, "TCP", json!([[8080, 8080]])));
    wanted.push(row(&ten, &web, "UDP", json!([[90, 92]])));
    wanted.extend(protocols.map(|name| row(&ten, &job, name, all.clone())));
    wanted.extend(protocols.map(|name| row(&block("11.0.0.0-255.255.255.255"), &job, name, all.clone())));
    assert_eq!(rows, wanted);
}

#[test]
fn an_explanation_names_the_rule_with_its_file_and_line() {
    let folder = folder(MANIFESTS);
    let explain = |from: &str, to: &str, port: &str| {
        run(
            folder.path(),
            &["explain", "-f", "all.yaml", "--from", from, "--to", to, "--port", port],
        )
    };
    let (code, out, _) = explain("b/job-x7", "a/web", "8080");
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("allowed by a/door all.yaml:27:12 spec.ingress[0].from[0]"),
        "{out}"
    );
    let (code, out, _) = explain("b/job-x7", "a/web", "80");
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("not allowed; isolated by a/door all.yaml:24:16"), "{out}");
    let (code, out, _) = explain("10.1.2.3", "a/web", "91/udp");
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("an address, which no policy isolates"), "{out}");
    let (code, _, err) = explain("b/jobb", "a/web", "80");
    assert_eq!(code, 2);
    assert!(
        err.contains("no pod or owner of pods \"b/jobb\"; in b there is job-x7"),
        "{err}"
    );
}

/// A policy that is left out would make the whole picture a false one.
#[test]
fn nothing_is_said_of_a_set_that_cannot_be_read() {
    let broken = format!(
        "{MANIFESTS}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: bad, namespace: a}}\nspec:\n  \
         podSelector: {{}}\n  egress:\n  - to: [{{}}]\n"
    );
    let folder = folder(&broken);
    let (code, out, err) = run(folder.path(), &["connectivity", "-f", "all.yaml"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("all.yaml:30:1: NetworkPolicy a/bad cannot be read"),
        "{err}"
    );
}
