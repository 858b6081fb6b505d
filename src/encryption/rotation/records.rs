//! What the controller remembers: since when the barrier holds, and which sweep and which proof were made under it.
//!
//! All of it is worth nothing once the barrier was broken: whoever came and went meanwhile may have written under any
//! key. It is kept in memory alone, so a controller that starts begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::observation::{Configuration, Observation, Pass, Proof, Under};
use super::view::View;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Records {
    held: Option<Held>,
    sweep: Option<Pass>,
    proof: Option<Proof>,
    /// What files say, by their hashes: an API server may still run with one that is nowhere on disk any more.
    files: BTreeMap<String, Configuration>,
    unknown: BTreeMap<String, (i64, u64)>,
    strays: bool,
}

/// A process: node, identity and start.
pub(super) type Process = (String, Option<String>, i64);

/// The barrier: every API server that may exist is known, and all write under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The key.
    pub write: Under,
    /// Since when, by the caller's monotonic clock.
    pub since: Duration,
    /// Which processes.
    processes: Vec<Process>,
}

impl Records {
    /// Takes in what was seen, before [`super::plan`] is asked. `seen.records` are those of the pass before.
    #[must_use]
    pub fn after(seen: &Observation) -> Self {
        let mut records = seen.records.clone();
        let mut current = BTreeSet::new();
        for node in &seen.nodes {
            let Some(report) = &node.report else { continue };
            if let Some(file) = &report.file
                && let Some(configuration) = &file.configuration
            {
                records.files.insert(file.hash.clone(), configuration.clone());
                current.insert(file.hash.clone());
            }
            if let Some(server) = &report.api_server {
                current.extend(server.loaded.clone());
                let now = (server.started, server.unknown);
                // What was counted before we looked is old; raw etcd shows whether it still matters.
                records.strays |= match records.unknown.insert(node.name.clone(), now) {
                    Some((started, count)) if started == server.started => server.unknown > count,
                    Some(_) => server.unknown > 0,
                    None => false,
                };
            }
        }
        records.files.retain(|hash, _| current.contains(hash));
        let seen = Observation {
            records: records.clone(),
            ..seen.clone()
        };
        let view = View::of(&seen);
        // Once every API server has every key that exists there is nothing more to add.
        if view.everyone_reads(&view.archived()) {
            records.strays = false;
        }
        let held = view.barrier().map(|write| Held {
            write,
            since: seen.now,
            processes: view.processes(),
        });
        let unbroken = match (&records.held, &held) {
            (Some(before), Some(now)) => (&before.write, &before.processes) == (&now.write, &now.processes),
            _ => false,
        };
        if !unbroken {
            // It begins only when no agent may have done an older order since its report. Once it holds, it is enough
            // that no order asks for another key.
            records.held = held.filter(|_| view.unacknowledged().is_empty());
            records.sweep = None;
            records.proof = None;
        }
        if let Some(proof) = &seen.latest_proof {
            records.note(proof, &seen.wish.resources);
        }
        records
    }

    /// A pass of the sweep ended that began under the barrier `under`. It counts only if that one still holds.
    pub fn swept(&mut self, under: &Held, pass: Pass) {
        if self.held.as_ref() == Some(under) {
            self.sweep = Some(pass);
            self.proof = None;
        }
    }

    /// The first proof after the sweep is kept, since its revision is what has to be compacted; unless a later one finds
    /// something.
    fn note(&mut self, proof: &Proof, resources: &BTreeSet<String>) {
        let Some(sweep) = &self.sweep else { return };
        let Some(Held { write, .. }) = &self.held else { return };
        if proof.revision < sweep.revision {
            return;
        }
        let clean = |proof: &Proof| proof.covers(resources) && proof.left(write).is_empty();
        match &self.proof {
            Some(first) if clean(first) && clean(proof) => {}
            _ => self.proof = Some(proof.clone()),
        }
    }

    /// The barrier, while it holds.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// The last pass of the sweep under the barrier.
    pub fn sweep(&self) -> Option<&Pass> {
        self.sweep.as_ref()
    }

    /// The proof that was made after that pass.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }

    /// Values were met that no key fits, and not every API server has every key there is.
    pub fn strays(&self) -> bool {
        self.strays
    }

    pub(super) fn file(&self, hash: &str) -> Option<&Configuration> {
        self.files.get(hash)
    }
}

impl Proof {
    /// Whether any value is under it.
    pub fn shows(&self, under: &Under) -> bool {
        let mut all = self.values.values();
        all.any(|values| values.get(under).is_some_and(|count| *count > 0))
    }

    /// Whether it shows values of all of these: one that shows none may be of another etcd.
    pub fn covers(&self, resources: &BTreeSet<String>) -> bool {
        resources.iter().all(|resource| self.stores(resource))
    }

    /// Whether it shows any value of a resource.
    pub fn stores(&self, resource: &str) -> bool {
        let values = self.values.get(resource);
        values.is_some_and(|values| values.values().any(|count| *count > 0))
    }

    /// What is not under `write`: resource, key, number.
    pub fn left(&self, write: &Under) -> Vec<(&str, &Under, u64)> {
        let each = self.values.iter().flat_map(|(resource, values)| {
            let others = values.iter().filter(|(under, count)| *under != write && **count > 0);
            others.map(move |(under, count)| (resource.as_str(), under, *count))
        });
        each.collect()
    }
}
