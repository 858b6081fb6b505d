//! `cloison-guard` on a real API server: an agent reports of its own node alone, and the ring lets in whom a person let in.
//! The agents' tokens are real ones, bound to pods; the API server writes the node into them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use cloison::api::names;
use common::*;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

const POLICY: &str = "cloison-guard";
const RULE: &str = "CLU-04/agent-object";
const CLOISON: &str = "cloison.dev/v1alpha1";
const REPORT: &str = "ControlPlaneReport";
const RING: &str = "EncryptionKeyRing";

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(async || {
            let cluster = Cluster::start(vec![Default::default()], spec(json!({}))).await;
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": names::AGENT_ACCOUNT, "namespace": names::DEFAULT_NAMESPACE}});
            apply(&cluster.admin(), account).await;
            cluster
        })
        .await
}

/// The agent on a node, by a token that is bound to its pod there.
async fn agent(cluster: &Cluster, node: &str) -> Client {
    let admin = cluster.admin();
    apply(
        &admin,
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}),
    )
    .await;
    let name = format!("agent-on-{node}");
    let pod = with(
        pod(names::DEFAULT_NAMESPACE, &name),
        json!({"spec": {"nodeName": node, "serviceAccountName": names::AGENT_ACCOUNT}}),
    );
    let pod = apply(&admin, pod).await;
    let request = TokenRequest {
        spec: TokenRequestSpec {
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name.clone()),
                uid: pod.metadata.uid,
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, names::DEFAULT_NAMESPACE);
    let answer = accounts
        .create_token_request(names::AGENT_ACCOUNT, &PostParams::default(), &request)
        .await
        .unwrap();
    let token = answer.status.unwrap().token;
    cluster
        .plane
        .api_server(0)
        .identity_of_token(&name, &token)
        .client()
        .unwrap()
}

fn report(node: &str) -> Value {
    json!({"apiVersion": CLOISON, "kind": REPORT, "metadata": {"name": node},
           "spec": {"observedTime": "2026-11-26T04:00:00Z"}})
}

fn member(node: &str, recipient: &str) -> Value {
    json!({"node": node, "recipient": recipient, "joinedTime": "2026-11-26T04:00:00Z"})
}

fn key(id: i64, recipients: &[&str]) -> Value {
    let sealed = format!("-----BEGIN AGE ENCRYPTED FILE-----\n{}\n", "Z".repeat(64));
    let wraps: Vec<Value> = recipients
        .iter()
        .map(|r| json!({"recipient": r, "sealed": sealed}))
        .collect();
    json!({"id": id, "name": format!("k{id}"), "provider": "AESGCM", "origin": "Minted", "wraps": wraps,
           "creationTime": "2026-11-26T04:00:00Z", "commitment": format!("sha256:{}", "c".repeat(64))})
}

fn ring(last: i64, members: Value, keys: Value) -> Value {
    json!({"apiVersion": CLOISON, "kind": RING, "metadata": {"name": "default"},
           "spec": {"lastID": last, "members": members, "keys": keys, "escrow": ["age1offline"]}})
}

fn rings(client: &Client) -> Api<DynamicObject> {
    objects(client, CLOISON, RING, None)
}

/// Replaces the ring by one with another spec.
async fn write(client: &Client, admin: &Client, wanted: Value) -> Answered {
    let mut next = serde_json::to_value(rings(admin).get("default").await.unwrap()).unwrap();
    next["spec"] = wanted["spec"].clone();
    let next: DynamicObject = serde_json::from_value(next).unwrap();
    rings(client).replace("default", &Default::default(), &next).await
}

#[tokio::test]
async fn a_report_is_of_the_agent_on_that_node() {
    let cluster = cluster().await;
    let (one, two) = (agent(cluster, "cp-1").await, agent(cluster, "cp-2").await);
    let admin = cluster.admin();
    eventually_ok("the agent's role arrives", async || {
        try_create(&one, report("cp-1")).await
    })
    .await;
    create(&one, report("cp-1")).await.unwrap();
    let forged = json!({"spec": {"error": "all is well"}});
    // By the other agent: made, changed, taken away, with every verb its role could ever have.
    let rules =
        json!([{"apiGroups": ["cloison.dev"], "resources": ["controlplanereports"], "verbs": ["update", "delete"]}]);
    cluster.grant_more(names::AGENT_ACCOUNT, rules.clone()).await;
    let said = cluster.refused(try_create(&two, report("cp-3")).await, POLICY, RULE);
    assert!(
        said.contains("\"cp-3\"") && said.contains("this is the agent on cp-2"),
        "{said}"
    );
    cluster.refused(
        patch(&two, CLOISON, REPORT, None, "cp-1", forged.clone()).await,
        POLICY,
        RULE,
    );
    eventually_refused_by(cluster, POLICY, RULE, async || {
        delete(&two, CLOISON, REPORT, None, "cp-1").await
    })
    .await;
    // By the agent's account with a token that is of no node, by the operator, and by another program on that node.
    let unbound = cluster
        .plane
        .service_account(names::DEFAULT_NAMESPACE, names::AGENT_ACCOUNT)
        .await
        .unwrap();
    cluster.refused(
        patch(&unbound, CLOISON, REPORT, None, "cp-1", forged.clone()).await,
        POLICY,
        RULE,
    );
    let rules =
        json!([{"apiGroups": ["cloison.dev"], "resources": ["controlplanereports"], "verbs": ["get", "patch"]}]);
    cluster.grant_more(names::CONTROLLER_ACCOUNT, rules).await;
    let operator = cluster.operator().await;
    eventually_ok("the operator's right arrives", async || {
        objects(&operator, CLOISON, REPORT, None).get("cp-1").await
    })
    .await;
    cluster.refused(
        patch(&operator, CLOISON, REPORT, None, "cp-1", forged.clone()).await,
        POLICY,
        RULE,
    );
    // Its own agent writes it; what changes nothing is nobody's business; a person may break glass.
    patch(&one, CLOISON, REPORT, None, "cp-1", forged.clone())
        .await
        .unwrap();
    patch(&two, CLOISON, REPORT, None, "cp-1", forged).await.unwrap();
    delete(&admin, CLOISON, REPORT, None, "cp-1").await.unwrap();
}

#[tokio::test]
async fn the_ring_lets_in_whom_a_person_let_in() {
    let cluster = cluster().await;
    let (one, two) = (agent(cluster, "cp-a").await, agent(cluster, "cp-b").await);
    let admin = cluster.admin();
    let (a, b) = (member("cp-a", "age1aaaa"), member("cp-b", "age1bbbb"));
    let refused = |answer: Answered, what: &str| {
        let said = cluster.refused(answer, POLICY, RULE);
        assert!(said.contains(what), "{what}: {said}");
    };
    let empty = ring(0, json!([a]), json!([]));
    eventually_ok("the agent's role arrives", async || {
        try_create(&one, empty.clone()).await
    })
    .await;
    // The first ring is of the agent that makes it, and has no key.
    refused(
        try_create(&one, ring(1, json!([a]), json!([key(1, &["age1aaaa"])]))).await,
        "by agents on nodes that are in it",
    );
    refused(
        try_create(&one, ring(0, json!([a, b]), json!([]))).await,
        "nobody approved this identity of cp-b",
    );
    let unbound = cluster
        .plane
        .service_account(names::DEFAULT_NAMESPACE, names::AGENT_ACCOUNT)
        .await
        .unwrap();
    refused(
        try_create(&unbound, empty.clone()).await,
        "by agents on nodes that are in it",
    );
    create(&one, empty).await.unwrap();
    // While there is no key an agent joins for itself, and for nobody else.
    let c = member("cp-c", "age1cccc");
    refused(
        write(&two, &admin, ring(0, json!([a, b, c]), json!([]))).await,
        "nobody approved this identity of cp-c",
    );
    write(&two, &admin, ring(0, json!([a, b]), json!([]))).await.unwrap();
    write(&two, &admin, ring(0, json!([a]), json!([]))).await.unwrap();
    // A key is for members and escrow alone.
    let sealed = |extra: &str| json!([key(1, &["age1aaaa", "age1offline", extra])]);
    refused(
        write(&one, &admin, ring(1, json!([a]), sealed("age1thief"))).await,
        "sealed for somebody who is neither member nor escrow: k1",
    );
    let keys = json!([key(1, &["age1aaaa", "age1offline"])]);
    write(&one, &admin, ring(1, json!([a]), keys.clone())).await.unwrap();
    // Now nobody joins who was not approved, under that identity; whoever is no member writes nothing at all.
    refused(
        write(&two, &admin, ring(1, json!([a, b]), keys.clone())).await,
        "cp-b is not",
    );
    refused(
        write(&one, &admin, ring(1, json!([a, b]), keys.clone())).await,
        "nobody approved this identity of cp-b",
    );

    let approval = |by: &str, recipient: &str| json!({"status": {"approvals": [{"node": "cp-b", "recipient": recipient, "by": by, "time": "2026-11-26T04:00:00Z"}]}});
    let approve =
        async |client: &Client, change: Value| patch_status(client, CLOISON, RING, None, "default", change).await;
    let rules = json!([{"apiGroups": ["cloison.dev"], "resources": ["encryptionkeyrings/status"], "verbs": ["patch"]}]);
    cluster.grant_user("ana@example.com", rules.clone()).await;
    cluster.grant_user("system:node:cp-b", rules.clone()).await;
    cluster.grant_more(names::AGENT_ACCOUNT, rules).await;
    let ana = cluster.plane.client_as("ana@example.com", &[]).unwrap();
    let kubelet = cluster.plane.client_as("system:node:cp-b", &[]).unwrap();
    eventually_ok("the rights arrive", async || {
        approve(&ana, json!({"metadata": {"labels": {"x": "y"}}})).await
    })
    .await;
    let agent_user = format!(
        "system:serviceaccount:{}:{}",
        names::DEFAULT_NAMESPACE,
        names::AGENT_ACCOUNT
    );
    for (client, by) in [
        (&ana, "bob@example.com"),
        (&admin, "ana@example.com"),
        (&two, &agent_user),
        (&kubelet, "system:node:cp-b"),
    ] {
        let attempt = async || approve(client, approval(by, "age1bbbb")).await;
        eventually_refused_by(cluster, POLICY, "CLU-04/approval", attempt).await;
    }
    approve(&ana, approval("ana@example.com", "age1bbbb")).await.unwrap();
    let other = member("cp-b", "age1other");
    refused(
        write(&one, &admin, ring(1, json!([a, other]), keys.clone())).await,
        "nobody approved this identity of cp-b",
    );
    let both = ring(
        1,
        json!([a, b]),
        json!([key(1, &["age1aaaa", "age1bbbb", "age1offline"])]),
    );
    write(&one, &admin, both.clone()).await.unwrap();
    write(&two, &admin, ring(1, json!([a, b]), keys)).await.unwrap();
    // Nobody but a person who may break glass takes the ring away; a tenant's or a program's right to write is none.
    let rules =
        json!([{"apiGroups": ["cloison.dev"], "resources": ["encryptionkeyrings"], "verbs": ["delete", "update"]}]);
    cluster.grant_more(names::AGENT_ACCOUNT, rules.clone()).await;
    cluster.grant_user("ana@example.com", rules).await;
    for client in [&one, &ana] {
        let attempt = async || delete(client, CLOISON, RING, None, "default").await;
        let said = eventually_refused_by(cluster, POLICY, RULE, attempt).await;
        assert!(said.contains("the Secrets are lost"), "{said}");
    }
    refused(
        write(&ana, &admin, ring(1, json!([a]), both["spec"]["keys"].clone())).await,
        "by agents on nodes",
    );
    delete(&admin, CLOISON, RING, None, "default").await.unwrap();
}
