//! Objects of our kinds as nobody would write them: drawn from the schemas, with texts that would break out of an expression.
//! A real API server decides which of them it would store, and what it stores must be readable, must crash nothing that
//! judges it, and must leave policies that our evaluator still compiles and the API server takes.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/dice.rs"]
mod dice;
#[path = "common/drawn.rs"]
mod drawn;
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
use drawn::draw;
use futures::{StreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use operator::{PATIENCE, apply};
use serde_json::{Value, json};

/// Objects of each kind.
const EACH: usize = 150;
/// Settings whose policies the API server is asked about: each set takes it seconds.
const SETTINGS: usize = 12;
const KINDS: [&str; 4] = ["AiWorkload", "AiSecurityPolicy", "SecretEncryption", "Waiver"];

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

/// Whether the API server would take a policy; it compiles every expression for that.
async fn takes(client: &Client, policy: &ValidatingAdmissionPolicy) -> Result<(), String> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let answer = policies.create(&dry_run, policy).await;
    answer.map(drop).map_err(|error| error.to_string())
}

/// Sends the API server every policy that some of the settings make, those first that have a quote in a text.
async fn policies_are_taken(client: &Client, stored: &[Value]) {
    let quoted = |settings: &&Value| settings["spec"].to_string().contains('\'');
    let (first, rest): (Vec<&Value>, Vec<&Value>) = stored.iter().partition(quoted);
    let chosen: Vec<&Value> = first.iter().chain(&rest).take(SETTINGS).copied().collect();
    assert_eq!(chosen.len(), SETTINGS);
    let made = chosen.iter().flat_map(|settings| {
        let settings: AiSecurityPolicy = serde_json::from_value((*settings).clone()).unwrap();
        let operator = Operator::in_namespace("cloison-system");
        generate(&settings.spec, &operator, &Waived::default(), NOW.parse().unwrap()).policies
    });
    let made: Vec<ValidatingAdmissionPolicy> = made.collect();
    let answers: Vec<Result<(), String>> = stream::iter(&made)
        .map(|policy| takes(client, policy))
        .buffered(4)
        .collect()
        .await;
    let refused: Vec<&String> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    eprintln!(
        "{SETTINGS} settings, {} of them with a quote: the API server takes {} of {} policies",
        first.len().min(SETTINGS),
        made.len() - refused.len(),
        made.len()
    );
    assert!(refused.is_empty(), "{}", refused[0]);
    // A text that ended its quotes would be seen.
    let mut broken = made[0].clone();
    let validations = broken.spec.as_mut().unwrap().validations.as_mut().unwrap();
    validations[0].expression.push_str(" && 'x' in ['x\\'");
    let said = takes(client, &broken).await.unwrap_err();
    assert!(said.contains("compilation failed"), "{said}");
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
        if kind == "AiSecurityPolicy" {
            policies_are_taken(&client, &kept).await;
        }
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
