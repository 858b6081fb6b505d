//! Who presses it and who ends it, by the program or by kubectl alone, and what follows a release: the deny comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use cloison::admission::{Operator, Waived, generate};
use cloison::api::{AiSecurityPolicy, conditions, names};
use cloison_testbed::eventually;
use futures::TryStreamExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::operator::{self, PATIENCE, press, release};
use crate::{A_WHILE, OURS, installed, says_off};

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
