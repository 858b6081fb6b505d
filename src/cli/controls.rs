//! `cloison controls`: the control catalogue that is built into the program.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{CliError, out};
use crate::api::stage::{ControlMode, NamespaceStage};
use crate::compliance::{Catalogue, Control, RuleId};

/// Flags of `controls`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A control (NET-04) or one of its rules (WKL-01/host-path); without one, all of them.
    id: Option<RuleId>,
    /// How to print.
    #[arg(short, long)]
    output: Option<Output>,
}

/// For programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

/// Prints the table, or one control in full.
pub fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let catalogue = Catalogue::try_builtin().map_err(|error| CliError::Usage(error.to_string()))?;
    let chosen = match &arguments.id {
        None => None,
        Some(id) => Some(one(catalogue, id)?),
    };
    let text = match (arguments.output, chosen) {
        (None, None) => overview(catalogue),
        (None, Some(control)) => in_full(catalogue, control),
        (Some(format), chosen) => {
            let value = match chosen {
                Some(control) => as_json(catalogue, control),
                None => json!({
                    "controlSet": catalogue.control_set(),
                    "controls": catalogue.controls().iter().map(|control| as_json(catalogue, control)).collect::<Vec<_>>(),
                }),
            };
            match format {
                Output::Json => out::json(&value)?,
                Output::Yaml => out::document(&value)?,
            }
        }
    };
    out::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn one<'c>(catalogue: &'c Catalogue, id: &RuleId) -> Result<&'c Control, CliError> {
    let known = catalogue.control(id.control()).filter(|_| catalogue.contains(id));
    known.ok_or_else(|| CliError::Usage(format!("there is no {id}; `cloison controls` lists them")))
}

fn overview(catalogue: &Catalogue) -> String {
    let row = |control: &Control| {
        vec![
            control.id.to_string(),
            control.severity.to_string(),
            modes(catalogue, control),
            control.title.clone(),
        ]
    };
    let rows = catalogue.controls().iter().map(row).collect();
    format!(
        "{}\n{} of control set {}; `cloison controls ID` shows one in full.\n",
        out::table(&["CONTROL", "SEVERITY", "MODE", "WHAT HOLDS WHEN IT IS MET"], rows),
        out::count(catalogue.controls().len(), "control"),
        catalogue.control_set()
    )
}

/// The built-in mode, and the stages where it differs.
fn modes(catalogue: &Catalogue, control: &Control) -> String {
    let id = RuleId::from(control.id);
    let mode = |stage| catalogue.default_mode(&id, stage);
    let whole = if control.cluster { mode(None) } else { control.mode };
    let differs = NamespaceStage::ALL
        .into_iter()
        .filter(|stage| control.applies_to(*stage) && mode(Some(*stage)) != whole);
    let parts = differs.map(|stage| format!(", {} in {stage}", word(mode(Some(stage)))));
    format!("{}{}", word(whole), parts.collect::<String>())
}

const fn word(mode: ControlMode) -> &'static str {
    match mode {
        ControlMode::Disabled => "Disabled",
        ControlMode::Audit => "Audit",
        ControlMode::Enforce => "Enforce",
    }
}

fn references(control: &Control) -> Vec<String> {
    let one = |(source, ids): (&_, &Vec<String>)| format!("{source} {}", ids.join(", "));
    control.references.iter().map(one).collect()
}

fn applies(control: &Control) -> String {
    if control.cluster {
        return "the cluster".to_owned();
    }
    let stages: Vec<&str> = control.stages.iter().map(|stage| stage.as_str()).collect();
    stages.join(", ")
}

fn in_full(catalogue: &Catalogue, control: &Control) -> String {
    let mut text = format!("{}  {}\n\n", control.id, control.title);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("severity", &control.severity.to_string());
    line("mode", &modes(catalogue, control));
    line("applies to", &applies(control));
    if control.untouchable {
        line("waiver", "none, and never Disabled");
    }
    if let Some(date) = control.effective_from {
        line("law binds", &format!("from {date}"));
    }
    line("what to do", &control.fix);
    for (index, reference) in references(control).iter().enumerate() {
        line(if index == 0 { "references" } else { "" }, reference);
    }
    let rows = control.rules.iter().zip(control.rule_ids()).map(|(rule, id)| {
        vec![
            id.to_string(),
            catalogue.severity(&id).to_string(),
            rule.title.clone(),
            catalogue.fix(&id).unwrap_or_default().to_owned(),
        ]
    });
    let rules = out::table(
        &["RULE", "SEVERITY", "WHAT HOLDS WHEN IT IS MET", "WHAT TO DO"],
        rows.collect(),
    );
    if !rules.is_empty() {
        let _ = write!(text, "\n{rules}");
    }
    text
}

fn as_json(catalogue: &Catalogue, control: &Control) -> Value {
    let id = RuleId::from(control.id);
    let stages = control.stages.iter().map(|stage| {
        let mode = catalogue.default_mode(&id, Some(*stage));
        (stage.as_str().to_owned(), json!(word(mode)))
    });
    let rules: Vec<Value> = control
        .rules
        .iter()
        .zip(control.rule_ids())
        .map(|(rule, id)| {
            json!({
                "id": id, "title": rule.title, "severity": catalogue.severity(&id), "fix": catalogue.fix(&id),
                "effectiveFrom": catalogue.effective_from(&id).map(|date| date.to_string()),
            })
        })
        .collect();
    json!({
        "id": control.id, "title": control.title, "severity": control.severity, "mode": word(control.mode),
        "stages": stages.collect::<serde_json::Map<_, _>>(), "cluster": control.cluster,
        "mechanism": control.mechanism, "untouchable": control.untouchable,
        "effectiveFrom": control.effective_from.map(|date| date.to_string()),
        "references": references(control), "fix": control.fix, "rules": rules,
    })
}
