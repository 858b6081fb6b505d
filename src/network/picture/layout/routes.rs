//! The lines. What leads to one box shares a trunk, as what comes from one source does: few tracks, and one arrow for
//! each box that is reached.

use std::collections::BTreeMap;

use super::boxes::Stack;
use super::{Columns, GRID, LANE, TRACK};
use crate::network::picture::scene::{Mark, Part, Rect, Text};
use crate::network::picture::text::Face;
use crate::network::picture::view::{Column, Kind, Link, View};

/// Colours that help to follow a trunk; they mean nothing.
const HUES: usize = 4;
/// From a line to its label, and what of the lane the label leaves free.
const LABEL: (u32, u32) = (4, 12);

/// A side of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Left,
    Right,
}

/// Where tracks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gutter {
    /// Between the left and the middle column.
    Left,
    /// Inside a room of the middle column.
    Inner(usize),
    /// Between the middle and the right column.
    Outer,
}

/// What shares a track: lines of one kind in one gutter to or from one box; every hole has its own.
type Key = (Gutter, Kind, usize, Option<usize>);

/// What is fastened to a side of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fastened {
    Trunk(usize),
    Link(usize),
}

/// A line: its trunk, and the side of the box at either end.
#[derive(Clone, Copy, Debug)]
struct Route {
    trunk: usize,
    sides: [Side; 2],
}

/// All lines, before anybody knows how high they are.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// One for each link.
    lines: Vec<Route>,
    /// The gutter and the track of each trunk, and how many lines share it.
    trunks: Vec<(Gutter, u32, usize)>,
    ends: BTreeMap<(usize, Side), Vec<Fastened>>,
}

impl Routes {
    pub(super) fn plan(view: &View) -> Self {
        let homes = homes(view);
        let home = |cell: usize| homes.get(cell).copied().unwrap_or((Column::Middle, 0));
        let mut keys: BTreeMap<Key, usize> = BTreeMap::new();
        let key = |index: usize, link: &Link| -> Key {
            let (from, to) = (home(link.from), home(link.to));
            let gutter = match (from.0, to.0) {
                (Column::Left, _) => Gutter::Left,
                (Column::Middle, Column::Middle) if from.1 == to.1 => Gutter::Inner(from.1),
                _ => Gutter::Outer,
            };
            let shared = if gutter == Gutter::Left { link.from } else { link.to };
            let own = (link.kind != Kind::Door).then_some(index);
            (gutter, link.kind, shared, own)
        };
        for (index, link) in view.links.iter().enumerate() {
            *keys.entry(key(index, link)).or_default() += 1;
        }
        let mut routes = Self::default();
        let mut used: BTreeMap<Gutter, u32> = BTreeMap::new();
        let mut numbers: BTreeMap<Key, usize> = BTreeMap::new();
        for (number, (key, lines)) in keys.into_iter().enumerate() {
            let track = used.entry(key.0).or_default();
            routes.trunks.push((key.0, *track, lines));
            *track += 1;
            let (gutter, _, shared, _) = key;
            let (column, side) = (
                home(shared).0,
                if gutter == Gutter::Left {
                    Side::Right
                } else {
                    Side::Left
                },
            );
            let side = if gutter != Gutter::Left && column == Column::Middle {
                Side::Right
            } else {
                side
            };
            routes.fasten(shared, side, Fastened::Trunk(number));
            numbers.insert(key, number);
        }
        for (index, link) in view.links.iter().enumerate() {
            let key = key(index, link);
            let trunk = numbers.get(&key).copied().unwrap_or_default();
            let inward = |cell: usize| match home(cell).0 {
                Column::Left | Column::Middle => Side::Right,
                Column::Right => Side::Left,
            };
            let sides = if key.0 == Gutter::Left {
                routes.fasten(link.to, Side::Left, Fastened::Link(index));
                [Side::Right, Side::Left]
            } else {
                routes.fasten(link.from, inward(link.from), Fastened::Link(index));
                [inward(link.from), inward(link.to)]
            };
            routes.lines.push(Route { trunk, sides });
        }
        routes
    }

    fn fasten(&mut self, cell: usize, side: Side, what: Fastened) {
        self.ends.entry((cell, side)).or_default().push(what);
    }

    /// What is fastened to a side of a box, from above.
    pub(super) fn ends_at(&self, cell: usize, side: Side) -> &[Fastened] {
        self.ends.get(&(cell, side)).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many tracks there are at most: in the left gutter, inside of a room, in the right gutter.
    pub(super) fn tracks(&self) -> [u32; 3] {
        let most = |wanted: fn(&Gutter) -> bool| {
            let tracks = self.trunks.iter().filter(|(gutter, ..)| wanted(gutter));
            tracks.map(|(_, track, _)| track + 1).max().unwrap_or_default()
        };
        [
            most(|gutter| *gutter == Gutter::Left),
            most(|gutter| matches!(gutter, Gutter::Inner(_))),
            most(|gutter| *gutter == Gutter::Outer),
        ]
    }

    /// Whether any line reaches the middle column from the left.
    pub(super) fn has_left(&self) -> bool {
        self.trunks.iter().any(|(gutter, ..)| *gutter == Gutter::Left)
    }

    /// Draws all lines, holes last, so that nothing covers them.
    pub(super) fn draw(&self, view: &View, columns: &Columns, stack: &Stack<'_>) -> Vec<Part> {
        let homes = homes(view);
        let pen = Pen {
            routes: self,
            homes: &homes,
            columns,
            stack,
        };
        let mut order: Vec<(usize, &Link)> = view.links.iter().enumerate().collect();
        order.sort_by_key(|(index, link)| (std::cmp::Reverse(link.kind), *index));
        order.iter().map(|(index, link)| pen.line(*index, link)).collect()
    }
}

/// The column and the room of each cell.
fn homes(view: &View) -> Vec<(Column, usize)> {
    let rooms = view.rooms.iter().enumerate();
    let cells = rooms.flat_map(|(number, room)| {
        let cells = room
            .cells
            .iter()
            .chain(room.frames.iter().flat_map(|frame| &frame.cells));
        cells.map(move |_| (room.column, number))
    });
    cells.collect()
}

struct Pen<'d> {
    routes: &'d Routes,
    homes: &'d [(Column, usize)],
    columns: &'d Columns,
    stack: &'d Stack<'d>,
}

impl Pen<'_> {
    fn line(&self, index: usize, link: &Link) -> Part {
        let Some(route) = self.routes.lines.get(index) else {
            return Part::default();
        };
        let (gutter, track, lines) = self
            .routes
            .trunks
            .get(route.trunk)
            .copied()
            .unwrap_or((Gutter::Outer, 0, 1));
        let x = track * TRACK
            + match gutter {
                Gutter::Left => self.columns.tracks[0],
                Gutter::Inner(_) => self.columns.tracks[1],
                Gutter::Outer => self.columns.tracks[2],
            };
        let own = Fastened::Link(index);
        let trunk = Fastened::Trunk(route.trunk);
        let fastened = if gutter == Gutter::Left {
            [trunk, own]
        } else {
            [own, trunk]
        };
        let from = self.point(link.from, route.sides[0], fastened[0]);
        let to = self.point(link.to, route.sides[1], fastened[1]);
        let mut marks = Vec::new();
        if lines > 1 {
            marks.push(Mark::Joint(x, if gutter == Gutter::Left { to.1 } else { from.1 }));
        }
        if link.kind == Kind::Door {
            for (at, y) in [(from, from.1), (to, to.1)] {
                marks.extend(self.walls(at.0, x).map(|wall| Mark::Door(wall, y)));
            }
        }
        marks.push(match route.sides[1] {
            Side::Left => Mark::Right(to.0, to.1),
            Side::Right => Mark::Left(to.0, to.1),
        });
        let class = match link.kind {
            Kind::Hole => "line hole".to_owned(),
            Kind::Forbidden => "line forbidden".to_owned(),
            Kind::Door => format!("line door hue{}", route.trunk % HUES),
        };
        Part {
            class,
            title: Some(link.title.clone()),
            line: vec![from, (x, from.1), (x, to.1), to],
            marks,
            texts: self.label(link, from, to, gutter).into_iter().collect(),
            ..Part::default()
        }
    }

    /// Where a line meets a box.
    fn point(&self, cell: usize, side: Side, what: Fastened) -> (u32, u32) {
        let rect: Rect = self.stack.cell(cell);
        let ends = self.routes.ends_at(cell, side);
        let count = u32::try_from(ends.len()).unwrap_or(1);
        let at = ends.iter().position(|known| *known == what).unwrap_or_default();
        let at = u32::try_from(at).unwrap_or_default();
        let free = (rect.h / GRID).saturating_sub(1).saturating_sub(count) / 2;
        let half = match self.homes.get(cell) {
            Some((Column::Middle, _)) | None => 0,
            Some(_) => GRID / 2,
        };
        let x = match side {
            Side::Left => rect.x,
            Side::Right => rect.right(),
        };
        (x, rect.y + GRID * (1 + at + free) - half)
    }

    /// The walls of rooms between two points of a line.
    fn walls(&self, one: u32, other: u32) -> impl Iterator<Item = u32> {
        let Columns {
            left, middle, right, ..
        } = *self.columns;
        let between = one.min(other)..=one.max(other);
        let walls = [left.right(), middle.x, middle.right(), right.x];
        walls.into_iter().filter(move |wall| between.contains(wall))
    }

    /// The label, beside the end in the middle column: nothing else is there.
    fn label(&self, link: &Link, from: (u32, u32), to: (u32, u32), gutter: Gutter) -> Option<Text> {
        let middle = |cell: usize| matches!(self.homes.get(cell), Some((Column::Middle, _)));
        let (lane, y) = match gutter {
            Gutter::Left => (self.columns.lanes[0], to.1),
            _ if middle(link.from) => (self.columns.lanes[1], from.1),
            _ if middle(link.to) => (self.columns.lanes[1], to.1),
            _ => return None,
        };
        let (above, free) = LABEL;
        let face = if link.kind == Kind::Hole {
            Face::Strong
        } else {
            Face::Small
        };
        Some(Text::fitted(face, lane.x + above, y - above, &link.label, LANE - free))
    }
}
