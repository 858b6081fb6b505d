//! Whether plaintext from before may still be found beside etcd's present content. Compaction is not erasure: pages that
//! were freed, the write-ahead log and old snapshots keep what was there. Only a person can say that they are gone.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::observation::{Observation, Under};
use super::told::types;
use super::view::View;
use crate::api::conditions::{Truth, Verdict};
use crate::api::key_ring::{EncryptionKeyRingSpec, KeyOrigin, RingKey};
use crate::api::names::PURGED_ANNOTATION;
use crate::encryption::proof::age;

/// A clock of a person may be ahead by so much.
const SKEW: Duration = Duration::from_secs(60);

/// True from a first enable until a person confirms, and again after each later one. Derived from the ring: its first key
/// is made when there is none, and then every API server wrote plaintext.
pub fn residual(seen: &Observation, ring: &EncryptionKeyRingSpec, purged: Option<&str>, now: &Time) -> Verdict {
    let verdict = |truth, reason, message: String| Verdict::new(types::RESIDUAL_PLAINTEXT, truth, reason, message);
    let possible = |reason, message| verdict(Truth::True, reason, message);
    let view = View::of(seen);
    if view.nodes.is_empty() {
        return verdict(Truth::Unknown, "NotRead", "no control-plane node is known".to_owned());
    }
    let Some(first) = enabling(ring) else {
        let message = "there is no key yet: values are stored in plaintext".to_owned();
        return possible("NotEncrypted", message);
    };
    let stored = seen
        .latest_proof
        .as_ref()
        .is_some_and(|proof| proof.shows(&Under::Identity));
    if stored || view.read_anywhere().contains(&Under::Identity) {
        let message = "plaintext is still stored, or still served: confirm after IdentityRemoved is True".to_owned();
        return possible("PlaintextServed", message);
    }
    let (reason, before) = match first.origin {
        KeyOrigin::Minted => ("FirstEnable", "values were stored in plaintext"),
        KeyOrigin::Imported => ("Adopted", "nobody here knows how values were stored"),
    };
    let confirm = format!(
        "until {} was made, {before}: freed pages, the write-ahead log and old snapshots of etcd may still hold plaintext; \
         after `etcdctl defrag` on every member and when older snapshots are gone: kubectl annotate --overwrite \
         secretencryption default {PURGED_ANNOTATION}=\"$(date -u +%FT%TZ)\"",
        first.name.0
    );
    let Some(purged) = purged else {
        return possible(reason, confirm);
    };
    let Ok(at) = purged.parse::<Timestamp>() else {
        return possible(
            reason,
            format!("the annotation {PURGED_ANNOTATION} is no time such as 2026-01-02T03:04:05Z; {confirm}"),
        );
    };
    let early = at <= first.creation_time.0;
    let late = age(now, &Time(at)).is_some_and(|ahead| ahead > SKEW);
    if early || late {
        let when = if early {
            "before that key was made"
        } else {
            "in the future"
        };
        return possible(
            reason,
            format!("the annotation {PURGED_ANNOTATION} names a time {when}; {confirm}"),
        );
    }
    let message = format!("a person confirmed at {at} that etcd was defragmented and that older snapshots are gone");
    verdict(Truth::False, "Confirmed", message)
}

/// The key with which encryption was last enabled: every key before it, if there is any, was retired before it was made.
fn enabling(ring: &EncryptionKeyRingSpec) -> Option<&RingKey> {
    let begins = |index: usize, key: &RingKey| {
        let gone = |old: &RingKey| {
            let retired = old.retired_time.as_ref();
            retired.is_some_and(|retired| retired.0 <= key.creation_time.0)
        };
        ring.keys.iter().take(index).all(gone)
    };
    let mut keys = ring.keys.iter().enumerate().rev();
    keys.find(|(index, key)| begins(*index, key)).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use super::super::fixture::{enabled, ring, time};
    use super::*;

    fn said(ring: &EncryptionKeyRingSpec, purged: Option<&str>) -> (Truth, &'static str, String) {
        let found = residual(&enabled(), ring, purged, &time("2026-02-01T00:00:00Z"));
        (found.truth, found.reason, found.message)
    }

    #[test]
    fn plaintext_may_be_left_until_a_person_says_when_it_was_purged() {
        let ring = ring(&[("k1", "2026-01-02T00:00:00Z", None)]);
        let (truth, reason, message) = said(&ring, None);
        assert_eq!((truth, reason), (Truth::True, "FirstEnable"));
        assert!(
            message.contains("kubectl annotate --overwrite secretencryption default cloison.dev/"),
            "{message}"
        );
        for (purged, word) in [
            ("yes", "is no time"),
            ("2026-01-01T23:59:59Z", "before that key"),
            ("2026-02-01T00:01:01Z", "in the future"),
        ] {
            let (truth, _, message) = said(&ring, Some(purged));
            assert_eq!(truth, Truth::True, "{purged}");
            assert!(message.contains(word), "{message}");
        }
        assert_eq!(said(&ring, Some("2026-01-03T00:00:00Z")).0, Truth::False);
    }

    #[test]
    fn plaintext_that_is_served_cannot_be_purged() {
        let ring = ring(&[("k1", "2026-01-02T00:00:00Z", None)]);
        let mut seen = enabled();
        let file = seen.nodes[1].report.as_mut().unwrap().file.as_mut().unwrap();
        file.configuration.as_mut().unwrap().read.insert(Under::Identity);
        let found = residual(
            &seen,
            &ring,
            Some("2026-01-03T00:00:00Z"),
            &time("2026-02-01T00:00:00Z"),
        );
        assert_eq!((found.truth, found.reason), (Truth::True, "PlaintextServed"));
    }

    #[test]
    fn a_rotation_needs_no_new_word_and_a_second_enable_does() {
        let purged = Some("2026-01-03T00:00:00Z");
        let rotated = ring(&[
            ("k1", "2026-01-02T00:00:00Z", Some("2026-01-10T01:00:00Z")),
            ("k2", "2026-01-10T00:00:00Z", None),
        ]);
        assert_eq!(said(&rotated, purged).0, Truth::False);
        let enabled_again = ring(&[
            ("k1", "2026-01-02T00:00:00Z", Some("2026-01-09T00:00:00Z")),
            ("k2", "2026-01-10T00:00:00Z", None),
        ]);
        let (truth, _, message) = said(&enabled_again, purged);
        assert_eq!(truth, Truth::True);
        assert!(message.contains("until k2 was made"), "{message}");
    }
}
