//! The world as manifests show it. What they leave out is assumed, and every assumption is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::{Mode, NamespaceStage};
use crate::cli::manifests::Objects;
use crate::controller::{facts_of, workload_facts};
use crate::network::waivers;
use crate::network::world::{ClusterNetwork, Namespace, World};

/// Builds the world, by the functions of the controller. The second part says what was assumed.
pub(super) fn of(objects: &Objects, policy: AiSecurityPolicySpec, as_enforced: bool) -> (World, Vec<String>) {
    let namespaces = objects
        .namespaces
        .values()
        .map(|found| facts_of(&found.object, &policy));
    let workloads = objects
        .workloads
        .values()
        .filter_map(|found| workload_facts(&found.object));
    let waivers = objects.waivers.values().map(|found| &found.object);
    let mut world = World {
        namespaces: namespaces.map(|facts| (facts.name.clone(), facts)).collect(),
        workloads: workloads.map(|workload| (workload.key.clone(), workload)).collect(),
        waivers: waivers::of(waivers, policy.waivers.max_days, Timestamp::now()),
        policy: Arc::new(policy),
        cluster: ClusterNetwork::default(),
        cluster_policies: objects
            .cluster_policies
            .values()
            .map(|found| found.object.clone())
            .collect(),
    };
    let closed = world
        .waivers
        .iter()
        .filter_map(|(name, waiver)| Some((name, waiver.closed.as_ref()?)));
    let mut assumed: Vec<String> = closed
        .map(|(name, why)| format!("Waiver {name} opens nothing: {why}"))
        .collect();
    own_namespaces(&mut world, &mut assumed);
    others(&mut world, &mut assumed);
    unknown_addresses(&world, &mut assumed);
    if as_enforced {
        let staged = world.namespaces.values_mut().filter(|facts| facts.stage.is_some());
        staged.for_each(|facts| facts.mode = Mode::Enforce);
    }
    (world, assumed)
}

/// Assumes the namespaces that flows lead to.
pub(super) fn others(world: &mut World, assumed: &mut Vec<String>) {
    peers(world, assumed);
    named_by_policy(world, assumed);
}

fn assume(world: &mut World, name: &str, stage: Option<NamespaceStage>) {
    let mut labels = BTreeMap::from([(names::NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())]);
    labels.extend(stage.map(|stage| (names::STAGE_LABEL.to_owned(), stage.as_str().to_owned())));
    let facts = Namespace {
        name: name.to_owned(),
        labels,
        stage,
        mode: world.policy.mode,
        ..Namespace::default()
    };
    world.namespaces.insert(name.to_owned(), facts);
}

/// The namespace of a workload has the workload's stage: the door would refuse anything else.
fn own_namespaces(world: &mut World, assumed: &mut Vec<String>) {
    let missing: Vec<_> = world
        .workloads
        .values()
        .filter(|workload| !world.namespaces.contains_key(&workload.key.namespace))
        .map(|workload| (workload.key.clone(), NamespaceStage::from(workload.stage)))
        .collect();
    for (key, stage) in missing {
        if world.namespaces.contains_key(&key.namespace) {
            continue;
        }
        assume(world, &key.namespace, Some(stage));
        assumed.push(format!(
            "namespace {} is not in the input: assumed to be of stage {stage}, as AiWorkload {key} is, in mode {}",
            key.namespace, world.policy.mode
        ));
    }
}

/// The namespace of a peer that is deployed from elsewhere. With the peer's stage unknown, the one stage that the flow
/// can have is assumed; whether the peer agrees is AwaitingPeer.
fn peers(world: &mut World, assumed: &mut Vec<String>) {
    let mut missing = Vec::new();
    for workload in world.workloads.values() {
        let Some(network) = &workload.network else { continue };
        let to = network
            .connect_to
            .iter()
            .flatten()
            .filter_map(|entry| entry.workload.as_ref());
        let from = network
            .accept_from
            .iter()
            .flatten()
            .filter_map(|entry| entry.workload.as_ref());
        for peer in to.chain(from).filter_map(|peer| peer.namespace.as_deref()) {
            missing.push((
                peer.to_owned(),
                workload.key.clone(),
                NamespaceStage::from(workload.stage),
            ));
        }
    }
    for (name, key, stage) in missing {
        if world.namespaces.contains_key(&name) {
            continue;
        }
        assume(world, &name, Some(stage));
        assumed.push(format!(
            "namespace {name} is not in the input: assumed to be of stage {stage}, because AiWorkload {key} names a peer there"
        ));
    }
}

/// The namespaces of catalogue services and sources.
fn named_by_policy(world: &mut World, assumed: &mut Vec<String>) {
    let policy = world.policy.clone();
    let services = policy.network.services.iter().flatten();
    let sources = policy.network.sources.iter().flatten();
    let named = services
        .filter_map(|entry| Some((entry.to.namespace.as_deref()?, format!("service {}", entry.name))))
        .chain(sources.filter_map(|entry| Some((entry.from.namespace.as_deref()?, format!("source {}", entry.name)))));
    for (name, by) in named {
        if world.namespaces.contains_key(name) {
            continue;
        }
        assume(world, name, None);
        assumed.push(format!(
            "namespace {name} is not in the input: assumed to have no stage; {by} of the policy is there"
        ));
    }
}

/// What the controller detects in the cluster, and what nobody can know without one.
fn unknown_addresses(world: &World, assumed: &mut Vec<String>) {
    if world.workloads.is_empty() {
        return;
    }
    let unknown: Vec<&str> = [
        (world.dns().is_empty(), "DNS servers (network.dns)"),
        (world.api_servers().is_empty(), "API servers (network.apiServer)"),
        (world.ranges().is_none(), "ranges of the cluster (network.clusterCIDRs)"),
    ]
    .into_iter()
    .filter_map(|(missing, what)| missing.then_some(what))
    .collect();
    if !unknown.is_empty() {
        assumed.push(format!(
            "not known without a cluster unless the AiSecurityPolicy names them: {}; the controller detects them and adds \
             the rules for them",
            unknown.join(", ")
        ));
    }
}
