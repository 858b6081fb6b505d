//! `cloison-managed` on a real API server, with the real garbage collector and namespace controller: five clauses let a
//! change of an object of ours pass, and nothing else does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use cloison::api::names;
use cloison_testbed::eventually;
use common::*;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PropagationPolicy};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-managed";
const OBJECT: &str = "CLU-04/managed-object";
const NET: &str = "networking.k8s.io/v1";

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

fn deny(namespace: &str) -> Value {
    json!({
        "apiVersion": NET, "kind": "NetworkPolicy",
        "metadata": {"name": "cloison-ns-deny", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "cloison"}},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    })
}

fn own(namespace: &str) -> Value {
    with(
        deny(namespace),
        json!({"metadata": {"name": "own", "labels": {"app.kubernetes.io/managed-by": "Helm"}}}),
    )
}

fn policies(client: &Client, namespace: &str) -> Api<DynamicObject> {
    objects(client, NET, "NetworkPolicy", Some(namespace))
}

async fn change(client: &Client, namespace: &str, name: &str, change: Value) -> Answered {
    patch(client, NET, "NetworkPolicy", Some(namespace), name, change).await
}

/// A namespace with the deny in it, as the operator leaves it.
async fn denied(namespace: &str) -> &'static Cluster {
    let cluster = cluster().await;
    cluster
        .stage_namespace(namespace, "training", Some("enforce"), "default")
        .await;
    create(&cluster.operator().await, deny(namespace)).await.unwrap();
    cluster
}

#[tokio::test]
async fn a_tenant_does_not_touch_what_the_operator_wrote() {
    let cluster = denied("tamper").await;
    let alice = cluster.tenant("alice", "tamper", "admin").await;
    let widen = json!({"spec": {"policyTypes": ["Ingress"]}});
    let dead_owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}]}});
    for attempt in [
        widen.clone(),
        // Strip the label, in one step with the change and alone; give the object to somebody else.
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}, "spec": {"policyTypes": ["Ingress"]}}),
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}}),
        dead_owner,
        json!({"metadata": {"finalizers": ["example.com/stuck"]}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
        json!({"metadata": {"labels": {"extra": "x"}}}),
    ] {
        cluster.refused(
            change(&alice, "tamper", "cloison-ns-deny", attempt).await,
            POLICY,
            OBJECT,
        );
    }
    let force = PatchParams::apply("mallory").force();
    let applied = with(deny("tamper"), widen);
    let answer = policies(&alice, "tamper")
        .patch("cloison-ns-deny", &force, &Patch::Apply(&applied))
        .await;
    cluster.refused(answer, POLICY, OBJECT);
    cluster.refused(
        delete(&alice, NET, "NetworkPolicy", Some("tamper"), "cloison-ns-deny").await,
        POLICY,
        OBJECT,
    );
    let all = policies(&alice, "tamper")
        .delete_collection(&Default::default(), &Default::default())
        .await;
    cluster.refused(all.map(drop), POLICY, OBJECT);
    assert!(policies(&alice, "tamper").get("cloison-ns-deny").await.is_ok());
    // Forged: on a new object, and onto one of their own.
    let forged = with(
        own("tamper"),
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "cloison"}}}),
    );
    cluster.refused(create(&alice, forged.clone()).await, POLICY, "CLU-04/managed-label");
    // Their own are theirs.
    create(&alice, own("tamper")).await.unwrap();
    let label = json!({"metadata": {"labels": forged["metadata"]["labels"]}});
    cluster.refused(
        change(&alice, "tamper", "own", label).await,
        POLICY,
        "CLU-04/managed-label",
    );
    change(&alice, "tamper", "own", json!({"spec": {"policyTypes": ["Ingress"]}}))
        .await
        .unwrap();
    delete(&alice, NET, "NetworkPolicy", Some("tamper"), "own")
        .await
        .unwrap();
}

/// A write that changes nothing is no tampering: stored objects are rewritten when versions or keys change.
#[tokio::test]
async fn a_rewrite_that_changes_nothing_passes() {
    let cluster = denied("rewrite").await;
    let alice = cluster.tenant("alice", "rewrite", "edit").await;
    let current = policies(&alice, "rewrite").get("cloison-ns-deny").await.unwrap();
    policies(&alice, "rewrite")
        .replace("cloison-ns-deny", &Default::default(), &current)
        .await
        .unwrap();
    let changed: DynamicObject = serde_json::from_value(with(
        serde_json::to_value(&current).unwrap(),
        json!({"spec": {"policyTypes": ["Egress"]}}),
    ))
    .unwrap();
    let answer = policies(&alice, "rewrite")
        .replace("cloison-ns-deny", &Default::default(), &changed)
        .await;
    cluster.refused(answer, POLICY, OBJECT);
}

#[tokio::test]
async fn clause_operator_its_own_names_only() {
    let cluster = denied("operator").await;
    let operator = cluster.operator().await;
    change(
        &operator,
        "operator",
        "cloison-ns-deny",
        json!({"metadata": {"annotations": {"a": "b"}}}),
    )
    .await
    .unwrap();
    // Forged as its own, and unlabelled: a stolen token writes no NetworkPolicy but ours.
    let named = with(deny("operator"), json!({"metadata": {"name": "allow-all"}}));
    let message = match create(&operator, named).await {
        Err(kube::Error::Api(status)) => status.message.clone(),
        other => panic!("{other:?}"),
    };
    // Two policies refuse it, and the API server names the first it hears of.
    assert!(
        message.contains("'cloison-managed'") || message.contains("'cloison-guard'"),
        "{message}"
    );
    cluster.refused(create(&operator, own("operator")).await, "cloison-guard", OBJECT);
    let disguised = with(own("operator"), json!({"metadata": {"name": "cloison-wl-own"}}));
    cluster.refused(create(&operator, disguised).await, "cloison-guard", OBJECT);
    let alice = cluster.tenant("alice", "operator", "edit").await;
    create(&alice, own("operator")).await.unwrap();
    cluster.refused(
        delete(&operator, NET, "NetworkPolicy", Some("operator"), "own").await,
        "cloison-guard",
        OBJECT,
    );
    cluster.refused(
        change(&operator, "operator", "own", json!({"spec": {"policyTypes": []}})).await,
        "cloison-guard",
        OBJECT,
    );
    delete(&operator, NET, "NetworkPolicy", Some("operator"), "cloison-ns-deny")
        .await
        .unwrap();
}

#[tokio::test]
async fn clause_collector_the_real_one_collects() {
    let cluster = denied("collector").await;
    let (admin, operator) = (cluster.admin(), cluster.operator().await);
    let owner =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "collector"}});
    let owner = create(&admin, owner).await.unwrap();
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]);
    let collected = with(
        deny("collector"),
        json!({"metadata": {"name": "cloison-owned", "ownerReferences": reference}}),
    );
    create(&operator, collected).await.unwrap();
    delete(&admin, "v1", "ConfigMap", Some("collector"), "owner")
        .await
        .unwrap();
    gone(&policies(&admin, "collector"), "cloison-owned").await;
    // A person's deletion in the foreground: the collector takes its own finalizer off, which is an update.
    let foreground = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    policies(&admin, "collector")
        .delete("cloison-ns-deny", &foreground)
        .await
        .unwrap();
    gone(&policies(&admin, "collector"), "cloison-ns-deny").await;
    // Its name alone helps nobody to change what a policy says.
    create(&operator, deny("collector")).await.unwrap();
    let policies =
        json!({"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "patch"]});
    let user = "system:serviceaccount:kube-system:generic-garbage-collector";
    cluster.grant_user(user, json!([policies])).await;
    let collector = cluster.plane.client_as(user, &[]).unwrap();
    let answer = change(
        &collector,
        "collector",
        "cloison-ns-deny",
        json!({"spec": {"policyTypes": ["Ingress"]}}),
    )
    .await;
    cluster.refused(answer, POLICY, OBJECT);
}

/// While a namespace ends its pods may still run, so only the controller that ends it takes the deny away.
#[tokio::test]
async fn clause_emptier_while_the_namespace_ends() {
    let cluster = denied("emptier").await;
    let admin = cluster.admin();
    let alice = cluster.tenant("alice", "emptier", "admin").await;
    // Pods go first, and this one stays until its finalizer goes.
    create(
        &admin,
        with(
            pod("emptier", "held"),
            json!({"metadata": {"finalizers": ["example.com/hold"]}}),
        ),
    )
    .await
    .unwrap();
    let namespaces = objects(&admin, "v1", "Namespace", None);
    namespaces.delete("emptier", &Default::default()).await.unwrap();
    eventually_ok("the namespace ends", async || match namespaces.get("emptier").await {
        Ok(found) if found.metadata.deletion_timestamp.is_some() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    cluster.refused(
        delete(&alice, NET, "NetworkPolicy", Some("emptier"), "cloison-ns-deny").await,
        POLICY,
        OBJECT,
    );
    patch(
        &admin,
        "v1",
        "Pod",
        Some("emptier"),
        "held",
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .unwrap();
    cloison_testbed::eventually(SOON * 2, "the namespace is gone", async || {
        match namespaces.get_opt("emptier").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn clause_emptier_not_while_it_lives() {
    let cluster = denied("lives").await;
    let user = "system:serviceaccount:kube-system:namespace-controller";
    let emptier = cluster.plane.client_as(user, &[]).unwrap();
    cluster.refused(
        delete(&emptier, NET, "NetworkPolicy", Some("lives"), "cloison-ns-deny").await,
        POLICY,
        OBJECT,
    );
}

/// EKS marks a policy before it programs it.
#[tokio::test]
async fn clause_dataplane_marks_and_nothing_else() {
    let cluster = denied("dataplane").await;
    let user = "eks:network-policy-controller";
    let rights = json!({"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "patch", "delete"]});
    cluster.grant_user(user, json!([rights])).await;
    let dataplane = cluster.plane.client_as(user, &[]).unwrap();
    let mark = json!({"metadata": {"finalizers": ["networking.k8s.aws/resources"], "annotations": {"a": "b"}}});
    eventually_ok("the mark", async || {
        change(&dataplane, "dataplane", "cloison-ns-deny", mark.clone()).await
    })
    .await;
    for attempt in [
        json!({"spec": {"policyTypes": ["Ingress"]}}),
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0"}]}}),
    ] {
        cluster.refused(
            change(&dataplane, "dataplane", "cloison-ns-deny", attempt).await,
            POLICY,
            OBJECT,
        );
    }
    cluster.refused(
        delete(&dataplane, NET, "NetworkPolicy", Some("dataplane"), "cloison-ns-deny").await,
        POLICY,
        OBJECT,
    );
    change(
        &dataplane,
        "dataplane",
        "cloison-ns-deny",
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn clause_person_with_the_verb_and_no_program() {
    let cluster = denied("person").await;
    let note = |text: &str| json!({"metadata": {"annotations": {"note": text}}});
    let edit = json!({"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "patch"]});
    let bypass = json!({"apiGroups": ["cloison.dev"], "resources": ["protections"], "verbs": ["bypass"]});
    cluster.grant_user("carol", json!([edit.clone()])).await;
    cluster.grant_user("erin", json!([edit, bypass])).await;
    let client = |user: &str| cluster.plane.client_as(user, &[]).unwrap();
    eventually_ok("the roles arrive", async || {
        policies(&client("carol"), "person").get("cloison-ns-deny").await
    })
    .await;
    cluster.refused(
        change(&client("carol"), "person", "cloison-ns-deny", note("carol")).await,
        POLICY,
        OBJECT,
    );
    eventually_ok("the verb arrives", async || {
        change(&client("erin"), "person", "cloison-ns-deny", note("erin")).await
    })
    .await;
    change(&cluster.admin(), "person", "cloison-ns-deny", note("masters"))
        .await
        .unwrap();
    // Argo CD is bound to cluster-admin more often than not, and is nobody.
    apply(
        &cluster.admin(),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "argocd", "namespace": "default"}}),
    )
    .await;
    apply(
        &cluster.admin(),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "argocd"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
               "subjects": [{"kind": "ServiceAccount", "name": "argocd", "namespace": "default"}]}),
    )
    .await;
    let argo = cluster.plane.service_account("default", "argocd").await.unwrap();
    eventually_ok("the binding arrives", async || {
        policies(&argo, "person").get("cloison-ns-deny").await
    })
    .await;
    cluster.refused(
        change(&argo, "person", "cloison-ns-deny", note("argo")).await,
        POLICY,
        OBJECT,
    );

    // The same for the webhook configurations, which are of the cluster.
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "cloison-webhook", "labels": {"app.kubernetes.io/managed-by": "cloison"}}, "webhooks": []});
    create(&cluster.admin(), webhook).await.unwrap();
    let (version, kind) = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");
    let on_webhook = async |client: &Client| patch(client, version, kind, None, "cloison-webhook", note("x")).await;
    cluster.refused(on_webhook(&argo).await, POLICY, "CLU-04/webhook");
    cluster.refused(
        delete(&argo, version, kind, None, "cloison-webhook").await,
        POLICY,
        "CLU-04/webhook",
    );
    on_webhook(&cluster.admin()).await.unwrap();
    // Other people's are other people's.
    let foreign = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "theirs"}, "webhooks": []});
    create(&argo, foreign).await.unwrap();
}

#[tokio::test]
async fn the_sweeper_writes_a_secret_again_as_it_was_and_in_no_other_way() {
    let cluster = cluster().await;
    // Rights that its role does not give: the policy holds all the same.
    let all =
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "update", "patch", "delete"]}]);
    cluster.grant_more(names::SWEEPER_ACCOUNT, all).await;
    let admin = cluster.admin();
    let secret = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "Yg=="},
               "metadata": {"name": name, "namespace": "default", "labels": {"a": "b"}, "annotations": {"a": "b"}}})
    };
    create(&admin, secret("rewritten")).await.unwrap();
    let sweeper = cluster
        .plane
        .service_account(names::DEFAULT_NAMESPACE, names::SWEEPER_ACCOUNT)
        .await
        .unwrap();
    let secrets = objects(&sweeper, "v1", "Secret", Some("default"));
    let found = eventually(SOON, "the sweeper's rights arrive", || secrets.get("rewritten"))
        .await
        .unwrap();
    let change = async |what: Value| patch(&sweeper, "v1", "Secret", Some("default"), "rewritten", what).await;
    let nothing = json!({"metadata": {"uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version}});
    change(nothing).await.unwrap();
    for what in [
        json!({"data": {"a": "Yw=="}}),
        json!({"data": {"a": null}}),
        json!({"stringData": {"new": "x"}}),
        json!({"immutable": true}),
        json!({"metadata": {"labels": {"a": "c"}}}),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"new": "x"}}}),
        json!({"metadata": {"finalizers": ["example.com/stuck"]}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0"}]}}),
    ] {
        cluster.refused(change(what).await, "cloison-guard", "CLU-04/rewrite");
    }
    cluster.refused(create(&sweeper, secret("new")).await, "cloison-guard", "CLU-04/rewrite");
    let deleted = delete(&sweeper, "v1", "Secret", Some("default"), "rewritten").await;
    cluster.refused(deleted, "cloison-guard", "CLU-04/rewrite");
    // Everybody else does with Secrets what they may.
    patch(
        &admin,
        "v1",
        "Secret",
        Some("default"),
        "rewritten",
        json!({"data": {"a": "Yw=="}}),
    )
    .await
    .unwrap();
}
