//! `PoliciesIsolate` is about every pod that could exist, over the policies of everybody: no pod runs in these tests.
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

use std::process::Command;

use cloison::api::AiWorkload;
use cloison_testbed::{ControlPlane, Options, eventually};
use futures::StreamExt;
use kube::api::DeleteParams;
use kube::{Api, Client};
use network::{Installation, tenants_may_open};
use operator::{PATIENCE, apply, condition, namespace, network_policies, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();

async fn admin() -> Client {
    installation().await.admin()
}

async fn installation() -> &'static Installation {
    let start = || async {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        cilium(&plane.admin().unwrap()).await;
        Installation::start(plane, policy()).await
    };
    INSTALLATION.get_or_init(start).await
}

/// What `cloison check` says of the cluster, with the rights of the admin.
async fn check() -> Vec<Value> {
    let kubeconfig = installation().await.plane.admin_kubeconfig().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    let output = command
        .args(["check", "-o", "json"])
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    report["findings"].as_array().unwrap().clone()
}

fn policy() -> Value {
    json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}, "controls": tenants_may_open()})
}

/// A kind of policies that is not modelled, with one object in `p-cilium`, from before the controller.
async fn cilium(admin: &Client) {
    apply(
        admin,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "p-cilium"}}),
    )
    .await
    .unwrap();
    define(
        admin,
        ("cilium.io", "v2"),
        ("ciliumnetworkpolicies", "CiliumNetworkPolicy"),
    )
    .await;
    unmodelled(admin, "cilium.io/v2", "CiliumNetworkPolicy", "p-cilium").await;
}

/// Defines a kind that takes anything.
async fn define(admin: &Client, (group, version): (&str, &str), (plural, kind): (&str, &str)) {
    let names = json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind});
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": names,
                 "versions": [{"name": version, "served": true, "storage": true, "schema": schema}]}});
    apply(admin, definition).await.unwrap();
}

/// Creates an object of a kind that [`define`] defined.
async fn unmodelled(admin: &Client, version: &str, kind: &str, namespace: &str) {
    let object = json!({"apiVersion": version, "kind": kind,
                        "metadata": {"name": "anything", "namespace": namespace}, "spec": {}});
    eventually(PATIENCE, "the kind is served", || async {
        apply(admin, object.clone()).await
    })
    .await
    .unwrap();
}

/// An enforced namespace with one workload in place.
async fn enforced(admin: &Client, name: &str, stage: &str) {
    namespace(admin, name, &stage.to_lowercase(), Some("enforce")).await;
    apply(admin, workload(name, "road", stage, Value::Null)).await.unwrap();
}

async fn foreign(admin: &Client, namespace: &str, name: &str, spec: Value) {
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                        "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    // The door has heard of the policy a moment after the controller has.
    eventually(PATIENCE, "the door lets it in", || async {
        apply(admin, policy.clone()).await
    })
    .await
    .unwrap();
}

/// Namespaces of any stage but one: what an author writes who means "not there" and forgets the others.
fn any_stage_but(stage: &str) -> Value {
    json!({"namespaceSelector": {"matchExpressions": [
        {"key": "cloison.dev/stage", "operator": "Exists"},
        {"key": "cloison.dev/stage", "operator": "NotIn", "values": ["shared", "evaluation", stage]},
    ]}})
}

#[tokio::test]
async fn two_halves_make_a_path_for_pods_that_do_not_exist() {
    let admin = admin().await;
    enforced(&admin, "p-train", "Training").await;
    enforced(&admin, "p-serve", "Inference").await;
    enforced(&admin, "p-quiet", "Training").await;
    for name in ["p-train", "p-serve", "p-quiet"] {
        condition(&admin, name, "road", "PoliciesIsolate", "True").await;
        let (reason, _) = condition(&admin, name, "road", "NetworkIsolated", "Unknown").await;
        assert_eq!(reason, "EnforcementUnverified", "no packet was sent");
    }
    let app = |name: &str| json!({"matchLabels": {"app": name}});
    let out =
        json!({"podSelector": app("leak"), "policyTypes": ["Egress"], "egress": [{"to": [any_stage_but("training")]}]});
    foreign(&admin, "p-train", "not-training", out).await;
    // One half alone leads nowhere: the other end accepts nothing. The analysis has seen it when a later change shows.
    enforced(&admin, "p-after", "Training").await;
    condition(&admin, "p-after", "road", "PoliciesIsolate", "True").await;
    condition(&admin, "p-train", "road", "PoliciesIsolate", "True").await;

    let port = json!([{"protocol": "TCP", "port": 8080}]);
    let into = json!({"podSelector": app("model"), "policyTypes": ["Ingress"],
                      "ingress": [{"from": [any_stage_but("inference")], "ports": port}]});
    foreign(&admin, "p-serve", "not-inference", into).await;
    for name in ["p-train", "p-serve"] {
        let (reason, message) = condition(&admin, name, "road", "PoliciesIsolate", "False").await;
        assert_eq!(reason, "PathExists");
        assert!(message.contains("p-train/not-training egress[0].to[0]"), "{message}");
        assert!(
            message.contains("p-serve/not-inference ingress[0].from[0]"),
            "{message}"
        );
        assert!(
            message.contains("{app: leak}") && message.contains("{app: model}") && message.contains("8080"),
            "{message}"
        );
        condition(&admin, name, "road", "NetworkIsolated", "False").await;
        let (reason, message) = condition(&admin, name, "road", "Ready", "False").await;
        assert_eq!(reason, "ConditionNotMet", "{message}");
    }
    // The command line says the same of the same cluster, and of nobody else.
    let (_, message) = condition(&admin, "p-train", "road", "PoliciesIsolate", "False").await;
    let findings = check().await;
    let paths = findings.iter().filter(|finding| finding["rule"] == "NET-03/path");
    let paths: Vec<&str> = paths.filter_map(|finding| finding["message"].as_str()).collect();
    assert!(paths.contains(&message.as_str()), "{message}\n{paths:#?}");
    assert!(!paths.iter().any(|path| path.contains("p-quiet")), "{paths:#?}");
    let note = operator::event(&admin, "road", "PathExists").await;
    assert!(
        note.contains("not-training") && note.contains("not-inference"),
        "{note}"
    );
    condition(&admin, "p-quiet", "road", "PoliciesIsolate", "True").await;
    condition(&admin, "p-quiet", "road", "Ready", "True").await;

    network_policies(&admin, "p-train")
        .delete("not-training", &DeleteParams::default())
        .await
        .unwrap();
    for name in ["p-train", "p-serve"] {
        condition(&admin, name, "road", "PoliciesIsolate", "True").await;
        condition(&admin, name, "road", "Ready", "True").await;
    }
}

/// Where no workload is there to say it.
#[tokio::test]
async fn a_path_into_a_namespace_without_a_workload_is_an_event_and_a_metric() {
    let installation = installation().await;
    let admin = installation.admin();
    namespace(&admin, "p-empty", "inference", Some("enforce")).await;
    let open = || {
        operator::metric(
            &installation.controller,
            "cloison_policies_isolate",
            &["status=\"False\""],
        )
    };
    // From a namespace that anybody may create; the stages of the other tests have nothing to do with it.
    let guests = json!({"namespaceSelector": {"matchLabels": {"example.com/guest": "yes"}}});
    let into = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [guests]}]});
    foreign(&admin, "p-empty", "open", into).await;
    let note = operator::event(&admin, "p-empty", "PathExists").await;
    assert!(note.contains("p-empty/open ingress[0].from[0]"), "{note}");
    assert!(open() >= 1, "{}", open());
}

#[tokio::test]
async fn an_address_of_the_cluster_may_be_a_pod() {
    let admin = admin().await;
    enforced(&admin, "p-block", "Evaluation").await;
    condition(&admin, "p-block", "road", "PoliciesIsolate", "True").await;
    let egress = |cidr: &str| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]});
    foreign(&admin, "p-block", "addresses", egress("10.244.0.0/16")).await;
    let (reason, message) = condition(&admin, "p-block", "road", "PoliciesIsolate", "Unknown").await;
    assert_eq!(reason, "CniDependent");
    assert!(message.contains("p-block/addresses egress[0].to[0]"), "{message}");
    condition(&admin, "p-block", "road", "NetworkIsolated", "Unknown").await;
    // Unknown blocks nobody: one odd policy must not hang every release.
    condition(&admin, "p-block", "road", "Ready", "True").await;
    // Wholly outside the cluster it is simply external.
    foreign(&admin, "p-block", "addresses", egress("192.0.2.0/24")).await;
    condition(&admin, "p-block", "road", "PoliciesIsolate", "True").await;
    // Not a path to a pod, and yet nobody declared it.
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "p-block");
    eventually(PATIENCE, "the finding", || async {
        let road = workloads.get("road").await.map_err(|error| error.to_string())?;
        let findings = road.status.unwrap_or_default().findings;
        let found = findings
            .iter()
            .find(|finding| finding.rule.as_deref() == Some("NET-09/widening"));
        match found {
            Some(found) if found.message.contains("addresses outside the cluster") => Ok(()),
            _ => Err(format!("{findings:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_kind_that_is_not_modelled_is_named() {
    let admin = admin().await;
    enforced(&admin, "p-cilium", "Evaluation").await;
    let (reason, message) = condition(&admin, "p-cilium", "road", "PoliciesIsolate", "Unknown").await;
    assert_eq!(reason, "UnmodelledPolicy");
    assert!(message.contains("CiliumNetworkPolicy.cilium.io"), "{message}");
    condition(&admin, "p-cilium", "road", "Ready", "True").await;
    enforced(&admin, "p-plain", "Evaluation").await;
    condition(&admin, "p-plain", "road", "PoliciesIsolate", "True").await;
}

/// While the controller runs, in a version that it does not know, and of a group of which it knows nothing that is served.
#[tokio::test]
async fn what_is_installed_later_or_in_another_version_is_seen() {
    // A group that may hold anything makes the whole cluster Unknown: an installation of its own.
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let installation = Installation::start(plane, policy()).await;
    let admin = installation.admin();
    enforced(&admin, "p-calico", "Evaluation").await;
    enforced(&admin, "p-other", "Evaluation").await;
    for name in ["p-calico", "p-other"] {
        condition(&admin, name, "road", "PoliciesIsolate", "True").await;
    }
    let group = ("crd.projectcalico.org", "v3");
    define(&admin, group, ("networkpolicies", "NetworkPolicy")).await;
    unmodelled(&admin, "crd.projectcalico.org/v3", "NetworkPolicy", "p-calico").await;
    let (reason, message) = condition(&admin, "p-calico", "road", "PoliciesIsolate", "Unknown").await;
    assert_eq!(reason, "UnmodelledPolicy");
    assert!(message.contains("NetworkPolicy.crd.projectcalico.org"), "{message}");
    condition(&admin, "p-other", "road", "PoliciesIsolate", "True").await;

    // More than one answer of the API server holds; the last of them is in another namespace.
    let many = (0..500).map(|number| {
        let object = json!({"apiVersion": "crd.projectcalico.org/v3", "kind": "NetworkPolicy",
                            "metadata": {"name": format!("n{number}"), "namespace": "p-calico"}, "spec": {}});
        let admin = admin.clone();
        async move { apply(&admin, object).await.unwrap() }
    });
    futures::stream::iter(many)
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await;
    unmodelled(&admin, "crd.projectcalico.org/v3", "NetworkPolicy", "p-other").await;
    let (_, message) = condition(&admin, "p-other", "road", "PoliciesIsolate", "Unknown").await;
    assert!(message.contains("NetworkPolicy.crd.projectcalico.org"), "{message}");
    enforced(&admin, "p-third", "Evaluation").await;
    condition(&admin, "p-third", "road", "PoliciesIsolate", "True").await;

    define(&admin, ("k8s.cni.cncf.io", "v7"), ("renamedpolicies", "RenamedPolicy")).await;
    let (_, message) = condition(&admin, "p-third", "road", "PoliciesIsolate", "Unknown").await;
    assert!(message.contains("policies of k8s.cni.cncf.io/v7"), "{message}");
}
