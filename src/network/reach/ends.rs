//! Which classes of pods the policies may let meet, found from what their rules name: once for each peer, however many
//! rules name it. Of the forty million pairs of classes in a large cluster few are left to be looked at.
//!
//! A pair may be named for nothing, and none is left out between which anything may be allowed: what is allowed is for
//! [`between`](Connectivity::between) to say.

use std::collections::{BTreeMap, HashMap};

use crate::api::names;

use super::cidr::Addresses;
use super::classes::Class;
use super::concrete::{AddressRange, Connectivity, Other};
use super::policy::{Direction, Peer};
use super::selector::{Constraint, Selector};
use super::settle::addresses;

/// What lies at the other end of the rules of one direction.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// What each peer may match.
    peers: Vec<Matched>,
    /// For each class the peers of its rules; `None` where anything may be let through.
    named: Vec<Option<Vec<usize>>>,
    /// For each class the peers that may match it, and for each peer the classes whose rules name it.
    matching: Vec<Vec<usize>>,
    named_by: Vec<Vec<usize>>,
    /// The classes with `None`.
    open: Vec<usize>,
}

/// Classes and ranges of addresses, by index, ascending.
#[derive(Debug)]
struct Matched {
    classes: Vec<usize>,
    ranges: Vec<usize>,
}

/// A peer, as far as two that are alike match the same.
#[derive(PartialEq, Eq, Hash)]
enum Key<'p> {
    Own(&'p str, &'p Selector<'p>),
    Pods(&'p Selector<'p>, &'p Selector<'p>),
    Block(&'p Addresses),
    /// Of a ClusterNetworkPolicy.
    Networks(&'p Addresses),
}

/// What is needed to find the peers.
struct Search<'c, 's> {
    read: &'c Connectivity<'s>,
    ranges: &'c [AddressRange],
    in_namespace: BTreeMap<&'c str, Vec<usize>>,
    /// The namespaces that a selector matches, once for each.
    selected: HashMap<&'c Selector<'c>, Vec<&'c str>>,
    known: HashMap<Key<'c>, usize>,
    ends: Ends,
}

impl Ends {
    /// Of all classes; `ranges` are [`outside`](Connectivity::outside) for the same direction.
    pub(super) fn of(read: &Connectivity<'_>, direction: Direction, ranges: &[AddressRange]) -> Self {
        let mut in_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, class) in read.classes.iter().enumerate() {
            in_namespace
                .entry(&class.subject.pod.namespace)
                .or_default()
                .push(index);
        }
        let mut search = Search {
            read,
            ranges,
            in_namespace,
            selected: HashMap::new(),
            known: HashMap::new(),
            ends: Self::default(),
        };
        for class in &read.classes {
            let peers = search.peers(class, direction);
            search.ends.named.push(peers);
        }
        search.ends.inverted()
    }

    /// Fills in what is asked from the other end.
    fn inverted(mut self) -> Self {
        self.matching = vec![Vec::new(); self.named.len()];
        self.named_by = vec![Vec::new(); self.peers.len()];
        for (index, peer) in self.peers.iter().enumerate() {
            for class in &peer.classes {
                self.matching[*class].push(index);
            }
        }
        for (class, peers) in self.named.iter().enumerate() {
            match peers {
                None => self.open.push(class),
                Some(peers) => peers.iter().for_each(|peer| self.named_by[*peer].push(class)),
            }
        }
        self
    }

    /// The classes that one may let through; `None` for any.
    fn beyond(&self, class: usize) -> Option<Vec<usize>> {
        let peers = self.named[class].as_ref()?;
        Some(merged(peers.iter().flat_map(|peer| &self.peers[*peer].classes)))
    }

    /// The classes that may let one through.
    fn behind(&self, class: usize) -> Vec<usize> {
        let named = self.matching[class].iter().flat_map(|peer| &self.named_by[*peer]);
        merged(self.open.iter().chain(named))
    }

    fn may_let(&self, class: usize, other: usize) -> bool {
        // A store names thousands of peers, and each pod is matched by few.
        let peers = self.named[class].as_ref();
        peers.is_none_or(|peers| {
            self.matching[other]
                .iter()
                .any(|peer| peers.binary_search(peer).is_ok())
        })
    }

    /// The ranges of addresses that a class may let through; `None` for any.
    pub(super) fn ranges(&self, class: usize) -> Option<Vec<usize>> {
        let peers = self.named[class].as_ref()?;
        Some(merged(peers.iter().flat_map(|peer| &self.peers[*peer].ranges)))
    }

    /// The classes to which a class may be able to connect, itself among them: `out` and `into` are the ends of egress
    /// and of ingress.
    pub(super) fn targets(out: &Self, into: &Self, from: usize) -> Vec<usize> {
        match out.beyond(from) {
            None => into.behind(from),
            Some(mut found) => {
                found.retain(|to| into.may_let(*to, from));
                found
            }
        }
    }
}

impl<'c, 's> Search<'c, 's> {
    /// The peers of the rules of a class, and of what accepts before they are asked.
    fn peers(&mut self, class: &'c Class<'s>, direction: Direction) -> Option<Vec<usize>> {
        let read = self.read;
        let isolating = &class.subject.isolating[direction as usize];
        if isolating.is_empty() {
            return None;
        }
        let mut peers = Vec::new();
        for policy in isolating.iter().map(|index| &read.policies[*index]) {
            for rule in policy.rules.iter().filter(|rule| rule.direction == direction) {
                let fits = |other: Other<'_>| read.fits(policy, rule, other);
                let key = match &rule.peer {
                    Peer::Everything => return None,
                    Peer::Own(pods) => Key::Own(policy.namespace, pods),
                    Peer::Pods { namespaces, pods } => Key::Pods(namespaces, pods),
                    Peer::Addresses(block) => Key::Block(block),
                };
                peers.push(self.peer(key, fits));
            }
        }
        for step in read.tiers.accepts(direction) {
            if read.is_for(step, class.subject.pod) {
                let possibly = |other: Other<'_>| {
                    let by = addresses(other).into_iter();
                    by.map(|address| read.is_peer(step, other, address))
                        .any(|is| is != Some(false))
                };
                let key = match &step.rule.peer {
                    Peer::Everything | Peer::Own(_) => return None,
                    Peer::Pods { namespaces, pods } => Key::Pods(namespaces, pods),
                    Peer::Addresses(block) => Key::Networks(block),
                };
                peers.push(self.peer(key, possibly));
            }
        }
        Some(merged(&peers))
    }

    /// A peer, looked for where it can be.
    fn peer(&mut self, key: Key<'c>, fits: impl Fn(Other<'_>) -> bool) -> usize {
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let here = |namespace: &str| self.in_namespace.get(namespace).into_iter().flatten().copied();
        let (classes, ranges): (Vec<usize>, Vec<usize>) = match &key {
            Key::Own(namespace, _) => (here(namespace).collect(), Vec::new()),
            Key::Pods(namespaces, _) => {
                let found = self
                    .selected
                    .entry(namespaces)
                    .or_insert_with(|| selected(self.read, &self.in_namespace, namespaces));
                (found.iter().flat_map(|name| here(name)).collect(), Vec::new())
            }
            Key::Block(block) | Key::Networks(block) => {
                ((0..self.read.classes.len()).collect(), block.cells_within(self.ranges))
            }
        };
        let pod = |class: &usize| Other::Pod(self.read.classes[*class].subject.pod);
        let mut matched = Matched { classes, ranges };
        matched.classes.retain(|class| fits(pod(class)));
        matched.classes.sort_unstable();
        self.ends.peers.push(matched);
        self.known.insert(key, self.ends.peers.len() - 1);
        self.ends.peers.len() - 1
    }
}

/// The namespaces with pods that a selector matches.
fn selected<'c>(
    read: &Connectivity<'_>,
    in_namespace: &BTreeMap<&'c str, Vec<usize>>,
    wanted: &Selector<'c>,
) -> Vec<&'c str> {
    let matches = |name: &str| wanted.matches(|key| read.label(name, key));
    match wanted.constraint(names::NAMESPACE_NAME_LABEL) {
        Some(Constraint::In(listed)) => {
            let known = listed.iter().filter_map(|name| in_namespace.get_key_value(name));
            known.map(|(name, _)| *name).filter(|name| matches(name)).collect()
        }
        _ => in_namespace.keys().copied().filter(|name| matches(name)).collect(),
    }
}

fn merged<'i>(all: impl IntoIterator<Item = &'i usize>) -> Vec<usize> {
    let mut all: Vec<usize> = all.into_iter().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
