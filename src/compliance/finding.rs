//! The one result type. Admission, the network analysis, the checks, the webhook and the command line all say what
//! they found in these words, so that a verdict in CI reads as the verdict at the door.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use super::catalogue::{Catalogue, Control};
use super::id::{ControlId, RuleId};
use super::vocabulary::Severity;

/// How a result is known. Ordered from nothing to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Assurance {
    /// Not known: evidence is missing, stale or unreadable.
    Unknown,
    /// Somebody says so. Opens no gate.
    Declared,
    /// A document was read in the cluster, and its digest and dates hold.
    Verified,
    /// Seen in the cluster, or in the file that is being checked.
    Observed,
    /// It cannot be otherwise: the API server or the CNI keeps it, and was seen keeping it.
    Enforced,
}

/// The object a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    /// `Pod`.
    pub kind: String,
    /// `None` for cluster-scoped objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// May be empty for a pod that has only a `generateName`.
    pub name: String,
}

impl Subject {
    /// An object in a namespace.
    pub fn namespaced(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// A cluster-scoped object.
    pub fn cluster(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            namespace: None,
            name: name.into(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Where in a file, in an object, or in both. Lines and columns count from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Location {
    /// The file as it was named on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// `spec.network.connectTo[0].cidr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Location {
    /// A place in an object.
    pub fn field(path: impl Into<String>) -> Self {
        Self {
            field: Some(path.into()),
            ..Self::default()
        }
    }

    /// The same place, now that its file is known.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>, line: u32, column: u32) -> Self {
        (self.file, self.line, self.column) = (Some(file.into()), Some(line), Some(column));
        self
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [self.line, self.column]
            .into_iter()
            .flatten()
            .map(|number| number.to_string());
        let file: Vec<String> = self.file.iter().cloned().chain(numbers).collect();
        let parts: Vec<String> = [file.join(":"), self.field.clone().unwrap_or_default()].into();
        f.write_str(
            parts
                .iter()
                .filter(|part| !part.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
                .as_str(),
        )
    }
}

/// One thing that is not as a rule wants it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The rule, or the control when it has no finer one.
    pub rule: RuleId,
    /// How grave.
    pub severity: Severity,
    /// The object.
    pub subject: Subject,
    /// Where in it.
    pub at: Option<Location>,
    /// What was found, on one line.
    pub message: String,
    /// What to do.
    pub fix: Option<String>,
    /// How it is known.
    pub assurance: Assurance,
}

impl Finding {
    /// A finding with the severity and the fix of the built-in catalogue, seen (`Observed`).
    pub fn new(rule: impl Into<RuleId>, subject: Subject, message: impl AsRef<str>) -> Self {
        let rule = rule.into();
        let catalogue = Catalogue::builtin();
        Self {
            severity: catalogue.severity(&rule),
            fix: catalogue.fix(&rule).map(str::to_owned),
            message: one_line(message.as_ref()),
            at: None,
            assurance: Assurance::Observed,
            rule,
            subject,
        }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.at = Some(location);
        self
    }

    /// The same, with a fix that knows more than the catalogue does.
    #[must_use]
    pub fn with_fix(mut self, fix: impl AsRef<str>) -> Self {
        self.fix = Some(one_line(fix.as_ref()));
        self
    }

    /// The same, known in another way.
    #[must_use]
    pub fn with_assurance(mut self, assurance: Assurance) -> Self {
        self.assurance = assurance;
        self
    }

    /// The control of the rule.
    pub const fn control(&self) -> ControlId {
        self.rule.control()
    }

    /// Rule, message, fix and reference on one line: `NET-04 egress "10.0.0.0/8" is wider than the policy allows
    /// (/16); name a catalogue service instead (ANSSI R26)`.
    pub fn line(&self) -> String {
        let fix = self.fix.as_deref().map(|fix| format!("; {fix}")).unwrap_or_default();
        let reference = Catalogue::builtin()
            .control(self.control())
            .and_then(Control::headline)
            .map(|reference| format!(" ({reference})"))
            .unwrap_or_default();
        format!("{} {}{fix}{reference}", self.rule, self.message)
    }

    /// Everything, in the order in which findings are compared. The last two only make equal in order mean equal.
    fn key(&self) -> impl Ord + '_ {
        (
            Reverse(self.severity),
            &self.rule,
            &self.subject,
            &self.at,
            &self.message,
            &self.fix,
            self.assurance,
        )
    }
}

/// Gravest first, then by rule, subject, place and message.
impl Ord for Finding {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As the fields, with `control` spelt out for readers that group by it.
impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Finding", 8)?;
        out.serialize_field("control", &self.control())?;
        out.serialize_field("rule", &self.rule)?;
        out.serialize_field("severity", &self.severity)?;
        out.serialize_field("subject", &self.subject)?;
        match &self.at {
            Some(at) => out.serialize_field("at", at)?,
            None => out.skip_field("at")?,
        }
        out.serialize_field("message", &self.message)?;
        match &self.fix {
            Some(fix) => out.serialize_field("fix", fix)?,
            None => out.skip_field("fix")?,
        }
        out.serialize_field("assurance", &self.assurance)?;
        out.end()
    }
}

/// The gravest findings, without repetitions, in order.
pub fn worst(findings: impl IntoIterator<Item = Finding>, limit: usize) -> Vec<Finding> {
    let mut sorted: Vec<Finding> = findings.into_iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted.truncate(limit);
    sorted
}

/// Messages quote what people wrote, and end in logs, events and terminals: a line break would forge a second entry
/// there, an escape sequence could rewrite the screen.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use crate::compliance::id::{ECO_02, NET_04, OPS_02, WKL_01};

    fn pod(name: &str) -> Subject {
        Subject::namespaced("Pod", "vision-train", name)
    }

    #[test]
    fn a_line_says_rule_message_fix_and_reference() {
        let wide = Finding::new(
            NET_04,
            pod("a"),
            r#"egress "10.0.0.0/8" is wider than the policy allows (/16)"#,
        );
        assert_eq!(
            wide.line(),
            r#"NET-04 egress "10.0.0.0/8" is wider than the policy allows (/16); name a catalogue service instead (ANSSI R26)"#
        );
        let ipc = Finding::new(WKL_01.rule("host-ipc"), pod("a"), "spec.hostIPC: not allowed");
        assert_eq!(
            ipc.line(),
            "WKL-01/host-ipc spec.hostIPC: not allowed; remove hostIPC; for NCCL mount emptyDir {medium: Memory} at \
             /dev/shm (ANSSI R28)"
        );
        let waiver = Finding::new(OPS_02, Subject::cluster("Waiver", "w"), "too long").with_fix("shorten it");
        assert_eq!(waiver.line(), "OPS-02 too long; shorten it (ISO 42001 clause 6.1.3)");
        assert_eq!(
            Finding { fix: None, ..waiver }.line(),
            "OPS-02 too long (ISO 42001 clause 6.1.3)"
        );
    }

    #[test]
    fn what_people_wrote_cannot_break_the_line() {
        let forged = Finding::new(NET_04, pod("a"), "service \"x\n\u{1b}[2Jok\"").with_fix("a\r\nb");
        assert_eq!(forged.message, "service \"x  [2Jok\"");
        assert!(!forged.line().contains(char::is_control));
    }

    #[test]
    fn severity_and_fix_come_from_the_rule_then_its_control() {
        let of = |rule: RuleId| Finding::new(rule, pod("a"), "m");
        assert_eq!(of(NET_04.into()).severity, Severity::Critical);
        assert_eq!(of(NET_04.rule("awaiting-peer")).severity, Severity::Info);
        assert_eq!(
            of(NET_04.rule("any-address")).fix.as_deref(),
            Some("name a catalogue service instead")
        );
        assert_eq!(of(NET_04.rule("any-address")).control(), NET_04);
    }

    #[test]
    fn the_gravest_come_first_and_repetitions_go() {
        let (net, ipc, eco) = (RuleId::from(NET_04), WKL_01.rule("host-ipc"), RuleId::from(ECO_02));
        let find = |rule: &RuleId, name: &str, message: &str| Finding::new(rule.clone(), pod(name), message);
        let field = |path: &str| Location::field(path);
        let expected = vec![
            find(&net, "a", "m"),
            find(&net, "a", "n"),
            find(&net, "a", "m").at(field("spec.a")),
            find(&net, "b", "m"),
            find(&ipc, "a", "m"),
            find(&eco, "a", "m"),
        ];
        let mut mixed = expected.clone();
        mixed.reverse();
        mixed.push(expected[2].clone());
        mixed.swap(0, 3);
        assert_eq!(worst(mixed.clone(), 10), expected);
        assert_eq!(worst(mixed, 2), expected[..2]);
    }

    #[test]
    fn assurance_is_ordered() {
        use Assurance::{Declared, Enforced, Observed, Unknown, Verified};
        assert!(Enforced > Observed && Observed > Verified && Verified > Declared && Declared > Unknown);
        assert!(Severity::Critical > Severity::High && Severity::Low > Severity::Info);
    }

    #[test]
    fn json_spells_the_control_out_and_leaves_gaps_out() {
        let at = Location::field("spec.hostIPC").in_file("job.yaml", 9, 3);
        let finding = Finding::new(WKL_01.rule("host-ipc"), pod("a"), "m")
            .at(at)
            .with_assurance(Assurance::Enforced);
        let expected = serde_json::json!({
            "control": "WKL-01", "rule": "WKL-01/host-ipc", "severity": "Critical",
            "subject": {"kind": "Pod", "namespace": "vision-train", "name": "a"},
            "at": {"file": "job.yaml", "line": 9, "column": 3, "field": "spec.hostIPC"},
            "message": "m", "fix": "remove hostIPC; for NCCL mount emptyDir {medium: Memory} at /dev/shm",
            "assurance": "Enforced",
        });
        assert_eq!(serde_json::to_value(&finding).unwrap(), expected);
        let bare = Finding {
            at: None,
            fix: None,
            subject: Subject::cluster("Waiver", "w"),
            ..finding
        };
        let bare = serde_json::to_value(bare).unwrap();
        assert!(bare.get("at").is_none() && bare.get("fix").is_none() && bare["subject"].get("namespace").is_none());
    }

    #[test]
    fn places_and_subjects_read_like_paths() {
        let field = Location::field("spec.stage");
        assert_eq!(field.to_string(), "spec.stage");
        assert_eq!(field.in_file("a.yaml", 2, 3).to_string(), "a.yaml:2:3 spec.stage");
        assert_eq!(Location::default().in_file("a.yaml", 2, 3).to_string(), "a.yaml:2:3");
        assert_eq!(pod("a").to_string(), "Pod vision-train/a");
        assert_eq!(Subject::cluster("Waiver", "w").to_string(), "Waiver w");
    }
}
