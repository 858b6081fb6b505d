//! `cloison check` on our settings kinds: what the webhook would refuse is refused before the merge, in its words.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::check::{POLICY, base, check, folder, lines};
use crate::command;
use cloison::admission::review::{Sight, read, review};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn encryption(recipient: &str) -> String {
    format!(
        "apiVersion: cloison.dev/v1alpha1\nkind: SecretEncryption\nmetadata: {{name: default}}\nspec:\n  escrow:\n    recipients:\n    \
         - {recipient}\n"
    )
}

fn waiver(controls: &str, days: i64) -> String {
    // To the second: what a test compares holds no more of the clock than that.
    let end = Timestamp::now() + SignedDuration::from_hours(24 * days);
    let end = Timestamp::from_second(end.as_second()).unwrap();
    format!(
        "apiVersion: cloison.dev/v1alpha1\nkind: Waiver\nmetadata: {{name: trial}}\nspec:\n  target: {{namespace: elsewhere}}\n  \
         controls: [{controls}]\n  reason: Shadow evaluation of the new detector\n  requestedBy: alice\n  expirationTime: {end}\n"
    )
}

/// The causes that the webhook names when such an object is created, each with its field.
fn webhook(plural: &str, manifest: &str) -> Vec<(String, String)> {
    let object: Value = serde_saphyr::from_str(manifest).unwrap();
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "kind": {"group": "cloison.dev", "version": "v1alpha1", "kind": object["kind"]},
            "resource": {"group": "cloison.dev", "version": "v1alpha1", "resource": plural},
            "name": object["metadata"]["name"], "namespace": "", "operation": "CREATE",
            "userInfo": {"username": "alice"}, "object": object, "oldObject": null, "dryRun": false,
        },
    });
    let request = read(body.to_string().as_bytes()).unwrap();
    let mut sight = Sight::default();
    sight.world.policy = Arc::new(serde_json::from_value(json!({})).unwrap());
    let answer = review(&request, &sight, &BTreeMap::new(), Timestamp::now());
    let said = serde_json::to_value(answer.review(&request, "hash").unwrap()).unwrap();
    let causes = said.pointer("/response/status/details/causes");
    let causes = causes.and_then(Value::as_array).into_iter().flatten();
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap().to_owned();
    causes
        .map(|cause| (text(cause, "field"), text(cause, "message")))
        .collect()
}

/// One that is refused, where, and one beside it that is not.
fn refused(plural: &str, bad: &str, place: &str, good: &str) {
    let causes = webhook(plural, bad);
    let [(field, message)] = causes.as_slice() else {
        panic!("{plural}: {causes:?}")
    };
    let folder = folder(&[("settings.yaml", bad)]);
    let said = check(folder.path(), &["-f", "settings.yaml"]);
    let wanted = format!("settings.yaml:{place} {field}: {message}\n");
    assert_eq!((said.code, &said.err), (2, &wanted), "{said:?}");
    let plan = command::cloison(folder.path(), &["plan", "-f", "settings.yaml"], "");
    assert_eq!((plan.code, &plan.err), (2, &wanted), "{plan:?}");
    // The control.
    assert_eq!(webhook(plural, good), [], "{plural}");
    std::fs::write(folder.path().join("settings.yaml"), good).unwrap();
    let said = check(folder.path(), &["-f", "settings.yaml"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.starts_with("no findings\n"), "{said:?}");
}

#[test]
fn a_setting_that_is_weaker_without_a_reason_is_refused() {
    let policy = |setting: &str| {
        format!(
            "apiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {{name: default}}\nspec:\n  controls:\n  - {setting}\n"
        )
    };
    let good = policy("{id: NET-04, mode: Audit, reason: a trial}");
    refused("aisecuritypolicies", &policy("{id: NET-04, mode: Audit}"), "6:5", &good);
    let staged = policy("{id: NET-04, perStage: {training: Disabled}}");
    refused("aisecuritypolicies", &staged, "6:5", &good);
}

#[test]
fn a_recipient_of_whom_one_letter_is_wrong_is_refused() {
    let wrong = RECIPIENT.replace("3z7h", "3z7k");
    refused("secretencryptions", &encryption(&wrong), "7:7", &encryption(RECIPIENT));
}

#[test]
fn a_waiver_that_could_never_hold_is_refused() {
    let good = waiver("SUP-01", 10);
    refused("waivers", &waiver("SUP-99", 10), "6:13", &good);
}

/// What a file cannot know is not held against it; what passes is told, and fails nothing.
#[test]
fn what_only_the_cluster_knows_is_not_refused() {
    let long = waiver("SUP-01", 200);
    let folder = folder(&[("waiver.yaml", &long)]);
    let alone = check(folder.path(), &["-f", "waiver.yaml"]);
    let told = |line: &str| line.starts_with("waiver.yaml:9:19 spec.expirationTime: ") && line.contains("OPS-02");
    let [line] = lines(&alone)[..] else { panic!("{alone:?}") };
    assert!(
        alone.code == 0 && told(line) && line.contains("longer than 90 days"),
        "{alone:?}"
    );
    // With the policy it is known, whichever it says.
    std::fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
    let files = ["-f", "waiver.yaml", "--policy", "policy.yaml"];
    let known = check(folder.path(), &files);
    assert!(
        known.code == 2
            && known
                .err
                .starts_with("waiver.yaml:9:19 spec.expirationTime: OPS-02/too-long "),
        "{known:?}"
    );
    let year = format!("{POLICY}  waivers: {{maxDays: 366}}\n");
    std::fs::write(folder.path().join("policy.yaml"), year).unwrap();
    assert_eq!(check(folder.path(), &files).code, 0);
    // One that has ended may be stored since long.
    std::fs::write(folder.path().join("waiver.yaml"), waiver("SUP-01", -1)).unwrap();
    let ended = check(folder.path(), &files);
    assert!(ended.code == 0 && told(lines(&ended)[0]), "{ended:?}");
    // Nobody asks about it: the webhook only warns.
    std::fs::write(folder.path().join("waiver.yaml"), waiver("WKL-06/exec", 10)).unwrap();
    let deaf = check(folder.path(), &files);
    let line = lines(&deaf)[0];
    assert!(
        deaf.code == 0 && deaf.err.is_empty() && line.contains("6:13 spec.controls: ") && line.contains("open nothing"),
        "{deaf:?}"
    );
}

/// Another repository answers for what is read beside.
#[test]
fn what_is_read_beside_is_not_judged() {
    let bad = waiver("SUP-99", 10);
    let folder = folder(&[("base.yaml", &base()), ("beside/waiver.yaml", &bad)]);
    let said = check(folder.path(), &["-f", "base.yaml", "--with", "beside"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert_eq!(check(folder.path(), &["-f", "base.yaml", "-f", "beside"]).code, 2);
}
