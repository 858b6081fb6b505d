//! Gives everything its place. Rooms stand in three columns, and every line runs in the gutters between them: down its
//! own track, and across only where no box is. So nothing can overlap, however many there are.
//!
//! Boxes stand on a grid of [`GRID`] pixels. Lines leave the middle column on it and the outer columns half a step
//! beside it, so that two lines never lie on each other.

mod boxes;
mod head;
mod routes;

use self::boxes::Stack;
use self::routes::Routes;
use super::scene::{Part, Scene};
use super::view::{Column, View};

/// The step of the grid.
const GRID: u32 = 16;
/// Around everything.
const MARGIN: u32 = 24;
/// Between the wall of a room and what is in it.
const PAD: u32 = 16;
/// Between two tracks of a gutter.
const TRACK: u32 = 12;
/// Beside the boxes of the middle column, for the labels of lines.
const LANE: u32 = 144;
/// The narrowest drawing: its head needs it.
const NARROWEST: u32 = 1040;

/// Where the columns are.
#[derive(Clone, Copy, Debug, Default)]
struct Columns {
    left: Span,
    middle: Span,
    right: Span,
    /// Of the boxes in the rooms of the middle column.
    frames: Span,
    /// Of the labels beside them.
    lanes: [Span; 2],
    /// The first tracks: of the left gutter, inside the rooms of the middle column, and of the right gutter.
    tracks: [u32; 3],
}

/// A stretch from left to right.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    x: u32,
    w: u32,
}

impl Span {
    const fn right(self) -> u32 {
        self.x + self.w
    }
}

/// Places everything.
pub(super) fn scene(view: &View) -> Scene {
    let routes = Routes::plan(view);
    let columns = columns(view, &routes);
    let width = [columns.left, columns.middle, columns.right]
        .iter()
        .map(|span| span.right())
        .max()
        .unwrap_or_default();
    let width = (width + MARGIN).max(NARROWEST);
    let (mut parts, top) = head::head(view, width - 2 * MARGIN);
    let mut stack = Stack::new(view, &routes, &columns, top);
    let rooms: Vec<Part> = view.rooms.iter().map(|room| stack.room(room)).collect();
    let lines = routes.draw(view, &columns, &stack);
    let bottom = stack.bottom();
    parts.extend(rooms);
    parts.extend(lines);
    let (legend, height) = head::legend(view, bottom, width - 2 * MARGIN);
    parts.extend(legend);
    Scene {
        width,
        height,
        title: view.title.to_owned(),
        description: std::iter::once(view.headline.as_str())
            .chain(view.claims.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" "),
        parts,
    }
}

/// From left to right; a column without rooms takes no space.
fn columns(view: &View, routes: &Routes) -> Columns {
    let has = |column: Column| view.rooms.iter().any(|room| room.column == column);
    let [left, inner, outer] = routes.tracks();
    let gutter = |tracks: u32, beside: bool| if beside { (tracks + 1) * TRACK + GRID } else { 0 };
    let mut columns = Columns::default();
    let mut x = MARGIN;
    if has(Column::Left) {
        columns.left = Span { x, w: boxes::OUTER };
        x = columns.left.right();
        columns.tracks[0] = x + TRACK;
        x += gutter(left, has(Column::Middle));
    }
    if has(Column::Middle) {
        let lanes = [routes.has_left(), inner + outer > 0].map(|any| if any { LANE } else { 0 });
        let start = x + PAD;
        columns.lanes[0] = Span { x: start, w: lanes[0] };
        columns.frames = Span {
            x: start + lanes[0],
            w: boxes::INNER,
        };
        columns.lanes[1] = Span {
            x: columns.frames.right(),
            w: lanes[1],
        };
        columns.tracks[1] = columns.lanes[1].right() + TRACK / 2;
        let w = columns.lanes[1].right() + inner * TRACK + PAD - x;
        columns.middle = Span { x, w };
        x += w;
    }
    if outer > 0 || has(Column::Right) {
        columns.tracks[2] = x + TRACK + GRID / 2;
        x += gutter(outer, true) + GRID / 2;
    }
    if has(Column::Right) {
        columns.right = Span { x, w: boxes::OUTER };
    }
    // Lines that turn round in the right gutter need it too.
    columns.right.x = x;
    columns
}
