//! `docs/reference/controls.md`, printed from the catalogue. Markdown that also reads well unrendered.

use std::fmt::Write;

use super::catalogue::{Catalogue, Control, Rule};
use super::id::{Family, RuleId};
use super::mode::PerStage;
use super::vocabulary::Mechanism;
use crate::api::stage::{ControlMode, NamespaceStage};

const INTRODUCTION: &str = "\
A *control* is what the score, the policy and the auditor speak of. A *rule* is one thing a control checks; messages and
waivers name it as `WKL-01/host-path`. Severity and mode of a rule are those of its control unless the table says
otherwise.

`Disabled`: not evaluated. `Audit`: reported and scored, never refused. `Enforce`: refused in namespaces of mode `enforce`. The
modes below are the built-in ones; `AiSecurityPolicy.spec.controls` changes them, with a reason where it weakens one.
A control marked *no waiver* is never `Disabled`. An empty cell in the column of a stage means that the control does not
apply there. A score and a list of references are help for an auditor; they certify nothing.
";

/// The whole page.
pub fn controls_page(catalogue: &Catalogue) -> String {
    let mut page = format!(
        "<!-- Generated from src/compliance/catalogue.yaml by `make gen`. Do not edit. -->\n\
         # Controls, set {}\n\n{INTRODUCTION}\n{} controls in {} families.\n",
        catalogue.control_set(),
        catalogue.controls().len(),
        Family::ALL
            .iter()
            .filter(|family| catalogue.family(**family).is_some())
            .count(),
    );
    for family in Family::ALL {
        let Some(entry) = catalogue.family(family) else {
            continue;
        };
        let controls = || {
            catalogue
                .controls()
                .iter()
                .filter(move |control| control.id.family() == family)
        };
        line(&mut page, format_args!("\n## {family}: {}\n", entry.title));
        line(&mut page, format_args!("{}", overview_head()));
        controls().for_each(|control| overview_row(&mut page, catalogue, control));
        controls().for_each(|control| section(&mut page, catalogue, control));
    }
    page
}

/// Writing to a `String` cannot fail, so there is no error to hand on.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{text}");
}

fn overview_head() -> String {
    let stages = NamespaceStage::ALL.map(|stage| format!(" {stage} |")).concat();
    let rules = "---|".repeat(4 + NamespaceStage::ALL.len());
    format!("| control | title | severity |{stages} cluster |\n|{rules}")
}

fn overview_row(page: &mut String, catalogue: &Catalogue, control: &Control) {
    let id = RuleId::from(control.id);
    let mode = |stage| catalogue.default_mode(&id, stage);
    let stages = NamespaceStage::ALL
        .map(|stage| {
            if control.applies_to(stage) {
                format!(" {} |", word(mode(Some(stage))))
            } else {
                "  |".to_owned()
            }
        })
        .concat();
    let cluster = if control.cluster { word(mode(None)) } else { "" };
    line(
        page,
        format_args!(
            "| [{id}](#{anchor}) | {} | {} |{stages} {cluster} |",
            cell(&control.title),
            control.severity,
            anchor = id.to_string().to_lowercase(),
        ),
    );
}

fn section(page: &mut String, catalogue: &Catalogue, control: &Control) {
    line(page, format_args!("\n### {}\n\n{}.\n", control.id, control.title));
    let untouchable = if control.untouchable { " No waiver." } else { "" };
    line(
        page,
        format_args!("- Kept by: {}.{untouchable}", kept_by(control.mechanism)),
    );
    if let Some(date) = control.effective_from {
        line(page, format_args!("- The law binds from {date}."));
    }
    line(page, format_args!("- What to do: {}.", control.fix));
    let references: Vec<String> = control
        .references
        .iter()
        .map(|(source, ids)| format!("{source} {}", ids.join(", ")))
        .collect();
    if !references.is_empty() {
        line(page, format_args!("- References: {}.", references.join(" · ")));
    }
    if control.rules.is_empty() {
        return;
    }
    line(
        page,
        format_args!("\n| rule | holds when met | differs from its control | what to do |\n|---|---|---|---|"),
    );
    for (rule, id) in control.rules.iter().zip(control.rule_ids()) {
        line(
            page,
            format_args!(
                "| `{id}` | {} | {} | {} |",
                cell(&rule.title),
                differences(rule),
                cell(catalogue.fix(&id).unwrap_or_default()),
            ),
        );
    }
}

/// What a rule says for itself.
fn differences(rule: &Rule) -> String {
    let Rule {
        id: _,
        title: _,
        fix: _,
        severity,
        mode,
        per_stage,
        effective_from,
    } = rule;
    let mut parts: Vec<String> = severity.iter().map(ToString::to_string).collect();
    parts.extend(mode.map(|mode| word(mode).to_owned()));
    parts.extend(stage_modes(*per_stage));
    parts.extend(effective_from.map(|date| format!("law binds from {date}")));
    parts.join(", ")
}

fn stage_modes(per_stage: PerStage) -> impl Iterator<Item = String> {
    NamespaceStage::ALL
        .into_iter()
        .filter_map(move |stage| per_stage.get(stage).map(|mode| format!("{} in {stage}", word(mode))))
}

const fn word(mode: ControlMode) -> &'static str {
    match mode {
        ControlMode::Disabled => "Disabled",
        ControlMode::Audit => "Audit",
        ControlMode::Enforce => "Enforce",
    }
}

const fn kept_by(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Network => "network policies, and the CNI",
        Mechanism::Encryption => "encryption at rest",
        Mechanism::Admission => "admission: the API server refuses the request",
        Mechanism::Evidence => "evidence that somebody brings",
        Mechanism::Posture => "observation of the cluster; nothing is refused",
    }
}

/// A pipe would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        controls_page(Catalogue::builtin())
    }

    #[test]
    fn every_control_and_every_rule_has_its_place() {
        let page = page();
        for control in Catalogue::builtin().controls() {
            assert_eq!(
                page.matches(&format!("\n### {}\n", control.id)).count(),
                1,
                "{}",
                control.id
            );
            for id in control.rule_ids() {
                assert_eq!(page.matches(&format!("| `{id}` |")).count(), 1, "{id}");
            }
        }
    }

    #[test]
    fn the_modes_of_the_overview_are_the_built_in_ones() {
        let page = page();
        for row in [
            "| [SUP-02](#sup-02) | Models are pinned and can be verified | High |  | Audit | Audit |  |  |",
            "| [CLU-04](#clu-04) | Nobody tampers with the operator's objects | Critical |  |  |  |  | Enforce |",
            "| [WKL-05](#wkl-05) | Nothing is trained where models serve | High |  |  | Enforce |  |  |",
        ] {
            assert!(page.contains(row), "{row}");
        }
    }

    #[test]
    fn a_rule_shows_what_differs() {
        assert!(
            page().contains("| `WKL-06/proxy` | Nobody reaches a pod or a Service through the API server | Enforce |")
        );
        assert!(page().contains("| law binds from 2026-12-02 |"));
    }

    #[test]
    fn the_page_never_claims_compliance() {
        assert!(!page().to_lowercase().contains("compliant with"));
    }

    #[test]
    fn every_row_of_a_table_has_as_many_cells_as_its_head() {
        let mut head = None;
        for row in page().lines() {
            let cells = row.replace("\\|", "").matches('|').count();
            if cells == 0 {
                head = None;
            } else {
                assert_eq!(cells, *head.get_or_insert(cells), "{row}");
            }
        }
    }
}
