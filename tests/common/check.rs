//! A small cluster as manifests, with the two halves of a path, and `cloison check` run on them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::Path;

use serde_json::Value;

use crate::command::{self, Said};

pub const POLICY: &str = "\
apiVersion: cloison.dev/v1alpha1
kind: AiSecurityPolicy
metadata: {name: default}
spec:
  # What is refused at the door is told by no analysis.
  controls: [{id: NET-10, mode: Audit, reason: paths are looked for}]
  network:
    clusterCIDRs: [10.0.0.0/8]
    apiServer: {cidrs: [10.96.0.1/32]}
    dns: {servers: [{namespace: kube-system, podLabels: {k8s-app: kube-dns}}]}
    services:
    - {name: store, to: {namespace: store, podLabels: {app: minio}}, ports: [{port: 9000}]}
";

pub const NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: train, labels: {cloison.dev/stage: training, cloison.dev/mode: enforce}}
---
apiVersion: v1
kind: Namespace
metadata: {name: serve, labels: {cloison.dev/stage: inference, cloison.dev/mode: enforce}}
---
apiVersion: v1
kind: Namespace
metadata: {name: store}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system}
";

pub const WORKLOAD: &str = "\
apiVersion: cloison.dev/v1alpha1
kind: AiWorkload
metadata: {name: road, namespace: train}
spec:
  stage: Training
  owner: team@ville.example
  purpose: Detect road defects
  network:
    connectTo:
    - service: store
";

/// What lets pods out of the training stage.
pub const OUT: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: train}
spec:
  podSelector: {matchLabels: {app: leak}}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}
    ports: [{port: 8080}]
";

/// What lets them into the inference stage.
pub const INTO: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: into, namespace: serve}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {cloison.dev/stage: training}}
";

/// A folder of files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

pub fn check(folder: &Path, arguments: &[&str]) -> Said {
    command::cloison(folder, &[&["check"], arguments].concat(), "")
}

pub fn json_of(folder: &Path, arguments: &[&str]) -> (i32, Vec<Value>) {
    let said = check(folder, &[arguments, &["-o", "json"]].concat());
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.code, report["findings"].as_array().unwrap().clone())
}

/// The lines of findings, without the last, which counts them, and the notes.
pub fn lines(said: &Said) -> Vec<&str> {
    let lines: Vec<&str> = said.out.lines().filter(|line| !line.starts_with("note: ")).collect();
    lines.split_last().unwrap().1.to_vec()
}

pub fn base() -> String {
    [NAMESPACES, POLICY, WORKLOAD].join("---\n")
}

pub const PATH: &str = "out.yaml:9:7 spec.egress[0].to[0]: Critical NET-03/path a pod in train with labels {app: leak} can reach a pod in \
                    serve with labels {} on TCP 8080: allowed by train/out out.yaml:9:7 spec.egress[0].to[0] and serve/into \
                    into.yaml:9:7 spec.ingress[0].from[0]; remove the policy that opens the path, or ask for a Waiver with a flow \
                    (ANSSI R12)";
