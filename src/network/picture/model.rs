//! What there is to see, all of it, before anything is bundled or placed.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::stage::{Mode, NamespaceStage, Stage};
use crate::network::ports::{Interval, PortSet};
use crate::network::reach::{self, Analysis, Isolation, Provenance, Witness};
use crate::network::world::World;

/// Where doors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// AiWorkloads declare flows: those that are open.
    Declared,
    /// Nobody declares anything: what the policies allow between the pods there are.
    Allowed,
}

/// A room. The order is the one in which they are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// What may come in from outside of the stages.
    Sources,
    /// A stage.
    Stage(Stage),
    /// Namespaces of stage shared.
    Shared,
    /// Namespaces without a stage.
    Unstaged,
    /// Addresses.
    Outside,
}

impl Room {
    /// The room of a namespace.
    pub(super) fn of(world: &World, namespace: &str) -> Self {
        match world.stage_of(namespace) {
            Some(NamespaceStage::Shared) => Self::Shared,
            Some(stage) => stage.workload_stage().map_or(Self::Unstaged, Self::Stage),
            None => Self::Unstaged,
        }
    }
}

/// What stands together in a room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A namespace.
    Namespace(String),
    /// A namespace that does not exist yet.
    Later,
    /// No namespace: addresses.
    Addresses,
}

/// A workload, a service of the catalogue, a source or a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its room.
    pub room: Room,
    /// With whom.
    pub group: Group,
    /// Its name, unique among them.
    pub name: String,
}

/// One group of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The mode of a namespace with a stage.
    pub mode: Option<Mode>,
    /// What the analysis says of a namespace that holds workloads of a stage.
    pub verdict: Option<Isolation>,
    /// Names of the nodes, each with a word on what it is.
    pub nodes: BTreeMap<String, String>,
}

/// An open flow, or an allowed connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// Destination ports.
    pub ports: PortSet,
    /// What the ports are for, where not all of them are for the whole other end.
    pub remarks: BTreeSet<String>,
}

/// A forbidden path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where the pod is that connects.
    pub from: (Room, Group),
    /// Where the pod is that is reached.
    pub to: (Room, Group),
    /// The whole counterexample in a sentence, without the rules.
    pub sentence: String,
    /// What lets it out.
    pub out: Rule,
    /// What lets it in.
    pub into: Rule,
}

/// A rule to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The policy and the field, without the namespace.
    pub short: String,
    /// With the namespace, and with file, line and column where it was read from a file.
    pub full: String,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Where doors come from.
    pub basis: Basis,
    /// The rooms that hold anything.
    pub rooms: BTreeMap<Room, BTreeMap<Group, Place>>,
    /// From whom to whom.
    pub doors: BTreeMap<(Node, Node), Door>,
    /// At least one for each namespace with a hole; a path that two namespaces share is one hole.
    pub holes: Vec<Hole>,
    /// Declared flows that are not open, each counted where it was declared.
    pub closed: usize,
    /// What was assumed and what could not be seen, one line each.
    pub notes: Vec<String>,
}

/// Says where a rule is: given the policy (`namespace/name`) and the field (`egress[0].to[1]`), the policy with file,
/// line and column as far as they are known, and the field.
pub type Locate<'l> = &'l dyn Fn(&str, &str) -> String;

impl Picture {
    pub(super) fn new(basis: Basis, notes: &[String]) -> Self {
        Self {
            basis,
            rooms: BTreeMap::new(),
            doors: BTreeMap::new(),
            holes: Vec::new(),
            closed: 0,
            notes: notes.to_vec(),
        }
    }

    /// A group, made where it is missing.
    pub(super) fn place(&mut self, room: Room, group: Group) -> &mut Place {
        self.rooms.entry(room).or_default().entry(group).or_default()
    }

    /// Draws a node; `what` is a word on it.
    pub(super) fn draw(&mut self, node: &Node, what: &str) {
        let place = self.place(node.room, node.group.clone());
        place.nodes.entry(node.name.clone()).or_insert_with(|| what.to_owned());
    }

    /// Opens a door.
    pub(super) fn open(&mut self, from: Node, to: Node, ports: &PortSet, remark: Option<String>) {
        let door = self.doors.entry((from, to)).or_default();
        door.ports = door.ports.union(ports);
        door.remarks.extend(remark);
    }

    /// Every namespace with a stage, whether anybody is in it or not.
    pub(super) fn add_stages(&mut self, world: &World) {
        for namespace in world.namespaces.values().filter(|namespace| namespace.stage.is_some()) {
            let room = Room::of(world, &namespace.name);
            let place = self.place(room, Group::Namespace(namespace.name.clone()));
            place.mode = Some(namespace.mode);
        }
    }

    /// The verdicts, and the holes with both of their ends.
    pub(super) fn add_verdicts(&mut self, world: &World, analysis: &Analysis, locate: Locate<'_>) {
        for (name, verdict) in &analysis.namespaces {
            let room = Room::of(world, name);
            self.place(room, Group::Namespace(name.clone())).verdict = Some(verdict.clone());
            if let Isolation::PathExists(witness) = verdict {
                let hole = hole(world, witness, locate);
                // The same path is found from both of its ends, perhaps with other labels.
                let known = |other: &Hole| {
                    let ends = |hole: &Hole| (hole.from.clone(), hole.to.clone());
                    ends(other) == ends(&hole) && other.out == hole.out && other.into == hole.into
                };
                if !self.holes.iter().any(known) {
                    for (room, group) in [&hole.from, &hole.to] {
                        self.place(*room, group.clone());
                    }
                    self.holes.push(hole);
                }
            }
        }
    }
}

fn hole(world: &World, witness: &Witness, locate: Locate<'_>) -> Hole {
    let end = |end: &reach::End| match &end.namespace {
        reach::Place::Namespace(name) => (Room::of(world, name), Group::Namespace(name.clone())),
        reach::Place::Later(_) => (Room::Unstaged, Group::Later),
    };
    let ports = Interval {
        protocol: witness.protocol,
        first: witness.ports.0,
        last: witness.ports.1,
    };
    Hole {
        from: end(&witness.from),
        to: end(&witness.to),
        sentence: format!("a pod in {} can reach a pod in {} on {ports}", witness.from, witness.to),
        out: rule(&witness.egress, locate),
        into: rule(&witness.ingress, locate),
    }
}

fn rule(provenance: &Provenance, locate: Locate<'_>) -> Rule {
    if let Provenance::Rule { policy, field } = provenance {
        let name = policy.split_once('/').map_or(policy.as_str(), |(_, name)| name);
        Rule {
            short: format!("{name} {field}"),
            full: locate(policy, field),
        }
    } else {
        let said = provenance.to_string();
        Rule {
            short: said.clone(),
            full: said,
        }
    }
}
