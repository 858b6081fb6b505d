//! `cloison status`: what is not Ready, and how old the proofs are.

use cloison::api::names;
use serde_json::{Value, json};

use crate::common::apply;
use crate::{cloison, cluster, common, contains, operator, until};

/// The Lease of a controller that renewed it so many minutes ago.
fn lease(minutes: i64) -> Value {
    let renewed = k8s_openapi::jiff::Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_mins(minutes);
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": names::CONTROLLER_LEASE, "namespace": names::DEFAULT_NAMESPACE},
        "spec": {"holderIdentity": "pod-1", "leaseDurationSeconds": 30, "renewTime": format!("{renewed:.6}")},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_how_old_everything_is() {
    let (cluster, admin, tenant) = cluster().await;
    let client = cluster.admin();
    let controller = cluster.operator().await;
    apply(
        &client,
        operator::workload("vision-train", "default", "Training", Value::Null),
    )
    .await;
    let none = cloison(&admin, &["status", "-A"]);
    assert_eq!(none.code, 1, "{none:?}");
    contains(
        &none,
        &[
            "STALE: there is no Lease cloison-system/cloison-controller",
            "the controller has not looked at it yet",
        ],
    );
    let status = |truth: &str| {
        json!({"status": {"observedGeneration": 1, "mode": "Enforce", "conditions": [
            {"type": "Ready", "status": truth, "reason": "ConditionNotMet", "message": "a\nb", "lastTransitionTime": "2026-11-22T12:00:00Z"},
        ]}})
    };
    let write = async |truth: &str| {
        common::patch_status(
            &controller,
            "cloison.dev/v1alpha1",
            "AiWorkload",
            Some("vision-train"),
            "default",
            status(truth),
        )
        .await
        .unwrap();
    };
    write("True").await;
    apply(&client, lease(0)).await;
    let fresh = cloison(&admin, &["status", "-n", "vision-train"]);
    assert_eq!(fresh.code, 0, "{fresh:?}");
    contains(
        &fresh,
        &[
            "controller pod-1 renewed its lease",
            "vision-train   default    Training   Enforce   True",
        ],
    );
    apply(&client, lease(200)).await;
    let stale = cloison(&admin, &["status", "-n", "vision-train"]);
    assert_eq!(stale.code, 1, "{stale:?}");
    contains(
        &stale,
        &["STALE: the controller last renewed its lease 3 h ago; every condition below is as old\n"],
    );
    apply(&client, lease(0)).await;
    write("False").await;
    let unready = cloison(&admin, &["status", "-A", "-o", "json"]);
    assert_eq!(unready.code, 1, "{unready:?}");
    let read: Value = serde_json::from_str(&unready.out).unwrap();
    assert_eq!(
        (&read["controller"]["stale"], &read["workloads"][0]["ready"]),
        (&json!(false), &json!("False"))
    );
    let table = cloison(&admin, &["status", "-A"]);
    contains(
        &table,
        &["False   Unknown    Unknown     Unknown    ConditionNotMet: a b\n"],
    );
    // What was said about another generation says nothing about this one.
    write("True").await;
    let mut changed = operator::workload("vision-train", "default", "Training", Value::Null);
    changed["spec"]["purpose"] = json!("Something else that is worth testing");
    apply(&client, changed).await;
    let behind = cloison(&admin, &["status", "-A"]);
    assert_eq!(behind.code, 1, "{behind:?}");
    contains(&behind, &["the controller has not looked at the last change yet"]);
    // What may not be read is said to be unknown, and the rest goes on.
    let reading = json!([{"apiGroups": [names::GROUP], "resources": ["aiworkloads"], "verbs": ["list"]}]);
    cluster.grant_user("mona", reading).await;
    let theirs = until(&tenant, &["status"], "default").await;
    contains(
        &theirs,
        &[
            "how old this is cannot be told: you may not read Leases",
            "the cluster's conditions cannot be told",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_why_say_how_old_a_proof_can_be_in_the_same_words() {
    let (cluster, admin, _) = cluster().await;
    let client = cluster.admin();
    let controller = cluster.operator().await;
    let version = "cloison.dev/v1alpha1";
    let policy = json!({
        "apiVersion": version, "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"secrets": {"proofMaxAgeHours": 36}},
    });
    apply(&client, policy).await;
    apply(
        &client,
        operator::workload("vision-train", "default", "Training", Value::Null),
    )
    .await;
    let since = k8s_openapi::jiff::Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_hours(23);
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": format!("{since:.0}")});
    let proven = json!({"status": {"conditions": [condition("SecretsEncrypted", "True")]}});
    common::patch_status(&controller, version, "AiSecurityPolicy", None, "default", proven)
        .await
        .unwrap();
    let ready = json!({"status": {"observedGeneration": 1, "mode": "Enforce", "conditions": [
        condition("Ready", "True"), condition("SecretsEncrypted", "Unknown"),
    ]}});
    common::patch_status(
        &controller,
        version,
        "AiWorkload",
        Some("vision-train"),
        "default",
        ready,
    )
    .await
    .unwrap();
    let both = || {
        ["status", "why"].map(|verb| match verb {
            "why" => cloison(&admin, &["why", "aiw/default", "-n", "vision-train"]),
            other => cloison(&admin, &[other, "-n", "vision-train"]),
        })
    };

    apply(&client, lease(0)).await;
    let [status, why] = both();
    assert_eq!((status.code, why.code), (0, 0), "{status:?}\n{why:?}");
    let proof = "SecretsEncrypted: True for 23 h; its proof is at most 36 h old (secrets.proofMaxAgeHours)\n";
    contains(&status, &[proof, "AdmissionEnforced: nothing is proven yet\n"]);
    contains(
        &why,
        &[
            "controller pod-1 renewed its lease",
            "SecretsEncrypted   Unknown   23 h   R",
        ],
    );

    apply(&client, lease(300)).await;
    let [status, why] = both();
    assert_eq!((status.code, why.code), (1, 1), "{status:?}\n{why:?}");
    let proof =
        "SecretsEncrypted: True for 23 h; its proof is at least 5 h old, for nobody looked since, and at most 41 h\n";
    contains(&status, &[proof]);
    for said in [&status, &why] {
        contains(
            said,
            &["STALE: the controller last renewed its lease 5 h ago; every condition below is as old\n"],
        );
    }

    apply(&client, lease(0)).await;
    let mut changed = operator::workload("vision-train", "default", "Training", Value::Null);
    changed["spec"]["purpose"] = json!("Something else that is worth testing");
    apply(&client, changed).await;
    let [status, why] = both();
    assert_eq!((status.code, why.code), (1, 1), "{status:?}\n{why:?}");
    for said in [&status, &why] {
        contains(said, &["the controller has not looked at the last change yet"]);
    }
}
