//! What Secrets were, and when: by whoever writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Its value; `None` where it is not there.
pub type State = Option<String>;

/// By name, one after the other: since when, and what was possible then. More than one state is where a write has no answer
/// yet, or none at all.
#[derive(Default)]
pub struct History {
    of: BTreeMap<String, Vec<(Instant, BTreeSet<State>)>>,
    changes: usize,
}

impl History {
    /// From now on it is one of these. Said before a write with all that it may become, and after its answer.
    pub fn is(&mut self, name: &str, states: BTreeSet<State>) {
        self.changes += usize::from(states.len() == 1);
        let known = self.of.entry(name.to_owned()).or_default();
        known.push((Instant::now(), states));
    }

    /// Whatever it may be now.
    pub fn of(&self, name: &str) -> BTreeSet<State> {
        let known = self.of.get(name).and_then(|known| known.last());
        known.map_or_else(|| BTreeSet::from([None]), |(_, states)| states.clone())
    }

    /// Whatever it may have been at any time since.
    pub fn possible(&self, name: &str, since: Instant) -> BTreeSet<State> {
        let known = self.of.get(name).map(Vec::as_slice).unwrap_or_default();
        // Nothing was there before the first.
        let first = known.partition_point(|(from, _)| *from <= since).checked_sub(1);
        let before = first.is_none().then_some(None);
        let then = known[first.unwrap_or_default()..].iter().flat_map(|(_, states)| states);
        then.cloned().chain(before).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.of.keys().map(String::as_str)
    }

    /// How many writes were answered.
    pub fn changes(&self) -> usize {
        self.changes
    }
}

#[test]
fn what_was_possible_since_a_moment_is_told() {
    let set =
        |states: &[Option<&str>]| -> BTreeSet<State> { states.iter().map(|state| state.map(str::to_owned)).collect() };
    let mut history = History::default();
    let start = Instant::now();
    history.is("a", set(&[None, Some("1")]));
    history.is("a", set(&[Some("1")]));
    let written = Instant::now();
    assert_eq!(history.possible("a", written), set(&[Some("1")]), "it is there");
    history.is("a", set(&[Some("1"), Some("2")]));
    history.is("a", set(&[Some("2")]));
    assert_eq!(history.possible("a", written), set(&[Some("1"), Some("2")]));
    assert_eq!(
        history.possible("a", Instant::now()),
        set(&[Some("2")]),
        "the old value is gone"
    );
    assert_eq!(history.possible("a", start), set(&[None, Some("1"), Some("2")]));
    assert_eq!(history.changes(), 2);
}
