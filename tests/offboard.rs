//! `cloison offboard`: in every namespace the deny goes before the allows, nothing of ours comes back while the controller lives,
//! a cluster whose keys are ours is not left, and one where nobody of ours lives any more is left all the same.
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

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cloison::api::names;
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams};
use kube::core::ClusterResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use network::{Change, Installation, Record};
use operator::PATIENCE;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Much longer than a repair takes, which is tens of milliseconds.
const A_WHILE: Duration = Duration::from_secs(4);

fn offboard(kubeconfig: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command.arg("offboard").args(arguments);
    let output = command.env_clear().env("KUBECONFIG", kubeconfig).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

async fn ours<K>(client: &Client) -> usize
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let label = ListParams::default().labels("app.kubernetes.io/part-of=cloison");
    Api::<K>::all(client.clone()).list(&label).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_isolates_goes_first_and_nothing_comes_back() {
    let plane = ControlPlane::start(Options {
        controller_manager: true,
        ..Options::default()
    });
    let installation = Installation::start(plane.await.unwrap(), json!({})).await;
    let (client, admin) = (installation.admin(), installation.plane.admin_kubeconfig().unwrap());
    operator::healthy(&client, "train", "Training").await;
    operator::healthy(&client, "infer", "Inference").await;
    let before = operator::in_place(&client, "train").await;
    assert!(
        before.contains_key(names::DENY_POLICY) && before.len() > 1,
        "{before:?}"
    );

    // Keys of ours outlive us.
    let manage = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
                        "spec": {"mode": "Manage", "escrow": {"requirement": "Waived"}}});
    operator::apply(&client, manage).await.unwrap();
    let (code, _, said) = offboard(&admin, &["--yes"]);
    assert!(
        code == 2 && said.contains("SecretEncryption default is in mode Manage"),
        "{said}"
    );
    assert_eq!(
        operator::in_place(&client, "train").await,
        before,
        "nothing is taken away"
    );
    let encryptions: Api<cloison::api::SecretEncryption> = Api::all(client.clone());
    encryptions.delete("default", &DeleteParams::default()).await.unwrap();

    // Asked without --yes, it changes nothing.
    let (code, told, said) = offboard(&admin, &[]);
    assert!(code == 1 && told.contains("Nothing was changed"), "{told}{said}");
    assert_eq!(operator::in_place(&client, "train").await, before);

    let record = Record::start(operator::network_policies(&client, "train")).await;
    let (code, told, said) = offboard(&admin, &["--yes"]);
    assert_eq!(code, 0, "{told}{said}");
    assert!(
        told.contains("helm uninstall") && told.contains("3 namespaces unsealed"),
        "{told}"
    );
    let order: Vec<String> = record
        .seen()
        .into_iter()
        .filter(|(change, _): &(Change, NetworkPolicy)| *change == Change::Deleted)
        .map(|(_, policy)| policy.name_any())
        .collect();
    assert_eq!(order.first().map(String::as_str), Some(names::DENY_POLICY), "{order:?}");
    assert_eq!(order.len(), before.len(), "{order:?}");

    operator::stays(A_WHILE, async || {
        let policies = ours::<ValidatingAdmissionPolicy>(&client).await;
        let bindings = ours::<ValidatingAdmissionPolicyBinding>(&client).await;
        let walls = operator::in_place(&client, "train").await.len() + operator::in_place(&client, "infer").await.len();
        let spaces: Api<Namespace> = Api::all(client.clone());
        let sealed = spaces
            .get("train")
            .await
            .unwrap()
            .annotations()
            .contains_key(names::SEALED_ANNOTATION);
        assert_eq!((policies, bindings, walls, sealed), (0, 0, 0, false));
    })
    .await;
    // What people wrote stays.
    let train: Namespace = Api::all(client.clone()).get("train").await.unwrap();
    assert!(train.labels().contains_key(names::STAGE_LABEL));
    let workloads: Api<cloison::api::AiWorkload> = Api::namespaced(client.clone(), "train");
    assert!(workloads.get_opt("steady").await.unwrap().is_some());
}

/// Nothing gets stuck without us: a cluster is left, and its namespaces and our own kinds go, when our last process died long ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_left_when_nobody_of_ours_lives() {
    let plane = ControlPlane::start(Options {
        controller_manager: true,
        ..Options::default()
    });
    let installation = Installation::start(plane.await.unwrap(), json!({})).await;
    let (client, admin) = (installation.admin(), installation.plane.admin_kubeconfig().unwrap());
    operator::healthy(&client, "train", "Training").await;
    operator::condition(&client, "train", "steady", "AdmissionEnforced", "True").await;
    let tenant = installation.plane.tenant("alice", "train", "edit").await.unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "train"},
        "spec": {"hostIPC": true, "containers": [{"name": "c", "image": "registry.example.com/app:1"}]}});
    installation.controller.kill();
    let refused = operator::apply(&tenant, pod.clone()).await;
    assert!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.message.contains("WKL-01/host-ipc")),
        "what is in place holds without us: {refused:?}"
    );

    let (code, told, said) = offboard(&admin, &["--yes"]);
    assert_eq!(code, 0, "{told}{said}");
    let policies = ours::<ValidatingAdmissionPolicy>(&client).await;
    let bindings = ours::<ValidatingAdmissionPolicyBinding>(&client).await;
    let webhooks = ours::<ValidatingWebhookConfiguration>(&client).await;
    let walls = operator::in_place(&client, "train").await.len();
    assert_eq!((policies, bindings, webhooks, walls), (0, 0, 0, 0));
    // An API server may go on for a moment by what it has cached.
    eventually(PATIENCE, "the tenant is let in", || async {
        operator::apply(&tenant, pod.clone()).await.map(drop)
    })
    .await
    .unwrap();

    // No finalizer of ours holds anything: namespaces and definitions go, with what is in them.
    let spaces: Api<Namespace> = Api::all(client.clone());
    spaces.delete("train", &DeleteParams::default()).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let label = ListParams::default().labels("app.kubernetes.io/part-of=cloison");
    let found = definitions.list(&label).await.unwrap().items.len();
    assert!(found > 0, "the line that offboard prints names them by this label");
    definitions
        .delete_collection(&DeleteParams::default(), &label)
        .await
        .unwrap();
    eventually(PATIENCE, "they are gone", || async {
        let train = spaces.get_opt("train").await.unwrap().is_some();
        match (train, definitions.list(&label).await.unwrap().items.len()) {
            (false, 0) => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await
    .unwrap();
}
