//! The invariants, looked at from outside: raw etcd, what every API server runs with, what is on every disk.

use std::collections::{BTreeMap, BTreeSet};

use cloison::encryption::rotation::{Action, Configuration, Under};

use super::crew::{Crew, ESCROW};
use super::world::Server;

/// What is broken, if anything; empty is good.
pub fn broken(crew: &Crew) -> Vec<String> {
    let mut broken = Vec::new();
    let world = &crew.world;
    // A process may end at any time and start with what is on the disk.
    let mut readers: Vec<(String, &Configuration)> = Vec::new();
    let mut writers: Vec<(String, &Configuration)> = Vec::new();
    for (node, server) in &world.servers {
        if server.up {
            readers.push((format!("{node}, running"), server.configuration()));
            writers.push((format!("{node}, running"), server.configuration()));
        }
        if let Some(file) = world.disks.get(node) {
            readers.push((format!("{node}, on disk"), &file.configuration));
        }
    }
    let stored: BTreeSet<&Under> = world.etcd.readable().map(|(_, under)| under).collect();
    for (who, configuration) in &readers {
        for under in stored.difference(&configuration.read.iter().collect()) {
            broken.push(format!("I1: {who} cannot read a value under {under}"));
        }
        for (writer, writes) in &writers {
            if !configuration.read.contains(&writes.write) {
                broken.push(format!(
                    "I2: {writer} writes under {}, {who} cannot read it",
                    writes.write
                ));
            }
        }
    }
    broken.extend(ids(crew));
    broken.extend(durable(crew));
    broken
}

/// I3.
fn ids(crew: &Crew) -> Option<String> {
    let ids: Vec<u64> = crew.ring.keys.iter().map(|key| key.id).collect();
    let names: BTreeSet<_> = crew.ring.keys.iter().map(|key| &key.name).collect();
    let rising = ids.is_sorted_by(|a, b| a < b) && ids.last().is_none_or(|last| *last <= crew.ring.last_id);
    (!rising || names.len() != ids.len()).then(|| format!("I3: {ids:?}"))
}

/// I4: what writes is sealed for all that were there when it was made, and on their disks.
fn durable(crew: &Crew) -> Vec<String> {
    let mut broken = Vec::new();
    for (node, server) in crew.world.servers.iter().filter(|(_, server)| server.up) {
        let Under::Key(name) = &server.configuration().write else {
            continue;
        };
        let Some(key) = crew.ring.keys.iter().find(|key| key.name == *name) else {
            broken.push(format!("I4: {node} writes under {name}, which is not in the ring"));
            continue;
        };
        if !key.sealed_for.contains(ESCROW) {
            broken.push(format!("I4: {node} writes under {name}, which is not in escrow"));
        }
        let member = |node: &String| {
            crew.ring
                .members
                .get(node)
                .is_some_and(|who| key.sealed_for.contains(who))
        };
        for (other, agent) in crew.agents.iter().filter(|(other, _)| member(other)) {
            if agent.sealed_id < key.id {
                broken.push(format!(
                    "I4: {node} writes under {name}, which is not on the disk of {other}"
                ));
            }
        }
    }
    broken
}

/// I5, I6 and I7, of one decision just taken.
pub fn wrong_decision(crew: &Crew, before: &BTreeMap<String, Configuration>) -> Option<String> {
    let decision = crew.last.as_ref()?;
    match &decision.action {
        Action::Retire(target) => {
            let dropped: BTreeSet<&Under> = before
                .values()
                .flat_map(|it| &it.read)
                .filter(|it| !target.read.contains(*it))
                .collect();
            let stored = crew.world.etcd.readable().find(|(_, under)| dropped.contains(under));
            if let Some((object, under)) = stored {
                return Some(format!("I5: {object} is under {under}, which is dropped"));
            }
            let up = crew.world.servers.values().filter(|server| server.up);
            let flying = up
                .flat_map(|server| &server.in_flight)
                .find(|(_, _, under)| dropped.contains(under));
            flying.map(|(_, object, under)| format!("I5: {object} is being written under {under}, which is dropped"))
        }
        Action::WriteConfig(target) => {
            let lost = before
                .values()
                .flat_map(|it| &it.read)
                .find(|under| !target.read.contains(*under));
            lost.map(|under| format!("I5: {under} is dropped without a proof"))
        }
        Action::Destroy(ids) if crew.wish.retention.is_none() => Some(format!("I6: {ids:?} would be destroyed")),
        Action::Mint(..) => {
            let newest = crew
                .ring
                .keys
                .iter()
                .filter(|key| key.retired.is_none())
                .max_by_key(|key| key.id)?;
            let under = Under::Key(newest.name.clone());
            let running = || {
                crew.world
                    .servers
                    .values()
                    .filter(|server| server.up)
                    .map(Server::configuration)
            };
            let abandoned = crew.wish.abandoned.contains(&newest.id);
            let in_flight = running().any(|it| it.write == under) && running().any(|it| it.read.len() > 1);
            (in_flight && !abandoned).then(|| format!("I7: another key while {under} is on its way"))
        }
        _ => None,
    }
}
