//! The far side of catalogue services: what may come into a shared namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule};

use crate::api::network::CatalogueService;
use crate::api::policy::Mesh;
use crate::network::flows::{Peer, Resolver, service_ports};
use crate::network::mesh;
use crate::network::world::{WorkloadKey, owned};

use super::object::{Direction, object, peer, ports, selecting};
use super::service_policy_name;

/// Most peers of one policy: an object of 400 peers has about 100 KiB, far from what etcd refuses.
const PEERS: usize = 400;

/// The policies of all shared namespaces, from one pass over the workloads.
pub(super) fn by_namespace<'w>(resolver: &Resolver<'w>) -> BTreeMap<&'w str, Vec<NetworkPolicy>> {
    let world = resolver.world();
    let mut users: BTreeMap<&str, Vec<&WorkloadKey>> = BTreeMap::new();
    for (key, workload) in &world.workloads {
        for entry in resolver.shared_services(workload) {
            users.entry(&entry.name).or_default().push(key);
        }
    }
    let mut policies: BTreeMap<&str, Vec<NetworkPolicy>> = BTreeMap::new();
    for entry in resolver.shared_entries() {
        let (Some(users), Some(namespace)) = (users.remove(&*entry.name), entry.to.namespace.as_deref()) else {
            continue;
        };
        policies.entry(namespace).or_default().extend(
            users
                .chunks(PEERS)
                .enumerate()
                .filter_map(|(index, users)| ingress(entry, world.policy.network.mesh, index, users)),
        );
    }
    policies
}

/// What may come to one service.
pub(super) fn ingress(
    entry: &CatalogueService,
    mesh: Mesh,
    index: usize,
    users: &[&WorkloadKey],
) -> Option<NetworkPolicy> {
    let rule = NetworkPolicyIngressRule {
        from: Some(users.iter().map(|key| peer(&Peer::Workload((*key).clone()))).collect()),
        ports: Some(ports(&mesh::through(mesh, &service_ports(entry).ok()?))),
    };
    Some(object(
        entry.to.namespace.as_deref()?,
        service_policy_name(&entry.name, index),
        selecting(owned(entry.to.pod_labels.as_ref())),
        &[Direction::Ingress],
        vec![rule],
        Vec::new(),
    ))
}
