//! Chains through relays where random ClusterNetworkPolicies are in force, against the second opinion on these. A chain is
//! only a possible one where they stop a part of a hop, so that brute force bounds the answer from both sides: what is
//! told as certain is there, and where nothing is told there is none.

use std::cell::RefCell;
use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;

use super::brute::writeln;
use super::relays_random::{STAGED, brute, cases, cluster, everyone, is_joined};
use super::selectors::universe;
use super::tiers_naive::{End, Naive};
use super::tiers_random::{PROBES, Style, cluster_policies, holds, pods_of, read, runner};
use crate::network::policies;
use crate::network::reach::relays::{Chain, chains};
use crate::network::testkit::Labels;

#[test]
fn chains_with_tiers_claim_nothing_that_is_not_there_and_miss_nothing() {
    let world = cluster();
    let desired = policies::all(&world);
    let desired: Vec<&NetworkPolicy> = desired.iter().collect();
    let namespaces: BTreeMap<String, Labels> = world
        .namespaces
        .iter()
        .map(|(name, found)| (name.clone(), found.labels.clone()))
        .collect();
    let labels = universe();
    // Each pod with and without a name for each of the ports.
    let pods: Vec<(&str, [Vec<End<'_>>; PROBES.len()])> = everyone(&labels, |place, index| {
        PROBES.map(|probe| pods_of(place, &labels[index], probe, Style::Clear))
    });
    let mix: RefCell<BTreeMap<&str, u32>> = RefCell::default();
    let outcome = runner(12).run(&(cases(), cluster_policies(Style::Clear)), |(all, of_cluster)| {
        let mut world = world.clone();
        world.cluster_policies = read(&of_cluster);
        let stored: Vec<&NetworkPolicy> = all.iter().collect();
        let found = chains(&world, &desired, &stored, &[], &|_| true);
        prop_assert!(!found.cut);
        let naive = Naive::new(&namespaces, &all, &of_cluster);
        let mut blocks_match_pods = Naive::new(&namespaces, &all, &of_cluster);
        blocks_match_pods.blocks = |block, _| block.cidr.starts_with("10.");
        for (from, near) in STAGED {
            for (to, far) in STAGED.into_iter().filter(|(to, _)| *to != from) {
                let told: Vec<&Chain> = found.found.iter().filter(|chain| chain.stages == [near, far]).collect();
                let certain: Vec<&&Chain> = told.iter().filter(|chain| chain.doubt.is_none()).collect();
                for chain in &certain {
                    let mut hops = chain.hops.iter();
                    let through = hops.all(|hop| holds(&namespaces, &all, &of_cluster, hop));
                    prop_assert!(is_joined(chain) && through, "{}", chain);
                }
                let shortest = |naive: &Naive<'_>| {
                    brute(&pods, from, to, |one, other| {
                        let mut probes = PROBES.iter().zip(one).zip(other);
                        probes.any(|(((protocol, port), from), to)| {
                            to.iter().any(|to| naive.passes(from[0], *to, protocol, *port).0)
                        })
                    })
                };
                let there = shortest(&naive).or_else(|| shortest(&blocks_match_pods));
                prop_assert!(there.is_none() || !told.is_empty(), "{from} to {to}: {there:?} hops");
                let kind = match (told.is_empty(), certain.is_empty(), there) {
                    (true, ..) => "none",
                    (_, false, _) => "certain",
                    (_, true, Some(_)) => "possible",
                    (_, true, None) => "possible without need",
                };
                *mix.borrow_mut().entry(kind).or_default() += 1;
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let mix = mix.into_inner();
    let total = mix.values().sum::<u32>();
    let text = format!("chains with tiers: {mix:?} of {total}");
    writeln(&text);
    let share = |kind: &str| f64::from(mix.get(kind).copied().unwrap_or_default()) / f64::from(total);
    let balanced = ["none", "certain", "possible"]
        .into_iter()
        .all(|kind| share(kind) >= 0.05);
    assert!(balanced && share("possible without need") <= 0.2, "one-sided: {text}");
}
