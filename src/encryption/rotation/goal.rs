//! Where a rotation goes: under which key everything is to be in the end, and whether a new one is due.

use std::fmt;
use std::time::Duration;

use super::observation::{RingKey, Under};
use super::view::View;
use crate::api::encryption::Provider;

/// Why a new key is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is none.
    FirstEnable,
    /// The one that writes has another cipher.
    ProviderChange,
    /// A person asked for it.
    Requested,
    /// It is old.
    Age,
    /// It wrote much.
    Writes,
}

impl fmt::Display for Due {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::FirstEnable => "there is no key yet",
            Self::ProviderChange => "spec.provider names another cipher",
            Self::Requested => "it was requested",
            Self::Age => "the key is older than spec.rotation.periodDays",
            Self::Writes => "the key wrote more than spec.rotation.maxWritesPerKey",
        })
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A new key is needed first, with this cipher.
    Mint(Due, Provider),
    /// Everything is to be under this.
    Reach(Under),
}

impl Goal {
    /// Until a key writes anywhere, another may take its place; from then on the rotation to it is finished first (I7).
    pub fn of(view: &View<'_>) -> Self {
        let wish = &view.seen.wish;
        if let Some(back) = back_to(view) {
            return Self::Reach(back);
        }
        // Keys that were adopted are read, and leave with the first rotation.
        let Some(key) = view.active().filter(|key| !key.imported).max_by_key(|key| key.id) else {
            return wish.provider.map_or(Self::Reach(Under::Identity), |provider| {
                Self::Mint(Due::FirstEnable, provider)
            });
        };
        let under = Under::Key(key.name.clone());
        let Some(provider) = wish.provider else {
            return Self::Reach(if in_flight(view, &under, true) {
                under
            } else {
                Under::Identity
            });
        };
        if in_flight(view, &under, false) {
            return Self::Reach(under);
        }
        let served = |request: &String| {
            view.seen
                .ring
                .keys
                .iter()
                .any(|key| key.request.as_ref() == Some(request))
        };
        let requested = wish.requested.as_ref().is_some_and(|request| !served(request));
        let old = view.written_anywhere(&under) && wish.period > Duration::ZERO && key.age >= wish.period;
        let due = [
            (key.provider != provider, Due::ProviderChange),
            (requested, Due::Requested),
            (old, Due::Age),
            (
                key.provider == Provider::AESGCM && key.writes >= wish.max_writes,
                Due::Writes,
            ),
        ];
        match due.iter().find(|(due, _)| *due) {
            Some((_, due)) => Self::Mint(*due, provider),
            None => Self::Reach(under),
        }
    }
}

/// Whether the rotation to this key is past the point where another could take its place: it writes, and something else
/// is still read, or is not marked as retired yet. Someone who disables need not wait until plaintext was rewritten.
fn in_flight(view: &View<'_>, under: &Under, disables: bool) -> bool {
    let other = |read: &Under| read != under && !(disables && *read == Under::Identity);
    let unmarked = view.active().any(|key| Under::Key(key.name.clone()) != *under);
    view.written_anywhere(under) && (unmarked || view.read_anywhere().iter().any(other))
}

/// Where a rotation goes whose key was given up: to the newest other one, or, while first enable is on its way, to
/// plaintext. Nowhere, when there is nothing to go back to: giving up a key never decrypts what is encrypted.
fn back_to(view: &View<'_>) -> Option<Under> {
    let given_up = |key: &&RingKey| view.seen.wish.abandoned.contains(&key.id);
    view.active().find(given_up)?;
    let kept = view.active().filter(|key| !given_up(key)).max_by_key(|key| key.id);
    match kept {
        Some(key) => Some(Under::Key(key.name.clone())),
        None => view
            .read_anywhere()
            .contains(&Under::Identity)
            .then_some(Under::Identity),
    }
}
