//! The stop button: Cloison stops when it is told to, also by kubectl alone, stays off, and seals again deny first.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloison::admission::{Operator, Waived, generate};
use cloison::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, conditions, names};
use cloison_testbed::{ControlPlane, Options, Program, eventually};
use futures::TryStreamExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use operator::PATIENCE;
use serde_json::{Value, json};

const OURS: &str = "app.kubernetes.io/managed-by=cloison";
/// Much longer than a repair takes, which is tens of milliseconds.
const A_WHILE: Duration = Duration::from_secs(4);

async fn installed() -> (ControlPlane, Program, Client) {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    (plane, controller, admin)
}

async fn press(admin: &Client, data: Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": names::OFF_CONFIGMAP, "namespace": names::DEFAULT_NAMESPACE},
    });
    operator::apply(admin, object).await.unwrap();
}

async fn release(admin: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE);
    maps.delete(names::OFF_CONFIGMAP, &DeleteParams::default())
        .await
        .unwrap();
}

async fn delete_allow(admin: &Client, namespace: &str) {
    operator::network_policies(admin, namespace)
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
}

/// Every condition of a workload is Unknown/Off and gives the reason.
async fn says_off(admin: &Client, namespace: &str, name: &str, why: &str) {
    let (reason, message) = operator::condition(admin, namespace, name, "Ready", "Unknown").await;
    assert_eq!(reason, "Off");
    assert!(message.contains(why), "{message}");
    let api: Api<AiWorkload> = Api::namespaced(admin.clone(), namespace);
    let status = api.get(name).await.unwrap().status.unwrap();
    for condition in &status.conditions {
        assert_eq!(
            (&*condition.status, &*condition.reason),
            ("Unknown", "Off"),
            "{}",
            condition.type_
        );
    }
    assert!(status.conditions.len() >= 9, "{:?}", status.conditions);
}

/// Waits until `SecretEncryption` gives a reason for its word on the encryption.
async fn encryption_says(admin: &Client, reason: &str) {
    let api: Api<SecretEncryption> = Api::all(admin.clone());
    eventually(PATIENCE, &format!("Encrypted says {reason}"), || async {
        let found = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
        let list = found.status.unwrap_or_default().conditions;
        let encrypted = conditions::find(&list, "Encrypted").ok_or("nothing yet")?;
        if encrypted.reason == reason {
            Ok(())
        } else {
            Err(format!("{encrypted:?}"))
        }
    })
    .await
    .unwrap();
}

/// Changes whenever the canary Secret is written.
async fn canary_version(admin: &Client) -> Option<String> {
    let secrets: Api<Secret> = Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE);
    let canary = secrets.get_metadata(names::CANARY_SECRET).await.unwrap();
    canary.resource_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn pressed_it_writes_nothing_and_says_so_everywhere() {
    let (plane, controller, admin) = installed().await;
    operator::healthy(&admin, "train", "Training").await;
    let settings = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"}, "spec": {},
    });
    operator::apply(&admin, settings).await.unwrap();
    encryption_says(&admin, "NotConfigured").await;
    let canary = canary_version(&admin).await;
    operator::apply(&admin, operator::workload("train", "leaves", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "train", "leaves", "Ready", "True").await;
    let before = operator::in_place(&admin, "train").await;
    press(&admin, json!({"scope": "all", "reason": "incident 4711"})).await;
    says_off(&admin, "train", "steady", "incident 4711").await;
    operator::metric_is(&controller, "cloison_off", &[], |off| off == 1).await;
    let policies: Api<AiSecurityPolicy> = Api::all(admin.clone());
    eventually(PATIENCE, "the policy says off", || async {
        let policy = policies
            .get(names::SINGLETON)
            .await
            .map_err(|error| error.to_string())?;
        let list = policy.status.unwrap_or_default().conditions;
        let ready = conditions::find(&list, "Ready").ok_or("no Ready")?;
        match (&*ready.status, &*ready.reason) {
            ("Unknown", "Off") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    encryption_says(&admin, "Off").await;

    // An API server that is new has to be tried; not now. Drift stays, a new workload gets nothing, a deleted one loses nothing.
    plane.restart_api_servers().await.unwrap();
    delete_allow(&admin, "train").await;
    operator::apply(&admin, operator::workload("train", "late", "Training", Value::Null))
        .await
        .unwrap();
    // Only a deletion that somebody watches is one: the controller is back when it speaks.
    says_off(&admin, "train", "late", "incident 4711").await;
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "train");
    workloads.delete("leaves", &DeleteParams::default()).await.unwrap();
    // Longer than three passes of the loop that writes the canary.
    operator::stays(A_WHILE * 4, || async {
        let now = operator::in_place(&admin, "train").await;
        assert_eq!(
            now.keys().collect::<Vec<_>>(),
            [names::DENY_POLICY, "cloison-wl-leaves"]
        );
    })
    .await;
    assert_eq!(canary_version(&admin).await, canary, "a canary was written");

    release(&admin).await;
    encryption_says(&admin, "NotConfigured").await;
    eventually(PATIENCE, "the new API server is tried", || async {
        if canary_version(&admin).await == canary {
            Err("not yet")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    for name in ["steady", "late"] {
        operator::condition(&admin, "train", name, "Ready", "True").await;
    }
    operator::metric_is(&controller, "cloison_off", &[], |off| off == 0).await;
    let after = operator::in_place(&admin, "train").await;
    assert_eq!(after[names::DENY_POLICY], before[names::DENY_POLICY]);
    eventually(PATIENCE, "the withdrawal that waited", || async {
        let now = operator::in_place(&admin, "train").await;
        if now.contains_key("cloison-wl-leaves") {
            Err("its allow is there")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn for_some_namespaces_it_holds_only_these() {
    let (_plane, controller, admin) = installed().await;
    operator::healthy(&admin, "held", "Training").await;
    operator::healthy(&admin, "held-too", "Training").await;
    operator::healthy(&admin, "works", "Training").await;
    // As a person in a hurry writes it.
    press(
        &admin,
        json!({"scope": "all", "reason": "try out", "namespaces": "held, held-too"}),
    )
    .await;
    says_off(&admin, "held", "steady", "try out").await;
    says_off(&admin, "held-too", "steady", "try out").await;
    operator::metric_is(&controller, "cloison_off", &[], |off| off == 1).await;
    delete_allow(&admin, "held").await;
    delete_allow(&admin, "works").await;
    operator::policy(&admin, "works", "cloison-wl-steady").await;
    operator::condition(&admin, "works", "steady", "Ready", "True").await;
    operator::stays(A_WHILE, || async {
        let now = operator::in_place(&admin, "held").await;
        assert_eq!(now.keys().collect::<Vec<_>>(), [names::DENY_POLICY]);
    })
    .await;
    release(&admin).await;
    operator::condition(&admin, "held", "steady", "Ready", "True").await;
    scope_admission_leaves_the_network_at_work(&admin).await;
}

/// Deletes the deny of a namespace and waits until another one is there.
async fn deny_comes_back(admin: &Client, namespace: &str) {
    let policies = operator::network_policies(admin, namespace);
    let before = policies.get(names::DENY_POLICY).await.unwrap().uid();
    policies
        .delete(names::DENY_POLICY, &DeleteParams::default())
        .await
        .unwrap();
    eventually(PATIENCE, "another deny", || async {
        match policies.get_opt(names::DENY_POLICY).await {
            Ok(Some(deny)) if deny.uid() != before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

async fn scope_admission_leaves_the_network_at_work(admin: &Client) {
    let says = async |name: &str, kind: &str| {
        // Unknown may first be said for another reason: admission was only just taken up again.
        eventually(PATIENCE, "Off is said", || async {
            let (reason, message) = operator::condition(admin, "held", name, kind, "Unknown").await;
            if reason == "Off" && message.contains("the network is not: INC-7") {
                Ok(())
            } else {
                Err(format!("{kind} {reason}: {message}"))
            }
        })
        .await
        .unwrap();
    };
    press(admin, json!({"scope": "admission", "reason": "INC-7"})).await;
    says("steady", "AdmissionEnforced").await;
    says("steady", "Ready").await;
    operator::condition(admin, "held", "steady", "PoliciesIsolate", "True").await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let ours = ListParams::default().labels(OURS);
    bindings
        .delete_collection(&DeleteParams::default(), &ours)
        .await
        .unwrap();
    deny_comes_back(admin, "held").await;
    operator::apply(admin, operator::workload("held", "late", "Training", Value::Null))
        .await
        .unwrap();
    operator::policy(admin, "held", "cloison-wl-late").await;
    operator::condition(admin, "held", "late", "PoliciesIsolate", "True").await;
    says("late", "Ready").await;
    assert!(
        bindings.list(&ours).await.unwrap().items.is_empty(),
        "bindings came back"
    );
    release(admin).await;
    operator::condition(admin, "held", "late", "Ready", "True").await;

    // `off -n` labels its namespaces audit and remembers what they were.
    let modes = json!({"scope": "admission", "reason": "INC-7", "namespaces": "held", "modes": "held=enforce"});
    press(admin, modes).await;
    operator::namespace(admin, "held", "training", Some("audit")).await;
    says("late", "AdmissionEnforced").await;
    deny_comes_back(admin, "held").await;
    operator::condition(admin, "works", "steady", "AdmissionEnforced", "True").await;
    operator::namespace(admin, "held", "training", Some("enforce")).await;
    release(admin).await;
    operator::condition(admin, "held", "late", "Ready", "True").await;
}

/// Follows the NetworkPolicies of ours and notes each moment at which a namespace has an allow and no deny.
async fn follow(admin: &Client) -> Arc<Mutex<Vec<String>>> {
    let api: Api<NetworkPolicy> = Api::all(admin.clone());
    let listed = api.list(&ListParams::default().labels(OURS)).await.unwrap();
    assert!(listed.items.is_empty(), "nothing of ours is there");
    let version = listed.metadata.resource_version.unwrap();
    let bare = Arc::new(Mutex::new(vec!["nothing was seen".to_owned()]));
    let noted = bare.clone();
    tokio::spawn(async move {
        let params = WatchParams::default().labels(OURS);
        let mut events = std::pin::pin!(api.watch(&params, &version).await.unwrap());
        let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        while let Ok(Some(event)) = events.try_next().await {
            let mut noted = noted.lock().unwrap();
            noted.retain(|note| note != "nothing was seen");
            match event {
                WatchEvent::Added(policy) | WatchEvent::Modified(policy) => {
                    let here = there.entry(policy.namespace().unwrap()).or_default();
                    here.insert(policy.name_any());
                    if !here.contains(names::DENY_POLICY) {
                        noted.push(format!("{here:?} without the deny"));
                    }
                }
                WatchEvent::Deleted(policy) => {
                    there
                        .entry(policy.namespace().unwrap())
                        .or_default()
                        .remove(&policy.name_any());
                }
                other => noted.push(format!("{other:?}")),
            }
        }
    });
    bare
}

#[tokio::test(flavor = "multi_thread")]
async fn three_lines_of_kubectl_stop_it_for_good_and_it_seals_again_deny_first() {
    let (plane, controller, admin) = installed().await;
    let namespaces = ["train-a", "train-b", "train-c"];
    for namespace in namespaces {
        operator::healthy(&admin, namespace, "Training").await;
    }
    controller.kill();
    let create = format!(
        "-n {} create configmap {}",
        names::DEFAULT_NAMESPACE,
        names::OFF_CONFIGMAP
    );
    operator::kubectl(
        &plane,
        &format!("{create} --from-literal=scope=all --from-literal=reason=incident"),
    );
    let bindings = "validatingadmissionpolicybindings,validatingwebhookconfigurations";
    operator::kubectl(&plane, &format!("delete {bindings} -l {OURS}"));
    operator::kubectl(&plane, &format!("delete networkpolicies -A -l {OURS}"));

    controller.start().unwrap();
    operator::apply(&admin, operator::workload("train-a", "late", "Training", Value::Null))
        .await
        .unwrap();
    says_off(&admin, "train-a", "late", "incident").await;
    for namespace in namespaces {
        says_off(&admin, namespace, "steady", "incident").await;
    }
    let placed: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let params = ListParams::default().labels(OURS);
    operator::stays(A_WHILE, || async {
        assert!(
            placed.list(&params).await.unwrap().items.is_empty(),
            "bindings came back"
        );
        for namespace in namespaces {
            assert!(
                operator::in_place(&admin, namespace).await.is_empty(),
                "policies came back"
            );
        }
    })
    .await;

    let bare = follow(&admin).await;
    release(&admin).await;
    for namespace in namespaces {
        operator::condition(&admin, namespace, "steady", "Ready", "True").await;
        operator::policy(&admin, namespace, names::DENY_POLICY).await;
    }
    operator::condition(&admin, "train-a", "late", "Ready", "True").await;
    assert_eq!(*bare.lock().unwrap(), [""; 0]);
    eventually(PATIENCE, "the bindings are back", || async {
        match placed.list(&params).await {
            Ok(list) if list.items.is_empty() => Err("none yet".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
}

/// Runs the program, and returns its code and all that it said.
fn cloison(kubeconfig: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    let output = command
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// Deletes all bindings, and presses the button when the first one is put back: the pass that puts them back must not
/// finish. A pass may be quicker than the button is seen, so it is tried a few times.
async fn pressed_in_the_middle_of_a_pass_it_ends_the_pass(admin: &Client) {
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let ours = ListParams::default().labels(OURS);
    let all = generate(
        &serde_json::from_value(json!({})).unwrap(),
        &Operator::in_namespace(names::DEFAULT_NAMESPACE),
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    )
    .bindings
    .len();
    eventually(PATIENCE, "all bindings are back", || async {
        let there = bindings.list(&ours).await.unwrap().items.len();
        if there == all {
            Ok(())
        } else {
            Err(format!("{there} of {all}"))
        }
    })
    .await
    .unwrap();
    let mut rounds = Vec::new();
    for round in 0..5 {
        press(admin, json!({"scope": "admission", "reason": "to clear"})).await;
        off_is_said(admin, "to clear").await;
        bindings
            .delete_collection(&DeleteParams::default(), &ours)
            .await
            .unwrap();
        let version = bindings.list(&ours).await.unwrap().metadata.resource_version.unwrap();
        let mut events = std::pin::pin!(
            bindings
                .watch(&WatchParams::default().labels(OURS), &version)
                .await
                .unwrap()
        );
        release(admin).await;
        tokio::time::timeout(PATIENCE, events.try_next())
            .await
            .unwrap()
            .unwrap();
        let why = format!("round {round}");
        press(admin, json!({"scope": "admission", "reason": why})).await;
        off_is_said(admin, &why).await;
        let count = bindings.list(&ours).await.unwrap().items.len();
        rounds.push(count);
        if (1..all).contains(&count) {
            break;
        }
    }
    assert!(rounds.iter().any(|count| *count < all), "{rounds:?} of {all} bindings");
    release(admin).await;
    operator::condition(admin, "train", "steady", "Ready", "True").await;
}

/// Waits until the AiSecurityPolicy says that it is off, and why.
async fn off_is_said(admin: &Client, why: &str) {
    let policies: Api<AiSecurityPolicy> = Api::all(admin.clone());
    eventually(PATIENCE, "the policy says off", || async {
        let found = policies.get(names::SINGLETON).await;
        let list = found
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default()
            .conditions;
        let said = conditions::find(&list, "AdmissionEnforced").ok_or("no AdmissionEnforced")?;
        if said.reason == "Off" && said.message.contains(why) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cloison_admin_presses_the_button_and_ends_it() {
    let (plane, _controller, admin) = installed().await;
    operator::healthy(&admin, "train", "Training").await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "alice"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cloison-admin"},
        "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}]});
    operator::apply(&admin, binding).await.unwrap();
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
    let ours = ListParams::default().labels(OURS);
    eventually(PATIENCE, "the bindings are there", || async {
        let found = bindings.list(&ours).await.map_err(|error| error.to_string())?;
        let names: Vec<String> = found.iter().map(ResourceExt::name_any).collect();
        if names.iter().any(|name| name == "cloison-templates-warn") {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await
    .unwrap();
    let alice = plane.kubeconfig_as("alice", &[]).unwrap();
    let off = ["off", "--scope", "all", "--reason", "INC-4711"];
    let (_, said) = eventually(PATIENCE, "her rights arrive", async || match cloison(&alice, &off) {
        (0, said) => Ok((0, said)),
        (_, said) => Err(said),
    })
    .await
    .unwrap();
    assert!(
        said.contains("bindings 0/") && !said.contains("bindings 0/0") && !said.contains("note:"),
        "{said}"
    );
    let left: Vec<String> = bindings
        .list(&ours)
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(left, Vec::<String>::new(), "{said}");
    assert!(operator::in_place(&admin, "train").await.is_empty());

    // What is not ours is not hers to take.
    let (plain, hers) = (ListParams::default(), plane.client_as("alice", &[]).unwrap());
    let others: Api<ValidatingAdmissionPolicyBinding> = Api::all(hers.clone());
    let whole = others.delete_collection(&DeleteParams::default(), &plain).await;
    let other = others.delete("others", &DeleteParams::default()).await;
    let maps: Api<ConfigMap> = Api::namespaced(hers, names::DEFAULT_NAMESPACE);
    let map = maps.delete("kube-root-ca.crt", &DeleteParams::default()).await;
    for refused in [whole.map(drop), other.map(drop), map.map(drop)] {
        assert!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
            "{refused:?}"
        );
    }

    let (code, said) = cloison(&alice, &["on"]);
    assert_eq!(code, 0, "{said}");
    operator::condition(&admin, "train", "steady", "Ready", "True").await;
    pressed_in_the_middle_of_a_pass_it_ends_the_pass(&admin).await;
    let (code, said) = cloison(&alice, &["offboard", "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(operator::in_place(&admin, "train").await.is_empty());
}
