//! What the picture says in words.

use std::collections::{BTreeMap, BTreeSet};

use super::bundle::Way;
use super::{Chip, Kind, MOST_CHIPS, MOST_HOLES, MOST_LINES, some};
use crate::api::stage::{Mode, Stage};
use crate::network::picture::model::{Basis, Group, Node, Picture, Place, Room};
use crate::network::picture::text::{clean, count};
use crate::network::reach::Isolation;

pub(super) const fn title(room: Room) -> &'static str {
    match room {
        Room::Sources => "May come in",
        Room::Stage(Stage::Training) => "Training",
        Room::Stage(Stage::Evaluation) => "Evaluation",
        Room::Stage(Stage::Inference) => "Inference",
        Room::Shared => "Shared services",
        Room::Unstaged => "Without a stage",
        Room::Outside => "Outside",
    }
}

/// What the nodes of a room are.
pub(super) const fn noun(room: Room, basis: Basis) -> &'static str {
    match (room, basis) {
        (Room::Sources, _) => "source",
        (Room::Stage(_), _) | (Room::Shared | Room::Unstaged, Basis::Allowed) => "workload",
        (Room::Shared | Room::Unstaged, Basis::Declared) => "service",
        (Room::Outside, _) => "destination",
    }
}

pub(super) fn doors(basis: Basis, number: usize) -> String {
    count(
        number,
        match basis {
            Basis::Declared => "flow",
            Basis::Allowed => "connection",
        },
    )
}

pub(super) fn group_title(group: &Group) -> String {
    match group {
        Group::Namespace(name) => clean(name),
        Group::Later => "a namespace created later".to_owned(),
        Group::Addresses => "addresses".to_owned(),
    }
}

pub(super) fn room_detail(room: Room, basis: Basis, groups: &BTreeMap<Group, Place>) -> String {
    let namespaces = groups
        .keys()
        .filter(|group| matches!(group, Group::Namespace(_)))
        .count();
    let nodes = groups.values().map(|place| place.nodes.len()).sum();
    let nodes = count(nodes, noun(room, basis));
    if namespaces == 0 {
        nodes
    } else {
        format!("{}, {nodes}", count(namespaces, "namespace"))
    }
}

/// The mode and the verdict of a namespace.
pub(super) fn status(place: &Place) -> String {
    let mode = place.mode.map(Mode::label);
    let verdict = match &place.verdict {
        None => None,
        Some(Isolation::Isolated) if is_planned(place) => Some("no forbidden path, once enforced".to_owned()),
        Some(Isolation::Isolated) => Some("no forbidden path".to_owned()),
        Some(Isolation::Unknown { reason, .. }) => Some(format!("UNKNOWN: {reason}")),
        Some(Isolation::PathExists(_)) => Some("HOLE: a forbidden path".to_owned()),
    };
    let parts: Vec<String> = mode.map(str::to_owned).into_iter().chain(verdict).collect();
    parts.join(" · ")
}

/// How many verdicts there are of each kind.
pub(super) fn headline(picture: &Picture) -> String {
    let places: Vec<&Place> = picture.rooms.values().flat_map(BTreeMap::values).collect();
    let number = |wanted: fn(&Place, &Isolation) -> bool| {
        let judged = places
            .iter()
            .filter_map(|place| Some((*place, place.verdict.as_ref()?)));
        judged.filter(|(place, verdict)| wanted(place, verdict)).count()
    };
    let all = number(|_, _| true);
    if all == 0 {
        return "No namespace has a stage of workloads: no path is forbidden, and none was looked for".to_owned();
    }
    let holed = number(|_, verdict| matches!(verdict, Isolation::PathExists(_)));
    let unknown = number(|_, verdict| matches!(verdict, Isolation::Unknown { .. }));
    let isolated = number(|place, verdict| *verdict == Isolation::Isolated && !is_planned(place));
    let planned = number(|place, verdict| *verdict == Isolation::Isolated && is_planned(place));
    let crossing = picture.doors.keys().filter(|(from, to)| crosses(from, to)).count();
    let once = (planned > 0).then(|| format!(", {planned} without one once enforced"));
    let today = (crossing > 0).then(|| format!("; FORBIDDEN and allowed today: {}", count(crossing, "connection")));
    format!(
        "{} of stages: {holed} with a hole, {unknown} unknown, {isolated} without a forbidden path{}{}",
        count(all, "namespace"),
        once.unwrap_or_default(),
        today.unwrap_or_default()
    )
}

/// Whether what is said of a namespace is about policies that are not written yet.
fn is_planned(place: &Place) -> bool {
    place.mode.is_some_and(|mode| mode != Mode::Enforce)
}

/// Whether a door leads from one stage to another.
pub(super) fn crosses(from: &Node, to: &Node) -> bool {
    matches!((from.room, to.room), (Room::Stage(one), Room::Stage(other)) if one != other)
}

pub(super) fn claims(picture: &Picture, drawn: usize, lines: usize) -> Vec<String> {
    let basis = picture.basis;
    let inside = match picture.doors.len() - drawn {
        0 => String::new(),
        inside => format!(", {inside} inside of boxes"),
    };
    let all = doors(basis, picture.doors.len());
    let drawn = format!("{all}: {drawn} drawn as {}{inside}.", count(lines, "line"));
    let what = match basis {
        Basis::Declared => {
            "Doors are the flows that AiWorkloads declare and that are open: the other end, the catalogue and the \
             policy agree. DNS and traffic inside a workload are open too and not drawn."
        }
        Basis::Allowed => {
            "No AiWorkload declares anything: doors are the connections that the NetworkPolicies allow between the \
             workloads of the input."
        }
    };
    let holes = "Holes are forbidden paths that the analysis of all policies finds, for any pod that could exist. Each \
                 namespace shows the first of its holes; there may be more behind it.";
    let closed = (picture.closed > 0).then(|| {
        format!(
            "Not drawn, because not open: {}.",
            count(picture.closed, "declared flow")
        )
    });
    let not = "This is about what is declared and what policies say. No packet was sent: whether a network plugin \
               enforces the policies is not shown, nor are host networks and interfaces beside the pod network.";
    let claims = [
        Some(format!("{drawn} {what}")),
        Some(holes.to_owned()),
        closed,
        Some(not.to_owned()),
    ];
    claims.into_iter().flatten().collect()
}

/// The namespaces of which nothing is known, by name and with the reason.
pub(super) fn unknown(picture: &Picture) -> Vec<String> {
    let groups = picture.rooms.values().flatten();
    let unknown = groups.filter_map(|(group, place)| match &place.verdict {
        Some(Isolation::Unknown { reason, message }) => {
            Some(format!("{}: UNKNOWN, {reason}: {}", group_title(group), clean(message)))
        }
        _ => None,
    });
    let mut all: Vec<String> = unknown.collect();
    let more = all.len().saturating_sub(MOST_HOLES);
    if more > 0 {
        all.truncate(MOST_HOLES);
        all.push(format!(
            "{} of which nothing is known: their rooms say so",
            count(more, "more namespace")
        ));
    }
    all
}

/// The holes that have no line of their own, by the rooms they join.
pub(super) fn bundled_holes(picture: &Picture) -> BTreeMap<(Room, Room), usize> {
    let mut bundled = BTreeMap::new();
    for hole in picture.holes.iter().skip(MOST_HOLES) {
        *bundled.entry((hole.from.0, hole.to.0)).or_default() += 1;
    }
    bundled
}

/// The namespaces of a room as chips; those to worry about first.
pub(super) fn group_chips(basis: Basis, groups: &[(Room, &Group, &Place)]) -> Vec<Chip> {
    let chip = |(room, group, place): &(Room, &Group, &Place)| {
        let name = group_title(group);
        let (rank, tag) = match &place.verdict {
            Some(Isolation::PathExists(_)) => (0, "HOLE".to_owned()),
            Some(Isolation::Unknown { .. }) => (1, "UNKNOWN".to_owned()),
            _ => (2, place.nodes.len().to_string()),
        };
        let mut title = format!(
            "{name}: {}, {}",
            count(place.nodes.len(), noun(*room, basis)),
            status(place)
        );
        if let Some(Isolation::Unknown { message, .. }) = &place.verdict {
            title = format!("{title}: {}", clean(message));
        }
        let unknown = rank < 2;
        (
            rank,
            Chip {
                name,
                tag,
                unknown,
                title,
            },
        )
    };
    let mut chips: Vec<(usize, Chip)> = groups.iter().map(chip).collect();
    // Stable: by name among equals.
    chips.sort_by_key(|(rank, _)| *rank);
    cut(chips.into_iter().map(|(_, chip)| chip).collect(), "namespace")
}

/// Services and sources as chips.
pub(super) fn node_chips<'p>(groups: impl Iterator<Item = (&'p Group, &'p Place)>) -> Vec<Chip> {
    let chip = |group: &Group, name: &str, what: &str| Chip {
        name: clean(name),
        tag: String::new(),
        unknown: false,
        title: format!("{} in {} {}", clean(name), group_title(group), clean(what)),
    };
    let chips = groups.flat_map(|(group, place)| place.nodes.iter().map(move |(name, what)| chip(group, name, what)));
    cut(chips.collect(), "name")
}

/// As many as a room holds. The last names the others when one points at it.
fn cut(mut chips: Vec<Chip>, what: &str) -> Vec<Chip> {
    if chips.len() > MOST_CHIPS {
        let others = chips.split_off(MOST_CHIPS - 1);
        let unknown = others.iter().filter(|chip| chip.unknown).count();
        let tag = if unknown > 0 {
            format!("{unknown} UNKNOWN")
        } else {
            String::new()
        };
        let names: Vec<&str> = others.iter().map(|chip| chip.name.as_str()).collect();
        chips.push(Chip {
            name: format!("+{}", count(others.len(), what)),
            tag,
            unknown: unknown > 0,
            title: names.join(", "),
        });
    }
    chips
}

/// The label of a line, and every door in it.
pub(super) fn link(basis: Basis, kind: Kind, ways: &[Way<'_>]) -> (String, String) {
    let name = |node: &Node| match &node.group {
        Group::Namespace(namespace) => format!("{namespace}/{}", node.name),
        Group::Later | Group::Addresses => node.name.clone(),
    };
    let lines = ways.iter().map(|(from, to, door)| {
        let ports = if door.remarks.is_empty() {
            door.ports.to_string()
        } else {
            let remarks: Vec<&str> = door.remarks.iter().take(MOST_LINES).map(String::as_str).collect();
            remarks.join("; ")
        };
        clean(&format!("{} to {}: {ports}", name(from), name(to)))
    });
    let lines: BTreeSet<String> = lines.collect();
    let label = match ways {
        [(_, _, door)] if door.remarks.len() > 1 => count(door.remarks.len(), "address range"),
        [(_, _, door)] => door.ports.to_string(),
        [(_, _, first), rest @ ..] if rest.iter().all(|(_, _, door)| door.ports == first.ports) => {
            format!("{} × {}", ways.len(), first.ports)
        }
        _ => doors(basis, ways.len()),
    };
    let label = match kind {
        Kind::Forbidden => format!("FORBIDDEN {label}"),
        Kind::Hole | Kind::Door => label,
    };
    (label, some(&lines))
}
