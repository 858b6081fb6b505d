//! Aliases of gateways, and their routes and grants.

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::common::*;
use crate::{POLICY, addresses, alias, cluster, enforce, hijack, plain, service};

static WITH_SOURCES: OnceCell<Cluster> = OnceCell::const_new();

const GATEWAY: &str = "gateway.networking.k8s.io";

/// One with a gateway and Knative for inference, whose routes are enforced, and with the Gateway API.
async fn with_sources() -> &'static Cluster {
    let start = async || {
        let sources = json!([
            {"name": "edge", "kind": "Gateway", "from": {"namespace": "istio-system"}, "stages": ["Inference"]},
            {"name": "scraper", "kind": "Scraper", "from": {"namespace": "monitoring"}},
            {"name": "knative", "kind": "Controller", "from": {"namespace": "knative-serving"}, "stages": ["Inference"]},
        ]);
        let policy = json!({"controls": [{"id": "NET-06", "mode": "Enforce"}], "network": {"sources": sources}});
        let cluster = Cluster::start(vec![Default::default()], spec(policy)).await;
        for (kind, plural, version) in [
            ("HTTPRoute", "httproutes", "v1"),
            ("TCPRoute", "tcproutes", "v1alpha2"),
            ("ReferenceGrant", "referencegrants", "v1beta1"),
        ] {
            serve(&cluster.admin(), kind, plural, version).await;
        }
        cluster
    };
    WITH_SOURCES.get_or_init(start).await
}

/// A kind of the Gateway API, as far as a test writes it.
async fn serve(admin: &Client, kind: &str, plural: &str, version: &str) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GATEWAY}"), "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {"group": GATEWAY, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                 "versions": [{"name": version, "served": true, "storage": true, "schema": schema}]},
    });
    apply(admin, definition).await;
    let served = objects(admin, &format!("{GATEWAY}/{version}"), kind, Some("default"));
    eventually_ok("the kind is served", async || served.list(&Default::default()).await).await;
}

/// KServe and Knative put an alias of the gateway before each model, and Knative its activator.
#[tokio::test]
async fn an_alias_leads_to_a_gateway_of_the_policy() {
    let cluster = with_sources().await;
    for (namespace, stage) in [("aliased", "inference"), ("not-aliased", "training")] {
        cluster
            .stage_namespace(namespace, stage, Some("enforce"), "default")
            .await;
    }
    let alice = cluster.tenant("alice", "aliased", "edit").await;
    let gateway = "knative-local-gateway.istio-system.svc.cluster.local";
    try_create(&alice, service("aliased", "model", alias(gateway)))
        .await
        .unwrap();
    for other in [
        "knative-local-gateway.istio-system.svc.evil.example.com",
        "gateway.not-istio-system.svc.cluster.local",
        "istio-system.svc.cluster.local",
        "prometheus.monitoring.svc.cluster.local",
        "kubernetes.default.svc.cluster.local",
    ] {
        let answer = try_create(&alice, service("aliased", "model", alias(other))).await;
        cluster.refused(answer, POLICY, "NET-06/external-name");
    }
    let admin = cluster.admin();
    let elsewhere = try_create(&admin, service("not-aliased", "model", alias(gateway))).await;
    cluster.refused(elsewhere, POLICY, "NET-06/external-name");

    // The accounts of a controller that the policy names, in the stages that it names.
    let loose = |namespace: &str| service(namespace, "model", json!({"ports": [{"port": 80}]}));
    let account = |namespace: &str| format!("system:serviceaccount:{namespace}:controller");
    let as_account = |namespace: &str| {
        let client = cluster.plane.client_as(&account(namespace), &["system:masters"]);
        client.unwrap()
    };
    let knative = as_account("knative-serving");
    try_create(&knative, loose("aliased")).await.unwrap();
    try_create(&knative, addresses("aliased", "model", hijack()))
        .await
        .unwrap();
    let out_of_stage = try_create(&knative, loose("not-aliased")).await;
    cluster.refused(out_of_stage, POLICY, "NET-06/selectorless");
    let open = with(plain(), json!({"type": "NodePort"}));
    let answer = try_create(&knative, service("aliased", "model", open)).await;
    cluster.refused(answer, POLICY, "NET-06/node-port");
    for other in ["istio-system", "monitoring", "knative-serving-2"] {
        let answer = try_create(&as_account(other), loose("aliased")).await;
        cluster.refused(answer, POLICY, "NET-06/selectorless");
        let answer = try_create(&as_account(other), addresses("aliased", "model", hijack())).await;
        cluster.refused(answer, POLICY, "NET-06/endpoints");
    }
}

fn ingress(namespace: &str) -> Value {
    let backend = json!({"service": {"name": "model", "port": {"number": 80}}});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "model", "namespace": namespace},
           "spec": {"ingressClassName": "public", "defaultBackend": backend}})
}

fn route(namespace: &str, kind: &str, parent: Value) -> Value {
    let version = if kind == "HTTPRoute" { "v1" } else { "v1alpha2" };
    json!({"apiVersion": format!("{GATEWAY}/{version}"), "kind": kind, "metadata": {"name": "model", "namespace": namespace},
           "spec": {"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "model", "port": 80}]}]}})
}

#[tokio::test]
async fn routes_belong_to_a_gateway_of_the_policy() {
    let cluster = with_sources().await;
    for (namespace, stage) in [
        ("routed", "inference"),
        ("unrouted", "training"),
        ("old-routes", "training"),
    ] {
        let mode = if namespace == "old-routes" { "audit" } else { "enforce" };
        cluster.stage_namespace(namespace, stage, Some(mode), "default").await;
    }
    let admin = cluster.admin();
    let refused = async |object: Value, words: &str| {
        let said = cluster.refused(try_create(&admin, object).await, POLICY, "NET-06/route");
        assert!(said.contains(words), "{said}");
    };
    // An Ingress belongs to no namespace but its own: it is refused where the stage has no gateway at all.
    try_create(&admin, ingress("routed")).await.unwrap();
    refused(
        ingress("unrouted"),
        "no gateway of the policy is open to stage training",
    )
    .await;
    create(&admin, ingress("old-routes")).await.unwrap();
    let edge = json!({"name": "public", "namespace": "istio-system"});
    let own = json!({"name": "own"});
    create(&admin, route("old-routes", "HTTPRoute", edge.clone()))
        .await
        .unwrap();
    for kind in ["HTTPRoute", "TCPRoute"] {
        try_create(&admin, route("routed", kind, edge.clone())).await.unwrap();
        refused(route("unrouted", kind, edge.clone()), "Gateway \"istio-system/public\"").await;
        refused(route("routed", kind, own.clone()), "Gateway \"routed/own\"").await;
        let mesh = json!({"group": "", "kind": "Service", "name": "model"});
        try_create(&admin, route("unrouted", kind, mesh)).await.unwrap();
    }
    // What was there may be relabelled and lead to another version, and hangs on no other gateway.
    enforce(cluster, "old-routes").await;
    let version = format!("{GATEWAY}/v1");
    let change = async |change: Value| patch(&admin, &version, "HTTPRoute", Some("old-routes"), "model", change).await;
    change(json!({"metadata": {"labels": {"team": "vision"}}}))
        .await
        .unwrap();
    change(json!({"spec": {"rules": [{"backendRefs": [{"name": "model-2", "port": 80}]}]}}))
        .await
        .unwrap();
    let other = change(json!({"spec": {"parentRefs": [edge, own]}})).await;
    let said = cluster.refused(other, POLICY, "NET-06/route");
    assert!(
        said.contains("Gateway \"old-routes/own\"") && !said.contains("istio-system"),
        "{said}"
    );
    let net = "networking.k8s.io/v1";
    let label = json!({"metadata": {"labels": {"team": "vision"}}});
    patch(&admin, net, "Ingress", Some("old-routes"), "model", label)
        .await
        .unwrap();
    let class = json!({"spec": {"ingressClassName": "other"}});
    let answer = patch(&admin, net, "Ingress", Some("old-routes"), "model", class).await;
    cluster.refused(answer, POLICY, "NET-06/route");
}

fn grant(namespace: &str, from: &str, to: Value) -> Value {
    json!({"apiVersion": format!("{GATEWAY}/v1beta1"), "kind": "ReferenceGrant", "metadata": {"name": "grant", "namespace": namespace},
           "spec": {"from": [{"group": GATEWAY, "kind": "HTTPRoute", "namespace": from}], "to": [to]}})
}

#[tokio::test]
async fn no_grant_lets_routes_of_other_namespaces_in() {
    let cluster = with_sources().await;
    for (namespace, mode) in [("grants", "enforce"), ("old-grants", "audit")] {
        cluster
            .stage_namespace(namespace, "inference", Some(mode), "default")
            .await;
    }
    let admin = cluster.admin();
    let service = || json!({"group": "", "kind": "Service"});
    let said = cluster.refused(
        try_create(&admin, grant("grants", "portal", service())).await,
        POLICY,
        "NET-06/reference-grant",
    );
    assert!(said.contains("HTTPRoute of \"portal\""), "{said}");
    let pool = json!({"group": "inference.networking.k8s.io", "kind": "InferencePool"});
    cluster.refused(
        try_create(&admin, grant("grants", "portal", pool)).await,
        POLICY,
        "NET-06/reference-grant",
    );
    // The gateway's own namespace, this one, and a certificate.
    try_create(&admin, grant("grants", "istio-system", service()))
        .await
        .unwrap();
    try_create(&admin, grant("grants", "grants", service())).await.unwrap();
    let certificate = json!({"group": "", "kind": "Secret", "name": "tls"});
    try_create(&admin, grant("grants", "portal", certificate))
        .await
        .unwrap();

    let version = format!("{GATEWAY}/v1beta1");
    let one = json!({"group": "", "kind": "Service", "name": "model"});
    create(&admin, grant("old-grants", "portal", one.clone()))
        .await
        .unwrap();
    enforce(cluster, "old-grants").await;
    let change = async |spec: Value| {
        let change = json!({"metadata": {"labels": {"team": "vision"}}, "spec": spec});
        patch(&admin, &version, "ReferenceGrant", Some("old-grants"), "grant", change).await
    };
    change(json!({})).await.unwrap();
    let two = change(json!({"to": [one, {"group": "", "kind": "Service", "name": "other"}]})).await;
    cluster.refused(two, POLICY, "NET-06/reference-grant");
    let more = json!({"from": [{"group": GATEWAY, "kind": "HTTPRoute", "namespace": "elsewhere"}]});
    cluster.refused(change(more).await, POLICY, "NET-06/reference-grant");
}

/// By default a route is only reported, and so is a grant of a stage that serves; of a training run nobody is let in so.
#[tokio::test]
async fn by_default_routes_are_reported() {
    let cluster = cluster().await;
    serve(&cluster.admin(), "ReferenceGrant", "referencegrants", "v1beta1").await;
    for (namespace, stage) in [("default-training", "training"), ("default-inference", "inference")] {
        cluster
            .stage_namespace(namespace, stage, Some("enforce"), "default")
            .await;
    }
    let admin = cluster.admin();
    let service = json!({"group": "", "kind": "Service"});
    for namespace in ["default-training", "default-inference"] {
        try_create(&admin, ingress(namespace)).await.unwrap();
    }
    try_create(&admin, grant("default-inference", "portal", service.clone()))
        .await
        .unwrap();
    let answer = try_create(&admin, grant("default-training", "portal", service)).await;
    cluster.refused(answer, POLICY, "NET-06/reference-grant");
}
