//! The rotation of keys, S0 to S8, as one pure function: [`plan`]. What is done next is derived from what is observed,
//! the ring, the files and API servers of all control-plane nodes, raw etcd, and never from a stored step.
//!
//! A configuration `C(w;R)` writes under `w` and reads all of `R`. From `a` to `b` it is C(a;{a}), C(a;{a,b}), C(b;{b,a}),
//! C(b;{b}); first enable begins with `identity` for `a`, to disable ends with it for `b`. What must hold:
//!
//! - I1 every value, in all revisions that can still be read, is under something that every API server reads;
//! - I2 what any API server writes, every other one reads;
//! - I3 numbers of keys only grow, a name is one key's for ever;
//! - I4 before an API server may write under a key, it is sealed for every control-plane node and for the escrow, and on
//!   every disk;
//! - I5 a key is dropped only while the barrier has held since before the sweep, after a proof that nothing is under it,
//!   and after all revisions before that proof are compacted;
//! - I6 a key is destroyed only where the policy says after how long;
//! - I7 one rotation at a time; its target may be replaced until something writes under it;
//! - I8 nothing is taken from a stored step.
//!
//! To add to `R` is always safe and needs no barrier. Everything else waits until every API server that may exist is
//! known, and until every agent has said that it follows the order that stands: one that died between its disk and its
//! report may have done what was asked meanwhile.

pub mod abandoned;
pub mod at_rest;
mod blocked;
pub mod claims;
mod clearance;
pub mod facts;
#[cfg(test)]
mod fixture;
mod goal;
mod mint;
pub mod observation;
mod order;
pub mod persistence;
pub mod plaintext;
mod reach;
pub mod records;
pub mod residual;
pub mod told;
mod view;
mod wrong;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::api::encryption::Provider;
use crate::api::encryption_status::Step;
use crate::encryption::sweep;

pub use blocked::Blocked;
pub use goal::Due;
use goal::Goal;
use observation::Named;
pub use observation::{Configuration, Observation, Under};
pub use records::Records;
use view::View;

/// A request that began before the last API server changed its key may still write under the old one, for as long as the
/// API servers' `--request-timeout` lets it. This is the default of that flag, and what counts where nobody can tell.
pub const SETTLE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a key of this cipher.
    Mint(Provider, Due),
    /// Every control-plane node is to have this.
    WriteConfig(Configuration),
    /// Wait until then.
    Settle(Duration),
    /// Rewrite everything that is not under the key that writes.
    StartSweep,
    /// Read what is stored.
    StartProof,
    /// Wait until etcd has compacted this revision.
    AwaitCompaction(u64),
    /// Every node is to drop what nothing is under: a [`Action::WriteConfig`] that takes away.
    Retire(Configuration),
    /// Mark these keys, by number, as retired.
    Archive(BTreeSet<u64>),
    /// Destroy the material of these keys, by number.
    Destroy(BTreeSet<u64>),
    /// Nothing is due.
    Nothing,
    /// Something is in the way: see [`Decision::blocked_by`].
    Hold,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where the rotation stands.
    pub step: Step,
    /// What to do.
    pub action: Action,
    /// What is in the way, or waited for.
    pub blocked_by: Vec<Blocked>,
    /// What a person can do.
    pub next_command: Option<String>,
    /// What is wrong with values or API servers: for the condition `Degraded`.
    pub degraded: Vec<String>,
}

/// Decides. Total and deterministic. `seen.records` are those of [`Records::after`] the same observation.
pub fn plan(seen: &Observation) -> Decision {
    let view = View::of(seen);
    let decision = decide(&view);
    Decision {
        next_command: decision.blocked_by.iter().find_map(Blocked::next_command),
        degraded: wrong::degraded(&view),
        ..decision
    }
}

impl Decision {
    fn new(step: Step, action: Action) -> Self {
        Self {
            step,
            action,
            blocked_by: Vec::new(),
            next_command: None,
            degraded: Vec::new(),
        }
    }

    fn hold(step: Step, blocked_by: Vec<Blocked>) -> Self {
        Self {
            blocked_by,
            ..Self::new(step, Action::Hold)
        }
    }

    fn waiting_for(self, blocked_by: Vec<Blocked>) -> Self {
        Self { blocked_by, ..self }
    }

    /// Only while every API server that may exist is known (I1, I2), and no disk may have changed since its report. To
    /// repeat the order that stands needs no new word of the agents: they were asked before it was given.
    fn behind_the_barrier(self, view: &View<'_>) -> Self {
        let mut missing = view.absent();
        if missing.is_empty() && !self.repeats(view.seen) {
            missing.extend(view.unacknowledged());
        }
        if missing.is_empty() {
            return self;
        }
        Self::hold(self.step, missing)
    }
}

fn decide(view: &View<'_>) -> Decision {
    let foreign = not_ours(view);
    if !foreign.is_empty() {
        return Decision::hold(Step::Idle, foreign);
    }
    let goal = Goal::of(view);
    if view.seen.wish.suspended {
        return Decision::hold(standing(view, &goal), vec![Blocked::Suspended]);
    }
    let unswept: Vec<_> = unswept(view).collect();
    if !unswept.is_empty() {
        return Decision::hold(standing(view, &goal), unswept);
    }
    let unclear: Vec<_> = unclear(view).collect();
    if !unclear.is_empty() {
        return Decision::hold(Step::Read, unclear);
    }
    match goal {
        Goal::Mint(due, provider) => mint::mint(view, due, provider),
        Goal::Reach(goal) => reach::reach(view, &goal),
    }
}

/// Resources whose old values no sweep would bring under the key: a rotation would wait for them for ever, and an API
/// server whose file names one without `identity` could not read it. Whenever one is named, files stay as they are.
fn unswept(view: &View<'_>) -> impl Iterator<Item = Blocked> {
    let resources = view.seen.wish.resources.iter();
    let others = resources.filter(|resource| *resource != sweep::RESOURCE);
    others.map(|resource| Blocked::NotSwept(resource.clone()))
}

/// API servers of which nobody knows what they read and write. They load what is on their disk within a minute; until
/// then all files stay as they are.
fn unclear(view: &View<'_>) -> impl Iterator<Item = Blocked> {
    let nodes = view
        .nodes
        .iter()
        .filter(|node| node.server.is_some() && node.running.is_none());
    nodes.map(|node| {
        let name = node.name.to_owned();
        let silent = node.server.is_some_and(|server| server.loaded.is_none());
        match (node.named, node.too_old()) {
            (Named::Elsewhere, _) => Blocked::ConfiguredElsewhere(name, node.flags_missing.to_vec()),
            (_, Some(version)) if silent => Blocked::TooOld(name, version),
            (Named::Unseen, _) if silent => Blocked::FlagsUnseen(name),
            _ => Blocked::NotLoaded(name, None),
        }
    })
}

/// The step, for a person who suspended it.
fn standing(view: &View<'_>, goal: &Goal) -> Step {
    match goal {
        Goal::Mint(..) => Step::Mint,
        Goal::Reach(goal) => reach::reach(view, goal).step,
    }
}

/// Files that somebody else wrote and whose keys are not in the ring; and keys in files that nobody else could be given:
/// such a file may be the only place where the key still is, so that it stays.
fn not_ours(view: &View<'_>) -> Vec<Blocked> {
    let lost = |configuration: &Configuration| {
        let mut keys = configuration.read.iter().filter(|under| **under != Under::Identity);
        keys.find(|under| view.key(under).is_none_or(|key| key.destroyed))
            .cloned()
    };
    let imported = |configuration: &Configuration| {
        let mut keys = configuration.read.iter();
        keys.any(|under| view.key(under).is_some_and(|key| key.imported))
    };
    let each = view.nodes.iter().filter_map(|node| {
        let file = node.file?;
        if file.kms {
            return Some(Blocked::KmsObserved(node.name.to_owned()));
        }
        match &file.configuration {
            Some(configuration) if file.own => lost(configuration).map(|under| match view.key(&under) {
                Some(_) => Blocked::KeyDestroyed(node.name.to_owned(), under),
                None => Blocked::KeyLost(node.name.to_owned(), under),
            }),
            Some(configuration) if lost(configuration).is_none() && imported(configuration) => None,
            _ => Some(Blocked::ForeignConfig(node.name.to_owned(), file.hash.clone())),
        }
    });
    each.collect()
}
