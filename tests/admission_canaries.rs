//! The proof that policies are in force, on API servers of the newest and the oldest supported version, and on one that
//! does not evaluate them at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole

#[path = "common/admission.rs"]
mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use cloison::admission::judge;
use cloison::api::conditions::Truth;
use cloison_testbed::{ApiServerOptions, Minor};
use common::*;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

fn minor(minor: Minor) -> ApiServerOptions {
    ApiServerOptions {
        minor,
        ..ApiServerOptions::default()
    }
}

/// Every constant that the policy can bring is in these policies.
fn everything() -> Value {
    json!({
        "mode": "Warn",
        "controls": [{"id": "SUP-01", "mode": "Enforce"}, {"id": "ENC-02", "mode": "Enforce"}, {"id": "ENC-04", "mode": "Enforce"},
                     {"id": "NET-11", "mode": "Enforce"}, {"id": "WKL-04", "mode": "Enforce"}, {"id": "WKL-01", "perStage": {"training": "Audit"}, "reason": "migration"}],
        "pods": {
            "images": [{"prefix": "registry.example.com"}, {"prefix": "docker.io", "digest": "Optional", "stages": ["Training"]}],
            "addCapabilities": [{"capability": "IPC_LOCK", "stages": ["Training"]}],
            "inlineCSIDrivers": ["secrets-store.csi.k8s.io"],
        },
        "prohibitedUses": ["SocialScoring"], "restrictedUses": ["BiometricIdentification"],
        "secrets": {"encryptedStorageClasses": ["gold"]},
        "network": {"mesh": "Linkerd", "dedicatedInterfaces": [{"name": "n", "networkAttachment": "a/b", "stages": ["Training"]}]},
    })
}

/// Every control of the pod and AiWorkload policies in one mode: what is left of a list of clauses may be nothing.
fn all(mode: &str) -> Value {
    let ids = [
        "NET-01", "NET-02", "NET-11", "WKL-01", "WKL-02", "WKL-04", "SUP-01", "ENC-04", "DAT-07", "ECO-01", "IAM-01",
    ];
    let off = ids.map(|id| json!({"id": id, "mode": mode, "reason": "migration"}));
    json!({"controls": off, "pods": {"images": [{"prefix": "registry.example.com"}]}, "restrictedUses": []})
}

#[tokio::test]
async fn true_only_when_every_api_server_refuses_by_this_generation() {
    let cluster = Cluster::start(vec![minor(Minor::V1_36), minor(Minor::V1_33)], spec(json!({}))).await;
    let identities = cluster.identities().await;
    assert_eq!(identities.len(), 2);
    let proof = cluster.proof(&identities).await;
    assert_eq!(
        (proof.truth, proof.reason),
        (Truth::True, "CanariesRefused"),
        "{}",
        proof.message
    );

    // Another hash is another generation.
    let canaries = cluster.canaries();
    let answers = cluster.ask_canaries(&canaries).await;
    let proof = judge(&canaries, &answers, &identities, "ffffffff");
    assert_eq!(
        (proof.truth, proof.reason),
        (Truth::False, "OldHash"),
        "{}",
        proof.message
    );
    // An API server that holds a lease and was not asked.
    let more = [identities.clone(), vec!["apiserver-unseen".to_owned()]].concat();
    let proof = judge(&canaries, &answers, &more, &cluster.set().hash);
    assert_eq!(
        (proof.truth, proof.reason),
        (Truth::Unknown, "ReplicaMissing"),
        "{}",
        proof.message
    );

    // A binding goes: that policy refuses no more, the others do.
    let admin = cluster.admin();
    for binding in ["cloison-pod-deny", "cloison-namespace-deny"] {
        delete(&admin, ADMISSION, "ValidatingAdmissionPolicyBinding", None, binding)
            .await
            .unwrap();
        let proof = cluster.wait_until_judged("NoBinding").await;
        assert_eq!(proof.truth, Truth::False);
        let policy = binding.strip_suffix("-deny").unwrap();
        assert!(proof.message.starts_with(policy), "{}", proof.message);
        cluster.put_in_force().await;
        cluster.wait_until_proven().await;
    }

    // The gate of the canaries' namespace is closed, so nothing can be said about pods.
    let unsealed = json!({"metadata": {"annotations": {"cloison.dev/sealed": null}}});
    patch(&admin, "v1", "Namespace", None, "cloison-canary", unsealed)
        .await
        .unwrap();
    assert_eq!(cluster.wait_until_judged("ControlRefused").await.truth, Truth::Unknown);
    cluster.seal("cloison-canary", "training", "default").await;
    cluster.wait_until_proven().await;

    // A right of the canary goes: RBAC refuses, which proves nothing.
    let role = objects(&admin, "rbac.authorization.k8s.io/v1", "Role", Some("cloison-canary"));
    role.delete("cloison-canary-dry-run", &Default::default())
        .await
        .unwrap();
    assert_eq!(cluster.wait_until_judged("RefusedByOther").await.truth, Truth::Unknown);
}

#[tokio::test]
async fn false_while_one_api_server_evaluates_nothing() {
    let blind = ApiServerOptions {
        disable_admission_plugins: vec!["ValidatingAdmissionPolicy".to_owned()],
        ..ApiServerOptions::default()
    };
    let cluster = Cluster::start_unproven(vec![ApiServerOptions::default(), blind], spec(json!({}))).await;
    let blind = cluster.plane.api_server(1).identity_lease().await.unwrap();
    let proof = cluster.wait_until_judged("PluginDisabled").await;
    // Until the first API server refuses, it is named as well; then only the blind one is left.
    assert_eq!(proof.truth, Truth::False);
    cloison_testbed::eventually(SOON, "only the blind one is named", async || {
        let proof = cluster.proof(&cluster.identities().await).await;
        if proof.message.contains(&blind) && proof.reason == "PluginDisabled" {
            Ok(())
        } else {
            Err(proof.message)
        }
    })
    .await
    .unwrap();
}

/// The controller manager reports what a type checker finds; on either version it finds nothing, and the policies of
/// another spec replace the first ones everywhere.
#[tokio::test]
async fn the_policies_type_check_on_both_versions() {
    for version in [Minor::V1_33, Minor::V1_36] {
        let cluster = Cluster::start_type_checked(vec![minor(version)], spec(json!({}))).await;
        for round in [json!({}), everything(), all("Audit"), all("Disabled")] {
            cluster.replace_policy(spec(round)).await;
            let policies = objects(&cluster.admin(), ADMISSION, "ValidatingAdmissionPolicy", None);
            for policy in &cluster.set().policies {
                let name = policy.metadata.name.as_deref().unwrap();
                let checked = async || {
                    let policy = policies.get(name).await.map_err(|error| error.to_string())?;
                    let observed = &policy.data["status"]["observedGeneration"];
                    if observed.as_i64() == policy.metadata.generation {
                        Ok(policy)
                    } else {
                        Err(format!("observed {observed}"))
                    }
                };
                let policy = eventually_ok("the policy is type-checked", checked).await;
                let warnings = &policy.data["status"]["typeChecking"]["expressionWarnings"];
                assert!(
                    warnings.as_array().is_none_or(Vec::is_empty),
                    "{version:?} {name}: {warnings:#}"
                );
            }
        }
    }
}

/// The API server gives one expression a million units of cost. The longest policy and a huge pod stay below, or every
/// such pod would be refused for its size.
#[tokio::test]
async fn the_worst_case_stays_within_the_budget() {
    let images: Vec<Value> = (0..64)
        .map(|n| json!({"prefix": format!("registry.example.com/{}{n}", "x".repeat(220)), "stages": ["Inference"]}))
        .chain([json!({"prefix": "registry.example.com/ok"})])
        .skip(1)
        .collect();
    // So many uses have no room in an audit annotation, and the policy is taken all the same.
    let uses: Vec<String> = (0..64).map(|n| format!("Use{n:02}{}", "x".repeat(58))).collect();
    // What looks at every variable is refused, so that the lists of all of them are made.
    let said = ["ENC-04", "NET-11", "WKL-04"].map(|id| json!({"id": id, "mode": "Enforce"}));
    let largest = spec(
        json!({"pods": {"images": images}, "restrictedUses": uses, "network": {"mesh": "Istio"}, "controls": said}),
    );
    let cluster = Cluster::start(vec![minor(Minor::V1_36), minor(Minor::V1_33)], largest).await;
    let open: Vec<String> = (0..500).map(|n| format!("workload-with-a-name-{n}")).collect();
    let open = format!("{} default", open.join(" "));
    cluster
        .stage_namespace("huge", "inference", Some("enforce"), &open)
        .await;
    let image = format!("registry.example.com/ok@{}", digest());
    let env: Vec<Value> = (0..10_000)
        .map(|n| {
            if n % 2 == 0 {
                // Such as a token may begin with, and so looked at more closely.
                json!({"name": format!("V{n}"), "value": "glpat-0123456789"})
            } else {
                json!({"name": format!("V{n}"), "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
            }
        })
        .collect();
    let volumes: Vec<Value> = (0..100)
        .map(|n| json!({"name": format!("v{n}"), "emptyDir": {"medium": "Memory"}}))
        .collect();
    let containers = |number: usize| -> Vec<Value> {
        let each = env.chunks(env.len() / number).enumerate();
        each.map(|(n, env)| {
            json!({"name": format!("c{n}"), "image": image, "env": env, "ports": [{"containerPort": 80}],
                   "securityContext": {"capabilities": {"add": ["CHOWN", "KILL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
                   "readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"tcpSocket": {"port": 80}}})
        })
        .collect()
    };
    let huge = |number: usize| {
        let spec = json!({"spec": {"containers": containers(number), "volumes": volumes}});
        with(pod("huge", "a"), spec)
    };
    let judged = async |what: &str| {
        for (number, server) in [1, 40]
            .into_iter()
            .flat_map(|n| cluster.plane.api_servers().iter().map(move |it| (n, it)))
        {
            let admin = server.admin().unwrap();
            let passed = try_create(&admin, huge(number)).await;
            assert!(passed.is_ok(), "{what}, {number} containers: {passed:?}");
            let worse = with(huge(number), json!({"spec": {"hostPID": true}}));
            cluster.refused(try_create(&admin, worse).await, "cloison-pod", "WKL-01/host-pid");
        }
    };
    judged("without Waivers").await;
    // As many Waivers as find room. The first of them is for this namespace, and every pod of it has to be held against them.
    let now = Timestamp::now();
    let until = Timestamp::from_second(now.as_second() + 3_600).unwrap();
    let waivers = (0..500).map(|n| {
        let namespace = if n == 0 {
            "huge".to_owned()
        } else {
            format!("other-{n}")
        };
        let waiver = json!({
            "metadata": {"name": format!("w{n:03}"), "generation": 1, "creationTimestamp": now},
            "spec": {"target": {"namespace": namespace}, "controls": ["WKL-01/host-ipc"], "requestedBy": "alice",
                "reason": "the largest policies that there can be", "expirationTime": until},
            "status": {"approval": {"by": "bob", "time": now, "generation": 1}},
        });
        serde_json::from_value(waiver).unwrap()
    });
    cluster.waive(&waivers.collect::<Vec<_>>()).await;
    let ipc = with(huge(40), json!({"spec": {"hostIPC": true}}));
    try_create(&cluster.admin(), ipc).await.unwrap();
    judged("with Waivers").await;
}

/// A policy is written while requests are judged by others: an API server from before 1.36 may die of that where policies
/// have `variables` (kubernetes/kubernetes#135757). Ours have none.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_lives_while_policies_are_written_and_pods_are_judged() {
    const WRITES: usize = 3;
    let cluster = Cluster::start(vec![minor(Minor::V1_33)], spec(json!({}))).await;
    cluster
        .stage_namespace("busy", "training", Some("enforce"), "default")
        .await;
    let (admin, id) = (cluster.admin(), cluster.plane.api_server(0).process_id());
    let judged = AtomicUsize::new(0);
    let asking = async || loop {
        try_create(&admin, pod("busy", "a")).await.unwrap();
        judged.fetch_add(1, Ordering::Relaxed);
    };
    let writing = async {
        let (one, other) = (spec(everything()), spec(json!({})));
        for _ in 0..WRITES {
            cluster.put_other_in_force(one.clone()).await;
            cluster.put_other_in_force(other.clone()).await;
        }
    };
    tokio::select! {
        () = writing => {}
        _ = async { tokio::join!(asking(), asking(), asking(), asking(), asking(), asking()) } => unreachable!(),
    }
    assert_eq!(cluster.plane.api_server(0).process_id(), id, "another process");
    let judged = judged.into_inner();
    assert!(judged > WRITES, "{judged} pods were judged meanwhile");
}
