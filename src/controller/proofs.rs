//! Turns evidence into what the judges take.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::evidence::{PacketProof, RotationSeen, Snapshot};
use super::judge::Proof;
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::api::encryption::{EncryptionMode, Proof as AskedProof, SecretEncryptionSpec};
use crate::api::encryption_status::SecretEncryptionStatus;
use crate::api::policy::{AiSecurityPolicySpec, EnforcementProof};
use crate::api::text::Line;
use crate::encryption::duties::report::line;
use crate::encryption::proof::{age, reasons};
use crate::encryption::sweep::{Shape, reads};

/// Where nobody says how old a proof may be.
const DEFAULT_HOURS: i32 = 24;
/// The status names so many things that are in the way (CRD).
const BLOCKED: usize = 16;
/// The reason where something is asked for that this version does not do.
const NOT_SUPPORTED: &str = "NotSupported";

/// Conditions of `SecretEncryption`.
mod encryption_types {
    pub const ENCRYPTED: &str = "Encrypted";
    pub const CONVERGED: &str = "Converged";
    pub const DEGRADED: &str = "Degraded";
}

/// What people ask of the proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The oldest that a proof may be.
    pub max_age: Duration,
    /// Whether values that were written earlier are to be proven too.
    reads: bool,
    /// Settings that this version does not carry out, and what it does instead.
    unsupported: Vec<&'static str>,
}

impl Asked {
    /// What the policy and `SecretEncryption` ask; the stricter age of both holds.
    pub fn of(policy: Option<&AiSecurityPolicySpec>, encryption: Option<&SecretEncryptionSpec>) -> Self {
        let of_policy = policy.and_then(|policy| policy.secrets.as_ref());
        let ages = [
            of_policy.map(|secrets| secrets.proof_max_age_hours),
            encryption.map(|encryption| encryption.proof_max_age_hours),
        ];
        let hours = ages.into_iter().flatten().min().unwrap_or(DEFAULT_HOURS);
        let reads = encryption.is_some_and(|encryption| encryption.proof == AskedProof::Reads);
        let mut unsupported = Vec::new();
        if encryption.is_some_and(|encryption| encryption.suspend && encryption.mode == EncryptionMode::Observe) {
            unsupported.push("`suspend` stops nothing: nothing is managed, and looking goes on");
        }
        Self {
            max_age: Duration::from_secs(u64::try_from(hours).unwrap_or(24) * 3600),
            reads,
            unsupported,
        }
    }

    /// What is asked and not done, in one line.
    fn not_done(&self) -> Option<String> {
        let all = self.unsupported.join("; ");
        (!all.is_empty()).then(|| format!("not in this version: {all}"))
    }

    /// A verdict about new Secrets in the light of what was asked: no True for more than was proven.
    fn limit(&self, seen: &Snapshot, verdict: Verdict, now: &Time) -> Verdict {
        let mut verdict = if self.reads && verdict.truth == Truth::True {
            self.stored(seen, &verdict, now)
        } else {
            verdict
        };
        if let Some(not_done) = self.not_done() {
            verdict.message = format!("{}; {not_done}", verdict.message);
        }
        verdict
    }

    /// The verdict where stored values are to be proven too, and new ones are.
    fn stored(&self, seen: &Snapshot, new: &Verdict, now: &Time) -> Verdict {
        let unknown = |why: String| Verdict::new(new.kind, Truth::Unknown, reads::reasons::NOT_READ, why);
        let Some(proof) = &seen.reads else {
            return unknown(format!("{}; they are being read", new.message));
        };
        let replicas = seen.encryption.iter().flat_map(|proof| &proof.replicas);
        let shape: Shape = replicas
            .map(|replica| (replica.identity.clone(), replica.configuration_hash.clone()))
            .collect();
        if proof.shape != shape {
            return unknown(
                "the API servers or their file changed since stored Secrets were read; they are read again".to_owned(),
            );
        }
        if age(&proof.at, now).is_none_or(|age| age > self.max_age) {
            let message = format!(
                "stored Secrets were last read at {}, longer ago than proofMaxAgeHours allows",
                proof.at.0
            );
            return Verdict::new(new.kind, Truth::Unknown, reasons::PROOF_STALE, message);
        }
        Verdict::new(new.kind, proof.reads.truth, proof.reads.reason, &*proof.reads.message)
    }
}

/// What the canaries have shown of the policies `hash`; `None` until they ran.
pub fn admission(seen: &Snapshot, hash: &str, now: &Time, max_age: Duration) -> Option<Proof> {
    let proof = seen.admission.as_ref()?;
    let unknown = |reason, message| Proof {
        truth: Truth::Unknown,
        reason,
        message,
    };
    if !hash.is_empty() && proof.policy_hash != hash {
        let last = match proof.policy_hash.as_str() {
            "" => "no policies yet".to_owned(),
            last => format!("policies {last}"),
        };
        let message = format!("policies {hash} are becoming active; the API servers were last asked about {last}");
        return Some(unknown("Activating", message));
    }
    if age(&proof.at, now).is_none_or(|age| age > max_age) {
        let message = format!(
            "the canaries were last sent at {}, longer ago than proofMaxAgeHours allows; is the controller running?",
            proof.at.0
        );
        return Some(unknown(reasons::PROOF_STALE, message));
    }
    Some(Proof {
        truth: proof.truth,
        reason: proof.reason,
        message: proof.message.clone(),
    })
}

/// What packets have shown of the network plugin.
pub fn packets(seen: &Snapshot, asked: EnforcementProof, now: &Time, max_age: Duration) -> Proof {
    let unknown = |reason, message: String| Proof {
        truth: Truth::Unknown,
        reason,
        message,
    };
    if asked == EnforcementProof::None {
        let message = "no packet was sent: nothing is known of what the network plugin enforces; \
                       `network.enforcementProof` of AiSecurityPolicy `default` asks for it";
        return unknown("NotProbed", message.to_owned());
    }
    let Some(PacketProof { verdict, at }) = &seen.packets else {
        return unknown("NotProbed", "the packet canary has not run yet".to_owned());
    };
    if age(at, now).is_none_or(|age| age > max_age) {
        let message = format!(
            "packets were last sent at {}, longer ago than proofMaxAgeHours allows; `network.enforcementProof: Periodic` \
             sends them in time",
            at.0
        );
        return unknown(reasons::PROOF_STALE, message);
    }
    Proof {
        truth: verdict.truth,
        reason: verdict.reason,
        message: verdict.message.clone(),
    }
}

/// What is known of Secrets; a proof older than was asked says nothing any more.
pub fn encryption(seen: &Snapshot, now: &Time, asked: &Asked) -> Option<Proof> {
    seen.encryption.as_ref().map(|proof| {
        let verdict = asked.limit(seen, proof.verdict(types::SECRETS_ENCRYPTED, now, asked.max_age), now);
        Proof {
            truth: verdict.truth,
            reason: verdict.reason,
            message: verdict.message,
        }
    })
}

/// The status of `SecretEncryption`. `now` is in whole seconds, as conditions are; `moment` tells the age of the proof.
pub fn encryption_status(
    seen: &Snapshot,
    present: &SecretEncryptionStatus,
    generation: Option<i64>,
    asked: &Asked,
    now: &Time,
    moment: &Time,
) -> SecretEncryptionStatus {
    let mut verdicts = vec![match &seen.encryption {
        Some(proof) => {
            let verdict = proof.verdict(encryption_types::ENCRYPTED, moment, asked.max_age);
            asked.limit(seen, verdict, moment)
        }
        None => Verdict::new(
            encryption_types::ENCRYPTED,
            Truth::Unknown,
            "NotProbed",
            "no proof was gathered yet",
        ),
    }];
    let rotation = seen.rotation.as_ref();
    let mut degraded: Vec<String> = seen
        .encryption
        .iter()
        .filter_map(|proof| proof.degraded.clone())
        .collect();
    degraded.extend(rotation.iter().flat_map(|rotation| rotation.decision.degraded.clone()));
    if !degraded.is_empty() {
        verdicts.push(Verdict::new(
            encryption_types::DEGRADED,
            Truth::True,
            "UnreadableValues",
            degraded.join("; "),
        ));
    }
    verdicts.extend(rotation.iter().flat_map(|rotation| rotation.decision.verdicts()));
    if let Some(not_done) = asked.not_done() {
        verdicts.push(Verdict::new(
            encryption_types::CONVERGED,
            Truth::Unknown,
            NOT_SUPPORTED,
            not_done,
        ));
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
pub fn encryption_held(
    present: &SecretEncryptionStatus,
    generation: Option<i64>,
    (reason, message): (&'static str, String),
    now: &Time,
) -> SecretEncryptionStatus {
    let verdict = Verdict::new(encryption_types::ENCRYPTED, Truth::Unknown, reason, message);
    SecretEncryptionStatus {
        observed_generation: generation,
        conditions: conditions::conditions(&present.conditions, &[verdict], generation, now),
        replicas: present.replicas.clone(),
        ..SecretEncryptionStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::evidence::AdmissionProof;
    use crate::controller::evidence::reads::ReadsProof;
    use crate::encryption::EncryptionProof;
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
        };
        let proof = |truth, reason, hash: &str, at: &str| {
            Some(ReadsProof {
                reads: crate::encryption::sweep::Reads {
                    truth,
                    reason,
                    ..crate::encryption::sweep::unread("read")
                },
                shape: Shape::from([("a".to_owned(), Some(hash.to_owned()))]),
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
    fn what_is_asked_and_not_done_is_said_and_never_claimed() {
        let (seen, now) = (seen("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:01Z"));
        let waived = json!({"requirement": "Waived"});
        for (spec, truth, word) in [
            (json!({}), Truth::True, None),
            (json!({"suspend": true}), Truth::True, Some("`suspend`")),
            (
                json!({"mode": "Manage", "suspend": true, "escrow": waived}),
                Truth::True,
                None,
            ),
        ] {
            let asked = asked(json!({}), spec);
            let said = encryption(&seen, &now, &asked).unwrap();
            assert_eq!(said.truth, truth, "{}", said.message);
            let present = SecretEncryptionStatus::default();
            let status = encryption_status(&seen, &present, Some(1), &asked, &now, &now);
            let converged = conditions::find(&status.conditions, "Converged");
            let encrypted = conditions::find(&status.conditions, "Encrypted").unwrap();
            assert_eq!(encrypted.status, truth.as_str());
            match word {
                None => assert!(converged.is_none() && !said.message.contains("version")),
                Some(word) => {
                    let converged = converged.unwrap();
                    assert_eq!((&*converged.status, &*converged.reason), ("Unknown", NOT_SUPPORTED));
                    assert!(converged.message.contains(word) && said.message.contains(word));
                }
            }
        }
    }
}
