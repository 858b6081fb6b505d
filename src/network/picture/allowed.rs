//! The picture of pods without AiWorkloads: doors are the connections that the policies allow.

use std::collections::BTreeMap;

use super::model::{Basis, Group, Locate, Node, Picture, Room};
use crate::network::ports::PortSet;
use crate::network::reach::Analysis;
use crate::network::reach::concrete::{AddressRange, Endpoint, Snapshot};
use crate::network::world::World;

/// Addresses are one end, however many ranges the policies tell apart.
const ADDRESSES: &str = "addresses outside";

/// All owners of pods, every allowed connection between two of them or with addresses outside, every hole.
pub fn allowed(
    world: &World,
    analysis: &Analysis,
    snapshot: &Snapshot,
    connections: &BTreeMap<(Endpoint, Endpoint), PortSet>,
    notes: &[String],
    locate: Locate<'_>,
) -> Picture {
    let mut picture = Picture::new(Basis::Allowed, notes);
    picture.add_stages(world);
    for pod in &snapshot.pods {
        let (kind, name) = &pod.owner;
        let what = if pod.host_network { "on its node's network" } else { "" };
        picture.draw(&owner(world, &pod.namespace, name, kind), what);
    }
    for ((from, to), ports) in connections {
        let [(from, out), (to, into)] =
            [(from, Room::Sources), (to, Room::Outside)].map(|(end, side)| node(world, end, side));
        let range = out
            .or(into)
            .map(|range| format!("{}-{}: {ports}", range.first, range.last));
        for end in [&from, &to] {
            picture.draw(end, "");
        }
        picture.open(from, to, ports, range);
    }
    picture.add_verdicts(world, analysis, locate);
    picture
}

/// One end of a connection; `side` is the room of addresses.
fn node(world: &World, end: &Endpoint, side: Room) -> (Node, Option<AddressRange>) {
    match end {
        Endpoint::Workload { namespace, name, kind } => (owner(world, namespace, name, kind), None),
        Endpoint::Addresses(range) => {
            let node = Node {
                room: side,
                group: Group::Addresses,
                name: ADDRESSES.to_owned(),
            };
            (node, Some(*range))
        }
    }
}

/// As `connectivity` spells it: an owner of another kind may have the same name.
fn owner(world: &World, namespace: &str, name: &str, kind: &str) -> Node {
    Node {
        room: Room::of(world, namespace),
        group: Group::Namespace(namespace.to_owned()),
        name: format!("{name}[{kind}]"),
    }
}
