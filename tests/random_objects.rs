//! Objects of our kinds as nobody would write them: drawn from the schemas, with texts that would break out of an expression.
//! A real API server decides which of them it would store, and what it stores must be readable, must crash nothing that
//! judges it, and must leave policies that our evaluator still compiles.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/operator.rs"]
mod operator;

use std::collections::BTreeMap;

use cloison::admission::review::{LookedUp, Sight, read, review};
use cloison::admission::{Offline, Operator, Request, Waived, as_enforced, effect, generate};
use cloison::api::definitions::definitions;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::stage::{Mode, NamespaceStage};
use cloison::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, Waiver};
use cloison::controller::workload_facts;
use cloison::network::world::{Namespace, World};
use cloison::network::{flows, policies, validate};
use cloison_testbed::{ControlPlane, Options, eventually};
use dice::Dice;
use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use operator::{PATIENCE, apply};
use regex::Regex;
use serde_json::{Map, Value, json};

/// Objects of each kind.
const EACH: usize = 150;
const KINDS: [&str; 4] = ["AiWorkload", "AiSecurityPolicy", "SecretEncryption", "Waiver"];

/// What people write, and what nobody should.
const TEXTS: [&str; 45] = [
    "a",
    "road-train",
    "train",
    "default",
    "model-registry",
    "kubernetes-api",
    "team@ville.example",
    "app",
    "key",
    "Trains the detector of road users on recorded drives",
    "10.0.0.0/8",
    "192.0.2.7/32",
    "2001:db8::/32",
    "::/0",
    "https://ville.example/a?b=c",
    "registry.example.com/team/",
    "*.example.com",
    "example.com/gpu",
    "IPC_LOCK",
    "csi.example.com",
    "sha256:85aaee176b282ae1bd649d0ca2f62c41ca31bfd0566e54e241202c2411fb399d",
    "2031-01-01T00:00:00Z",
    "2001-01-01T00:00:00Z",
    "WKL-01",
    "WKL-01/host-ipc",
    "NET-03",
    "ENC-04/reference",
    "CLU-04",
    "eks:network-policy-controller",
    "secrets",
    "configmaps",
    "eu-west-3",
    "BiometricIdentification",
    "2.1",
    "2026.1",
    "'] || true || 'x' in ['x\\",
    "'",
    "\\",
    "' || true || '",
    "\\'] || true //",
    "\n\r\t\u{0}",
    "\u{202e}gpj.exe",
    "${x} {{ .Values }} %s %n",
    "\u{1F9F1}\u{FFFD}",
    "true",
];

/// One more than any bound on a text.
fn long() -> String {
    "x'\\".repeat(1_400)
}

/// A value of a schema, mostly; one in `wild` places ignores it.
fn draw(schema: &Value, dice: &mut Dice, wild: usize) -> Value {
    if dice.once_in(wild) {
        return [
            json!(null),
            json!(-1),
            json!([{}]),
            json!({"a": []}),
            json!("\u{0}"),
            json!(1e300),
        ][dice.roll(6)]
        .clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return dice.pick(values).clone();
    }
    match schema["type"].as_str() {
        Some("object") => draw_object(schema, dice, wild),
        Some("array") => {
            let least = usize::try_from(schema["minItems"].as_u64().unwrap_or(0)).unwrap();
            let number = least.max(dice.roll(3));
            (0..number).map(|_| draw(&schema["items"], dice, wild)).collect()
        }
        Some("boolean") => json!(dice.once_in(2)),
        Some("integer") => {
            let (least, most) = (
                schema["minimum"].as_i64().unwrap_or(0),
                schema["maximum"].as_i64().unwrap_or(65_535),
            );
            json!([least, most, least + (most - least) / 2][dice.roll(3)])
        }
        Some("number") => json!(0.5),
        _ => draw_text(schema, dice),
    }
}

fn draw_object(schema: &Value, dice: &mut Dice, wild: usize) -> Value {
    let Some(properties) = schema["properties"].as_object() else {
        let key = dice.pick(&TEXTS).to_string();
        let value = draw(&schema["additionalProperties"], dice, wild);
        return if dice.once_in(2) {
            json!({key: value})
        } else {
            json!({})
        };
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut object = Map::new();
    for (name, property) in properties {
        if required.contains(&name.as_str()) || dice.once_in(3) {
            object.insert(name.clone(), draw(property, dice, wild));
        }
    }
    // Most lists of choices want exactly one of them.
    if required.is_empty() && properties.len() < 5 && dice.once_in(2) && object.len() > 1 {
        let kept = dice.pick(&object.keys().cloned().collect::<Vec<_>>()).clone();
        object.retain(|name, _| *name == kept);
    }
    Value::Object(object)
}

/// A text that the schema's pattern and bounds allow, where there is one among ours.
fn draw_text(schema: &Value, dice: &mut Dice) -> Value {
    if dice.once_in(200) {
        return json!(long());
    }
    let pattern = schema["pattern"]
        .as_str()
        .map(|pattern| Regex::new(pattern).expect("a pattern"));
    let bound = |key: &str, other: u64| usize::try_from(schema[key].as_u64().unwrap_or(other)).unwrap();
    let (least, most) = (bound("minLength", 0), bound("maxLength", 9_999));
    let allowed = |text: &&str| {
        let is_time = schema["format"] != "date-time" || text.starts_with("20") && text.ends_with('Z');
        let length = text.chars().count();
        is_time && length >= least && length <= most && pattern.as_ref().is_none_or(|it| it.is_match(text))
    };
    let fitting: Vec<&str> = TEXTS.into_iter().filter(allowed).collect();
    if fitting.is_empty() {
        return json!(dice.pick(&TEXTS));
    }
    json!(dice.pick(&fitting))
}

fn spec_schema(kind: &str) -> (Value, String) {
    let all = definitions();
    let definition = all
        .iter()
        .find(|it| it["spec"]["names"]["kind"] == kind)
        .expect("its definition");
    let schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
    (
        schema,
        definition["spec"]["names"]["plural"].as_str().unwrap().to_owned(),
    )
}

fn object(kind: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": kind, "metadata": {"name": "default"}, "spec": spec,
    });
    if kind == "AiWorkload" {
        object["metadata"]["namespace"] = json!("train");
    }
    object
}

/// Whether the API server would store it, and as what.
async fn stored(client: &Client, kind: &str, object: &Value) -> Option<Value> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cloison.dev", "v1alpha1", kind));
    let api: Api<DynamicObject> = match object.pointer("/metadata/namespace").and_then(Value::as_str) {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let request = serde_json::from_value(object.clone()).expect("an object");
    match api.create(&dry_run, &request).await {
        Ok(stored) => Some(serde_json::to_value(stored).expect("JSON")),
        Err(kube::Error::Api(status)) if [400, 422].contains(&status.code) => None,
        Err(error) => panic!("{error}: {object}"),
    }
}

fn world(policy: AiSecurityPolicySpec) -> World {
    let mut world = World::default();
    for (name, stage) in [
        ("train", NamespaceStage::Training),
        ("default", NamespaceStage::Inference),
        ("app", NamespaceStage::Shared),
    ] {
        let namespace = Namespace {
            name: name.to_owned(),
            uid: "u".to_owned(),
            labels: BTreeMap::new(),
            stage: Some(stage),
            mode: Mode::Enforce,
            terminating: false,
        };
        world.namespaces.insert(name.to_owned(), namespace);
    }
    world.policy = std::sync::Arc::new(policy);
    world
}

const IPC: &str = "WKL-01/host-ipc";
const NOW: &str = "2030-06-01T00:00:00Z";

/// What the policies for pods say of one that shares the memory of its node, once they are compiled.
fn told(policy: &AiSecurityPolicySpec, waivers: &[Waiver]) -> Result<Vec<String>, String> {
    let now: Timestamp = NOW.parse().unwrap();
    let waived = Waived::new(waivers, policy, now);
    let set = generate(policy, &Operator::in_namespace("cloison-system"), &waived, now);
    let offline = Offline::new(&set).map_err(|error| error.to_string())?;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"hostIPC": true, "containers": [{"name": "c", "image": "r/x"}]}});
    let namespace = as_enforced("train", "u", NamespaceStage::Training, &["default".to_owned()].into());
    let verdict = offline.judge_pod(&pod, &namespace, &Request::default());
    let verdict = verdict.map_err(|error| error.to_string())?;
    let all = verdict.problems.iter().chain(&verdict.observed);
    Ok(all.map(|finding| finding.rule.to_string()).collect())
}

/// A Waiver as drawn, but for its times, which would end nearly all of them, and approved.
fn approved(object: &Value) -> Result<Waiver, serde_json::Error> {
    let mut waiver: Waiver = serde_json::from_value(object.clone())?;
    let at = |text: &str| Time(text.parse().unwrap());
    waiver.metadata.creation_timestamp = Some(at("2030-05-31T00:00:00Z"));
    waiver.spec.expiration_time = at("2030-06-02T00:00:00Z");
    let approval = json!({"by": "bob", "time": "2030-05-31T01:00:00Z", "generation": waiver.metadata.generation});
    waiver.status = Some(serde_json::from_value(json!({"approval": approval}))?);
    Ok(waiver)
}

/// Whether it stands in the policies.
fn holds(object: &Value) -> bool {
    let waiver = approved(object).unwrap();
    let policy = AiSecurityPolicySpec::default();
    Waived::new([&waiver], &policy, NOW.parse().unwrap()) != Waived::default()
}

/// Asks whoever judges an object of this kind; what is wrong with the answers.
fn judged(kind: &str, plural: &str, object: &Value) -> Result<(), String> {
    let unreadable = |error: serde_json::Error| format!("it is stored, and cannot be read: {error}");
    let mut world = world(AiSecurityPolicySpec::default());
    match kind {
        "AiWorkload" => {
            let workload: AiWorkload = serde_json::from_value(object.clone()).map_err(unreadable)?;
            let facts = workload_facts(&workload).ok_or("it has no namespace")?;
            world.workloads.insert(facts.key.clone(), facts.clone());
            let _ = (validate::workload(&world, &facts), flows::resolve(&world, &facts));
            policies::all(&world);
        }
        "AiSecurityPolicy" => {
            let policy: AiSecurityPolicy = serde_json::from_value(object.clone()).map_err(unreadable)?;
            let rules = told(&policy.spec, &[])?;
            let mut controls = policy.spec.controls.iter().flatten();
            let spoken_of = controls.any(|control| control.id.to_string().starts_with("WKL-01"));
            if !spoken_of && !rules.iter().any(|rule| rule == IPC) {
                return Err(format!("a pod that shares the memory of its node passes: {rules:?}"));
            }
            world.policy = std::sync::Arc::new(policy.spec);
        }
        "Waiver" => {
            let waiver = approved(object).map_err(unreadable)?;
            effect(&waiver);
            let elsewhere = *waiver.spec.target.namespace != *"train";
            let rules = told(&AiSecurityPolicySpec::default(), &[waiver])?;
            if elsewhere && !rules.iter().any(|rule| rule == IPC) {
                return Err(format!("it lets pods of another namespace through: {rules:?}"));
            }
        }
        _ => {
            serde_json::from_value::<SecretEncryption>(object.clone()).map_err(unreadable)?;
        }
    }
    let asked = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": {"group": "cloison.dev", "version": "v1alpha1", "kind": kind},
        "resource": {"group": "cloison.dev", "version": "v1alpha1", "resource": plural}, "name": "default",
        "namespace": object.pointer("/metadata/namespace"), "operation": "CREATE", "object": object, "dryRun": false,
        "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
    }});
    let request = read(asked.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let sight = Sight {
        world,
        ..Sight::default()
    };
    let answer = review(&request, &sight, &LookedUp::new(), NOW.parse().unwrap());
    match answer.undecided {
        Some(why) if !why.contains("Namespace") => Err(format!("the webhook cannot decide: {why}")),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_stored_is_read_and_judged() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let client = plane.admin().unwrap();
    for definition in definitions() {
        apply(&client, definition).await.unwrap();
    }
    apply(
        &client,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "train"}}),
    )
    .await
    .unwrap();
    let mut dice = Dice(0x5eed_c401);
    let mut breaking = 0;
    for kind in KINDS {
        let (schema, plural) = spec_schema(kind);
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cloison.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        eventually(PATIENCE, &format!("{plural} are served"), || async {
            api.list(&ListParams::default()).await
        })
        .await
        .unwrap();
        let drawn: Vec<Value> = (0..EACH)
            .map(|_| object(kind, &draw(&schema, &mut dice, 300)))
            .collect();
        let kept: Vec<Value> = stream::iter(&drawn)
            .map(|object| stored(&client, kind, object))
            .buffered(8)
            .filter_map(std::future::ready)
            .collect()
            .await;
        let faults: Vec<String> = kept
            .iter()
            .filter_map(|object| Some(format!("{}\n{object}", judged(kind, &plural, object).err()?)))
            .collect();
        assert!(
            faults.is_empty(),
            "{} of {}; the first: {}",
            faults.len(),
            kept.len(),
            faults[0]
        );
        let quoted = kept
            .iter()
            .filter(|object| object["spec"].to_string().contains('\''))
            .count();
        eprintln!("{kind}: {quoted} of {} stored have a quote in a text", kept.len());
        breaking += quoted;
        if kind == "Waiver" {
            let holding = kept.iter().filter(|object| holds(object)).count();
            eprintln!("{holding} of {} Waivers stand in the policies", kept.len());
            assert!(holding * 10 >= kept.len(), "{holding} of {}", kept.len());
        }
        // A corpus of which all, or none, is stored shows nothing.
        let share = kept.len() * 100 / EACH;
        eprintln!("{kind}: {share} % of {EACH} would be stored");
        assert!((15..=90).contains(&share), "{kind}: {share} %");
    }
    assert!(
        breaking >= 30,
        "{breaking} objects with a text that could end an expression"
    );
}
