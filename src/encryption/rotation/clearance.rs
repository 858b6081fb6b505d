//! S3 to S6: what has to be seen, one thing after the other, before anything is dropped (I5).

use std::time::Duration;

use super::blocked::Blocked;
use super::observation::Under;
use super::view::View;
use super::{Action, Decision, SETTLE};
use crate::api::encryption_status::Step;

/// `None`: nothing is under anything but `goal`, nor was in a revision that can still be read, nor can come. Otherwise what
/// has to be done next for that.
///
/// The only place that decides it: while it is gathered, and again at every look while files are dropped.
pub fn lacking(view: &View<'_>, goal: &Under) -> Option<Decision> {
    let missing = |step, action| Some(Decision::new(step, action));
    let records = &view.seen.records;
    let Some(held) = records.held().filter(|held| held.write == *goal) else {
        let waiting = match view.absent() {
            nobody if nobody.is_empty() => view.unacknowledged(),
            absent => absent,
        };
        return Some(Decision::hold(Step::Promote, waiting));
    };
    // A request that began under the old key may still commit.
    let (longest, slowest) = settle(view);
    let until = held.since + longest;
    if view.seen.now < until {
        let slow = slowest.map(|node| Blocked::SlowRequests(node.to_owned(), longest));
        return Some(Decision::new(Step::Promote, Action::Settle(until)).waiting_for(slow.into_iter().collect()));
    }
    let Some(sweep) = records.sweep() else {
        return missing(Step::Sweep, Action::StartSweep);
    };
    if !sweep.blocked.is_empty() {
        let blocked = vec![Blocked::SweepBlocked(sweep.blocked.clone())];
        return Some(Decision::new(Step::Sweep, Action::StartSweep).waiting_for(blocked));
    }
    // Only a pass that finds nothing to do shows that there is nothing to do.
    if sweep.rewritten > 0 {
        return missing(Step::Sweep, Action::StartSweep);
    }
    let Some(proof) = records.proof() else {
        return missing(Step::Prove, Action::StartProof);
    };
    let mut resources = view.seen.wish.resources.iter();
    if let Some(resource) = resources.find(|resource| !proof.values.contains_key(*resource)) {
        let blocked = vec![Blocked::NotProven(resource.clone())];
        return Some(Decision::new(Step::Prove, Action::StartProof).waiting_for(blocked));
    }
    // Nothing at all was read where the canary's Secret and all that the sweep met should be.
    if let Some(resource) = view.seen.wish.resources.iter().find(|resource| !proof.stores(resource)) {
        let blocked = vec![Blocked::NothingStored(resource.clone())];
        return Some(Decision::new(Step::Prove, Action::StartProof).waiting_for(blocked));
    }
    let left = proof.left(goal);
    if !left.is_empty() {
        // Somebody wrote it into etcd, or the sweep does not reach it.
        let blocked = left
            .iter()
            .map(|(resource, under, count)| Blocked::Left((*resource).to_owned(), (*under).clone(), *count));
        return Some(Decision::new(Step::Sweep, Action::StartSweep).waiting_for(blocked.collect()));
    }
    // A list at an old revision, and a watch that tells what was there before, still read what is older.
    if view.seen.compacted < proof.revision {
        return missing(Step::Drain, Action::AwaitCompaction(proof.revision));
    }
    None
}

/// For how long a request that began before may still commit: the longest that any API server gives one, and which that is
/// where it is more than the default. A node that does not tell has the default.
fn settle<'v>(view: &'v View<'_>) -> (Duration, Option<&'v str>) {
    let each = view.seen.nodes.iter().map(|node| {
        let told = node.report.as_ref().and_then(|report| report.request_timeout);
        (told.unwrap_or(SETTLE), node.name.as_str())
    });
    let (longest, node) = each.max().unwrap_or((SETTLE, ""));
    (longest, (longest > SETTLE).then_some(node))
}
