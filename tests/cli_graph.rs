//! `cloison graph` on manifests, as a pipeline runs it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/command.rs"]
mod command;

use std::fs;
use std::path::Path;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart");
const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hostile/not-in-policy.yaml");

fn graph(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let said = command::cloison(folder, &[&["graph"], arguments].concat(), "");
    (said.code, said.out, said.err)
}

#[test]
fn the_quickstart_has_two_rooms_without_a_door_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = graph(folder.path(), &["-f", QUICKSTART]);
    assert_eq!(code, 0, "{err}");
    let drawing = roxmltree::Document::parse(&out).unwrap();
    let rooms = drawing.descendants().filter_map(|node| node.attribute("class"));
    let rooms: Vec<&str> = rooms.filter_map(|class| class.strip_prefix("room ")).collect();
    assert_eq!(rooms, ["sources", "training", "inference", "shared"]);
    for text in [
        "road-train",
        "road-det",
        "model-registry",
        "gateway",
        "no forbidden path",
        "No packet was sent",
    ] {
        assert!(out.contains(text), "{text}");
    }
    assert!(!out.contains("HOLE 1"));
}

#[test]
fn the_hostile_policies_are_a_hole_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["svg", "dot", "mermaid", "html"] {
        let (code, out, err) = graph(folder.path(), &["-f", QUICKSTART, "-f", HOSTILE, "-o", format]);
        assert_eq!(code, 0, "a picture is no verdict: {err}");
        let out = out.replace("#91;", "[").replace("#93;", "]");
        for text in [
            "HOLE 1",
            "not-in-policy.yaml:31:11 spec.egress[0].to[0]",
            "not-in-policy.yaml:15:11 spec.ingress[0].from[0]",
            "vision-train/all-but-production",
            "vision-infer/all-but-training",
        ] {
            assert!(out.contains(text), "{format} does not say {text}: {out}");
        }
    }
}

#[test]
fn the_order_of_files_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(HOSTILE, folder.path().join("hostile.yaml")).unwrap();
    // The page holds the drawing.
    for format in ["dot", "html"] {
        let one = graph(folder.path(), &["-f", QUICKSTART, "-f", "hostile.yaml", "-o", format]);
        let other = graph(folder.path(), &["-f", "hostile.yaml", "-f", QUICKSTART, "-o", format]);
        assert_eq!(one.1, other.1);
    }
}

#[test]
fn a_policy_of_a_kind_that_is_not_modelled_makes_its_namespace_unknown_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["cilium.io/v2", "projectcalico.org/v3"] {
        let kind = if version.starts_with("cilium") {
            "CiliumNetworkPolicy"
        } else {
            "NetworkPolicy"
        };
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: vision-infer}}\nspec: {{}}\n"
        );
        fs::write(folder.path().join("other.yaml"), text).unwrap();
        let (code, out, err) = graph(folder.path(), &["-f", QUICKSTART, "-f", "other.yaml"]);
        assert_eq!(code, 0, "{err}");
        assert!(out.contains("UNKNOWN: UnmodelledPolicy"), "{version}");
        assert!(out.contains(&format!("{kind}.")), "{version}");
        assert!(out.contains("1 unknown"), "{version}");
    }
}

/// Any manifests, with or without our kinds.
#[test]
fn pods_without_workloads_are_drawn_with_what_the_policies_allow() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: a}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: b}
spec: {containers: [{name: c}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: door, namespace: a}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 8080}]}]
";
    fs::write(folder.path().join("all.yaml"), manifests).unwrap();
    let (code, out, err) = graph(folder.path(), &["-f", "all.yaml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("b/job[Pod] to a/web[Deployment]: TCP 8080"), "{out}");
    assert!(out.contains("No namespace has a stage of workloads"), "{out}");
}

/// A policy that is left out would make the whole picture a false one.
#[test]
fn nothing_is_drawn_of_a_set_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let broken = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: bad, namespace: a}\nspec:\n  \
                  podSelector: {}\n  egress:\n  - to: [{}]\n";
    fs::write(folder.path().join("all.yaml"), broken).unwrap();
    let (code, out, err) = graph(folder.path(), &["-f", "all.yaml"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("all.yaml:1:1: NetworkPolicy a/bad cannot be read"),
        "{err}"
    );
    let (code, out, err) = graph(folder.path(), &["-f", "nowhere.yaml"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("nowhere.yaml"), "{err}");
}
