//! The next command, by what is not True.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::encryption::EncryptionMode;
use crate::api::{SecretEncryption, conditions, names};
use crate::encryption::proof::reasons;
use crate::encryption::rotation::told;
use crate::encryption::sweep::reads::reasons as stored;

/// Where nobody asked for anything.
pub(super) const WITHOUT_SETTINGS: &str = "cloison encryption verify   # proves now what is stored and how";

/// One line: a command where there is one.
pub(super) fn next(settings: &SecretEncryption) -> String {
    let status = settings.status.clone().unwrap_or_default();
    // A rotation that waits for somebody comes first.
    match status.next_command {
        Some(next) => next.0,
        None if settings.spec.mode == EncryptionMode::Manage => managed(&status.conditions),
        None => by_condition(&status.conditions).to_owned(),
    }
}

/// While the keys rotate by themselves, and nothing is in their way.
fn managed(all: &[Condition]) -> String {
    let is = |kind, status| conditions::find(all, kind).is_some_and(|found| found.status == status);
    if is("Degraded", "True") {
        return by_condition(all).to_owned();
    }
    if is(told::types::ROTATING, "True") {
        return "nothing to do: the rotation goes on by itself".to_owned();
    }
    if !is("Encrypted", "True") {
        return "cloison encryption verify   # tries again now, and says what is missing".to_owned();
    }
    if is(told::types::RESIDUAL_PLAINTEXT, "True") {
        return format!(
            "etcdctl defrag on every member, delete older snapshots, then: kubectl annotate --overwrite secretencryption \
             default {}=\"$(date -u +%FT%TZ)\"",
            names::PURGED_ANNOTATION
        );
    }
    "nothing to do".to_owned()
}

fn by_condition(conditions: &[Condition]) -> &'static str {
    let reason = |kind| conditions::find(conditions, kind).map(|found| found.reason.as_str());
    if reason("Degraded").is_some() {
        return "cloison encryption verify   # names a value that no key decrypts";
    }
    match reason("Encrypted").unwrap_or_default() {
        reasons::PLAINTEXT_WRITES | reasons::NOT_CONFIGURED => {
            "put an encrypting provider first in the EncryptionConfiguration of every API server"
        }
        reasons::HASH_DIVERGENT => {
            "give every API server the same EncryptionConfiguration; the table shows who differs"
        }
        reasons::REPLICA_UNSEEN => "let the controller reach every API server, or remove the one that is gone",
        reasons::UNVERIFIABLE | reasons::NO_IDENTITIES => {
            "let ServiceAccount cloison-canary read /metrics; where the provider hides it, set spec.attestation"
        }
        reasons::KEY_IDS_DIFFER => "give every KMS plugin the same key; the message of Encrypted names who differs",
        reasons::KMS_UNHEALTHY => "start the KMS plugin again; the message of Encrypted names who misses it",
        stored::PLAINTEXT_VALUES | stored::OLD_KEY_ID => "cloison encryption rewrite",
        reasons::NEW_WRITES_ENCRYPTED => {
            "cloison encryption verify   # old values too; `proof: Reads` keeps proving them"
        }
        stored::VALUES_ENCRYPTED => "nothing to do",
        _ => "cloison encryption verify   # tries again now, and says what is missing",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::text::Line;

    fn with(reason: &str) -> SecretEncryption {
        serde_json::from_value(json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"}, "spec": {},
            "status": {"conditions": [{
                "type": "Encrypted", "status": "Unknown", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_wrong_leads_to_what_helps() {
        assert_eq!(next(&with(stored::PLAINTEXT_VALUES)), "cloison encryption rewrite");
        assert_eq!(next(&with(stored::OLD_KEY_ID)), "cloison encryption rewrite");
        assert_eq!(next(&with(stored::VALUES_ENCRYPTED)), "nothing to do");
        assert!(next(&with("SomethingNew")).starts_with("cloison encryption verify"));
        assert!(next(&with(reasons::HASH_DIVERGENT)).contains("the same EncryptionConfiguration"));
        let mut waits = with(stored::VALUES_ENCRYPTED);
        waits.status.as_mut().unwrap().next_command = Some(Line("cloison ring approve cp-1".to_owned()));
        assert_eq!(next(&waits), "cloison ring approve cp-1");
    }
    #[test]
    fn while_keys_rotate_by_themselves_a_person_is_asked_for_nothing_else() {
        let with = |all: &[(&str, &str)]| -> SecretEncryption {
            let all: Vec<_> = all
                .iter()
                .map(|(kind, status)| json!({"type": kind, "status": status, "reason": "PlaintextValues", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}))
                .collect();
            serde_json::from_value(json!({
                "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption", "metadata": {"name": "default"},
                "spec": {"mode": "Manage"}, "status": {"conditions": all},
            }))
            .unwrap()
        };
        for (all, word) in [
            (
                &[("Degraded", "True"), ("Rotating", "True")][..],
                "cloison encryption verify",
            ),
            (&[("Encrypted", "False"), ("Rotating", "True")], "goes on by itself"),
            (
                &[("Encrypted", "Unknown"), ("Rotating", "False")],
                "cloison encryption verify",
            ),
            (
                &[("Encrypted", "True"), ("ResidualPlaintextPossible", "True")],
                "etcdctl defrag",
            ),
            (
                &[("Encrypted", "True"), ("ResidualPlaintextPossible", "False")],
                "nothing to do",
            ),
        ] {
            let said = next(&with(all));
            assert!(said.contains(word), "{all:?}: {said}");
        }
    }
}
