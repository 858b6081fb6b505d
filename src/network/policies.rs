//! The NetworkPolicies to write. One default deny for each stage namespace, one allow for each workload, one for each
//! catalogue service in a shared namespace.
//!
//! NetworkPolicy only adds: nothing here can take away what a policy of somebody else allows. That is for
//! [`reach`](super::reach) to see.

mod object;
mod services;

use std::cell::LazyCell;
use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule};

use crate::api::names;
use crate::api::network::{CatalogueService, Protocol};
use crate::api::policy::Mesh;
use crate::api::stage::NamespaceStage;

pub(super) use self::object::in_workload;
pub use self::object::workload_of;
pub(super) use self::object::{Direction, object, peer, ports, selecting};
use super::flows::{Opening, Peer, Resolver};
use super::mesh;
use super::ports::PortSet;
use super::validate;
use super::world::{DnsAt, DnsPeer, Workload, WorkloadKey, World};

/// Everything that is wanted in a namespace, as if it were enforced, sorted by name; nothing without a stage.
pub fn namespace(world: &World, namespace: &str) -> Vec<NetworkPolicy> {
    in_namespace(&Resolver::new(world), namespace)
}

/// Everything that is wanted in every namespace, sorted by namespace and name. Cheaper than asking one by one.
pub fn all(world: &World) -> Vec<NetworkPolicy> {
    of(world, world.namespaces.keys().map(String::as_str))
}

/// The same for some namespaces, in their order.
pub(super) fn of<'n>(world: &World, namespaces: impl Iterator<Item = &'n str>) -> Vec<NetworkPolicy> {
    let resolver = Resolver::new(world);
    let services = LazyCell::new(|| services::by_namespace(&resolver));
    let mut policies = Vec::with_capacity(namespaces.size_hint().0);
    for name in namespaces {
        match world.stage_of(name) {
            None => {}
            Some(NamespaceStage::Shared) => {
                let first = policies.len();
                policies.push(deny(name, NamespaceStage::Shared));
                policies.extend(services.get(name).into_iter().flatten().cloned());
                sort(&mut policies[first..]);
            }
            Some(_) => policies.extend(in_namespace(&resolver, name)),
        }
    }
    policies
}

fn in_namespace(resolver: &Resolver<'_>, namespace: &str) -> Vec<NetworkPolicy> {
    let world = resolver.world();
    let Some(stage) = world.stage_of(namespace) else {
        return Vec::new();
    };
    let mut policies = vec![deny(namespace, stage)];
    if stage == NamespaceStage::Shared {
        policies.extend(services::by_namespace(resolver).remove(namespace).unwrap_or_default());
    } else {
        let dns = world.dns();
        let workloads = world.workloads_in(namespace);
        policies.extend(workloads.filter_map(|workload| allow(resolver, workload, &dns)));
    }
    sort(&mut policies);
    policies
}

fn sort(policies: &mut [NetworkPolicy]) {
    policies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
}

/// The default deny of a namespace: all pods, both directions; only what comes in where the stage is shared, because
/// shared services connect to the world outside.
pub fn deny(namespace: &str, stage: NamespaceStage) -> NetworkPolicy {
    let directions: &[Direction] = match stage {
        NamespaceStage::Training | NamespaceStage::Evaluation | NamespaceStage::Inference => {
            &[Direction::Ingress, Direction::Egress]
        }
        NamespaceStage::Shared => &[Direction::Ingress],
    };
    object(
        namespace,
        names::DENY_POLICY.to_owned(),
        selecting([]),
        directions,
        Vec::new(),
        Vec::new(),
    )
}

/// The allow of one workload; `None` when there is no such workload or it is refused.
pub fn workload(world: &World, key: &WorkloadKey) -> Option<NetworkPolicy> {
    allow(&Resolver::new(world), world.workloads.get(key)?, &world.dns())
}

/// The name of a workload's policy. Workloads have DNS labels for names, so none of these is that of the deny.
pub fn workload_policy_name(workload: &str) -> String {
    format!("{}{workload}", names::WORKLOAD_POLICY_PREFIX)
}

/// The policy of a service as if this workload were the only one that uses it.
pub(super) fn service(world: &World, entry: &CatalogueService, user: &WorkloadKey) -> Option<NetworkPolicy> {
    services::ingress(entry, world.policy.network.mesh, 0, &[user])
}

/// The name of a service's policy. Further policies of the same service end in `.2`, `.3`: an entry's name has no dot, so
/// none of them is the first policy of another entry.
pub(super) fn service_policy_name(entry: &str, index: usize) -> String {
    let number = if index == 0 {
        String::new()
    } else {
        format!(".{}", index + 1)
    };
    format!("{}{entry}{number}", names::SERVICE_POLICY_PREFIX)
}

/// The workloads that a policy of ours names as peers.
pub fn named(policy: &NetworkPolicy) -> BTreeSet<WorkloadKey> {
    let spec = policy.spec.as_ref();
    let ingress = spec.and_then(|spec| spec.ingress.as_ref()).into_iter().flatten();
    let egress = spec.and_then(|spec| spec.egress.as_ref()).into_iter().flatten();
    let peers = ingress.map(|rule| &rule.from).chain(egress.map(|rule| &rule.to));
    peers.flatten().flatten().filter_map(workload_of).collect()
}

/// The same policy without a rule: how an allow is withdrawn. Deleting it at once would leave pods open for a moment on
/// CNIs that program deletions late, and would leave nothing to see of what happened.
#[must_use]
pub fn emptied(policy: &NetworkPolicy) -> NetworkPolicy {
    let mut emptied = policy.clone();
    if let Some(spec) = &mut emptied.spec {
        spec.ingress = Some(Vec::new());
        spec.egress = Some(Vec::new());
    }
    emptied
}

fn allow(resolver: &Resolver<'_>, workload: &Workload, dns: &[DnsPeer]) -> Option<NetworkPolicy> {
    if !validate::accepts(resolver.world(), workload) {
        return None;
    }
    let WorkloadKey { namespace, name } = &workload.key;
    let directions = &[Direction::Ingress, Direction::Egress];
    if workload.quarantined {
        let (ingress, egress) = (Vec::new(), Vec::new());
        let policy = workload_policy_name(name);
        return Some(object(
            namespace,
            policy,
            in_workload(name),
            directions,
            ingress,
            egress,
        ));
    }
    let [out, into] = resolver.openings(workload);

    let mut ingress = vec![NetworkPolicyIngressRule {
        from: Some(vec![object::own_pods(name)]),
        ports: Some(Vec::new()),
    }];
    let mesh = resolver.world().policy.network.mesh;
    ingress.extend(into.iter().map(|opening| NetworkPolicyIngressRule {
        from: Some(peers(opening)),
        ports: Some(ports(&needed(mesh, opening))),
    }));
    let probes: Vec<_> = mesh::probes(mesh)
        .into_iter()
        .map(|cidr| {
            peer(&Peer::Network {
                cidr,
                except: Vec::new(),
            })
        })
        .collect();
    if !probes.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: Some(probes),
            ports: Some(Vec::new()),
        });
    }

    let mut egress = vec![NetworkPolicyEgressRule {
        to: Some(vec![object::own_pods(name)]),
        ports: Some(Vec::new()),
    }];
    egress.extend(dns_rules(dns));
    egress.extend(out.iter().map(|opening| NetworkPolicyEgressRule {
        to: Some(peers(opening)),
        ports: Some(ports(&needed(mesh, opening))),
    }));

    let name = workload_policy_name(name);
    Some(object(
        namespace,
        name,
        in_workload(&workload.key.name),
        directions,
        ingress,
        egress,
    ))
}

/// The ports of the rule that an opening is rendered as.
pub(super) fn needed(mesh: Mesh, opening: &Opening) -> PortSet {
    let addresses = opening.peers.iter().all(|peer| matches!(peer, Peer::Network { .. }));
    if addresses {
        opening.ports.clone()
    } else {
        mesh::through(mesh, &opening.ports)
    }
}

/// The peers of the rule that an opening is rendered as.
pub(super) fn peers(opening: &Opening) -> Vec<k8s_openapi::api::networking::v1::NetworkPolicyPeer> {
    opening.peers.iter().map(peer).collect()
}

/// DNS to the servers that were detected or named. "Port 53 to anywhere" would be a path to every stage.
fn dns_rules(dns: &[DnsPeer]) -> Vec<NetworkPolicyEgressRule> {
    let mut servers: Vec<(PortSet, Vec<Peer>)> = dns
        .iter()
        .map(|server| (dns_ports(server), dns_peers(server)))
        .filter(|(ports, peers)| !ports.is_empty() && !peers.is_empty())
        .collect();
    servers.sort();
    servers.dedup();
    servers
        .iter()
        .map(|(numbers, peers)| NetworkPolicyEgressRule {
            to: Some(peers.iter().map(peer).collect()),
            ports: Some(ports(numbers)),
        })
        .collect()
}

/// The ports of DNS servers, over both protocols.
pub(super) fn dns_ports(server: &DnsPeer) -> PortSet {
    let both = |port: &u16| [(Protocol::TCP, *port), (Protocol::UDP, *port)];
    PortSet::single(server.ports.iter().flat_map(both))
}

fn dns_peers(server: &DnsPeer) -> Vec<Peer> {
    match &server.at {
        DnsAt::Pods { namespace, labels } => vec![Peer::Pods {
            namespace: namespace.clone(),
            labels: labels.clone(),
        }],
        DnsAt::Addresses(networks) => {
            let network = |cidr: &ipnet::IpNet| Peer::Network {
                cidr: cidr.trunc(),
                except: Vec::new(),
            };
            let mut peers: Vec<Peer> = networks.iter().map(network).collect();
            peers.sort();
            peers.dedup();
            peers
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests;
