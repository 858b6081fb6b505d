//! A table for the comment of a merge request. What people wrote stands in it as text: no markup, no further row, no
//! mention that would wake somebody.

use std::fmt::Write as _;

use super::{Report, Told, help};
use crate::compliance::finding::one_line;

/// A title that counts, the findings as a table, then notes and what could not be read as lists.
pub fn print(report: &Report<'_>) -> String {
    let Report {
        findings,
        known: _, // counted by the title
        notes,
        unreadable,
    } = report;
    let mut text = format!("### Cloison: {}\n", report.summary());
    if !findings.is_empty() {
        text.push_str("\n| severity | rule | object | place | what was found |\n|---|---|---|---|---|\n");
        text.extend(findings.iter().map(row));
    }
    if !unreadable.is_empty() {
        text.push_str("\nCannot be read:\n\n");
    }
    for place in unreadable {
        let _ = writeln!(text, "- {}: {}", code(&place.at.to_string()), prose(&place.message));
    }
    if !notes.is_empty() {
        text.push_str("\nNotes:\n\n");
    }
    for note in notes {
        let _ = writeln!(text, "- {}", prose(note));
    }
    text
}

fn row(told: &Told<'_>) -> String {
    let finding = told.finding;
    let place = finding.at.as_ref().map(|at| code(&at.to_string())).unwrap_or_default();
    let mut what = prose(&finding.message);
    let fix = told.fix();
    if !fix.is_empty() {
        let _ = write!(what, "<br>{}", prose(&fix));
    }
    format!(
        "| {} | [{}]({}) | {} | {place} | {what} |\n",
        told.severity(),
        prose(&finding.rule.to_string()),
        help(&finding.rule),
        code(&finding.subject.to_string()),
    )
}

/// A name. Elements of HTML, because backticks of the name itself would end a span of backticks.
fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// A sentence. GitHub and GitLab look for mentions in what is shown, but not in code.
fn prose(text: &str) -> String {
    escaped(text).replace("&#64;", "<code>&#64;</code>")
}

/// As entities, which mean nothing but their character: neither the end of a cell nor emphasis, links or HTML.
fn escaped(text: &str) -> String {
    one_line(text).chars().fold(String::new(), |mut safe, character| {
        if r"&<>|`*_[]\~#@!:$^".contains(character) {
            let _ = write!(safe, "&#{};", u32::from(character));
        } else {
            safe.push(character);
        }
        safe
    })
}
