//! A decision as `SecretEncryption.status` tells it to people.

use std::fmt;
use std::time::Duration;

use super::observation::{Observation, Under};
use super::{Action, Blocked, Decision};
use crate::api::conditions::{Truth, Verdict};
use crate::api::encryption_status::{KeyState, KeyStatus, Step};
use crate::api::key_ring::{EncryptionKeyRingSpec, RingKey};
use crate::encryption::config::KeyName;

/// Conditions of `SecretEncryption` while it is managed.
pub mod types {
    /// A rotation is on its way; the reason is the step.
    pub const ROTATING: &str = "Rotating";
    /// Something is in the way of it, or waited for.
    pub const BLOCKED: &str = "Blocked";
    /// Every API server runs with what was ordered.
    pub const CONVERGED: &str = "Converged";
    /// Every key can be recovered offline.
    pub const ESCROWED: &str = "Escrowed";
    /// No API server reads plaintext.
    pub const IDENTITY_REMOVED: &str = "IdentityRemoved";
    /// No API server serves a value from where it was copied to.
    pub const RELOCATION_PROTECTED: &str = "RelocationProtected";
    /// Plaintext from before a first enable may be left beside etcd's present content.
    pub const RESIDUAL_PLAINTEXT: &str = "ResidualPlaintextPossible";
}

/// API servers compact every five minutes, and up to ten after another took that over.
const COMPACTED: Duration = Duration::from_mins(15);
/// API servers load a new file within a minute; 59 s were seen, and then they build their transformers.
const RELOADED: Duration = Duration::from_secs(150);

impl Decision {
    /// None: what it needs could not be read.
    pub fn unread(why: String) -> Self {
        Self::hold(Step::Idle, vec![Blocked::NotRead(why)])
    }

    /// As it is told to people after it has stood for `standing`, with the `errors` of agents by node, and with the files
    /// that API servers differ in since `diverging`.
    #[must_use]
    pub fn told(
        mut self,
        standing: Duration,
        errors: &[(String, String)],
        diverging: Option<(Duration, String)>,
    ) -> Self {
        if let Action::AwaitCompaction(revision) = self.action
            && standing >= COMPACTED
        {
            self.blocked_by.push(Blocked::CompactionStalled(revision));
        }
        // What an agent meets for a moment is no news while nothing waits for it.
        if !self.blocked_by.is_empty() {
            let held = errors
                .iter()
                .map(|(node, error)| Blocked::AgentHeld(node.clone(), error.clone()));
            self.blocked_by.extend(held);
        }
        if let Some((_, differ)) = diverging.filter(|(since, _)| *since >= RELOADED) {
            self.degraded.push(differ);
        }
        self.next_command = self.blocked_by.iter().find_map(Blocked::next_command);
        self
    }

    /// The conditions [`types`].
    pub fn verdicts(&self) -> [Verdict; 2] {
        let rotating = if matches!(self.blocked_by[..], [Blocked::NotRead(_)]) {
            Truth::Unknown
        } else if self.step == Step::Idle {
            Truth::False
        } else {
            Truth::True
        };
        let lines: Vec<String> = self.blocked_by.iter().map(Blocked::to_string).collect();
        let blocked = match (self.blocked_by.first(), &self.next_command) {
            (None, _) => Verdict::new(types::BLOCKED, Truth::False, "NothingInTheWay", "nothing is in the way"),
            (Some(first), None) => Verdict::new(types::BLOCKED, Truth::True, first.reason(), lines.join("; ")),
            (Some(first), Some(next)) => {
                let message = format!("{}; next: {next}", lines.join("; "));
                Verdict::new(types::BLOCKED, Truth::True, first.reason(), message)
            }
        };
        [
            Verdict::new(types::ROTATING, rotating, step(self.step), self.action.to_string()),
            blocked,
        ]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mint(_, due) => write!(formatter, "a new key is made: {due}"),
            Self::WriteConfig(configuration) => write!(formatter, "every API server is to have {configuration}"),
            Self::Settle(_) => formatter.write_str("requests that began under the old key are waited for"),
            Self::StartSweep => formatter.write_str("everything that is not under the key that writes is rewritten"),
            Self::StartProof => formatter
                .write_str("an agent is to read etcd, after the last rewrite, and to find nothing under another key"),
            Self::AwaitCompaction(revision) => write!(formatter, "etcd is to compact revision {revision}"),
            Self::Retire(configuration) => {
                write!(
                    formatter,
                    "nothing is under another key any more; every API server is to have {configuration} alone"
                )
            }
            Self::Archive(ids) => write!(
                formatter,
                "keys that nothing is under are marked as retired: {}",
                numbers(ids)
            ),
            Self::Destroy(ids) => write!(
                formatter,
                "keys are destroyed as spec.retiredKeys says: {}",
                numbers(ids)
            ),
            Self::Nothing => formatter.write_str("nothing is due"),
            Self::Hold => formatter.write_str("nothing is done until what is in the way is gone"),
        }
    }
}

/// As the API spells it.
pub fn step(step: Step) -> &'static str {
    match step {
        Step::Idle => "Idle",
        Step::Mint => "Mint",
        Step::Read => "Read",
        Step::Promote => "Promote",
        Step::Sweep => "Sweep",
        Step::Prove => "Prove",
        Step::Drain => "Drain",
        Step::Retire => "Retire",
        Step::Archive => "Archive",
    }
}

/// As the API spells it.
pub fn key_state(state: KeyState) -> &'static str {
    match state {
        KeyState::Minted => "Minted",
        KeyState::Read => "Read",
        KeyState::Write => "Write",
        KeyState::Retired => "Retired",
        KeyState::Destroyed => "Destroyed",
    }
}

fn numbers<'a>(ids: impl IntoIterator<Item = &'a u64>) -> String {
    let names: Vec<String> = ids.into_iter().map(u64::to_string).collect();
    names.join(", ")
}

/// The keys of the ring, each with what the API servers do with it.
pub fn keys(ring: &EncryptionKeyRingSpec, seen: &Observation) -> Vec<KeyStatus> {
    let files = seen.nodes.iter().filter_map(|node| node.report.as_ref()?.file.as_ref());
    let files: Vec<_> = files.filter_map(|file| file.configuration.as_ref()).collect();
    let state = |key: &RingKey| {
        let under = KeyName::parse(&key.name).map(Under::Key);
        let is = |under: &Under| {
            if files.iter().any(|file| file.write == *under) {
                KeyState::Write
            } else if files.iter().any(|file| file.read.contains(under)) {
                KeyState::Read
            } else {
                KeyState::Minted
            }
        };
        match (&key.destroyed_time, &key.retired_time) {
            (Some(_), _) => KeyState::Destroyed,
            (None, Some(_)) => KeyState::Retired,
            (None, None) => under.as_ref().map_or(KeyState::Minted, is),
        }
    };
    let each = ring.keys.iter().map(|key| KeyStatus {
        id: key.id,
        name: key.name.clone(),
        state: state(key),
        creation_time: key.creation_time.clone(),
        writes: key.writes.iter().fold(0, |sum, node| sum.saturating_add(node.count)),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use super::*;

    #[test]
    fn what_lasts_too_long_is_told() {
        let drain = || Decision::new(Step::Drain, Action::AwaitCompaction(7));
        let mins = Duration::from_mins;
        assert_eq!(drain().told(mins(14), &[], None), drain());
        let stalled = drain().told(mins(15), &[], None);
        assert_eq!(stalled.blocked_by, [Blocked::CompactionStalled(7)]);
        assert_eq!(stalled.next_command.as_deref(), Some("etcdctl compaction 7"));
        let differ = |since| drain().told(mins(0), &[], Some((Duration::from_secs(since), "differ".to_owned())));
        assert!(differ(149).degraded.is_empty());
        assert_eq!(differ(150).degraded, ["differ"]);
    }

    #[test]
    fn what_an_agent_met_is_told_while_something_waits() {
        let errors = [("cp-1".to_owned(), "no space left on device".to_owned())];
        let idle = Decision::new(Step::Idle, Action::Nothing);
        assert!(idle.told(Duration::ZERO, &errors, None).blocked_by.is_empty());
        let waits = Decision::hold(Step::Read, vec![Blocked::NotWritten("cp-1".to_owned())]);
        let [_, blocked] = waits.told(Duration::ZERO, &errors, None).verdicts();
        assert!(
            blocked.message.contains("Node/cp-1: its agent says: no space left"),
            "{}",
            blocked.message
        );
    }

    #[test]
    fn what_is_in_the_way_is_told_with_the_next_command() {
        let decision = |blocked_by: Vec<Blocked>| Decision {
            next_command: blocked_by.iter().find_map(Blocked::next_command),
            blocked_by,
            ..Decision::new(Step::Read, Action::Hold)
        };
        let [rotating, blocked] = decision(vec![Blocked::NotMember("cp-1".to_owned())]).verdicts();
        assert_eq!((rotating.truth, rotating.reason), (Truth::True, "Read"));
        assert_eq!((blocked.truth, blocked.reason), (Truth::True, "NotMember"));
        assert!(
            blocked.message.ends_with("next: cloison ring approve cp-1"),
            "{}",
            blocked.message
        );
        let [rotating, blocked] = Decision::unread("list".to_owned()).verdicts();
        assert_eq!((rotating.truth, blocked.reason), (Truth::Unknown, "NotRead"));
        let [_, blocked] = decision(Vec::new()).verdicts();
        assert_eq!(blocked.truth, Truth::False);
    }
}
