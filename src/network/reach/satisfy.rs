//! "Could a pod exist that matches this, and that none of those policies selects?"
//!
//! The first half alone is one look for each key. The second makes it a search (a policy is avoided by failing any one
//! of its requirements), so it has a budget; beyond it the answer is that nobody knows, never that there is none.

use std::collections::BTreeMap;

use super::selector::Selector;

/// Most steps of one search. With the namespace's deny in place there is no search at all.
pub(super) const BUDGET: u32 = 2_000;

/// The answer: for a pod, with the labels of such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T = BTreeMap<String, String>> {
    Yes(T),
    No,
    TooHard,
}

/// What is looked for: everything that meets some constraints.
pub(super) trait Candidate: Clone {
    /// What must not be met.
    type Obstacle;

    /// Whether anything is left that meets the obstacle.
    fn meets(&self, obstacle: &Self::Obstacle) -> bool;

    /// Parts that together are exactly what does not meet it.
    fn ways_around(&self, obstacle: &Self::Obstacle) -> Vec<Self>;
}

/// Asks for a pod that matches `wanted` and no selector of `avoid`.
pub(super) fn pod(wanted: &Selector<'_>, avoid: &[&Selector<'_>]) -> Answer {
    match outside(wanted.clone(), avoid.to_vec()) {
        Answer::Yes(found) => Answer::Yes(found.example()),
        Answer::No => Answer::No,
        Answer::TooHard => Answer::TooHard,
    }
}

/// Asks for a part of `wanted` that meets nothing of `avoid`.
pub(super) fn outside<C: Candidate>(wanted: C, avoid: Vec<&C::Obstacle>) -> Answer<C> {
    let mut budget = BUDGET;
    match search(wanted, avoid, &mut budget) {
        Some(found) => Answer::Yes(found),
        None if budget == 0 => Answer::TooHard,
        None => Answer::No,
    }
}

/// Narrows `wanted` until nothing of `avoid` is left that it meets. `None` with an empty budget: nobody knows.
pub(super) fn search<C: Candidate>(mut wanted: C, mut avoid: Vec<&C::Obstacle>, budget: &mut u32) -> Option<C> {
    loop {
        *budget = budget.checked_sub(1)?;
        avoid.retain(|obstacle| wanted.meets(obstacle));
        // Where there is only one way to avoid a policy, take it: no choice, so no search. All of them in one go, or a
        // namespace with five hundred workloads would be looked at five hundred times.
        let mut forced = false;
        for obstacle in &avoid {
            let alternatives = wanted.ways_around(obstacle);
            match alternatives.as_slice() {
                [] => return None,
                [only] => {
                    forced = true;
                    wanted = only.clone();
                }
                _ => {}
            }
        }
        if !forced {
            break;
        }
    }
    let Some(hardest) = avoid.iter().min_by_key(|obstacle| wanted.ways_around(obstacle).len()) else {
        return Some(wanted);
    };
    wanted
        .ways_around(hardest)
        .into_iter()
        .find_map(|narrowed| search(narrowed, avoid.clone(), budget))
}

impl<'a> Candidate for Selector<'a> {
    type Obstacle = Selector<'a>;

    fn meets(&self, obstacle: &Selector<'a>) -> bool {
        self.and(obstacle).is_some()
    }

    fn ways_around(&self, obstacle: &Selector<'a>) -> Vec<Self> {
        let negated = obstacle.negated();
        negated.iter().filter_map(|alternative| self.and(alternative)).collect()
    }
}
