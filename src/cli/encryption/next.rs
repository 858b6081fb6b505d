//! The next command, by what is not True.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::api::SecretEncryption;
use crate::api::conditions;
use crate::encryption::proof::reasons;
use crate::encryption::sweep::reads::reasons as stored;

/// Where nobody asked for anything.
pub(super) const WITHOUT_SETTINGS: &str = "cloison encryption verify   # proves now what is stored and how";

/// One line: a command where there is one.
pub(super) fn next(settings: &SecretEncryption) -> String {
    let status = settings.status.clone().unwrap_or_default();
    // A rotation that waits for somebody comes first.
    match status.next_command {
        Some(next) => next.0,
        None => by_condition(&status.conditions).to_owned(),
    }
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
}
