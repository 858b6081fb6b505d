//! What is wrong whatever the rotation does: values that nobody can read.

use std::collections::BTreeSet;

use super::blocked::Blocked;
use super::observation::Under;
use super::view::View;

/// Archived keys that are needed after all: all of them where values were met that nothing fits, else those that raw
/// etcd shows.
pub fn strays(view: &View<'_>) -> BTreeSet<Under> {
    let archived = view.archived();
    if view.seen.records.strays() {
        return archived;
    }
    let Some(proof) = &view.seen.latest_proof else {
        return BTreeSet::new();
    };
    let stored = proof
        .values
        .values()
        .flatten()
        .filter(|(_, count)| **count > 0)
        .map(|(under, _)| under);
    stored.filter(|under| archived.contains(*under)).cloned().collect()
}

/// What is wrong now, whatever is done about it.
pub fn degraded(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    if view.seen.records.strays() {
        wrong.push("API servers met values that no key of their configuration fits".to_owned());
    }
    let read = view.read_anywhere();
    let values = view.seen.latest_proof.iter().flat_map(|proof| &proof.values);
    for (resource, values) in values {
        for (under, count) in values
            .iter()
            .filter(|(under, count)| **count > 0 && !read.contains(*under))
        {
            wrong.push(match under {
                Under::Identity => {
                    format!("{count} values of {resource} are stored in plaintext, and no API server serves them")
                }
                under @ Under::Key(_) => Blocked::Unreadable(resource.clone(), under.clone(), *count).to_string(),
            });
        }
    }
    for node in view.nodes.iter().filter(|node| node.server.is_some()) {
        let Some(running) = &node.running else { continue };
        let blind = view.nodes.iter().find(|other| {
            let configuration = other.running.as_ref().filter(|_| other.server.is_some());
            configuration.is_some_and(|configuration| !configuration.read.contains(&running.write))
        });
        if let Some(other) = blind {
            wrong.push(format!(
                "Node/{} writes under {}, which the API server of Node/{} cannot read",
                node.name, running.write, other.name
            ));
        }
    }
    wrong
}
