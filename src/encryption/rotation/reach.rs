//! S2 to S8: everything comes under the goal, and the rest goes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::blocked::Blocked;
use super::clearance;
use super::mint::not_durable;
use super::observation::{Configuration, Proof, Under};
use super::view::{Seen, View};
use super::wrong::strays;
use super::{Action, Decision};
use crate::api::encryption_status::Step;

/// See the module.
pub fn reach(view: &View<'_>, goal: &Under) -> Decision {
    let strays = strays(view);
    let mut union = view.read_anywhere();
    union.extend(strays.iter().cloned());
    if union.is_empty() {
        union.insert(Under::Identity);
    }
    let alone = Configuration::new(goal.clone(), []);
    let everyone_has = |target: &Configuration| view.nodes.iter().all(|node| node.has(target));
    // Where there is no file, and none is wanted, nobody is asked to write one.
    let untouched = *goal == Under::Identity && view.nodes.iter().all(|node| node.file.is_none());
    if strays.is_empty() && (everyone_has(&alone) || untouched) {
        return idle(view, goal);
    }
    // S7. Over all nodes: one that is away would come back to values it cannot read (I1), or write such (I2).
    if strays.is_empty() && clearance::lacking(view, goal).is_none() {
        let waiting = not_loaded(view, &alone);
        return Decision::new(Step::Retire, Action::Retire(alone))
            .waiting_for(waiting)
            .behind_the_barrier(view);
    }
    let mut all = union.clone();
    all.insert(goal.clone());
    let lacking = not_durable(view, goal);
    if !lacking.is_empty() && !view.written_anywhere(goal) {
        // What is lost must be read at once, whatever else has to wait.
        return if strays.is_empty() {
            Decision::hold(Step::Mint, lacking)
        } else {
            let target = Configuration::new(keeps_writing(view, goal), union);
            Decision::new(Step::Read, Action::WriteConfig(target)).waiting_for(lacking)
        };
    }
    // S3. Everybody reads what the first that changes will write (I2), and what others still write (I1).
    if view.everyone_reads(&all) || none_but_the_stale(view, goal) {
        return promote(view, goal, all);
    }
    // S2.
    let target = Configuration::new(keeps_writing(view, goal), all);
    let mut waiting = not_loaded(view, &target);
    waiting.extend(view.absent());
    Decision::new(Step::Read, Action::WriteConfig(target)).waiting_for(waiting)
}

/// S3, and what follows once all write the goal. Nothing is dropped: a rotation that is rolled back here promotes the key
/// it came from in the same way.
fn promote(view: &View<'_>, goal: &Under, all: BTreeSet<Under>) -> Decision {
    let target = Configuration::new(goal.clone(), all);
    if view.nodes.iter().all(|node| node.has(&target)) {
        return match clearance::lacking(view, goal) {
            Some(next) if next.action != Action::Hold => next.behind_the_barrier(view),
            Some(hold) => hold,
            // Only strays are read beside it, and they are there to stay until the next sweep under a new barrier.
            None => Decision::new(Step::Prove, Action::StartProof).behind_the_barrier(view),
        };
    }
    let mut waiting = not_loaded(view, &target);
    waiting.extend(view.absent());
    // A node that only lacks something to read gets it whoever else is away.
    let adds = view.nodes.iter().all(|node| writes_already(node, goal));
    let decision = Decision::new(Step::Promote, Action::WriteConfig(target)).waiting_for(waiting);
    if adds {
        decision
    } else {
        decision.behind_the_barrier(view)
    }
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
    let destroyed = outlived(view);
    if !destroyed.is_empty() {
        return Decision::new(Step::Idle, Action::Destroy(destroyed)).behind_the_barrier(view);
    }
    Decision::new(Step::Idle, Action::Nothing).waiting_for(view.absent())
}

/// I6: keys that were retired longer ago than the policy keeps them, if it names a time, and that a reading of etcd shows
/// no value under.
fn outlived(view: &View<'_>) -> BTreeSet<u64> {
    let Some(after) = view.seen.wish.retention else {
        return BTreeSet::new();
    };
    let covers = |proof: &&Proof| proof.covers(&view.seen.wish.resources);
    let Some(proof) = view.seen.latest_proof.as_ref().filter(covers) else {
        return BTreeSet::new();
    };
    let old = |age: Duration| age > after;
    let keys = view
        .seen
        .ring
        .keys
        .iter()
        .filter(|key| !key.destroyed && key.retired.is_some_and(old));
    keys.filter(|key| !proof.shows(&Under::Key(key.name.clone())))
        .map(|key| key.id)
        .collect()
}

/// Who does not have the target yet.
fn not_loaded(view: &View<'_>, target: &Configuration) -> Vec<Blocked> {
    let late = view
        .nodes
        .iter()
        .filter(|node| node.server.is_some() && !node.has(target));
    let each = late.map(|node| match node.flags_missing {
        [] if !view.seen.ring.members.contains_key(node.name) => Blocked::NotMember(node.name.to_owned()),
        [] if !node.on_disk().is_some_and(|file| file == target) => Blocked::NotWritten(node.name.to_owned()),
        [] => Blocked::NotLoaded(
            node.name.to_owned(),
            node.running.as_ref().map(Configuration::to_string),
        ),
        // An API server that is given the flag before the file exists does not start.
        _ if node.file.is_none() => Blocked::NotWritten(node.name.to_owned()),
        flags => Blocked::FlagsMissing(node.name.to_owned(), flags.to_vec()),
    });
    each.collect()
}
