//! `check --fix`: the lines that mend a finding, where exactly one way is right. No file is written, and what a person has to
//! decide is said to be so.

use std::fmt::Write as _;

use crate::api::names;
use crate::cli::manifests::{Document, Node};
use crate::cli::out;
use crate::compliance::Finding;
use crate::compliance::id::{IAM_01, WKL_01, WKL_02};

const TOKEN: &str = "automountServiceAccountToken";

/// The one right change of a document.
#[derive(Debug, PartialEq, Eq)]
enum Repair {
    /// A field and its value.
    Set(String, &'static str),
    /// The label of the workload below this path.
    Label(String, String),
    /// A field to take away.
    Remove(String),
}

/// What mends each finding, in their order. `source` is the document that a finding is about, and `workloads` the names of the
/// AiWorkloads of a namespace.
pub(super) fn print<'d>(
    findings: &[Finding],
    source: impl Fn(&Finding) -> Option<&'d Document>,
    workloads: impl Fn(&str) -> Vec<String>,
    text: impl Fn(&str) -> Option<String>,
) -> String {
    let mut said = String::new();
    for finding in findings {
        let at = finding
            .at
            .as_ref()
            .map_or_else(|| finding.subject.to_string(), ToString::to_string);
        let told = match repair(finding, &workloads) {
            None => format!(
                "{at}: {} needs a decision of yours; no line is proposed\n",
                finding.rule
            ),
            Some(repair) => {
                let proposed = source(finding).and_then(|document| lines(&repair, document, &text(&document.file)?));
                let by_hand = || {
                    format!(
                        "{at}: {} is to be mended by hand: what is written there has no line of its own\n",
                        finding.rule
                    )
                };
                proposed.unwrap_or_else(by_hand)
            }
        };
        let _ = write!(said, "fix: {told}");
    }
    said
}

/// The change that a rule asks for, where it leaves no choice.
fn repair(finding: &Finding, workloads: impl Fn(&str) -> Vec<String>) -> Option<Repair> {
    let field = finding.at.as_ref()?.field.as_deref().unwrap_or_default();
    let spec = if field.is_empty() {
        "spec".to_owned()
    } else {
        format!("{field}.spec")
    };
    let host = [
        ("host-network", "hostNetwork"),
        ("host-pid", "hostPID"),
        ("host-ipc", "hostIPC"),
    ];
    if let Some((_, key)) = host.iter().find(|(rule, _)| finding.rule == WKL_01.rule(rule)) {
        return Some(Repair::Remove(format!("{spec}.{key}")));
    }
    if finding.rule == IAM_01.rule("token") && field.ends_with(TOKEN) {
        return Some(Repair::Set(field.to_owned(), "false"));
    }
    if finding.rule == WKL_02.rule("unknown") && !field.contains("[]") {
        let namespace = finding.subject.namespace.as_deref().unwrap_or_default();
        // Of several, which one is for a person to say.
        let [only] = <[String; 1]>::try_from(workloads(namespace)).ok()?;
        return Some(Repair::Label(field.to_owned(), only));
    }
    None
}

/// A repair as lines of its file; `None` where the place is written in a way that no line can be pasted into.
fn lines(repair: &Repair, document: &Document, text: &str) -> Option<String> {
    match repair {
        Repair::Remove(path) => {
            let (parent, key) = path.rsplit_once('.')?;
            let (map, rest) = document.root.walk(parent);
            let node = map.get(key).filter(|_| rest.is_empty())?;
            let line = text.lines().nth(usize::try_from(node.at.line).ok()?.checked_sub(1)?)?;
            // One of several on a line cannot be taken away with it.
            let alone = line.trim_start().starts_with(&format!("{key}:"));
            alone.then(|| {
                format!(
                    "{}:{} {path}: take away this line\n-{}\n",
                    document.file,
                    node.at.line,
                    out::clean(line)
                )
            })
        }
        Repair::Set(path, value) => {
            let (parent, key) = path.rsplit_once('.')?;
            let (node, rest) = document.root.walk(parent);
            if let Some(there) = node.get(key).filter(|_| rest.is_empty()) {
                let line = text.lines().nth(usize::try_from(there.at.line).ok()?.checked_sub(1)?)?;
                let blank = &line[..line.len() - line.trim_start().len()];
                let alone = line.trim_start().starts_with(&format!("{key}:"));
                return alone.then(|| {
                    let at = format!("{}:{} {path}: change this line", document.file, there.at.line);
                    format!("{at}\n-{}\n+{blank}{key}: {value}\n", out::clean(line))
                });
            }
            added(document, node, &rest, &format!("{key}: {value}"), path, text)
        }
        Repair::Label(path, name) => {
            let (node, rest) = document.root.walk(path);
            if rest.is_empty() && node.get(names::WORKLOAD_LABEL).is_some() {
                // Somebody chose it; that it names nothing may be a misspelling, or a workload that is to come.
                return None;
            }
            let entry = format!("{}: {name}", names::WORKLOAD_LABEL);
            added(document, node, &rest, &entry, path, text)
        }
    }
}

/// Lines to put in front of the first of a map, at its depth.
fn added(document: &Document, node: &Node, rest: &[&str], entry: &str, path: &str, text: &str) -> Option<String> {
    let line = text.lines().nth(usize::try_from(node.at.line).ok()?.checked_sub(1)?)?;
    let depth = usize::try_from(node.at.column).ok()?.checked_sub(1)?;
    let (before, after) = line.split_at_checked(depth)?;
    // Behind a dash, or inside braces, a line of its own would be another thing.
    if !before.trim().is_empty() || after.starts_with(['{', '[', '"']) || rest.iter().any(|step| step.ends_with(']')) {
        return None;
    }
    let mut said = format!("{}:{} {path}: add above this line\n", document.file, node.at.line);
    let steps = rest.iter().map(|step| format!("{step}:")).chain([entry.to_owned()]);
    for (deeper, step) in steps.enumerate() {
        let _ = writeln!(said, "+{}{step}", " ".repeat(depth + 2 * deeper));
    }
    Some(said)
}
