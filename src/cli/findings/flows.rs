//! Declared flows that the policies cut: open by the declarations of both ends, and isolated by accident. An allow that
//! somebody wrote for the sake of one caller isolates its pods from all others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Case, subject};
use crate::api::names;
use crate::api::workload::FlowDirection;
use crate::compliance::id::NET_04;
use crate::compliance::{Finding, Subject};
use crate::network::flows::{Opening, Peer, Resolver};
use crate::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot};
use crate::network::reach::explain::Asked;
use crate::network::world::WorkloadKey;

/// Every flow that is called open and does not pass. Blocks match addresses outside the cluster alone: what works then
/// works with every plugin.
pub(super) fn cut(case: &Case<'_>) -> Vec<Finding> {
    let namespaces = case.world.namespaces.iter();
    let snapshot = Snapshot {
        namespaces: namespaces
            .map(|(name, found)| (name.clone(), found.labels.clone()))
            .collect(),
        pods: Vec::new(),
        policies: case.stored.to_vec(),
        cluster_policies: case.world.cluster_policies.clone(),
    };
    // A policy that cannot be read is told where it was read; in a cluster it makes the verdicts Unknown.
    let Ok(read) = Connectivity::read(&snapshot, Blocks::External) else {
        return Vec::new();
    };
    let resolver = Resolver::new(case.world);
    let mut findings = Vec::new();
    for (key, workload) in &case.world.workloads {
        let flows = resolver.resolve(workload);
        let own = pods_of(case, key);
        for (direction, openings) in [
            (FlowDirection::Egress, &flows.egress),
            (FlowDirection::Ingress, &flows.ingress),
        ] {
            for opening in openings {
                findings.extend(one(case, &read, (key, &own), direction, opening));
            }
        }
    }
    findings
}

/// One flow of a workload.
fn one(
    case: &Case<'_>,
    read: &Connectivity<'_>,
    (key, own): (&WorkloadKey, &[Pod]),
    direction: FlowDirection,
    opening: &Opening,
) -> Option<Finding> {
    for peer in &opening.peers {
        // A flow between two workloads is looked at from the one that asks.
        if direction == FlowDirection::Ingress && matches!(peer, Peer::Workload(_)) {
            continue;
        }
        let others = ends(case, peer);
        for own in own {
            for other in &others {
                let (from, to) = match direction {
                    FlowDirection::Egress => (Asked::Pod(own), other.asked()),
                    FlowDirection::Ingress => (other.asked(), Asked::Pod(own)),
                };
                let closed = opening.ports.difference(&read.allowed(from, to));
                let Some(first) = closed.intervals().first() else {
                    continue;
                };
                let why = read.explain(from, to, first.protocol, first.first);
                let halves = [("let out by", why.egress), ("let in by", why.ingress)];
                let halves = halves.into_iter().filter_map(|(word, half)| Some((word, half?)));
                let shut = halves.filter(|(_, half)| !half.allows());
                let shut: Vec<(&str, Vec<String>)> = shut.map(|(word, half)| (word, half.isolated_by)).collect();
                let isolating: Vec<&String> = shut.iter().flat_map(|(_, policies)| policies).collect();
                let concerned = case.is_own(&Subject::namespaced("AiWorkload", &key.namespace, &key.name));
                if !concerned && !isolating.iter().any(|policy| case.is_own(&subject(policy))) {
                    continue;
                }
                let reasons = shut.iter().map(|(word, policies)| {
                    let places: Vec<String> = policies
                        .iter()
                        .map(|policy| case.place(policy, "spec.podSelector"))
                        .collect();
                    format!("not {word} {}", places.join(", "))
                });
                let reasons: Vec<String> = reasons.collect();
                let message = format!(
                    "{} is declared and does not pass on {closed}, {} -> {}: {}",
                    opening.name,
                    told(from),
                    told(to),
                    reasons.join("; ")
                );
                let subject_of = Subject::namespaced("AiWorkload", &key.namespace, &key.name);
                let finding = Finding::new(NET_04.rule("cut"), subject_of, message);
                // The policy that isolates is the place to mend it, the workload where no file holds the policy.
                let places = isolating
                    .iter()
                    .map(|policy| case.locate_policy(policy, "spec.podSelector"));
                let place = places.into_iter().find(|at| at.file.is_some());
                return Some(match place {
                    Some(place) => finding.at(place),
                    None => finding,
                });
            }
        }
    }
    None
}

/// The other end of a flow.
enum Other {
    Pod(Pod),
    Address(IpAddr),
}

impl Other {
    fn asked(&self) -> Asked<'_> {
        match self {
            Self::Pod(pod) => Asked::Pod(pod),
            Self::Address(address) => Asked::Address(*address),
        }
    }
}

fn ends(case: &Case<'_>, peer: &Peer) -> Vec<Other> {
    match peer {
        Peer::Workload(key) => pods_of(case, key).into_iter().map(Other::Pod).collect(),
        Peer::Pods { namespace, labels } => {
            let has = |pod: &Pod| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
            let found = pods(case, namespace, has, ("Pod", "any"), labels.clone());
            found.into_iter().map(Other::Pod).collect()
        }
        Peer::Network { cidr, except } => {
            let outside = |address: &IpAddr| !except.iter().any(|network| network.contains(address));
            let both = [cidr.network(), cidr.broadcast()].into_iter().filter(outside);
            both.map(Other::Address).collect()
        }
    }
}

/// The pods of a workload: those that are known, or else the least that one can be.
fn pods_of(case: &Case<'_>, key: &WorkloadKey) -> Vec<Pod> {
    let joins = |pod: &Pod| {
        let label = pod.labels.get(names::WORKLOAD_LABEL);
        label.map_or(names::DEFAULT_WORKLOAD, String::as_str) == key.name
    };
    let labels = match key.name.as_str() {
        names::DEFAULT_WORKLOAD => BTreeMap::new(),
        name => BTreeMap::from([(names::WORKLOAD_LABEL.to_owned(), name.to_owned())]),
    };
    pods(case, &key.namespace, joins, ("AiWorkload", &key.name), labels)
}

fn pods(
    case: &Case<'_>,
    namespace: &str,
    wanted: impl Fn(&Pod) -> bool,
    (kind, name): (&str, &str),
    labels: BTreeMap<String, String>,
) -> Vec<Pod> {
    let here = case
        .pods
        .iter()
        .map(|seen| &seen.pod)
        .filter(|pod| pod.namespace == namespace && !pod.host_network);
    let found: Vec<Pod> = here.filter(|pod| wanted(pod)).cloned().collect();
    if !found.is_empty() {
        return found;
    }
    vec![Pod {
        namespace: namespace.to_owned(),
        owner: (kind.to_owned(), name.to_owned()),
        labels,
        ..Pod::default()
    }]
}

fn told(asked: Asked<'_>) -> String {
    match asked {
        Asked::Pod(pod) => format!("{}/{}[{}]", pod.namespace, pod.owner.1, pod.owner.0),
        Asked::Address(address) => address.to_string(),
    }
}
