//! Workflow commands of GitHub Actions: each finding is an annotation at its line of the pull request.
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use std::fmt::Write as _;

use super::{Level, Report, Told, file};
use crate::compliance::Location;

/// A command for each finding, note and place that could not be read; the last line counts them.
pub fn print(report: &Report<'_>) -> String {
    let Report {
        findings,
        known: _, // counted by the summary
        notes,
        unreadable,
    } = report;
    let mut text: String = findings.iter().map(finding).collect();
    for place in unreadable {
        let message = prefixed(place.at.field.as_deref().unwrap_or_default(), &place.message);
        text.push_str(&command(Level::Error, &place.at, "cannot be read", &message));
    }
    for note in notes {
        text.push_str(&command(Level::Note, &Location::default(), "note", note));
    }
    let _ = writeln!(text, "{}", report.summary());
    text
}

fn finding(told: &Told<'_>) -> String {
    let finding = told.finding;
    let at = finding.at.clone().unwrap_or_default();
    let title = format!("{} {}", told.severity(), finding.rule);
    let object = match &at.field {
        Some(field) => format!("{} {field}", finding.subject),
        None => finding.subject.to_string(),
    };
    let mut message = prefixed(&object, &finding.message);
    let fix = told.fix();
    if !fix.is_empty() {
        let _ = write!(message, "; {fix}");
    }
    command(told.level, &at, &title, &message)
}

fn prefixed(place: &str, message: &str) -> String {
    if place.is_empty() {
        message.to_owned()
    } else {
        format!("{place}: {message}")
    }
}

fn command(level: Level, at: &Location, title: &str, message: &str) -> String {
    let name = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let mut properties = Vec::new();
    if let Some(file) = file(at) {
        properties.push(format!("file={}", property(&file)));
        properties.extend(at.line.map(|line| format!("line={line}")));
        properties.extend(at.column.map(|column| format!("col={column}")));
    }
    properties.push(format!("title={}", property(title)));
    format!("::{name} {}::{}\n", properties.join(","), data(message))
}

/// A message: the next line would be a command of whoever wrote it.
fn data(text: &str) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    // What is left of control characters could rewrite the log on a terminal.
    text.replace(char::is_control, " ")
}

/// A value of a property, which `,` and `:` end.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
