//! Relays: pods through which one stage reaches another although no connection between the two is open. A pod of the one
//! connects to the relay, and the relay, or the next one, connects to the other: each hop is permitted, perhaps on
//! purpose, and the chain is what nobody asked for.
//!
//! Exact as the rest of the analysis, for pods that could exist: a relay is one pod that can be reached and that can
//! connect on, so that what both of its sides want of its labels must be satisfiable at once. Two pods of one namespace
//! make a chain only if the one reaches the other.
//!
//! What may open anything at a stage's own end (a policy that cannot be read, one of another kind) is for the verdict on
//! that namespace; at a relay it makes a possible chain, as does an `ipBlock` of addresses that may be those of pods.
//! Where ClusterNetworkPolicies stop a part of a hop, nobody asks which pods get round them on both sides: that chain is
//! a possible one too.
//!
//! Relays are in shared namespaces, in those without a stage and in third stages; one in the first stage or the last adds
//! nothing, because the rest of the chain is there without it. Not searched: namespaces that do not exist yet, hosts outside
//! the cluster, nodes and pods on a node's network. A service that both stages connect to, and that itself connects to neither, is a store and no relay: what is put there by the
//! one and fetched by the other is not for an analysis of connections.

mod graph;
mod search;

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::network::world::{DnsAt, DnsPeer, WorkloadKey, World, owned};

use self::graph::{Graph, ports};
use self::search::{Hop, MOST_LOOKS, Search};
use super::analysis::{self, TOO_COMPLEX, TOO_MANY};
use super::map::{Book, Map};
use super::permits::Permits;
use super::policy::Direction;
use super::satisfy::Answer;
use super::{End, Place, UnmodelledPolicy, Witness};

/// The stages between which chains are looked for.
const STAGES: [NamespaceStage; 3] = [
    NamespaceStage::Training,
    NamespaceStage::Evaluation,
    NamespaceStage::Inference,
];

/// A way from one stage to another through relays, one of the shortest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it starts, and where it ends.
    pub stages: [NamespaceStage; 2],
    /// The connections, two at least. Where one ends, the next one starts, at the same pod.
    pub hops: Vec<Witness>,
    /// The relays, where they have a name: one less than there are hops.
    pub relays: Vec<Option<Relay>>,
    /// Why it is only a possible one: a word as in [`Isolation::Unknown`](super::Isolation::Unknown) and a line.
    pub doubt: Option<(&'static str, String)>,
}

/// What a relay is known as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relay {
    /// A service of the policy's catalogue.
    Service(String),
    /// A DNS server of the cluster.
    Dns,
    /// Pods of an `AiWorkload`.
    Workload(WorkloadKey),
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// For each namespace of a stage, and each other stage, one that starts in it and one that ends in it, as far as there
    /// are any: certain ones first, then the shorter ones.
    pub found: Vec<Chain>,
    /// Not everything could be looked at: there may be others.
    pub cut: bool,
}

/// The shortest chains of the namespaces that `of` names. `desired` is
/// [`policies::all`](crate::network::policies::all) of the same world.
pub fn chains(
    world: &World,
    desired: &[&NetworkPolicy],
    policies: &[&NetworkPolicy],
    unmodelled: &[UnmodelledPolicy],
    of: &dyn Fn(&str) -> bool,
) -> Chains {
    within(MOST_LOOKS, world, desired, policies, unmodelled, of)
}

/// The same, with so many looks: see [`MOST_LOOKS`].
pub(super) fn within(
    mut looks: u64,
    world: &World,
    desired: &[&NetworkPolicy],
    policies: &[&NetworkPolicy],
    unmodelled: &[UnmodelledPolicy],
    of: &dyn Fn(&str) -> bool,
) -> Chains {
    let dns = world.dns();
    let book = Book::read(world, policies, unmodelled, desired);
    let map = Map::new(world, &book, Permits::new(world, &book, desired, &dns), None);
    let graph = Graph::new(&map, &book);
    let mut all = Chains::default();
    for direction in Direction::BOTH {
        for from in STAGES {
            for to in STAGES.into_iter().filter(|to| *to != from) {
                let is_end = |site: &usize| graph.stage(*site) == Some(to) && of(map.sites[*site].name);
                let mut wanted: Vec<usize> = (0..map.sites.len()).filter(is_end).collect();
                // Chains that hang on nothing come before shorter ones that do.
                for certain in [true, false] {
                    if wanted.is_empty() {
                        break;
                    }
                    let search = Search {
                        graph: &graph,
                        direction,
                        from,
                        to,
                        certain,
                    };
                    let found = search.run(wanted.iter().copied(), &mut looks);
                    wanted.retain(|site| !found.chains.contains_key(site));
                    all.cut |= found.cut;
                    for hops in found.chains.values() {
                        match chain(&search, hops, world, &dns, &mut looks) {
                            Some(chain) => all.found.push(chain),
                            None => all.cut = true,
                        }
                    }
                    if !found.left_out {
                        break;
                    }
                }
            }
        }
    }
    all.sort();
    all
}

impl Chains {
    pub(crate) fn sort(&mut self) {
        fn key(chain: &Chain) -> impl Ord + '_ {
            (chain.doubt.is_some(), chain.hops.len(), &chain.hops)
        }
        self.found.sort_by(|one, other| key(one).cmp(&key(other)));
        self.found.dedup();
    }

    /// One chain for the same two stages and the same relays, the first, and how many others there are of its kind. Relays
    /// without a name are the same where they are in the same namespaces.
    pub fn each_relay_once(self) -> Vec<(Chain, usize)> {
        let mut places: BTreeMap<_, usize> = BTreeMap::new();
        let mut told: Vec<(Chain, usize)> = Vec::new();
        for chain in self.found {
            let at: Vec<Place> = chain.passed().map(|end| end.namespace.clone()).collect();
            let known = *places
                .entry((chain.stages, at, chain.relays.clone(), chain.doubt.is_some()))
                .or_insert(told.len());
            match told.get_mut(known) {
                Some((_, others)) => *others += 1,
                None => told.push((chain, 0)),
            }
        }
        told
    }
}

impl Chain {
    /// The relays.
    pub fn passed(&self) -> impl Iterator<Item = &End> {
        self.hops.iter().skip(1).map(|hop| &hop.from)
    }

    /// The pod that it starts at, and the one that it ends at.
    pub fn ends(&self) -> Option<[&End; 2]> {
        Some([&self.hops.first()?.from, &self.hops.last()?.to])
    }
}

/// The hops with an example of a pod at each stop; `None` for none.
fn chain(
    search: &Search<'_, '_, '_>,
    hops: &[Hop<'_, '_>],
    world: &World,
    dns: &[DnsPeer],
    looks: &mut u64,
) -> Option<Chain> {
    let mut pods = Vec::with_capacity(hops.len() + 1);
    let mut hard = false;
    for stop in 0..=hops.len() {
        let before = stop.checked_sub(1).and_then(|index| hops.get(index));
        let after = hops.get(stop);
        let site = after.map(|hop| hop.near).or_else(|| before.map(|hop| hop.far))?;
        pods.push(match search.pod(site, before, after, looks) {
            Answer::Yes(labels) => labels,
            Answer::No => return None,
            Answer::TooHard => {
                hard = true;
                BTreeMap::new()
            }
        });
    }
    let mut told = Vec::with_capacity(hops.len());
    for (hop, ends) in hops.iter().zip(pods.windows(2)) {
        let [mine, theirs] = search.sides(hop);
        let first = *ports(hop.mine, hop.theirs).intervals().first()?;
        let ends = [ends.first()?.clone(), ends.last()?.clone()];
        let hop = analysis::witness(mine, theirs, ends, &BTreeMap::new(), first);
        let hard = || hard.then(|| (TOO_COMPLEX, analysis::depends(mine, theirs, TOO_MANY)));
        told.push((hop, search.graph.doubt(mine, theirs).or_else(hard)));
    }
    let mut stages = [search.from, search.to];
    if search.direction == Direction::Ingress {
        told.reverse();
        stages.reverse();
    }
    let (hops, doubts): (Vec<Witness>, Vec<Option<_>>) = told.into_iter().unzip();
    let relays = hops.iter().skip(1).map(|hop| name(&hop.from, world, dns));
    Some(Chain {
        stages,
        relays: relays.collect(),
        hops,
        // One is enough.
        doubt: doubts.into_iter().flatten().next(),
    })
}

/// What pods with these labels are known as.
fn name(relay: &End, world: &World, dns: &[DnsPeer]) -> Option<Relay> {
    let Place::Namespace(namespace) = &relay.namespace else {
        return None;
    };
    let has =
        |labels: &BTreeMap<String, String>| labels.iter().all(|(key, value)| relay.labels.get(key) == Some(value));
    let service = world.services().iter().find(|entry| {
        let there = entry.to.namespace.as_ref();
        there.is_some_and(|there| **there == *namespace) && has(&owned(entry.to.pod_labels.as_ref()))
    });
    if let Some(service) = service {
        return Some(Relay::Service(service.name.to_string()));
    }
    let is_dns = |server: &DnsPeer| match &server.at {
        DnsAt::Pods { namespace: at, labels } => at == namespace && has(labels),
        DnsAt::Addresses(_) => false,
    };
    if dns.iter().any(is_dns) {
        return Some(Relay::Dns);
    }
    let workload = relay
        .labels
        .get(names::WORKLOAD_LABEL)
        .map_or(names::DEFAULT_WORKLOAD, String::as_str);
    let key = WorkloadKey::new(namespace, workload);
    world.workloads.contains_key(&key).then_some(Relay::Workload(key))
}
