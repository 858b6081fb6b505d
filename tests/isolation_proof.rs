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

use cloison::api::AiWorkload;
use cloison_testbed::{ControlPlane, Options, eventually};
use kube::api::DeleteParams;
use kube::{Api, Client};
use network::Installation;
use operator::{PATIENCE, apply, condition, namespace, network_policies, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();

async fn admin() -> Client {
    let start = || async {
        let plane = ControlPlane::start(Options::default()).await.unwrap();
        cilium(&plane.admin().unwrap()).await;
        Installation::start(plane, json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}})).await
    };
    INSTALLATION.get_or_init(start).await.admin()
}

/// A kind of policies that is not modelled, with one object in `p-cilium`. Kinds are looked for once a minute, so it is
/// there before the controller.
async fn cilium(admin: &Client) {
    let names =
        json!({"plural": "ciliumnetworkpolicies", "singular": "ciliumnetworkpolicy", "kind": "CiliumNetworkPolicy"});
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumnetworkpolicies.cilium.io"},
        "spec": {"group": "cilium.io", "scope": "Namespaced", "names": names,
                 "versions": [{"name": "v2", "served": true, "storage": true, "schema": schema}]}});
    apply(admin, definition).await.unwrap();
    apply(
        admin,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "p-cilium"}}),
    )
    .await
    .unwrap();
    let object = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
                        "metadata": {"name": "anything", "namespace": "p-cilium"}, "spec": {}});
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
    apply(admin, policy).await.unwrap();
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
