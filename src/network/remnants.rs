//! Workloads of which only the policy is left. Whoever starts anew never saw what their authors declared; what policies
//! of ours say of them is read back, so that the rules of peers and of services go on naming them: absence never cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::drift;
use super::flows::{KUBERNETES_API, Opening, Resolver};
use super::policies;
use super::world::{Workload, WorkloadKey, World};
use crate::api::names;
use crate::api::network::{AcceptFrom, ConnectTo, Port, Protocol, WorkloadRef};
use crate::api::stage::NamespaceStage;
use crate::api::text::DnsLabel;
use crate::api::workload::{Runtime, WorkloadNetwork};

/// Every workload that has a policy of ours and is not in the world, with the flows that policies of ours give it.
pub fn find(world: &World, policies: &[Arc<NetworkPolicy>]) -> Vec<Workload> {
    let ours: Vec<&NetworkPolicy> = policies
        .iter()
        .map(AsRef::as_ref)
        .filter(|p| drift::is_ours(&p.metadata))
        .collect();
    let mut found: BTreeMap<WorkloadKey, Workload> = BTreeMap::new();
    for policy in &ours {
        if let Some(workload) = owner(policy).and_then(|key| nameless(world, key)) {
            found.insert(workload.key.clone(), workload);
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    for policy in &ours {
        named(policy, &mut found);
    }
    for policy in &ours {
        if let Some(workload) = owner(policy).and_then(|key| found.get_mut(&key)) {
            catalogued(world, policy, workload);
        }
    }
    found.into_values().collect()
}

/// The workload whose policy this is.
fn owner(policy: &NetworkPolicy) -> Option<WorkloadKey> {
    let name = policy
        .metadata
        .name
        .as_deref()?
        .strip_prefix(names::WORKLOAD_POLICY_PREFIX)?;
    Some(WorkloadKey::new(policy.metadata.namespace.as_deref()?, name))
}

/// One that is not in the world, without a flow; `None` where it is, or where no workload can be.
fn nameless(world: &World, key: WorkloadKey) -> Option<Workload> {
    let stage = world
        .stage_of(&key.namespace)
        .and_then(NamespaceStage::workload_stage)?;
    (!world.workloads.contains_key(&key)).then(|| Workload {
        key,
        stage,
        runtime: Runtime::Generic,
        network: Some(WorkloadNetwork::default()),
        terminating: true,
        quarantined: false,
    })
}

/// Adds what the policy of a peer or of a service says of them.
fn named(policy: &NetworkPolicy, found: &mut BTreeMap<WorkloadKey, Workload>) {
    let Some(name) = policy.metadata.name.as_deref() else {
        return;
    };
    let service = name
        .strip_prefix(names::SERVICE_POLICY_PREFIX)
        .map(|entry| entry.split('.').next().unwrap_or(entry));
    let peer = owner(policy);
    for rule in rules(policy) {
        for key in rule.peers.iter().filter_map(policies::workload_of) {
            let Some(workload) = found.get_mut(&key) else { continue };
            match (service, &peer, rule.ingress) {
                (Some(entry), _, true) => connect(workload, service_flow(entry)),
                (None, Some(peer), true) => connect(
                    workload,
                    ConnectTo {
                        workload: Some(reference(peer)),
                        ports: Some(written(rule.ports)),
                        ..ConnectTo::default()
                    },
                ),
                (None, Some(peer), false) => accept(
                    workload,
                    AcceptFrom {
                        workload: Some(reference(peer)),
                        ports: Some(written(rule.ports)),
                        ..AcceptFrom::default()
                    },
                ),
                _ => {}
            }
        }
    }
}

/// Adds the services and sources of the policy that the workload's own policy opens.
fn catalogued(world: &World, policy: &NetworkPolicy, workload: &mut Workload) {
    let services = world
        .services()
        .iter()
        .map(|entry| &*entry.name)
        .chain([KUBERNETES_API]);
    let services = services.map(service_flow);
    let sources = world
        .sources()
        .iter()
        .map(|entry| source_flow(&entry.name, every_port()));
    let everything = Workload {
        network: Some(WorkloadNetwork {
            connect_to: Some(services.collect()),
            accept_from: Some(sources.collect()),
            metrics_ports: None,
        }),
        ..workload.clone()
    };
    let [egress, ingress] = Resolver::new(world).openings(&everything);
    let rules = rules(policy);
    let opens = |opening: &Opening, ingress: bool| {
        let peers = policies::peers(opening);
        let same = |rule: &&Rule<'_>| {
            let pairs = || rule.peers.iter().zip(&peers);
            rule.ingress == ingress && rule.peers.len() == peers.len() && pairs().all(|(a, b)| drift::same_peer(a, b))
        };
        rules.iter().find(same).map(|rule| rule.ports)
    };
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for opening in &egress {
        if let (Some(name), Some(_)) = (opening.name.strip_prefix("service "), opens(opening, false))
            && known.insert(name)
        {
            connect(workload, service_flow(name));
        }
    }
    for opening in &ingress {
        if let (Some(name), Some(ports)) = (opening.name.strip_prefix("source "), opens(opening, true)) {
            accept(workload, source_flow(name, written(ports)));
        }
    }
}

/// A rule of either direction.
struct Rule<'p> {
    ingress: bool,
    peers: &'p [NetworkPolicyPeer],
    ports: &'p [NetworkPolicyPort],
}

fn rules(policy: &NetworkPolicy) -> Vec<Rule<'_>> {
    let spec = policy.spec.as_ref();
    let ingress = spec.and_then(|spec| spec.ingress.as_deref()).unwrap_or_default().iter();
    let egress = spec.and_then(|spec| spec.egress.as_deref()).unwrap_or_default().iter();
    let ingress = ingress.map(|rule| Rule {
        ingress: true,
        peers: rule.from.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
    });
    let egress = egress.map(|rule| Rule {
        ingress: false,
        peers: rule.to.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
    });
    ingress.chain(egress).collect()
}

fn network(workload: &mut Workload) -> &mut WorkloadNetwork {
    workload.network.get_or_insert_default()
}

fn connect(workload: &mut Workload, flow: ConnectTo) {
    let flows = network(workload).connect_to.get_or_insert_default();
    if !flows.contains(&flow) {
        flows.push(flow);
    }
}

fn accept(workload: &mut Workload, flow: AcceptFrom) {
    let flows = network(workload).accept_from.get_or_insert_default();
    if !flows.contains(&flow) {
        flows.push(flow);
    }
}

fn service_flow(name: &str) -> ConnectTo {
    ConnectTo {
        service: Some(name.into()),
        ..ConnectTo::default()
    }
}

fn source_flow(name: &str, ports: Vec<Port>) -> AcceptFrom {
    AcceptFrom {
        source: Some(name.into()),
        ports: Some(ports),
        ..AcceptFrom::default()
    }
}

fn reference(key: &WorkloadKey) -> WorkloadRef {
    WorkloadRef {
        name: DnsLabel(key.name.clone()),
        namespace: Some(DnsLabel(key.namespace.clone())),
    }
}

/// The ports of a stored rule as an author would write them.
fn written(ports: &[NetworkPolicyPort]) -> Vec<Port> {
    if ports.is_empty() {
        return every_port();
    }
    let port = |port: &NetworkPolicyPort| {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => Protocol::UDP,
            Some("SCTP") => Protocol::SCTP,
            _ => Protocol::TCP,
        };
        match &port.port {
            None => Some(whole(protocol)),
            Some(IntOrString::Int(number)) => Some(Port {
                port: *number,
                end_port: port.end_port,
                protocol: Some(protocol),
            }),
            // Ours are numbers.
            Some(IntOrString::String(_)) => None,
        }
    };
    ports.iter().filter_map(port).collect()
}

fn every_port() -> Vec<Port> {
    [Protocol::TCP, Protocol::UDP, Protocol::SCTP].map(whole).to_vec()
}

const fn whole(protocol: Protocol) -> Port {
    Port {
        port: 1,
        end_port: Some(65_535),
        protocol: Some(protocol),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use crate::network::testkit;

    /// Two workloads that talk, a service that both use, a gateway, the API servers; and all policies of it.
    fn whole_world() -> World {
        let mut world = testkit::world();
        world
            .stage("infer", NamespaceStage::Inference)
            .stage("common", NamespaceStage::Shared)
            .plain("gateways", "")
            .policy(
                "{services: [{name: registry, to: {namespace: common, podLabels: {app: registry}}, ports: [{port: 5000}]}], \
                 sources: [{name: gateway, kind: Gateway, from: {namespace: gateways}}]}",
            )
            .workload(
                "infer",
                "front",
                Runtime::KServe,
                "{connectTo: [{workload: {name: model}}, {service: registry}], acceptFrom: [{source: gateway}]}",
            )
            .workload(
                "infer",
                "model",
                Runtime::Generic,
                "{acceptFrom: [{workload: {name: front}, ports: [{port: 8080}]}], \
                 connectTo: [{service: registry}, {service: kubernetes-api}]}",
            );
        world
    }

    fn stored(world: &World) -> Vec<Arc<NetworkPolicy>> {
        let bare = |policy: &NetworkPolicy| {
            let text = serde_json::to_string(policy).unwrap();
            serde_json::from_str(&text.replace(r#","except":[]"#, "")).unwrap()
        };
        policies::all(world).iter().map(bare).map(Arc::new).collect()
    }

    #[test]
    fn what_is_read_back_renders_the_same_policies() {
        let world = whole_world();
        let stored = stored(&world);
        assert_eq!(find(&world, &stored), []);
        for lost in [["front"].as_slice(), &["model"], &["front", "model"]] {
            let mut rest = world.clone();
            rest.workloads.retain(|key, _| !lost.contains(&key.name.as_str()));
            let left = find(&rest, &stored);
            let names: Vec<&str> = left.iter().map(|workload| workload.key.name.as_str()).collect();
            assert_eq!(names, lost);
            rest.workloads
                .extend(left.into_iter().map(|workload| (workload.key.clone(), workload)));
            assert_eq!(policies::all(&rest), policies::all(&world), "without {lost:?}");
        }
    }

    #[test]
    fn others_objects_and_namespaces_without_a_stage_hold_none() {
        let mut world = whole_world();
        let mut stored = stored(&world);
        world.workloads.clear();
        for policy in stored.iter_mut().map(Arc::make_mut) {
            if policy.metadata.name.as_deref() == Some("cloison-wl-front") {
                policy.metadata.labels = None;
            }
        }
        let names = |world: &World| -> Vec<String> {
            find(world, &stored)
                .into_iter()
                .map(|workload| workload.key.name)
                .collect()
        };
        assert_eq!(names(&world), ["model"]);
        world.plain("infer", "");
        assert_eq!(names(&world), [""; 0]);
    }
}
