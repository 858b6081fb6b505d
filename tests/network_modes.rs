//! What each mode writes, and what becomes of a namespace when its admin changes its labels: on a real API server, with
//! the order of the writes read from a watch.
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

use cloison::api::names;
use cloison_testbed::{ControlPlane, Options, eventually};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use network::{
    Change, Installation, Record, assert_deny_before_allow, has_rules, label, noted, pod, policy_names,
    tenants_may_open,
};
use operator::{PATIENCE, apply, condition, namespace, network_policies, policy, sealed, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();
const ROAD: &str = "cloison-wl-road";
/// Longer than a namespace waits before it looks again after a write.
const A_WHILE: std::time::Duration = std::time::Duration::from_secs(4);

async fn admin() -> Client {
    let start = || async {
        let options = Options {
            controller_manager: true,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.unwrap();
        operator::install(&plane, &[]);
        older_than_the_controller(&plane.admin().unwrap()).await;
        Installation::start(plane, json!({"controls": tenants_may_open()})).await
    };
    INSTALLATION.get_or_init(start).await.admin()
}

/// What no request brings into a guarded cluster: labels, seals and objects from before.
async fn older_than_the_controller(admin: &Client) {
    let object = |name: &str, stage: &str, annotations: Value| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations,
               "labels": {names::STAGE_LABEL: stage, names::MODE_LABEL: "enforce"}}})
    };
    let forged = json!({names::SEALED_ANNOTATION: "11111111-2222/inference", names::OPEN_ANNOTATION: "ghost"});
    apply(admin, object("m-forged", "inference", forged)).await.unwrap();
    let sealed = json!({names::SEALED_ANNOTATION: "11111111-2222/training", names::OPEN_ANNOTATION: "road"});
    apply(admin, object("m-typo", "trainning", sealed)).await.unwrap();
    let labels = json!({names::MANAGED_BY_LABEL: "cloison", names::PART_OF_LABEL: "cloison"});
    let deny = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                      "metadata": {"name": names::DENY_POLICY, "namespace": "m-typo", "labels": labels},
                      "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    apply(admin, deny).await.unwrap();
    eventually(PATIENCE, "the new kind is served", || async {
        let applied = apply(admin, workload("m-typo", "road", "Training", Value::Null)).await;
        applied.map(drop).map_err(|error| error.to_string())
    })
    .await
    .unwrap();
}

async fn road(client: &Client, namespace: &str, stage: &str) {
    apply(client, workload(namespace, "road", stage, Value::Null))
        .await
        .unwrap();
}

async fn annotations(client: &Client, name: &str) -> Vec<String> {
    let found = Api::<Namespace>::all(client.clone()).get(name).await.unwrap();
    let ours = |key: &&String| key.starts_with("cloison.dev/");
    found.annotations().keys().filter(ours).cloned().collect()
}

async fn assert_untouched(client: &Client, name: &str) {
    let found = network_policies(client, name)
        .list(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(found.items, Vec::<NetworkPolicy>::new());
    assert_eq!(annotations(client, name).await, Vec::<String>::new());
}

/// An enforced namespace of stage training with the workload `road` in place.
async fn enforced(client: &Client, name: &str) {
    namespace(client, name, "training", Some("enforce")).await;
    road(client, name, "Training").await;
    condition(client, name, "road", "Ready", "True").await;
    sealed(client, name, "training").await;
}

#[tokio::test]
async fn audit_and_warn_write_nothing_and_say_what_enforce_would_do() {
    let admin = admin().await;
    for (name, mode) in [("m-audit", "audit"), ("m-warn", "warn")] {
        namespace(&admin, name, "training", Some(mode)).await;
        pod(&admin, name, "nobodys", json!({})).await;
        pod(&admin, name, "of-a-ghost", json!({names::WORKLOAD_LABEL: "ghost"})).await;
        road(&admin, name, "Training").await;
        pod(&admin, name, "known", json!({names::WORKLOAD_LABEL: "road"})).await;
        let (reason, message) = condition(&admin, name, "road", "PoliciesIsolate", "False").await;
        assert_eq!(reason, "AuditMode");
        assert!(
            message.to_lowercase().contains(&format!("in mode {mode}")) && message.contains("Isolated"),
            "{message}"
        );
        condition(&admin, name, "road", "Ready", "True").await;
        condition(&admin, name, "road", "AdmissionEnforced", "False").await;
        noted(&admin, name, "UnknownWorkload", "do not exist here: default, ghost;").await;
        // Another pod of theirs is no news; one of another workload is.
        pod(&admin, name, "nobodys-other", json!({})).await;
        pod(&admin, name, "of-a-spirit", json!({names::WORKLOAD_LABEL: "spirit"})).await;
        let notes = noted(
            &admin,
            name,
            "UnknownWorkload",
            "do not exist here: default, ghost, spirit;",
        )
        .await;
        let same = notes.iter().filter(|note| note.contains(": default, ghost;")).count();
        assert_eq!(same, 1, "{notes:?}");
        assert_untouched(&admin, name).await;
    }
}

#[tokio::test]
async fn a_hostile_policy_shows_in_the_would_be_verdict() {
    let admin = admin().await;
    namespace(&admin, "m-hostile", "training", Some("audit")).await;
    let hostile = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "wide", "namespace": "m-hostile"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}]}]}});
    apply(&admin, hostile).await.unwrap();
    road(&admin, "m-hostile", "Training").await;
    let said = "the would-be verdict names the policy";
    eventually(PATIENCE, said, || async {
        let (reason, message) = condition(&admin, "m-hostile", "road", "PoliciesIsolate", "False").await;
        let told = reason == "AuditMode" && message.contains("PathExists") && message.contains("m-hostile/wide");
        if told { Ok(()) } else { Err(message) }
    })
    .await
    .unwrap();
    policy_names(&admin, "m-hostile", &["wide"]).await;
}

#[tokio::test]
async fn an_enforced_namespace_is_not_isolated_by_what_audit_would_write() {
    let admin = admin().await;
    namespace(&admin, "m-open", "evaluation", Some("audit")).await;
    road(&admin, "m-open", "Evaluation").await;
    namespace(&admin, "m-mixed", "inference", Some("enforce")).await;
    road(&admin, "m-mixed", "Inference").await;
    condition(&admin, "m-mixed", "road", "PoliciesIsolate", "True").await;
    let evaluation = json!({"namespaceSelector": {"matchLabels": {"cloison.dev/stage": "evaluation"}}});
    let into = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [evaluation]}]});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "from-evaluation", "namespace": "m-mixed"}, "spec": into});
    // The door has heard of the policy a moment after the controller has.
    eventually(PATIENCE, "the door lets it in", || async {
        apply(&admin, policy.clone()).await
    })
    .await
    .unwrap();
    let (reason, message) = condition(&admin, "m-mixed", "road", "PoliciesIsolate", "False").await;
    assert_eq!(reason, "PathExists");
    assert!(
        message.contains("m-mixed/from-evaluation ingress[0].from[0]"),
        "{message}"
    );
    condition(&admin, "m-mixed", "road", "Ready", "False").await;
    // Where nothing is written, the verdict is about what would be.
    let (reason, message) = condition(&admin, "m-open", "road", "PoliciesIsolate", "False").await;
    assert!(reason == "AuditMode" && message.contains("Isolated"), "{message}");
    label(&admin, "m-open", json!({names::MODE_LABEL: "enforce"})).await;
    condition(&admin, "m-mixed", "road", "PoliciesIsolate", "True").await;
    condition(&admin, "m-open", "road", "PoliciesIsolate", "True").await;
}

#[tokio::test]
async fn enforce_denies_then_seals_and_audit_leaves_what_is_there() {
    let admin = admin().await;
    namespace(&admin, "m-steps", "training", Some("audit")).await;
    road(&admin, "m-steps", "Training").await;
    condition(&admin, "m-steps", "road", "Ready", "True").await;
    assert_untouched(&admin, "m-steps").await;

    let policies = Record::start(network_policies(&admin, "m-steps")).await;
    let namespaces = Record::start(Api::<Namespace>::all(admin.clone())).await;
    label(&admin, "m-steps", json!({names::MODE_LABEL: "enforce"})).await;
    condition(&admin, "m-steps", "road", "PoliciesIsolate", "True").await;
    let is_sealed =
        |_, ns: &Namespace| ns.name_any() == "m-steps" && ns.annotations().contains_key(names::SEALED_ANNOTATION);
    let seal = namespaces.revision_of("the seal", is_sealed).await;
    let placed = |name: &'static str| move |_, policy: &NetworkPolicy| policy.name_any() == name;
    let deny = policies.revision_of("the deny", placed(names::DENY_POLICY)).await;
    let allow = policies.revision_of("the allow", placed(ROAD)).await;
    assert!(deny < seal && deny < allow, "deny {deny}, seal {seal}, allow {allow}");
    assert_deny_before_allow(&policies.seen());

    // Back to audit: the policies and the seal stay, and nobody puts back what an admin takes away.
    label(&admin, "m-steps", json!({names::MODE_LABEL: "audit"})).await;
    condition(&admin, "m-steps", "road", "PoliciesIsolate", "False").await;
    policy_names(&admin, "m-steps", &[names::DENY_POLICY, ROAD]).await;
    sealed(&admin, "m-steps", "training").await;
    let api = network_policies(&admin, "m-steps");
    api.delete(ROAD, &DeleteParams::default()).await.unwrap();
    // A later workload goes through the whole pass: what was to be repaired would be by then.
    apply(&admin, workload("m-steps", "later", "Training", Value::Null))
        .await
        .unwrap();
    condition(&admin, "m-steps", "later", "PoliciesIsolate", "False").await;
    pod(&admin, "m-steps", "later", json!({names::WORKLOAD_LABEL: "unheard-of"})).await;
    operator::event(&admin, "m-steps", "UnknownWorkload").await;
    policy_names(&admin, "m-steps", &[names::DENY_POLICY]).await;
    label(&admin, "m-steps", json!({names::MODE_LABEL: "enforce"})).await;
    policy_names(&admin, "m-steps", &[names::DENY_POLICY, "cloison-wl-later", ROAD]).await;
}

#[tokio::test]
async fn a_stage_that_nobody_knows_changes_nothing_and_is_said() {
    let admin = admin().await;
    let note = operator::event(&admin, "m-typo", "UnknownStage").await;
    assert!(
        note.contains("\"trainning\"") && note.contains("NET-02/stage-label"),
        "{note}"
    );
    let (reason, message) = condition(&admin, "m-typo", "road", "Ready", "False").await;
    assert_eq!(reason, "Refused");
    assert!(message.contains("NET-02/no-stage"), "{message}");
    policy_names(&admin, "m-typo", &[names::DENY_POLICY]).await;
    let deny = policy(&admin, "m-typo", names::DENY_POLICY).await;
    assert_eq!(
        network::spec(&deny),
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        "as it was"
    );
    let namespace = Api::<Namespace>::all(admin).get("m-typo").await.unwrap();
    assert_eq!(
        namespace.annotations()[names::SEALED_ANNOTATION],
        "11111111-2222/training"
    );
    assert_eq!(namespace.annotations()[names::OPEN_ANNOTATION], "road");
}

/// Waits until a namespace holds nothing of ours, and asserts that the deny went first and the annotations last.
async fn assert_left(
    admin: &Client,
    name: &'static str,
    policies: Record<NetworkPolicy>,
    namespaces: Record<Namespace>,
) {
    policy_names(admin, name, &[]).await;
    let deleted = |deny: bool| {
        move |change, policy: &NetworkPolicy| {
            change == Change::Deleted && (policy.name_any() == names::DENY_POLICY) == deny
        }
    };
    let deny = policies.revision_of("the deny goes", deleted(true)).await;
    let allow = policies.revision_of("an allow goes", deleted(false)).await;
    assert!(
        deny < allow,
        "without its allow and under the deny, a pod is cut: deny {deny}, allow {allow}"
    );
    let plain =
        |_, ns: &Namespace| ns.name_any() == name && !ns.annotations().keys().any(|k| k.starts_with("cloison.dev/"));
    let bare = namespaces.revision_of("the annotations go", plain).await;
    let last = policies
        .seen()
        .iter()
        .map(|(_, policy)| network::revision(policy))
        .max();
    assert!(Some(bare) > last, "annotations at {bare}, policies until {last:?}");
}

#[tokio::test]
async fn leaving_a_stage_takes_the_deny_first() {
    let admin = admin().await;
    enforced(&admin, "m-leaves").await;
    let policies = Record::start(network_policies(&admin, "m-leaves")).await;
    let namespaces = Record::start(Api::<Namespace>::all(admin.clone())).await;
    // A dataplane keeps the deny until nothing of it is programmed any more.
    let keep = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    let dataplane = json!(["networking.k8s.aws/resources"]);
    network::patch_policy(&admin, "m-leaves", names::DENY_POLICY, keep(dataplane)).await;
    label(&admin, "m-leaves", json!({names::STAGE_LABEL: null})).await;
    let goes = |_, policy: &NetworkPolicy| policy.metadata.deletion_timestamp.is_some();
    policies.revision_of("the deny is going", goes).await;
    operator::stays(A_WHILE, || async {
        policy_names(&admin, "m-leaves", &[names::DENY_POLICY, ROAD]).await;
        sealed(&admin, "m-leaves", "training").await;
    })
    .await;
    network::patch_policy(&admin, "m-leaves", names::DENY_POLICY, keep(Value::Null)).await;
    assert_left(&admin, "m-leaves", policies, namespaces).await;
    operator::event(&admin, "m-leaves", "Left").await;
}

#[tokio::test]
async fn a_shared_namespace_leaves_too() {
    let admin = admin().await;
    namespace(&admin, "m-tools", "shared", Some("enforce")).await;
    policy_names(&admin, "m-tools", &[names::DENY_POLICY]).await;
    label(&admin, "m-tools", json!({names::STAGE_LABEL: null})).await;
    policy_names(&admin, "m-tools", &[]).await;
    operator::event(&admin, "m-tools", "Left").await;
}

#[tokio::test]
async fn another_stage_seals_anew_and_refuses_the_old_workloads() {
    let admin = admin().await;
    enforced(&admin, "m-moves").await;
    label(&admin, "m-moves", json!({names::STAGE_LABEL: "inference"})).await;
    sealed(&admin, "m-moves", "inference").await;
    let (reason, message) = condition(&admin, "m-moves", "road", "Ready", "False").await;
    assert_eq!(reason, "Refused");
    assert!(message.contains("NET-02/stage-mismatch"), "{message}");
    condition(&admin, "m-moves", "road", "Stalled", "True").await;
    let said = "the list closes the gate of the old workload";
    eventually(PATIENCE, said, || async {
        let namespace = Api::<Namespace>::all(admin.clone()).get("m-moves").await.unwrap();
        let open = namespace.annotations()[names::OPEN_ANNOTATION].clone();
        if open == "road:NET-02" { Ok(()) } else { Err(open) }
    })
    .await
    .unwrap();
    assert!(
        has_rules(&policy(&admin, "m-moves", ROAD).await),
        "refused keeps what is there"
    );
}

#[tokio::test]
async fn a_forged_seal_is_replaced() {
    let admin = admin().await;
    let namespace = sealed(&admin, "m-forged", "inference").await;
    assert_eq!(namespace.annotations()[names::OPEN_ANNOTATION], "");
    policy(&admin, "m-forged", names::DENY_POLICY).await;
}
