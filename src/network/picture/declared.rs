//! The picture of a world with AiWorkloads: doors are the flows that they declare and that are open.

use super::model::{Basis, Group, Locate, Node, Picture, Room};
use crate::api::network::{CatalogueService, Source};
use crate::api::workload::FlowState;
use crate::network::flows::{KUBERNETES_API, Opening, Peer, Resolver, service_ports};
use crate::network::reach::Analysis;
use crate::network::world::{WorkloadKey, World};

/// All workloads, the whole catalogue, every open flow, every hole. DNS and traffic inside a workload are open for
/// everybody and left out.
pub fn declared(world: &World, analysis: &Analysis, notes: &[String], locate: Locate<'_>) -> Picture {
    let mut picture = Picture::new(Basis::Declared, notes);
    picture.add_stages(world);
    for entry in world.services() {
        let ports = service_ports(entry).map(|ports| ports.to_string()).unwrap_or_default();
        let node = service(world, entry);
        // A service inside of a stage is no service of the catalogue: flows to it are refused.
        if !matches!(node.room, Room::Stage(_)) {
            picture.draw(&node, &ports);
        }
    }
    for entry in world.sources() {
        picture.draw(&source(entry), &format!("{:?}", entry.kind));
    }
    for key in world.workloads.keys() {
        let what = world
            .workloads
            .get(key)
            .map(|workload| format!("{:?}", workload.runtime));
        picture.draw(&workload(world, key), &what.unwrap_or_default());
    }
    let resolver = Resolver::new(world);
    for (key, found) in &world.workloads {
        let flows = resolver.resolve(found);
        let own = workload(world, key);
        for opening in &flows.egress {
            for node in ends(world, opening, Room::Outside) {
                picture.draw(&node, "");
                picture.open(own.clone(), node, &opening.ports, None);
            }
        }
        for opening in &flows.ingress {
            for node in ends(world, opening, Room::Sources) {
                picture.draw(&node, "");
                picture.open(node, own.clone(), &opening.ports, None);
            }
        }
        let closed = flows.statuses.iter().filter(|flow| flow.state != FlowState::Open);
        picture.closed += closed.count();
    }
    picture.add_verdicts(world, analysis, locate);
    picture
}

/// The other ends of an open flow. Catalogue entries are one end each, however many addresses they have.
fn ends(world: &World, opening: &Opening, addresses: Room) -> Vec<Node> {
    if let Some(name) = opening.name.strip_prefix("service ") {
        // Of two with one name, which no API server lets by, the last is the one that is meant.
        let entry = world.services().iter().rev().find(|entry| &*entry.name == name);
        return vec![entry.map_or_else(|| outside(addresses, KUBERNETES_API), |entry| service(world, entry))];
    }
    if let Some(name) = opening.name.strip_prefix("source ") {
        let entry = world.sources().iter().rev().find(|entry| &*entry.name == name);
        return entry.map(source).into_iter().collect();
    }
    let end = |peer: &Peer| match peer {
        Peer::Workload(key) => workload(world, key),
        Peer::Pods { namespace, .. } => Node {
            room: Room::of(world, namespace),
            group: Group::Namespace(namespace.clone()),
            name: opening.name.clone(),
        },
        Peer::Network { cidr, .. } => outside(addresses, &cidr.to_string()),
    };
    opening.peers.iter().map(end).collect()
}

fn workload(world: &World, key: &WorkloadKey) -> Node {
    Node {
        room: Room::of(world, &key.namespace),
        group: Group::Namespace(key.namespace.clone()),
        name: key.name.clone(),
    }
}

fn service(world: &World, entry: &CatalogueService) -> Node {
    match entry.to.namespace.as_deref() {
        Some(namespace) => Node {
            room: Room::of(world, namespace),
            group: Group::Namespace(namespace.to_owned()),
            name: entry.name.to_string(),
        },
        None => outside(Room::Outside, &entry.name),
    }
}

fn source(entry: &Source) -> Node {
    let namespace = entry.from.namespace.as_ref();
    Node {
        room: Room::Sources,
        group: namespace.map_or(Group::Addresses, |namespace| Group::Namespace(namespace.to_string())),
        name: entry.name.to_string(),
    }
}

fn outside(room: Room, name: &str) -> Node {
    Node {
        room,
        group: Group::Addresses,
        name: name.to_owned(),
    }
}
