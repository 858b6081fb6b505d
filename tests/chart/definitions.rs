//! The API server refuses what does not fit, in our words. Each case changes one thing in an object that is accepted.

use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cases::{accepted, on_create};
use crate::{api, installed};

/// Sets or removes what a pointer names; missing parents are made.
pub fn change(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut at = object;
    for step in parent.split('/').skip(1) {
        at = match at {
            Value::Array(list) => &mut list[step.parse::<usize>().unwrap()],
            other => &mut other[step],
        };
    }
    match (at, value) {
        (Value::Object(map), Value::Null) => drop(map.remove(key).unwrap()),
        (Value::Array(list), value) => list[key.parse::<usize>().unwrap()] = value,
        (at, value) => at[key] = value,
    }
}

fn api_of(client: &Client, object: &Value) -> Api<DynamicObject> {
    api(
        client,
        object["kind"].as_str().unwrap(),
        object["metadata"]["namespace"].as_str(),
    )
}

fn typed(object: &Value) -> DynamicObject {
    serde_json::from_value(object.clone()).unwrap()
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_in_our_words() {
    let client = installed().await.admin().unwrap();
    for kind in ["AiSecurityPolicy", "AiWorkload", "SecretEncryption", "Waiver"] {
        let object = accepted(kind);
        let created = api_of(&client, &object).create(&dry_run(), &typed(&object)).await;
        created.unwrap_or_else(|error| panic!("{kind}: the object that cases start from is refused: {error}"));
    }
    let mut wrong = Vec::new();
    for case in on_create() {
        let mut object = accepted(case.kind);
        for (pointer, value) in &case.changes {
            change(&mut object, pointer, value.clone());
        }
        match api_of(&client, &object).create(&dry_run(), &typed(&object)).await {
            Ok(_) => wrong.push(format!(
                "{}: {:?} is accepted; wanted: {}",
                case.kind, case.changes, case.says
            )),
            Err(error) if error.to_string().contains(case.says) => {}
            Err(error) => wrong.push(format!("{}: wanted: {}\n   said: {error}", case.kind, case.says)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_does_not() {
    let client = installed().await.admin().unwrap();
    let cases = [
        (
            "AiWorkload",
            "/spec/stage",
            json!("Evaluation"),
            "NET-02/stage-immutable",
        ),
        (
            "Waiver",
            "/spec/expirationTime",
            json!("2028-01-31T00:00:00Z"),
            "OPS-02/immutable",
        ),
        ("Waiver", "/spec/controls", json!(["WKL-01"]), "OPS-02/immutable"),
    ];
    for (number, (kind, pointer, value, says)) in cases.into_iter().enumerate() {
        let mut object = accepted(kind);
        object["metadata"]["name"] = json!(format!("immutable-{number}"));
        let api = api_of(&client, &object);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let created = api.create(&PostParams::default(), &typed(&object)).await.unwrap();
        let mut changed = serde_json::to_value(created).unwrap();
        changed["metadata"]["labels"] = json!({ "a": "b" });
        // The positive control: another change of the same object passes.
        api.replace(&name, &dry_run(), &typed(&changed)).await.unwrap();
        change(&mut changed, pointer, value);
        let error = api
            .replace(&name, &dry_run(), &typed(&changed))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{kind}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_the_schemas() {
    let client = installed().await.admin().unwrap();
    for (kind, pointer, value) in [
        ("AiSecurityPolicy", "/spec/mode", json!("Audit")),
        (
            "AiSecurityPolicy",
            "/spec/network/maxEgressCIDR/ipv4PrefixLength",
            json!(16),
        ),
        ("SecretEncryption", "/spec/mode", json!("Observe")),
        ("SecretEncryption", "/spec/resources", json!(["secrets"])),
        ("SecretEncryption", "/spec/escrow/requirement", json!("Required")),
        ("SecretEncryption", "/status/observedGeneration", json!(-1)),
    ] {
        let empty = json!({ "apiVersion": "cloison.dev/v1alpha1", "kind": kind, "metadata": { "name": "default" } });
        let created = api_of(&client, &empty).create(&dry_run(), &typed(&empty)).await;
        let created = serde_json::to_value(created.unwrap()).unwrap();
        assert_eq!(created.pointer(pointer), Some(&value), "{kind} {pointer}");
    }
    let object = accepted("AiWorkload");
    let created = api_of(&client, &object)
        .create(&dry_run(), &typed(&object))
        .await
        .unwrap();
    let created = serde_json::to_value(created).unwrap();
    for (pointer, value) in [
        ("/spec/runtime", json!("Generic")),
        ("/spec/data/classification", json!("Internal")),
        ("/spec/aiAct/riskClass", json!("Unclassified")),
        ("/status/observedGeneration", json!(-1)),
    ] {
        assert_eq!(created.pointer(pointer), Some(&value), "{pointer}");
    }
    // A default inside a list item would make GitOps tools see a difference for ever.
    assert_eq!(
        created.pointer("/spec/network/connectTo/0"),
        Some(&json!({ "service": "model-registry" }))
    );
}
