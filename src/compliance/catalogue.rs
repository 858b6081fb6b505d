//! The control catalogue, as data: what is checked, how grave a failure is, what the law and the guides call it and
//! what to do about it. The text is `catalogue.yaml`, built into the program.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::civil::Date;
use serde::Deserialize;

use super::id::{ControlId, Family, RuleId, is_rule_name};
use super::mode::PerStage;
use super::vocabulary::{Mechanism, Severity, Source};
use crate::api::stage::{ControlMode, NamespaceStage};

static BUILTIN: LazyLock<Result<Catalogue, CatalogueError>> =
    LazyLock::new(|| Catalogue::parse(include_str!("catalogue.yaml")));

/// What is asked when the built-in text cannot be read: no control, so that every rule is `Enforce` and `High`.
static NOTHING: Catalogue = Catalogue {
    control_set: String::new(),
    families: BTreeMap::new(),
    controls: Vec::new(),
};

/// Why a catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not the expected shape.
    #[error("the control catalogue cannot be read: {0}")]
    Unreadable(#[from] serde_saphyr::Error),
    /// Readable, and contradicts itself.
    #[error("the control catalogue contradicts itself: {id} {problem}")]
    Contradiction {
        /// Where.
        id: RuleId,
        /// What.
        problem: &'static str,
    },
}

/// References, most telling first within each source.
pub type References = BTreeMap<Source, Vec<String>>;

/// What the controls of one family have in common.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyEntry {
    /// One or two words.
    pub title: String,
    /// References that hold for every control of the family.
    #[serde(default)]
    pub references: References,
}

/// One control.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Control {
    /// `NET-04`.
    pub id: ControlId,
    /// What holds when the control is met, in the present tense.
    pub title: String,
    /// How grave a failure is.
    pub severity: Severity,
    /// The built-in mode.
    pub mode: ControlMode,
    /// The built-in mode where a stage differs.
    #[serde(default)]
    pub per_stage: PerStage,
    /// Where the control applies; empty for a control of the cluster.
    #[serde(default)]
    pub stages: Vec<NamespaceStage>,
    /// Whether the control is judged once for the whole cluster.
    #[serde(default)]
    pub cluster: bool,
    /// What keeps it.
    pub mechanism: Mechanism,
    /// No waiver, and never `Disabled`.
    #[serde(default)]
    pub untouchable: bool,
    /// Which texts ask for it, the family's references included.
    #[serde(default)]
    pub references: References,
    /// The day from which the law binds, where it sets one; earlier a failure is no breach of it.
    #[serde(default)]
    pub effective_from: Option<Date>,
    /// What the person does, in one sentence without a full stop.
    pub fix: String,
    /// What is checked, one by one.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One thing a control checks. What it leaves out is as its control says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// The part of the id after the slash.
    pub id: String,
    /// What holds when the rule is met.
    pub title: String,
    /// How grave a failure is.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// The built-in mode.
    #[serde(default)]
    pub mode: Option<ControlMode>,
    /// The built-in mode where a stage differs.
    #[serde(default)]
    pub per_stage: PerStage,
    /// The day from which the law binds.
    #[serde(default)]
    pub effective_from: Option<Date>,
    /// What the person does.
    #[serde(default)]
    pub fix: Option<String>,
}

impl Control {
    /// Whether the control is judged in namespaces of that stage.
    pub fn applies_to(&self, stage: NamespaceStage) -> bool {
        self.stages.contains(&stage)
    }

    /// The rule's entry; `None` for the control as a whole, and for a rule that is not of this control.
    pub fn rule(&self, id: &RuleId) -> Option<&Rule> {
        self.rules
            .iter()
            .find(|rule| id.control() == self.id && id.name() == Some(rule.id.as_str()))
    }

    /// The full ids of its rules, in the order of the text.
    pub fn rule_ids(&self) -> impl Iterator<Item = RuleId> + '_ {
        self.rules.iter().map(|rule| RuleId::named(self.id, rule.id.clone()))
    }

    /// The one reference a message has room for: the first of the first source, as in `ANSSI R26`.
    pub fn headline(&self) -> Option<String> {
        self.references
            .iter()
            .find_map(|(source, ids)| Some(format!("{source} {}", ids.first()?)))
    }
}

/// The whole text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Catalogue {
    control_set: String,
    families: BTreeMap<Family, FamilyEntry>,
    controls: Vec<Control>,
}

impl Catalogue {
    /// The built-in catalogue. It is a constant of the program, so asking for it cannot fail: a test reads it, and if
    /// that test were removed too, an empty catalogue makes every rule `Enforce`. `main` asks [`Self::try_builtin`] once,
    /// so that a broken build stops at its start.
    pub fn builtin() -> &'static Self {
        Self::try_builtin().unwrap_or(&NOTHING)
    }

    /// The built-in catalogue, or why it cannot be read.
    pub fn try_builtin() -> Result<&'static Self, &'static CatalogueError> {
        BUILTIN.as_ref()
    }

    /// Reads a catalogue, and refuses one that contradicts itself.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let mut catalogue: Self = serde_saphyr::from_str(text)?;
        if let Some(pair) = catalogue.controls.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            // The order is what `control` searches by; it makes ids unique as well.
            return Err(contradiction(pair[1].id.into(), "stands twice or out of order"));
        }
        for control in &mut catalogue.controls {
            let family = catalogue
                .families
                .get(&control.id.family())
                .ok_or_else(|| contradiction(control.id.into(), "has a family without an entry"))?;
            for (source, ids) in &family.references {
                control.references.entry(*source).or_insert_with(|| ids.clone());
            }
            coherent(control)?;
        }
        Ok(catalogue)
    }

    /// The version of the set of controls, `2026.1`.
    pub fn control_set(&self) -> &str {
        &self.control_set
    }

    /// Every control, in order.
    pub fn controls(&self) -> &[Control] {
        &self.controls
    }

    /// What the controls of a family have in common.
    pub fn family(&self, family: Family) -> Option<&FamilyEntry> {
        self.families.get(&family)
    }

    /// One control.
    pub fn control(&self, id: ControlId) -> Option<&Control> {
        self.controls
            .binary_search_by_key(&id, |control| control.id)
            .ok()
            .map(|at| &self.controls[at])
    }

    /// Whether the catalogue has this control, and this rule of it.
    pub fn contains(&self, id: &RuleId) -> bool {
        self.control(id.control())
            .is_some_and(|control| id.name().is_none() || control.rule(id).is_some())
    }

    /// The severity of a rule; `High` for an id the catalogue lacks.
    pub fn severity(&self, id: &RuleId) -> Severity {
        self.control(id.control()).map_or(Severity::High, |control| {
            control
                .rule(id)
                .and_then(|rule| rule.severity)
                .unwrap_or(control.severity)
        })
    }

    /// What to do about a failure of a rule.
    pub fn fix(&self, id: &RuleId) -> Option<&str> {
        let control = self.control(id.control())?;
        Some(
            control
                .rule(id)
                .and_then(|rule| rule.fix.as_deref())
                .unwrap_or(&control.fix),
        )
    }

    /// The day from which the law binds, where it sets one.
    pub fn effective_from(&self, id: &RuleId) -> Option<Date> {
        let control = self.control(id.control())?;
        control
            .rule(id)
            .and_then(|rule| rule.effective_from)
            .or(control.effective_from)
    }
}

fn contradiction(id: RuleId, problem: &'static str) -> CatalogueError {
    CatalogueError::Contradiction { id, problem }
}

/// The checks one control can be given alone.
fn coherent(control: &Control) -> Result<(), CatalogueError> {
    let off = |mode: Option<ControlMode>, stages: PerStage| {
        mode == Some(ControlMode::Disabled)
            || NamespaceStage::ALL
                .iter()
                .any(|stage| stages.get(*stage) == Some(ControlMode::Disabled))
    };
    let elsewhere = |stages: PerStage| {
        NamespaceStage::ALL
            .iter()
            .any(|stage| stages.get(*stage).is_some() && !control.applies_to(*stage))
    };
    let whole = || RuleId::from(control.id);
    if control.cluster != control.stages.is_empty() {
        return Err(contradiction(whole(), "needs either stages or cluster: true"));
    }
    if elsewhere(control.per_stage) {
        return Err(contradiction(
            whole(),
            "has a mode for a stage in which it does not apply",
        ));
    }
    if control.untouchable && off(Some(control.mode), control.per_stage) {
        return Err(contradiction(whole(), "may not be switched off and is Disabled"));
    }
    for (at, rule) in control.rules.iter().enumerate() {
        if !is_rule_name(&rule.id) {
            return Err(contradiction(
                whole(),
                "has a rule whose name is not words in lower case",
            ));
        }
        let id = RuleId::named(control.id, rule.id.clone());
        if control.rules[..at].iter().any(|other| other.id == rule.id) {
            return Err(contradiction(id, "stands twice"));
        }
        if elsewhere(rule.per_stage) {
            return Err(contradiction(
                id,
                "has a mode for a stage in which its control does not apply",
            ));
        }
        if control.untouchable && off(rule.mode, rule.per_stage) {
            return Err(contradiction(id, "may not be switched off and is Disabled"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
