//! How fast flows may be withdrawn.
//!
//! A pruned repository looks like many people deleting many workloads. Only a watched DELETE withdraws anything, and no
//! faster than three workloads, or a tenth of their stage, a minute: time to notice and to put them back. Pure: the
//! caller brings the time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::api::stage::Stage;
use crate::network::world::WorkloadKey;

/// The window of the ration.
const WINDOW: Duration = Duration::from_secs(60);
/// Withdrawals a window allows in any case.
const ALWAYS: usize = 3;

/// Deleted workloads whose flows are still open.
#[derive(Debug, Default)]
pub struct Withdrawals {
    waiting: BTreeMap<WorkloadKey, Stage>,
    done: BTreeMap<Stage, VecDeque<Duration>>,
}

impl Withdrawals {
    /// A DELETE was seen.
    pub fn deleted(&mut self, key: WorkloadKey, stage: Stage) {
        self.waiting.insert(key, stage);
    }

    /// It is back, or its namespace is gone: nothing to withdraw.
    pub fn forget(&mut self, key: &WorkloadKey) {
        self.waiting.remove(key);
    }

    /// Nothing at all is to be withdrawn: the definition was deleted, and what looked like deletions was its end.
    pub fn hold(&mut self) {
        self.waiting.clear();
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes what may be withdrawn now. `now` counts from any fixed moment; `size` says how many workloads a stage has,
    /// those that wait included.
    pub fn due(&mut self, now: Duration, size: impl Fn(Stage) -> usize) -> Vec<WorkloadKey> {
        let mut due = Vec::new();
        for (key, stage) in &self.waiting {
            let done = self.done.entry(*stage).or_default();
            while done.front().is_some_and(|first| now.saturating_sub(*first) >= WINDOW) {
                done.pop_front();
            }
            if done.len() < ALWAYS.max(size(*stage) / 10) {
                done.push_back(now);
                due.push(key.clone());
            }
        }
        due.iter().for_each(|key| self.forget(key));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(count: usize) -> Withdrawals {
        let mut withdrawals = Withdrawals::default();
        (0..count).for_each(|n| withdrawals.deleted(WorkloadKey::new("ns", format!("w{n:03}")), Stage::Inference));
        withdrawals
    }

    #[test]
    fn three_a_minute_from_a_small_stage() {
        let mut withdrawals = deleted(10);
        assert_eq!(withdrawals.due(Duration::ZERO, |_| 10).len(), 3);
        assert_eq!(withdrawals.due(Duration::from_secs(59), |_| 10).len(), 0);
        assert_eq!(withdrawals.due(Duration::from_secs(60), |_| 10).len(), 3);
        assert_eq!(withdrawals.len(), 4);
    }

    #[test]
    fn a_tenth_a_minute_from_a_large_one() {
        let mut withdrawals = deleted(200);
        assert_eq!(withdrawals.due(Duration::ZERO, |_| 200).len(), 20);
    }

    #[test]
    fn stages_have_rations_of_their_own() {
        let mut withdrawals = deleted(9);
        (0..9).for_each(|n| withdrawals.deleted(WorkloadKey::new("t", format!("w{n}")), Stage::Training));
        assert_eq!(withdrawals.due(Duration::ZERO, |_| 9).len(), 6);
    }

    #[test]
    fn what_came_back_is_not_withdrawn() {
        let mut withdrawals = deleted(1);
        withdrawals.forget(&WorkloadKey::new("ns", "w000"));
        assert!(withdrawals.due(Duration::ZERO, |_| 1).is_empty());
        let mut withdrawals = deleted(5);
        withdrawals.hold();
        assert!(withdrawals.due(Duration::ZERO, |_| 5).is_empty());
    }
}
