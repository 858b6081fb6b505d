//! Mermaid, for pages that draw it themselves.

use std::fmt::Write as _;

use super::view::{Cell, Kind, RoomView, View};

/// Writes a flowchart: rooms and namespaces are subgraphs.
pub(super) fn write(view: &View) -> String {
    let mut out = format!("---\ntitle: {}\n---\nflowchart LR\n", view.title);
    let _ = writeln!(out, "  head[{}]", lines(&view.prose()));
    for (number, room) in view.rooms.iter().enumerate() {
        room_of(&mut out, number, room);
    }
    for link in &view.links {
        let arrow = if link.kind == Kind::Door { "-->" } else { "-.->" };
        let label = lines(std::slice::from_ref(&link.label));
        let _ = writeln!(out, "  n{} {arrow}|{label}| n{}", link.from, link.to);
    }
    for (index, link) in view.links.iter().enumerate() {
        let width = match link.kind {
            Kind::Door => continue,
            Kind::Forbidden => 2,
            Kind::Hole => 4,
        };
        let _ = writeln!(out, "  linkStyle {index} stroke:#b3261e,stroke-width:{width}px");
    }
    out.push_str("  classDef hole stroke:#b3261e,stroke-dasharray:5 3\n");
    out.push_str("  classDef unknown stroke:#7a4d00,stroke-dasharray:2 3\n");
    out
}

fn room_of(out: &mut String, number: usize, room: &RoomView) {
    let head = [room.title.to_owned(), room.detail.clone()];
    let _ = writeln!(out, "  subgraph r{number}[{}]", lines(&head));
    for cell in &room.cells {
        cell_of(out, cell);
    }
    for (index, chip) in room.chips.iter().enumerate() {
        let class = if chip.unknown { ":::unknown" } else { "" };
        let text = lines(&[chip.name.clone(), chip.tag.clone()]);
        let _ = writeln!(out, "    c{number}_{index}[{text}]{class}");
    }
    for (index, frame) in room.frames.iter().enumerate() {
        let head = [frame.title.clone(), frame.status.clone()];
        let _ = writeln!(out, "    subgraph r{number}_{index}[{}]", lines(&head));
        for cell in &frame.cells {
            cell_of(out, cell);
        }
        out.push_str("    end\n");
        if frame.unknown {
            let _ = writeln!(out, "    class r{number}_{index} unknown");
        }
    }
    out.push_str("  end\n");
}

fn cell_of(out: &mut String, cell: &Cell) {
    let class = if cell.hole { ":::hole" } else { "" };
    let text = lines(&[cell.name.clone(), cell.detail.clone()]);
    let _ = writeln!(out, "      n{}[{text}]{class}", cell.id);
}

/// Several lines as one quoted text. Mermaid reads HTML, Markdown and `%%{…}%%` directives even inside of quotes: every
/// sign that is not harmless is written by its number.
fn lines(texts: &[String]) -> String {
    let texts = texts.iter().filter(|text| !text.is_empty()).map(|text| {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '.' | ',' | ':' | '-' | '/' => out.push(c),
                _ => {
                    let _ = write!(out, "#{};", u32::from(c));
                }
            }
        }
        out
    });
    format!("\"{}\"", texts.collect::<Vec<_>>().join("<br/>"))
}
