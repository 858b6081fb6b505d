//! Requests about Waivers, the policy and the encryption.

use super::*;

fn waiver(change: impl FnOnce(&mut Value)) -> Answer {
    let mut object = json!({
        "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver", "metadata": {"name": "w"},
        "spec": {
            "target": {"namespace": "train"}, "controls": ["SUP-01"], "reason": "Shadow evaluation of the new detector",
            "requestedBy": "alice", "expirationTime": "2030-01-02T00:00:00Z",
        },
    });
    change(&mut object);
    judged(&body(WAIVERS, "", "CREATE", &object, &Value::Null), &sight())
}

#[test]
fn a_waiver_that_could_never_hold_is_refused() {
    type Change = fn(&mut Value);
    assert_eq!(waiver(|_| {}), Answer::default());
    let cases: [(&str, &str, Change); 4] = [
        ("OPS-02", "spec.expirationTime", |o| {
            o["spec"]["expirationTime"] = json!("2029-01-01T00:00:00Z")
        }),
        ("OPS-02/too-long", "spec.expirationTime", |o| {
            o["spec"]["expirationTime"] = json!("2031-01-01T00:00:00Z")
        }),
        ("OPS-02/unknown-control", "spec.controls", |o| {
            o["spec"]["controls"] = json!(["SUP-99"])
        }),
        ("OPS-02/target", "spec.target", |o| {
            o["spec"]["controls"] = json!(["NET-03"]);
            let end = |namespace: &str| json!({"namespace": namespace, "workload": "a"});
            o["spec"]["flow"] = json!({"from": end("infer"), "to": end("common"), "ports": [{"port": 80}]});
        }),
    ];
    for (rule, field, change) in cases {
        let answer = waiver(change);
        if rule == "OPS-02/target" {
            assert_eq!(answer.observed.len(), 1, "the catalogue has it in Audit: {answer:?}");
            continue;
        }
        assert_eq!(rules(&answer), [rule]);
        assert_eq!(answer.refused[0].at.as_ref().unwrap().field.as_deref(), Some(field));
    }
    let slip = waiver(|o| o["spec"]["target"]["namespace"] = json!("trian"));
    assert!(
        slip.allows() && slip.warnings[0].contains("did you mean \"train\"?"),
        "{slip:?}"
    );
    for (controls, said) in [
        (
            json!(["WKL-06/exec"]),
            "it would open nothing: nothing that judges WKL-06/exec",
        ),
        (
            json!(["SUP-01", "WKL-06/exec"]),
            "it would not open all that it names: nothing that judges WKL-06/exec",
        ),
    ] {
        let deaf = waiver(|o| o["spec"]["controls"] = controls);
        assert!(deaf.allows() && deaf.warnings.concat().contains(said), "{deaf:?}");
    }
}

#[test]
fn settings_that_nobody_would_hear_are_refused() {
    let policy = |controls: Value, old: Value| {
        let object = |controls: &Value| json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {"controls": controls}});
        let old = if old.is_null() { Value::Null } else { object(&old) };
        let operation = if old.is_null() { "CREATE" } else { "UPDATE" };
        judged(&body(POLICIES, "", operation, &object(&controls), &old), &sight())
    };
    let weak = json!([{"id": "NET-04", "mode": "Audit"}]);
    assert_eq!(rules(&policy(weak.clone(), Value::Null)), ["CLU-02/reason"]);
    assert_eq!(
        policy(weak.clone(), weak.clone()),
        Answer::default(),
        "it was so before"
    );
    assert_eq!(
        policy(
            json!([{"id": "NET-04", "mode": "Audit", "reason": "trial"}]),
            Value::Null
        ),
        Answer::default()
    );
    let off = json!([{"id": "NET-07", "mode": "Disabled", "reason": "no"}]);
    let refused = policy(off, Value::Null);
    assert_eq!(rules(&refused), ["CLU-02/untouchable"]);
    assert_eq!(
        refused.refused[0].at.as_ref().unwrap().field.as_deref(),
        Some("spec.controls[0]")
    );
    let encryption = |recipient: &str| {
        let object = json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
            "spec": {"escrow": {"recipients": [recipient]}}});
        rules(&judged(
            &body(ENCRYPTIONS, "", "CREATE", &object, &Value::Null),
            &sight(),
        ))
    };
    let good = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    assert_eq!(encryption(good), [""; 0]);
    assert_eq!(encryption(&good.replace("3z7h", "3z7k")), ["ENC-01/escrow"]);
}
