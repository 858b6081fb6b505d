//! Rooms, namespaces and boxes, one below the other.

use super::routes::{Routes, Side};
use super::{Columns, GRID, PAD, Span};
use crate::api::stage::Stage;
use crate::network::picture::model::Room;
use crate::network::picture::scene::{Part, Rect, Text};
use crate::network::picture::text::{Face, width};
use crate::network::picture::view::{Cell, Chip, Column, Frame, RoomView, View};

/// The width of a room in an outer column.
pub(super) const OUTER: u32 = 256;
/// The width of a namespace in the middle column.
pub(super) const INNER: u32 = 304;
/// Between the frame of a namespace and its boxes.
const FRAME_PAD: u32 = 12;
/// The head of a room and of a namespace, with one line of text and with two.
const HEADS: [u32; 2] = [32, 48];
/// A chip: its least width, its height and the space around it.
const CHIP: (u32, u32, u32) = (168, 24, 8);
/// From the border of a box to its text.
const INSET: u32 = 8;

/// Where boxes end, column by column, and where the cells are.
pub(super) struct Stack<'l> {
    columns: &'l Columns,
    routes: &'l Routes,
    ends: [u32; 3],
    cells: Vec<Rect>,
}

impl<'l> Stack<'l> {
    pub(super) fn new(view: &View, routes: &'l Routes, columns: &'l Columns, top: u32) -> Self {
        let cells = view
            .rooms
            .iter()
            .map(|room| room.cells.len() + room.frames.iter().map(|f| f.cells.len()).sum::<usize>());
        Self {
            columns,
            routes,
            ends: [top; 3],
            cells: vec![Rect::default(); cells.sum()],
        }
    }

    /// Where a cell is.
    pub(super) fn cell(&self, id: usize) -> Rect {
        self.cells.get(id).copied().unwrap_or_default()
    }

    /// Below everything.
    pub(super) fn bottom(&self) -> u32 {
        self.ends.into_iter().max().unwrap_or_default()
    }

    /// Places a room under the last one of its column.
    pub(super) fn room(&mut self, room: &RoomView) -> Part {
        let Columns {
            left,
            middle,
            right,
            frames,
            ..
        } = *self.columns;
        let (wall, inside) = match room.column {
            Column::Left => (left, inset(left)),
            Column::Middle => (middle, frames),
            Column::Right => (right, inset(right)),
        };
        let top = self.ends[room.column as usize];
        let mut y = top + HEADS[1];
        let mut parts = Vec::new();
        for cell in &room.cells {
            parts.push(self.place(cell, inside, y));
            y = below(&parts, y);
        }
        for frame in &room.frames {
            parts.push(self.frame(frame, inside, y));
            y = below(&parts, y);
        }
        y = chips(&mut parts, &room.chips, inset(wall), y);
        let frame = Rect {
            x: wall.x,
            y: top,
            w: wall.w,
            h: y - top,
        };
        self.ends[room.column as usize] = frame.bottom() + 2 * GRID;
        Part {
            texts: head(Face::Heading, Face::Body, room.title, &room.detail, frame, PAD),
            parts,
            ..Part::framed(&format!("room {}", class(room.room)), frame)
        }
    }

    fn frame(&mut self, frame: &Frame, span: Span, top: u32) -> Part {
        let inside = Span {
            x: span.x + FRAME_PAD,
            w: span.w - 2 * FRAME_PAD,
        };
        let mut y = top + HEADS[usize::from(!frame.status.is_empty())];
        let mut parts = Vec::new();
        for cell in &frame.cells {
            parts.push(self.place(cell, inside, y));
            y = below(&parts, y);
        }
        let rect = Rect {
            x: span.x,
            y: top,
            w: span.w,
            h: y - top,
        };
        let class = if frame.unknown {
            "namespace unknown"
        } else {
            "namespace"
        };
        Part {
            texts: head(Face::Strong, Face::Body, &frame.title, &frame.status, rect, FRAME_PAD),
            parts,
            ..Part::framed(class, rect)
        }
    }

    /// A box, high enough for its lines.
    fn place(&mut self, cell: &Cell, span: Span, top: u32) -> Part {
        let lines = [Side::Left, Side::Right].map(|side| self.routes.ends_at(cell.id, side).len());
        let lines = u32::try_from(lines[0].max(lines[1])).unwrap_or(u32::MAX);
        let texts = if cell.detail.is_empty() { 1 } else { 2 };
        let rect = Rect {
            x: span.x,
            y: top,
            w: span.w,
            h: GRID * (1 + lines.max(texts)),
        };
        if let Some(place) = self.cells.get_mut(cell.id) {
            *place = rect;
        }
        let class = if cell.hole { "box hole" } else { "box" };
        let (x, room) = (rect.x + INSET, rect.w - 2 * INSET);
        let middle = rect.y + rect.h / 2;
        let face = if cell.hole { Face::Strong } else { Face::Name };
        let mut texts = Vec::new();
        if cell.detail.is_empty() {
            texts.push(Text::fitted(face, x, middle + 4, &cell.name, room));
        } else {
            texts.push(Text::fitted(face, x, middle - 2, &cell.name, room));
            texts.push(Text::fitted(Face::Small, x, middle + 11, &cell.detail, room));
        }
        Part {
            texts,
            ..Part::framed(class, rect)
        }
    }
}

/// The name and a line about it, at the top of a frame.
fn head(name: Face, line: Face, title: &str, detail: &str, frame: Rect, pad: u32) -> Vec<Text> {
    let (x, room) = (frame.x + pad, frame.w - 2 * pad);
    let mut texts = vec![Text::fitted(name, x, frame.y + 20, title, room)];
    if !detail.is_empty() {
        texts.push(Text::fitted(line, x, frame.y + 36, detail, room));
    }
    texts
}

/// The next free line of the grid.
fn below(parts: &[Part], y: u32) -> u32 {
    let frame = parts.last().and_then(|part| part.frame);
    frame.map_or(y, |frame| frame.bottom() + GRID)
}

/// Chips in as many columns as there is room for; returns the next free line of the grid.
fn chips(parts: &mut Vec<Part>, chips: &[Chip], span: Span, top: u32) -> u32 {
    let (least, height, gap) = CHIP;
    let across = ((span.w + gap) / (least + gap)).max(1);
    let w = (span.w + gap) / across - gap;
    let mut end = top;
    for (index, chip) in (0_u32..).zip(chips) {
        let rect = Rect {
            x: span.x + index % across * (w + gap),
            y: top + index / across * (height + gap),
            w,
            h: height,
        };
        let tag = width(&chip.tag, Face::Small);
        let room = w - 3 * INSET - tag;
        let mut texts = vec![Text::fitted(Face::Body, rect.x + INSET, rect.y + 16, &chip.name, room)];
        if !chip.tag.is_empty() {
            let x = rect.right() - INSET - tag;
            texts.push(Text::fitted(Face::Small, x, rect.y + 16, &chip.tag, tag));
        }
        let class = if chip.unknown { "chip unknown" } else { "chip" };
        parts.push(Part {
            title: Some(chip.title.clone()),
            texts,
            ..Part::framed(class, rect)
        });
        end = rect.bottom() + GRID;
    }
    end.next_multiple_of(GRID)
}

const fn inset(span: Span) -> Span {
    Span {
        x: span.x + PAD,
        w: span.w.saturating_sub(2 * PAD),
    }
}

const fn class(room: Room) -> &'static str {
    match room {
        Room::Sources => "sources",
        Room::Stage(Stage::Training) => "training",
        Room::Stage(Stage::Evaluation) => "evaluation",
        Room::Stage(Stage::Inference) => "inference",
        Room::Shared => "shared",
        Room::Unstaged => "unstaged",
        Room::Outside => "outside",
    }
}
