//! Doors that go the same way, at a grain.

use std::collections::BTreeMap;

use super::{Column, Kind, column, words};
use crate::network::picture::model::{Door, Group, Node, Picture, Room};

/// Lines that a person can still follow.
const MOST_LINKS: usize = 100;
/// Boxes in one column.
const MOST_CELLS: usize = 40;

/// How fine the picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// Every workload is a box.
    Workloads,
    /// Every namespace of a stage is one.
    Namespaces,
    /// Every stage is one.
    Stages,
    /// Every room is one.
    Rooms,
}

impl Grain {
    const ALL: [Self; 4] = [Self::Workloads, Self::Namespaces, Self::Stages, Self::Rooms];

    /// Whether workloads, services and sources have boxes of their own in a column.
    pub(super) fn shows_nodes(self, column: Column) -> bool {
        match column {
            Column::Middle => self == Self::Workloads,
            Column::Left | Column::Right => self != Self::Rooms,
        }
    }

    /// Whether one box stands for a whole room of a column.
    pub(super) fn is_whole(self, column: Column) -> bool {
        match column {
            Column::Middle => matches!(self, Self::Stages | Self::Rooms),
            Column::Left | Column::Right => self == Self::Rooms,
        }
    }
}

/// What a line leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot<'p> {
    Node(Room, &'p Group, &'p str),
    Group(Room, &'p Group),
    Room(Room),
}

/// A door with its two ends.
pub(super) type Way<'p> = (&'p Node, &'p Node, &'p Door);

/// All doors of a picture at one grain.
#[derive(Debug, Default)]
pub(super) struct Bundles<'p> {
    pub links: BTreeMap<(Spot<'p>, Spot<'p>, Kind), Vec<Way<'p>>>,
    inside: BTreeMap<Spot<'p>, usize>,
}

impl<'p> Bundles<'p> {
    /// The finest grain that is not too much, or else the coarsest.
    pub(super) fn finest(picture: &'p Picture) -> (Grain, Self) {
        let mut last = (Grain::Rooms, Self::default());
        for grain in Grain::ALL {
            let bundles = Self::at(picture, grain);
            let few = bundles.links.len() <= MOST_LINKS && cells(picture, grain) <= MOST_CELLS;
            last = (grain, bundles);
            if few {
                break;
            }
        }
        last
    }

    fn at(picture: &'p Picture, grain: Grain) -> Self {
        let mut bundles = Self::default();
        let spot = |node: &'p Node| {
            let column = column(node.room, picture.basis);
            if grain.is_whole(column) {
                Spot::Room(node.room)
            } else if grain.shows_nodes(column) {
                Spot::Node(node.room, &node.group, &node.name)
            } else {
                Spot::Group(node.room, &node.group)
            }
        };
        for ((from, to), door) in &picture.doors {
            let (source, target) = (spot(from), spot(to));
            if source == target {
                *bundles.inside.entry(source).or_default() += 1;
                continue;
            }
            let kind = if words::crosses(from, to) {
                Kind::Forbidden
            } else {
                Kind::Door
            };
            let ways = bundles.links.entry((source, target, kind)).or_default();
            ways.push((from, to, door));
        }
        bundles
    }

    /// How many doors the lines stand for.
    pub(super) fn drawn(&self) -> usize {
        self.links.values().map(Vec::len).sum()
    }

    /// How many doors do not lead out of a box.
    pub(super) fn inside(&self, spot: &Spot<'p>) -> usize {
        self.inside.get(spot).copied().unwrap_or_default()
    }
}

/// The boxes of the fullest column.
fn cells(picture: &Picture, grain: Grain) -> usize {
    let of = |wanted: Column| -> usize {
        let rooms = picture
            .rooms
            .iter()
            .filter(|(room, _)| column(**room, picture.basis) == wanted);
        let rooms = rooms.map(|(_, groups)| {
            if grain.is_whole(wanted) {
                1
            } else if grain.shows_nodes(wanted) {
                groups.values().map(|place| place.nodes.len().max(1)).sum()
            } else {
                groups.len()
            }
        });
        rooms.sum()
    };
    [Column::Left, Column::Middle, Column::Right]
        .into_iter()
        .map(of)
        .max()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::picture::tests::random::{with_pods, with_workloads};

    /// Neither a door nor a box is lost on the way.
    #[test]
    fn bundling_loses_nothing() {
        for seed in 0..60 {
            let case = if seed % 4 == 3 {
                with_pods(seed)
            } else {
                with_workloads(seed)
            };
            for grain in Grain::ALL {
                let bundles = Bundles::at(&case.picture, grain);
                let inside: usize = bundles.inside.values().sum();
                assert_eq!(bundles.drawn() + inside, case.picture.doors.len(), "{seed} {grain:?}");
            }
            let (grain, bundles) = Bundles::finest(&case.picture);
            let readable = bundles.links.len() <= MOST_LINKS && cells(&case.picture, grain) <= MOST_CELLS;
            assert!(readable, "{seed}: {} lines at {grain:?}", bundles.links.len());
        }
    }
}
