//! Turns evidence into what the judges take.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::evidence::Snapshot;
use super::judge::Proof;
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::api::encryption::SecretEncryptionStatus;
use crate::api::policy::AiSecurityPolicySpec;

/// Conditions of `SecretEncryption`.
mod encryption_types {
    pub const ENCRYPTED: &str = "Encrypted";
    pub const DEGRADED: &str = "Degraded";
}

/// What the canaries have shown; `None` until they ran.
pub fn admission(seen: &Snapshot) -> Option<Proof> {
    seen.admission.as_ref().map(|proof| Proof {
        truth: proof.truth,
        reason: proof.reason,
        message: proof.message.clone(),
    })
}

/// What is known of Secrets; a proof older than `max_age` says nothing any more.
pub fn encryption(seen: &Snapshot, now: &Time, max_age: Duration) -> Option<Proof> {
    seen.encryption.as_ref().map(|proof| {
        let verdict = proof.verdict(types::SECRETS_ENCRYPTED, now, max_age);
        Proof {
            truth: verdict.truth,
            reason: verdict.reason,
            message: verdict.message,
        }
    })
}

/// The oldest a proof about Secrets may be.
pub fn max_age(policy: &AiSecurityPolicySpec) -> Duration {
    let hours = policy
        .secrets
        .as_ref()
        .map_or(24, |secrets| secrets.proof_max_age_hours);
    Duration::from_secs(u64::try_from(hours).unwrap_or(24) * 3600)
}

/// The status of `SecretEncryption`. `now` is in whole seconds, as conditions are; `moment` tells the age of the proof.
pub fn encryption_status(
    seen: &Snapshot,
    present: &SecretEncryptionStatus,
    generation: Option<i64>,
    max_age: Duration,
    now: &Time,
    moment: &Time,
) -> SecretEncryptionStatus {
    let Some(proof) = &seen.encryption else {
        let verdict = Verdict::new(
            encryption_types::ENCRYPTED,
            Truth::Unknown,
            "NotProbed",
            "no proof was gathered yet",
        );
        return SecretEncryptionStatus {
            observed_generation: generation,
            conditions: conditions::conditions(&present.conditions, &[verdict], generation, now),
            replicas: Vec::new(),
        };
    };
    let mut verdicts = vec![proof.verdict(encryption_types::ENCRYPTED, moment, max_age)];
    if let Some(degraded) = &proof.degraded {
        verdicts.push(Verdict::new(
            encryption_types::DEGRADED,
            Truth::True,
            "UnreadableValues",
            degraded.clone(),
        ));
    }
    SecretEncryptionStatus {
        observed_generation: generation,
        conditions: conditions::conditions(&present.conditions, &verdicts, generation, now),
        replicas: proof.replicas.clone(),
    }
}
