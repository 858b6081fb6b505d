//! One page that needs nothing else: the drawing, and under it every hole and every door as text, unbundled. Well-formed
//! XML too, so that a strict parser can say that no name got out of its place.

use std::fmt::Write as _;

use super::model::{Group, Node, Picture};
use super::text::{clean, xml};

/// Scripts are neither needed nor allowed, and nothing is loaded.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "body{margin:1rem;font-family:\"DejaVu Sans\",Verdana,Arial,sans-serif;font-size:14px;color:#1b1f24;\
background:#fff}.drawing{overflow:auto;border:1px solid #8c959f}td,th{text-align:left;padding:2px 12px 2px 0;\
vertical-align:top}";

/// Writes a page around a drawing.
pub(super) fn write(picture: &Picture, drawing: &str) -> String {
    let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    let _ = writeln!(
        out,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\"/>",
        xml(POLICY)
    );
    out.push_str("<title>Who may talk to whom</title>\n");
    let _ = writeln!(out, "<style>{STYLE}</style>\n</head>\n<body>");
    let _ = writeln!(out, "<div class=\"drawing\">\n{drawing}</div>");
    if !picture.holes.is_empty() {
        out.push_str("<h2>Holes</h2>\n<ol>\n");
        for hole in &picture.holes {
            let [sentence, out_of, into] = [&hole.sentence, &hole.out.full, &hole.into.full].map(|text| safe(text));
            let _ = writeln!(out, "<li>{sentence}<br/>let out by {out_of}<br/>let in by {into}</li>");
        }
        out.push_str("</ol>\n");
    }
    let _ = writeln!(
        out,
        "<details>\n<summary>Every door ({})</summary>",
        picture.doors.len()
    );
    out.push_str("<table>\n<tr><th>From</th><th>To</th><th>Ports</th></tr>\n");
    for ((from, to), door) in &picture.doors {
        let remarks: Vec<&str> = door.remarks.iter().map(String::as_str).collect();
        let ports = if remarks.is_empty() {
            door.ports.to_string()
        } else {
            remarks.join("; ")
        };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            name(from),
            name(to),
            safe(&ports)
        );
    }
    out.push_str("</table>\n</details>\n</body>\n</html>\n");
    out
}

fn safe(text: &str) -> String {
    xml(&clean(text))
}

fn name(node: &Node) -> String {
    safe(&match &node.group {
        Group::Namespace(namespace) => format!("{namespace}/{}", node.name),
        Group::Later | Group::Addresses => node.name.clone(),
    })
}
