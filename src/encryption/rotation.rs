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
//! known.

mod blocked;
mod goal;
pub mod observation;
pub mod records;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::api::encryption::Provider;
use crate::api::encryption_status::Step;

pub use blocked::Blocked;
pub use goal::Due;
use goal::Goal;
pub use observation::{Configuration, Observation, Under};
pub use records::Records;
use view::{Seen, View};

/// A request that began before the last API server changed its key may still write under the old one. The API server's
/// `--request-timeout` is 60 s.
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
        degraded: degraded(&view),
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

    /// Only while every API server that may exist is known.
    fn behind_the_barrier(self, view: &View<'_>) -> Self {
        match view.absent() {
            absent if absent.is_empty() => self,
            absent => Self::hold(self.step, absent),
        }
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
    let unclear: Vec<_> = unclear(view).collect();
    if !unclear.is_empty() {
        return Decision::hold(Step::Read, unclear);
    }
    match goal {
        Goal::Mint(due, provider) => mint(view, due, provider),
        Goal::Reach(goal) => reach(view, &goal),
    }
}

/// API servers of which nobody knows what they read and write. They load what is on their disk within a minute; until
/// then all files stay as they are.
fn unclear(view: &View<'_>) -> impl Iterator<Item = Blocked> {
    let nodes = view
        .nodes
        .iter()
        .filter(|node| node.server.is_some() && node.running.is_none());
    nodes.map(|node| Blocked::NotLoaded(node.name.to_owned(), None))
}

/// The step, for a person who suspended it.
fn standing(view: &View<'_>, goal: &Goal) -> Step {
    match goal {
        Goal::Mint(..) => Step::Mint,
        Goal::Reach(goal) => reach(view, goal).step,
    }
}

/// Files that somebody else wrote, and whose keys are not in the ring.
fn not_ours(view: &View<'_>) -> Vec<Blocked> {
    let each = view.nodes.iter().filter_map(|node| {
        let file = node.file.filter(|file| !file.own)?;
        if file.kms {
            return Some(Blocked::KmsObserved(node.name.to_owned()));
        }
        let keys = |configuration: &Configuration| {
            let keys: Vec<_> = configuration
                .read
                .iter()
                .filter(|under| **under != Under::Identity)
                .cloned()
                .collect();
            let adopted = keys.iter().any(|under| view.key(under).is_some_and(|key| key.imported));
            adopted && keys.iter().all(|under| view.key(under).is_some())
        };
        (!file.configuration.as_ref().is_some_and(keys)).then(|| Blocked::ForeignConfig(node.name.to_owned()))
    });
    each.collect()
}

/// S1. A key is made only when everybody who must have it can be given it.
fn mint(view: &View<'_>, due: Due, provider: Provider) -> Decision {
    let wish = &view.seen.wish;
    let mut blocked = Vec::new();
    if wish.escrow.is_empty() && !wish.escrow_waived {
        blocked.push(Blocked::EscrowMissing);
    }
    let strangers = view
        .nodes
        .iter()
        .filter(|node| !view.seen.ring.members.contains_key(node.name));
    blocked.extend(strangers.map(|node| Blocked::NotMember(node.name.to_owned())));
    if !blocked.is_empty() {
        return Decision::hold(Step::Mint, blocked);
    }
    let unreachable = view.nodes.iter().filter(|node| !node.fresh);
    let unreachable: Vec<_> = unreachable
        .map(|node| Blocked::NodeUnreachable(node.name.to_owned()))
        .collect();
    if !unreachable.is_empty() || view.nodes.is_empty() {
        return Decision::hold(Step::Mint, view.absent());
    }
    Decision::new(Step::Mint, Action::Mint(provider, due))
}

/// I4: who lacks the key.
fn not_durable(view: &View<'_>, goal: &Under) -> Vec<Blocked> {
    let Some(key) = view.key(goal) else { return Vec::new() };
    let mut blocked = Vec::new();
    for node in &view.nodes {
        match view.seen.ring.members.get(node.name) {
            None => blocked.push(Blocked::NotMember(node.name.to_owned())),
            Some(recipient) if !key.sealed_for.contains(recipient) => {
                blocked.push(Blocked::NotSealed(key.name.clone(), format!("Node/{}", node.name)));
            }
            Some(_) if node.sealed_id < key.id => {
                blocked.push(Blocked::NotOnDisk(key.name.clone(), node.name.to_owned()));
            }
            Some(_) => {}
        }
    }
    let wish = &view.seen.wish;
    if wish.escrow.is_empty() && !wish.escrow_waived {
        blocked.push(Blocked::EscrowMissing);
    }
    let unsealed = wish
        .escrow
        .iter()
        .filter(|recipient| !key.sealed_for.contains(*recipient));
    blocked.extend(unsealed.map(|recipient| Blocked::NotSealed(key.name.clone(), recipient.clone())));
    blocked
}

/// S2 to S8: everything comes under `goal`, and the rest goes.
fn reach(view: &View<'_>, goal: &Under) -> Decision {
    let mut union = view.read_anywhere();
    union.extend(strays(view));
    if union.is_empty() {
        union.insert(Under::Identity);
    }
    if proven(view, goal) && union.iter().all(|under| !strays(view).contains(under)) {
        let last = Configuration::new(goal.clone(), []);
        if !view.nodes.iter().all(|node| node.has(&last)) {
            let waiting = not_loaded(view, &last);
            return Decision::new(Step::Retire, Action::Retire(last))
                .waiting_for(waiting)
                .behind_the_barrier(view);
        }
    }
    let mut all = union.clone();
    all.insert(goal.clone());
    if view.everyone_reads(&all) || none_but_the_stale(view, goal) {
        let target = Configuration::new(goal.clone(), all);
        if view.nodes.iter().all(|node| node.has(&target)) {
            return settled(view, goal, &target);
        }
        let mut waiting = not_loaded(view, &target);
        waiting.extend(view.absent());
        // A node that only lacks something to read gets it whoever else is away.
        let adds = view.nodes.iter().all(|node| writes_already(node, goal));
        let decision = Decision::new(Step::Promote, Action::WriteConfig(target)).waiting_for(waiting);
        return if adds {
            decision
        } else {
            decision.behind_the_barrier(view)
        };
    }
    let lacking = not_durable(view, goal);
    let write = keeps_writing(view, goal);
    if !lacking.is_empty() && !view.read_anywhere().contains(goal) {
        // What is lost must be read at once, whatever else has to wait.
        return match strays(view) {
            lost if lost.is_empty() => Decision::hold(Step::Mint, lacking),
            _ => Decision::new(Step::Read, Action::WriteConfig(Configuration::new(write, union))).waiting_for(lacking),
        };
    }
    let target = Configuration::new(write, all);
    let mut waiting = not_loaded(view, &target);
    waiting.extend(view.absent());
    Decision::new(Step::Read, Action::WriteConfig(target)).waiting_for(waiting)
}

/// Runs with it as what writes, and has it on disk so, or lacks nothing but what to read.
fn writes_already(node: &Seen<'_>, goal: &Under) -> bool {
    let stale = !node.reads(goal);
    stale
        || [node.running.as_ref(), node.on_disk()]
            .iter()
            .all(|it| it.is_some_and(|it| it.write == *goal))
}

/// Everybody who reads the goal writes it already. Then who does not read it is somebody who came late or came back, and
/// gets all at once: to make the others write an older key again would help nobody.
fn none_but_the_stale(view: &View<'_>, goal: &Under) -> bool {
    let writes = |node: &&Seen<'_>| node.running.as_ref().is_some_and(|running| running.write == *goal);
    view.nodes.iter().any(|node| writes(&node) && node.reads(goal))
        && view.nodes.iter().all(|node| writes_already(node, goal))
}

/// What writes while everybody learns to read the goal: the newest that all read, else the newest that writes.
fn keeps_writing(view: &View<'_>, goal: &Under) -> Under {
    let writers: BTreeSet<Under> = view
        .configurations()
        .map(|it| it.write.clone())
        .filter(|it| it != goal)
        .collect();
    let newest = |among: Vec<&Under>| among.into_iter().max_by_key(|under| view.rank(under)).cloned();
    let read_by_all = |under: &&Under| view.everyone_reads(&BTreeSet::from([(*under).clone()]));
    newest(writers.iter().filter(read_by_all).collect())
        .or_else(|| newest(writers.iter().collect()))
        .unwrap_or(Under::Identity)
}

/// S3 to S8 once every API server has the target.
fn settled(view: &View<'_>, goal: &Under, target: &Configuration) -> Decision {
    if target.read.len() == 1 {
        return idle(view, goal);
    }
    let step = |step, action| Decision::new(step, action).behind_the_barrier(view);
    let records = &view.seen.records;
    let Some(held) = records.held().filter(|held| held.write == *goal) else {
        return Decision::hold(Step::Promote, view.absent());
    };
    let until = held.since + SETTLE;
    if view.seen.now < until {
        return step(Step::Promote, Action::Settle(until));
    }
    let Some(sweep) = records.sweep() else {
        return step(Step::Sweep, Action::StartSweep);
    };
    if !sweep.blocked.is_empty() {
        let blocked = vec![Blocked::SweepBlocked(sweep.blocked.clone())];
        return step(Step::Sweep, Action::StartSweep).waiting_for(blocked);
    }
    if sweep.rewritten > 0 {
        return step(Step::Sweep, Action::StartSweep);
    }
    let Some(proof) = records.proof() else {
        return step(Step::Prove, Action::StartProof);
    };
    let unproven = view
        .seen
        .wish
        .resources
        .iter()
        .find(|resource| !proof.values.contains_key(*resource));
    if let Some(resource) = unproven {
        return step(Step::Prove, Action::StartProof).waiting_for(vec![Blocked::NotProven(resource.clone())]);
    }
    if !proof.left(goal).is_empty() {
        // Somebody wrote it into etcd, or the sweep does not reach it.
        return step(Step::Sweep, Action::StartSweep);
    }
    step(Step::Drain, Action::AwaitCompaction(proof.revision))
}

/// I5: nothing is under anything but `goal`, nor was in a revision that can still be read, nor can have come since.
fn proven(view: &View<'_>, goal: &Under) -> bool {
    let records = &view.seen.records;
    let held = records.held().is_some_and(|held| held.write == *goal);
    let swept = records
        .sweep()
        .is_some_and(|sweep| sweep.rewritten == 0 && sweep.blocked.is_empty());
    let proof = records.proof().filter(|proof| {
        let covered = view
            .seen
            .wish
            .resources
            .iter()
            .all(|resource| proof.values.contains_key(resource));
        covered && proof.left(goal).is_empty()
    });
    held && swept && proof.is_some_and(|proof| view.seen.compacted >= proof.revision)
}

/// S8 and S0.
fn idle(view: &View<'_>, goal: &Under) -> Decision {
    let retired: BTreeSet<u64> = view
        .active()
        .filter(|key| Under::Key(key.name.clone()) != *goal)
        .map(|key| key.id)
        .collect();
    if !retired.is_empty() {
        return Decision::new(Step::Archive, Action::Archive(retired)).behind_the_barrier(view);
    }
    let old = |after: Duration| {
        let keys = view.seen.ring.keys.iter().filter(|key| !key.destroyed);
        keys.filter(move |key| key.retired.is_some_and(|age| age > after))
            .map(|key| key.id)
            .collect()
    };
    let destroyed: BTreeSet<u64> = view.seen.wish.retention.map(old).unwrap_or_default();
    if !destroyed.is_empty() {
        return Decision::new(Step::Idle, Action::Destroy(destroyed)).behind_the_barrier(view);
    }
    Decision::new(Step::Idle, Action::Nothing).waiting_for(view.absent())
}

/// Archived keys that are needed after all: all of them where values were met that nothing fits, else those that raw
/// etcd shows.
fn strays(view: &View<'_>) -> BTreeSet<Under> {
    let archived = view.archived();
    if view.seen.records.strays() {
        return archived;
    }
    let Some(proof) = &view.seen.latest_proof else {
        return BTreeSet::new();
    };
    let stored = proof
        .values
        .values()
        .flatten()
        .filter(|(_, count)| **count > 0)
        .map(|(under, _)| under);
    stored.filter(|under| archived.contains(*under)).cloned().collect()
}

/// Who does not have the target yet.
fn not_loaded(view: &View<'_>, target: &Configuration) -> Vec<Blocked> {
    let late = view
        .nodes
        .iter()
        .filter(|node| node.server.is_some() && !node.has(target));
    let each = late.map(|node| match node.flags_missing {
        [] if !view.seen.ring.members.contains_key(node.name) => Blocked::NotMember(node.name.to_owned()),
        [] => Blocked::NotLoaded(
            node.name.to_owned(),
            node.running.as_ref().map(Configuration::to_string),
        ),
        flags => Blocked::FlagsMissing(node.name.to_owned(), flags.to_vec()),
    });
    each.collect()
}

/// What is wrong now, whatever is done about it.
fn degraded(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    if view.seen.records.strays() {
        wrong.push("API servers met values that no key of their configuration fits".to_owned());
    }
    let read = view.read_anywhere();
    let values = view.seen.latest_proof.iter().flat_map(|proof| &proof.values);
    for (resource, values) in values {
        for (under, count) in values
            .iter()
            .filter(|(under, count)| **count > 0 && !read.contains(*under))
        {
            wrong.push(match under {
                Under::Identity => {
                    format!("{count} values of {resource} are stored in plaintext, and no API server serves them")
                }
                under => Blocked::Unreadable(resource.clone(), under.clone(), *count).to_string(),
            });
        }
    }
    for node in view.nodes.iter().filter(|node| node.server.is_some()) {
        let Some(running) = &node.running else { continue };
        let blind = view.nodes.iter().find(|other| {
            let configuration = other.running.as_ref().filter(|_| other.server.is_some());
            configuration.is_some_and(|configuration| !configuration.read.contains(&running.write))
        });
        if let Some(other) = blind {
            wrong.push(format!(
                "Node/{} writes under {}, which the API server of Node/{} cannot read",
                node.name, running.write, other.name
            ));
        }
    }
    wrong
}
