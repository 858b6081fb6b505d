//! What people get wrong is said to them, and touches nobody else: no deny goes away, no allow opens, no other workload
//! loses its word.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use cloison::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, conditions, names};
use cloison_testbed::{ControlPlane, Options, Program, eventually};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use operator::PATIENCE;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// One installation for all cases but the last: none of them disturbs another.
async fn installed() -> (Client, &'static Program) {
    static SHARED: OnceCell<(ControlPlane, Program)> = OnceCell::const_new();
    let (plane, controller) = SHARED
        .get_or_init(|| async {
            let plane = plane().await;
            let controller = operator::start(&plane).await;
            let admin = plane.admin().unwrap();
            operator::healthy(&admin, "neighbour", "Training").await;
            (plane, controller)
        })
        .await;
    (plane.admin().unwrap(), controller)
}

async fn plane() -> ControlPlane {
    let options = Options {
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

/// The neighbour still has its word, and a change of it still works.
async fn neighbour_is_well(admin: &Client, witness: &str) {
    operator::apply(admin, operator::workload("neighbour", witness, "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(admin, "neighbour", witness, "Ready", "True").await;
    operator::condition(admin, "neighbour", "steady", "Ready", "True").await;
    let policies = operator::in_place(admin, "neighbour").await;
    for name in [
        names::DENY_POLICY,
        "cloison-wl-steady",
        &format!("cloison-wl-{witness}"),
    ] {
        assert!(policies.contains_key(name), "{name} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_of_another_stage_is_refused_by_name() {
    let (admin, _) = installed().await;
    let before = operator::in_place(&admin, "neighbour").await;
    let wrong = |namespace| operator::workload(namespace, "wrong", "Inference", Value::Null);
    // Enforced: at the door, once the policies are in force.
    let refusal = eventually(PATIENCE, "a refusal", || async {
        let api: Api<AiWorkload> = Api::namespaced(admin.clone(), "neighbour");
        let object = serde_json::from_value(wrong("neighbour")).unwrap();
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match api.create(&params, &object).await {
            Ok(_) => Err("it was let through".to_owned()),
            Err(error) => Ok(error.to_string()),
        }
    })
    .await
    .unwrap();
    assert!(refusal.contains("NET-02"), "{refusal}");
    // Audited: let through, and said on the object.
    operator::namespace(&admin, "stage-audit", "training", Some("audit")).await;
    operator::apply(&admin, wrong("stage-audit")).await.unwrap();
    let (reason, message) = operator::condition(&admin, "stage-audit", "wrong", "Ready", "False").await;
    assert_eq!(reason, "Refused");
    assert!(
        message.contains("NET-02") && message.contains("create it in a namespace of stage Inference"),
        "{message}"
    );
    let (reason, _) = operator::condition(&admin, "stage-audit", "wrong", "Stalled", "True").await;
    assert_eq!(reason, "Refused");
    assert_eq!(operator::in_place(&admin, "stage-audit").await.len(), 0);
    let after = operator::in_place(&admin, "neighbour").await;
    assert!(before.iter().all(|(name, policy)| after.get(name) == Some(policy)));
    neighbour_is_well(&admin, "after-stage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_label_value_is_refused_by_the_definition() {
    let (admin, _) = installed().await;
    for name in ["a".repeat(64), "road.train".to_owned()] {
        let object = operator::workload("neighbour", &name, "Training", Value::Null);
        let refusal = operator::apply(&admin, object).await.unwrap_err().to_string();
        assert!(
            refusal.contains("WKL-02/name") && refusal.contains("at most 63 characters and no dot"),
            "{refusal}"
        );
    }
    let longest = "a".repeat(63);
    operator::apply(
        &admin,
        operator::workload("neighbour", &longest, "Training", Value::Null),
    )
    .await
    .unwrap();
    operator::policy(&admin, "neighbour", &format!("cloison-wl-{longest}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_ends_and_stays_gone() {
    let (admin, controller) = installed().await;
    operator::healthy(&admin, "leaving", "Training").await;
    let from = controller.output().len();
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.delete("leaving", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the namespace ends", || async {
        match namespaces.get_opt("leaving").await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(serde_json::to_string(&namespace.status).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap();
    neighbour_is_well(&admin, "after-leaving").await;
    assert!(namespaces.get_opt("leaving").await.unwrap().is_none());
    let said = operator::plain(&controller.output()[from..]);
    let failures = said
        .lines()
        .filter(|line| line.contains("failed") && line.contains("leaving"))
        .count();
    assert!(failures <= 3, "{failures} failures:\n{said}");
    operator::metric_is(controller, "cloison_withdrawals_waiting", &[], |waiting| waiting == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "one story, in the order in which it happens")]
async fn an_object_that_cannot_be_read_is_told_so_and_the_others_go_on() {
    let (admin, controller) = installed().await;
    operator::healthy(&admin, "unread", "Training").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    let name = "aiworkloads.cloison.dev";
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/runtime/enum";
    let known = serde_json::to_value(definitions.get(name).await.unwrap()).unwrap();
    let known = known.pointer(path).unwrap().clone();
    let allow = |values: Value| {
        let change = serde_json::from_value(json!([{"op": "replace", "path": path, "value": values}])).unwrap();
        let definitions = definitions.clone();
        async move {
            let change: Patch<Value> = Patch::Json(change);
            definitions.patch(name, &PatchParams::default(), &change).await.unwrap();
        }
    };
    let mut more = known.clone();
    more.as_array_mut().unwrap().push(json!("Quantum"));
    allow(more).await;
    let mut object = operator::workload("unread", "steady", "Training", Value::Null);
    object["spec"]["runtime"] = json!("Quantum");
    eventually(PATIENCE, "the wider definition is served", || async {
        operator::apply(&admin, object.clone()).await.map(drop)
    })
    .await
    .unwrap();
    allow(known).await;
    let before = operator::in_place(&admin, "unread").await;
    // Our types cannot read it: neither can the test's.
    let kind = kube::discovery::ApiResource::erase::<AiWorkload>(&());
    let workloads: Api<kube::core::DynamicObject> = Api::namespaced_with(admin.clone(), "unread", &kind);
    let says = |wanted: &'static str, status: &'static str| {
        let workloads = workloads.clone();
        async move {
            let object = workloads.get("steady").await.map_err(|error| error.to_string())?;
            let list = object.data["status"]["conditions"].clone();
            let list = serde_json::from_value(list).unwrap_or_default();
            let found = conditions::find(&list as &Vec<_>, wanted).ok_or("none")?;
            if (&*found.status, &*found.reason) == (status, "Unreadable") && found.message.contains("Quantum") {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        }
    };
    for (wanted, status) in [("Ready", "False"), ("Stalled", "True")] {
        eventually(PATIENCE, "the condition", || says(wanted, status))
            .await
            .unwrap();
    }
    // A change of the policy sets everything off, this workload too: its last readable version says nothing of now.
    let passes = || operator::metric(controller, "cloison_reconciles_total", &["kind=\"AiWorkload\""]);
    let settings: Api<AiSecurityPolicy> = Api::all(admin.clone());
    for score in [81, 82] {
        let before = passes();
        let edit = Patch::Merge(json!({"spec": {"minScore": score}}));
        settings
            .patch(names::SINGLETON, &PatchParams::default(), &edit)
            .await
            .unwrap();
        eventually(PATIENCE, "all are looked at again", || async {
            let now = passes();
            // The neighbour's, at least one, and this one.
            if now >= before + 2 {
                Ok(())
            } else {
                Err(format!("{before} {now}"))
            }
        })
        .await
        .unwrap();
        // A pass that was under way when it turned unreadable may have written over it, and is written over in turn.
        eventually(PATIENCE, "the condition", || says("Ready", "False"))
            .await
            .unwrap();
        operator::stays(std::time::Duration::from_secs(1), || async {
            says("Ready", "False").await.unwrap();
            says("Stalled", "True").await.unwrap();
        })
        .await;
    }
    let unreadable = |count: i64| async move {
        let labels = ["kind=\"AiWorkload\""];
        operator::metric_is(controller, "cloison_unreadable_objects", &labels, |value| {
            value == count
        })
        .await;
    };
    unreadable(1).await;
    neighbour_is_well(&admin, "after-unreadable").await;
    operator::apply(&admin, operator::workload("unread", "other", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "unread", "other", "Ready", "True").await;
    let after = operator::in_place(&admin, "unread").await;
    assert!(before.iter().all(|(name, policy)| after.get(name) == Some(policy)));
    // Deleting it is seen, although it cannot be read: what was in place for it goes, and the count with it.
    workloads.delete("steady", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "the withdrawal", || async {
        let left = operator::in_place(&admin, "unread").await;
        if left.contains_key("cloison-wl-steady") {
            Err("its allow is there")
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    unreadable(0).await;
    assert!(
        operator::in_place(&admin, "unread")
            .await
            .contains_key(names::DENY_POLICY)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_no_workload_are_told_in_audit() {
    let (admin, _) = installed().await;
    operator::namespace(&admin, "strangers", "training", Some("audit")).await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "stranger", "labels": {names::WORKLOAD_LABEL: "nobody"}},
        "spec": {"containers": [{"name": "main", "image": "registry.example/none"}]},
    }))
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(admin.clone(), "strangers");
    eventually(PATIENCE, "the pod", || async {
        pods.create(&PostParams::default(), &pod).await.map(drop)
    })
    .await
    .unwrap();
    let note = operator::event(&admin, "strangers", "UnknownWorkload").await;
    assert!(note.contains("WKL-02/unknown") && note.contains("nobody"), "{note}");
    assert_eq!(
        operator::in_place(&admin, "strangers").await.len(),
        0,
        "audit writes nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_is_not_switched_off_without_a_reason() {
    let (admin, _) = installed().await;
    let override_ = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"controls": [{"id": "WKL-01", "mode": "Disabled"}]},
    });
    let refusal = operator::apply(&admin, override_).await.unwrap_err().to_string();
    assert!(
        refusal.contains("CLU-02/reason a control that is Disabled needs a `reason`"),
        "{refusal}"
    );
    neighbour_is_well(&admin, "after-override").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_policy_everything_holds_until_a_person_restores_it() {
    let plane = plane().await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "held", "Training").await;
    let before = operator::in_place(&admin, "held").await;
    let encryption = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"}, "spec": {},
    });
    operator::apply(&admin, encryption).await.unwrap();
    let policies: Api<AiSecurityPolicy> = Api::all(admin.clone());
    policies
        .delete(names::SINGLETON, &DeleteParams::default())
        .await
        .unwrap();
    let (reason, message) = operator::condition(&admin, "held", "steady", "Ready", "Unknown").await;
    assert_eq!(reason, "PolicyMissing", "{message}");
    let (reason, _) = operator::condition(&admin, "held", "steady", "NetworkIsolated", "Unknown").await;
    assert_eq!(reason, "PolicyMissing");
    operator::metric_is(&controller, "cloison_policy_missing", &[], |value| value == 1).await;
    let encryptions: Api<SecretEncryption> = Api::all(admin.clone());
    eventually(PATIENCE, "nothing is claimed of the encryption", || async {
        let found = encryptions
            .get(names::SINGLETON)
            .await
            .map_err(|error| error.to_string())?;
        let list = found.status.unwrap_or_default().conditions;
        let encrypted = conditions::find(&list, "Encrypted").ok_or("nothing yet")?;
        if (&*encrypted.status, &*encrypted.reason) == ("Unknown", "PolicyMissing") {
            Ok(())
        } else {
            Err(format!("{encrypted:?}"))
        }
    })
    .await
    .unwrap();
    let ready = ["condition=\"Ready\"", "status=\"Unknown\""];
    operator::metric_is(&controller, "cloison_condition", &ready, |value| value == 1).await;

    // Nothing is written: neither for a new workload, nor against drift, nor for a deletion. That the word on `late` came
    // says that the controller was at work meanwhile.
    operator::network_policies(&admin, "held")
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
    let held = |name: &'static str| {
        let admin = admin.clone();
        async move {
            operator::apply(&admin, operator::workload("held", name, "Training", Value::Null))
                .await
                .unwrap();
            let (reason, _) = operator::condition(&admin, "held", name, "Ready", "Unknown").await;
            assert_eq!(reason, "PolicyMissing");
        }
    };
    held("late").await;
    let left = operator::in_place(&admin, "held").await;
    assert_eq!(left.keys().collect::<Vec<_>>(), [names::DENY_POLICY]);
    assert_eq!(left[names::DENY_POLICY], before[names::DENY_POLICY]);
    let restarted = controller.output().len();
    controller.stop().await;
    controller.start().unwrap();
    operator::logs(&controller, restarted, "AiSecurityPolicy `default` is gone").await;
    held("later").await;
    assert!(policies.get_opt(names::SINGLETON).await.unwrap().is_none());
    assert_eq!(operator::in_place(&admin, "held").await, left);

    let empty = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {},
    });
    operator::apply(&admin, empty).await.unwrap();
    for name in ["steady", "late", "later"] {
        operator::condition(&admin, "held", name, "Ready", "True").await;
        operator::policy(&admin, "held", &format!("cloison-wl-{name}")).await;
    }
    let after = operator::in_place(&admin, "held").await;
    assert_eq!(after[names::DENY_POLICY], before[names::DENY_POLICY]);
    assert_eq!(after["cloison-wl-steady"]["spec"], before["cloison-wl-steady"]["spec"]);
    operator::metric_is(&controller, "cloison_policy_missing", &[], |value| value == 0).await;
}
