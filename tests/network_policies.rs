//! What is written for a namespace and for a workload, and which declared flows open: on a real API server, as the admin
//! who labels namespaces and the engineer who declares.
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
use cloison::api::workload::FlowState;
use cloison_testbed::{ControlPlane, eventually};
use kube::{Api, Client};
use network::{Installation, flow, label, policy_names, spec};
use operator::{PATIENCE, apply, condition, namespace, policy, workload};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static INSTALLATION: OnceCell<Installation> = OnceCell::const_new();

async fn admin() -> Client {
    let start = || async {
        let plane = ControlPlane::start(cloison_testbed::Options::default()).await.unwrap();
        let service = |name: &str, namespace: &str| json!({"name": name, "to": {"namespace": namespace, "podLabels": {"app": name}}, "ports": [{"port": 5000}]});
        let policy = json!({"network": {
            "services": [service("tracker", "np-tools"), service("late", "np-late"), service("moved", "np-moved")],
            "sources": [{"name": "front-door", "kind": "Gateway", "from": {"namespace": "np-gateway"}}],
            "clusterCIDRs": ["10.0.0.0/8"],
        }});
        Installation::start(plane, policy).await
    };
    INSTALLATION.get_or_init(start).await.admin()
}

/// Applies a workload of stage training.
async fn training(client: &Client, namespace: &str, name: &str, network: Value) {
    apply(client, workload(namespace, name, "Training", network))
        .await
        .unwrap();
}

/// The peers of the workload `name` of `namespace` as a rule spells them.
fn peer(namespace: &str, name: &str) -> Value {
    json!({"namespaceSelector": {"matchExpressions":
               [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [namespace]}]},
           "podSelector": {"matchLabels": {"cloison.dev/workload": name}}})
}

/// The rules of a policy in one direction, but those of the workload itself.
async fn rules(client: &Client, namespace: &str, name: &str, direction: &str) -> Vec<Value> {
    let found = spec(&policy(client, namespace, name).await);
    let rules = found[direction].as_array().cloned().unwrap_or_default();
    rules.into_iter().skip(1).collect()
}

/// Waits until a policy has these rules in one direction beside the workload's own.
async fn opens(client: &Client, namespace: &str, name: &str, direction: &str, wanted: Value) {
    eventually(
        PATIENCE,
        &format!("{namespace}/{name} {direction} {wanted}"),
        || async {
            let found = Value::Array(rules(client, namespace, name, direction).await);
            if found == wanted {
                Ok(())
            } else {
                Err(found.to_string())
            }
        },
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn each_stage_gets_its_deny() {
    let admin = admin().await;
    for stage in ["training", "evaluation", "inference"] {
        let name = format!("np-{stage}");
        namespace(&admin, &name, stage, Some("enforce")).await;
        let deny = policy(&admin, &name, names::DENY_POLICY).await;
        assert_eq!(
            spec(&deny),
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            "{stage}"
        );
        operator::sealed(&admin, &name, stage).await;
    }
    // Shared services connect to the world outside; only what comes in is theirs to refuse.
    namespace(&admin, "np-shared", "shared", Some("enforce")).await;
    let deny = policy(&admin, "np-shared", names::DENY_POLICY).await;
    assert_eq!(spec(&deny), json!({"podSelector": {}, "policyTypes": ["Ingress"]}));
}

#[tokio::test]
async fn a_flow_opens_when_both_ends_declare_it() {
    let admin = admin().await;
    namespace(&admin, "np-pair", "training", Some("enforce")).await;
    let to_store = json!({"connectTo": [{"workload": {"name": "store"}, "ports": [{"port": 6379}, {"port": 9000}]}]});
    training(&admin, "np-pair", "trainer", to_store).await;
    let (_, message) = condition(&admin, "np-pair", "trainer", "Ready", "True").await;
    assert!(
        !message.contains("FlowsSatisfied"),
        "waiting for a peer blocks nothing: {message}"
    );
    let (reason, message) = condition(&admin, "np-pair", "trainer", "FlowsSatisfied", "True").await;
    assert_eq!(reason, "AwaitingPeer");
    assert!(
        message.contains("AiWorkload np-pair/store does not exist yet"),
        "{message}"
    );

    training(&admin, "np-pair", "store", Value::Null).await;
    condition(&admin, "np-pair", "store", "Ready", "True").await;
    let said = "AiWorkload np-pair/store does not declare this flow yet";
    eventually(PATIENCE, said, || async {
        let message = flow(
            &admin,
            "np-pair",
            "trainer",
            "workload np-pair/store",
            FlowState::AwaitingPeer,
        )
        .await;
        if message.contains(said) { Ok(()) } else { Err(message) }
    })
    .await
    .unwrap();
    assert_eq!(
        rules(&admin, "np-pair", "cloison-wl-trainer", "egress").await,
        Vec::<Value>::new()
    );

    let from_trainer = json!({"acceptFrom": [{"workload": {"name": "trainer"}, "ports": [{"port": 6379}]}]});
    training(&admin, "np-pair", "store", from_trainer).await;
    flow(&admin, "np-pair", "trainer", "workload np-pair/store", FlowState::Open).await;
    let port = json!([{"protocol": "TCP", "port": 6379}]);
    let out = json!([{"to": [peer("np-pair", "store")], "ports": port}]);
    opens(&admin, "np-pair", "cloison-wl-trainer", "egress", out).await;
    let into = json!([{"from": [peer("np-pair", "trainer")], "ports": port}]);
    opens(&admin, "np-pair", "cloison-wl-store", "ingress", into).await;

    // One end takes its word back: both ends close.
    training(&admin, "np-pair", "store", Value::Null).await;
    opens(&admin, "np-pair", "cloison-wl-trainer", "egress", json!([])).await;
    opens(&admin, "np-pair", "cloison-wl-store", "ingress", json!([])).await;
}

#[tokio::test]
async fn a_flow_that_is_not_allowed_closes_itself_alone() {
    let admin = admin().await;
    namespace(&admin, "np-flows", "training", Some("enforce")).await;
    namespace(&admin, "np-serving", "inference", Some("enforce")).await;
    namespace(&admin, "np-tools", "shared", Some("enforce")).await;
    let server =
        json!({"acceptFrom": [{"workload": {"name": "nosy", "namespace": "np-flows"}, "ports": [{"port": 8000}]}]});
    apply(&admin, workload("np-serving", "server", "Inference", server))
        .await
        .unwrap();
    let https = json!([{"port": 443}]);
    let network = json!({"connectTo": [
        {"workload": {"name": "server", "namespace": "np-serving"}, "ports": [{"port": 8000}]},
        {"service": "trakcer"},
        {"cidr": "0.0.0.0/0", "ports": https},
        {"cidr": "10.20.0.0/16", "ports": https},
        {"cidr": "192.0.2.0/24", "ports": https},
        {"service": "tracker"},
    ]});
    training(&admin, "np-flows", "nosy", network).await;
    let closed = [
        (
            "workload np-serving/server",
            FlowState::Refused,
            "stage inference, this one of stage training",
        ),
        ("service trakcer", FlowState::Unresolved, "did you mean \"tracker\"?"),
        ("cidr 0.0.0.0/0", FlowState::Refused, "is every address there is"),
        (
            "cidr 10.20.0.0/16",
            FlowState::Refused,
            "meets the cluster's own range 10.0.0.0/8",
        ),
    ];
    for (name, state, why) in closed {
        let message = flow(&admin, "np-flows", "nosy", name, state).await;
        assert!(message.contains(why), "{name}: {message}");
    }
    flow(&admin, "np-flows", "nosy", "service tracker", FlowState::Open).await;
    flow(&admin, "np-flows", "nosy", "cidr 192.0.2.0/24", FlowState::Open).await;
    let (_, message) = condition(&admin, "np-flows", "nosy", "FlowsSatisfied", "False").await;
    assert!(message.contains("np-serving/server"), "{message}");
    condition(&admin, "np-flows", "nosy", "Ready", "True").await;
    condition(&admin, "np-flows", "nosy", "PoliciesIsolate", "True").await;

    // Exactly the two good flows are rendered; the other stage accepts nothing.
    let open = rules(&admin, "np-flows", "cloison-wl-nosy", "egress").await;
    let text = Value::Array(open.clone()).to_string();
    assert_eq!(open.len(), 2, "{text}");
    assert!(text.contains("192.0.2.0/24") && text.contains("np-tools"), "{text}");
    condition(&admin, "np-serving", "server", "Ready", "True").await;
    assert_eq!(
        rules(&admin, "np-serving", "cloison-wl-server", "ingress").await,
        Vec::<Value>::new()
    );
    let findings = Api::<cloison::api::AiWorkload>::namespaced(admin.clone(), "np-flows");
    let status = findings.get("nosy").await.unwrap().status.unwrap_or_default();
    let rules: Vec<String> = status.findings.into_iter().filter_map(|finding| finding.rule).collect();
    for rule in [
        "NET-03/cross-stage",
        "NET-04/unknown-service",
        "NET-04/any-address",
        "NET-04/cidr-in-cluster",
    ] {
        assert!(rules.contains(&rule.to_owned()), "{rule} is not among {rules:?}");
    }
}

#[tokio::test]
async fn host_bits_do_not_pass_the_door() {
    let admin = admin().await;
    namespace(&admin, "np-bits", "training", Some("enforce")).await;
    let network = json!({"connectTo": [{"cidr": "192.0.2.7/24", "ports": [{"port": 443}]}]});
    let answer = apply(&admin, workload("np-bits", "bits", "Training", network)).await;
    let refusal = answer.expect_err("refused").to_string();
    assert!(
        refusal.contains("NET-04/cidr must be a network without host bits"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_source_of_the_policy_comes_in_on_serving_ports() {
    let admin = admin().await;
    apply(
        &admin,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "np-gateway"}}),
    )
    .await
    .unwrap();
    namespace(&admin, "np-chat", "inference", Some("enforce")).await;
    let mut chat = workload(
        "np-chat",
        "chat",
        "Inference",
        json!({"acceptFrom": [{"source": "front-door"}]}),
    );
    chat["spec"]["runtime"] = json!("VLLM");
    apply(&admin, chat).await.unwrap();
    flow(&admin, "np-chat", "chat", "source front-door", FlowState::Open).await;
    let gateway = json!({"namespaceSelector": {"matchExpressions":
        [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["np-gateway"]}]}, "podSelector": {}});
    let wanted = json!([{"from": [gateway], "ports": [{"protocol": "TCP", "port": 8000}]}]);
    opens(&admin, "np-chat", "cloison-wl-chat", "ingress", wanted).await;
    condition(&admin, "np-chat", "chat", "PoliciesIsolate", "True").await;
}

#[tokio::test]
async fn workloads_with_awkward_names_live_side_by_side() {
    let admin = admin().await;
    namespace(&admin, "np-names", "training", Some("enforce")).await;
    let all = ["default", "default-deny", "deny", "dns", "ns-deny"];
    for name in all {
        training(&admin, "np-names", name, Value::Null).await;
    }
    for name in all {
        condition(&admin, "np-names", name, "Ready", "True").await;
    }
    let mut wanted = vec![names::DENY_POLICY.to_owned()];
    wanted.extend(all.map(|name| format!("cloison-wl-{name}")));
    policy_names(
        &admin,
        "np-names",
        &wanted.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    let deny = policy(&admin, "np-names", names::DENY_POLICY).await;
    assert_eq!(
        spec(&deny),
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    );
    for name in &all[1..] {
        let found = spec(&policy(&admin, "np-names", &format!("cloison-wl-{name}")).await);
        let own = json!({"matchLabels": {"cloison.dev/workload": name}});
        assert_eq!(found["podSelector"], own);
        assert_eq!(found["ingress"], json!([{"from": [{"podSelector": own}]}]));
    }
    // Pods without the label are those of `default`: many controllers cannot set one.
    let found = spec(&policy(&admin, "np-names", "cloison-wl-default").await);
    let unlabelled = json!({"matchExpressions": [{"key": "cloison.dev/workload", "operator": "DoesNotExist"}]});
    assert_eq!(found["podSelector"], unlabelled);
    assert_eq!(found["ingress"], json!([{"from": [{"podSelector": unlabelled}]}]));
}

/// The peers of a catalogue service's policy.
fn from(peers: &[(&str, &str)]) -> Value {
    peers.iter().map(|(namespace, name)| peer(namespace, name)).collect()
}

async fn service_admits(client: &Client, namespace: &str, service: &str, peers: &[(&str, &str)]) {
    let name = format!("cloison-svc-{service}");
    eventually(PATIENCE, &format!("{namespace}/{name} admits {peers:?}"), || async {
        let found = spec(&policy(client, namespace, &name).await);
        let first = json!([{"from": from(peers), "ports": [{"protocol": "TCP", "port": 5000}]}]);
        if found["ingress"] == first && found["podSelector"] == json!({"matchLabels": {"app": service}}) {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_catalogue_service_admits_the_workloads_that_declare_it() {
    let admin = admin().await;
    let network = || json!({"connectTo": [{"service": "late"}]});
    namespace(&admin, "np-users", "training", Some("enforce")).await;
    training(&admin, "np-users", "one", network()).await;
    training(&admin, "np-users", "two", network()).await;
    training(&admin, "np-users", "three", Value::Null).await;
    let message = flow(&admin, "np-users", "one", "service late", FlowState::Unresolved).await;
    assert!(
        message.contains("its namespace \"np-late\" does not exist"),
        "{message}"
    );
    // "The flow opens once it does."
    namespace(&admin, "np-late", "shared", Some("enforce")).await;
    flow(&admin, "np-users", "one", "service late", FlowState::Open).await;
    service_admits(&admin, "np-late", "late", &[("np-users", "one"), ("np-users", "two")]).await;
    policy_names(&admin, "np-late", &[names::DENY_POLICY, "cloison-svc-late"]).await;
    condition(&admin, "np-users", "one", "PoliciesIsolate", "True").await;
    // A word taken back closes the far side too.
    training(&admin, "np-users", "two", Value::Null).await;
    service_admits(&admin, "np-late", "late", &[("np-users", "one")]).await;
}

#[tokio::test]
async fn a_catalogue_service_follows_the_stage_of_its_users() {
    let admin = admin().await;
    namespace(&admin, "np-moved", "shared", Some("enforce")).await;
    apply(
        &admin,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "np-joins"}}),
    )
    .await
    .unwrap();
    training(&admin, "np-joins", "user", json!({"connectTo": [{"service": "moved"}]})).await;
    condition(&admin, "np-joins", "user", "Ready", "False").await;
    // The namespace joins after its workload was written.
    label(
        &admin,
        "np-joins",
        json!({"cloison.dev/stage": "training", "cloison.dev/mode": "enforce"}),
    )
    .await;
    service_admits(&admin, "np-moved", "moved", &[("np-joins", "user")]).await;
    // It becomes another stage's: its workload is refused, and the service lets nobody in.
    label(&admin, "np-joins", json!({"cloison.dev/stage": "inference"})).await;
    policy_names(&admin, "np-moved", &[names::DENY_POLICY]).await;
}
