//! Tokens of other accounts: asked for, or in a Secret that never ends.

use super::*;

#[tokio::test]
async fn only_an_account_itself_its_node_and_who_the_policy_lists_ask_for_its_token() {
    let cluster = inhabited("tokens", "training", "enforce").await;
    let admin = cluster.admin();
    for name in ["external-secrets", "tokens-2"] {
        apply(
            &admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }
    let alice = cluster.tenant("alice", "tokens", "edit").await;
    let worker = account(cluster, "tokens", "worker").await;
    // Of the same name, in a namespace that begins alike and in one that does not.
    let namesakes = [
        account(cluster, "tokens-2", "worker").await,
        account(cluster, "external-secrets", "worker").await,
    ];
    let requester = account(cluster, "external-secrets", "external-secrets").await;
    for (name, namespace, account) in [
        ("tokens-a", "tokens", "worker"),
        ("tokens-b", "tokens-2", "worker"),
        ("tokens-c", "external-secrets", "worker"),
        ("tokens-d", "external-secrets", "external-secrets"),
    ] {
        bind(cluster, name, "edit", subject(namespace, account)).await;
    }
    eventually_ok("its own", async || token(&worker, "tokens", "worker").await).await;
    eventually_ok("the listed one", async || token(&requester, "tokens", "worker").await).await;
    let said = cluster.refused(token(&alice, "tokens", "worker").await, POLICY, "IAM-06/token-request");
    assert!(said.contains("a token of ServiceAccount \"worker\""), "{said}");
    cluster.refused(
        token(&worker, "tokens", "default").await,
        POLICY,
        "IAM-06/token-request",
    );
    for namesake in &namesakes {
        eventually_refused_by(cluster, POLICY, "IAM-06/token-request", async || {
            token(namesake, "tokens", "worker").await
        })
        .await;
    }
    // A node, for a pod that it runs: nothing but the node authorizer has to let it.
    let on_node = with(pod("tokens", "p2"), json!({"spec": {"serviceAccountName": "worker"}}));
    let on_node = create(&admin, on_node).await.unwrap();
    bind_to_node(&admin, "tokens", "p2", "n1").await;
    let path = "/api/v1/namespaces/tokens/serviceaccounts/worker/token";
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p2", "uid": on_node.metadata.uid.unwrap()});
    let bound = with(token_request(), json!({"spec": {"boundObjectRef": bound}}));
    let kubelet = cluster.plane.client_as("system:node:n1", &["system:nodes"]).unwrap();
    eventually_ok("the kubelet's", async || {
        ask(&kubelet, Method::POST, path, bound.clone()).await
    })
    .await;
    // Called like a node, without being of the group.
    bind(
        cluster,
        "no-node",
        "edit",
        json!({"kind": "User", "name": "system:node:n2", "apiGroup": "rbac.authorization.k8s.io"}),
    )
    .await;
    let no_node = cluster.plane.client_as("system:node:n2", &["nodes"]).unwrap();
    eventually_refused_by(cluster, POLICY, "IAM-06/token-request", async || {
        ask(&no_node, Method::POST, path, bound.clone()).await
    })
    .await;
}

/// The controller manager's accounts have their tokens from where no stage can be.
#[tokio::test]
async fn the_control_planes_own_tokens_are_never_asked_about() {
    let cluster = cluster().await;
    let manager = cluster.plane.client_as("system:kube-controller-manager", &[]).unwrap();
    token(&manager, "kube-system", "generic-garbage-collector")
        .await
        .unwrap();
}

/// Why no canary asks for a token: the API server hands one out for a dry-run, too.
#[tokio::test]
async fn a_dry_run_of_a_token_request_is_no_dry_run() {
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token?dryRun=All";
    let answer = eventually_ok("the account is there", async || {
        ask(&cluster.admin(), Method::POST, path, token_request()).await
    })
    .await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(
        answer["status"]["token"]
            .as_str()
            .is_some_and(|token| token.len() > 100)
    );
}

#[tokio::test]
async fn no_secret_holds_a_token_that_never_ends() {
    let cluster = inhabited("forever", "training", "audit").await;
    let alice = cluster.tenant("alice", "forever", "edit").await;
    account(cluster, "forever", "other").await;
    let filled = async || {
        let secret = objects(&alice, "v1", "Secret", Some("forever")).get("forever").await;
        let secret = secret.map_err(|error| error.to_string())?;
        match secret.data["data"]["token"].as_str() {
            Some(_) => Ok(()),
            None => Err("no token".to_owned()),
        }
    };
    create(&alice, token_secret("forever")).await.unwrap();
    eventually_ok("in audit the token controller fills it", filled).await;
    set_mode(cluster, "forever", "enforce").await;
    let named = |name: &str| with(token_secret("forever"), json!({"metadata": {"name": name}}));
    let said = eventually_refused_by(cluster, POLICY, "IAM-06/token-secret", async || {
        try_create(&alice, named("second")).await
    })
    .await;
    assert!(
        said.contains("Secret \"second\" would hold a token that never ends; use a projected token"),
        "{said}"
    );
    // Any other Secret passes, with the annotation or without a type.
    try_create(&alice, with(named("second"), json!({"type": "Opaque"})))
        .await
        .unwrap();
    let plain = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain", "namespace": "forever"}, "stringData": {"a": "b"}});
    create(&alice, plain).await.unwrap();
    let change = async |name: &str, change: Value| patch(&alice, "v1", "Secret", Some("forever"), name, change).await;
    change("plain", json!({"stringData": {"a": "c"}})).await.unwrap();
    // The old one can be labelled and emptied, which ends that token, and given to nobody else.
    change("forever", json!({"metadata": {"labels": {"team": "vision"}}}))
        .await
        .unwrap();
    let other = json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "other"}}});
    cluster.refused(change("forever", other.clone()).await, POLICY, "IAM-06/token-secret");
    cluster.refused(
        change("forever", with(other, json!({"data": {"token": null}}))).await,
        POLICY,
        "IAM-06/token-secret",
    );
    delete(&alice, "v1", "Secret", Some("forever"), "forever")
        .await
        .unwrap();
    // And cannot come back.
    cluster.refused(
        create(&alice, token_secret("forever")).await,
        POLICY,
        "IAM-06/token-secret",
    );
}

/// A canary that nobody refuses leaves nothing behind.
#[tokio::test]
async fn a_canary_that_passes_makes_no_token() {
    let cluster = Cluster::start(vec![Default::default()], spec(json!({}))).await;
    let admin = cluster.admin();
    for policy in ["cloison-connect", "cloison-rbac"] {
        let binding = format!("{policy}-deny");
        delete(
            &admin,
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            None,
            &binding,
        )
        .await
        .unwrap();
        let proof = cluster.wait_until_judged("NoBinding").await;
        assert!(proof.message.starts_with(policy), "{}", proof.message);
        for (version, kind) in [("v1", "Secret"), (RBAC, "RoleBinding")] {
            let made = objects(&admin, version, kind, Some("cloison-canary"))
                .get_opt("cloison-canary")
                .await
                .unwrap();
            assert!(made.is_none(), "{made:?}");
        }
        cluster.put_in_force().await;
        cluster.wait_until_proven().await;
    }
}
