//! A clause: one rule of the catalogue, and the expression that finds what breaks it.

use super::cel::{list, text};
use super::modes::{Modes, STAGES};
use crate::api::stage::{ControlMode, NamespaceStage};
use crate::compliance::{Catalogue, RuleId};

/// Longest part of a message that one problem takes, in characters: three of them, the prefix and the rest stay below
/// 900.
const PROBLEM_LIMIT: usize = 270;

/// One rule in one policy.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    rule: RuleId,
    /// A CEL list of strings, each saying one thing that is wrong, without the rule and the fix; empty when all is well.
    found: String,
    /// Where it is refused, and where it is only reported.
    denied: Vec<NamespaceStage>,
    observed: Vec<NamespaceStage>,
}

impl Clause {
    /// A clause in the modes that its rule has.
    pub(super) fn new(rule: RuleId, modes: &Modes, found: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            denied: modes.stages(&rule, ControlMode::On),
            observed: modes.stages(&rule, ControlMode::Audit),
            rule,
        }
    }

    /// One that an admin asked for by name: refused wherever its rule is not off.
    pub(super) fn asked_for(mut self) -> Self {
        self.denied.append(&mut self.observed);
        self
    }

    /// One that is a gate elsewhere: reported at most.
    pub(super) fn reported(mut self) -> Self {
        self.observed.append(&mut self.denied);
        self
    }

    /// A clause about objects that have no stage: always refused.
    pub(super) fn always(rule: RuleId, found: impl Into<String>) -> Self {
        Self {
            rule,
            found: found.into(),
            denied: STAGES.to_vec(),
            observed: Vec::new(),
        }
    }

    /// The same, for several subjects in one sentence: `before + subjects joined by commas + after`. `subjects` is a
    /// CEL list of strings.
    pub(super) fn sentence(before: &str, subjects: &str, after: &str) -> String {
        format!(
            "[{subjects}].filter(l, l.size() > 0).map(l, {} + l.join(', ') + {})",
            text(before),
            text(after)
        )
    }

    /// The finished texts: rule, what was found, fix and reference, as `Finding::line` prints them.
    fn texts(&self) -> String {
        let rule = text(&format!("{} ", self.rule));
        let ending = ending(&self.rule);
        format!("({}).map(p, {rule} + p + {})", self.found, text(&ending))
    }

    /// The texts in the given stages; `None` where the clause says nothing in any of them.
    fn texts_in(&self, stages: &[NamespaceStage]) -> Option<String> {
        let all = STAGES.iter().all(|stage| stages.contains(stage));
        match stages {
            [] => None,
            _ if all => Some(self.texts()),
            some => {
                let some = list(some.iter().map(|stage| stage.as_str()));
                Some(format!("(variables.stage in {some} ? {} : [])", self.texts()))
            }
        }
    }
}

/// What follows a finding: the fix and the reference of the catalogue.
pub(super) fn ending(rule: &RuleId) -> String {
    let catalogue = Catalogue::builtin();
    let fix = catalogue.fix(rule).map(|fix| format!("; {fix}")).unwrap_or_default();
    let reference = catalogue
        .control(rule.control())
        .and_then(crate::compliance::Control::headline)
        .map(|reference| format!(" ({reference})"))
        .unwrap_or_default();
    format!("{fix}{reference}")
}

/// Everything that is refused, as one CEL list.
pub(super) fn denied(clauses: &[Clause]) -> String {
    sum(clauses.iter().filter_map(|clause| clause.texts_in(&clause.denied)))
}

/// Everything that is only reported, as one CEL list.
pub(super) fn observed(clauses: &[Clause]) -> String {
    sum(clauses.iter().filter_map(|clause| clause.texts_in(&clause.observed)))
}

fn sum(lists: impl Iterator<Item = String>) -> String {
    let lists: Vec<String> = lists.collect();
    if lists.is_empty() {
        "[]".to_owned()
    } else {
        lists.join(" + ")
    }
}

/// The message of a refusal from a CEL list of texts: at most three of them, each shortened, on one line.
pub(super) fn message(hash: &str, problems: &str) -> String {
    let short = format!(
        "{problems}.map(p, p.size() > {PROBLEM_LIMIT} ? p.substring(0, {}) + '...' : p)",
        PROBLEM_LIMIT - 3
    );
    format!(
        "{} + [{short}].map(s, s.size() <= 3 ? s.join('; ') : [s[0], s[1], s[2], '+' + string(s.size() - 3) + \
         ' more: kubectl cloison why'].join('; '))[0]",
        text(&prefix(hash))
    )
}

/// What every message of ours begins with: the canaries recognise the generation by it.
pub(super) fn prefix(hash: &str) -> String {
    format!("[cloison {hash}] ")
}
