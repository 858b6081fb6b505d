//! Proofs by age and by what was asked for, and what the status says of them.

use serde_json::{Value, json};

use super::*;
use crate::api::conditions;
use crate::api::encryption_status::SecretEncryptionStatus;
use crate::controller::encryption_status;
use crate::controller::evidence::AdmissionProof;
use crate::controller::evidence::RotationSeen;
use crate::controller::evidence::reads::ReadsProof;
use crate::encryption::EncryptionProof;
use crate::encryption::rotation::at_rest::AtRest;
use crate::network::enforcement;

fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

fn seen(at: &str) -> Snapshot {
    Snapshot {
        admission: Some(AdmissionProof {
            truth: Truth::True,
            reason: "CanariesRefused",
            message: "refused".to_owned(),
            policy_hash: "11111111".to_owned(),
            at: time(at),
        }),
        encryption: Some(EncryptionProof {
            truth: Truth::True,
            reason: reasons::NEW_WRITES_ENCRYPTED,
            ..EncryptionProof::unreadable("encrypted", &time(at))
        }),
        packets: Some(PacketProof {
            verdict: enforcement::Verdict {
                truth: Truth::True,
                reason: "PacketsObey",
                message: "dropped".to_owned(),
            },
            at: time(at),
        }),
        reads: None,
        rotation: None,
    }
}

fn asked(policy: Value, encryption: Value) -> Asked {
    let policy: AiSecurityPolicySpec = serde_json::from_value(policy).unwrap();
    let encryption: Option<SecretEncryptionSpec> = serde_json::from_value(encryption).unwrap();
    Asked::of(Some(&policy), encryption.as_ref())
}

#[test]
fn a_proof_of_other_policies_is_no_proof_of_these() {
    let (seen, now) = (seen("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:01Z"));
    let day = Duration::from_hours(24);
    assert_eq!(admission(&seen, "11111111", &now, day).unwrap().truth, Truth::True);
    let other = admission(&seen, "22222222", &now, day).unwrap();
    assert_eq!((other.truth, other.reason), (Truth::Unknown, "Activating"));
    assert!(other.message.contains("11111111") && other.message.contains("22222222"));
    assert!(admission(&Snapshot::default(), "11111111", &now, day).is_none());
}

#[test]
fn an_old_proof_says_nothing_of_either_leg() {
    let (seen, later) = (seen("2026-01-01T00:00:00Z"), time("2026-01-01T02:00:01Z"));
    for (hours, truth) in [(3, Truth::True), (2, Truth::Unknown)] {
        let asked = asked(json!({}), json!({ "proofMaxAgeHours": hours }));
        let found = admission(&seen, "11111111", &later, asked.max_age).unwrap();
        assert_eq!(found.truth, truth, "{}", found.message);
        let found = encryption(&seen, &later, &asked).unwrap();
        assert_eq!(found.truth, truth, "{}", found.message);
    }
}

#[test]
fn packets_count_while_they_are_asked_for_and_young() {
    let (seen, later) = (seen("2026-01-01T00:00:00Z"), time("2026-01-01T02:00:01Z"));
    let (two, three) = (Duration::from_hours(2), Duration::from_hours(3));
    for (asked, seen, max_age, truth, reason) in [
        (EnforcementProof::OnChange, &seen, three, Truth::True, "PacketsObey"),
        (EnforcementProof::Periodic, &seen, three, Truth::True, "PacketsObey"),
        (
            EnforcementProof::OnChange,
            &seen,
            two,
            Truth::Unknown,
            reasons::PROOF_STALE,
        ),
        (EnforcementProof::None, &seen, three, Truth::Unknown, "NotProbed"),
        (
            EnforcementProof::Periodic,
            &Snapshot::default(),
            three,
            Truth::Unknown,
            "NotProbed",
        ),
    ] {
        let found = packets(seen, asked, &later, max_age);
        assert_eq!((found.truth, found.reason), (truth, reason), "{}", found.message);
    }
}

#[test]
fn the_stricter_age_holds() {
    let hours = |policy, encryption| asked(policy, encryption).max_age.as_secs() / 3600;
    let of_policy = |hours: i32| json!({"secrets": {"proofMaxAgeHours": hours}});
    assert_eq!(hours(json!({}), Value::Null), 24);
    assert_eq!(hours(of_policy(48), Value::Null), 48);
    assert_eq!(hours(of_policy(48), json!({"proofMaxAgeHours": 2})), 2);
    assert_eq!(hours(of_policy(3), json!({"proofMaxAgeHours": 12})), 3);
    assert_eq!(hours(json!({}), json!({"proofMaxAgeHours": 100})), 100);
}

#[test]
fn stored_values_count_while_the_api_servers_are_those_that_were_read() {
    let now = time("2026-01-01T01:00:00Z");
    let asked = asked(json!({}), json!({"proof": "Reads", "proofMaxAgeHours": 2}));
    let replica = |hash: &str| crate::api::encryption_status::ReplicaStatus {
        identity: "a".to_owned(),
        address: None,
        configuration_hash: Some(hash.to_owned()),
        writes: None,
        key_id_hash: None,
    };
    let proof = |truth, reason, hash: &str, at: &str| {
        Some(ReadsProof {
            reads: crate::encryption::sweep::Reads {
                truth,
                reason,
                ..crate::encryption::sweep::unread("read")
            },
            shape: Shape::from([(
                "a".to_owned(),
                RunsWith {
                    file: Some(hash.to_owned()),
                    key_id: None,
                },
            )]),
            at: time(at),
        })
    };
    let (yes, no) = (reads::reasons::VALUES_ENCRYPTED, reads::reasons::PLAINTEXT_VALUES);
    let at = "2026-01-01T00:59:00Z";
    for (found, truth, reason) in [
        (None, Truth::Unknown, reads::reasons::NOT_READ),
        (proof(Truth::True, yes, "x", at), Truth::True, yes),
        (proof(Truth::False, no, "x", at), Truth::False, no),
        (
            proof(Truth::True, yes, "y", at),
            Truth::Unknown,
            reads::reasons::NOT_READ,
        ),
        (
            proof(Truth::True, yes, "x", "2025-12-31T22:59:59Z"),
            Truth::Unknown,
            reasons::PROOF_STALE,
        ),
    ] {
        let mut seen = seen("2026-01-01T00:59:30Z");
        seen.encryption.as_mut().unwrap().replicas = vec![replica("x")];
        seen.reads = found;
        let said = encryption(&seen, &now, &asked).unwrap();
        assert_eq!((said.truth, said.reason), (truth, reason), "{}", said.message);
    }
    // What new writes disprove, no reading proves.
    let mut seen = seen(at);
    seen.encryption.as_mut().unwrap().replicas = vec![replica("x")];
    seen.encryption.as_mut().unwrap().truth = Truth::False;
    seen.reads = proof(Truth::True, yes, "x", at);
    assert_eq!(encryption(&seen, &now, &asked).unwrap().truth, Truth::False);
}

#[test]
fn managed_encryption_is_proven_by_raw_etcd_alone_and_disproven_by_any_plaintext() {
    let manage = json!({"mode": "Manage", "proofMaxAgeHours": 2, "escrow": {"requirement": "Waived"}});
    let asked = asked(json!({}), manage);
    let at_rest = |truth, read: &str| AtRest {
        truth,
        reason: reads::reasons::VALUES_ENCRYPTED,
        message: "read".to_owned(),
        read: Some(time(read)),
        at: time(read),
    };
    let now = time("2026-01-01T01:00:00Z");
    for (new, found, truth, reason) in [
        // The canary proves new values, and those alone.
        (Truth::True, None, None, ""),
        (
            Truth::True,
            Some((Truth::True, "2026-01-01T00:59:00Z")),
            Some(Truth::True),
            reads::reasons::VALUES_ENCRYPTED,
        ),
        (
            Truth::Unknown,
            Some((Truth::True, "2026-01-01T00:59:00Z")),
            Some(Truth::True),
            reads::reasons::VALUES_ENCRYPTED,
        ),
        (
            Truth::True,
            Some((Truth::True, "2025-12-31T22:59:59Z")),
            Some(Truth::Unknown),
            reasons::PROOF_STALE,
        ),
        (
            Truth::False,
            Some((Truth::True, "2026-01-01T00:59:00Z")),
            Some(Truth::False),
            reasons::NEW_WRITES_ENCRYPTED,
        ),
    ] {
        let mut seen = seen("2026-01-01T00:59:30Z");
        seen.encryption.as_mut().unwrap().truth = new;
        seen.rotation = found.map(|(truth, read)| RotationSeen {
            decision: crate::encryption::rotation::Decision::unread(String::new()),
            keys: Vec::new(),
            values: Vec::new(),
            claims: Vec::new(),
            at_rest: at_rest(truth, read),
        });
        let said = encryption(&seen, &now, &asked);
        assert_eq!(said.as_ref().map(|said| said.truth), truth);
        assert_eq!(said.as_ref().map_or("", |said| said.reason), reason);
        let status = encryption_status::judged(&seen, &SecretEncryptionStatus::default(), Some(1), &asked, &now, &now);
        let encrypted = conditions::find(&status.conditions, "Encrypted").unwrap();
        assert_eq!(encrypted.status, truth.unwrap_or(Truth::Unknown).as_str());
    }
}

#[test]
fn what_was_claimed_in_an_old_look_is_not_known_any_more() {
    let at = time("2026-01-01T00:00:00Z");
    let mut seen = seen("2026-01-01T00:00:00Z");
    let mut rotation = RotationSeen {
        decision: crate::encryption::rotation::Decision::unread(String::new()),
        keys: Vec::new(),
        values: Vec::new(),
        claims: vec![Verdict::new("Converged", Truth::True, "Converged", "all run with it")],
        at_rest: AtRest::unread(String::new(), &at),
    };
    rotation.decision.blocked_by.clear();
    seen.rotation = Some(rotation);
    let asked = asked(json!({}), json!({"mode": "Manage"}));
    for (now, converged, blocked) in [
        ("2026-01-01T00:02:00Z", Truth::True, Truth::False),
        ("2026-01-01T00:02:01Z", Truth::Unknown, Truth::Unknown),
    ] {
        let now = time(now);
        let status = encryption_status::judged(&seen, &SecretEncryptionStatus::default(), Some(1), &asked, &now, &now);
        let said = |kind| conditions::find(&status.conditions, kind).unwrap().status.clone();
        assert_eq!(said("Converged"), converged.as_str(), "{}", now.0);
        assert_eq!(said("Blocked"), blocked.as_str(), "{}", now.0);
    }
}

#[test]
fn what_is_asked_and_not_done_is_said_and_never_claimed() {
    let (seen, now) = (seen("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:01Z"));
    for (spec, truth, word) in [
        (json!({}), Truth::True, None),
        (json!({"suspend": true}), Truth::True, Some("`suspend`")),
    ] {
        let asked = asked(json!({}), spec);
        let said = encryption(&seen, &now, &asked).unwrap();
        assert_eq!(said.truth, truth, "{}", said.message);
        let present = SecretEncryptionStatus::default();
        let status = encryption_status::judged(&seen, &present, Some(1), &asked, &now, &now);
        let converged = conditions::find(&status.conditions, "Converged");
        let encrypted = conditions::find(&status.conditions, "Encrypted").unwrap();
        assert_eq!(encrypted.status, truth.as_str());
        match word {
            None => assert!(converged.is_none() && !said.message.contains("version")),
            Some(word) => {
                let converged = converged.unwrap();
                assert_eq!((&*converged.status, &*converged.reason), ("Unknown", "NotSupported"));
                assert!(converged.message.contains(word) && said.message.contains(word));
            }
        }
    }
}
