//! What the canaries' answers prove, and what they do not. No cluster needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value, clippy::too_many_lines)] // tables read best whole
#![allow(clippy::items_after_statements, clippy::semicolon_if_nothing_returned)]

use cloison::admission::{
    Answer, Canary, Operator, Outcome, ReplicaAnswers, Waived, canaries, generate, judge, unprobed,
};
use cloison::api::conditions::Truth;
use cloison::api::policy::AiSecurityPolicySpec;
use k8s_openapi::jiff::Timestamp;

const HASH: &str = "1a2b3c4d";

fn refusal(canary: &Canary, hash: &str) -> Outcome {
    Outcome::Refused(format!(
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy '{}' with binding '{}' denied request: [cloison {hash}] {} …",
        canary.policy, canary.binding, canary.rule
    ))
}

/// One change to the answers, the truth and the reason that must follow.
#[test]
fn anything_less_than_a_refusal_of_ours_beside_a_pass_is_no_proof() {
    let spec = AiSecurityPolicySpec::default();
    let set = generate(
        &spec,
        &Operator::in_namespace("cloison-system"),
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    );
    let canaries = canaries(&set, &spec, Timestamp::UNIX_EPOCH);
    let good = |identity: &str| ReplicaAnswers {
        identity: identity.to_owned(),
        answers: canaries
            .iter()
            .map(|canary| Answer {
                id: canary.id.to_owned(),
                negative: refusal(canary, HASH),
                positive: Outcome::Passed,
            })
            .collect(),
    };
    type Break = fn(&mut ReplicaAnswers, &Canary);
    let rows: [(&str, Break, Truth, &str); 13] = [
        ("nothing", |_, _| {}, Truth::True, "CanariesRefused"),
        (
            "one passes",
            |r, _| r.answers[0].negative = Outcome::Passed,
            Truth::False,
            "NoBinding",
        ),
        (
            "all pass",
            |r, _| r.answers.iter_mut().for_each(|a| a.negative = Outcome::Passed),
            Truth::False,
            "PluginDisabled",
        ),
        (
            "old hash",
            |r, c| r.answers[0].negative = refusal(c, "ffffffff"),
            Truth::False,
            "OldHash",
        ),
        (
            "longer hash",
            |r, c| r.answers[0].negative = refusal(c, "1a2b3c4d5"),
            Truth::False,
            "OldHash",
        ),
        (
            "RBAC",
            |r, _| r.answers[0].negative = Outcome::Refused("User cannot create pods".into()),
            Truth::Unknown,
            "RefusedByOther",
        ),
        (
            "another binding",
            |r, c| {
                r.answers[0].negative = refusal(
                    &Canary {
                        binding: "cloison-pod-x".into(),
                        ..c.clone()
                    },
                    HASH,
                )
            },
            Truth::Unknown,
            "RefusedByOther",
        ),
        (
            "another policy",
            |r, c| {
                r.answers[0].negative = refusal(
                    &Canary {
                        policy: "other".into(),
                        ..c.clone()
                    },
                    HASH,
                )
            },
            Truth::Unknown,
            "RefusedByOther",
        ),
        (
            "an error in the expression",
            |r, c| {
                r.answers[0].negative = Outcome::Refused(format!(
                    "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: expression failed",
                    c.policy, c.binding
                ))
            },
            Truth::Unknown,
            "RefusedByOther",
        ),
        (
            "no connection",
            |r, _| r.answers[0].negative = Outcome::Failed("timeout".into()),
            Truth::Unknown,
            "CanaryFailed",
        ),
        (
            "the control fails",
            |r, _| r.answers[0].positive = Outcome::Failed("timeout".into()),
            Truth::Unknown,
            "CanaryFailed",
        ),
        (
            "the control is refused",
            |r, c| r.answers[0].positive = refusal(c, HASH),
            Truth::Unknown,
            "ControlRefused",
        ),
        (
            "not asked",
            |r, _| drop(r.answers.remove(0)),
            Truth::Unknown,
            "ReplicaMissing",
        ),
    ];
    let fresh = ["a".to_owned(), "b".to_owned()];
    for (what, breaks, truth, reason) in rows {
        let mut second = good("b");
        breaks(&mut second, &canaries[0]);
        let proof = judge(&canaries, &[good("a"), second], &fresh, HASH);
        assert_eq!(
            (proof.truth, proof.reason),
            (truth, reason),
            "{what}: {}",
            proof.message
        );
    }
    let judged = |canaries: &[Canary], replicas: &[ReplicaAnswers], fresh: &[String]| {
        judge(canaries, replicas, fresh, HASH).truth
    };
    assert_eq!(
        judged(&canaries, &[good("a")], &fresh),
        Truth::Unknown,
        "an API server without an answer"
    );
    assert_eq!(judged(&canaries, &[good("a")], &[]), Truth::Unknown, "no leases");
    assert_eq!(
        judged(&[], &[good("a"), good("b")], &fresh),
        Truth::Unknown,
        "no canaries"
    );
    // What lets a canary pass is told before what could not be asked.
    let mut second = good("b");
    second.answers[0].negative = Outcome::Passed;
    assert_eq!(judged(&canaries, &[second], &fresh), Truth::False);
}

#[test]
fn only_answers_of_the_door_are_refusals() {
    assert_eq!(Outcome::from_status(201, ""), Outcome::Passed);
    for code in [403, 422] {
        assert_eq!(Outcome::from_status(code, "m"), Outcome::Refused("m".into()));
    }
    for code in [400, 401, 404, 409, 429, 500, 503, 504] {
        assert_eq!(Outcome::from_status(code, "m"), Outcome::Failed("m".into()));
    }
}

/// A policy that refuses and that no canary tries may be switched off without anybody seeing it.
#[test]
fn a_policy_that_nobody_probed_is_named_and_not_claimed() {
    let weaker = |controls: &[(&str, &str)]| {
        let controls: Vec<_> = controls
            .iter()
            .map(|(id, mode)| serde_json::json!({"id": id, "mode": mode, "reason": "tried out"}))
            .collect();
        serde_json::from_value(serde_json::json!({ "controls": controls })).unwrap()
    };
    let audit_in_training = |ids: [&str; 2]| {
        let controls = ids.map(|id| {
            serde_json::json!({"id": id, "mode": "Enforce", "perStage": {"training": "Audit"}, "reason": "tried out"})
        });
        serde_json::from_value(serde_json::json!({ "controls": controls })).unwrap()
    };
    let rows: [(AiSecurityPolicySpec, &[&str]); 8] = [
        (AiSecurityPolicySpec::default(), &[]),
        (audit_in_training(["WKL-01", "WKL-02"]), &["cloison-pod"]),
        (audit_in_training(["NET-02", "DAT-01"]), &["cloison-crd"]),
        (audit_in_training(["NET-05", "NET-10"]), &["cloison-net"]),
        (
            audit_in_training(["IAM-06", "IAM-07"]),
            &["cloison-connect", "cloison-rbac"],
        ),
        (audit_in_training(["IAM-07", "WKL-06"]), &["cloison-rbac"]),
        (audit_in_training(["DAT-07", "ENC-02"]), &["cloison-store"]),
        // Where nothing is refused anywhere, there is nothing to see.
        (weaker(&[("NET-02", "Audit"), ("DAT-01", "Audit")]), &[]),
    ];
    for (spec, named) in rows {
        let set = generate(
            &spec,
            &Operator::in_namespace("cloison-system"),
            &Waived::default(),
            Timestamp::UNIX_EPOCH,
        );
        let canaries = canaries(&set, &spec, Timestamp::UNIX_EPOCH);
        let unprobed = unprobed(&set, &spec, Timestamp::UNIX_EPOCH);
        assert_eq!(unprobed, named);
        let answers = canaries.iter().map(|canary| Answer {
            id: canary.id.to_owned(),
            negative: refusal(canary, HASH),
            positive: Outcome::Passed,
        });
        let replica = ReplicaAnswers {
            identity: "a".to_owned(),
            answers: answers.collect(),
        };
        let proof = judge(&canaries, &[replica], &["a".to_owned()], HASH).but_for(&unprobed);
        match named {
            [] => assert_eq!(proof.truth, Truth::True, "{}", proof.message),
            [name, ..] => {
                assert_eq!((proof.truth, proof.reason), (Truth::Unknown, "NotProbed"));
                assert!(proof.message.contains(name), "{}", proof.message);
            }
        }
    }
    // What was seen not to hold stays seen.
    let disproven = judge(&[], &[], &[], HASH).but_for(&["cloison-pod".to_owned()]);
    assert_eq!(disproven.reason, "ReplicaMissing");
}
