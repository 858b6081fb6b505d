//! `cloison plan -f` says what the API server says: the same bytes, the same verdict. The cases of `cases.rs`, and each
//! value of an accepted object replaced by others, go to both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use kube::Client;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::cases::{accepted, on_create};
use crate::definitions::change;
use crate::{api, installed};

const KINDS: [&str; 6] = [
    "AiSecurityPolicy",
    "AiWorkload",
    "ControlPlaneReport",
    "EncryptionKeyRing",
    "SecretEncryption",
    "Waiver",
];

/// What stands where a value stood.
fn hostile(value: &Value) -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(""),
        json!("A b"),
        json!("x".repeat(3_000)),
        json!(-1),
        json!(70_000),
        json!(true),
        json!([]),
        json!({}),
        json!([{}]),
        json!("a-word-of-some-length"),
        json!(20),
        json!(["a"]),
    ];
    if let Value::Array(items) = value {
        // What a list or a map of items must not repeat, and more of them than there may be.
        all.push(Value::Array(items.iter().chain(items).cloned().collect()));
        let many = (0..300).map(|number| match items.first() {
            Some(Value::Object(first)) => {
                let mut item = first.clone();
                item.insert("name".into(), json!(format!("n{number}")));
                Value::Object(item)
            }
            _ => json!(format!("n{number}")),
        });
        all.push(many.collect());
    }
    all
}

/// Every value below `spec`, by JSON pointer.
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        // The key of a label may hold a slash.
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers(value, &format!("{at}/{}", key.replace('/', "~1")), into)),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), into));
        }
        _ => {}
    }
}

/// Every object that is tried.
fn objects() -> Vec<Value> {
    let mut all: Vec<Value> = KINDS.map(accepted).into();
    for case in on_create() {
        let mut object = accepted(case.kind);
        for (pointer, value) in &case.changes {
            change(&mut object, pointer, value.clone());
        }
        all.push(object);
    }
    // Every field that has a default is there, so that it is tried as well.
    let encryption = json!({
        "mode": "Observe", "proof": "Writes", "provider": "AESGCM", "resources": ["secrets", "configmaps"],
        "rotation": { "periodDays": 30, "maxWritesPerKey": 150_000 },
        "escrow": { "recipients": ["age1abcdef"], "requirement": "Required" },
        "retiredKeys": { "retention": "DeleteAfterDays", "days": 30 },
        "sweep": { "maxRequestsPerSecond": 200 },
        "apiServers": { "discovery": "Static", "endpoints": ["192.0.2.1:6443"] },
        "attestation": {
            "statement": "the provider encrypts at rest", "attestedBy": "ana@example.com",
            "expirationTime": "2027-01-31T00:00:00Z",
        },
    });
    for kind in KINDS {
        let mut whole = accepted(kind);
        if kind == "SecretEncryption" {
            whole["spec"] = encryption.clone();
        }
        let mut all_pointers = Vec::new();
        pointers(&whole["spec"], "/spec", &mut all_pointers);
        all.push(whole.clone());
        for pointer in all_pointers {
            for value in hostile(whole.pointer(&pointer).unwrap()) {
                // An API server lets a list stand for a time (kube-openapi looks at the format alone); nobody can read it.
                if (pointer.ends_with("Time") || pointer.ends_with("/time")) && value.is_array() {
                    continue;
                }
                let mut object = whole.clone();
                *object.pointer_mut(&pointer).unwrap() = value;
                all.push(object);
            }
        }
    }
    all
}

/// Whether the API server refuses each, as `kubectl apply` asks it: a field it does not know is refused, not dropped.
async fn by_the_api_server(client: &Client, objects: &[Value]) -> Vec<Option<String>> {
    let mut answers = Vec::new();
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        let typed: Result<DynamicObject, _> = serde_json::from_value(object.clone());
        let api = api(client, kind, object["metadata"]["namespace"].as_str());
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let created = api.create(&dry_run, &typed.unwrap()).await;
        // Other tests create the same names on this API server; it validates before it looks whether a name is taken.
        let refused = created
            .err()
            .filter(|error| !matches!(error, kube::Error::Api(status) if status.code == 409));
        answers.push(refused.map(|error| error.to_string()));
    }
    answers
}

/// Whether `cloison plan -f` refuses each: the files that it names.
fn by_the_command_line(objects: &[Value]) -> Vec<Option<String>> {
    let folder = tempfile::tempdir().unwrap();
    let name = |number: usize| format!("{number:05}.json");
    for (number, object) in objects.iter().enumerate() {
        fs::write(folder.path().join(name(number)), object.to_string()).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command
        .args(["plan", "-f", "."])
        .current_dir(folder.path())
        .env("KUBECONFIG", "/nowhere");
    let said = command.output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    let mut refused: BTreeMap<&str, &str> = BTreeMap::new();
    // One file says nothing against another: that two hold the same object is no verdict on either.
    for line in said.lines().filter(|line| !line.contains(" was already read from ")) {
        let file = line.trim_start_matches("./").split(':').next().unwrap();
        refused.entry(file).or_insert(line);
    }
    let files: BTreeSet<String> = (0..objects.len()).map(name).collect();
    assert!(refused.keys().all(|file| files.contains(*file)), "{said}");
    (0..objects.len())
        .map(|number| refused.get(name(number).as_str()).map(|line| (*line).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_refuses_what_the_api_server_refuses() {
    let client = installed().await.admin().unwrap();
    let objects = objects();
    let theirs = by_the_api_server(&client, &objects).await;
    let ours = by_the_command_line(&objects);
    let count = |answers: &[Option<String>]| {
        let refused = answers.iter().flatten().count();
        (answers.len() - refused, refused)
    };
    let ((their_yes, their_no), (our_yes, our_no)) = (count(&theirs), count(&ours));
    eprintln!("API server: {their_yes} accepted, {their_no} refused; plan -f: {our_yes} accepted, {our_no} refused");
    let differ = objects.iter().zip(theirs.iter().zip(&ours));
    let differ = differ.filter(|(_, (theirs, ours))| theirs.is_some() != ours.is_some());
    let differ: Vec<String> = differ
        .map(|(object, (theirs, ours))| format!("{object:.400}\n  API server: {theirs:.300?}\n  plan -f: {ours:?}"))
        .collect();
    assert!(
        differ.is_empty(),
        "{} of {} differ\n{}",
        differ.len(),
        objects.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    assert!(
        their_yes > 50 && their_no > 500,
        "one-sided: {their_yes} accepted, {their_no} refused"
    );
}

#[test]
fn a_plan_refuses_the_cases_in_the_same_words() {
    let cases = on_create();
    let objects = |case: &crate::cases::Case| {
        let mut object = accepted(case.kind);
        for (pointer, value) in &case.changes {
            change(&mut object, pointer, value.clone());
        }
        object
    };
    let said = by_the_command_line(&cases.iter().map(objects).collect::<Vec<_>>());
    let wrong: Vec<String> = cases
        .iter()
        .zip(&said)
        .filter(|(case, said)| !said.as_ref().is_some_and(|said| said.contains(case.says)))
        .map(|(case, said)| format!("{}: wanted: {}\n  said: {said:?}", case.kind, case.says))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
