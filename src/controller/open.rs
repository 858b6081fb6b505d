//! The list of workloads that exist in a namespace, as its annotation spells it: `default road-train face-id:EVD-02`.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::names;
use crate::compliance::Finding;
use crate::compliance::finding::Subject;
use crate::network::validate::{self, Verdict};
use crate::network::world::{WorkloadKey, World};
use crate::network::{policies, rules};

/// Names, each with the controls that keep a gate of it closed.
pub type Entries = BTreeMap<String, BTreeSet<String>>;

/// Reads the annotation.
pub fn read(text: &str) -> Entries {
    let entry = |entry: &str| {
        let (name, gates) = entry.split_once(':').unwrap_or((entry, ""));
        let gates = gates.split(',').filter(|gate| !gate.is_empty()).map(str::to_owned);
        (name.to_owned(), gates.collect())
    };
    text.split_whitespace().map(entry).collect()
}

/// Writes it. The list has an end: who is on it stays, whatever comes that sorts before.
pub fn write(wanted: &Entries, present: &Entries) -> String {
    let (stay, come): (Vec<_>, Vec<_>) = wanted.iter().partition(|(name, _)| present.contains_key(*name));
    let kept: BTreeMap<_, _> = stay.into_iter().chain(come).take(names::OPEN_LIMIT).collect();
    let text = kept.into_iter().map(|(name, gates)| {
        if gates.is_empty() {
            name.clone()
        } else {
            format!("{name}:{}", gates.iter().cloned().collect::<Vec<_>>().join(","))
        }
    });
    text.collect::<Vec<_>>().join(" ")
}

/// The workloads that exist in a namespace, and after a colon the controls that keep a gate closed. One that is accepted
/// waits for its policy to be `placed`.
pub fn wanted(world: &World, namespace: &str, placed: impl Fn(&str) -> bool) -> Entries {
    let mut entries = Entries::new();
    for workload in world.workloads_in(namespace) {
        let name = &workload.key.name;
        match validate::workload(world, workload) {
            Verdict::Accepted if placed(&policies::workload_policy_name(name)) => {
                entries.entry(name.clone()).or_default();
            }
            Verdict::Accepted => {}
            Verdict::Refused(findings) => {
                let controls = findings.iter().map(|finding| finding.control().to_string());
                entries.entry(name.clone()).or_default().extend(controls);
            }
        }
    }
    entries
}

/// The list as it is once everything is applied.
pub fn once_applied(world: &World, namespace: &str) -> String {
    write(&wanted(world, namespace, |_| true), &Entries::new())
}

/// The refusal of a workload for which a full list has no room.
pub fn no_room(present: &Entries, workload: &WorkloadKey) -> Option<Finding> {
    let WorkloadKey { namespace, name } = workload;
    (present.len() >= names::OPEN_LIMIT && !present.contains_key(name)).then(|| {
        let message = format!(
            "namespace {namespace:?} holds {} AiWorkloads, as many as fit",
            names::OPEN_LIMIT
        );
        Finding::new(
            rules::NO_ROOM,
            Subject::namespaced("AiWorkload", namespace, name),
            message,
        )
        .with_fix("delete those that are not used, or create it in another namespace of the stage")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Entries {
        (0..count)
            .map(|number| (format!("w{number:04}"), BTreeSet::new()))
            .collect()
    }

    #[test]
    fn it_reads_what_it_wrote() {
        let text = "default face-id:EVD-02,EVD-03 road";
        assert_eq!(write(&read(text), &Entries::new()), text);
        assert_eq!(read(" "), Entries::new());
    }

    #[test]
    fn who_is_on_a_full_list_is_not_pushed_off_it() {
        let present = numbered(names::OPEN_LIMIT);
        let mut wanted = present.clone();
        wanted.insert("a".to_owned(), BTreeSet::new());
        assert_eq!(read(&write(&wanted, &present)), present);
        wanted.remove("w0000");
        assert!(read(&write(&wanted, &present)).contains_key("a"), "there is room again");
    }

    #[test]
    fn who_does_not_fit_is_refused_with_the_limit_and_the_fix() {
        let present = numbered(names::OPEN_LIMIT);
        assert_eq!(no_room(&present, &WorkloadKey::new("ns", "w0001")), None);
        assert_eq!(
            no_room(&numbered(names::OPEN_LIMIT - 1), &WorkloadKey::new("ns", "a")),
            None
        );
        let line = no_room(&present, &WorkloadKey::new("ns", "a"))
            .map(|finding| finding.line())
            .unwrap_or_default();
        assert!(
            line.contains("WKL-02/room") && line.contains("500") && line.contains("delete"),
            "{line}"
        );
    }
}
