//! An observation put in order: which API server runs with what, who is missing, and what is read anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::blocked::Blocked;
use super::observation::{ApiServer, Configuration, File, Named, Node, Observation, Read, RingKey, Under};
use super::records::Process;

/// A report that did not change for so long is of a node that is down. Agents report every ten seconds.
pub const REPORT_STALE: Duration = Duration::from_secs(60);

/// The first Kubernetes whose API servers say which file they loaded, also those that never reloaded one.
const SAYS_ITS_FILE: (u32, u32) = (1, 34);

pub struct View<'a> {
    pub seen: &'a Observation,
    pub nodes: Vec<Seen<'a>>,
}

/// One control-plane node.
pub struct Seen<'a> {
    pub name: &'a str,
    pub file: Option<&'a File>,
    pub server: Option<&'a ApiServer>,
    /// What the API server runs with, if that is known; of one that does not answer, what it would come back with.
    pub running: Option<Configuration>,
    pub named: Named,
    pub flags_missing: &'a [String],
    pub read: Option<Read>,
    pub sealed_id: u64,
    pub order: Option<u64>,
    pub fresh: bool,
}

impl Seen<'_> {
    /// What the file on disk says: the API server has it after its next start.
    pub fn on_disk(&self) -> Option<&Configuration> {
        self.file.and_then(|file| file.configuration.as_ref())
    }

    /// Its version of Kubernetes, if that never says which file is loaded.
    pub fn too_old(&self) -> Option<(u32, u32)> {
        self.server?.version.filter(|version| *version < SAYS_ITS_FILE)
    }

    /// Read now, and after a restart too.
    pub fn reads(&self, under: &Under) -> bool {
        let both = [self.running.as_ref(), self.on_disk()];
        both.iter()
            .all(|configuration| configuration.is_some_and(|configuration| configuration.read.contains(under)))
    }

    /// Runs with exactly this, has it on disk, and one is the other.
    pub fn has(&self, target: &Configuration) -> bool {
        let loads = |hash: &str| self.server.is_none_or(|server| server.loaded.as_deref() == Some(hash));
        self.running.as_ref() == Some(target)
            && self
                .file
                .is_some_and(|file| file.own && loads(&file.hash) && file.configuration.as_ref() == Some(target))
    }
}

impl<'a> View<'a> {
    pub fn of(seen: &'a Observation) -> Self {
        let mut known: BTreeMap<&str, &Configuration> = BTreeMap::new();
        for node in &seen.nodes {
            if let Some(file) = node.report.as_ref().and_then(|report| report.file.as_ref())
                && let Some(configuration) = &file.configuration
            {
                known.insert(&file.hash, configuration);
            }
        }
        let nodes = seen.nodes.iter().map(|node| Seen::of(node, seen, &known)).collect();
        Self { seen, nodes }
    }

    /// Why not every API server that may exist is known: nodes that are silent, API servers without a node.
    pub fn absent(&self) -> Vec<Blocked> {
        let mut absent: Vec<Blocked> = self
            .nodes
            .iter()
            .filter(|node| !node.fresh || node.server.is_none())
            .map(|node| Blocked::NodeUnreachable(node.name.to_owned()))
            .collect();
        let identity = |node: &Seen<'a>| node.server.and_then(|server| server.identity.as_deref());
        let identified: Vec<&str> = self.nodes.iter().filter_map(identity).collect();
        let reported: BTreeSet<&str> = identified.iter().copied().collect();
        let expected: BTreeMap<String, &str> = self
            .seen
            .leases
            .iter()
            .map(|lease| (lease.id_hash(), lease.name.as_str()))
            .collect();
        let missed = expected
            .iter()
            .filter(|(identity, _)| !reported.contains(identity.as_str()));
        absent.extend(missed.map(|(_, lease)| Blocked::UnknownReplica((*lease).to_owned())));
        let strangers = reported.iter().filter(|identity| !expected.contains_key(**identity));
        absent.extend(strangers.map(|identity| Blocked::UnknownReplica((*identity).to_owned())));
        if reported.len() < identified.len() {
            absent.push(Blocked::IdentityShared);
        }
        let nameless = self
            .nodes
            .iter()
            .filter(|node| node.server.is_some() && identity(node).is_none());
        absent.extend(nameless.map(|node| Blocked::NotLoaded(node.name.to_owned(), None)));
        if self.nodes.is_empty() {
            absent.push(Blocked::NoNodes);
        }
        absent.extend(self.seen.unaccounted.clone().map(Blocked::Unaccounted));
        absent
    }

    /// The key that all write under, on disk too, if the world is closed and no order asks for another.
    pub fn barrier(&self) -> Option<Under> {
        if !self.absent().is_empty() {
            return None;
        }
        let running = self.nodes.iter().map(|node| node.running.as_ref());
        let first = running.clone().next()??.write.clone();
        let alike = |it: &Configuration| it.write == first;
        let all = running.clone().all(|running| running.is_some_and(alike))
            && self.nodes.iter().filter_map(Seen::on_disk).all(alike)
            && self.seen.order.configuration.iter().all(alike);
        all.then_some(first)
    }

    /// Nodes whose disk may have changed since their report: their agent has not said that it read the order that
    /// stands, and may have done an older one and died.
    pub fn unacknowledged(&self) -> Vec<Blocked> {
        let number = self.seen.order.number;
        let late = self
            .nodes
            .iter()
            .filter(|node| node.order.unwrap_or_default() != number);
        late.map(|node| Blocked::OrderUnread(node.name.to_owned(), number))
            .collect()
    }

    pub fn processes(&self) -> Vec<Process> {
        let process = |node: &Seen<'_>| {
            let server = node.server?;
            Some((node.name.to_owned(), server.identity.clone(), server.started))
        };
        let mut all: Vec<_> = self.nodes.iter().filter_map(process).collect();
        all.sort();
        all
    }

    /// All configurations that are known to be somewhere.
    pub fn configurations(&self) -> impl Iterator<Item = &Configuration> {
        self.nodes
            .iter()
            .flat_map(|node| node.running.iter().chain(node.on_disk()))
    }

    /// All that is read anywhere.
    pub fn read_anywhere(&self) -> BTreeSet<Under> {
        self.configurations()
            .flat_map(|configuration| configuration.read.iter().cloned())
            .collect()
    }

    pub fn everyone_reads(&self, all: &BTreeSet<Under>) -> bool {
        self.nodes.iter().all(|node| all.iter().all(|under| node.reads(under)))
    }

    /// Whether somewhere something is written under it, or will be after a restart.
    pub fn written_anywhere(&self, under: &Under) -> bool {
        self.configurations().any(|configuration| configuration.write == *under)
    }

    pub fn key(&self, under: &Under) -> Option<&'a RingKey> {
        let Under::Key(name) = under else { return None };
        self.seen.ring.keys.iter().find(|key| key.name == *name)
    }

    /// Newest last; `identity` is older than every key.
    pub fn rank(&self, under: &Under) -> u64 {
        self.key(under).map_or(0, |key| key.id)
    }

    /// Keys that may still have to be read: neither retired nor destroyed.
    pub fn active(&self) -> impl Iterator<Item = &'a RingKey> {
        self.seen
            .ring
            .keys
            .iter()
            .filter(|key| key.retired.is_none() && !key.destroyed)
    }

    /// Retired keys whose material is still there.
    pub fn archived(&self) -> BTreeSet<Under> {
        let keys = self
            .seen
            .ring
            .keys
            .iter()
            .filter(|key| key.retired.is_some() && !key.destroyed);
        keys.map(|key| Under::Key(key.name.clone())).collect()
    }
}

impl<'a> Seen<'a> {
    fn of(node: &'a Node, seen: &'a Observation, known: &BTreeMap<&str, &Configuration>) -> Self {
        let report = node.report.as_ref();
        let fresh = report.is_some() && node.silent_for <= REPORT_STALE;
        let server = report.filter(|_| fresh).and_then(|report| report.api_server.as_ref());
        // A report counts for a minute. An API server that was started anew meanwhile answered the controller itself.
        let anew = |server: &&'a ApiServer| {
            let mut answers = seen.answered.iter();
            answers.find(|it| it.identity.is_some() && it.identity == server.identity && it.started != server.started)
        };
        let server = server.map(|server| anew(&server).unwrap_or(server));
        let file = report.and_then(|report| report.file.as_ref());
        let named = report.map(|report| report.named).unwrap_or_default();
        let flags_missing = report.map_or(&[][..], |report| &report.flags_missing);
        let running = match server.map(|server| server.loaded.as_deref()) {
            None => file.and_then(|file| file.configuration.clone()),
            Some(Some(hash)) => known.get(hash).copied().or_else(|| seen.records.file(hash)).cloned(),
            // Without the flag there is no file. With it, wherever that file is, and where nobody can read the flag, an API
            // server that does not say what it loaded may run with anything.
            Some(None) => (named == Named::Nothing).then(Configuration::plaintext),
        };
        Self {
            name: &node.name,
            file,
            server,
            running,
            named,
            flags_missing,
            read: report.and_then(|report| report.read),
            sealed_id: report.and_then(|report| report.sealed_id).unwrap_or_default(),
            order: report.and_then(|report| report.order),
            fresh,
        }
    }
}
