//! Random ClusterNetworkPolicies over random NetworkPolicies and pods: every packet against the second opinion.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;

use super::brute::{PLACES, Selecting, cases, cluster, writeln};
use super::selectors::universe;
use super::tiers_naive::{End, Naive, in_block};
use super::tiers_random::{IN_BLOCK, OUT_OF_BLOCK, PROBES, Style, address, cluster_policies, read, runner};
use crate::api::names;
use crate::api::network::Protocol;
use crate::network::reach::concrete::{Blocks, Connectivity, Endpoint, Pod, Snapshot};
use crate::network::reach::explain::Asked;
use crate::network::testkit::Labels;

/// No NetworkPolicy names a block that holds it.
const OUTSIDE: [&str; 3] = ["203.0.113.9", "8.8.8.8", "2001:db8::1"];

/// NetworkPolicies of which the denies are left out where `denied` says so.
pub(super) fn thinned(mut policies: Vec<NetworkPolicy>, denied: &[bool]) -> Vec<NetworkPolicy> {
    policies.retain(|policy| {
        let namespace = policy.metadata.namespace.as_deref();
        let place = PLACES.iter().position(|place| Some(*place) == namespace).unwrap();
        policy.metadata.name.as_deref() != Some(names::DENY_POLICY) || denied[place]
    });
    policies
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let one = (
        any::<prop::sample::Index>(),
        0..4_usize,
        0..3_usize,
        proptest::bool::weighted(0.05),
    );
    let place = move |namespace: &'static str| {
        proptest::collection::vec(one.clone(), 1..3).prop_map(move |all| {
            let universe = universe();
            let pod = |(number, (labels, addresses, http, host_network)): (
                usize,
                (prop::sample::Index, usize, usize, bool),
            )| {
                let known: &[&str] = [
                    &[IN_BLOCK][..],
                    &[OUT_OF_BLOCK],
                    &[IN_BLOCK, "fd00::7"],
                    &[OUT_OF_BLOCK, "fd00::8"],
                ][addresses];
                let http = [None, Some((Protocol::TCP, 85)), Some((Protocol::UDP, 53))][http];
                Pod {
                    namespace: namespace.to_owned(),
                    owner: ("Pod".to_owned(), format!("p{number}")),
                    labels: labels.get(&universe).clone(),
                    addresses: known.iter().map(|text| address(text)).collect(),
                    ports: http
                        .into_iter()
                        .map(|(protocol, port)| ("http".to_owned(), protocol, port))
                        .collect(),
                    host_network,
                }
            };
            all.into_iter().enumerate().map(pod).collect::<Vec<Pod>>()
        })
    };
    PLACES
        .map(place)
        .prop_map(|places| places.into_iter().flatten().collect())
}

/// An end for each address of a pod.
fn ends(pod: &Pod) -> Vec<End<'_>> {
    let http = pod
        .ports
        .iter()
        .next()
        .map(|(_, protocol, port)| (protocol.as_str(), *port));
    let by = |address: &IpAddr| End::Pod {
        namespace: &pod.namespace,
        labels: &pod.labels,
        http,
        address: Some(*address),
        host_network: pod.host_network,
    };
    pod.addresses.iter().map(by).collect()
}

/// Whether a packet by the best address of the target may pass, and whether it surely does. A NetworkPolicy's block
/// matches a pod that has any address inside, as the concrete mode counts it.
fn expected<'a>(naive: &Naive<'a>, from: &[End<'a>], to: &[End<'a>], protocol: &str, port: u16) -> (bool, bool) {
    let by_address = to.iter().map(|to| naive.passes(from[0], *to, protocol, port));
    by_address.fold((false, false), |all, one| (all.0 || one.0, all.1 || one.1))
}

#[test]
fn every_packet_through_the_tiers_is_judged_as_by_the_second_opinion() {
    let namespaces: BTreeMap<String, Labels> = cluster()
        .namespaces
        .into_iter()
        .map(|(name, found)| (name, found.labels))
        .collect();
    // Denied, unknown, allowed.
    let counts = RefCell::new([0_u64; 3]);
    let denied = proptest::collection::vec(proptest::bool::weighted(0.5), PLACES.len());
    let drawn = (
        cases(Selecting::Anyhow),
        pods(),
        denied,
        cluster_policies(Style::Anything),
    );
    let outcome = runner(50).run(&drawn, |(policies, pods, denied, of_cluster)| {
        let snapshot = Snapshot {
            namespaces: namespaces.clone(),
            pods,
            policies: thinned(policies, &denied),
            cluster_policies: read(&of_cluster),
        };
        for blocks in [Blocks::External, Blocks::Pods] {
            let mut naive = Naive::new(&namespaces, &snapshot.policies, &of_cluster);
            if blocks == Blocks::Pods {
                naive.blocks = |block, address| {
                    // The second address of a pod of the first kind or the third, as `pods` makes them.
                    let v4 = match address.unwrap().to_string().as_str() {
                        "fd00::7" => IN_BLOCK,
                        "fd00::8" => OUT_OF_BLOCK,
                        _ => return in_block(block, address.unwrap()),
                    };
                    in_block(block, v4.parse().unwrap())
                };
            }
            let read = Connectivity::read(&snapshot, blocks).unwrap();
            let connections = read.connections();
            let mut all: Vec<(String, Vec<End<'_>>, Asked<'_>)> = Vec::new();
            for pod in &snapshot.pods {
                all.push((format!("{}/{}", pod.namespace, pod.owner.1), ends(pod), Asked::Pod(pod)));
            }
            // Where nothing has an address of IPv6 nobody asks for one.
            let v6 = snapshot.pods.iter().flat_map(|pod| &pod.addresses).any(IpAddr::is_ipv6);
            for text in OUTSIDE {
                let outside = address(text);
                if outside.is_ipv6() && !v6 {
                    continue;
                }
                all.push((text.to_owned(), vec![End::Address(outside)], Asked::Address(outside)));
            }
            for (source, from, asked_from) in &all {
                for (target, to, asked_to) in &all {
                    let both_outside = matches!((&from[0], &to[0]), (End::Address(_), End::Address(_)));
                    if source == target || both_outside {
                        continue;
                    }
                    for (protocol, port) in PROBES {
                        let (possibly, surely) = expected(&naive, from, to, protocol, port);
                        let wanted = if blocks == Blocks::Pods { possibly } else { surely };
                        let kind = [Protocol::TCP, Protocol::UDP, Protocol::SCTP]
                            .into_iter()
                            .find(|kind| kind.as_str() == protocol)
                            .unwrap();
                        let found = connections
                            .iter()
                            .any(|((a, b), ports)| is(a, source) && is(b, target) && ports.contains(kind, port));
                        let said = format!("{source} -> {target} {protocol} {port} {blocks:?}");
                        prop_assert_eq!(found, wanted, "{}", said);
                        let why = read.explain(*asked_from, *asked_to, kind, port);
                        prop_assert_eq!(why.allows(), wanted, "{}: {:?}", said, why);
                        counts.borrow_mut()[usize::from(possibly) + usize::from(surely)] += 1;
                    }
                }
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let counts = counts.into_inner();
    let total: u64 = counts.iter().sum();
    let share = counts.map(|count| 100 * count / total);
    let text = format!(
        "tiers, concrete: {total} packets, {} % denied, {} % unknown, {} % allowed",
        share[0], share[1], share[2]
    );
    writeln(&text);
    let one_sided = !(30..=70).contains(&share[0]) || !(25..=70).contains(&share[2]) || counts[1] < 200;
    assert!(!one_sided, "one-sided: {text}");
}

fn is(end: &Endpoint, name: &str) -> bool {
    match end {
        Endpoint::Workload {
            namespace, name: of, ..
        } => format!("{namespace}/{of}") == name,
        Endpoint::Addresses(range) => name.parse::<IpAddr>().is_ok_and(|address| {
            range.first.is_ipv4() == address.is_ipv4() && (range.first..=range.last).contains(&address)
        }),
    }
}
