//! What verbs print: whole texts, written once at the end, so that a pipe that closes early costs no verdict.

use std::io::{ErrorKind, Write};

use comfy_table::{Cell, Table, presets};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::CliError;

/// Spaces between two columns.
const GAP: u16 = 3;

/// Writes to standard output. `cloison … | head` closes the pipe before the end: that is no error.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// A table without lines; ends in a line break, or is empty where there is no row.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|name| Cell::new(*name)));
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(clean(cell))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    format!("{}\n", table.trim_fmt())
}

/// The cells of a condition: type, status, for how long, reason, message.
pub(super) fn condition(condition: &Condition, now: Timestamp) -> Vec<String> {
    let held = age(now, condition.last_transition_time.0);
    let Condition {
        type_,
        status,
        reason,
        message,
        ..
    } = condition;
    [type_, status, &held, reason, message].map(Clone::clone).to_vec()
}

/// Text of others on one line: a line break would forge a second row, an escape sequence could rewrite the screen.
pub(super) fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// One YAML document, marker included.
pub(super) fn document<T: Serialize>(value: &T) -> Result<String, CliError> {
    let text = serde_saphyr::to_string(value).map_err(std::io::Error::other)?;
    Ok(format!("---\n{text}"))
}

/// JSON for programs, ending in a line break.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
    Ok(format!("{text}\n"))
}

/// `1 pod`, `2 pods`.
pub(super) fn count(number: usize, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {one}{s}")
}

/// How long ago, in the largest unit that fits.
pub(super) fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.duration_since(then))
}

/// How long, in the largest unit that fits.
pub(super) fn span(duration: SignedDuration) -> String {
    let seconds = duration.max(SignedDuration::ZERO).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_no_blanks_at_the_end() {
        let rows = vec![vec!["a".to_owned(), "long\u{1b}[2J\nname".to_owned()]];
        assert_eq!(table(&["X", "NAME"], rows), "X   NAME\na   long [2J name\n");
        assert_eq!(table(&["X"], Vec::new()), "");
    }

    #[test]
    fn an_age_is_told_in_one_unit() {
        let ago = |seconds: i64| {
            age(
                Timestamp::from_second(1_000_000).unwrap_or_default(),
                Timestamp::from_second(1_000_000 - seconds).unwrap_or_default(),
            )
        };
        assert_eq!(ago(-5), "0 s");
        assert_eq!(ago(12), "12 s");
        assert_eq!(ago(119), "119 s");
        assert_eq!(ago(120), "2 min");
        assert_eq!(ago(10_800), "3 h");
        assert_eq!(ago(172_800), "2 days");
    }
}
