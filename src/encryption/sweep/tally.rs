//! The count of a pass, and what the pass proves.

use std::collections::BTreeMap;
use std::fmt;

use super::answer::Entry;
use super::barrier::{Barrier, NoBarrier};
use super::listing::Stop;
use super::outcome::{Obstacle, Outcome};

/// So many objects are kept by name, the first in order. Counts are always exact.
const NAMES: usize = 50;

/// A Secret that was not rewritten.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocked {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What is in the way.
    pub obstacle: Obstacle,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}", self.namespace, self.name, self.obstacle)
    }
}

/// What became of the Secrets of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In the list.
    pub listed: u64,
    /// Were stored under another key, and are rewritten.
    pub rewritten: u64,
    /// Were read from etcd and found as they should be.
    pub current: u64,
    /// Were deleted before their turn.
    pub gone: u64,
    /// Were not rewritten, by [`Obstacle::reason`].
    pub blocked: BTreeMap<&'static str, u64>,
    /// The first of them in order.
    pub named: Vec<Blocked>,
    /// Secrets whose data is copied into an annotation, where whoever reads metadata sees it.
    pub copied: u64,
    /// The first of them in order, as `namespace/name`.
    pub copies: Vec<String>,
}

impl Tally {
    /// Counts one Secret of the list.
    pub fn listed(&mut self, entry: &Entry) {
        self.listed += 1;
        if entry.copied {
            self.copied += 1;
            keep(&mut self.copies, format!("{}/{}", entry.namespace, entry.name));
        }
    }

    /// Counts what became of one Secret. An answer that is to be repeated is no end, and counts nothing.
    pub fn count(&mut self, entry: &Entry, outcome: Outcome) {
        match outcome {
            Outcome::Rewritten => self.rewritten += 1,
            Outcome::Current => self.current += 1,
            Outcome::Gone => self.gone += 1,
            Outcome::Conflict | Outcome::Later(_) | Outcome::Ask | Outcome::Denied => {}
            Outcome::Blocked(obstacle) => self.block(Blocked {
                namespace: entry.namespace.clone(),
                name: entry.name.clone(),
                obstacle,
            }),
        }
    }

    /// Counts a Secret that cannot even be listed.
    pub fn broken(&mut self, found: Blocked) {
        self.listed += 1;
        self.block(found);
    }

    /// How many were not rewritten.
    pub fn all_blocked(&self) -> u64 {
        self.blocked.values().sum()
    }

    /// How many had their turn.
    pub fn settled(&self) -> u64 {
        self.rewritten + self.current + self.gone + self.all_blocked()
    }

    fn block(&mut self, found: Blocked) {
        *self.blocked.entry(found.obstacle.reason()).or_default() += 1;
        keep(&mut self.named, found);
    }
}

/// Keeps the first in order, whatever order they come in.
fn keep<T: Ord>(kept: &mut Vec<T>, new: T) {
    let at = kept.partition_point(|known| *known < new);
    kept.insert(at, new);
    kept.truncate(NAMES);
}

/// One pass, with what was known of the API servers before and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The count.
    pub tally: Tally,
    /// Why it did not come to its end, if so.
    pub stop: Option<Stop>,
    /// Every API server before the list was asked for, or why that is not known.
    pub before: Result<Barrier, NoBarrier>,
    /// The same after the last answer.
    pub after: Result<Barrier, NoBarrier>,
}

/// Why a pass proves nothing. The first that holds, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclean {
    /// It did not come to its end.
    Stopped(Stop),
    /// Not every Secret of the list had its turn.
    Unfinished,
    /// So many were not rewritten.
    Blocked(u64),
    /// API servers are known to write under different keys.
    KeysDiffer(String),
    /// So many were rewritten: another pass has to find them current.
    Rewritten(u64),
    /// Not every API server is known to run with one configuration.
    BarrierUnseen(String),
    /// An API server came, went, restarted or took another file meanwhile.
    BarrierMoved,
}

impl fmt::Display for Unclean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(why) => write!(f, "the pass did not come to its end: {why}"),
            Self::Unfinished => f.write_str("not every Secret had its turn"),
            Self::Blocked(number) => write!(f, "{number} Secrets were not rewritten"),
            Self::KeysDiffer(why) => f.write_str(why),
            Self::Rewritten(number) => {
                write!(
                    f,
                    "{number} Secrets were rewritten; a further pass has to find nothing left to do"
                )
            }
            Self::BarrierUnseen(why) => write!(
                f,
                "whether every API server writes under the same key is unknown: {why}"
            ),
            Self::BarrierMoved => {
                f.write_str("an API server came, went, restarted or took another configuration during the pass")
            }
        }
    }
}

impl Pass {
    /// Whether this pass proves that every Secret is stored under the key that all API servers write with: nothing
    /// rewritten, nothing in the way, and one configuration from start to end.
    pub fn clean(&self) -> Result<&Barrier, Unclean> {
        let tally = &self.tally;
        if let Some(stop) = &self.stop {
            return Err(Unclean::Stopped(stop.clone()));
        }
        match tally.all_blocked() {
            0 => {}
            number => return Err(Unclean::Blocked(number)),
        }
        if tally.settled() != tally.listed {
            return Err(Unclean::Unfinished);
        }
        match (tally.rewritten, &self.before, &self.after) {
            (_, Err(NoBarrier::Differs(why)), _) | (_, _, Err(NoBarrier::Differs(why))) => {
                Err(Unclean::KeysDiffer(why.clone()))
            }
            (1.., _, _) => Err(Unclean::Rewritten(tally.rewritten)),
            (0, Err(NoBarrier::Unseen(why)), _) | (0, _, Err(NoBarrier::Unseen(why))) => {
                Err(Unclean::BarrierUnseen(why.clone()))
            }
            (0, Ok(before), Ok(after)) if before == after => Ok(after),
            (0, Ok(_), Ok(_)) => Err(Unclean::BarrierMoved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::sweep::barrier::tests::barrier;

    fn entry(name: &str) -> Entry {
        Entry {
            namespace: "a".into(),
            name: name.into(),
            uid: "u".into(),
            version: "1".into(),
            copied: false,
        }
    }

    fn pass(outcomes: &[Outcome]) -> Pass {
        let mut tally = Tally::default();
        for (number, outcome) in outcomes.iter().enumerate() {
            let entry = entry(&format!("s{number}"));
            tally.listed(&entry);
            tally.count(&entry, outcome.clone());
        }
        Pass {
            tally,
            stop: None,
            before: Ok(barrier("x")),
            after: Ok(barrier("x")),
        }
    }

    #[test]
    fn a_pass_is_clean_when_nothing_changed_nothing_was_in_the_way_and_the_barrier_stood() {
        let clean = pass(&[Outcome::Current, Outcome::Gone, Outcome::Current]);
        assert_eq!(clean.clean(), Ok(&barrier("x")));
        assert_eq!(pass(&[]).clean(), Ok(&barrier("x")));
        let orphan = Outcome::Blocked(Obstacle::Orphan);
        assert_eq!(
            pass(&[Outcome::Current, Outcome::Rewritten]).clean(),
            Err(Unclean::Rewritten(1))
        );
        assert_eq!(pass(&[Outcome::Current, orphan]).clean(), Err(Unclean::Blocked(1)));
        // Its turn never ended.
        assert_eq!(
            pass(&[Outcome::Current, Outcome::Conflict]).clean(),
            Err(Unclean::Unfinished)
        );
        let stopped = Pass {
            stop: Some(Stop::PlaceLost),
            ..clean.clone()
        };
        assert_eq!(stopped.clean(), Err(Unclean::Stopped(Stop::PlaceLost)));
        let moved = Pass {
            after: Ok(barrier("y")),
            ..clean.clone()
        };
        assert_eq!(moved.clean(), Err(Unclean::BarrierMoved));
        let (unseen, differs) = (NoBarrier::Unseen("x".to_owned()), NoBarrier::Differs("x".to_owned()));
        for (none, why) in [
            (unseen, Unclean::BarrierUnseen("x".to_owned())),
            (differs, Unclean::KeysDiffer("x".to_owned())),
        ] {
            for (before, after) in [
                (Err(none.clone()), Ok(barrier("x"))),
                (Ok(barrier("x")), Err(none.clone())),
            ] {
                let pass = Pass {
                    before,
                    after,
                    ..clean.clone()
                };
                assert_eq!(pass.clean(), Err(why.clone()));
            }
        }
    }

    #[test]
    fn names_are_bounded_and_counts_are_exact() {
        let mut forth = Tally::default();
        let mut back = Tally::default();
        for number in 0..200 {
            let orphan = Outcome::Blocked(Obstacle::Orphan);
            forth.count(&entry(&format!("s{number:03}")), orphan.clone());
            back.count(&entry(&format!("s{:03}", 199 - number)), orphan);
        }
        assert_eq!((forth.all_blocked(), forth.named.len()), (200, NAMES));
        assert_eq!(forth, back, "what is kept depends on the order of answers");
        assert_eq!(&*forth.named[0].name, "s000");
    }

    #[test]
    fn a_value_that_breaks_the_list_is_counted_as_listed_and_blocked() {
        let mut tally = Tally::default();
        tally.broken(Blocked {
            namespace: "a".into(),
            name: "s".into(),
            obstacle: Obstacle::Undecryptable,
        });
        assert_eq!((tally.listed, tally.all_blocked(), tally.settled()), (1, 1, 1));
        let named = tally.named[0].to_string();
        assert!(named.starts_with("a/s: the stored value cannot be read"), "{named}");
    }
}
