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
    for kind in [
        "AiSecurityPolicy",
        "AiWorkload",
        "ControlPlaneReport",
        "EncryptionKeyRing",
        "SecretEncryption",
        "Waiver",
    ] {
        let object = accepted(kind);
        let created = api_of(&client, &object).create(&dry_run(), &typed(&object)).await;
        // Another test has the ring's one name on this API server; it validates before it looks whether a name is taken.
        match created {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            created => {
                drop(created.unwrap_or_else(|error| panic!("{kind}: what cases start from is refused: {error}")))
            }
        }
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

/// A key that was used is part of values in etcd and in backups: what the ring says of it stays said.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_forgets_nothing() {
    const FIXED: &str = "name, provider, origin, commitment, time and request of a key never change";
    let client = installed().await.admin().unwrap();
    let object = accepted("EncryptionKeyRing");
    let api = api_of(&client, &object);
    let created = api.create(&PostParams::default(), &typed(&object)).await.unwrap();
    let created = serde_json::to_value(created).unwrap();
    let key = |id: i64| {
        let mut key = object["spec"]["keys"][1].clone();
        key["id"] = json!(id);
        key["name"] = json!(format!("k{id}"));
        key
    };
    let keys = object["spec"]["keys"].as_array().unwrap();
    let other = |text: &str| text.replace("ZZZZ", "YYYY");
    let sealed = keys[1]["wraps"][0]["sealed"].as_str().unwrap();
    let pass = [
        vec![("/metadata/labels", json!({ "a": "b" }))],
        vec![
            ("/spec/lastID", json!(3)),
            ("/spec/keys", json!([keys[0], keys[1], key(3)])),
        ],
        // What was destroyed may go; what it was called may not come back, because `lastID` stays.
        vec![("/spec/keys", json!([keys[1]]))],
        vec![("/spec/keys/1/wraps", json!([keys[1]["wraps"][0]]))],
        vec![("/spec/keys/1/writes/0/count", json!(42))],
        vec![("/spec/members", json!([]))],
    ];
    for changes in pass {
        let mut object = created.clone();
        changes
            .iter()
            .for_each(|(pointer, value)| change(&mut object, pointer, value.clone()));
        let answer = api.replace("default", &dry_run(), &typed(&object)).await;
        answer.unwrap_or_else(|error| panic!("{changes:?}: {error}"));
    }
    let refused = [
        (
            vec![("/spec/keys", json!([keys[0]]))],
            "a key leaves the ring only after it was destroyed",
        ),
        (
            vec![("/spec/lastID", json!(1)), ("/spec/keys", json!([]))],
            "`lastID` never falls",
        ),
        (vec![("/spec/keys/1/name", json!("k9"))], FIXED),
        (vec![("/spec/keys/1/provider", json!("Secretbox"))], FIXED),
        (vec![("/spec/keys/1/origin", json!("Imported"))], FIXED),
        (
            vec![("/spec/keys/1/commitment", json!(format!("sha256:{}", "e".repeat(64))))],
            FIXED,
        ),
        (
            vec![("/spec/keys/1/creationTime", json!("2026-01-03T00:00:00Z"))],
            FIXED,
        ),
        (vec![("/spec/keys/1/request", Value::Null)], FIXED),
        (
            vec![("/spec/keys/1/wraps/0/sealed", json!(other(sealed)))],
            "a sealed key never changes",
        ),
        (vec![("/spec/keys/1/writes/0/count", json!(40))], "`count` never falls"),
        (
            vec![("/spec/keys/0/destroyedTime", json!("2026-03-02T00:00:00Z"))],
            "a destroyed key stays destroyed",
        ),
        (
            vec![("/spec/keys/0/retiredTime", json!("2026-02-02T00:00:00Z"))],
            "a retired key stays retired",
        ),
        (
            vec![("/spec/members/0/recipient", json!("age1other"))],
            "is taken out first and approved again",
        ),
    ];
    let mut wrong = Vec::new();
    for (changes, says) in refused {
        let mut object = created.clone();
        changes
            .iter()
            .for_each(|(pointer, value)| change(&mut object, pointer, value.clone()));
        match api.replace("default", &dry_run(), &typed(&object)).await {
            Ok(_) => wrong.push(format!("{changes:?} is accepted; wanted: {says}")),
            Err(error) if error.to_string().contains(says) => {}
            Err(error) => wrong.push(format!("{changes:?}: wanted: {says}\n   said: {error}")),
        }
    }
    // A destroyed key goes, and its id comes back for another.
    let mut pruned = created.clone();
    change(&mut pruned, "/spec/keys", json!([keys[1]]));
    let pruned = api
        .replace("default", &PostParams::default(), &typed(&pruned))
        .await
        .unwrap();
    let mut reused = serde_json::to_value(pruned).unwrap();
    change(&mut reused, "/spec/keys", json!([keys[0], keys[1]]));
    let error = api.replace("default", &dry_run(), &typed(&reused)).await.unwrap_err();
    let says = "a new key has an id above every id that was in use";
    assert!(error.to_string().contains(says), "{error}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
