//! Pods that no policy tells apart, so that thousands of replicas are looked at once.
//!
//! Of a pod a policy can see its namespace, the labels that some selector names, the ports that some rule calls by their
//! name, on which sides of the ends of every block its addresses are, and whether it is on its node's network. Pods that
//! are alike in all of that are one class; whose they are is of no account.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::api::network::Protocol;

use super::cidr::{self, Addresses};
use super::concrete::{AddressRange, Blocks, Connectivity, Endpoint, Pod, Subject, workload};
use super::policy::{Direction, Peer, Rule};
use super::selector::Selector;

/// Pods that no policy tells apart.
#[derive(Debug)]
pub(super) struct Class<'s> {
    /// One for all.
    pub subject: Subject<'s>,
    /// Whose they are, and how many different ones each has.
    pub workloads: BTreeMap<Endpoint, usize>,
}

/// A pod as the policies see it.
#[derive(PartialEq, Eq, Hash)]
struct Seen<'s> {
    namespace: &'s str,
    host_network: bool,
    /// By key; `None` for a value that no selector names.
    labels: Vec<(&'s str, Option<&'s str>)>,
    ports: Vec<&'s (String, Protocol, u16)>,
    /// The cells of its addresses; `None` while it has none.
    addresses: Option<BTreeSet<usize>>,
}

/// What the policies ask of pods.
#[derive(Default)]
struct Questions<'p> {
    labels: HashMap<&'p str, HashSet<&'p str>>,
    ports: HashSet<(Protocol, &'p str)>,
    /// Addresses that no block tells apart; empty where none matches pods.
    cells: Vec<AddressRange>,
}

impl<'s> Connectivity<'s> {
    /// All pods, in classes. The order does not depend on that of the pods.
    pub(super) fn grouped(&self) -> Vec<Class<'s>> {
        let questions = self.questions();
        let pods: BTreeSet<&Pod> = self.snapshot.pods.iter().collect();
        let mut classes: Vec<Class<'s>> = Vec::new();
        let mut known: HashMap<Seen<'_>, usize> = HashMap::new();
        for pod in pods {
            let index = *known.entry(questions.seen(pod)).or_insert_with(|| {
                classes.push(Class {
                    subject: self.subject(pod),
                    workloads: BTreeMap::new(),
                });
                classes.len() - 1
            });
            *classes[index].workloads.entry(workload(pod)).or_default() += 1;
        }
        classes
    }

    fn questions(&self) -> Questions<'_> {
        let mut questions = Questions::default();
        let mut blocks: Vec<&Addresses> = Vec::new();
        for policy in &self.policies {
            questions.select(&policy.subject);
            for rule in &policy.rules {
                let block = questions.ask(rule);
                blocks.extend(block.filter(|_| self.blocks == Blocks::Pods));
            }
        }
        // Networks of ClusterNetworkPolicies match pods in either meaning of a block.
        let directions = Direction::BOTH.into_iter();
        for step in directions.flat_map(|direction| self.tiers.all(direction)) {
            questions.select(&step.pods);
            blocks.extend(questions.ask(&step.rule));
        }
        if !blocks.is_empty() {
            questions.cells = cidr::cells(&blocks, true);
        }
        questions
    }
}

impl<'p> Questions<'p> {
    fn select(&mut self, pods: &Selector<'p>) {
        for (key, values) in pods.asked() {
            self.labels.entry(key).or_default().extend(values);
        }
    }

    /// Takes over what a rule asks; gives back its addresses, if it names any.
    fn ask<'r>(&mut self, rule: &'r Rule<'p>) -> Option<&'r Addresses> {
        self.ports.extend(&rule.ports.names);
        match &rule.peer {
            Peer::Everything => None,
            Peer::Own(pods) | Peer::Pods { pods, .. } => {
                self.select(pods);
                None
            }
            Peer::Addresses(block) => Some(block),
        }
    }

    /// The answers of a pod.
    fn seen<'s>(&self, pod: &'s Pod) -> Seen<'s> {
        let labels = pod.labels.iter().filter_map(|(key, value)| {
            let named = self.labels.get(key.as_str())?;
            Some((key.as_str(), named.contains(value.as_str()).then_some(value.as_str())))
        });
        let named = |(name, protocol, _): &&(String, Protocol, u16)| self.ports.contains(&(*protocol, name.as_str()));
        let cells = pod.addresses.iter().map(|address| cidr::cell_of(*address, &self.cells));
        let asked = !self.cells.is_empty() && !pod.addresses.is_empty();
        Seen {
            namespace: &pod.namespace,
            host_network: pod.host_network,
            labels: labels.collect(),
            ports: pod.ports.iter().filter(named).collect(),
            addresses: asked.then(|| cells.collect()),
        }
    }
}
