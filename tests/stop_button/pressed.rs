//! While it is pressed nothing is written, everything says so, and it holds what its scope names.

use cloison::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, conditions, names};
use cloison_testbed::eventually;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::operator::{self, PATIENCE, press, release};
use crate::{A_WHILE, OURS, installed, says_off};

async fn delete_allow(admin: &Client, namespace: &str) {
    operator::network_policies(admin, namespace)
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
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
