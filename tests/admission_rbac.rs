//! `cloison-rbac` on a real API server: to whom a tenant with the stock role `admin` gives rights in its namespace.
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

const POLICY: &str = "cloison-rbac";
const RBAC: &str = "rbac.authorization.k8s.io/v1";
const FOREIGN: &str = "IAM-07/foreign-account";
const EVERYONE: &str = "IAM-07/everyone";

/// The policy nobody configured.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(async || Cluster::start(vec![Default::default()], spec(json!({}))).await)
        .await
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
}

fn named(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

fn user(name: &str) -> Value {
    named("User", name)
}

fn group(name: &str) -> Value {
    named("Group", name)
}

fn binding(namespace: &str, subjects: Value) -> Value {
    json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": "team", "namespace": namespace},
           "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": subjects})
}

async fn change(client: &Client, namespace: &str, change: Value) -> Answered {
    patch(client, RBAC, "RoleBinding", Some(namespace), "team", change).await
}

async fn set_mode(cluster: &Cluster, namespace: &str, mode: &str) {
    let change = json!({"metadata": {"labels": {"cloison.dev/mode": mode}}});
    patch(&cluster.admin(), "v1", "Namespace", None, namespace, change)
        .await
        .unwrap();
}

#[tokio::test]
async fn rights_stay_with_accounts_of_the_namespace() {
    let cluster = cluster().await;
    for (namespace, stage) in [
        ("bind", "training"),
        ("bind-eval", "evaluation"),
        ("bind-infer", "inference"),
    ] {
        cluster
            .stage_namespace(namespace, stage, Some("enforce"), "default")
            .await;
        let alice = cluster.tenant("alice", namespace, "admin").await;
        let asks = async |subject: Value| {
            try_create(
                &alice,
                binding(namespace, json!([account(namespace, "worker"), subject])),
            )
            .await
        };
        let beside = format!("{namespace}-evil");
        let spelled = |namespace: &str| user(&format!("system:serviceaccount:{namespace}:worker"));
        for fine in [
            account(namespace, "default"),
            // Without a namespace it is one of here.
            json!({"kind": "ServiceAccount", "name": "default"}),
            spelled(namespace),
            user("bob"),
            user("system:serviceaccountant"),
            user("system:authenticated"),
            group("vision"),
            group("system:anonymous"),
            group("system:serviceaccounts-of-vision"),
            // Ours: the canary has its Role in a stage.
            account("cloison-system", "cloison-canary"),
            spelled("cloison-system"),
        ] {
            eventually_ok("the role is aggregated", async || asks(fine.clone()).await).await;
        }
        for (foreign, words) in [
            (
                account("elsewhere", "worker"),
                "names ServiceAccount elsewhere/worker; ",
            ),
            (account(&beside, "worker"), "names ServiceAccount bind"),
            (
                account("kube-system", "default"),
                "names ServiceAccount kube-system/default; ",
            ),
            (
                spelled("elsewhere"),
                "names User system:serviceaccount:elsewhere:worker; ",
            ),
            (spelled(&beside), "names User system:serviceaccount:bind"),
            (
                spelled("cloison-system-2"),
                "names User system:serviceaccount:cloison-system-2:worker; ",
            ),
        ] {
            let said = cluster.refused(asks(foreign).await, POLICY, FOREIGN);
            assert!(said.contains(words), "{said}");
        }
        for (everyone, words) in [
            (
                group("system:serviceaccounts"),
                "names Group system:serviceaccounts; name the accounts one by one",
            ),
            (
                group(&format!("system:serviceaccounts:{namespace}")),
                "names Group system:serviceaccounts:bind",
            ),
            (
                group("system:serviceaccounts:elsewhere"),
                "names Group system:serviceaccounts:elsewhere; ",
            ),
            (group("system:authenticated"), "names Group system:authenticated; "),
            (group("system:unauthenticated"), "names Group system:unauthenticated; "),
            (user("system:anonymous"), "names User system:anonymous; "),
        ] {
            let said = cluster.refused(asks(everyone).await, POLICY, EVERYONE);
            assert!(said.contains(words), "{said}");
        }
        // A line break in a name costs the message its detail, and lets nothing in.
        let broken = asks(user("system:serviceaccount:elsewhere:a\nb"))
            .await
            .unwrap_err()
            .to_string();
        assert!(broken.contains(POLICY), "{broken}");
    }
    // Nobody at all, and where no AI runs.
    let alice = cluster.plane.client_as("alice", &[]).unwrap();
    try_create(&alice, binding("bind", json!([]))).await.unwrap();
    let bare = json!({"apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"generateName": "team-", "namespace": "bind"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    try_create(&alice, bare).await.unwrap();
    cluster
        .stage_namespace("bind-shared", "shared", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "bind-shared", "admin").await;
    try_create(&alice, binding("bind-shared", json!([account("bind", "default")])))
        .await
        .unwrap();
}

/// An update is judged by whom it adds.
#[tokio::test]
async fn an_old_binding_can_be_kept_and_cut_and_not_widened() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("older", "training", Some("audit"), "default")
        .await;
    let alice = cluster.tenant("alice", "older", "admin").await;
    let (one, two) = (account("elsewhere", "one"), account("elsewhere", "two"));
    let everybody = group("system:authenticated");
    let old = json!([one, everybody, account("older", "default")]);
    eventually_ok("the role is aggregated", async || {
        try_create(&alice, binding("older", old.clone())).await
    })
    .await;
    create(&alice, binding("older", old.clone())).await.unwrap();
    set_mode(cluster, "older", "enforce").await;
    let another = with(binding("older", json!([two])), json!({"metadata": {"name": "another"}}));
    eventually_refused_by(cluster, POLICY, FOREIGN, async || {
        try_create(&alice, another.clone()).await
    })
    .await;
    let subjects = async |subjects: Value| change(&alice, "older", json!({"subjects": subjects})).await;
    change(&alice, "older", json!({"metadata": {"labels": {"team": "vision"}}}))
        .await
        .unwrap();
    subjects(json!([everybody, one, user("bob"), account("older", "worker")]))
        .await
        .unwrap();
    let said = cluster.refused(subjects(json!([one, two, everybody])).await, POLICY, FOREIGN);
    assert!(
        said.contains("names ServiceAccount elsewhere/two; "),
        "only the new one: {said}"
    );
    // The same account by its other name, and the same name in another place.
    cluster.refused(
        subjects(json!([one, user("system:serviceaccount:elsewhere:one")])).await,
        POLICY,
        FOREIGN,
    );
    cluster.refused(
        subjects(json!([one, account("elsewhere-2", "one")])).await,
        POLICY,
        FOREIGN,
    );
    cluster.refused(
        subjects(json!([one, everybody, group("system:serviceaccounts")])).await,
        POLICY,
        EVERYONE,
    );
    // What is gone does not come back.
    subjects(json!([everybody])).await.unwrap();
    cluster.refused(subjects(json!([everybody, one])).await, POLICY, FOREIGN);
    delete(&alice, RBAC, "RoleBinding", Some("older"), "team")
        .await
        .unwrap();
    cluster.refused(create(&alice, binding("older", old)).await, POLICY, FOREIGN);
}

#[tokio::test]
async fn the_namespace_picks_the_binding() {
    let cluster = cluster().await;
    cluster
        .stage_namespace("bind-modes", "inference", Some("warn"), "default")
        .await;
    let alice = cluster.tenant("alice", "bind-modes", "admin").await;
    let foreign = binding("bind-modes", json!([account("elsewhere", "a")]));
    let warnings = async || {
        let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/bind-modes/rolebindings?dryRun=All";
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&foreign).unwrap().into())
            .unwrap();
        let response = alice.send(request).await.unwrap();
        let headers = response.headers().get_all("warning");
        let heard: Vec<String> = headers.iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        (response.status().as_u16(), heard)
    };
    eventually_ok("warn is heard, and lets it pass", async || match warnings().await {
        (201, heard)
            if heard
                .iter()
                .any(|it| it.contains("cloison-rbac-warn") && it.contains(FOREIGN)) =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    set_mode(cluster, "bind-modes", "audit").await;
    eventually_ok("audit is silent", async || match warnings().await {
        (201, heard) if heard.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    set_mode(cluster, "bind-modes", "enforce").await;
    eventually_refused_by(cluster, POLICY, FOREIGN, async || {
        try_create(&alice, foreign.clone()).await
    })
    .await;
}

#[tokio::test]
async fn a_person_may_break_glass_and_a_program_may_not() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    cluster
        .stage_namespace("bind-glass", "training", Some("enforce"), "default")
        .await;
    let rights = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "clusterroles"], "verbs": ["create", "bind"]});
    let bypass = json!({"apiGroups": ["cloison.dev"], "resources": ["protections"], "verbs": ["bypass"]});
    cluster.grant_user("nora", json!([rights])).await;
    cluster.grant_user("omar", json!([rights, bypass])).await;
    apply(
        &admin,
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "argocd", "namespace": "default"}}),
    )
    .await;
    apply(
        &admin,
        json!({"apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": {"name": "argocd"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
               "subjects": [account("default", "argocd")]}),
    )
    .await;
    let argo = cluster.plane.service_account("default", "argocd").await.unwrap();
    let (nora, omar) = (
        cluster.plane.client_as("nora", &[]).unwrap(),
        cluster.plane.client_as("omar", &[]).unwrap(),
    );
    for (subject, rule) in [
        (account("monitoring", "prometheus"), FOREIGN),
        (group("system:authenticated"), EVERYONE),
    ] {
        let asked = binding("bind-glass", json!([subject]));
        for nobody in [&nora, &argo] {
            eventually_refused_by(cluster, POLICY, rule, async || try_create(nobody, asked.clone()).await).await;
        }
        for person in [&omar, &admin] {
            eventually_ok("a person's", async || try_create(person, asked.clone()).await).await;
        }
    }
}

/// Ten thousand subjects are judged, not refused for their number: an expression that costs too much is an error, and
/// errors refuse.
#[tokio::test]
async fn many_subjects_stay_within_the_budget() {
    const MANY: usize = 10_000;
    let options = ApiServerOptions {
        minor: Minor::V1_33,
        ..ApiServerOptions::default()
    };
    let cluster = Cluster::start(vec![options], spec(json!({}))).await;
    cluster
        .stage_namespace("many", "training", Some("enforce"), "default")
        .await;
    let alice = cluster.tenant("alice", "many", "admin").await;
    let accounts = |namespace: &str| -> Vec<Value> {
        (0..MANY)
            .map(|n| account(namespace, &format!("account-{n:05}")))
            .collect()
    };
    let users = |prefix: &str| -> Vec<Value> { (0..MANY).map(|n| user(&format!("{prefix}user-{n:05}"))).collect() };
    let groups: Vec<Value> = (0..MANY).map(|n| group(&format!("group-{n:05}"))).collect();
    eventually_ok("the role is aggregated", async || {
        try_create(&alice, binding("many", json!([]))).await
    })
    .await;
    for fine in [
        accounts("many"),
        users(""),
        users("system:serviceaccount:many:"),
        groups,
    ] {
        try_create(&alice, binding("many", json!(fine))).await.unwrap();
    }
    for foreign in [accounts("elsewhere"), users("system:serviceaccount:elsewhere:")] {
        let said = cluster.refused(
            try_create(&alice, binding("many", json!(foreign))).await,
            POLICY,
            FOREIGN,
        );
        assert!(said.contains("-00000 and 9999 more; "), "{said}");
    }
    // One more beside them.
    create(&alice, binding("many", json!(accounts("many")))).await.unwrap();
    let mut more = accounts("many");
    more.push(account("many", "another"));
    change(&alice, "many", json!({"subjects": more})).await.unwrap();
    more.push(account("elsewhere", "one"));
    let said = cluster.refused(change(&alice, "many", json!({"subjects": more})).await, POLICY, FOREIGN);
    assert!(said.contains("names ServiceAccount elsewhere/one; "), "{said}");
}

/// A namespace with a foreign binding ends like any other, and no deletion is asked about.
#[tokio::test]
async fn a_namespace_with_a_foreign_binding_ends() {
    let cluster = cluster().await;
    let admin = cluster.admin();
    cluster
        .stage_namespace("ends", "training", Some("enforce"), "default")
        .await;
    create(&admin, binding("ends", json!([account("elsewhere", "a")])))
        .await
        .unwrap();
    delete(&admin, "v1", "Namespace", None, "ends").await.unwrap();
    gone(&objects(&admin, "v1", "Namespace", None), "ends").await;
}
