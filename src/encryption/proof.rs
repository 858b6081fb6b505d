//! The proof about new Secrets, its age, and what to believe when the next look finds nothing.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{Truth, Verdict};
use crate::api::encryption_status::ReplicaStatus;

/// Reasons; part of the API.
pub mod reasons {
    /// True: every API server writes new Secrets encrypted.
    pub const NEW_WRITES_ENCRYPTED: &str = "NewWritesEncrypted";
    /// False: an API server writes new Secrets with `identity`.
    pub const PLAINTEXT_WRITES: &str = "PlaintextWrites";
    /// False: an API server has no provider for Secrets at all.
    pub const NOT_CONFIGURED: &str = "NotConfigured";
    /// False if one of them writes plaintext, else Unknown: API servers run with different files.
    pub const HASH_DIVERGENT: &str = "HashDivergent";
    /// Unknown: an API server exists that did not answer.
    pub const REPLICA_UNSEEN: &str = "ReplicaUnseen";
    /// Unknown: an answer does not say which API server gave it.
    pub const REPLICA_UNIDENTIFIED: &str = "ReplicaUnidentified";
    /// Unknown: several API servers share one host name and with it one identity.
    pub const IDENTITY_SHARED: &str = "IdentityShared";
    /// Unknown: no identity Lease.
    pub const NO_IDENTITIES: &str = "NoIdentities";
    /// Unknown: an API server hides its metrics, or they do not say enough.
    pub const UNVERIFIABLE: &str = "Unverifiable";
    /// Unknown: the same, and a person attests the encryption.
    pub const ATTESTED: &str = "Attested";
    /// Unknown: the plugins of one KMS provider encrypt with different keys.
    pub const KEY_IDS_DIFFER: &str = "KeyIdsDiffer";
    /// Unknown: a KMS plugin does not answer its API server.
    pub const KMS_UNHEALTHY: &str = "KmsUnhealthy";
    /// Unknown: the configuration or a process changed during the proof; it is repeated.
    pub const CONFIGURATION_CHANGING: &str = "ConfigurationChanging";
    /// Unknown: the canary Secret could not be written.
    pub const CANARY_REFUSED: &str = "CanaryRefused";
    /// Unknown: the canary Secret was written and no API server counted it.
    pub const WRITE_UNSEEN: &str = "WriteUnseen";
    /// Unknown: the evidence could not be gathered at all.
    pub const UNREADABLE: &str = "Unreadable";
    /// Unknown: the evidence is too old.
    pub const PROOF_STALE: &str = "ProofStale";
}

/// What was proven about the encryption of new Secrets, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct EncryptionProof {
    /// Whether new Secrets are encrypted by every API server.
    pub truth: Truth,
    /// One of [`reasons`].
    pub reason: &'static str,
    /// For people: one line.
    pub message: String,
    /// What each API server was seen to do, sorted by identity.
    pub replicas: Vec<ReplicaStatus>,
    /// Values are stored that an API server cannot decrypt: for the condition `Degraded`.
    pub degraded: Option<String>,
    /// When this was last found to hold.
    pub at: Time,
}

impl EncryptionProof {
    /// The evidence could not be gathered.
    pub fn unreadable(message: impl Into<String>, at: &Time) -> Self {
        Self {
            truth: Truth::Unknown,
            reason: reasons::UNREADABLE,
            message: message.into(),
            replicas: Vec::new(),
            degraded: None,
            at: at.clone(),
        }
    }

    /// The verdict as of `now`, for a condition of type `kind`: `Unknown` when the proof is older than `max_age`.
    pub fn verdict(&self, kind: &'static str, now: &Time, max_age: Duration) -> Verdict {
        if age(&self.at, now).is_none_or(|age| age > max_age) {
            let message = format!(
                "last looked at {}, longer ago than proofMaxAgeHours allows; is the controller running?",
                self.at.0
            );
            return Verdict::new(kind, Truth::Unknown, reasons::PROOF_STALE, message);
        }
        Verdict::new(kind, self.truth, self.reason, &*self.message)
    }

    /// Whether two proofs differ in nothing but their time.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self {
            truth,
            reason,
            message,
            replicas,
            degraded,
            at: _,
        } = other;
        (self.truth, self.reason) == (*truth, *reason)
            && (&self.message, &self.replicas, &self.degraded) == (message, replicas, degraded)
    }

    /// What to believe after `next` was found: an `Unknown` displaces an answer only when it lasts longer than `grace`,
    /// so that one API server that restarts does not rewrite every status twice. The answer keeps its old time.
    #[must_use]
    pub fn settle(previous: Option<Self>, next: Self, grace: Duration) -> Self {
        match previous {
            Some(previous)
                if next.truth == Truth::Unknown
                    && previous.truth != Truth::Unknown
                    && age(&previous.at, &next.at).is_some_and(|age| age < grace) =>
            {
                previous
            }
            _ => next,
        }
    }
}

/// The age of a proof; `None` if `now` lies before it: then a clock was set back and nothing can be said.
pub fn age(at: &Time, now: &Time) -> Option<Duration> {
    Duration::try_from(now.0.duration_since(at.0)).ok()
}
