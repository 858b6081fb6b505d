//! What the cluster as a whole is said to be follows what it is: where something cannot be written, is taken away or is
//! switched on, the conditions turn, on the cluster's objects and on the workloads.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloison::api::{AiSecurityPolicy, AiWorkload, conditions, names};
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use operator::PATIENCE;
use serde_json::{Value, json};

const OURS: &str = "app.kubernetes.io/managed-by=cloison";

async fn plane(api_servers: usize) -> ControlPlane {
    let options = Options {
        api_servers: vec![ApiServerOptions::default(); api_servers],
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

/// The message of a condition with this status and reason, or what it is instead.
fn says(list: &[Condition], kind: &str, status: &str, reason: &str) -> Result<String, String> {
    let found = conditions::find(list, kind).ok_or("none yet")?;
    if (&*found.status, &*found.reason) == (status, reason) {
        Ok(found.message.clone())
    } else {
        Err(format!("{}/{}: {}", found.status, found.reason, found.message))
    }
}

/// Waits until a condition of the cluster has a status and a reason, and returns its message.
async fn cluster_says(admin: &Client, kind: &str, status: &str, reason: &str) -> String {
    let api: Api<AiSecurityPolicy> = Api::all(admin.clone());
    eventually(PATIENCE, &format!("{kind} is {status}/{reason}"), || async {
        let policy = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
        let list = policy.status.unwrap_or_default().conditions;
        says(&list, kind, status, reason)
    })
    .await
    .unwrap()
}

/// Waits for the status and the reason of a workload's condition.
async fn workload_says(admin: &Client, namespace: &str, kind: &str, status: &str, reason: &str) -> String {
    let api: Api<AiWorkload> = Api::namespaced(admin.clone(), namespace);
    eventually(
        PATIENCE,
        &format!("{namespace}: {kind} is {status}/{reason}"),
        || async {
            let workload = api.get("steady").await.map_err(|error| error.to_string())?;
            let list = workload.status.unwrap_or_default().conditions;
            says(&list, kind, status, reason)
        },
    )
    .await
    .unwrap()
}

async fn set_rules(admin: &Client, rules: &[PolicyRule]) {
    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let patch = Patch::Merge(json!({ "rules": rules }));
    roles
        .patch(names::CONTROLLER_ROLE, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The rules without the names that match.
fn without(rules: &[PolicyRule], gone: impl Fn(&str) -> bool) -> Vec<PolicyRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        rule.resource_names
            .iter_mut()
            .for_each(|names| names.retain(|name| !gone(name)));
    }
    // A rule that named some objects and names none now would be one for all.
    rules.retain(|rule| rule.resource_names.as_ref().is_none_or(|names| !names.is_empty()));
    rules
}

/// Something that makes other policies, so that the canaries are sent anew.
async fn allow_capability(admin: &Client, name: &str) {
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let patch = Patch::Merge(json!({"spec": {"pods": {"addCapabilities": [{"capability": name}]}}}));
    settings
        .patch(names::SINGLETON, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn delete_binding(admin: &Client, name: &str) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    bindings.delete(name, &DeleteParams::default()).await.unwrap();
}

async fn binding_is_back(admin: &Client, name: &str) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    eventually(PATIENCE, &format!("{name} is back"), || async {
        bindings.get(name).await.map(drop)
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_turns_the_conditions_and_stops_nothing_else() {
    let plane = plane(1).await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "train", "Training").await;
    cluster_says(&admin, "AdmissionEnforced", "True", "CanariesRefused").await;
    cluster_says(&admin, "Ready", "True", "Reconciled").await;
    workload_says(&admin, "train", "AdmissionEnforced", "True", "CanariesRefused").await;
    let minute_ago = k8s_openapi::jiff::Timestamp::now().as_second() - 60;
    let leg = ["kind=\"admission\""];
    operator::metric_is(&controller, "cloison_proof_timestamp_seconds", &leg, |at| {
        at > minute_ago
    })
    .await;

    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let rules = roles.get(names::CONTROLLER_ROLE).await.unwrap().rules.unwrap();
    let hidden = "cloison-crd-deny";
    set_rules(&admin, &without(&rules, |name| name == hidden)).await;
    delete_binding(&admin, hidden).await;
    // It comes later in the order: one object that cannot be written stops no other.
    delete_binding(&admin, "cloison-pod-audit").await;
    binding_is_back(&admin, "cloison-pod-audit").await;
    let message = cluster_says(&admin, "Ready", "False", "Forbidden").await;
    assert!(
        message.contains(hidden) && message.contains("rights of the chart's ClusterRole"),
        "{message}"
    );
    allow_capability(&admin, "IPC_LOCK").await;
    let message = cluster_says(&admin, "AdmissionEnforced", "False", "NoBinding").await;
    assert!(message.contains("cloison-crd"), "{message}");
    workload_says(&admin, "train", "AdmissionEnforced", "False", "NoBinding").await;
    workload_says(&admin, "train", "Ready", "False", "ConditionNotMet").await;
    // Who does not depend on it goes on.
    operator::namespace(&admin, "audited", "training", Some("audit")).await;
    operator::apply(&admin, operator::workload("audited", "steady", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "audited", "steady", "Ready", "True").await;

    operator::event(&admin, "steady", "NoBinding").await;

    set_rules(&admin, &rules).await;
    // A right that comes back is noticed within a minute; a change is quicker.
    allow_capability(&admin, "SYS_NICE").await;
    binding_is_back(&admin, hidden).await;
    cluster_says(&admin, "Ready", "True", "Reconciled").await;
    cluster_says(&admin, "AdmissionEnforced", "True", "CanariesRefused").await;
    workload_says(&admin, "train", "Ready", "True", "Reconciled").await;

    // Other policies again, and nothing else: until they are seen refusing nobody claims that they do.
    let followed = follow(&admin);
    allow_capability(&admin, "IPC_LOCK").await;
    eventually(PATIENCE, "the policies are becoming active", || async {
        if followed.lock().unwrap().0 {
            Ok(())
        } else {
            Err("not seen")
        }
    })
    .await
    .unwrap();
    cluster_says(&admin, "AdmissionEnforced", "True", "CanariesRefused").await;
    assert_eq!(followed.lock().unwrap().1, [""; 0]);

    // Looked at after each of these changes, the audited one gave no news: it was well from the start and never flipped.
    let events: Api<Event> = Api::namespaced(admin.clone(), "audited");
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let of_ready = events.iter().filter(|event| event.action.as_deref() == Some("Ready"));
    assert_eq!(of_ready.count(), 0, "{events:?}");
}

async fn owners(admin: &Client) -> Vec<(String, Option<Vec<OwnerReference>>)> {
    let ours = ListParams::default().labels(OURS);
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(admin.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let policies = policies.list(&ours).await.unwrap().items.into_iter();
    let bindings = bindings.list(&ours).await.unwrap().items.into_iter();
    let policies = policies.map(|policy| (policy.name_any(), policy.metadata.owner_references));
    policies
        .chain(bindings.map(|binding| (binding.name_any(), binding.metadata.owner_references)))
        .collect()
}

/// An owner that cannot be read is no owner that is not there: without it an uninstall would leave policies that refuse.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_cannot_be_read_stays() {
    let plane = plane(1).await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    cluster_says(&admin, "Ready", "True", "Reconciled").await;
    let before = owners(&admin).await;
    let owned = |all: &[(String, Option<Vec<OwnerReference>>)], name: &str| {
        let found = all.iter().find(|(found, _)| found == name).unwrap();
        found
            .1
            .as_ref()
            .is_some_and(|owners| owners[0].name == names::CONTROLLER_ROLE)
    };
    assert!(before.len() > 5 && before.iter().all(|(name, _)| owned(&before, name)));

    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let rules = roles.get(names::CONTROLLER_ROLE).await.unwrap().rules.unwrap();
    set_rules(&admin, &without(&rules, |name| name == names::CONTROLLER_ROLE)).await;
    controller.stop().await;
    controller.start().unwrap();
    let message = cluster_says(&admin, "Ready", "False", "Forbidden").await;
    assert!(message.contains("read ClusterRole"), "{message}");
    // It is at work: what is missing is put in place, and every object is as it should be.
    delete_binding(&admin, "cloison-pod-audit").await;
    binding_is_back(&admin, "cloison-pod-audit").await;
    let meanwhile = owners(&admin).await;
    for (name, _) in &before {
        assert_eq!(owned(&meanwhile, name), name != "cloison-pod-audit", "{name}");
    }
    set_rules(&admin, &rules).await;
    allow_capability(&admin, "IPC_LOCK").await;
    cluster_says(&admin, "Ready", "True", "Reconciled").await;
    let after = owners(&admin).await;
    assert!(after.iter().all(|(name, _)| owned(&after, name)), "{after:?}");

    // Another role of that name: the garbage collector takes what the old one owned, and what is put back has the new owner.
    let mut role = roles.get(names::CONTROLLER_ROLE).await.unwrap();
    roles
        .delete(names::CONTROLLER_ROLE, &DeleteParams::default())
        .await
        .unwrap();
    role.metadata = kube::api::ObjectMeta {
        name: role.metadata.name,
        labels: role.metadata.labels,
        annotations: role.metadata.annotations,
        ..kube::api::ObjectMeta::default()
    };
    let role = roles.create(&PostParams::default(), &role).await.unwrap();
    eventually(PATIENCE, "all are there and the new role owns them", || async {
        let now = owners(&admin).await;
        let new =
            |owners: &Option<Vec<OwnerReference>>| owners.as_ref().map(|owners| owners[0].uid.clone()) == role.uid();
        if now.len() == before.len() && now.iter().all(|(_, owners)| new(owners)) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await
    .unwrap();
}

/// Follows the policy's status and notes each moment at which it claims enforcement of other policies than it names.
fn follow(admin: &Client) -> Arc<Mutex<(bool, Vec<String>)>> {
    let api: Api<AiSecurityPolicy> = Api::all(admin.clone());
    let noted: Arc<Mutex<(bool, Vec<String>)>> = Arc::default();
    let notes = noted.clone();
    tokio::spawn(async move {
        let mut changes = std::pin::pin!(
            watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects()
        );
        while let Some(Ok(policy)) = changes.next().await {
            let status = policy.status.unwrap_or_default();
            let hash = status.policy_hash.unwrap_or_default();
            let Some(enforced) = conditions::find(&status.conditions, "AdmissionEnforced") else {
                continue;
            };
            let mut notes = notes.lock().unwrap();
            if enforced.status == "True" && !enforced.message.contains(&hash) {
                notes.1.push(format!("{hash} beside {}", enforced.message));
            }
            notes.0 |= enforced.reason == "Activating" && enforced.message.contains(&hash);
        }
    });
    noted
}

fn encrypting() -> String {
    let key = json!({ "name": "k1", "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" });
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{ "resources": ["secrets"], "providers": [{ "aesgcm": { "keys": [key] } }, { "identity": {} }] }],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_tell_of_encryption_and_of_plugins_as_they_are() {
    let plane = plane(2).await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "train", "Training").await;
    workload_says(&admin, "train", "AdmissionEnforced", "True", "CanariesRefused").await;
    workload_says(&admin, "train", "SecretsEncrypted", "False", "NotConfigured").await;

    // The admin switches encryption on.
    for server in plane.api_servers() {
        let switched_on = server.restart_with(|options| options.encryption_config = Some(encrypting()));
        switched_on.await.unwrap();
    }
    workload_says(&admin, "train", "SecretsEncrypted", "True", "NewWritesEncrypted").await;
    cluster_says(&admin, "SecretsEncrypted", "True", "NewWritesEncrypted").await;
    let minute_ago = k8s_openapi::jiff::Timestamp::now().as_second() - 60;
    let leg = ["kind=\"encryption\""];
    operator::metric_is(&controller, "cloison_proof_timestamp_seconds", &leg, |at| {
        at > minute_ago
    })
    .await;

    // What is asked for and not there is said, and nothing is done that was not done before.
    let manage = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
        "spec": {"mode": "Manage", "escrow": {"requirement": "Waived"}},
    });
    operator::apply(&admin, manage).await.unwrap();
    eventually(PATIENCE, "it is told what is not installed", || async {
        let message = workload_says(&admin, "train", "SecretsEncrypted", "Unknown", "NotRead").await;
        if message.contains("agent.enabled") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await
    .unwrap();

    // One API server comes back without the plugin.
    let without_plugin = plane.api_server(1).restart_with(|options| {
        options.disable_admission_plugins = vec!["ValidatingAdmissionPolicy".to_owned()];
    });
    without_plugin.await.unwrap();
    workload_says(&admin, "train", "AdmissionEnforced", "False", "PluginDisabled").await;
    workload_says(&admin, "train", "Ready", "False", "ConditionNotMet").await;
    operator::stays(Duration::from_secs(1), || async {
        workload_says(&admin, "train", "AdmissionEnforced", "False", "PluginDisabled").await;
    })
    .await;
}
