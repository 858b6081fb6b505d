//! The operator may write into every namespace and a tenant only into one: whatever a tenant declares, what the operator then
//! plans to write is for the tenant's own namespace, or for an end elsewhere that names the tenant's workloads itself.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/random_world.rs"]
mod random_world;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cloison::api::names;
use cloison::api::stage::NamespaceStage;
use cloison::network::world::{Workload, WorkloadKey, World};
use cloison::network::{cluster_deny, policies};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use random_world::{drawn, workloads, world};
use serde_json::json;

const CASES: u32 = 2_000;

/// Where a policy is and what it is called.
type Place = (String, String);

fn planned(world: &World) -> BTreeMap<Place, NetworkPolicy> {
    let all = policies::all(world);
    let count = all.len();
    let place = |policy: &NetworkPolicy| {
        (
            policy.metadata.namespace.clone().unwrap(),
            policy.metadata.name.clone().unwrap(),
        )
    };
    let planned: BTreeMap<Place, NetworkPolicy> = all.into_iter().map(|policy| (place(&policy), policy)).collect();
    assert_eq!(planned.len(), count, "two policies of one name");
    planned
}

/// What a policy is for.
enum For<'w> {
    Namespace,
    Workload(&'w Workload),
    Service,
}

/// By its name and its namespace alone; nothing where it would be nobody's.
fn owner<'w>(world: &'w World, (namespace, name): &Place) -> Option<For<'w>> {
    let stage = world.stage_of(namespace)?;
    if name == names::DENY_POLICY {
        return Some(For::Namespace);
    }
    if let Some(workload) = name.strip_prefix(names::WORKLOAD_POLICY_PREFIX) {
        let key = WorkloadKey::new(namespace, workload);
        return world.workloads.get(&key).map(For::Workload);
    }
    let entry = name.strip_prefix(names::SERVICE_POLICY_PREFIX)?.split('.').next()?;
    let entry = world.services().iter().find(|service| *service.name == *entry)?;
    let here = entry.to.namespace.as_deref() == Some(namespace.as_str());
    (here && stage == NamespaceStage::Shared).then_some(For::Service)
}

/// Each peer of a policy with its direction and its ports; without a peer, everybody.
fn openings(policy: Option<&NetworkPolicy>) -> BTreeMap<String, Option<NetworkPolicyPeer>> {
    let mut openings = BTreeMap::new();
    let spec = json!(policy.map(|policy| &policy.spec));
    for (direction, end) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec[direction].as_array().into_iter().flatten() {
            let peers = rule[end].as_array().filter(|peers| !peers.is_empty());
            if peers.is_none() {
                openings.insert(json!([direction, rule["ports"]]).to_string(), None);
            }
            for peer in peers.into_iter().flatten() {
                let key = json!([direction, peer, rule["ports"]]).to_string();
                openings.insert(key, Some(serde_json::from_value(peer.clone()).unwrap()));
            }
        }
    }
    openings
}

/// Everything of a policy but who may come or be gone to.
fn without_rules(policy: &NetworkPolicy) -> NetworkPolicy {
    let mut policy = policy.clone();
    if let Some(spec) = &mut policy.spec {
        (spec.ingress, spec.egress) = (None, None);
    }
    policy
}

/// The namespaces of the workloads that a workload names itself.
fn names_itself(workload: &Workload) -> BTreeSet<String> {
    let network = workload.network.as_ref();
    let to = network.and_then(|it| it.connect_to.as_ref()).into_iter().flatten();
    let from = network.and_then(|it| it.accept_from.as_ref()).into_iter().flatten();
    let named = to
        .filter_map(|it| it.workload.as_ref())
        .chain(from.filter_map(|it| it.workload.as_ref()));
    let home = &workload.key.namespace;
    named
        .map(|it| it.namespace.as_ref().map_or_else(|| home.clone(), ToString::to_string))
        .collect()
}

fn run<S: Strategy>(strategy: &S, property: impl Fn(S::Value)) {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    };
    let run = TestRunner::new(config).run(strategy, |drawn| {
        property(drawn);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn whatever_is_planned_is_for_an_object_where_it_lies_and_bears_a_name_of_ours() {
    let seen = [const { Cell::new(0_usize) }; 3];
    run(&(drawn(), any::<bool>()), |(drawn, cluster)| {
        let mut world = world(&drawn, 0);
        if cluster {
            let wanted = serde_json::from_value(json!("ClusterNetworkPolicy")).unwrap();
            Arc::make_mut(&mut world.policy).network.cluster_deny = wanted;
        }
        for (place, policy) in planned(&world) {
            let owner = owner(&world, &place).unwrap_or_else(|| panic!("{place:?} is for nobody"));
            let labels = policy.metadata.labels.unwrap();
            assert_eq!(labels[names::MANAGED_BY_LABEL], names::CLOISON, "{place:?}");
            let which = match owner {
                For::Namespace => 0,
                For::Workload(_) => 1,
                For::Service => 2,
            };
            seen[which].set(seen[which].get() + 1);
        }
        let of_the_cluster = cluster_deny::render(&world);
        assert_eq!(of_the_cluster.len(), if cluster { 3 } else { 0 });
        assert!(
            of_the_cluster
                .iter()
                .all(|(name, _)| names::STAGE_POLICIES.contains(&name.as_str()))
        );
    });
    // Worlds in which nothing is planned would show nothing.
    let seen = seen.map(Cell::into_inner);
    eprintln!("of {CASES} worlds: {seen:?} policies of namespaces, workloads and services");
    assert!(seen.iter().all(|count| *count >= 40), "{seen:?}");
}

#[test]
fn a_tenant_changes_nothing_elsewhere_but_for_who_names_its_workloads() {
    let (own, foreign) = (Cell::new(0_usize), Cell::new(0_usize));
    run(
        &(drawn(), any::<prop::sample::Index>(), workloads()),
        |(drawn, which, others)| {
            let which = which.index(drawn.len());
            let tenant = format!("ns{which}");
            let mut changed = drawn.clone();
            changed[which].workloads = others;
            let (before, after) = (world(&drawn, 0), world(&changed, 0));
            let (was, is) = (planned(&before), planned(&after));
            let places: BTreeSet<&Place> = was.keys().chain(is.keys()).collect();
            for place in places.into_iter().filter(|place| was.get(place) != is.get(place)) {
                assert_ne!(place.1, names::DENY_POLICY, "{place:?}");
                if place.0 == tenant && place.1.starts_with(names::WORKLOAD_POLICY_PREFIX) {
                    own.set(own.get() + 1);
                    continue;
                }
                foreign.set(foreign.get() + 1);
                // Of somebody else: it lists the tenant's workloads, or is a service that the admin made for all.
                match owner(&after, place).unwrap_or_else(|| panic!("{place:?} is for nobody")) {
                    For::Workload(workload) => {
                        assert!(names_itself(workload).contains(&tenant), "{place:?} for {tenant}")
                    }
                    For::Service => {}
                    For::Namespace => panic!("{place:?} for {tenant}"),
                }
                // And no more changes in it than who of the tenant's may come or be gone to.
                if let (Some(was), Some(is)) = (was.get(place), is.get(place)) {
                    assert_eq!(without_rules(was), without_rules(is), "{place:?} for {tenant}");
                }
                let (was, is) = (openings(was.get(place)), openings(is.get(place)));
                let differ = was
                    .iter()
                    .chain(&is)
                    .filter(|(key, _)| was.contains_key(*key) != is.contains_key(*key));
                for (key, peer) in differ {
                    let who = peer.as_ref().and_then(policies::workload_of);
                    assert_eq!(who.map(|key| key.namespace).as_ref(), Some(&tenant), "{place:?} {key}");
                }
            }
        },
    );
    let (own, foreign) = (own.into_inner(), foreign.into_inner());
    eprintln!("of {CASES} changes by a tenant: {own} policies of its own namespace and {foreign} of others changed");
    assert!(own >= 40 && foreign >= 40, "{own}, {foreign}");
}
