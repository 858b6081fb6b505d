//! How fast flows may be withdrawn.
//!
//! A pruned repository looks like many people deleting many workloads. Only a watched DELETE withdraws anything, and no
//! faster than three workloads, or a tenth of their stage, a minute: time to notice and to put them back. Pure: the
//! caller brings the time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::api::AiWorkload;
use crate::api::stage::Stage;
use crate::network::world::WorkloadKey;

/// The window of the ration.
const WINDOW: Duration = Duration::from_secs(60);
/// Withdrawals a window allows in any case.
const ALWAYS: usize = 3;

/// Workloads that vanished and whose flows are still open.
///
/// Until its withdrawal is carried out, a workload that vanished counts as if it were there: the rules of its peers and
/// of catalogue services name it as before. Cutting those at once would be a withdrawal past the ration.
#[derive(Debug, Default)]
pub struct Withdrawals {
    vanished: BTreeMap<WorkloadKey, Vanished>,
    done: BTreeMap<Stage, VecDeque<Duration>>,
}

#[derive(Debug)]
struct Vanished {
    /// As it was last seen.
    workload: AiWorkload,
    /// A DELETE was seen: its flows are to be withdrawn.
    withdraw: bool,
    /// Its policy was seen since it vanished.
    placed: bool,
}

impl Withdrawals {
    /// A DELETE was seen.
    pub fn deleted(&mut self, key: WorkloadKey, workload: AiWorkload) {
        let vanished = Vanished {
            workload,
            withdraw: true,
            placed: false,
        };
        self.vanished.insert(key, vanished);
    }

    /// A new list does not hold it, and nobody saw it being deleted: its flows stay.
    pub fn gone(&mut self, key: WorkloadKey, workload: AiWorkload) {
        self.vanished.entry(key).or_insert(Vanished {
            workload,
            withdraw: false,
            placed: false,
        });
    }

    /// It is back, its withdrawal was carried out, or its namespace is gone.
    pub fn forget(&mut self, key: &WorkloadKey) -> Option<AiWorkload> {
        self.vanished.remove(key).map(|vanished| vanished.workload)
    }

    /// Those for which `vanished_otherwise` holds are not withdrawn: they vanished with their definition, for instance,
    /// and nobody deleted them.
    pub fn hold(&mut self, vanished_otherwise: impl Fn(&AiWorkload) -> bool) {
        for vanished in self.vanished.values_mut() {
            vanished.withdraw &= !vanished_otherwise(&vanished.workload);
        }
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&WorkloadKey) -> bool) {
        self.vanished.retain(|key, _| keep(key));
    }

    /// Of those whose flows stay: what somebody else took away, by deleting the policy, is forgotten and returned.
    pub fn forget_deleted(&mut self, placed: impl Fn(&WorkloadKey) -> bool) -> Vec<AiWorkload> {
        let mut deleted = Vec::new();
        for (key, vanished) in self.vanished.iter_mut().filter(|(_, vanished)| !vanished.withdraw) {
            let now = placed(key);
            if vanished.placed && !now {
                deleted.push(key.clone());
            }
            vanished.placed = now;
        }
        deleted.iter().filter_map(|key| self.forget(key)).collect()
    }

    /// Those whose flows stay, because nobody saw a deletion.
    pub fn held(&self) -> impl Iterator<Item = &WorkloadKey> {
        let held = self.vanished.iter().filter(|(_, vanished)| !vanished.withdraw);
        held.map(|(key, _)| key)
    }

    /// How many are to be withdrawn.
    pub fn waiting(&self) -> usize {
        self.vanished.values().filter(|vanished| vanished.withdraw).count()
    }

    /// Every workload that vanished and whose flows are still open, as it was last seen.
    pub fn vanished(&self) -> impl Iterator<Item = &AiWorkload> {
        self.vanished.values().map(|vanished| &vanished.workload)
    }

    /// What may be withdrawn now, of those that `may` lets pass; each is [`Self::forget`]ed when it was. `now` counts from
    /// any fixed moment; `size` says how many workloads a stage has, those that vanished included.
    pub fn due(
        &mut self,
        now: Duration,
        size: impl Fn(Stage) -> usize,
        may: impl Fn(&WorkloadKey) -> bool,
    ) -> Vec<WorkloadKey> {
        let mut due = Vec::new();
        let waiting = self.vanished.iter().filter(|(key, v)| v.withdraw && may(key));
        for (key, vanished) in waiting {
            let stage = vanished.workload.spec.stage;
            let done = self.done.entry(stage).or_default();
            while done.front().is_some_and(|first| now.saturating_sub(*first) >= WINDOW) {
                done.pop_front();
            }
            if done.len() < ALWAYS.max(size(stage) / 10) {
                done.push_back(now);
                due.push(key.clone());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workload(stage: Stage) -> AiWorkload {
        let object = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload", "metadata": {},
            "spec": {"stage": stage, "owner": "team@ville.example", "purpose": "Something worth testing"},
        });
        serde_json::from_value(object).unwrap_or_else(|error| unreachable!("{error}"))
    }

    fn deleted(count: usize) -> Withdrawals {
        let mut withdrawals = Withdrawals::default();
        for n in 0..count {
            withdrawals.deleted(WorkloadKey::new("ns", format!("w{n:03}")), workload(Stage::Inference));
        }
        withdrawals
    }

    /// Withdraws what is due and says how many that were.
    fn withdraw(withdrawals: &mut Withdrawals, seconds: u64, size: usize) -> usize {
        let due = withdrawals.due(Duration::from_secs(seconds), |_| size, |_| true);
        due.iter().filter(|key| withdrawals.forget(key).is_some()).count()
    }

    #[test]
    fn three_a_minute_from_a_small_stage() {
        let mut withdrawals = deleted(10);
        assert_eq!(withdraw(&mut withdrawals, 0, 10), 3);
        assert_eq!(withdraw(&mut withdrawals, 59, 10), 0);
        assert_eq!(withdraw(&mut withdrawals, 60, 10), 3);
        assert_eq!(withdrawals.waiting(), 4);
        assert_eq!(withdrawals.vanished().count(), 4, "the others still count as there");
    }

    #[test]
    fn a_tenth_a_minute_from_a_large_one() {
        assert_eq!(withdraw(&mut deleted(200), 0, 200), 20);
    }

    #[test]
    fn stages_have_rations_of_their_own() {
        let mut withdrawals = deleted(9);
        (0..9).for_each(|n| withdrawals.deleted(WorkloadKey::new("t", format!("w{n}")), workload(Stage::Training)));
        assert_eq!(withdraw(&mut withdrawals, 0, 9), 6);
    }

    #[test]
    fn what_came_back_is_not_withdrawn() {
        let mut withdrawals = deleted(1);
        withdrawals.forget(&WorkloadKey::new("ns", "w000"));
        assert_eq!(withdraw(&mut withdrawals, 0, 1), 0);
    }

    #[test]
    fn what_nobody_deleted_is_not_withdrawn_and_still_counts() {
        let mut withdrawals = deleted(5);
        withdrawals.hold(|_| true);
        withdrawals.gone(WorkloadKey::new("ns", "x"), workload(Stage::Inference));
        assert_eq!(withdraw(&mut withdrawals, 0, 5), 0);
        assert_eq!((withdrawals.waiting(), withdrawals.vanished().count()), (0, 6));
    }

    #[test]
    fn what_nobody_deleted_is_forgotten_with_its_policy() {
        let mut withdrawals = deleted(1);
        let key = WorkloadKey::new("ns", "x");
        withdrawals.gone(key.clone(), workload(Stage::Inference));
        assert_eq!(withdrawals.forget_deleted(|_| false).len(), 0, "it never had one");
        assert_eq!(withdrawals.forget_deleted(|_| true).len(), 0);
        assert_eq!(withdrawals.held().collect::<Vec<_>>(), [&key]);
        assert_eq!(withdrawals.forget_deleted(|_| false).len(), 1);
        assert_eq!((withdrawals.waiting(), withdrawals.vanished().count()), (1, 1));
    }

    #[test]
    fn a_hold_of_one_namespace_leaves_the_ration_to_the_others() {
        let mut withdrawals = deleted(5);
        withdrawals.deleted(WorkloadKey::new("z", "w"), workload(Stage::Inference));
        let due = withdrawals.due(Duration::ZERO, |_| 6, |key| key.namespace != "ns");
        assert_eq!(due, [WorkloadKey::new("z", "w")]);
    }
}
