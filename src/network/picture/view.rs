//! The picture as a person can read it: with many workloads, namespaces become boxes with a count, and then stages; what
//! goes the same way becomes one line. Every hole stays.

mod bundle;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use self::bundle::{Bundles, Grain, Spot};
use super::model::{Basis, Group, Picture, Place, Room};
use super::text::{clean, count};
use crate::network::reach::Isolation;

/// Holes with a line of their own; further ones share a line for each pair of rooms.
const MOST_HOLES: usize = 8;
/// Chips in a room.
const MOST_CHIPS: usize = 60;
/// Lines of a tooltip, and verdicts under the title.
const MOST_LINES: usize = 20;

/// Which side of the drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Left,
    Middle,
    Right,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub title: &'static str,
    /// The verdicts in one line.
    pub headline: String,
    /// What is shown and what is not claimed.
    pub claims: Vec<String>,
    /// In order.
    pub rooms: Vec<RoomView>,
    pub links: Vec<Link>,
    /// The counterexamples in words.
    pub holes: Vec<HoleView>,
    /// Namespaces of which nothing is known, and why.
    pub unknown: Vec<String>,
    pub notes: Vec<String>,
    pub basis: Basis,
}

/// A room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoomView {
    pub room: Room,
    pub column: Column,
    pub title: &'static str,
    pub detail: String,
    /// What stands for the whole room.
    pub cells: Vec<Cell>,
    pub frames: Vec<Frame>,
    pub chips: Vec<Chip>,
}

/// A namespace with what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub title: String,
    pub status: String,
    pub unknown: bool,
    pub cells: Vec<Cell>,
}

/// What lines lead to and from. The number is its place in the order of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub id: usize,
    pub hole: bool,
    pub name: String,
    pub detail: String,
}

/// A box without lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chip {
    pub name: String,
    pub tag: String,
    pub unknown: bool,
    pub title: String,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Hole,
    /// An allowed connection from one stage to another.
    Forbidden,
    Door,
}

/// A line from a cell to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub from: usize,
    pub to: usize,
    pub kind: Kind,
    pub label: String,
    pub title: String,
}

/// A hole in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HoleView {
    pub name: String,
    pub sentence: String,
    pub out: String,
    pub into: String,
}

impl View {
    /// Bundles a picture at the finest grain that a person can read.
    pub(super) fn of(picture: &Picture) -> Self {
        let (grain, bundles) = Bundles::finest(picture);
        Builder {
            picture,
            grain,
            bundles: &bundles,
            next: 0,
            spots: BTreeMap::new(),
            ends: BTreeMap::new(),
        }
        .build()
    }

    /// All that is said beside the boxes, gravest first, a line each.
    pub(super) fn prose(&self) -> Vec<String> {
        let mut prose = vec![self.headline.clone()];
        for hole in &self.holes {
            prose.push(format!("{}: {}", hole.name, hole.sentence));
            prose.extend(hole.rules());
        }
        prose.extend(
            [&self.unknown, &self.claims, &self.notes]
                .into_iter()
                .flatten()
                .cloned(),
        );
        prose
    }
}

impl HoleView {
    /// What lets it out and in; none for holes that share a line.
    pub(super) fn rules(&self) -> impl Iterator<Item = String> {
        let rules = [("let out by", &self.out), ("let in by", &self.into)];
        let rules = rules.into_iter().filter(|(_, rule)| !rule.is_empty());
        rules.map(|(way, rule)| format!("{way} {rule}"))
    }
}

/// The side of a room. Without declared flows every namespace can hold workloads.
pub(super) fn column(room: Room, basis: Basis) -> Column {
    match (room, basis) {
        (Room::Sources, _) => Column::Left,
        (Room::Stage(_), _) | (Room::Shared | Room::Unstaged, Basis::Allowed) => Column::Middle,
        (Room::Shared | Room::Unstaged, Basis::Declared) | (Room::Outside, _) => Column::Right,
    }
}

/// Which end of which hole, or of which bundle of holes.
type HoleEnd = (usize, bool);

struct Builder<'p> {
    picture: &'p Picture,
    grain: Grain,
    bundles: &'p Bundles<'p>,
    next: usize,
    spots: BTreeMap<Spot<'p>, usize>,
    ends: BTreeMap<HoleEnd, usize>,
}

impl<'p> Builder<'p> {
    fn build(mut self) -> View {
        let picture = self.picture;
        let bundled = words::bundled_holes(picture);
        let rooms = picture.rooms.iter();
        let rooms: Vec<RoomView> = rooms.map(|(room, groups)| self.room(*room, groups, &bundled)).collect();
        let holes = picture.holes.iter().take(MOST_HOLES).enumerate();
        let holes = holes.map(|(index, hole)| HoleView {
            name: format!("HOLE {}", index + 1),
            sentence: clean(&hole.sentence),
            out: clean(&hole.out.full),
            into: clean(&hole.into.full),
        });
        let more = bundled.iter().map(|((from, to), number)| HoleView {
            name: count(*number, "more hole"),
            sentence: format!("from {} to {}", words::title(*from), words::title(*to)),
            out: String::new(),
            into: String::new(),
        });
        View {
            title: "Who may talk to whom",
            headline: words::headline(picture),
            claims: words::claims(picture, self.bundles.drawn(), self.bundles.links.len()),
            holes: holes.chain(more).collect(),
            unknown: words::unknown(picture),
            notes: picture.notes.iter().map(|note| clean(note)).collect(),
            links: self.links(&bundled),
            rooms,
            basis: picture.basis,
        }
    }

    fn cell(&mut self, name: String, detail: String, hole: bool) -> Cell {
        let id = self.next;
        self.next += 1;
        Cell { id, hole, name, detail }
    }

    fn room(
        &mut self,
        room: Room,
        groups: &'p BTreeMap<Group, Place>,
        bundled: &BTreeMap<(Room, Room), usize>,
    ) -> RoomView {
        let basis = self.picture.basis;
        let coarse = self.grain.is_whole(column(room, basis));
        let mut cells = Vec::new();
        let detail = words::room_detail(room, basis, groups);
        if coarse {
            let inside = self.bundles.inside(&Spot::Room(room));
            let inside = (inside > 0).then(|| format!("{} inside", words::doors(basis, inside)));
            let cell = self.cell(format!("All of it: {detail}"), inside.unwrap_or_default(), false);
            self.spots.insert(Spot::Room(room), cell.id);
            cells.push(cell);
        }
        for (index, ((from, to), number)) in bundled.iter().enumerate() {
            for (end, out) in [(from, true), (to, false)] {
                if *end == room {
                    let way = if out { "out" } else { "in" };
                    let name = format!("{}, {way}", count(*number, "more hole"));
                    let cell = self.cell(name, String::new(), true);
                    self.ends.insert((MOST_HOLES + index, out), cell.id);
                    cells.push(cell);
                }
            }
        }
        let mut frames = Vec::new();
        let mut chips = Vec::new();
        for (group, place) in groups {
            let holes = self.hole_ends(room, group);
            if coarse && holes.is_empty() {
                chips.push((room, group, place));
            } else {
                frames.push(self.frame(room, group, place, holes));
            }
        }
        let chips = if column(room, basis) == Column::Middle {
            words::group_chips(basis, &chips)
        } else {
            let nodes = groups.iter().filter(|_| coarse);
            words::node_chips(nodes)
        };
        RoomView {
            room,
            column: column(room, basis),
            title: words::title(room),
            detail,
            cells,
            frames,
            chips,
        }
    }

    /// The ends of holes that are in a group: which, whether out of it, and the rule.
    fn hole_ends(&self, room: Room, group: &Group) -> Vec<(usize, bool, String)> {
        let mut ends = Vec::new();
        for (index, hole) in self.picture.holes.iter().take(MOST_HOLES).enumerate() {
            for (end, rule, out) in [(&hole.from, &hole.out, true), (&hole.to, &hole.into, false)] {
                if end.0 == room && end.1 == *group {
                    ends.push((index, out, rule.short.clone()));
                }
            }
        }
        ends
    }

    fn frame(&mut self, room: Room, group: &'p Group, place: &'p Place, holes: Vec<(usize, bool, String)>) -> Frame {
        let basis = self.picture.basis;
        let mut cells = Vec::new();
        for (index, out, rule) in holes {
            let way = if out { "out" } else { "in" };
            let cell = self.cell(format!("HOLE {} {way}", index + 1), clean(&rule), true);
            self.ends.insert((index, out), cell.id);
            cells.push(cell);
        }
        let column = column(room, basis);
        if self.grain.shows_nodes(column) {
            for (name, what) in &place.nodes {
                let cell = self.cell(clean(name), clean(what), false);
                self.spots.insert(Spot::Node(room, group, name), cell.id);
                cells.push(cell);
            }
        } else if self.grain == Grain::Namespaces {
            let inside = self.bundles.inside(&Spot::Group(room, group));
            let inside = (inside > 0).then(|| format!("{} inside", words::doors(basis, inside)));
            let name = count(place.nodes.len(), words::noun(room, basis));
            let cell = self.cell(name, inside.unwrap_or_default(), false);
            self.spots.insert(Spot::Group(room, group), cell.id);
            cells.push(cell);
        }
        if cells.is_empty() {
            cells.push(self.cell(format!("no {}", words::noun(room, basis)), String::new(), false));
        }
        Frame {
            title: words::group_title(group),
            status: words::status(place),
            unknown: matches!(place.verdict, Some(Isolation::Unknown { .. })),
            cells,
        }
    }

    fn links(&self, bundled: &BTreeMap<(Room, Room), usize>) -> Vec<Link> {
        let mut links = Vec::new();
        let mut hole = |index: usize, label: String, title: String| {
            if let (Some(from), Some(to)) = (self.ends.get(&(index, true)), self.ends.get(&(index, false))) {
                let (from, to, kind) = (*from, *to, Kind::Hole);
                links.push(Link {
                    from,
                    to,
                    kind,
                    label,
                    title,
                });
            }
        };
        for (index, found) in self.picture.holes.iter().take(MOST_HOLES).enumerate() {
            let title = format!(
                "{}; let out by {}; let in by {}",
                found.sentence, found.out.full, found.into.full
            );
            hole(index, format!("HOLE {}", index + 1), clean(&title));
        }
        for (index, number) in bundled.values().enumerate() {
            let label = count(*number, "hole").to_uppercase();
            hole(MOST_HOLES + index, label.clone(), label);
        }
        for ((from, to, kind), doors) in &self.bundles.links {
            if let (Some(from), Some(to)) = (self.spots.get(from), self.spots.get(to)) {
                let (label, title) = words::link(self.picture.basis, *kind, doors);
                links.push(Link {
                    from: *from,
                    to: *to,
                    kind: *kind,
                    label,
                    title,
                });
            }
        }
        links
    }
}

/// Names of some things, and how many more there are.
fn some(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_LINES).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    let more = if more == 0 {
        String::new()
    } else {
        format!("\n+{more} more")
    };
    format!("{}{more}", shown.join("\n"))
}
