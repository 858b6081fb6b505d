//! "Could a pod exist that matches this, and that none of those policies selects?"
//!
//! The first half alone is one look for each key. The second makes it a search (a policy is avoided by failing any one
//! of its requirements), so it has a budget; beyond it the answer is that nobody knows, never that there is none.

use std::collections::BTreeMap;

use super::selector::Selector;

/// Most steps of one search. With the namespace's deny in place there is no search at all.
const BUDGET: u32 = 2_000;

/// The answer, with the labels of such a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes(BTreeMap<String, String>),
    No,
    TooHard,
}

/// Asks for a pod that matches `wanted` and no selector of `avoid`.
pub(super) fn pod(wanted: &Selector<'_>, avoid: &[&Selector<'_>]) -> Answer {
    let mut budget = BUDGET;
    match search(wanted.clone(), avoid.to_vec(), &mut budget) {
        Some(found) => Answer::Yes(found.example()),
        None if budget == 0 => Answer::TooHard,
        None => Answer::No,
    }
}

/// Narrows `wanted` until nothing of `avoid` is left that it meets.
fn search<'a>(mut wanted: Selector<'a>, mut avoid: Vec<&Selector<'a>>, budget: &mut u32) -> Option<Selector<'a>> {
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
fn ways<'a>(wanted: &Selector<'a>, selector: &Selector<'a>) -> Vec<Selector<'a>> {
    let negated = selector.negated();
    negated
        .iter()
        .filter_map(|alternative| wanted.and(alternative))
        .collect()
}
