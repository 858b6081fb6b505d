//! What people wrote breaks out of no format, and nothing of it is lost on the way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Level, Report, Told, Unreadable, github, markdown, sarif};
use crate::compliance::finding::one_line;
use crate::compliance::id::{NET_03, NET_04, WKL_01};
use crate::compliance::{Assurance, Finding, Location, Subject};

/// A name that tries to leave a cell, a line, a property, a command, an element, a span and a link.
const NASTY: &str = "a|b`c``\n::error file=x::done\r\n<img src=x onerror=y>, @root [x](https:e.test) %0A &amp; \\| #1 é 日本 \"q\" 'r' $x$";

fn nasty() -> Vec<Finding> {
    let subject = || Subject::namespaced("Pod", "train", NASTY);
    let place = |file: &str| Location::field(NASTY).in_file(file, 7, 3);
    vec![
        Finding::new(NET_03.rule("path"), subject(), format!("a path of {NASTY}")).at(place(NASTY)),
        Finding::new(WKL_01.rule("host-ipc"), subject(), "spec.hostIPC").at(place("./a b/.//c:d,é.yaml")),
        Finding::new(
            NET_04.rule("awaiting-peer"),
            Subject::cluster("Namespace", "x"),
            "waits",
        )
        .with_fix(NASTY),
        Finding::new(NET_03.rule("unseen"), subject(), "not seen").with_assurance(Assurance::Unknown),
        Finding::new(NET_03, subject(), NASTY).at(place("-")),
    ]
}

fn told(findings: &[Finding]) -> Vec<Told<'_>> {
    let one = |finding: &Finding| finding.severity >= crate::compliance::Severity::Medium;
    let told = findings.iter().map(|finding| {
        let fails = one(finding) && finding.assurance != Assurance::Unknown;
        Told::new(finding, Level::of(finding, fails), &BTreeSet::new())
    });
    told.collect()
}

fn report<'r>(findings: &'r [Finding], known: Option<&'r [Finding]>) -> Report<'r> {
    let at = Location::field("spec").in_file("broken|.yaml", 3, 1);
    Report {
        findings: told(findings),
        known: known.map(told),
        notes: vec![format!("assumed {NASTY}")],
        unreadable: vec![Unreadable {
            at,
            message: NASTY.to_owned(),
        }],
    }
}

#[test]
fn the_level_says_whether_a_run_fails() {
    let path = nasty().remove(0);
    assert_eq!(Level::of(&path, true), Level::Error);
    assert_eq!(Level::of(&path, false), Level::Warning);
    let unknown = path.with_assurance(Assurance::Unknown);
    assert_eq!(Level::of(&unknown, false), Level::Note);
}

#[test]
fn the_summary_counts_everything() {
    let findings = nasty();
    assert_eq!(Report::default().summary(), "no findings");
    assert_eq!(
        report(&findings, None).summary(),
        "4 findings, 1 unknown, 1 place not readable"
    );
    assert_eq!(
        report(&findings[..1], Some(&findings[1..3])).summary(),
        "1 new finding, 2 in the baseline, 1 place not readable"
    );
}

/// As a renderer shows it: elements gone, entities decoded.
fn shown(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell.replace("<br>", "; ").replace("<code>", "").replace("</code>", "");
    while let Some((before, after)) = rest.split_once("&#") {
        let (number, after) = after.split_once(';').unwrap();
        text.push_str(before);
        text.push(char::from_u32(number.parse().unwrap()).unwrap());
        rest = after.to_owned();
    }
    text + &rest
}

#[test]
fn markdown_keeps_every_name_in_its_cell() {
    let findings = nasty();
    let page = markdown::print(&report(&findings, None));
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    assert_eq!(rows.len(), findings.len(), "{page}");
    for (row, finding) in rows.iter().zip(&findings) {
        let cells: Vec<&str> = row.split('|').collect();
        let [_, _, rule, object, place, what, _] = cells.as_slice() else {
            unreachable!("{row}")
        };
        assert!(rule.contains(&finding.rule.to_string()), "{rule}");
        assert_eq!(shown(object).trim(), one_line(&finding.subject.to_string()).trim());
        let at = finding
            .at
            .as_ref()
            .map(|at| one_line(&at.to_string()))
            .unwrap_or_default();
        assert_eq!(shown(place).trim(), at.trim());
        let fix = finding.fix.as_deref().unwrap();
        assert!(shown(what).contains(&format!("{}; {fix}", finding.message)), "{what}");
        for raw in [*object, *place, *what] {
            let bare = raw.replace("<br>", "").replace("<code>", "").replace("</code>", "");
            let bare = bare.replace("&#", "");
            assert!(
                !bare.contains(['<', '>', '`', '[', ']', '*', '_', '\\', '&', '@']),
                "{raw}"
            );
        }
        // Whom it mentions stays asleep.
        assert_eq!(
            what.matches("&#64;").count(),
            what.matches("<code>&#64;</code>").count()
        );
    }
    // Two lists, and no line that somebody else began.
    let items: Vec<&str> = page.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(items.len(), 2, "{page}");
    assert!(
        shown(items[0]).contains("broken|.yaml:3:1 spec: a|b`c``"),
        "{}",
        items[0]
    );
    let own = |line: &&str| !line.is_empty() && !line.starts_with("| ") && !line.starts_with("- ");
    let own: Vec<&str> = page.lines().filter(own).collect();
    assert_eq!(own.len(), 4, "{page}");
}

/// A command as the runner of GitHub reads a line: its name, its properties, its message.
fn command(line: &str) -> (String, BTreeMap<String, String>, String) {
    let data = |text: &str| text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%");
    let property = |text: &str| {
        let text = text.replace("%0D", "\r").replace("%0A", "\n");
        text.replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
    };
    let (head, message) = line.strip_prefix("::").unwrap().split_once("::").unwrap();
    let (name, properties) = head.split_once(' ').unwrap();
    let pairs = properties.split(',').map(|pair| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), property(value))
    });
    (name.to_owned(), pairs.collect(), data(message))
}

#[test]
fn a_command_of_github_ends_where_it_should() {
    let findings = nasty();
    let text = github::print(&report(&findings, None));
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    let (summary, commands) = lines[..lines.len() - 1].split_last().unwrap();
    assert_eq!(*summary, "4 findings, 1 unknown, 1 place not readable");
    assert_eq!(commands.len(), findings.len() + 2, "{text}");
    for (line, finding) in commands.iter().zip(&findings) {
        let (_, properties, message) = command(line);
        let of_file = finding
            .at
            .as_ref()
            .and_then(|at| at.file.as_deref())
            .filter(|file| *file != "-");
        let named = of_file.map(|file| file.replace("./", "").replace("b//", "b/"));
        assert_eq!(properties.get("file"), named.as_ref());
        assert_eq!(properties.get("line").map(String::as_str), of_file.map(|_| "7"));
        assert!(properties["title"].contains(&finding.rule.to_string()), "{line}");
        assert!(message.starts_with(&finding.subject.to_string()), "{message}");
        let fix = finding.fix.as_deref().unwrap();
        assert!(message.contains(&format!("{}; {fix}", finding.message)), "{message}");
    }
    let names: Vec<String> = commands.iter().map(|line| command(line).0).collect();
    assert_eq!(
        names,
        ["error", "error", "notice", "notice", "error", "error", "notice"]
    );
    assert_eq!(command(commands[3]).1["title"], "Unknown NET-03/unseen");
    let (_, properties, message) = command(commands[5]);
    assert_eq!(
        (properties["file"].as_str(), properties["line"].as_str()),
        ("broken|.yaml", "3")
    );
    assert!(message.ends_with(NASTY), "{message}");
    assert!(command(commands[6]).2.ends_with(NASTY));
    // The escape character would rewrite a terminal.
    let sly = Finding::new(NET_03, Subject::cluster("Namespace", "a\u{1b}[2Jb"), "m");
    let sly = [sly];
    assert!(!github::print(&report(&sly, None)).contains('\u{1b}'));
}

fn texts<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| unreachable!("{pointer} in {value:#}"))
}

/// What the schema of the standard asks for, as far as this log uses it.
fn valid(log: &Value) {
    assert_eq!(log["version"], "2.1.0");
    let [run] = log["runs"].as_array().unwrap().as_slice() else {
        unreachable!("one run")
    };
    for pointer in ["name", "version", "informationUri"] {
        assert!(!texts(run, &format!("/tool/driver/{pointer}")).is_empty());
    }
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let ids: Vec<&str> = rules.iter().map(|rule| texts(rule, "/id")).collect();
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "a rule stands once: {ids:?}");
    for rule in rules {
        for pointer in ["/shortDescription/text", "/fullDescription/text", "/help/text"] {
            assert!(!texts(rule, pointer).is_empty());
        }
        assert!(texts(rule, "/helpUri").starts_with("https://"));
    }
    let results = run["results"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(texts(result, "/ruleId"), ids[index]);
        let (kind, level) = (texts(result, "/kind"), texts(result, "/level"));
        assert!(kind == "fail" && ["note", "warning", "error"].contains(&level) || (kind, level) == ("open", "none"));
        assert!(!texts(result, "/message/text").is_empty());
        assert_eq!(texts(result, "/partialFingerprints/cloison~1v1").len(), 32);
        for location in result["locations"].as_array().unwrap() {
            assert!(!location["logicalLocations"].as_array().unwrap().is_empty());
            if let Some(physical) = location.get("physicalLocation") {
                let uri = texts(physical, "/artifactLocation/uri");
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%:".contains(&byte);
                assert!(uri.bytes().all(allowed) && !uri.starts_with("./"), "{uri}");
                assert!(physical["region"]["startLine"].as_u64().unwrap() > 0);
            }
        }
    }
    let with = |key: &str| results.iter().filter(|result| result.get(key).is_some()).count();
    for key in ["suppressions", "baselineState"] {
        assert!([0, results.len()].contains(&with(key)), "of all results or of none");
    }
    let [invocation] = run["invocations"].as_array().unwrap().as_slice() else {
        unreachable!("one invocation")
    };
    assert!(invocation["executionSuccessful"].is_boolean());
    for notification in invocation["toolExecutionNotifications"].as_array().unwrap() {
        assert!(!texts(notification, "/message/text").is_empty());
        assert!(["note", "error"].contains(&texts(notification, "/level")));
    }
}

#[test]
fn sarif_holds_every_finding_with_its_place() {
    let findings = nasty();
    let log = sarif::log(&report(&findings, None));
    valid(&log);
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), findings.len());
    for (result, finding) in results.iter().zip(&findings) {
        let message = texts(result, "/message/text");
        let said = format!("{}; {}", finding.message, finding.fix.as_deref().unwrap());
        assert!(message.contains(&said.replace("](", "] (")), "{message}");
        assert!(
            !message.contains("](") && !message.contains(char::is_control),
            "{message}"
        );
        let logical = &result["locations"][0]["logicalLocations"][0];
        assert_eq!(texts(logical, "/name"), finding.subject.name);
    }
    let levels: Vec<&str> = results.iter().map(|result| texts(result, "/level")).collect();
    assert_eq!(levels, ["error", "error", "note", "none", "error"]);
    let uri = |number: usize| {
        results[number]
            .pointer("/locations/0/physicalLocation/artifactLocation/uri")
            .and_then(Value::as_str)
    };
    assert_eq!(uri(1), Some("a%20b/c%3Ad%2C%C3%A9.yaml"));
    assert_eq!((uri(3), uri(4)), (None, None));
    assert_eq!(results[1]["locations"][0]["physicalLocation"]["region"]["startLine"], 7);
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let notifications = invocation["toolExecutionNotifications"].as_array().unwrap();
    assert_eq!(notifications.len(), 2);
    assert_eq!(
        texts(&notifications[0], "/locations/0/physicalLocation/artifactLocation/uri"),
        "broken%7C.yaml"
    );
    valid(&sarif::log(&Report::default()));
}

#[test]
fn sarif_names_what_the_baseline_holds_and_suppresses_it() {
    let findings = nasty();
    let log = sarif::log(&report(&findings[..2], Some(&findings[2..3])));
    valid(&log);
    let results = log["runs"][0]["results"].as_array().unwrap();
    let states: Vec<(&str, usize)> = results
        .iter()
        .map(|result| {
            (
                texts(result, "/baselineState"),
                result["suppressions"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(states, [("new", 0), ("new", 0), ("unchanged", 1)]);
}

#[test]
fn a_fingerprint_does_not_move_with_the_lines() {
    let of = |finding: Finding| {
        let files = BTreeSet::from(["a.yaml".to_owned(), "b.yaml".to_owned()]);
        Told::new(&finding, Level::Error, &files).fingerprint
    };
    let subject = || Subject::namespaced("NetworkPolicy", "train", "out");
    let at = |file: &str, line| {
        let message = format!("allowed by train/out {file}:{line}:7 spec");
        Finding::new(NET_03.rule("path"), subject(), message).at(Location::field("spec").in_file(file, line, 7))
    };
    assert_eq!(of(at("a.yaml", 9)), of(at("b.yaml", 12)));
}
