//! How long to wait before an object is tried again. Pure: the caller keeps the time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use super::error::Class;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, by object.
#[derive(Debug)]
pub struct Backoff<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Backoff<K> {
    /// Counts a failure and says how long to wait.
    pub fn failed(&self, key: K, class: Class) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = failures.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        delay(class, *count)
    }

    /// Forgets all objects but these.
    pub fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .retain(|key, _| keep(key));
    }

    /// Forgets an object's failures.
    pub fn succeeded(&self, key: &K) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(key);
    }
}

/// The wait after the `count`th failure in a row.
fn delay(class: Class, count: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << count.saturating_sub(1).min(20)).min(LONGEST);
    match class {
        Class::Conflict => FIRST,
        Class::Transient => doubled,
        // A right that was withdrawn comes back without an event: keep looking, but not more often than this.
        Class::Permanent => doubled.clamp(Duration::from_secs(1), Duration::from_secs(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_per_object_and_end_with_success() {
        let backoff = Backoff::default();
        let waits: Vec<_> = (0..12).map(|_| backoff.failed("a", Class::Transient)).collect();
        assert!(waits.windows(2).all(|w| w[0] < w[1] || w[1] == LONGEST), "{waits:?}");
        assert_eq!(
            backoff.failed("b", Class::Transient),
            FIRST,
            "another object starts afresh"
        );
        backoff.succeeded(&"a");
        assert_eq!(backoff.failed("a", Class::Transient), FIRST);
    }

    #[test]
    fn conflicts_are_tried_again_at_once_and_refusals_rarely() {
        assert_eq!(delay(Class::Conflict, 9), FIRST);
        assert!(delay(Class::Permanent, 1) >= Duration::from_secs(1));
        assert!(delay(Class::Permanent, 30) <= Duration::from_secs(60));
    }
}
