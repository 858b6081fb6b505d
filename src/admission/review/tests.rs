//! The verdicts on requests as an API server sends them.

mod claim;
mod settings;
mod tenant_policy;
mod wire;
mod workload;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::network::world::World;

const NOW: &str = "2030-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// `train` and `infer` in mode enforce, `common` shared, `plain` of no stage, and a service `registry`.
fn sight() -> Sight {
    let mut world: World = crate::network::testkit::world();
    world
        .stage("train", Training)
        .stage("infer", Inference)
        .stage("common", Shared);
    world.plain("plain", "");
    world.policy(
        "{services: [{name: registry, to: {namespace: common}, ports: [{port: 5000}]}], tenantPolicies: Analysed}",
    );
    Sight {
        world,
        policy_missing: false,
        hash: "0a1b2c3d".to_owned(),
    }
}

fn body(resource: (&str, &str, &str, &str), namespace: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let (group, version, kind, plural) = resource;
    let name = [object, old]
        .into_iter()
        .find_map(|o| o.pointer("/metadata/name"))
        .cloned();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74", "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": plural},
            "name": name, "namespace": namespace, "operation": operation,
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": object, "oldObject": old, "dryRun": false,
        },
    })
}

fn request(body: &Value) -> Request {
    read(body.to_string().as_bytes()).unwrap()
}

const WORKLOADS: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "AiWorkload", "aiworkloads");
const POLICIES: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "AiSecurityPolicy", "aisecuritypolicies");
const ENCRYPTIONS: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "SecretEncryption", "secretencryptions");
const WAIVERS: (&str, &str, &str, &str) = ("cloison.dev", "v1alpha1", "Waiver", "waivers");
const TENANT: (&str, &str, &str, &str) = ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
const CLAIMS: (&str, &str, &str, &str) = ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims");

fn workload(namespace: &str, stage: &str, network: &Value) -> Value {
    json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload", "metadata": {"name": "road", "namespace": namespace},
        "spec": {"stage": stage, "owner": "team@ville.example", "purpose": "Something worth testing", "network": network},
    })
}

fn judged(body: &Value, sight: &Sight) -> Answer {
    let request = request(body);
    let found = needs(&request, sight).into_iter().map(|lookup| {
        let found = match &lookup {
            Lookup::Namespace(_) => Found::Namespace(None),
            Lookup::Volume(_) => Found::Volume(None),
            Lookup::Pods(_) => Found::Pods(0),
        };
        (lookup, found)
    });
    review(&request, sight, &found.collect(), now())
}

fn create(object: &Value) -> Answer {
    let namespace = object["metadata"]["namespace"].as_str().unwrap().to_owned();
    judged(&body(WORKLOADS, &namespace, "CREATE", object, &Value::Null), &sight())
}

fn rules(answer: &Answer) -> Vec<String> {
    answer.refused.iter().map(|finding| finding.rule.to_string()).collect()
}

fn wide() -> Value {
    workload(
        "train",
        "Training",
        &json!({"connectTo": [{"service": "registry"}, {"cidr": "8.0.0.0/6", "ports": [{"port": 443}]}]}),
    )
}
