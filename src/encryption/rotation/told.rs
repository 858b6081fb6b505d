//! A decision as `SecretEncryption.status` tells it to people.

use std::fmt;

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
}

impl Decision {
    /// None: what it needs could not be read.
    pub fn unread(why: String) -> Self {
        Self::hold(Step::Idle, vec![Blocked::NotRead(why)])
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
fn step(step: Step) -> &'static str {
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
