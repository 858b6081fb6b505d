//! A model of etcd and of the API servers on it, as far as encryption goes: which value is under what, in every revision
//! that can still be read.

use std::collections::{BTreeMap, BTreeSet};

use cloison::encryption::rotation::{Configuration, Under};

/// How often an API server looks at its file, in seconds.
pub const POLL: u64 = 60;
/// The longest a request that writes may take.
pub const SLOWEST_WRITE: u64 = 55;
/// How often API servers compact etcd.
const COMPACTION: u64 = 300;

/// What is under a value; `None` is a deletion.
type Value = Option<Under>;

#[derive(Clone, Debug, Default)]
pub struct Etcd {
    pub revision: u64,
    pub compacted: u64,
    objects: BTreeMap<String, Vec<(u64, Value)>>,
    next_compaction: u64,
    revision_then: u64,
}

impl Etcd {
    pub fn put(&mut self, object: &str, value: Value) {
        self.revision += 1;
        self.objects
            .entry(object.to_owned())
            .or_default()
            .push((self.revision, value));
    }

    /// As it is now.
    pub fn current(&self) -> BTreeMap<&str, &Under> {
        self.objects
            .iter()
            .filter_map(|(name, log)| Some((name.as_str(), log.last()?.1.as_ref()?)))
            .collect()
    }

    /// All that can still be read, by a list at an old revision or by a watch that tells what was there before.
    pub fn readable(&self) -> impl Iterator<Item = (&str, &Under)> {
        self.objects.iter().flat_map(|(name, log)| {
            let from = log
                .iter()
                .rposition(|(revision, _)| *revision <= self.compacted)
                .unwrap_or(0);
            log[from..]
                .iter()
                .filter_map(|(_, value)| Some((name.as_str(), value.as_ref()?)))
        })
    }

    fn compact(&mut self, now: u64) {
        if now < self.next_compaction {
            return;
        }
        // API servers compact to where etcd was a period ago.
        self.compacted = self.revision_then;
        self.revision_then = self.revision;
        self.next_compaction = now + COMPACTION;
    }
}

/// A file: its hash stands for its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDisk {
    pub hash: String,
    pub configuration: Configuration,
}

impl OnDisk {
    pub fn of(configuration: &Configuration) -> Self {
        Self {
            hash: format!("sha256:{configuration}"),
            configuration: configuration.clone(),
        }
    }
}

/// An API server: one process at a time.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name of its Lease, which is of the node and not of the process.
    pub lease: String,
    pub up: bool,
    pub started: i64,
    pub loaded: OnDisk,
    /// Requests that will commit: when, what, under what.
    pub in_flight: Vec<(u64, String, Under)>,
    pub next_poll: u64,
    pub unknown: u64,
    /// When it died: its Lease is seen as stale a while later.
    pub died: u64,
}

impl Server {
    pub fn configuration(&self) -> &Configuration {
        &self.loaded.configuration
    }
}

/// The Lease of a dead API server counts so long.
pub const LEASE_STALE: u64 = 40;

/// Everything that is outside of us.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub now: u64,
    pub etcd: Etcd,
    /// By node.
    pub servers: BTreeMap<String, Server>,
    pub disks: BTreeMap<String, OnDisk>,
    /// Objects that no request can rewrite: their namespace is gone, or a webhook refuses.
    pub stuck: BTreeSet<String>,
}

impl World {
    /// A server that starts reads its file.
    pub fn start(&mut self, node: &str) {
        let Some(file) = self.disks.get(node).cloned() else {
            return;
        };
        let now = self.now;
        let server = self.servers.entry(node.to_owned()).or_insert_with(|| Server {
            lease: format!("apiserver-{node}"),
            up: false,
            started: 0,
            loaded: file.clone(),
            in_flight: Vec::new(),
            next_poll: 0,
            unknown: 0,
            died: 0,
        });
        if server.up {
            return;
        }
        server.up = true;
        server.started = i64::try_from(now).unwrap() + 1;
        server.loaded = file;
        server.next_poll = now + POLL;
        server.unknown = 0;
    }

    pub fn kill(&mut self, node: &str) {
        let now = self.now;
        if let Some(server) = self.servers.get_mut(node) {
            if server.up {
                server.died = now;
            }
            server.up = false;
            server.in_flight.clear();
        }
    }

    /// A client's write: what it is under is chosen when it begins.
    pub fn write(&mut self, node: &str, object: &str, takes: u64) {
        let at = self.now + takes.min(SLOWEST_WRITE);
        let Some(server) = self.servers.get_mut(node).filter(|server| server.up) else {
            return;
        };
        let under = server.configuration().write.clone();
        server.in_flight.push((at, object.to_owned(), under));
    }

    /// A client reads everything, which counts what nothing fits.
    pub fn list(&mut self, node: &str) {
        let values: Vec<Under> = self.etcd.current().into_values().cloned().collect();
        let Some(server) = self.servers.get_mut(node).filter(|server| server.up) else {
            return;
        };
        let unreadable = values
            .iter()
            .filter(|under| !server.configuration().read.contains(*under))
            .count();
        server.unknown += u64::try_from(unreadable).unwrap();
    }

    /// The sweep's no-op PATCH. `None`: it cannot be read there. Otherwise whether it was rewritten.
    pub fn touch(&mut self, node: &str, object: &str) -> Option<bool> {
        let Some(under) = self.etcd.current().get(object).map(|under| (*under).clone()) else {
            return Some(false);
        };
        let server = self.servers.get_mut(node).filter(|server| server.up)?;
        if !server.configuration().read.contains(&under) {
            server.unknown += 1;
            return None;
        }
        if self.stuck.contains(object) {
            return None;
        }
        let write = server.configuration().write.clone();
        let stale = under != write;
        if stale {
            self.etcd.put(object, Some(write));
        }
        Some(stale)
    }

    /// One second. Whether anything changed that could break something.
    pub fn second(&mut self) -> bool {
        let mut changed = false;
        self.now += 1;
        let now = self.now;
        let mut commits = Vec::new();
        for (node, server) in &mut self.servers {
            if !server.up {
                continue;
            }
            if now >= server.next_poll {
                server.next_poll = now + POLL;
                if let Some(file) = self.disks.get(node).filter(|file| **file != server.loaded) {
                    changed = true;
                    server.loaded = file.clone();
                }
            }
            let (done, waiting) = server.in_flight.drain(..).partition(|(at, ..)| *at <= now);
            server.in_flight = waiting;
            commits.extend::<Vec<_>>(done);
        }
        for (_, object, under) in commits {
            changed = true;
            self.etcd.put(&object, Some(under));
        }
        self.etcd.compact(now);
        changed
    }
}
