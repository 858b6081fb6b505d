//! What the status of `SecretEncryption` says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::evidence::{RotationSeen, Snapshot};
use super::proofs::Asked;
use crate::api::conditions::{self, Truth, Verdict};
use crate::api::encryption_status::SecretEncryptionStatus;
use crate::api::text::Line;
use crate::encryption::duties::report::line;

/// The status names so many things that are in the way (CRD).
const BLOCKED: usize = 16;
/// The reason where something is asked for that this version does not do.
const NOT_SUPPORTED: &str = "NotSupported";

/// Conditions.
mod types {
    pub const ENCRYPTED: &str = "Encrypted";
    pub const CONVERGED: &str = "Converged";
    pub const DEGRADED: &str = "Degraded";
}

/// The status of `SecretEncryption`. `now` is in whole seconds, as conditions are; `moment` tells the age of the proof.
pub fn judged(
    seen: &Snapshot,
    present: &SecretEncryptionStatus,
    generation: Option<i64>,
    asked: &Asked,
    now: &Time,
    moment: &Time,
) -> SecretEncryptionStatus {
    let encrypted = asked.verdict(types::ENCRYPTED, seen, moment);
    let mut verdicts = vec![encrypted.unwrap_or_else(|| {
        Verdict::new(
            types::ENCRYPTED,
            Truth::Unknown,
            "NotProbed",
            "no proof was gathered yet",
        )
    })];
    let rotation = seen.rotation.as_ref();
    let mut degraded: Vec<String> = seen
        .encryption
        .iter()
        .filter_map(|proof| proof.degraded.clone())
        .collect();
    degraded.extend(rotation.iter().flat_map(|rotation| rotation.decision.degraded.clone()));
    if !degraded.is_empty() {
        verdicts.push(Verdict::new(
            types::DEGRADED,
            Truth::True,
            "UnreadableValues",
            degraded.join("; "),
        ));
    }
    if let Some(rotation) = rotation {
        let found = rotation.decision.verdicts().into_iter().chain(rotation.claims.clone());
        verdicts.extend(found.map(|verdict| rotation.at_rest.aged(verdict, moment)));
    }
    if let Some(not_done) = asked.not_done() {
        verdicts.push(Verdict::new(types::CONVERGED, Truth::Unknown, NOT_SUPPORTED, not_done));
    }
    let replicas = seen.encryption.as_ref().map(|proof| proof.replicas.clone());
    SecretEncryptionStatus {
        observed_generation: generation,
        conditions: conditions::conditions(&present.conditions, &verdicts, generation, now),
        replicas: replicas.unwrap_or_default(),
        step: rotation.map(|rotation| rotation.decision.step),
        keys: rotation.map(|rotation| rotation.keys.clone()).unwrap_or_default(),
        values_per_key: rotation.map(|rotation| rotation.values.clone()).unwrap_or_default(),
        blocked_by: rotation.map(blocked).unwrap_or_default(),
        next_command: rotation.and_then(|rotation| rotation.decision.next_command.as_deref().map(line)),
        // The rotation orders, and nobody else.
        order: None,
    }
}

/// What is in the way, as many as the status holds.
fn blocked(rotation: &RotationSeen) -> Vec<Line> {
    let all = rotation.decision.blocked_by.iter().take(BLOCKED);
    all.map(|blocked| line(&blocked.to_string())).collect()
}

/// The status of `SecretEncryption` while nothing is decided: nothing is claimed.
pub fn held(
    present: &SecretEncryptionStatus,
    generation: Option<i64>,
    (reason, message): (&'static str, String),
    now: &Time,
) -> SecretEncryptionStatus {
    let verdict = Verdict::new(types::ENCRYPTED, Truth::Unknown, reason, message);
    SecretEncryptionStatus {
        observed_generation: generation,
        conditions: conditions::conditions(&present.conditions, &[verdict], generation, now),
        replicas: present.replicas.clone(),
        ..SecretEncryptionStatus::default()
    }
}
