//! `AdmissionEnforced` follows what every API server refuses: the admission canaries on real API servers.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod encryption_world;

use std::sync::Arc;
use std::time::Duration;

use cloison::admission::{Operator, PolicySet, Waived, canary_annotations, generate};
use cloison::api::conditions::Truth;
use cloison::api::definitions::definitions;
use cloison::api::encryption::{ApiServers, Discovery};
use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::text::ObjectName;
use cloison::controller::evidence::AdmissionProof;
use cloison::controller::evidence::admission::Expected;
use cloison::encryption::proof::reasons;
use cloison_testbed::{ApiServerOptions, eventually};
use encryption_world::{DEADLINE, NAMESPACE, World, apply, objects};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

/// Definitions, the canaries' namespace and the policies, as the controller would put them there.
async fn install(client: &Client, spec: &AiSecurityPolicySpec) -> PolicySet {
    for definition in definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        apply(
            client,
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            None,
            &name,
            definition,
        )
        .await;
    }
    let account = Some(names::CANARY_NAMESPACE);
    apply(client, "v1", "ServiceAccount", account, "default", json!({})).await;
    let namespaces = objects(client, "v1", "Namespace", None);
    let uid = namespaces
        .get(names::CANARY_NAMESPACE)
        .await
        .unwrap()
        .metadata
        .uid
        .unwrap();
    let annotations = json!({ "metadata": { "annotations": canary_annotations(&uid) } });
    namespaces
        .patch(
            names::CANARY_NAMESPACE,
            &PatchParams::default(),
            &Patch::Merge(annotations),
        )
        .await
        .unwrap();
    let workloads = objects(client, "cloison.dev/v1alpha1", "AiWorkload", None);
    eventually(DEADLINE, "AiWorkload is served", async || {
        workloads.list(&ListParams::default()).await
    })
    .await
    .unwrap();
    put(client, spec).await
}

/// Applies the policies of a spec.
async fn put(client: &Client, spec: &AiSecurityPolicySpec) -> PolicySet {
    let set = generate(
        spec,
        &Operator::in_namespace(NAMESPACE),
        &Waived::default(),
        Timestamp::now(),
    );
    let as_values = |objects: Vec<Value>| objects;
    let policies = set
        .policies
        .iter()
        .map(|policy| serde_json::to_value(policy).unwrap())
        .collect();
    let bindings = set
        .bindings
        .iter()
        .map(|binding| serde_json::to_value(binding).unwrap())
        .collect();
    for (kind, all) in [
        ("ValidatingAdmissionPolicy", as_values(policies)),
        ("ValidatingAdmissionPolicyBinding", bindings),
    ] {
        for object in all {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            apply(client, ADMISSION, kind, None, &name, object).await;
        }
    }
    set
}

fn expect(set: &PolicySet, spec: &AiSecurityPolicySpec) -> Arc<Expected> {
    Arc::new(Expected {
        interval: Duration::from_millis(300),
        pace: Duration::from_millis(10),
        ..Expected::new(set, spec, Timestamp::now())
    })
}

async fn proof(world: &World, truth: Truth, reason: &str) -> AdmissionProof {
    let what = format!("{truth:?}/{reason}");
    let found = world.wait_for(&what, |snapshot| {
        let proof = snapshot.admission.as_ref();
        proof.is_some_and(|proof| proof.truth == truth && proof.reason == reason)
    });
    found.await.admission.unwrap()
}

fn other(spec: &AiSecurityPolicySpec) -> AiSecurityPolicySpec {
    let mut other = serde_json::to_value(spec).unwrap();
    other["pods"]["addCapabilities"] = json!([{ "capability": "IPC_LOCK" }]);
    serde_json::from_value(other).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_follows_what_every_api_server_refuses() {
    let world = World::start(2, ApiServerOptions::default()).await;
    let client = world.plane.admin().unwrap();
    let spec: AiSecurityPolicySpec = serde_json::from_value(json!({})).unwrap();

    // The canaries are sent before the policies are there, and until they are active.
    let set = install(&client, &spec).await;
    world.policies.send_replace(Some(expect(&set, &spec)));
    let first = proof(&world, Truth::True, "CanariesRefused").await;
    assert_eq!(first.policy_hash, set.hash);
    assert!(first.message.contains("2 API server"), "{}", first.message);

    // Nothing of a dry run is left.
    for kind in ["Pod", "Event"] {
        let left = objects(&client, "v1", kind, Some(names::CANARY_NAMESPACE));
        assert!(left.list(&ListParams::default()).await.unwrap().items.is_empty());
    }

    // Other policies: their hash, seen on both.
    let changed = other(&spec);
    let set = put(&client, &changed).await;
    assert_ne!(set.hash, first.policy_hash);
    world.policies.send_replace(Some(expect(&set, &changed)));
    world
        .wait_for("the new hash", |snapshot| {
            let proof = snapshot.admission.as_ref();
            proof.is_some_and(|proof| proof.truth == Truth::True && proof.policy_hash == set.hash)
        })
        .await;

    // Somebody takes a binding away.
    let bindings = objects(&client, ADMISSION, "ValidatingAdmissionPolicyBinding", None);
    let binding = &set
        .bindings
        .iter()
        .find(|b| b.metadata.name.as_deref() == Some("cloison-pod-deny"));
    bindings
        .delete("cloison-pod-deny", &DeleteParams::default())
        .await
        .unwrap();
    let gone = proof(&world, Truth::False, "NoBinding").await;
    assert!(gone.message.contains("cloison-pod"), "{}", gone.message);
    let binding = serde_json::to_value(binding.unwrap()).unwrap();
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    proof(&world, Truth::True, "CanariesRefused").await;

    // A replica that nobody leads to.
    let server = world.plane.api_server(0);
    world.settings.send_modify(|settings| {
        settings.api_servers = ApiServers {
            discovery: Discovery::Static,
            endpoints: Some(vec![ObjectName(format!("{}:{}", server.address(), server.port()))]),
        };
    });
    proof(&world, Truth::Unknown, "ReplicaMissing").await;

    // The policies are gone on purpose.
    world.policies.send_replace(None);
    proof(&world, Truth::Unknown, "NoPolicies").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_api_server_without_the_plugin_is_enough_for_false() {
    let without = ApiServerOptions {
        disable_admission_plugins: vec!["ValidatingAdmissionPolicy".to_owned()],
        ..ApiServerOptions::default()
    };
    let world = World::start_with(vec![ApiServerOptions::default(), without]).await;
    let client = world.plane.admin().unwrap();
    let spec: AiSecurityPolicySpec = serde_json::from_value(json!({})).unwrap();
    let set = install(&client, &spec).await;
    world.policies.send_replace(Some(expect(&set, &spec)));
    let proof = proof(&world, Truth::False, "PluginDisabled").await;
    let lease = world.plane.api_server(1).identity_lease().await.unwrap();
    assert!(proof.message.contains(&lease), "{}", proof.message);
    // Metrics need not be readable for that: the Leases of 1.36 name the addresses.
    let bindings = objects(&client, encryption_world::RBAC, "ClusterRoleBinding", None);
    bindings
        .delete(encryption_world::METRICS_ROLE, &DeleteParams::default())
        .await
        .unwrap();
    world.expect(Truth::Unknown, reasons::UNVERIFIABLE).await;
    let still = world.evidence.snapshot().admission.unwrap();
    assert_eq!((still.truth, still.reason), (Truth::False, "PluginDisabled"));
}

/// The RoleBinding that lets the controller list the API servers' Leases.
const LISTS_API_SERVERS: &str = "cloison-controller-discovery";

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_asked_and_what_was_not_tried_is_not_proven() {
    let world = World::start(1, ApiServerOptions::default()).await;
    let client = world.plane.admin().unwrap();
    let spec: AiSecurityPolicySpec = serde_json::from_value(json!({})).unwrap();
    let set = install(&client, &spec).await;
    let hurried = |set: &PolicySet, spec: &AiSecurityPolicySpec| {
        Arc::new(Expected {
            leases_age: Duration::from_secs(2),
            ..Expected::clone(&expect(set, spec))
        })
    };
    world.policies.send_replace(Some(hurried(&set, &spec)));
    proof(&world, Truth::True, "CanariesRefused").await;

    // API servers come and go, and nobody may list them: the last list says less every second.
    let bindings = objects(&client, encryption_world::RBAC, "RoleBinding", Some("kube-system"));
    let binding = bindings.get(LISTS_API_SERVERS).await.unwrap();
    bindings
        .delete(LISTS_API_SERVERS, &DeleteParams::default())
        .await
        .unwrap();
    let stale = proof(&world, Truth::Unknown, "LeasesStale").await;
    assert!(
        stale.message.contains("identity Leases in kube-system"),
        "{}",
        stale.message
    );
    // The other way round it is no excuse: what is seen not to hold is False.
    let policies = objects(&client, ADMISSION, "ValidatingAdmissionPolicyBinding", None);
    policies
        .delete("cloison-pod-deny", &DeleteParams::default())
        .await
        .unwrap();
    proof(&world, Truth::False, "NoBinding").await;
    put(&client, &spec).await;
    proof(&world, Truth::Unknown, "LeasesStale").await;
    let body = json!({ "roleRef": binding.data["roleRef"], "subjects": binding.data["subjects"] });
    let kind = ("RoleBinding", Some("kube-system"));
    apply(&client, encryption_world::RBAC, kind.0, kind.1, LISTS_API_SERVERS, body).await;
    proof(&world, Truth::True, "CanariesRefused").await;

    // Pods are refused in other stages only, where no canary goes.
    let control =
        |id: &str| json!({"id": id, "mode": "Enforce", "perStage": {"training": "Audit"}, "reason": "tried out"});
    let elsewhere = json!({ "controls": [control("WKL-01"), control("WKL-02")] });
    let elsewhere: AiSecurityPolicySpec = serde_json::from_value(elsewhere).unwrap();
    let set = put(&client, &elsewhere).await;
    world.policies.send_replace(Some(hurried(&set, &elsewhere)));
    let unprobed = proof(&world, Truth::Unknown, "NotProbed").await;
    assert!(
        unprobed.message.contains("cloison-pod refuses elsewhere"),
        "{}",
        unprobed.message
    );
}
