//! Turns evidence into what the judges take.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::evidence::{PacketProof, Snapshot};
use super::judge::Proof;
use crate::api::conditions::{Truth, Verdict, types};
use crate::api::encryption::{EncryptionMode, Proof as AskedProof, SecretEncryptionSpec};
use crate::api::policy::{AiSecurityPolicySpec, EnforcementProof};
use crate::encryption::proof::{age, reasons};
use crate::encryption::sweep::{RunsWith, Shape, reads};

/// Where nobody says how old a proof may be.
const DEFAULT_HOURS: i32 = 24;

/// What people ask of the proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The oldest that a proof may be.
    pub max_age: Duration,
    /// Whether values that were written earlier are to be proven too.
    reads: bool,
    /// Whether the encryption is managed: then agents read etcd itself.
    managed: bool,
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
            managed: encryption.is_some_and(|encryption| encryption.mode == EncryptionMode::Manage),
            unsupported,
        }
    }

    /// What is asked and not done, in one line.
    pub(super) fn not_done(&self) -> Option<String> {
        let all = self.unsupported.join("; ");
        (!all.is_empty()).then(|| format!("not in this version: {all}"))
    }

    /// The verdict of type `kind` on all that was asked for: no True for more than was proven. `None` before a first look.
    pub(super) fn verdict(&self, kind: &'static str, seen: &Snapshot, now: &Time) -> Option<Verdict> {
        let new = seen
            .encryption
            .as_ref()
            .map(|proof| proof.verdict(kind, now, self.max_age));
        let mut verdict = if self.managed {
            self.at_rest(kind, seen, new, now)?
        } else {
            let new = new?;
            if self.reads && new.truth == Truth::True {
                self.stored(seen, &new, now)
            } else {
                new
            }
        };
        if let Some(not_done) = self.not_done() {
            verdict.message = format!("{}; {not_done}", verdict.message);
        }
        Some(verdict)
    }

    /// The verdict while the encryption is managed. What raw etcd and the agents show stands above what the canary Secret
    /// shows, which says nothing while one API server after the other takes a new file; but plaintext that it showed stays
    /// shown.
    fn at_rest(&self, kind: &'static str, seen: &Snapshot, new: Option<Verdict>, now: &Time) -> Option<Verdict> {
        match (new, &seen.rotation) {
            (Some(new), _) if new.truth == Truth::False => Some(new),
            (_, Some(rotation)) => Some(rotation.at_rest.verdict(kind, now, self.max_age)),
            (_, None) => None,
        }
    }

    /// The verdict where stored values are to be proven too, and new ones are.
    fn stored(&self, seen: &Snapshot, new: &Verdict, now: &Time) -> Verdict {
        let unknown = |why: String| Verdict::new(new.kind, Truth::Unknown, reads::reasons::NOT_READ, why);
        let Some(proof) = &seen.reads else {
            return unknown(format!("{}; they are being read", new.message));
        };
        let replicas = seen.encryption.iter().flat_map(|proof| &proof.replicas);
        let shape: Shape = replicas
            .map(|replica| {
                let runs_with = RunsWith {
                    file: replica.configuration_hash.clone(),
                    key_id: replica.key_id_hash.clone(),
                };
                (replica.identity.clone(), runs_with)
            })
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
    let verdict = asked.verdict(types::SECRETS_ENCRYPTED, seen, now)?;
    Some(Proof {
        truth: verdict.truth,
        reason: verdict.reason,
        message: verdict.message,
    })
}

#[cfg(test)]
mod tests;
