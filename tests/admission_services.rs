//! `cloison-net` on a real API server, beside NetworkPolicies: Services that open a stage or lead out of it, Endpoints
//! written by hand, and the routes and grants of gateways.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use common::*;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static WITH_SOURCES: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-net";
const GATEWAY: &str = "gateway.networking.k8s.io";

/// The policy nobody configured.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

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

fn service(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// One that breaks no rule.
fn plain() -> Value {
    json!({"selector": {"app": "model"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]})
}

fn alias(name: &str) -> Value {
    json!({"type": "ExternalName", "externalName": name})
}

fn addresses(namespace: &str, name: &str, subsets: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "namespace": namespace}, "subsets": subsets})
}

fn hijack() -> Value {
    json!([{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 8080}]}])
}

async fn change(client: &Client, namespace: &str, name: &str, change: Value) -> Answered {
    patch(client, "v1", "Service", Some(namespace), name, change).await
}

async fn enforce(cluster: &Cluster, namespace: &str) {
    let label = json!({"metadata": {"labels": {"cloison.dev/mode": "enforce"}}});
    patch(&cluster.admin(), "v1", "Namespace", None, namespace, label)
        .await
        .unwrap();
    let open = with(plain(), json!({"type": "NodePort"}));
    eventually_refused_by(cluster, POLICY, "NET-06/node-port", async || {
        try_create(&cluster.admin(), service(namespace, "probe", open.clone())).await
    })
    .await;
}

#[tokio::test]
async fn a_service_leads_to_pods_of_its_namespace_and_opens_nothing() {
    let cluster = cluster().await;
    for stage in ["training", "evaluation", "inference"] {
        let namespace = format!("serves-{stage}");
        cluster
            .stage_namespace(&namespace, stage, Some("enforce"), "default")
            .await;
        let alice = cluster.tenant("alice", &namespace, "edit").await;
        let headless = json!({"clusterIP": "None"});
        for fine in [
            plain(),
            with(plain(), headless),
            with(plain(), json!({"type": "ClusterIP"})),
        ] {
            try_create(&alice, service(&namespace, "own", fine)).await.unwrap();
        }
        for (broken, rule, words) in [
            (
                with(plain(), json!({"type": "NodePort"})),
                "node-port",
                "of type NodePort; use type: ClusterIP",
            ),
            (
                with(plain(), json!({"type": "LoadBalancer"})),
                "load-balancer",
                "of type LoadBalancer",
            ),
            (
                with(plain(), json!({"externalIPs": ["203.0.113.7", "203.0.113.8"]})),
                "external-ips",
                "the Service claims 203.0.113.7, 203.0.113.8; remove spec.externalIPs",
            ),
            (
                alias("api.example.com"),
                "external-name",
                "an alias of \"api.example.com\"",
            ),
            (
                alias("knative-local-gateway.istio-system.svc.cluster.local"),
                "external-name",
                "the admin names their gateway in network.sources",
            ),
            (
                json!({"ports": [{"port": 80}]}),
                "selectorless",
                "the Service has no selector",
            ),
            (
                json!({"clusterIP": "None", "selector": {}}),
                "selectorless",
                "the Service has no selector",
            ),
        ] {
            let answer = try_create(&alice, service(&namespace, "own", broken)).await;
            let said = cluster.refused(answer, POLICY, &format!("NET-06/{rule}"));
            assert!(said.contains(words), "{said}");
        }
        // One that breaks two rules names both.
        let both = json!({"type": "LoadBalancer", "externalIPs": ["203.0.113.7"], "ports": [{"port": 80}]});
        let said = cluster.refused(
            try_create(&alice, service(&namespace, "own", both)).await,
            POLICY,
            "NET-06/selectorless",
        );
        assert!(
            said.contains("NET-06/load-balancer") && said.contains("NET-06/external-ips"),
            "{said}"
        );
    }
    // Where no AI runs, and where nothing is refused, Services are what people want.
    cluster
        .stage_namespace("serves-all", "shared", Some("enforce"), "default")
        .await;
    cluster
        .stage_namespace("serves-audit", "inference", Some("audit"), "default")
        .await;
    for namespace in ["serves-all", "serves-audit", "default"] {
        let open = with(plain(), json!({"type": "NodePort"}));
        try_create(&cluster.admin(), service(namespace, "own", open))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_old_service_lives_on_and_opens_no_more() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("older", "inference", Some("audit"), "default")
        .await;
    let alice = cluster.tenant("alice", "older", "edit").await;
    let many: Vec<Value> = (0..2_000)
        .map(|n| json!({"name": format!("p{n}"), "port": 1_000 + n}))
        .collect();
    for (name, spec) in [
        ("node", with(plain(), json!({"type": "NodePort"}))),
        (
            "balanced",
            with(
                plain(),
                json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}),
            ),
        ),
        ("claims", with(plain(), json!({"externalIPs": ["203.0.113.7"]}))),
        ("alias", alias("api.example.com")),
        ("loose", json!({"ports": [{"port": 80}]})),
        ("many", with(plain(), json!({"ports": many}))),
    ] {
        create(&alice, service("older", name, spec)).await.unwrap();
    }
    enforce(cluster, "older").await;
    let refused = async |name: &str, spec: Value, rule: &str| {
        let answer = change(&alice, "older", name, json!({"spec": spec})).await;
        cluster.refused(answer, POLICY, &format!("NET-06/{rule}"));
    };
    let port = |node: u16| json!([{"name": "http", "port": 80, "targetPort": 8080, "nodePort": node}]);

    // What controllers do all day, and what makes it no worse.
    let admin = cluster.admin();
    for name in ["node", "balanced", "claims", "alias", "loose"] {
        let metadata = json!({"metadata": {"labels": {"team": "vision"}, "annotations": {"a": "b"},
                                           "finalizers": ["service.kubernetes.io/load-balancer-cleanup"]}});
        change(&admin, "older", name, metadata).await.unwrap();
        change(&admin, "older", name, json!({"metadata": {"finalizers": []}}))
            .await
            .unwrap();
    }
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}});
    patch_status(&admin, "v1", "Service", Some("older"), "balanced", address)
        .await
        .unwrap();
    for name in ["node", "balanced"] {
        let node = if name == "node" { 30_101 } else { 30_102 };
        change(&admin, "older", name, json!({"spec": {"ports": port(node)}}))
            .await
            .unwrap();
    }

    // Other pods, another port, a wider door.
    for name in ["node", "balanced", "claims"] {
        let rule = match name {
            "node" => "node-port",
            "balanced" => "load-balancer",
            _ => "external-ips",
        };
        refused(name, json!({"selector": {"app": "other"}}), rule).await;
        let more = json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81}]);
        refused(name, json!({"ports": more}), rule).await;
        refused(
            name,
            json!({"ports": [{"name": "http", "port": 80, "targetPort": 22}]}),
            rule,
        )
        .await;
    }
    refused("node", json!({"type": "LoadBalancer"}), "load-balancer").await;
    refused("balanced", json!({"loadBalancerSourceRanges": null}), "load-balancer").await;
    refused(
        "balanced",
        json!({"loadBalancerSourceRanges": ["198.51.0.0/16"]}),
        "load-balancer",
    )
    .await;
    refused(
        "claims",
        json!({"externalIPs": ["203.0.113.7", "203.0.113.8"]}),
        "external-ips",
    )
    .await;
    refused("alias", json!({"externalName": "other.example.com"}), "external-name").await;
    refused(
        "alias",
        json!({"type": "ClusterIP", "externalName": null, "ports": [{"port": 80}]}),
        "selectorless",
    )
    .await;
    refused("loose", json!({"type": "NodePort"}), "node-port").await;
    // A plain one of thousands of ports is judged at a price that it can pay.
    let moved: Vec<Value> = (0..2_000)
        .map(|n| json!({"name": format!("p{n}"), "port": 9_999 - n}))
        .collect();
    change(&alice, "older", "many", json!({"spec": {"ports": moved}}))
        .await
        .unwrap();
    refused("many", json!({"selector": null}), "selectorless").await;

    // Less is welcome.
    change(
        &alice,
        "older",
        "balanced",
        json!({"spec": {"type": "NodePort", "loadBalancerSourceRanges": null}}),
    )
    .await
    .unwrap();
    for name in ["node", "balanced"] {
        change(&alice, "older", name, json!({"spec": {"type": "ClusterIP"}}))
            .await
            .unwrap();
        refused(name, json!({"type": "NodePort"}), "node-port").await;
    }
    change(&alice, "older", "claims", json!({"spec": {"externalIPs": []}}))
        .await
        .unwrap();
    refused("claims", json!({"externalIPs": ["203.0.113.7"]}), "external-ips").await;
    change(
        &alice,
        "older",
        "loose",
        json!({"spec": {"selector": {"app": "model"}}}),
    )
    .await
    .unwrap();
    delete(&alice, "v1", "Service", Some("older"), "alias").await.unwrap();
}

#[tokio::test]
async fn nobody_writes_by_hand_where_a_service_leads() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("hands", "training", Some("enforce"), "default")
        .await;
    // No stock role brings this right; clusters from before 1.22 and roles of one's own do.
    let rules = json!([{"apiGroups": [""], "resources": ["endpoints"], "verbs": ["create", "update", "patch"]}]);
    cluster.grant_user("mallory", rules).await;
    let mallory = cluster.plane.client_as("mallory", &[]).unwrap();
    let by_hand = || addresses("hands", "by-hand", hijack());
    eventually_refused_by(cluster, POLICY, "NET-06/endpoints", async || {
        try_create(&mallory, by_hand()).await
    })
    .await;
    // Names of leaders stand on Endpoints without addresses, and elsewhere people write what they like.
    try_create(&mallory, addresses("hands", "by-hand", json!([])))
        .await
        .unwrap();
    try_create(&mallory, addresses("default", "by-hand", hijack()))
        .await
        .unwrap();

    // The controller writes what a selector finds, and what it wrote is not moved.
    let admin = cluster.admin();
    create(&admin, service("hands", "model", plain())).await.unwrap();
    create(
        &admin,
        with(pod("hands", "model"), json!({"metadata": {"labels": {"app": "model"}}})),
    )
    .await
    .unwrap();
    bind_to_node(&admin, "hands", "model", "nowhere").await;
    let running = json!({"status": {"phase": "Running", "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}],
                                    "conditions": [{"type": "Ready", "status": "True"}]}});
    patch_status(&admin, "v1", "Pod", Some("hands"), "model", running)
        .await
        .unwrap();
    let endpoints = objects(&admin, "v1", "Endpoints", Some("hands"));
    eventually_ok("the controller writes Endpoints", async || {
        let found = endpoints.get("model").await.map_err(|error| error.to_string())?;
        match found.data["subsets"][0]["addresses"][0]["ip"].as_str() {
            Some("10.9.8.7") => Ok(()),
            _ => Err(found.data.to_string()),
        }
    })
    .await;
    let label = json!({"metadata": {"labels": {"team": "vision"}}});
    patch(&mallory, "v1", "Endpoints", Some("hands"), "model", label)
        .await
        .unwrap();
    let moved = patch(
        &mallory,
        "v1",
        "Endpoints",
        Some("hands"),
        "model",
        json!({"subsets": hijack()}),
    )
    .await;
    cluster.refused(moved, POLICY, "NET-06/endpoints");

    // The API server keeps a Service without a selector, in a namespace that may have a stage.
    let api_server = cluster
        .plane
        .client_as("system:apiserver", &["system:masters"])
        .unwrap();
    let its_own = service("hands", "kubernetes", json!({"ports": [{"port": 443}]}));
    try_create(&api_server, its_own.clone()).await.unwrap();
    try_create(&api_server, addresses("hands", "kubernetes", hijack()))
        .await
        .unwrap();
    cluster.refused(try_create(&admin, its_own).await, POLICY, "NET-06/selectorless");
    for (name, passes) in [
        ("system:kube-controller-manager", true),
        ("system:kube-scheduler", false),
    ] {
        let account = cluster.plane.client_as(name, &["system:masters"]).unwrap();
        let answer = try_create(&account, by_hand()).await;
        if passes {
            answer.unwrap();
        } else {
            cluster.refused(answer, POLICY, "NET-06/endpoints");
        }
    }
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
