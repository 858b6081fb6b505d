//! Findings that somebody accepted: a file in the repository that names each by rule, object and text, so that a pipeline
//! fails for new ones alone. It accepts so many of each and no more, and holds nothing that is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::finding::{Assurance, Finding, Subject, one_line};
use super::fingerprint;
use super::id::RuleId;

/// The shape of the file.
const VERSION: u32 = 1;

const HEAD: &str = "\
# Findings that `cloison check --baseline` takes as known: they are counted, and make no run fail.
# Written by `cloison check --write-baseline`. Entries may be deleted; one that is changed by hand is refused.
";

/// Why a text is no baseline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BaselineError {
    /// Where, counted from one.
    pub line: u64,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Findings that were accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// In the order of the file.
    entries: BTreeMap<Key, NonZeroU32>,
}

/// What makes a finding the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rule: RuleId,
    subject: Subject,
    text: String,
}

impl Key {
    fn of(finding: &Finding, files: &BTreeSet<String>) -> Self {
        Self {
            rule: finding.rule.clone(),
            subject: finding.subject.clone(),
            text: fingerprint::text(&finding.message, files),
        }
    }

    fn fingerprint(&self) -> String {
        fingerprint::of(&self.rule, &self.subject, &self.text)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<V, E> {
    version: V,
    findings: Vec<E>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rule: RuleId,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    text: String,
    #[serde(default = "once", skip_serializing_if = "is_once")]
    count: NonZeroU32,
    fingerprint: String,
}

const fn once() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_once(count: &NonZeroU32) -> bool {
    *count == once()
}

/// Findings, by whether they were accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Those that are new, and what is not known, in their order.
    pub new: Vec<Finding>,
    /// Those that were accepted, in their order.
    pub known: Vec<Finding>,
    /// What was accepted and is found no more, as `RULE Kind namespace/name`.
    pub gone: Vec<String>,
}

impl Baseline {
    /// Accepts findings. `files` are those that were read.
    pub fn of<'f>(findings: impl IntoIterator<Item = &'f Finding>, files: &BTreeSet<String>) -> Self {
        let mut baseline = Self::default();
        for finding in findings.into_iter().filter(|finding| is_known(finding)) {
            let count = baseline.entries.entry(Key::of(finding, files));
            count
                .and_modify(|count| *count = count.saturating_add(1))
                .or_insert(once());
        }
        baseline
    }

    /// How many findings it accepts.
    pub fn len(&self) -> usize {
        self.entries.values().map(|count| count.get() as usize).sum()
    }

    /// Whether it accepts none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads a file that [`Self::print`] wrote, and refuses any other.
    pub fn read(text: &str) -> Result<Self, BaselineError> {
        let file: File<Spanned<u32>, Spanned<Entry>> = serde_saphyr::from_str(text).map_err(|error| {
            let reason = error.without_snippet().to_string();
            let reason = reason.lines().next().unwrap_or_default();
            let reason = reason.split(" at line ").next().unwrap_or(reason);
            BaselineError {
                line: error.location().map_or(1, |at| at.line()),
                message: format!("this is no baseline: {}", reason.trim_start_matches("error: ")),
            }
        })?;
        let version = file.version.value;
        if version != VERSION {
            return Err(BaselineError {
                line: file.version.referenced.line(),
                message: format!("version {version} of baselines is not known here, only {VERSION}"),
            });
        }
        let mut baseline = Self::default();
        for Spanned { value, referenced, .. } in file.findings {
            let subject = Subject {
                kind: value.kind,
                namespace: value.namespace,
                name: value.name,
            };
            let key = Key {
                rule: value.rule,
                subject,
                text: value.text,
            };
            if key.fingerprint() != value.fingerprint {
                // A reader trusts the text; the fingerprint must not accept something else.
                return Err(BaselineError {
                    line: referenced.line(),
                    message: format!(
                        "the fingerprint is not that of the rule, object and text of this entry ({}); delete the entry, or write \
                         the file anew with --write-baseline",
                        one_line(&value.fingerprint)
                    ),
                });
            }
            // A merge of two branches may leave an entry twice: that accepts no more than the larger of both.
            let known = baseline.entries.entry(key).or_insert(value.count);
            *known = (*known).max(value.count);
        }
        Ok(baseline)
    }

    /// The file: sorted, so that what changes in it is what changed.
    pub fn print(&self) -> Result<String, serde_saphyr::ser::Error> {
        let findings = self.entries.iter().map(|(key, count)| Entry {
            fingerprint: key.fingerprint(),
            rule: key.rule.clone(),
            kind: key.subject.kind.clone(),
            namespace: key.subject.namespace.clone(),
            name: key.subject.name.clone(),
            text: key.text.clone(),
            count: *count,
        });
        let file = File {
            version: VERSION,
            findings: findings.collect(),
        };
        // One line for a text, however long: a program that wraps makes a change of one word one of many lines.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let text = serde_saphyr::to_string_with_options(&file, options)?;
        Ok(format!("{HEAD}{text}"))
    }

    /// Tells what is new from what was accepted.
    pub fn split(&self, findings: Vec<Finding>, files: &BTreeSet<String>) -> Split {
        let mut left: BTreeMap<&Key, u32> = self.entries.iter().map(|(key, count)| (key, count.get())).collect();
        let mut split = Split::default();
        for finding in findings {
            let accepted = left
                .get_mut(&Key::of(&finding, files))
                .filter(|left| is_known(&finding) && **left > 0);
            match accepted {
                Some(left) => {
                    *left -= 1;
                    split.known.push(finding);
                }
                None => split.new.push(finding),
            }
        }
        for (key, left) in left {
            let one = format!("{} {}", key.rule, key.subject);
            split.gone.extend(std::iter::repeat_n(one, left as usize));
        }
        split
    }
}

/// What is not known cannot be accepted: once it is known, it is something else.
fn is_known(finding: &Finding) -> bool {
    finding.assurance != Assurance::Unknown
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compliance::id::{NET_03, NET_04, WKL_01};

    fn path(text: &str) -> Finding {
        Finding::new(
            NET_03.rule("path"),
            Subject::namespaced("NetworkPolicy", "train", "out"),
            text,
        )
    }

    fn host(name: &str) -> Finding {
        Finding::new(
            WKL_01.rule("host-ipc"),
            Subject::namespaced("Pod", "train", name),
            "spec.hostIPC",
        )
    }

    fn files() -> BTreeSet<String> {
        BTreeSet::from(["out.yaml".to_owned(), "moved.yaml".to_owned()])
    }

    #[test]
    fn what_was_accepted_is_known_wherever_it_moved() {
        let before = [path("by train/out out.yaml:9:7 spec"), host("a")];
        let text = Baseline::of(&before, &files()).print().unwrap();
        let baseline = Baseline::read(&text).unwrap();
        assert_eq!(baseline.len(), 2);
        let moved = vec![host("a"), path("by train/out moved.yaml:19:3 spec"), host("b")];
        let split = baseline.split(moved.clone(), &files());
        assert_eq!(
            (split.known.as_slice(), split.new.as_slice()),
            (&moved[..2], &moved[2..])
        );
        assert_eq!(split.gone, [""; 0]);
        let split = baseline.split(vec![host("a")], &files());
        assert_eq!(
            (split.new.len(), split.gone),
            (0, vec!["NET-03/path NetworkPolicy train/out".to_owned()])
        );
    }

    #[test]
    fn as_many_are_accepted_as_there_were() {
        let one = host("a");
        let twice = Baseline::of([&one, &one], &files());
        let text = twice.print().unwrap();
        assert!(text.contains("count: 2"), "{text}");
        assert_eq!(Baseline::read(&text).unwrap(), twice);
        let thrice = vec![one.clone(), one.clone(), one.clone()];
        let split = twice.split(thrice, &files());
        assert_eq!((split.known.len(), split.new.len()), (2, 1));
        assert_eq!(twice.split(vec![one], &files()).gone.len(), 1);
        // A merge that leaves an entry twice accepts no more.
        let entry = text.split_once("findings:\n").unwrap().1;
        assert_eq!(Baseline::read(&format!("{text}{entry}")).unwrap(), twice);
    }

    #[test]
    fn what_is_not_known_is_never_accepted() {
        let unknown = host("a").with_assurance(Assurance::Unknown);
        assert!(Baseline::of([&unknown], &files()).is_empty());
        let accepted = Baseline::of([&host("a")], &files());
        let split = accepted.split(vec![unknown.clone()], &files());
        assert_eq!((split.new, split.known.len()), (vec![unknown], 0));
    }

    #[test]
    fn the_file_is_sorted_whatever_the_order() {
        let findings = [host("b"), path("x"), host("a"), path("w")];
        let text = Baseline::of(&findings, &files()).print().unwrap();
        let mut reversed = findings.to_vec();
        reversed.reverse();
        assert_eq!(Baseline::of(&reversed, &files()).print().unwrap(), text);
        let wanted = "\
version: 1
findings:
- rule: NET-03/path
  kind: NetworkPolicy
  namespace: train
  name: out
  text: w
  fingerprint: 8ef2404365431520abd8d0167efafbcc
- rule: NET-03/path
  kind: NetworkPolicy
  namespace: train
  name: out
  text: x
  fingerprint: 7a701c93bc58510f4941d8660b3a859a
- rule: WKL-01/host-ipc
  kind: Pod
  namespace: train
  name: a
  text: spec.hostIPC
  fingerprint: 391adb32c9c6ff2117cd63c9aa71cab9
- rule: WKL-01/host-ipc
  kind: Pod
  namespace: train
  name: b
  text: spec.hostIPC
  fingerprint: 4d82daed35dd3da364cedd2d906365e2
";
        assert_eq!(text, format!("{HEAD}{wanted}"));
    }

    #[test]
    fn a_file_that_is_none_is_refused_with_its_line() {
        let good = Baseline::of(&[path("one: \"text\""), host("a")], &files())
            .print()
            .unwrap();
        let of = |text: &str| Baseline::read(text).map(|baseline| baseline.len());
        let refused = |text: &str, line: u64, words: &str| {
            let error = of(text).unwrap_err();
            assert!(error.line == line && error.message.contains(words), "{text}\n{error:?}");
        };
        refused("", 1, "no baseline");
        refused("# nothing\n", 2, "no baseline");
        refused("findings: []\n", 1, "version");
        refused("version: 1\n", 1, "findings");
        refused("version: 1\nfindings:\n", 2, "no baseline");
        refused("# a\nversion: 2\nfindings: []\n", 2, "version 2");
        refused("version: 1\nfindings: [\n", 2, "no baseline");
        refused("version: 1\nfindings: []\nmore: 1\n", 3, "more");
        refused("- a\n", 1, "no baseline");
        let line = |words: &str| good.lines().position(|line| line.contains(words)).unwrap() as u64 + 1;
        refused(&good.replace("name: a", "name: b"), line("WKL-01"), "fingerprint");
        refused(&good.replace("kind: Pod", "kind: Job"), line("WKL-01"), "fingerprint");
        refused(&good.replace("NET-03/path", "NET-04"), line("NET-03"), "fingerprint");
        refused(&good.replace("spec.hostIPC", "harmless"), line("WKL-01"), "fingerprint");
        refused(&good.replace("NET-03/path", "nonsense"), line("NET-03"), "nonsense");
        refused(
            &good.replace("name: a", "name: a\n  count: 0"),
            line("name: a") + 1,
            "no baseline",
        );
        refused(&good[..good.len() - 20], line("WKL-01"), "fingerprint");
        assert_eq!(of("version: 1\nfindings: []\n"), Ok(0));
        assert_eq!(of(&good), Ok(2));
    }

    proptest! {
        /// Whatever names and messages hold, the file says the same when it is read.
        #[test]
        fn it_is_read_as_it_was_written(parts in prop::collection::vec(("\\PC{0,40}", any::<Option<String>>(), any::<String>(), "\\PC{0,120}"), 0..4)) {
            let findings: Vec<Finding> = parts.into_iter().map(|(kind, namespace, name, text)| {
                Finding::new(NET_04, Subject { kind, namespace, name }, text)
            }).collect();
            let baseline = Baseline::of(&findings, &BTreeSet::new());
            let text = baseline.print().unwrap();
            prop_assert_eq!(Baseline::read(&text).map_err(|error| format!("{error:?}\n{text}")), Ok(baseline));
        }
    }
}
