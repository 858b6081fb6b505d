//! A release's life on the oldest Kubernetes that is supported: install, work, upgrade, uninstall, come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use cloison::api::names;
use cloison_testbed::{ControlPlane, Minor, Program, Tool, eventually};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::{ClusterResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{NAMESPACE, api, operator, plane, run};

/// The namespace in which the controller works.
const STAGE: &str = "vision-train";
/// Deletions are the controller manager's: it looks at owners and namespaces in its own time.
const PATIENCE: Duration = Duration::from_mins(1);

fn helm(kubeconfig: &Path, args: &[&str]) -> String {
    let mut all = args.to_vec();
    all.extend(["--namespace", NAMESPACE]);
    run(Tool::Helm, Some(kubeconfig), &all).fine()
}

/// As every component writes: server-side, under its own name.
async fn apply<K>(api: &Api<K>, object: Value) -> kube::Result<K>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    api.patch(&name, &PatchParams::apply(names::FIELD_MANAGER), &Patch::Apply(object))
        .await
}

fn is_forbidden<T: std::fmt::Debug>(result: kube::Result<T>) -> bool {
    matches!(result.unwrap_err(), kube::Error::Api(status) if status.code == 403)
}

async fn is_gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    eventually(PATIENCE, &format!("{name} is gone"), async || {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is still there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}

/// Waits until no policy and no binding of ours is there.
async fn none_is_left(client: &Client) {
    eventually(PATIENCE, "no admission policy of ours is left", async || {
        let mut left = ours::<ValidatingAdmissionPolicy>(client).await;
        left.extend(ours::<ValidatingAdmissionPolicyBinding>(client).await);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{:?}", left.keys()))
        }
    })
    .await
    .unwrap();
}

/// The real controller, under the account that the chart made, until its policies are in force and a namespace is sealed.
async fn controller_at_work(plane: &ControlPlane) -> Program {
    let controller = operator::controller(plane, "controller").await;
    controller.start().unwrap();
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, STAGE, "Training").await;
    operator::condition(&admin, STAGE, "steady", "AdmissionEnforced", "True").await;
    let owner: ClusterRole = Api::all(admin.clone()).get(names::CONTROLLER_ROLE).await.unwrap();
    let policies = ours::<ValidatingAdmissionPolicy>(&admin).await;
    let bindings = ours::<ValidatingAdmissionPolicyBinding>(&admin).await;
    for (name, metadata) in policies.iter().chain(&bindings) {
        let owners = metadata.owner_references.iter().flatten();
        let owners: Vec<(&str, &str)> = owners.map(|owner| (&*owner.kind, &*owner.uid)).collect();
        assert_eq!(owners, [("ClusterRole", &*owner.uid().unwrap())], "{name}");
    }
    assert!(policies.contains_key("cloison-pod") && bindings.contains_key("cloison-pod-deny"));
    controller
}

/// Every object of a kind that is of the cluster and carries our label.
async fn ours<K>(client: &Client) -> BTreeMap<String, ObjectMeta>
where
    K: Resource<DynamicType = (), Scope = ClusterResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let label = format!("{}={}", names::MANAGED_BY_LABEL, names::CLOISON);
    let api: Api<K> = Api::all(client.clone());
    let found = api.list(&ListParams::default().labels(&label)).await.unwrap();
    let named = |object: K| (object.name_any(), object.meta().clone());
    found.items.into_iter().map(named).collect()
}

/// What the controller's account cannot do.
async fn the_controller_is_limited(plane: &ControlPlane) {
    let controller = plane
        .service_account(NAMESPACE, names::CONTROLLER_ACCOUNT)
        .await
        .unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(controller.clone());
    let foreign = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": "somebody-elses" },
    });
    assert!(
        is_forbidden(apply(&policies, foreign).await),
        "the controller writes a policy that is not ours"
    );
    let foreign = policies.delete("somebody-elses", &DeleteParams::default()).await;
    assert!(
        is_forbidden(foreign),
        "the controller deletes a policy that is not ours"
    );
    let secrets: Api<Secret> = Api::namespaced(controller.clone(), NAMESPACE);
    assert!(
        is_forbidden(secrets.list(&ListParams::default()).await),
        "the controller reads Secrets"
    );
    let tokens: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(controller, NAMESPACE);
    let request = serde_json::from_value(json!({ "spec": { "audiences": [], "expirationSeconds": 600 } })).unwrap();
    tokens
        .create_token_request(names::CANARY_ACCOUNT, &PostParams::default(), &request)
        .await
        .unwrap();
    let own = tokens
        .create_token_request(names::CONTROLLER_ACCOUNT, &PostParams::default(), &request)
        .await;
    assert!(
        is_forbidden(own),
        "the controller mints tokens for others than the canary"
    );
}

/// What the canary writes, and that it can do no harm with it.
async fn work_as_the_canary(plane: &ControlPlane) {
    let canary = plane.service_account(NAMESPACE, names::CANARY_ACCOUNT).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(canary.clone(), NAMESPACE);
    let write = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": names::CANARY_SECRET },
        "data": { "written": "MQ==" },
    });
    apply(&secrets, write).await.unwrap();
    let other = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "other" } });
    assert!(
        is_forbidden(apply(&secrets, other).await),
        "the canary writes another Secret"
    );
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe" },
        "spec": { "containers": [{ "name": "probe", "image": "registry.example.com/none" }] },
    }))
    .unwrap();
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pods = |namespace| Api::<Pod>::namespaced(canary.clone(), namespace);
    // The namespace's account comes with the controller manager.
    eventually(PATIENCE, "the canary's dry-run passes", async || {
        pods(names::CANARY_NAMESPACE).create(&dry_run, &pod).await.map(drop)
    })
    .await
    .unwrap();
    assert!(
        is_forbidden(pods("default").create(&dry_run, &pod).await),
        "the canary creates pods elsewhere"
    );
    let namespaces: Api<Namespace> = Api::all(canary);
    let patch = Patch::Merge(json!({ "metadata": { "labels": { names::STAGE_LABEL: "inference" } } }));
    let dry_run = PatchParams::default().dry_run();
    namespaces
        .patch(names::CANARY_NAMESPACE, &dry_run, &patch)
        .await
        .unwrap();
    assert!(
        is_forbidden(namespaces.patch("default", &dry_run, &patch).await),
        "the canary changes other namespaces"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_lives_and_leaves_what_it_promised() {
    let plane = plane(Minor::V1_33).await;
    let kubeconfig = plane.admin_kubeconfig().unwrap();
    let client = plane.admin().unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let namespaces: Api<Namespace> = Api::all(client.clone());

    let notes = helm(
        &kubeconfig,
        &["install", "cloison", "charts/cloison", "--create-namespace"],
    );
    assert!(
        notes.contains("nothing is refused and no NetworkPolicy has been written"),
        "{notes}"
    );
    the_controller_is_limited(&plane).await;
    work_as_the_canary(&plane).await;
    let controller = controller_at_work(&plane).await;

    // An upgrade changes what the values say and nothing that a component wrote; server-side apply refuses conflicts.
    helm(
        &kubeconfig,
        &[
            "upgrade",
            "cloison",
            "charts/cloison",
            "--set",
            "controller.replicas=2,controller.log=debug",
        ],
    );
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let deployment = deployments.get("cloison-controller").await.unwrap();
    assert_eq!(deployment.spec.unwrap().replicas, Some(2));
    let written = secrets.get(names::CANARY_SECRET).await.unwrap().data.unwrap();
    assert_eq!(written["written"].0, b"1");
    assert!(policies.get_opt("cloison-pod").await.unwrap().is_some());

    // The controller is still there: its pod ends in its own time.
    let isolation = operator::in_place(&client, STAGE).await;
    helm(&kubeconfig, &["uninstall", "cloison"]);
    // Nobody is left to correct them, so nothing may go on refusing.
    none_is_left(&client).await;
    controller.stop().await;
    none_is_left(&client).await;
    for name in names::PACKETS_NAMESPACES.into_iter().chain([names::CANARY_NAMESPACE]) {
        is_gone(&namespaces, name).await;
    }
    is_gone(&Api::<ClusterRole>::all(client.clone()), "cloison-auditor").await;
    // Isolation does not fall open because a release was removed.
    assert_eq!(operator::in_place(&client, STAGE).await, isolation);
    assert!(
        isolation.contains_key(names::DENY_POLICY) && isolation.len() == 2,
        "{isolation:?}"
    );
    let kept = definitions.list(&ListParams::default()).await.unwrap();
    let ours: Vec<String> = kept
        .iter()
        .map(ResourceExt::name_any)
        .filter(|name| name.ends_with(".cloison.dev"))
        .collect();
    assert_eq!(ours.len(), 6, "{ours:?}");
    api(&client, "AiSecurityPolicy", None)
        .get(names::SINGLETON)
        .await
        .unwrap();

    // Coming back takes over what was kept.
    helm(&kubeconfig, &["install", "cloison", "charts/cloison"]);
    api(&client, "AiSecurityPolicy", None)
        .get(names::SINGLETON)
        .await
        .unwrap();
    helm(&kubeconfig, &["uninstall", "cloison"]);
    for name in names::PACKETS_NAMESPACES.into_iter().chain([names::CANARY_NAMESPACE]) {
        is_gone(&namespaces, name).await;
    }

    // With crds.keep=false the definitions go, and all that people wrote with them: NOTES.txt says so before.
    let notes = helm(
        &kubeconfig,
        &["install", "cloison", "charts/cloison", "--set", "crds.keep=false"],
    );
    assert!(
        notes.contains("REMOVES  the definitions and with them every AiWorkload"),
        "{notes}"
    );
    helm(&kubeconfig, &["uninstall", "cloison"]);
    for name in ours {
        is_gone(&definitions, &name).await;
    }
    assert_eq!(operator::in_place(&client, STAGE).await, isolation);
}
