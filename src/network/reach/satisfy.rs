//! "Could a pod exist that matches this, and that none of those policies selects?"
//!
//! The first half alone is one look for each key. The second makes it a search (a policy is avoided by failing any one
//! of its requirements), so it has a budget; beyond it the answer is that nobody knows, never that there is none.

use std::collections::BTreeMap;

use super::selector::Selector;

/// Most steps of one search. With the namespace's deny in place there is no search at all.
const BUDGET: u32 = 2_000;

/// The answer: for a pod, with the labels of such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T = BTreeMap<String, String>> {
    Yes(T),
    No,
    TooHard,
}

/// Requirements that hold together.
pub(super) trait Conjunction: Clone {
    /// Both at once; `None` when nothing can be both.
    fn and(&self, other: &Self) -> Option<Self>;

    /// Requirements of which one at least holds exactly where this does not.
    fn negated(&self) -> Vec<Self>;
}

impl Conjunction for Selector<'_> {
    fn and(&self, other: &Self) -> Option<Self> {
        Selector::and(self, other)
    }

    fn negated(&self) -> Vec<Self> {
        Selector::negated(self)
    }
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
pub(super) fn outside<C: Conjunction>(wanted: C, avoid: Vec<&C>) -> Answer<C> {
    let mut budget = BUDGET;
    match search(wanted, avoid, &mut budget) {
        Some(found) => Answer::Yes(found),
        None if budget == 0 => Answer::TooHard,
        None => Answer::No,
    }
}

/// Narrows `wanted` until nothing of `avoid` is left that it meets.
fn search<C: Conjunction>(mut wanted: C, mut avoid: Vec<&C>, budget: &mut u32) -> Option<C> {
    loop {
        *budget = budget.checked_sub(1)?;
        avoid.retain(|selector| wanted.and(selector).is_some());
        // Where there is only one way to avoid a policy, take it: no choice, so no search. All of them in one go, or a
        // namespace with five hundred workloads would be looked at five hundred times.
        let mut forced = false;
        for selector in &avoid {
            let alternatives = ways(&wanted, selector);
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
    let Some(hardest) = avoid.iter().min_by_key(|selector| ways(&wanted, selector).len()) else {
        return Some(wanted);
    };
    ways(&wanted, hardest)
        .into_iter()
        .find_map(|narrowed| search(narrowed, avoid.clone(), budget))
}

/// The ways to match `wanted` and not `selector`.
fn ways<C: Conjunction>(wanted: &C, selector: &C) -> Vec<C> {
    let negated = selector.negated();
    negated
        .iter()
        .filter_map(|alternative| wanted.and(alternative))
        .collect()
}
