//! SARIF 2.1.0, which code scanning of GitHub, GitLab and editors read: one run, the rules that occur, a result for each
//! finding. <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Level, Report, Told, file, help};
use crate::compliance::finding::one_line;
use crate::compliance::{Assurance, Catalogue, Finding, Location, RuleId, Severity};

/// Version 1 of [`fingerprint`](crate::compliance::fingerprint). Not `primaryLocationLineHash`, which GitHub's upload computes
/// itself from the line.
const FINGERPRINT: &str = "cloison/v1";

/// The log.
pub fn log(report: &Report<'_>) -> Value {
    let Report {
        findings,
        known,
        notes,
        unreadable,
    } = report;
    let all = || findings.iter().chain(known.iter().flatten());
    let rules: BTreeSet<&RuleId> = all().map(|told| &told.finding.rule).collect();
    let rules: Vec<&RuleId> = rules.into_iter().collect();
    let mut results = Vec::new();
    for told in findings {
        results.push(result(told, &rules, known.is_some().then_some(false)));
    }
    for told in known.iter().flatten() {
        results.push(result(told, &rules, Some(true)));
    }
    let mut notifications = Vec::new();
    for place in unreadable {
        let mut notification = json!({"level": "error", "message": {"text": text(&place.message)}});
        if let Some(physical) = physical(&place.at) {
            notification["locations"] = json!([{"physicalLocation": physical}]);
        } else {
            notification["message"]["text"] = json!(text(&format!("{}: {}", place.at, place.message)));
        }
        notifications.push(notification);
    }
    notifications.extend(
        notes
            .iter()
            .map(|note| json!({"level": "note", "message": {"text": text(note)}})),
    );
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "cloison",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": unreadable.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    })
}

/// A rule, as the catalogue has it.
fn descriptor(id: &RuleId) -> Value {
    let catalogue = Catalogue::builtin();
    let control = catalogue.control(id.control());
    let rule = control.and_then(|control| control.rule(id));
    let title = rule.map(|rule| &rule.title).or(control.map(|control| &control.title));
    let title = title.cloned().unwrap_or_else(|| id.to_string());
    let full = match control {
        Some(control) if rule.is_some() => format!("{title}. {}: {}.", control.id, control.title),
        _ => format!("{title}."),
    };
    let mut help_text = String::new();
    if let Some(fix) = catalogue.fix(id) {
        let _ = write!(help_text, "What to do: {fix}.");
    }
    let references = control.map(|control| &control.references).into_iter().flatten();
    let references: Vec<String> = references
        .map(|(source, ids)| format!("{source} {}", ids.join(", ")))
        .collect();
    if !references.is_empty() {
        let _ = write!(help_text, "\nReferences: {}.", references.join("; "));
    }
    let severity = catalogue.severity(id);
    let family = control.and_then(|control| catalogue.family(control.id.family()));
    let mut tags = vec!["security".to_owned(), id.control().to_string()];
    tags.extend(family.map(|family| family.title.clone()));
    let mut properties = json!({"severity": severity, "tags": tags});
    if let Some(score) = score(severity) {
        properties["security-severity"] = json!(score);
    }
    json!({
        "id": id,
        "shortDescription": {"text": title},
        "fullDescription": {"text": full},
        "helpUri": help(id),
        "help": {"text": if help_text.is_empty() { help(id) } else { help_text }},
        "properties": properties,
    })
}

/// GitHub sorts alerts of a security tool by a number: above 9 critical, from 7 high, from 4 medium.
const fn score(severity: Severity) -> Option<&'static str> {
    match severity {
        Severity::Critical => Some("9.5"),
        Severity::High => Some("8.0"),
        Severity::Medium => Some("5.5"),
        Severity::Low => Some("2.0"),
        Severity::Info => None,
    }
}

/// A result. `known`: whether the baseline holds it, where there is one; the standard wants that said of all or of none.
fn result(told: &Told<'_>, rules: &[&RuleId], known: Option<bool>) -> Value {
    let finding = told.finding;
    let fix = told.fix();
    let fix = if fix.is_empty() { fix } else { format!("; {fix}") };
    let mut location = Map::new();
    if let Some(physical) = finding.at.as_ref().and_then(physical) {
        location.insert("physicalLocation".to_owned(), physical);
    }
    location.insert("logicalLocations".to_owned(), json!([logical(finding)]));
    let mut properties = json!({"severity": finding.severity, "assurance": finding.assurance});
    if let Some(field) = finding.at.as_ref().and_then(|at| at.field.as_deref()) {
        properties["field"] = json!(field);
    }
    let mut result = json!({
        "ruleId": finding.rule,
        "ruleIndex": rules.binary_search(&&finding.rule).unwrap_or_default(),
        "kind": if finding.assurance == Assurance::Unknown { "open" } else { "fail" },
        "level": level(told),
        "message": {"text": text(&format!("{}: {}{fix}", finding.subject, finding.message))},
        "locations": [location],
        "partialFingerprints": {FINGERPRINT: told.fingerprint},
        "properties": properties,
    });
    if let Some(known) = known {
        let accepted = json!({"kind": "external", "status": "accepted", "justification": "it is in the baseline"});
        result["baselineState"] = json!(if known { "unchanged" } else { "new" });
        result["suppressions"] = if known { json!([accepted]) } else { json!([]) };
    }
    result
}

/// A result of kind `open`, which is not known, has no level: the standard says so.
fn level(told: &Told<'_>) -> &'static str {
    match told.level {
        _ if told.finding.assurance == Assurance::Unknown => "none",
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

fn physical(at: &Location) -> Option<Value> {
    let mut physical = json!({"artifactLocation": {"uri": uri(&file(at)?)}});
    if let Some(line) = at.line {
        physical["region"] = json!({"startLine": line});
        if let Some(column) = at.column {
            physical["region"]["startColumn"] = json!(column);
        }
    }
    Some(physical)
}

fn logical(finding: &Finding) -> Value {
    let subject = &finding.subject;
    let parts = [Some(&subject.kind), subject.namespace.as_ref(), Some(&subject.name)];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    json!({"name": subject.name, "fullyQualifiedName": parts.join("/"), "kind": "resource"})
}

/// A path as a relative reference, or as an absolute one of the scheme `file`.
fn uri(path: &str) -> String {
    let scheme = if path.starts_with('/') { "file://" } else { "" };
    path.bytes().fold(scheme.to_owned(), |mut uri, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
        uri
    })
}

/// Text of a message. Viewers make a link of `[text](target)`; braces stay as they are, since no arguments are given.
fn text(text: &str) -> String {
    one_line(text).replace("](", "] (")
}
