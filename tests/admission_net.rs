//! `cloison-net` on a real API server: the NetworkPolicies that tenants may write themselves, one at a time, and what an
//! update may do to one that is older than the rules.
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

const POLICY: &str = "cloison-net";
const NET: &str = "networking.k8s.io/v1";

/// The policy nobody configured.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

fn policy(namespace: &str, spec: Value) -> Value {
    let whole = with(json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}), spec);
    json!({"apiVersion": NET, "kind": "NetworkPolicy", "metadata": {"name": "own", "namespace": namespace}, "spec": whole})
}

fn egress(peer: Value) -> Value {
    json!({"egress": [{"to": [peer]}]})
}

fn block(cidr: &str) -> Value {
    json!({"ipBlock": {"cidr": cidr}})
}

async fn change(client: &Client, namespace: &str, spec: Value) -> Answered {
    patch(
        client,
        NET,
        "NetworkPolicy",
        Some(namespace),
        "own",
        json!({"spec": spec}),
    )
    .await
}

#[tokio::test]
async fn a_tenant_opens_its_own_namespace_and_networks_outside() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("own", "training", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "own", "edit").await;
    let pods = json!({"podSelector": {"matchLabels": {"app": "a"}}});
    for fine in [
        json!({}),
        json!({"egress": [], "ingress": []}),
        egress(json!({"podSelector": {}})),
        json!({"ingress": [{"from": [pods], "ports": [{"port": 80}]}]}),
        egress(block("198.51.100.0/24")),
        egress(block("198.51.0.0/16")),
        egress(block("2001:db8:1::/48")),
        json!({"ingress": [{"from": [block("203.0.113.7/32"), {"podSelector": {}}]}]}),
    ] {
        try_create(&alice, policy("own", fine.clone()))
            .await
            .unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
    let all = json!({"namespaceSelector": {}});
    let by_name =
        json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "own"}}, "podSelector": {}});
    for (broken, rule, words) in [
        (
            json!({"egress": [{}]}),
            "NET-10/no-peers",
            "a rule without peers: egress",
        ),
        (
            json!({"ingress": [{"ports": [{"port": 53}]}]}),
            "NET-10/no-peers",
            "a rule without peers: ingress",
        ),
        (
            json!({"ingress": [{"from": []}]}),
            "NET-10/no-peers",
            "a rule without peers: ingress",
        ),
        (
            egress(all.clone()),
            "NET-10/namespace-selector",
            "a peer with a namespaceSelector: egress",
        ),
        (
            egress(by_name),
            "NET-10/namespace-selector",
            "a peer with a namespaceSelector: egress",
        ),
        (
            json!({"ingress": [{"from": [{"podSelector": {}}, all]}]}),
            "NET-10/namespace-selector",
            "a peer with a namespaceSelector: ingress",
        ),
        (
            egress(block("198.50.0.0/15")),
            "NET-10/cidr-width",
            "egress \"198.50.0.0/15\" is wider than the policy allows (/16)",
        ),
        (
            egress(block("2001:db8::/47")),
            "NET-10/cidr-width",
            "egress \"2001:db8::/47\" is wider than the policy allows (/48)",
        ),
        (
            egress(block("0.0.0.0/0")),
            "NET-10/cidr-width",
            "egress \"0.0.0.0/0\" is wider than the policy allows (/16)",
        ),
        (
            json!({"ingress": [{"from": [block("10.1.0.0/16")]}]}),
            "NET-10/cluster-address",
            "ingress \"10.1.0.0/16\" is in a private range",
        ),
        (
            egress(block("172.31.255.0/24")),
            "NET-10/cluster-address",
            "is in a private range",
        ),
        (
            egress(block("fd12:3456:789a::/48")),
            "NET-10/cluster-address",
            "is in a private range",
        ),
        (
            egress(block("169.254.169.254/32")),
            "NET-05/metadata",
            "egress \"169.254.169.254/32\" meets addresses of the infrastructure",
        ),
        (
            egress(block("fe80::/64")),
            "NET-05/metadata",
            "meets addresses of the infrastructure",
        ),
    ] {
        let said = cluster.refused(try_create(&alice, policy("own", broken.clone())).await, POLICY, rule);
        assert!(said.contains(words), "{broken}: {said}");
    }
    // Cluster admins, too: what they may do beside it is to say so in the policy.
    let admin = cluster.admin();
    cluster.refused(
        try_create(&admin, policy("own", json!({"egress": [{}]}))).await,
        POLICY,
        "NET-10/no-peers",
    );
    // Several problems are one message.
    let several = json!({"egress": [{}, {"to": [{"namespaceSelector": {}}, block("10.0.0.0/8")]}]});
    let said = cluster.refused(
        try_create(&alice, policy("own", several)).await,
        POLICY,
        "NET-10/cidr-width",
    );
    assert!(said.contains("NET-10/no-peers ") && said.contains("+1 more"), "{said}");
}

/// The API server of 1.33 stores what is no plain network, and CNIs read it as they like.
#[tokio::test]
async fn what_is_no_plain_network_is_not_guessed_at() {
    let options = ApiServerOptions {
        minor: Minor::V1_33,
        ..ApiServerOptions::default()
    };
    let cluster = Cluster::start(vec![options], spec(json!({}))).await;
    cluster
        .stage_namespace("plain", "inference", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "plain", "edit").await;
    let mapped = policy("plain", egress(block("::ffff:198.51.100.0/120")));
    let said = cluster.refused(try_create(&alice, mapped).await, POLICY, "NET-10/cidr");
    assert!(said.contains("is not a network in its plain form"), "{said}");
    // Host bits are read as the network they are in.
    let host_bits = policy("plain", egress(block("10.1.2.3/24")));
    cluster.refused(try_create(&alice, host_bits).await, POLICY, "NET-10/cluster-address");
    try_create(&alice, policy("plain", egress(block("198.51.100.9/24"))))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_old_policy_can_be_narrowed_and_not_widened() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("older", "training", Some("audit"), "default")
        .await;
    let alice = cluster.tenant("alice", "older", "edit").await;
    let everywhere = json!({"namespaceSelector": {}});
    let one_port = json!([{"protocol": "TCP", "port": 443}]);
    let bad = json!({"egress": [{"to": [everywhere, block("10.0.0.0/8")], "ports": one_port}, {}]});
    create(&alice, policy("older", bad.clone())).await.unwrap();
    let enforce = json!({"metadata": {"labels": {"cloison.dev/mode": "enforce"}}});
    patch(&cluster.admin(), "v1", "Namespace", None, "older", enforce)
        .await
        .unwrap();
    eventually_refused_by(cluster, POLICY, "NET-10/no-peers", async || {
        try_create(
            &alice,
            with(
                policy("older", json!({"egress": [{}]})),
                json!({"metadata": {"name": "probe"}}),
            ),
        )
        .await
    })
    .await;
    let refused = async |spec: Value, rule: &str| {
        cluster.refused(change(&alice, "older", spec).await, POLICY, rule);
    };
    // What it allowed before, for the same pods, on the same ports, is no news.
    let label = json!({"metadata": {"labels": {"team": "vision"}}});
    patch(&alice, NET, "NetworkPolicy", Some("older"), "own", label)
        .await
        .unwrap();
    let reordered =
        json!({"egress": [{}, {"to": [block("10.0.0.0/8"), everywhere, {"podSelector": {}}], "ports": one_port}]});
    change(&alice, "older", reordered).await.unwrap();
    // Other ports, other pods, another direction and another peer are.
    refused(
        json!({"egress": [{}, {"to": [block("10.0.0.0/8"), everywhere]}]}),
        "NET-10/namespace-selector",
    )
    .await;
    refused(
        json!({"podSelector": {"matchLabels": {"app": "other"}}}),
        "NET-10/no-peers",
    )
    .await;
    refused(json!({"policyTypes": ["Egress"]}), "NET-10/no-peers").await;
    refused(
        json!({"ingress": [{"from": [everywhere], "ports": one_port}]}),
        "NET-10/namespace-selector",
    )
    .await;
    refused(json!({"ingress": [{}]}), "NET-10/no-peers").await;
    refused(
        json!({"egress": [{"to": [block("10.0.0.0/7")], "ports": one_port}]}),
        "NET-10/cidr-width",
    )
    .await;
    refused(json!({"egress": [{"ports": one_port}]}), "NET-10/no-peers").await;
    // Less is always welcome, and so is the end.
    change(
        &alice,
        "older",
        json!({"egress": [{"to": [everywhere], "ports": one_port}]}),
    )
    .await
    .unwrap();
    change(&alice, "older", json!({"egress": []})).await.unwrap();
    refused(bad, "NET-10/no-peers").await;
    delete(&alice, NET, "NetworkPolicy", Some("older"), "own")
        .await
        .unwrap();
}

#[tokio::test]
async fn our_own_account_writes_across_namespaces() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("ours", "training", Some("enforce"), "default")
        .await;
    let name = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}});
    let ours = with(
        policy("ours", egress(name)),
        json!({"metadata": {"name": "cloison-wl-road", "labels": {"app.kubernetes.io/managed-by": "cloison"}}}),
    );
    create(&cluster.operator().await, ours).await.unwrap();
}

/// A shared namespace serves every stage: its policies name those namespaces.
#[tokio::test]
async fn where_no_ai_runs_tenants_write_what_they_like() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("common", "shared", Some("enforce"), "default")
        .await;
    let admin = cluster.admin();
    try_create(&admin, policy("common", json!({"ingress": [{}]})))
        .await
        .unwrap();
    try_create(&admin, policy("default", json!({"ingress": [{}]})))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_policy_says_what_tenants_may() {
    let known = json!({"network": {"clusterCIDRs": ["10.244.0.0/16", "2001:db8:f::/48"], "apiServer": {"cidrs": ["203.0.113.0/28"]},
                                   "maxEgressCIDR": {"ipv4PrefixLength": 24}}});
    let cluster = Cluster::start(vec![Default::default()], spec(known)).await;
    cluster
        .stage_namespace("said", "training", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "said", "edit").await;
    let wants = async |cidr: &str| try_create(&alice, policy("said", egress(block(cidr)))).await;
    // The ranges that the policy names stand instead of the private ones.
    wants("10.1.2.0/24").await.unwrap();
    cluster.refused(wants("10.1.0.0/23").await, POLICY, "NET-10/cidr-width");
    let said = cluster.refused(wants("10.244.7.0/24").await, POLICY, "NET-10/cluster-address");
    assert!(
        said.contains("egress \"10.244.7.0/24\" meets addresses of this cluster"),
        "{said}"
    );
    cluster.refused(wants("2001:db8:f:1::/64").await, POLICY, "NET-10/cluster-address");
    cluster.refused(wants("203.0.113.0/24").await, POLICY, "NET-10/cluster-address");

    let none = spec(json!({"network": {"tenantPolicies": "None"}}));
    cluster.replace_policy(none).await;
    let said = cluster.refused(wants("198.51.100.0/24").await, POLICY, "NET-10/not-allowed");
    assert!(said.contains("NetworkPolicy \"own\" allows something"), "{said}");
    let inside = policy("said", egress(json!({"podSelector": {}})));
    cluster.refused(try_create(&alice, inside).await, POLICY, "NET-10/not-allowed");
    try_create(&alice, policy("said", json!({}))).await.unwrap();

    // Peers in other namespaces are left to the webhook, and nothing else is.
    cluster
        .replace_policy(spec(json!({"network": {"tenantPolicies": "Analysed"}})))
        .await;
    let out = policy("said", egress(json!({"namespaceSelector": {}})));
    try_create(&alice, out).await.unwrap();
    cluster.refused(wants("10.244.7.0/24").await, POLICY, "NET-10/cluster-address");
    let bare = policy("said", json!({"egress": [{}]}));
    cluster.refused(try_create(&alice, bare).await, POLICY, "NET-10/no-peers");
}
