//! Services that open a stage or lead out of it, and Endpoints written by hand.

use kube::Client;
use serde_json::{Value, json};

use crate::common::*;
use crate::{POLICY, addresses, alias, cluster, enforce, hijack, plain, service};

async fn change(client: &Client, namespace: &str, name: &str, change: Value) -> Answered {
    patch(client, "v1", "Service", Some(namespace), name, change).await
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
