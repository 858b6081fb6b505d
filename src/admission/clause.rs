//! A clause: one rule of the catalogue, and the expression that finds what breaks it.

use super::cel::{list, text};
use super::modes::{Modes, STAGES};
use crate::api::stage::{ControlMode, NamespaceStage};
use crate::compliance::{Catalogue, RuleId};

/// Longest part of a message that one problem takes, in characters: three of them, the prefix and the rest stay below
/// 900.
const PROBLEM_LIMIT: usize = 270;

/// What a clause finds.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// One thing: a condition, and a CEL string that is evaluated only where the condition holds. What passes costs the
    /// API server no more than the condition.
    When(String, String),
    /// Any number: a CEL list of strings.
    Each(String),
}

impl Found {
    /// Those of a list that something is wrong with, in one sentence. `test` and `name` speak of `variable`.
    pub(super) fn among(list: &str, variable: &str, test: &str, before: &str, name: &str) -> Self {
        Self::When(
            format!("{list}.exists({variable}, {test})"),
            format!(
                "{} + {list}.filter({variable}, {test}).map({variable}, {name}).join(', ')",
                text(before)
            ),
        )
    }
}

/// One rule in one policy.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    rule: RuleId,
    /// What is wrong, without the rule and the fix.
    found: Found,
    /// Where it is refused, and where it is only reported.
    denied: Vec<NamespaceStage>,
    observed: Vec<NamespaceStage>,
}

impl Clause {
    /// A clause in the modes that its rule has.
    pub(super) fn new(rule: RuleId, modes: &Modes, found: Found) -> Self {
        Self {
            found,
            denied: modes.stages(&rule, ControlMode::Enforce),
            observed: modes.stages(&rule, ControlMode::Audit),
            rule,
        }
    }

    /// One that an admin asked for by name: refused wherever its rule is not off.
    pub(super) fn asked_for(mut self) -> Self {
        self.denied.append(&mut self.observed);
        self
    }

    /// One that products break by themselves: refused only in stages for which the policy itself sets the control.
    pub(super) fn where_the_policy_says(mut self, modes: &Modes) -> Self {
        let (said, built_in): (Vec<_>, Vec<_>) = self
            .denied
            .into_iter()
            .partition(|stage| modes.says(&self.rule, *stage));
        self.denied = said;
        self.observed.extend(built_in);
        self
    }

    /// One that is a gate elsewhere: reported at most.
    pub(super) fn reported(mut self) -> Self {
        self.observed.append(&mut self.denied);
        self
    }

    /// The rule.
    pub(super) fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// Whether it refuses in any stage.
    pub(super) fn refuses(&self) -> bool {
        !self.denied.is_empty()
    }

    /// Whether it only reports, in some stage.
    pub(super) fn reports(&self) -> bool {
        !self.observed.is_empty()
    }

    /// A clause about objects that have no stage: always refused.
    pub(super) fn always(rule: RuleId, condition: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            rule,
            found: Found::When(condition.into(), what.into()),
            denied: STAGES.to_vec(),
            observed: Vec::new(),
        }
    }

    /// The finished texts in the given stages: rule, what was found, fix and reference, as `Finding::line` prints them.
    /// `None` where the clause says nothing in any of them.
    fn texts_in(&self, stages: &[NamespaceStage]) -> Option<Texts> {
        if stages.is_empty() {
            return None;
        }
        let all = STAGES.iter().all(|stage| stages.contains(stage));
        let here = (!all).then(|| format!("stage in {}", list(stages.iter().map(|stage| stage.as_str()))));
        let rule = format!("{} ", self.rule);
        let ending = text(&ending(&self.rule));
        Some(match &self.found {
            Found::When(test, what) => {
                let test = here.map_or_else(|| test.clone(), |here| format!("{here} && ({test})"));
                // One literal in place of two that are added.
                let said = match what.strip_prefix('\'') {
                    Some(rest) => format!("'{rule}{rest}"),
                    None => format!("{} + {what}", text(&rule)),
                };
                Texts::One(format!("({test} ? {said} + {ending} : '')"))
            }
            Found::Each(list) => {
                let each = format!("({list}).map(p, {} + p + {ending})", text(&rule));
                Texts::Any(here.map_or_else(|| each.clone(), |here| format!("({here} ? {each} : [])")))
            }
        })
    }
}

impl Clause {
    /// Whether anything is found in the given stages; `None` where the clause says nothing in any of them.
    fn test_in(&self, stages: &[NamespaceStage]) -> Option<String> {
        let found = match &self.found {
            Found::When(test, _) => format!("({test})"),
            Found::Each(list) => format!("({list}).size() > 0"),
        };
        if stages.is_empty() {
            None
        } else if STAGES.iter().all(|stage| stages.contains(stage)) {
            Some(found)
        } else {
            let here = list(stages.iter().map(|stage| stage.as_str()));
            Some(format!("(stage in {here} && {found})"))
        }
    }
}

/// The texts of one clause.
enum Texts {
    /// A string, empty where nothing was found.
    One(String),
    /// A list.
    Any(String),
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

/// That nothing is refused, without a word of what: what passes is judged by this alone, and it is checked in a quarter of the
/// time that the texts take.
pub(super) fn passes(clauses: &[Clause]) -> String {
    let tests: Vec<String> = clauses
        .iter()
        .filter_map(|clause| clause.test_in(&clause.denied))
        .collect();
    if tests.is_empty() {
        return "true".to_owned();
    }
    format!("!({})", tests.join(" || "))
}

/// One list, in the order of the clauses. Additions of lists are few: to check the types of an expression costs the API
/// server the square of how many there are.
fn sum(texts: impl Iterator<Item = Texts>) -> String {
    let (mut lists, mut ones) = (Vec::new(), Vec::new());
    let close = |ones: &mut Vec<String>, lists: &mut Vec<String>| {
        if !ones.is_empty() {
            lists.push(format!("[{}].filter(p, p != '')", std::mem::take(ones).join(", ")));
        }
    };
    for text in texts {
        match text {
            Texts::One(one) => ones.push(one),
            Texts::Any(list) => {
                close(&mut ones, &mut lists);
                lists.push(list);
            }
        }
    }
    close(&mut ones, &mut lists);
    if lists.is_empty() {
        // Of strings: with a bare `[]` the message does not compile, and the API server refuses the whole policy.
        "[''].filter(p, false)".to_owned()
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
        // Messages are evaluated for every request; what passes gets none.
        "{problems}.size() == 0 ? '' : {} + [{short}].map(s, s.size() <= 3 ? s.join('; ') : [s[0], s[1], s[2]].join('; ') + '; +' + \
         string(s.size() - 3) + ' more: kubectl cloison why')[0]",
        text(&prefix(hash))
    )
}

/// What every message of ours begins with: the canaries recognise the generation by it.
pub(super) fn prefix(hash: &str) -> String {
    format!("[cloison {hash}] ")
}
