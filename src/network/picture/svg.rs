//! SVG out of placed shapes: no script, nothing from elsewhere.

use std::fmt::Write as _;

use super::scene::{Mark, Part, Scene, Text};
use super::text::{Face, xml};

/// Half the height of an arrow, its length, half the height of a door.
const ARROW: (u32, u32) = (4, 8);
const DOOR: (u32, u32) = (3, 6);

const STYLE: &str = "\
text{fill:#1b1f24;font-family:\"DejaVu Sans\",Verdana,Arial,sans-serif}
.head,.legend{fill:none}
.room>rect{stroke:#57606a;stroke-width:3;fill:#f6f8fa}
.training>rect{fill:#e8f1fc}.evaluation>rect{fill:#f3ecfb}.inference>rect{fill:#e7f6ec}
.shared>rect{fill:#fdf5e2}
.namespace>rect{fill:#fff;stroke:#8c959f}
.box>rect,.chip>rect{fill:#f6f8fa;stroke:#8c959f}
.box.hole>rect{fill:#fff0ee;stroke:#b3261e;stroke-dasharray:5 3}
.card>rect{fill:#fff;stroke:#57606a}
.card.hole>rect{fill:#fff0ee;stroke:#b3261e;stroke-width:2;stroke-dasharray:8 4}
.unknown>rect{stroke:#7a4d00;stroke-width:2;stroke-dasharray:2 3}
.line path{fill:none;stroke-width:1.5}
.line:hover path{stroke-width:4}
.hue0{color:#0b4f9e}.hue1{color:#4b5563}.hue2{color:#0a6b57}.hue3{color:#6b3fa0}
.line path{stroke:currentColor}.line .mark{fill:currentColor}
.line .way{fill:#fff;stroke:currentColor;stroke-width:1.5}
.line.hole,.line.forbidden{color:#b3261e}
.line.hole path{stroke-width:3;stroke-dasharray:9 5}
.line.forbidden path{stroke-width:2;stroke-dasharray:3 3}
.line.hole text,.line.forbidden text,.box.hole text{fill:#8c1d18}
";

/// Writes a drawing.
pub(super) fn write(scene: &Scene) -> String {
    let mut out = String::new();
    let Scene {
        width,
        height,
        title,
        description,
        parts,
    } = scene;
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">"
    );
    let _ = writeln!(out, "<title>{}</title>", xml(title));
    let _ = writeln!(out, "<desc>{}</desc>", xml(description));
    let _ = write!(out, "<style>\n{STYLE}");
    for face in Face::ALL {
        let weight = if face.bold() { ";font-weight:bold" } else { "" };
        let _ = writeln!(out, ".{}{{font-size:{}px{weight}}}", face.class(), face.size());
    }
    let _ = writeln!(out, "</style>");
    let _ = writeln!(out, "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>");
    for part in parts {
        part_of(&mut out, part);
    }
    out.push_str("</svg>\n");
    out
}

fn part_of(out: &mut String, part: &Part) {
    let _ = writeln!(out, "<g class=\"{}\">", xml(&part.class));
    if let Some(title) = &part.title {
        let _ = writeln!(out, "<title>{}</title>", xml(title));
    }
    if let Some(frame) = part.frame {
        let _ = writeln!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"/>",
            frame.x, frame.y, frame.w, frame.h
        );
    }
    if let Some(((x, y), rest)) = part.line.split_first() {
        let mut path = format!("M{x} {y}");
        for (x, y) in rest {
            let _ = write!(path, "L{x} {y}");
        }
        let _ = writeln!(out, "<path d=\"{path}\"/>");
    }
    for mark in &part.marks {
        mark_of(out, *mark);
    }
    for text in &part.texts {
        text_of(out, text);
    }
    for inner in &part.parts {
        part_of(out, inner);
    }
    out.push_str("</g>\n");
}

fn mark_of(out: &mut String, mark: Mark) {
    let (half, length) = ARROW;
    let (side, high) = DOOR;
    let _ = match mark {
        Mark::Right(x, y) => writeln!(
            out,
            "<polygon class=\"mark\" points=\"{x},{y} {0},{1} {0},{2}\"/>",
            x - length,
            y - half,
            y + half
        ),
        Mark::Left(x, y) => writeln!(
            out,
            "<polygon class=\"mark\" points=\"{x},{y} {0},{1} {0},{2}\"/>",
            x + length,
            y - half,
            y + half
        ),
        Mark::Joint(x, y) => writeln!(out, "<circle class=\"mark\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>"),
        Mark::Door(x, y) => writeln!(
            out,
            "<polygon class=\"way\" points=\"{0},{2} {1},{2} {1},{3} {0},{3}\"/>",
            x - side,
            x + side,
            y - high,
            y + high
        ),
    };
}

fn text_of(out: &mut String, text: &Text) {
    let full = text.full.as_deref().map(|full| format!("<title>{}</title>", xml(full)));
    let _ = writeln!(
        out,
        "<text class=\"{}\" x=\"{}\" y=\"{}\">{}{}</text>",
        text.face.class(),
        text.x,
        text.y,
        full.unwrap_or_default(),
        xml(&text.shown)
    );
}
