//! `cloison-store` on a real API server: what tenants may ask of storage and of devices, and who may name what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use cloison_testbed::{ApiServerOptions, Minor};
use common::*;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-store";
const CLAIM: &str = "PersistentVolumeClaim";
const SNAPSHOTS: &str = "snapshot.storage.k8s.io/v1";

/// The policy nobody configured, on an API server that keeps the namespace of a data source.
async fn cluster() -> &'static Cluster {
    let options = ApiServerOptions {
        extra_args: vec!["--feature-gates=CrossNamespaceVolumeDataSource=true".to_owned()],
        ..ApiServerOptions::default()
    };
    CLUSTER
        .get_or_init(|| Cluster::start(vec![options], spec(json!({}))))
        .await
}

async fn enforced(namespace: &str, stage: &str) -> (&'static Cluster, Client) {
    let cluster = cluster().await;
    cluster
        .stage_namespace(namespace, stage, Some("enforce"), "default")
        .await;
    (cluster, cluster.tenant("alice", namespace, "edit").await)
}

fn claim(namespace: &str, change: Value) -> Value {
    let plain = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    json!({"apiVersion": "v1", "kind": CLAIM, "metadata": {"name": "models", "namespace": namespace},
           "spec": with(plain, change)})
}

fn source(group: Option<&str>, kind: &str) -> Value {
    let mut source = json!({"kind": kind, "name": "other"});
    if let Some(group) = group {
        source["apiGroup"] = json!(group);
    }
    source
}

async fn change(client: &Client, namespace: &str, change: Value) -> Answered {
    patch(client, "v1", CLAIM, Some(namespace), "models", change).await
}

#[tokio::test]
async fn no_tenant_names_the_volume_of_a_claim() {
    let (cluster, alice) = enforced("volumes", "inference").await;
    let named = claim("volumes", json!({"volumeName": "pv-of-training"}));
    try_create(&alice, claim("volumes", json!({}))).await.unwrap();
    let said = cluster.refused(try_create(&alice, named.clone()).await, POLICY, "DAT-07/volume-name");
    assert!(
        said.contains("names PersistentVolume \"pv-of-training\" itself"),
        "{said}"
    );

    // Who may make the volume may name it: KServe's cache of models does both.
    let rights = json!([{"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["create", "get", "patch"]},
                        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["create"]}]);
    cluster.grant_user("localmodel", rights).await;
    let cache = cluster.plane.client_as("localmodel", &[]).unwrap();
    eventually_ok("the right arrives", async || try_create(&cache, named.clone()).await).await;

    // Later is not better, but for the controller that binds.
    create(&alice, claim("volumes", json!({}))).await.unwrap();
    let bind = json!({"spec": {"volumeName": "pv-of-training"}});
    cluster.refused(
        change(&alice, "volumes", bind.clone()).await,
        POLICY,
        "DAT-07/volume-name",
    );
    let rights =
        json!([{"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["create", "get", "patch"]}]);
    cluster.grant_user("system:kube-controller-manager", rights).await;
    let binder = cluster.plane.client_as("system:kube-controller-manager", &[]).unwrap();
    let other = json!({"metadata": {"name": "other"}});
    eventually_ok("the right arrives", async || {
        try_create(&binder, with(claim("volumes", json!({})), other.clone())).await
    })
    .await;
    // It makes claims out of tenants' templates as well.
    let answer = try_create(&binder, with(named, other)).await;
    cluster.refused(answer, POLICY, "DAT-07/volume-name");
    change(&binder, "volumes", bind).await.unwrap();
    // What is bound can still be labelled.
    change(&alice, "volumes", json!({"metadata": {"labels": {"team": "vision"}}}))
        .await
        .unwrap();
}

#[tokio::test]
async fn claims_of_controllers_meet_the_same_rules() {
    let (cluster, alice) = enforced("sets", "training").await;
    let template = |name: &str, change: Value| {
        let claim = claim("sets", change);
        json!({"metadata": {"name": name}, "spec": claim["spec"]})
    };
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "cache", "namespace": "sets"},
        "spec": {"replicas": 1, "serviceName": "cache", "selector": {"matchLabels": {"app": "cache"}},
                 "template": {"metadata": {"labels": {"app": "cache"}}, "spec": pod("sets", "a")["spec"]},
                 "volumeClaimTemplates": [template("data", json!({}))]}});
    create(&alice, set).await.unwrap();
    let claims = objects(&alice, "v1", CLAIM, Some("sets"));
    eventually_ok("the controller makes the claim", async || {
        claims.get("data-cache-0").await
    })
    .await;
    let controller = cluster
        .plane
        .service_account("kube-system", "statefulset-controller")
        .await
        .unwrap();
    let named = claim("sets", json!({"volumeName": "pv-of-inference"}));
    try_create(&controller, claim("sets", json!({}))).await.unwrap();
    cluster.refused(try_create(&controller, named).await, POLICY, "DAT-07/volume-name");
}

#[tokio::test]
async fn claims_are_filled_from_their_own_namespace() {
    let (cluster, alice) = enforced("sources", "training").await;
    let wants = async |field: &str, source: Value| try_create(&alice, claim("sources", json!({field: source}))).await;
    let snapshot = || source(Some("snapshot.storage.k8s.io"), "VolumeSnapshot");
    for fine in [source(None, CLAIM), snapshot()] {
        wants("dataSource", fine.clone()).await.unwrap();
        wants("dataSourceRef", fine).await.unwrap();
    }
    let at = |namespace: &str| with(snapshot(), json!({"namespace": namespace}));
    wants("dataSourceRef", at("sources")).await.unwrap();
    let said = cluster.refused(
        wants("dataSourceRef", at("elsewhere")).await,
        POLICY,
        "DAT-07/data-source",
    );
    assert!(said.contains("is filled from namespace elsewhere"), "{said}");
    for (group, kind) in [
        ("populator.example.com", "Seed"),
        ("populator.example.com", CLAIM),
        ("populator.example.com", "VolumeSnapshot"),
    ] {
        let said = cluster.refused(
            wants("dataSourceRef", source(Some(group), kind)).await,
            POLICY,
            "DAT-07/source-kind",
        );
        assert!(said.contains(&format!("is filled from a {kind}, ")), "{said}");
    }
    // Cluster admins, too: no right makes another namespace's data this one's.
    cluster.refused(
        try_create(
            &cluster.admin(),
            claim("sources", json!({"dataSourceRef": at("elsewhere")})),
        )
        .await,
        POLICY,
        "DAT-07/data-source",
    );
}

#[tokio::test]
async fn no_tenant_names_the_content_of_a_snapshot() {
    let (cluster, alice) = enforced("snaps", "inference").await;
    let admin = cluster.admin();
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let names = json!({"plural": "volumesnapshots", "singular": "volumesnapshot", "kind": "VolumeSnapshot"});
    apply(
        &admin,
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
               // The API server wants a word on groups that end in k8s.io.
               "metadata": {"name": "volumesnapshots.snapshot.storage.k8s.io",
                            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
               "spec": {"group": "snapshot.storage.k8s.io", "scope": "Namespaced", "names": names,
                        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}}),
    )
    .await;
    let rights = json!([{"apiGroups": ["snapshot.storage.k8s.io"], "resources": ["volumesnapshots"],
                         "verbs": ["create", "get", "patch"]}]);
    cluster.grant_user("alice", rights.clone()).await;
    let more = json!([rights[0], {"apiGroups": ["snapshot.storage.k8s.io"], "resources": ["volumesnapshotcontents"],
                                  "verbs": ["create"]}]);
    cluster.grant_user("restorer", more).await;
    let restorer = cluster.plane.client_as("restorer", &[]).unwrap();
    let snapshot = |source: Value| {
        json!({"apiVersion": SNAPSHOTS, "kind": "VolumeSnapshot", "metadata": {"name": "s", "namespace": "snaps"},
               "spec": {"source": source}})
    };
    let own = snapshot(json!({"persistentVolumeClaimName": "models"}));
    let foreign = snapshot(json!({"volumeSnapshotContentName": "of-training"}));
    eventually_ok("the kind is served", async || try_create(&alice, own.clone()).await).await;
    let said = cluster.refused(
        try_create(&alice, foreign.clone()).await,
        POLICY,
        "DAT-07/snapshot-content",
    );
    assert!(
        said.contains("names VolumeSnapshotContent \"of-training\" itself"),
        "{said}"
    );
    eventually_ok("who restores may", async || {
        try_create(&restorer, foreign.clone()).await
    })
    .await;

    create(&alice, own).await.unwrap();
    let swap =
        json!({"spec": {"source": {"persistentVolumeClaimName": null, "volumeSnapshotContentName": "of-training"}}});
    let edit = async |client: &Client, change: Value| {
        patch(client, SNAPSHOTS, "VolumeSnapshot", Some("snaps"), "s", change).await
    };
    cluster.refused(edit(&alice, swap.clone()).await, POLICY, "DAT-07/snapshot-content");
    edit(&restorer, swap).await.unwrap();
    edit(&alice, json!({"metadata": {"labels": {"team": "vision"}}}))
        .await
        .unwrap();
}

fn devices(version: &str, kind: &str, namespace: &str, admin: bool, parameters: Value) -> Value {
    let mut request = json!({"deviceClassName": "gpu.example.com"});
    if admin {
        request["adminAccess"] = json!(true);
    }
    let request = if version == "v1beta1" {
        with(json!({"name": "gpu"}), request)
    } else {
        json!({"name": "gpu", "exactly": request})
    };
    let mut claim = json!({"devices": {"requests": [request]}});
    if !parameters.is_null() {
        claim["devices"]["config"] = json!([{"opaque": {"driver": "gpu.example.com", "parameters": parameters}}]);
    }
    let spec = if kind == "ResourceClaim" {
        claim
    } else {
        json!({"spec": claim})
    };
    json!({"apiVersion": format!("resource.k8s.io/{version}"), "kind": kind,
           "metadata": {"name": "gpu", "namespace": namespace}, "spec": spec})
}

fn sharing(sharing: Value) -> Value {
    json!({"apiVersion": "gpu.example.com/v1", "kind": "GpuConfig", "sharing": sharing})
}

/// Devices are asked for in three versions of one group, of which each API server serves some.
#[tokio::test]
async fn claims_of_devices_ask_for_no_share_and_no_admin_access() {
    let strict = spec(json!({"controls": [{"id": "WKL-04", "mode": "Enforce"}]}));
    for (minor, versions, flags) in [
        (Minor::V1_36, &["v1", "v1beta2", "v1beta1"][..], "DRAAdminAccess=true"),
        (
            Minor::V1_33,
            &["v1beta2", "v1beta1"],
            "DynamicResourceAllocation=true,DRAAdminAccess=true",
        ),
    ] {
        let served: Vec<String> = versions
            .iter()
            .map(|version| format!("resource.k8s.io/{version}=true"))
            .collect();
        let options = ApiServerOptions {
            minor,
            extra_args: vec![
                format!("--runtime-config={}", served.join(",")),
                format!("--feature-gates={flags}"),
            ],
            ..ApiServerOptions::default()
        };
        let cluster = Cluster::start(vec![options], strict.clone()).await;
        cluster
            .stage_namespace("devices", "training", Some("enforce"), "default")
            .await;
        // Without the label, which was called otherwise before 1.34, the API server itself refuses admin access.
        let labels = json!({"resource.kubernetes.io/admin-access": "true", "resource.k8s.io/admin-access": "true"});
        let label = json!({"metadata": {"labels": labels}});
        patch(&cluster.admin(), "v1", "Namespace", None, "devices", label)
            .await
            .unwrap();
        let alice = cluster.tenant("alice", "devices", "edit").await;
        let rights = json!([{"apiGroups": ["resource.k8s.io"], "resources": ["resourceclaims", "resourceclaimtemplates"],
                             "verbs": ["create", "get"]}]);
        cluster.grant_user("alice", rights).await;
        for version in versions {
            for kind in ["ResourceClaim", "ResourceClaimTemplate"] {
                let wants = async |admin: bool, parameters: Value| {
                    try_create(&alice, devices(version, kind, "devices", admin, parameters)).await
                };
                eventually_ok("a whole device", async || wants(false, Value::Null).await).await;
                for fine in [
                    json!({}),
                    sharing(json!({"strategy": "Exclusive"})),
                    sharing(json!("by turns")),
                    sharing(json!({"strategy": 3})),
                    sharing(json!(["TimeSlicing"])),
                ] {
                    wants(false, fine.clone())
                        .await
                        .unwrap_or_else(|error| panic!("{version} {kind} {fine}: {error}"));
                }
                for strategy in ["TimeSlicing", "MPS"] {
                    let answer = wants(false, sharing(json!({"strategy": strategy}))).await;
                    let said = cluster.refused(answer, POLICY, "WKL-04/shared-request");
                    assert!(
                        said.contains(&format!("{kind} \"gpu\" shares devices by {strategy}")),
                        "{said}"
                    );
                }
                cluster.refused(wants(true, Value::Null).await, POLICY, "WKL-04/admin-access");
            }
        }
    }
}

#[tokio::test]
async fn what_the_policy_lists_as_encrypted_is_asked_for_where_it_says_so() {
    let listed = json!({"secrets": {"encryptedStorageClasses": ["gold", "silver"]}});
    let (_, alice) = enforced("classes-free", "training").await;
    // Nothing is listed, or nobody said that it is to be refused.
    try_create(&alice, claim("classes-free", json!({"storageClassName": "bronze"})))
        .await
        .unwrap();

    let asked = with(
        listed.clone(),
        json!({"controls": [{"id": "ENC-02", "mode": "Enforce"}]}),
    );
    let cluster = Cluster::start(vec![Default::default()], spec(listed)).await;
    cluster
        .stage_namespace("classes", "training", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "classes", "edit").await;
    create(&alice, claim("classes", json!({"storageClassName": "bronze"})))
        .await
        .unwrap();
    cluster.replace_policy(spec(asked)).await;
    let wants = async |spec: Value, annotation: Option<&str>| {
        let annotations = json!({"volume.beta.kubernetes.io/storage-class": annotation});
        let claim = with(claim("classes", spec), json!({"metadata": {"name": "new"}}));
        let claim = match annotation {
            None => claim,
            Some(_) => with(claim, json!({"metadata": {"annotations": annotations}})),
        };
        try_create(&alice, claim).await
    };
    let class = |name: &str| json!({"storageClassName": name});
    wants(class("gold"), None).await.unwrap();
    wants(json!({}), Some("silver")).await.unwrap();
    for (spec, annotation, words) in [
        (
            class("bronze"),
            None,
            "uses StorageClass \"bronze\", which is not listed",
        ),
        (class(""), None, "names no StorageClass"),
        (json!({}), None, "names no StorageClass"),
        // The older word is the one that is heard.
        (class("gold"), Some("bronze"), "uses StorageClass \"bronze\""),
    ] {
        let said = cluster.refused(wants(spec, annotation).await, POLICY, "ENC-02/storage-class");
        assert!(said.contains(words), "{said}");
    }
    // What is older than the list stays, and is worked with.
    change(&alice, "classes", json!({"metadata": {"labels": {"team": "vision"}}}))
        .await
        .unwrap();
}

#[tokio::test]
async fn where_no_ai_runs_claims_are_nobodys_business() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("common-store", "shared", Some("enforce"), "default")
        .await;
    for namespace in ["common-store", "default"] {
        let alice = cluster.tenant("alice", namespace, "edit").await;
        try_create(&alice, claim(namespace, json!({"volumeName": "any"})))
            .await
            .unwrap();
    }
}
