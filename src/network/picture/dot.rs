//! DOT, for Graphviz.

use std::fmt::Write as _;

use super::text::{Face, wrap};
use super::view::{Cell, Kind, RoomView, View};

/// The longest line above the graph, in pixels.
const LINE: u32 = 1000;

/// Writes a graph: rooms and namespaces are clusters.
pub(super) fn write(view: &View) -> String {
    let mut out = String::from("digraph cloison {\n");
    let head = std::iter::once(view.title.to_owned()).chain(view.prose());
    let head: Vec<String> = head.flat_map(|line| wrap(&line, Face::Body, LINE)).collect();
    let _ = writeln!(
        out,
        "  graph [rankdir=LR, labelloc=t, fontname=\"sans-serif\", label=\"{}\\l\"];",
        escaped(&head, "\\l")
    );
    out.push_str("  node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for (number, room) in view.rooms.iter().enumerate() {
        room_of(&mut out, number, room);
    }
    for link in &view.links {
        let style = match link.kind {
            Kind::Door => "",
            Kind::Forbidden => ", color=\"#b3261e\", style=dashed",
            Kind::Hole => ", color=\"#b3261e\", style=dashed, penwidth=3",
        };
        let label = quoted(&link.label);
        let _ = writeln!(
            out,
            "  n{} -> n{} [label={label}, tooltip={}{style}];",
            link.from,
            link.to,
            quoted(&link.title)
        );
    }
    out.push_str("}\n");
    out
}

fn room_of(out: &mut String, number: usize, room: &RoomView) {
    let _ = writeln!(out, "  subgraph cluster_{number} {{");
    let head = [room.title.to_owned(), room.detail.clone()];
    let _ = writeln!(out, "    label={}; penwidth=3;", lines(&head));
    for cell in &room.cells {
        cell_of(out, cell);
    }
    for (index, chip) in room.chips.iter().enumerate() {
        let style = if chip.unknown { ", style=\"filled,dashed\"" } else { "" };
        let text = lines(&[chip.name.clone(), chip.tag.clone()]);
        let tooltip = quoted(&chip.title);
        let _ = writeln!(out, "    c{number}_{index} [label={text}, tooltip={tooltip}{style}];");
    }
    for (index, frame) in room.frames.iter().enumerate() {
        let style = if frame.unknown { " style=dashed;" } else { "" };
        let _ = writeln!(out, "    subgraph cluster_{number}_{index} {{");
        let head = [frame.title.clone(), frame.status.clone()];
        let _ = writeln!(out, "      label={}; penwidth=1;{style}", lines(&head));
        for cell in &frame.cells {
            cell_of(out, cell);
        }
        out.push_str("    }\n");
    }
    out.push_str("  }\n");
}

fn cell_of(out: &mut String, cell: &Cell) {
    let style = if cell.hole {
        ", color=\"#b3261e\", style=\"filled,dashed\""
    } else {
        ""
    };
    let text = lines(&[cell.name.clone(), cell.detail.clone()]);
    let _ = writeln!(out, "      n{} [label={text}{style}];", cell.id);
}

/// A quoted string.
fn quoted(text: &str) -> String {
    lines(&[text.to_owned()])
}

/// Several lines as one quoted string.
fn lines(texts: &[String]) -> String {
    format!("\"{}\"", escaped(texts, "\\n"))
}

/// Texts with an end of line between them; a backslash would start an escape of Graphviz, a quotation mark would end the
/// string.
fn escaped(texts: &[String], end: &str) -> String {
    let texts = texts.iter().filter(|text| !text.is_empty());
    let escaped = texts.map(|text| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    escaped.collect::<Vec<_>>().join(end)
}
