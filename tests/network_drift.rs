//! Whatever is done to our policies is put back, in an order that never opens anything; what is not ours is left alone.
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

use std::time::Duration;

use cloison::api::{AiWorkload, names};
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use network::{
    Change, Installation, Record, assert_deny_before_allow, has_rules, patch_policy, policy_names, tenants_may_open,
};
use operator::{PATIENCE, apply, condition, namespace, network_policies, policy, sealed, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();
const ROAD: &str = "cloison-wl-road";

async fn installation() -> &'static Installation {
    let start = || async {
        let options = Options {
            controller_manager: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        refusing(&plane.admin().unwrap()).await;
        let service = |name: &str, namespace: &str| json!({"name": name, "to": {"namespace": namespace}, "ports": [{"port": 5000}]});
        let services = ["aaa", "registry", "zzz"]
            .map(|name| service(name, "d-common"))
            .into_iter()
            .chain([service("vault", "d-outside")]);
        let services: Vec<Value> = services.collect();
        Installation::start(
            plane,
            json!({"network": {"services": services}, "controls": tenants_may_open()}),
        )
        .await
    };
    INSTALLATION.get_or_init(start).await
}

/// Somebody's admission policy that refuses objects of ours: the service `aaa`, and everything in `d-refused`.
async fn refusing(admin: &Client) {
    let rules = json!([{"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                        "resources": ["networkpolicies"]}]);
    let refused = "object.metadata.name != 'cloison-svc-aaa' && object.metadata.namespace != 'd-refused'";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "test-refuses"},
        "spec": {"matchConstraints": {"resourceRules": rules},
                 "validations": [{"expression": refused, "reason": "Forbidden", "message": "not in this house"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "test-refuses"},
        "spec": {"policyName": "test-refuses", "validationActions": ["Deny"]}});
    for object in [policy, binding] {
        apply(admin, object).await.unwrap();
    }
    let plain = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d-refused"}});
    apply(admin, plain).await.unwrap();
    eventually(PATIENCE, "it refuses", || async {
        let tried = apply(admin, foreign("d-refused", "probe")).await;
        let _ = network_policies(admin, "d-refused")
            .delete("probe", &DeleteParams::default())
            .await;
        match tried {
            Err(error) if error.to_string().contains("not in this house") => Ok(()),
            other => Err(format!("{:?}", other.map(drop))),
        }
    })
    .await
    .unwrap();
}

/// How often the controller has put something back.
async fn repairs() -> i64 {
    operator::metric(
        &installation().await.controller,
        "cloison_drift_repaired_total",
        &["NetworkPolicy"],
    )
}

/// An enforced namespace with the workload `road` in place; the admin of the cluster, who holds the bypass verb.
async fn enforced(name: &str) -> Client {
    let admin = installation().await.admin();
    namespace(&admin, name, "training", Some("enforce")).await;
    apply(&admin, workload(name, "road", "Training", Value::Null))
        .await
        .unwrap();
    condition(&admin, name, "road", "Ready", "True").await;
    sealed(&admin, name, "training").await;
    admin
}

/// What must be as it was: the rules, our labels, and nothing that others added.
fn essence(policy: &NetworkPolicy) -> Value {
    json!({"spec": policy.spec, "labels": policy.labels(), "finalizers": policy.finalizers(),
           "owners": policy.owner_references(), "annotations": policy.annotations()})
}

/// Waits until a policy is again what it was, and looks at the metric.
async fn comes_back(admin: &Client, namespace: &str, name: &str, was: &NetworkPolicy, repairs: i64) {
    let api = network_policies(admin, namespace);
    eventually(PATIENCE, &format!("{namespace}/{name} is as it was"), || async {
        let found = api.get(name).await.map_err(|error| error.to_string())?;
        let same = essence(&found) == essence(was) && found.metadata.deletion_timestamp.is_none();
        if same { Ok(()) } else { Err(essence(&found).to_string()) }
    })
    .await
    .unwrap();
    let now = self::repairs().await;
    assert!(now > repairs, "a repair is counted: {repairs} before, {now} after");
}

/// Does something to both policies of a namespace, one after the other; they come back, and another namespace's never
/// changed.
async fn survives<F: Future<Output = ()>>(name: &'static str, harm: impl Fn(Client, &'static str) -> F) {
    let admin = enforced(name).await;
    let other = format!("{name}-other");
    enforced(&other).await;
    let bystander = Record::start(network_policies(&admin, &other)).await;
    for target in [names::DENY_POLICY, ROAD] {
        let was = policy(&admin, name, target).await;
        let repairs = self::repairs().await;
        harm(admin.clone(), target).await;
        comes_back(&admin, name, target, &was, repairs).await;
    }
    condition(&admin, name, "road", "Ready", "True").await;
    condition(&admin, name, "road", "PoliciesIsolate", "True").await;
    assert_eq!(bystander.seen().len(), 0, "{:?}", bystander.seen());
}

#[tokio::test]
async fn what_is_deleted_comes_back() {
    survives("d-deleted", |admin, target| async move {
        let api = network_policies(&admin, "d-deleted");
        api.delete(target, &DeleteParams::default()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_edited_comes_back() {
    survives("d-edited", |admin, target| async move {
        let everything = json!({"spec": {"ingress": [{}], "egress": [{}]}});
        patch_policy(&admin, "d-edited", target, everything).await;
    })
    .await;
}

#[tokio::test]
async fn a_stripped_label_comes_back() {
    survives("d-stripped", |admin, target| async move {
        let bare = json!({"metadata": {"labels": {names::MANAGED_BY_LABEL: null, names::PART_OF_LABEL: null}}});
        patch_policy(&admin, "d-stripped", target, bare).await;
    })
    .await;
}

#[tokio::test]
async fn a_finalizer_of_others_is_taken_off() {
    survives("d-finalizer", |admin, target| async move {
        let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
        patch_policy(&admin, "d-finalizer", target, held).await;
    })
    .await;
}

#[tokio::test]
async fn an_owner_of_others_is_taken_off() {
    survives("d-owner", |admin, target| async move {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0-0-0-0"});
        patch_policy(
            &admin,
            "d-owner",
            target,
            json!({"metadata": {"ownerReferences": [owner]}}),
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_annotation_that_changes_the_meaning_is_taken_off() {
    survives("d-annotation", |admin, target| async move {
        let stateless = json!({"metadata": {"annotations": {"k8s.ovn.org/acl-stateless": "true"}}});
        patch_policy(&admin, "d-annotation", target, stateless).await;
    })
    .await;
}

#[tokio::test]
async fn the_finalizer_of_a_dataplane_stays() {
    let admin = enforced("d-dataplane").await;
    // EKS marks a policy before it programs it; somebody else's mark beside it does not cost it its own.
    let held = json!({"metadata": {"finalizers": ["networking.k8s.aws/resources", "example.com/hold"]}});
    patch_policy(&admin, "d-dataplane", names::DENY_POLICY, held).await;
    let api = network_policies(&admin, "d-dataplane");
    eventually(PATIENCE, "only the foreign finalizer goes", || async {
        let found = api.get(names::DENY_POLICY).await.map_err(|error| error.to_string())?;
        if found.finalizers() == ["networking.k8s.aws/resources"] {
            Ok(())
        } else {
            Err(format!("{:?}", found.finalizers()))
        }
    })
    .await
    .unwrap();
    patch_policy(
        &admin,
        "d-dataplane",
        names::DENY_POLICY,
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
}

/// A policy of somebody else under a name of ours, which opens everything.
fn foreign(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace},
           "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}})
}

#[tokio::test]
async fn a_foreign_deny_is_left_alone_and_nothing_is_sealed() {
    let admin = installation().await.admin();
    let plain = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d-foreign"}});
    apply(&admin, plain).await.unwrap();
    apply(&admin, foreign("d-foreign", names::DENY_POLICY)).await.unwrap();
    apply(&admin, workload("d-foreign", "road", "Training", Value::Null))
        .await
        .unwrap();
    let record = Record::start(network_policies(&admin, "d-foreign")).await;
    namespace(&admin, "d-foreign", "training", Some("enforce")).await;
    let note = operator::event(&admin, "d-foreign", "ForeignObject").await;
    assert!(
        note.contains("NET-09/foreign-object") && note.contains("not sealed"),
        "{note}"
    );
    eventually(PATIENCE, "its workload says why", || async {
        let (reason, message) = condition(&admin, "d-foreign", "road", "Ready", "False").await;
        let told =
            reason == "ForeignObject" && message.contains("not sealed") && message.contains("Rename or delete it");
        if told { Ok(()) } else { Err(message) }
    })
    .await
    .unwrap();
    assert_eq!(
        record.seen().len(),
        0,
        "left alone, and nothing is allowed: {:?}",
        record.seen()
    );
    let now = Api::<Namespace>::all(admin.clone()).get("d-foreign").await.unwrap();
    assert!(!now.annotations().contains_key(names::SEALED_ANNOTATION));
    // The admin takes it away: everything goes its way.
    network_policies(&admin, "d-foreign")
        .delete(names::DENY_POLICY, &DeleteParams::default())
        .await
        .unwrap();
    sealed(&admin, "d-foreign", "training").await;
    condition(&admin, "d-foreign", "road", "Ready", "True").await;
}

#[tokio::test]
async fn a_deny_that_is_refused_is_told_to_its_workloads() {
    let admin = installation().await.admin();
    namespace(&admin, "d-refused", "training", Some("enforce")).await;
    apply(&admin, workload("d-refused", "road", "Training", Value::Null))
        .await
        .unwrap();
    eventually(PATIENCE, "its workload says why", || async {
        let (reason, message) = condition(&admin, "d-refused", "road", "Ready", "False").await;
        let words = [
            "cannot be sealed: apply NetworkPolicy d-refused/cloison-ns-deny",
            "not in this house",
            "helm upgrade",
        ];
        let told = reason == "Forbidden" && words.iter().all(|word| message.contains(word));
        if told {
            Ok(())
        } else {
            Err(format!("{reason}: {message}"))
        }
    })
    .await
    .unwrap();
    condition(&admin, "d-refused", "road", "Reconciling", "True").await;
}

#[tokio::test]
async fn flows_are_satisfied_only_when_the_other_end_is_in_place() {
    let admin = installation().await.admin();
    for name in ["d-common", "d-outside"] {
        let plain = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        apply(&admin, plain).await.unwrap();
    }
    apply(&admin, foreign("d-common", "cloison-svc-registry"))
        .await
        .unwrap();
    namespace(&admin, "d-common", "shared", Some("enforce")).await;
    namespace(&admin, "d-user", "training", Some("enforce")).await;
    let user = |name: &str, services: &[&str]| {
        let flows: Vec<Value> = services.iter().map(|service| json!({"service": service})).collect();
        workload("d-user", name, "Training", json!({"connectTo": flows}))
    };
    apply(&admin, user("refused", &["aaa", "zzz"])).await.unwrap();
    apply(&admin, user("foreign", &["registry", "vault"])).await.unwrap();
    apply(&admin, user("open", &["zzz", "vault"])).await.unwrap();
    // One service that the API server refuses keeps none of the others back.
    let (reason, message) = condition(&admin, "d-user", "open", "FlowsSatisfied", "True").await;
    assert_eq!(reason, "Rendered");
    let words = ["1 flows are allowed at both ends", "on this side only", "service vault"];
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    for (name, policy) in [
        ("refused", "d-common/cloison-svc-aaa"),
        ("foreign", "d-common/cloison-svc-registry"),
    ] {
        let said = format!("{name} says that {policy} is not in place");
        eventually(PATIENCE, &said, || async {
            let (reason, message) = condition(&admin, "d-user", name, "FlowsSatisfied", "Unknown").await;
            let told = reason == "PeerNotPlaced" && message.contains(policy) && !message.contains("zzz");
            if told {
                Ok(())
            } else {
                Err(format!("{reason}: {message}"))
            }
        })
        .await
        .unwrap();
    }
    network_policies(&admin, "d-common")
        .delete("cloison-svc-registry", &DeleteParams::default())
        .await
        .unwrap();
    condition(&admin, "d-user", "foreign", "FlowsSatisfied", "True").await;
}

#[tokio::test]
async fn a_foreign_allow_is_left_alone_and_reported_on_its_workload() {
    let admin = installation().await.admin();
    let plain = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d-theirs"}});
    apply(&admin, plain).await.unwrap();
    apply(&admin, foreign("d-theirs", ROAD)).await.unwrap();
    namespace(&admin, "d-theirs", "training", Some("enforce")).await;
    sealed(&admin, "d-theirs", "training").await;
    let before = policy(&admin, "d-theirs", ROAD).await;
    for name in ["road", "rail"] {
        apply(&admin, workload("d-theirs", name, "Training", Value::Null))
            .await
            .unwrap();
    }
    let (reason, message) = condition(&admin, "d-theirs", "road", "Ready", "False").await;
    assert_eq!(reason, "ForeignObject");
    assert!(message.contains("NET-09/foreign-object"), "{message}");
    policy(&admin, "d-theirs", "cloison-wl-rail").await;
    assert_eq!(policy(&admin, "d-theirs", ROAD).await, before);
}

#[tokio::test]
async fn no_revision_shows_an_allow_without_the_deny() {
    let admin = installation().await.admin();
    let mut records = Vec::new();
    for name in ["d-order-1", "d-order-2", "d-order-3"] {
        // The workloads are there first: both reconcilers start at once.
        let plain = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        apply(&admin, plain).await.unwrap();
        for workload in ["a", "b", "default"] {
            apply(&admin, operator::workload(name, workload, "Training", Value::Null))
                .await
                .unwrap();
        }
        records.push((name, Record::start(network_policies(&admin, name)).await));
    }
    for (name, _) in &records {
        namespace(&admin, name, "training", Some("enforce")).await;
    }
    for (name, record) in &records {
        for workload in ["a", "b", "default"] {
            condition(&admin, name, workload, "Ready", "True").await;
        }
        assert_eq!(record.seen().len(), 4, "each is written once: {:?}", record.seen());
        assert_deny_before_allow(&record.seen());
    }
}

#[tokio::test]
async fn a_deleted_workload_is_emptied_then_deleted_and_the_deny_stays() {
    let admin = enforced("d-ends").await;
    let record = Record::start(network_policies(&admin, "d-ends")).await;
    let api: Api<AiWorkload> = Api::namespaced(admin.clone(), "d-ends");
    api.delete("road", &DeleteParams::default()).await.unwrap();
    policy_names(&admin, "d-ends", &[names::DENY_POLICY]).await;
    let gone = |change, policy: &NetworkPolicy| change == Change::Deleted && policy.name_any() == ROAD;
    record.revision_of("the policy goes", gone).await;
    let seen = record.seen();
    let changes: Vec<(Change, String, bool)> = seen
        .iter()
        .map(|(change, policy)| (*change, policy.name_any(), has_rules(policy)))
        .collect();
    let wanted = [Change::Applied, Change::Deleted].map(|change| (change, ROAD.to_owned(), false));
    assert_eq!(changes, wanted, "emptied, then deleted");
    let said = "the list forgets the workload";
    eventually(PATIENCE, said, || async {
        let now = Api::<Namespace>::all(admin.clone()).get("d-ends").await.unwrap();
        let open = now.annotations()[names::OPEN_ANNOTATION].clone();
        if open.is_empty() { Ok(()) } else { Err(open) }
    })
    .await
    .unwrap();
    sealed(&admin, "d-ends", "training").await;
}

#[tokio::test]
async fn a_pruned_repository_withdraws_three_flows_a_minute() {
    let installation = installation().await;
    let admin = installation.admin();
    // A stage of its own: rations are counted by stage.
    namespace(&admin, "d-pruned", "evaluation", Some("enforce")).await;
    for n in 0..10 {
        apply(
            &admin,
            workload("d-pruned", &format!("w{n}"), "Evaluation", Value::Null),
        )
        .await
        .unwrap();
    }
    for n in 0..10 {
        condition(&admin, "d-pruned", &format!("w{n}"), "Ready", "True").await;
    }
    let record = Record::start(network_policies(&admin, "d-pruned")).await;
    let api: Api<AiWorkload> = Api::namespaced(admin.clone(), "d-pruned");
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let gone = || {
        record
            .seen()
            .iter()
            .filter(|(change, _)| *change == Change::Deleted)
            .count()
    };
    let three = || async { if gone() == 3 { Ok(()) } else { Err(gone()) } };
    eventually(PATIENCE, "three flows are withdrawn", three).await.unwrap();
    // The controller looks at what waits every five seconds: the one look at the clock of this file covers a second look.
    let fourth = eventually(Duration::from_secs(8), "a fourth", || async {
        if gone() > 3 { Ok(()) } else { Err(gone()) }
    });
    assert!(fourth.await.is_err(), "more than three went in the first minute");
    assert_eq!(
        operator::metric(&installation.controller, "cloison_withdrawals_waiting", &[]),
        7
    );
    let left = network_policies(&admin, "d-pruned")
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(left.items.len(), 8, "seven allows and the deny");
    assert!(left.iter().any(|policy| policy.name_any() == names::DENY_POLICY));
    assert!(
        left.iter()
            .filter(|policy| policy.name_any() != names::DENY_POLICY)
            .all(has_rules),
        "none is cut early"
    );
}
