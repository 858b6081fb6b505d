//! Above and below the rooms: what the picture is, what it found, what it does not claim, and what the signs mean.

use super::{GRID, MARGIN};
use crate::network::picture::model::Basis;
use crate::network::picture::scene::{Mark, Part, Rect, Text};
use crate::network::picture::text::{Face, wrap};
use crate::network::picture::view::View;

/// Between two lines of text.
const LEADING: u32 = 16;
/// Inside of a card.
const INSET: u32 = 12;
/// For the sample of a sign in the legend.
const SAMPLE: u32 = 56;

/// The title, what is claimed, the holes and the unknown; returns where the rooms begin.
pub(super) fn head(view: &View, room: u32) -> (Vec<Part>, u32) {
    let mut y = MARGIN + 20;
    let mut texts = vec![Text::fitted(Face::Title, MARGIN, y, view.title, room)];
    y += 24;
    lines(&mut texts, Face::Strong, &view.headline, MARGIN, &mut y, room);
    for claim in &view.claims {
        lines(&mut texts, Face::Body, claim, MARGIN, &mut y, room);
    }
    let mut parts = vec![Part {
        class: "head".to_owned(),
        texts,
        ..Part::default()
    }];
    for hole in &view.holes {
        parts.push(card("card hole", &mut y, room, |texts, y, room| {
            let first = format!("{}: {}", hole.name, hole.sentence);
            lines(texts, Face::Strong, &first, MARGIN + INSET, y, room);
            for rule in hole.rules() {
                lines(texts, Face::Body, &rule, MARGIN + INSET, y, room);
            }
        }));
    }
    for unknown in &view.unknown {
        parts.push(card("card unknown", &mut y, room, |texts, y, room| {
            lines(texts, Face::Body, unknown, MARGIN + INSET, y, room);
        }));
    }
    (parts, (y + GRID).next_multiple_of(GRID))
}

/// A box across the whole width, as high as what is written into it.
fn card(class: &str, y: &mut u32, room: u32, write: impl FnOnce(&mut Vec<Text>, &mut u32, u32)) -> Part {
    let top = *y;
    let mut texts = Vec::new();
    *y += LEADING + 4;
    write(&mut texts, y, room - 2 * INSET);
    *y -= 4;
    let frame = Rect {
        x: MARGIN,
        y: top,
        w: room,
        h: *y - top,
    };
    *y += 8;
    Part {
        texts,
        ..Part::framed(class, frame)
    }
}

fn lines(texts: &mut Vec<Text>, face: Face, text: &str, x: u32, y: &mut u32, room: u32) {
    for line in wrap(text, face, room) {
        texts.push(Text::fitted(face, x, *y, &line, room));
        *y += LEADING;
    }
}

/// What the signs mean, and the notes; returns the height of the drawing.
pub(super) fn legend(view: &View, top: u32, room: u32) -> (Vec<Part>, u32) {
    let mut y = top + LEADING;
    let door = match view.basis {
        Basis::Declared => "a door: an open flow; the arrow points to who is reached",
        Basis::Allowed => "a door: an allowed connection; the arrow points to who is reached",
    };
    let mut parts = vec![sample("line door hue0", door, room, &mut y, true)];
    let hole = "a hole, always a dashed line with the word HOLE: a forbidden path, with the rule at either end";
    parts.push(sample("line hole", hole, room, &mut y, false));
    if view.basis == Basis::Allowed {
        let forbidden = "FORBIDDEN, dashed: an allowed connection between pods of two stages";
        parts.push(sample("line forbidden", forbidden, room, &mut y, false));
    }
    let mut texts = Vec::new();
    let unknown = "UNKNOWN, in a dashed frame: the analysis cannot tell, for the reason that is named. Point at anything \
                   to read the whole text.";
    lines(&mut texts, Face::Body, unknown, MARGIN, &mut y, room);
    for note in &view.notes {
        lines(&mut texts, Face::Body, &format!("Note: {note}"), MARGIN, &mut y, room);
    }
    parts.push(Part {
        class: "legend".to_owned(),
        texts,
        ..Part::default()
    });
    (parts, y + MARGIN)
}

fn sample(class: &str, text: &str, room: u32, y: &mut u32, door: bool) -> Part {
    let line = *y - 4;
    let end = MARGIN + SAMPLE - GRID;
    let mut marks = vec![Mark::Right(end, line)];
    if door {
        marks.push(Mark::Door(MARGIN + 16, line));
    }
    let text = Text::fitted(Face::Body, MARGIN + SAMPLE, *y, text, room - SAMPLE);
    *y += LEADING;
    Part {
        class: class.to_owned(),
        line: vec![(MARGIN, line), (end, line)],
        marks,
        texts: vec![text],
        ..Part::default()
    }
}
