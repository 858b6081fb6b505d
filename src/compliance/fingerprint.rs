//! What makes two findings of two runs the same one: rule, object and text. Where in a file it stands is no part of it, so
//! that lines that move, and files that are renamed, make nothing new.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::finding::{Finding, Subject, one_line};
use super::id::RuleId;

/// Bytes of the hash that are kept: enough that nobody makes two texts of one fingerprint.
const LENGTH: usize = 16;

/// The fingerprint of a finding. `files` are those that were read: their places are left out of its text.
pub fn fingerprint(finding: &Finding, files: &BTreeSet<String>) -> String {
    of(&finding.rule, &finding.subject, &text(&finding.message, files))
}

/// The fingerprint of a rule, an object, and a text without places.
pub fn of(rule: &RuleId, subject: &Subject, text: &str) -> String {
    let Subject { kind, namespace, name } = subject;
    let rule = rule.to_string();
    let mut hash = Sha256::new();
    // With its length before it no part runs into the next; an absent namespace is not an empty one.
    for part in [
        Some(rule.as_str()),
        Some(kind),
        namespace.as_deref(),
        Some(name),
        Some(text),
    ] {
        match part {
            Some(part) => {
                hash.update(part.len().to_be_bytes());
                hash.update(part);
            }
            None => hash.update(u64::MAX.to_be_bytes()),
        }
    }
    let bytes = hash.finalize();
    bytes.iter().take(LENGTH).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A message without numbers of lines: `allowed by train/out out.yaml:9:7 spec.egress[0]` says the same at line 12.
pub fn text(message: &str, files: &BTreeSet<String>) -> String {
    let files: BTreeSet<String> = files.iter().map(|file| one_line(file)).collect();
    let (mut kept, mut rest) = (String::new(), message);
    while let Some((start, end)) = place(rest, &files) {
        kept.push_str(&rest[..start]);
        rest = rest[end..].strip_prefix(' ').unwrap_or(&rest[end..]);
    }
    kept.push_str(rest);
    without_line_of_value(&kept)
}

/// The first `FILE:LINE:COLUMN` of a file that was read. Only of those: an IPv6 address has numbers and colons too.
fn place(text: &str, files: &BTreeSet<String>) -> Option<(usize, usize)> {
    text.match_indices(':').find_map(|(colon, _)| {
        let end = colon + numbers(&text[colon..])?;
        let words = text[..colon].match_indices(' ').map(|(blank, _)| blank + 1);
        let start = std::iter::once(0)
            .chain(words)
            .find(|start| files.contains(&text[*start..colon]))?;
        Some((start, end))
    })
}

/// How long `:LINE:COLUMN` is, at the start of a text.
fn numbers(text: &str) -> Option<usize> {
    let mut rest = text;
    for _ in 0..2 {
        let number = rest.strip_prefix(':')?;
        let after = number.trim_start_matches(|character: char| character.is_ascii_digit());
        if after.len() == number.len() {
            return None;
        }
        rest = after;
    }
    Some(text.len() - rest.len())
}

/// What is found in the value of a ConfigMap is told with its line in that value.
fn without_line_of_value(text: &str) -> String {
    const BEFORE: &str = ", line ";
    let mut kept = String::new();
    let mut parts = text.split(BEFORE);
    kept.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let after = part.trim_start_matches(|character: char| character.is_ascii_digit());
        if after.len() == part.len() || !after.starts_with(" of its value") {
            kept.push_str(BEFORE);
            kept.push_str(part);
        } else {
            kept.push_str(after);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compliance::id::{NET_03, NET_04};

    fn files(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lines_and_files_are_no_part_of_a_text() {
        let files = files(&["out.yaml", "a b/in to.yaml", "-", "out.yaml:1"]);
        let told = |message: &str| text(message, &files);
        assert_eq!(
            told("allowed by train/out out.yaml:9:7 spec.egress[0] and serve/into a b/in to.yaml:12:1 spec.ingress[0]"),
            "allowed by train/out spec.egress[0] and serve/into spec.ingress[0]"
        );
        assert_eq!(
            told("by train/out -:9:7 spec and out.yaml:9:7"),
            "by train/out spec and "
        );
        assert_eq!(told("out.yaml:9:7"), "");
        assert_eq!(
            told("key \"a\", line 12 of its value: a token"),
            "key \"a\" of its value: a token"
        );
    }

    #[test]
    fn what_only_looks_like_a_place_is_kept() {
        let files = files(&["out.yaml"]);
        for kept in [
            "egress 2001:db8:0:12::1 is wide",
            "egress fd00:1:2 is wide",
            "other.yaml:9:7 spec",
            "out.yaml:9 spec",
            "scout.yaml:9:7 spec",
            ", line 9 of a poem, line x",
            "::1:2 é:3:4",
        ] {
            assert_eq!(text(kept, &files), kept);
        }
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let rule = || RuleId::from(NET_04);
        let namespaced = Subject::namespaced("Pod", "a", "b");
        let cases = [
            of(&rule(), &namespaced, "text"),
            of(&NET_03.into(), &namespaced, "text"),
            of(&NET_04.rule("cut"), &namespaced, "text"),
            of(&rule(), &Subject::namespaced("Job", "a", "b"), "text"),
            of(&rule(), &Subject::namespaced("Pod", "ab", ""), "text"),
            of(&rule(), &Subject::namespaced("Pod", "", "ab"), "text"),
            of(&rule(), &Subject::cluster("Pod", "ab"), "text"),
            of(&rule(), &Subject::cluster("Pod", "a/b"), "text"),
            of(&rule(), &namespaced, "text "),
        ];
        let different: BTreeSet<&String> = cases.iter().collect();
        assert_eq!(different.len(), cases.len());
        // Baselines hold them: one that changes makes every accepted finding a new one.
        assert_eq!(cases[0], "f4dd4e32b2c320a18edf0140efc13d47");
    }
}
