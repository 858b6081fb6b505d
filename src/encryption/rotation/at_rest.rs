//! The condition `Encrypted` while the encryption is managed: what raw etcd shows, and what every API server writes.
//!
//! An ordered chain of small checks; the first that has something to say decides. What disproves comes first. Everything
//! that could hide plaintext comes next and gives `Unknown`. `True` is what is left.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::blocked::Blocked;
use super::facts::unsigned;
use super::observation::{Observation, Under};
use super::view::{Seen, View};
use crate::api::conditions::{Truth, Verdict};
use crate::api::control_plane_report::RawProof;
use crate::encryption::proof::{age, reasons as seen_reasons};
use crate::encryption::sweep::reads::reasons as values;

/// The controller looks every few seconds. What it found longer ago says nothing of now: it cannot read, or does not run.
const LOOKED: Duration = Duration::from_mins(2);
/// A reading of etcd that is dated later than this after now is of a node whose clock is wrong.
const SKEW: Duration = Duration::from_secs(60);

/// Reasons; part of the API.
pub mod reasons {
    /// Unknown: nobody read etcd, or not everything that is to be encrypted.
    pub const NOT_PROVEN: &str = "NotProven";
    /// Unknown: the reading is dated in the future.
    pub const CLOCK_SKEW: &str = "ClockSkew";
    /// Unknown: the API servers were not looked at lately.
    pub const NOT_LOOKED: &str = "NotLooked";
}

/// What is known of all stored values.
#[derive(Clone, Debug, PartialEq)]
pub struct AtRest {
    /// Whether all are encrypted, and will be.
    pub truth: Truth,
    /// Why.
    pub reason: &'static str,
    /// For people: one line, the same as long as nothing changes.
    pub message: String,
    /// When etcd was read.
    pub read: Option<Time>,
    /// When this was judged.
    pub at: Time,
}

impl AtRest {
    /// Judges the reading `raw` of etcd beside what the API servers run with. Total and deterministic.
    pub fn of(seen: &Observation, raw: Option<&RawProof>, now: &Time) -> Self {
        let view = View::of(seen);
        let (truth, reason, message) = plaintext(&seen.wish.resources, raw)
            .or_else(|| plaintext_writers(&view))
            .or_else(|| unseen(&view))
            .or_else(|| incomplete(&seen.wish.resources, raw))
            .or_else(|| strangers(&seen.wish.resources, raw, &held(&view)))
            .or_else(|| younger(&view, raw))
            .or_else(|| foreign(&view))
            .unwrap_or_else(|| proven(&view));
        Self {
            truth,
            reason,
            message,
            read: raw.map(|raw| raw.time.clone()),
            at: now.clone(),
        }
    }

    /// None: what it needs could not be read.
    pub fn unread(why: String, now: &Time) -> Self {
        Self {
            truth: Truth::Unknown,
            reason: "NotRead",
            message: why,
            read: None,
            at: now.clone(),
        }
    }

    /// As of `now`, for a condition of type `kind`: `Unknown` when etcd was read longer than `max_age` ago.
    pub fn verdict(&self, kind: &'static str, now: &Time, max_age: Duration) -> Verdict {
        let stale = self.read.as_ref().and_then(|read| stale(read, now, max_age));
        let verdict = match stale {
            Some((reason, message)) => Verdict::new(kind, Truth::Unknown, reason, message),
            None => Verdict::new(kind, self.truth, self.reason, &*self.message),
        };
        self.aged(verdict, now)
    }

    /// What was found in the same look, as of `now`: `Unknown` when that was too long ago.
    pub fn aged(&self, verdict: Verdict, now: &Time) -> Verdict {
        let old = match age(&self.at, now) {
            Some(age) => age > LOOKED,
            None => age(now, &self.at).is_none_or(|ahead| ahead > SKEW),
        };
        if !old || verdict.truth == Truth::Unknown {
            return verdict;
        }
        let message = format!(
            "the API servers were last looked at {}; what was found then is not known any more: the controller cannot look, and \
             its log says why, or it was told to stop",
            self.at.0
        );
        Verdict::new(verdict.kind, Truth::Unknown, reasons::NOT_LOOKED, message)
    }

    /// What to believe after `next`: as [`EncryptionProof::settle`](crate::encryption::EncryptionProof::settle), so that
    /// an API server that restarts rewrites no status.
    #[must_use]
    pub fn settle(previous: Option<Self>, next: Self, grace: Duration) -> Self {
        match previous {
            Some(previous)
                if next.truth == Truth::Unknown
                    && previous.truth != Truth::Unknown
                    && age(&previous.at, &next.at).is_some_and(|age| age < grace) =>
            {
                previous
            }
            _ => next,
        }
    }
}

/// Why a reading of that time says nothing now.
fn stale(read: &Time, now: &Time, max_age: Duration) -> Option<(&'static str, String)> {
    let age = match age(read, now) {
        Some(age) => age,
        None if age(now, read).is_some_and(|ahead| ahead <= SKEW) => Duration::ZERO,
        None => {
            let message = format!(
                "etcd was read at {}, which is in the future: the clocks of the nodes differ; set them (`timedatectl` on each \
                 control-plane node)",
                read.0
            );
            return Some((reasons::CLOCK_SKEW, message));
        }
    };
    (age > max_age).then(|| {
        let message = format!(
            "etcd was last read at {}, longer ago than proofMaxAgeHours allows; do the agents run, each with --etcd? \
             `cloison encryption status` shows what they say",
            read.0
        );
        (seen_reasons::PROOF_STALE, message)
    })
}

type Finding = (Truth, &'static str, String);

/// Judges a reading alone, for whoever knows by other means what the API servers write: `held` are the keys of the ring.
fn reading(raw: &RawProof, resources: &BTreeSet<String>, held: &BTreeSet<Under>) -> (Truth, &'static str, String) {
    plaintext(resources, Some(raw))
        .or_else(|| incomplete(resources, Some(raw)))
        .or_else(|| strangers(resources, Some(raw), held))
        .unwrap_or_else(|| {
            let message = format!(
                "all values of {} in etcd are under keys that the ring holds",
                list(resources)
            );
            (Truth::True, values::VALUES_ENCRYPTED, message)
        })
}

/// The same as a verdict of type `kind`, if the reading is young enough.
pub fn reading_verdict(
    kind: &'static str,
    raw: &RawProof,
    resources: &BTreeSet<String>,
    held: &BTreeSet<Under>,
    (now, max_age): (&Time, Duration),
) -> Verdict {
    let (truth, reason, message) = stale(&raw.time, now, max_age).map_or_else(
        || reading(raw, resources, held),
        |(reason, message)| (Truth::Unknown, reason, message),
    );
    Verdict::new(kind, truth, reason, message)
}

/// One value disproves the claim, whatever else is unknown.
fn plaintext(resources: &BTreeSet<String>, raw: Option<&RawProof>) -> Option<Finding> {
    let mut found = raw?.values.iter();
    let found =
        found.find(|found| resources.contains(&found.resource.0) && found.key.0 == "identity" && found.count > 0)?;
    let message = format!(
        "{} values of {} are stored in plaintext in etcd",
        found.count, found.resource.0
    );
    Some((Truth::False, values::PLAINTEXT_VALUES, message))
}

fn plaintext_writers(view: &View<'_>) -> Option<Finding> {
    let mut answering = view.nodes.iter().filter(|node| node.server.is_some());
    let node = answering.find(|node| node.running.as_ref().is_some_and(|it| it.write == Under::Identity))?;
    let message = format!("Node/{}: its API server stores new values in plaintext", node.name);
    Some((Truth::False, seen_reasons::PLAINTEXT_WRITES, message))
}

/// An API server that nobody knows may write anything.
fn unseen(view: &View<'_>) -> Option<Finding> {
    let blocked = absent(view)?;
    Some((Truth::Unknown, blocked.reason(), with_next(&blocked)))
}

/// What hides an API server, or what it runs with.
pub(super) fn absent(view: &View<'_>) -> Option<Blocked> {
    let mut unclear = view.nodes.iter().filter(|node| node.running.is_none());
    let unclear = unclear
        .next()
        .map(|node| Blocked::NotLoaded(node.name.to_owned(), None));
    view.absent().into_iter().next().or(unclear)
}

/// The object, the cause and the next command.
pub(super) fn with_next(blocked: &Blocked) -> String {
    match blocked.next_command() {
        Some(next) => format!("{blocked}; next: {next}"),
        None => blocked.to_string(),
    }
}

fn incomplete(resources: &BTreeSet<String>, raw: Option<&RawProof>) -> Option<Finding> {
    let unknown = |message| Some((Truth::Unknown, reasons::NOT_PROVEN, message));
    let Some(raw) = raw else {
        return unknown(
            "no agent has read etcd: give the agents `--etcd` and its certificates (the chart's agent.etcd)".to_owned(),
        );
    };
    let covers = |resource: &&String| raw.resources.iter().any(|read| read.0 == **resource);
    if let Some(missed) = resources.iter().find(|resource| !covers(resource)) {
        return unknown(Blocked::NotProven(missed.clone()).to_string());
    }
    let found = |resource: &&String| {
        raw.values
            .iter()
            .any(|found| found.resource.0 == **resource && found.count > 0)
    };
    let empty = resources.iter().find(|resource| !found(resource))?;
    unknown(with_next(&Blocked::NothingStored(empty.clone())))
}

/// Values under something that nobody here can answer for.
fn strangers(resources: &BTreeSet<String>, raw: Option<&RawProof>, held: &BTreeSet<Under>) -> Option<Finding> {
    let mut found = raw?.values.iter().filter(|found| found.count > 0);
    let ours = |name: &str| Under::named(name).is_some_and(|under| held.contains(&under));
    let found = found.find(|found| resources.contains(&found.resource.0) && !ours(&found.key.0))?;
    let message = format!(
        "{} values of {} are under {}, which no key of the ring fits; next: cloison encryption verify",
        found.count, found.resource.0, found.key.0
    );
    Some((Truth::Unknown, "DecryptFailed", message))
}

/// What a process wrote between its start and a look at what it runs with is in the reading only if that came later. By one
/// clock where its own agent reads etcd, since a revision tells what came later than that; otherwise a minute later, by two.
fn younger(view: &View<'_>, raw: Option<&RawProof>) -> Option<Finding> {
    let raw = raw?;
    let skew = i64::try_from(SKEW.as_secs()).unwrap_or(i64::MAX);
    let covered = |node: &Seen<'_>| {
        node.server.is_none_or(|server| match node.read {
            Some(own) => own.time > server.started && unsigned(raw.revision) >= own.revision,
            None => raw.time.0.as_second() > server.started.saturating_add(skew),
        })
    };
    let node = view.nodes.iter().find(|node| !covered(node))?;
    let next = match node.read {
        Some(_) => "its agent reads it again",
        None => {
            "its agent does not read it (the chart's agent.etcd), so the next reading by another counts, within ten minutes"
        }
    };
    let message = format!(
        "Node/{}: its API server started after etcd was last read; {next}",
        node.name
    );
    Some((Truth::Unknown, seen_reasons::CONFIGURATION_CHANGING, message))
}

fn foreign(view: &View<'_>) -> Option<Finding> {
    let held = held(view);
    let node = view.nodes.iter().find(|node| {
        let running = node.running.as_ref();
        running.is_some_and(|running| !held.contains(&running.write))
    })?;
    let write = node.running.as_ref().map(|running| running.write.to_string());
    let message = format!(
        "Node/{}: its API server writes under {}, which the key ring does not hold",
        node.name,
        write.unwrap_or_default()
    );
    Some((Truth::Unknown, "KeyLost", message))
}

fn proven(view: &View<'_>) -> Finding {
    let write: BTreeSet<String> = view
        .nodes
        .iter()
        .filter_map(|node| Some(node.running.as_ref()?.write.to_string()))
        .collect();
    let write: Vec<String> = write.into_iter().collect();
    let message = format!(
        "all values of {} in etcd are under keys that the ring holds, and every API server writes under {}",
        list(&view.seen.wish.resources),
        write.join(" or ")
    );
    (Truth::True, values::VALUES_ENCRYPTED, message)
}

/// The keys whose material is there.
fn held(view: &View<'_>) -> BTreeSet<Under> {
    let keys = view.seen.ring.keys.iter().filter(|key| !key.destroyed);
    keys.map(|key| Under::Key(key.name.clone())).collect()
}

/// At most three, then how many more.
fn list(resources: &BTreeSet<String>) -> String {
    let first: Vec<&str> = resources.iter().take(3).map(String::as_str).collect();
    match resources.len().saturating_sub(3) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests;
