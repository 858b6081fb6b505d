//! Keys that a person gave up by name: what becomes of each is told, above all when it cannot be given up any more.

use std::collections::BTreeSet;

use super::goal::back_to;
use super::observation::{Observation, Ring, RingKey, Under};
use super::view::View;
use crate::api::conditions::{Truth, Verdict};
use crate::api::names::ABANDONED_ANNOTATION;

/// The condition: the keys that the annotation names are given up, or will be.
pub const ABANDONED: &str = "Abandoned";
/// The longest value that is read: more keys than a ring holds.
const MOST: usize = 4096;

/// The names in the annotation.
fn names(annotation: &str) -> impl Iterator<Item = &str> {
    let annotation = annotation.get(..MOST).unwrap_or(annotation);
    annotation.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// The numbers of the keys that the annotation names, as far as they are in the ring.
pub fn numbers(annotation: &str, ring: &Ring) -> BTreeSet<u64> {
    let named: BTreeSet<&str> = names(annotation).collect();
    let keys = ring.keys.iter().filter(|key| named.contains(key.name.as_str()));
    keys.map(|key| key.id).collect()
}

/// The condition [`ABANDONED`]; `None` while no key is named.
pub fn verdict(seen: &Observation, annotation: Option<&str>) -> Option<Verdict> {
    let view = View::of(seen);
    let back = back_to(&view);
    let read = view.read_anywhere();
    let each = names(annotation?).map(|name| {
        let key = seen.ring.keys.iter().find(|key| key.name.as_str() == name);
        let read = key.is_some_and(|key| read.contains(&Under::Key(key.name.clone())));
        told(name, key, read, back.as_ref())
    });
    let mut all: Vec<(Truth, &'static str, String)> = each.collect();
    // What cannot be done comes first, and is the condition's word.
    all.sort_by_key(|(truth, ..)| *truth != Truth::False);
    let (truth, reason, _) = *all.first()?;
    let lines: Vec<String> = all.into_iter().map(|(.., line)| line).collect();
    let message = format!("annotation {ABANDONED_ANNOTATION}: {}", lines.join("; "));
    Some(Verdict::new(ABANDONED, truth, reason, message))
}

fn told(name: &str, key: Option<&RingKey>, read: bool, back: Option<&Under>) -> (Truth, &'static str, String) {
    let Some(key) = key else {
        let line = format!("no key of the ring is called {name}; names are in status.keys, with commas between them");
        return (Truth::False, "NoSuchKey", line);
    };
    if key.retired.is_some() || key.destroyed {
        if read {
            let line = format!("{name} is retired, and an API server still has it: see Converged");
            return (Truth::Unknown, "StillRead", line);
        }
        let line = format!("{name} is given up: no API server has it");
        return (Truth::True, "GivenUp", line);
    }
    match back {
        Some(Under::Identity) => (
            Truth::True,
            "GoingBack",
            format!("{name} is given up before the first enable ended: Secrets will be stored in plaintext, as before"),
        ),
        Some(under) => (
            Truth::True,
            "GoingBack",
            format!("{name} is given up: every Secret comes under {under} again"),
        ),
        None => (
            Truth::False,
            "NothingToGoBackTo",
            format!(
                "{name} cannot be given up any more: nothing that came before it is left, and to drop it would lose every \
                 value under it; ask for a rotation away from it instead, and take its name out of the annotation"
            ),
        ),
    }
}
