//! `InterfacesCovered`: what a running pod has beside the pod network is named, whoever let it in.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::needless_pass_by_value, reason = "tests read better so")]

#[path = "common/network.rs"]
mod network;
#[path = "common/operator.rs"]
mod operator;

use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, Client};
use network::Installation;
use operator::{PATIENCE, apply, condition, namespace, workload};
use serde_json::{Value, json};

fn pod(home: &str, name: &str, labels: Value, annotations: Value, more: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": home, "labels": labels, "annotations": annotations},
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/a"}]},
    });
    for (key, value) in more.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

async fn create(admin: &Client, pod: Value) {
    // The ServiceAccount `default` comes a moment after its namespace.
    eventually(PATIENCE, "the pod", || async { apply(admin, pod.clone()).await })
        .await
        .unwrap();
}

async fn says(admin: &Client, name: &str, status: &str, reason: &str) -> String {
    eventually(PATIENCE, &format!("{name} {reason}"), || async {
        let (found, message) = condition(admin, "fabric", name, "InterfacesCovered", status).await;
        if found == reason {
            Ok(message)
        } else {
            Err(format!("{found}: {message}"))
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_pod_has_beside_the_pod_network_is_named() {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let dedicated = json!([{"name": "ib", "resourceName": "rdma/hca", "stages": ["Training"]}]);
    let policy = json!({"network": {"dedicatedInterfaces": dedicated}});
    let installation = Installation::start(ControlPlane::start(options).await.unwrap(), policy).await;
    let admin = installation.admin();
    namespace(&admin, "fabric", "training", Some("audit")).await;
    for name in ["default", "road"] {
        apply(&admin, workload("fabric", name, "Training", Value::Null))
            .await
            .unwrap();
    }
    for name in ["default", "road"] {
        says(&admin, name, "True", "PodNetworkOnly").await;
    }
    let road = || json!({"cloison.dev/workload": "road"});
    let rdma = json!([{"name": "main", "image": "registry.example.com/a", "resources": {"limits": {"rdma/hca": 1}}}]);
    create(&admin, pod("fabric", "plain", road(), json!({}), json!({}))).await;
    create(
        &admin,
        pod("fabric", "rdma", road(), json!({}), json!({"containers": rdma})),
    )
    .await;
    let message = says(&admin, "road", "True", "Dedicated").await;
    assert!(
        message.contains("resource rdma/hca") && message.contains("not verified"),
        "{message}"
    );

    let multus = json!({"k8s.v1.cni.cncf.io/networks": "fast"});
    create(&admin, pod("fabric", "two-legs", road(), multus, json!({}))).await;
    let message = says(&admin, "road", "False", "Undeclared").await;
    assert!(message.contains("network fabric/fast (two-legs)"), "{message}");
    // Pods without the label are the default workload's.
    says(&admin, "default", "True", "PodNetworkOnly").await;
    create(
        &admin,
        pod(
            "fabric",
            "on-the-node",
            json!({}),
            json!({}),
            json!({"hostNetwork": true}),
        ),
    )
    .await;
    let message = says(&admin, "default", "False", "Undeclared").await;
    assert!(message.contains("the network of its node (on-the-node)"), "{message}");
    // It blocks nobody who does not require it.
    condition(&admin, "fabric", "default", "Ready", "True").await;

    let pods: Api<Pod> = Api::namespaced(admin.clone(), "fabric");
    pods.delete("two-legs", &DeleteParams::default()).await.unwrap();
    says(&admin, "road", "True", "Dedicated").await;
    pods.delete("on-the-node", &DeleteParams::default()).await.unwrap();
    says(&admin, "default", "True", "PodNetworkOnly").await;
}
