//! What a run found, as other programs read it: SARIF, annotations of GitHub, a table for a merge request. Each format is a
//! function of one [`Report`], loses none of it, and decides nothing.

pub mod github;
pub mod markdown;
pub mod sarif;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::fingerprint::fingerprint;
use super::id::RuleId;
use super::{Assurance, Catalogue, Control, Finding, Location, Severity};

/// What a finding means for the run. The three levels that GitHub and SARIF share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Worth knowing: what is not known, `Info`, and what the baseline holds.
    Note,
    /// Told, and against nothing: of severity Low, or of a control that the policy only reports.
    Warning,
    /// Makes the run fail.
    Error,
}

impl Level {
    /// Of a finding that is in no baseline. `fails`: it alone would make the run fail.
    pub fn of(finding: &Finding, fails: bool) -> Self {
        if fails {
            Self::Error
        } else if finding.assurance == Assurance::Unknown || finding.severity == Severity::Info {
            Self::Note
        } else {
            Self::Warning
        }
    }
}

/// A finding as it is told.
#[derive(Clone, Debug)]
pub struct Told<'r> {
    /// The finding.
    pub finding: &'r Finding,
    /// What it means for the run.
    pub level: Level,
    /// The same in every run that finds the same.
    pub fingerprint: String,
}

impl<'r> Told<'r> {
    /// A finding at its level. `files` are those that were read.
    pub fn new(finding: &'r Finding, level: Level, files: &BTreeSet<String>) -> Self {
        Self {
            fingerprint: fingerprint(finding, files),
            finding,
            level,
        }
    }

    /// The severity, or that it is not known.
    fn severity(&self) -> String {
        match self.finding.assurance {
            Assurance::Unknown => "Unknown".to_owned(),
            _ => self.finding.severity.to_string(),
        }
    }

    /// The fix, and the reference behind it.
    fn fix(&self) -> String {
        let control = Catalogue::builtin().control(self.finding.control());
        let reference = control.and_then(Control::headline);
        let reference = reference.map(|reference| format!("({reference})"));
        let parts: Vec<String> = self.finding.fix.clone().into_iter().chain(reference).collect();
        parts.join(" ")
    }
}

/// Something that could not be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Where.
    pub at: Location,
    /// What is wrong.
    pub message: String,
}

/// Everything that a run has to say.
#[derive(Clone, Debug, Default)]
pub struct Report<'r> {
    /// Gravest first, without those of the baseline.
    pub findings: Vec<Told<'r>>,
    /// Those of the baseline; `None` without one.
    pub known: Option<Vec<Told<'r>>>,
    /// What was assumed.
    pub notes: Vec<String>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

impl Report<'_> {
    /// How many of what, on one line.
    pub fn summary(&self) -> String {
        let is_unknown = |told: &&Told<'_>| told.finding.assurance == Assurance::Unknown;
        let unknown = self.findings.iter().filter(is_unknown).count();
        let new = if self.known.is_some() { "new " } else { "" };
        let mut parts = vec![match self.findings.len() - unknown {
            0 => format!("no {new}findings"),
            1 => format!("1 {new}finding"),
            number => format!("{number} {new}findings"),
        }];
        parts.extend(
            self.known
                .as_ref()
                .map(|known| format!("{} in the baseline", known.len())),
        );
        parts.extend((unknown > 0).then(|| format!("{unknown} unknown")));
        parts.extend(match self.unreadable.len() {
            0 => None,
            1 => Some("1 place not readable".to_owned()),
            number => Some(format!("{number} places not readable")),
        });
        parts.join(", ")
    }
}

/// Where the control of a rule is explained.
fn help(rule: &RuleId) -> String {
    let page = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/reference/controls.md");
    format!("{page}#{}", rule.control().to_string().to_lowercase())
}

/// A file as a repository names it, without `.` on the way; `None` for standard input.
fn file(at: &Location) -> Option<String> {
    let file = at.file.as_deref().filter(|file| *file != "-")?;
    let parts = Path::new(file).components().filter(|part| *part != Component::CurDir);
    Some(parts.collect::<PathBuf>().display().to_string())
}
