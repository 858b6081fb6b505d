//! Where a rotation goes: under which key everything is to be in the end, and whether a new one is due.

use std::fmt;
use std::time::Duration;

use super::observation::Under;
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
    /// Until a key writes anywhere, another may take its place; from then on the rotation to it is finished first.
    pub fn of(view: &View<'_>) -> Self {
        let wish = &view.seen.wish;
        let wanted = view
            .active()
            .filter(|key| !wish.abandoned.contains(&key.id))
            .max_by_key(|key| key.id);
        let in_flight = |under: &Under| view.written_anywhere(under) && view.read_anywhere().len() > 1;
        let rolls_back = view.active().any(|key| wish.abandoned.contains(&key.id));
        match (wanted, wish.provider) {
            (None, None) => Self::Reach(Under::Identity),
            (None, Some(_)) if rolls_back => Self::Reach(Under::Identity),
            (None, Some(provider)) => Self::Mint(Due::FirstEnable, provider),
            (Some(key), provider) => {
                let under = Under::Key(key.name.clone());
                if rolls_back || in_flight(&under) {
                    return Self::Reach(under);
                }
                let Some(provider) = provider else {
                    return Self::Reach(Under::Identity);
                };
                let served = |request: &String| {
                    view.seen
                        .ring
                        .keys
                        .iter()
                        .any(|key| key.request.as_ref() == Some(request))
                };
                let writes = view.written_anywhere(&under);
                let due = [
                    (key.provider != provider, Due::ProviderChange),
                    (
                        wish.requested.as_ref().is_some_and(|request| !served(request)),
                        Due::Requested,
                    ),
                    (
                        writes && wish.period > Duration::ZERO && key.age >= wish.period,
                        Due::Age,
                    ),
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
    }
}
