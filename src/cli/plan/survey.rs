//! A live plan as people read it: one row for each namespace, and for one namespace every reason and a skeleton.

use std::fmt::Write as _;

use super::live::Survey;
use super::loss::{self, Loss};
use super::pods::{self, Refused};
use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::cli::out;
use crate::compliance::id::WKL_02;
use crate::compliance::{Catalogue, RuleId};
use crate::network::world::World;

/// A pod whose workload nobody declared.
const UNKNOWN_WORKLOAD: RuleId = WKL_02.rule("unknown");
/// What a row of the table has room for.
const SHOWN: usize = 4;
/// Pods that are named beside a reason.
const EXAMPLES: usize = 3;

impl Survey {
    /// What somebody should look at before the namespace is enforced, and what is not known about it.
    pub(in crate::cli) fn in_the_way(&self) -> Vec<String> {
        let none = "there is no AiWorkload: every new pod would be refused (WKL-02/unknown)".to_owned();
        let none = self.workloads.is_empty().then_some(none);
        let bad = self.refused.as_ref().filter(|refused| refused.pods > 0);
        let bad = bad.map(|bad| {
            format!(
                "of {} would be refused {}",
                out::count(self.pods.len(), "pod"),
                refused(bad)
            )
        });
        let loss = match &self.loss {
            // Nothing runs that could miss anything.
            _ if self.pods.is_empty() => None,
            None => Some("what it would lose is not known".to_owned()),
            Some(loss) => Some(loss.undeclared())
                .filter(|names| !names.is_empty())
                .map(|names| format!("would lose {}", shortened(&names))),
        };
        none.into_iter().chain(bad).chain(loss).collect()
    }
}

/// Everything.
pub(super) fn text(surveys: &[Survey], detailed: bool, world: &World, notes: &[String]) -> String {
    let header = [
        "NAMESPACE",
        "STAGE",
        "MODE",
        "PODS",
        "JOIN 'default'",
        "WOULD BE REFUSED",
        "WOULD LOSE (reachable now, not declared)",
    ];
    let rows: Vec<Vec<String>> = surveys.iter().map(row).collect();
    let mut text = if rows.is_empty() {
        "no namespace has a stage, or looks as if it should have one\n".to_owned()
    } else {
        out::table(&header, rows)
    };
    if detailed {
        for survey in surveys {
            text.push_str(&reasons(survey));
            text.push_str(&skeleton(survey, world));
        }
    }
    for survey in surveys.iter().filter(|survey| survey.limited) {
        let _ = writeln!(
            text,
            "note: NetworkPolicies in {} limit what it reaches; some of what it would lose may be closed already",
            survey.name
        );
    }
    if surveys.iter().any(|survey| survey.guess.is_some()) {
        text.push_str("note: \"looks like\" is a guess, by requests for accelerators and by ports\n");
    }
    for note in notes {
        let _ = writeln!(text, "note: {}", out::clean(note));
    }
    text
}

fn row(survey: &Survey) -> Vec<String> {
    let stage = match (survey.stage, survey.guess) {
        (Some(stage), _) => stage.to_string(),
        (None, Some(guess)) => format!("looks like {guess}"),
        (None, None) => "-".to_owned(),
    };
    let mode = survey.stage.map_or_else(|| "-".to_owned(), |_| survey.mode.to_string());
    let joining = survey.pods.iter().filter(|pod| pods::joins_default(pod)).count();
    let refused = survey.refused.as_ref().map_or_else(|| "-".to_owned(), refused);
    let loss = survey.loss.as_ref().map_or_else(|| "not known".to_owned(), lost);
    vec![
        survey.name.clone(),
        stage,
        mode,
        survey.pods.len().to_string(),
        joining.to_string(),
        refused,
        loss,
    ]
}

/// `2 (WKL-01/host-ipc 2, SUP-01/digest 1)`.
fn refused(refused: &Refused) -> String {
    if refused.pods == 0 {
        return "0".to_owned();
    }
    let rules = refused
        .rules
        .iter()
        .map(|(rule, (_, pods))| format!("{rule} {}", pods.len()));
    format!("{} ({})", refused.pods, rules.collect::<Vec<_>>().join(", "))
}

fn lost(loss: &Loss) -> String {
    let names = loss.names();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        shortened(&names)
    }
}

fn shortened(names: &[String]) -> String {
    // The outside is last, and must not be what is left out.
    let room = SHOWN.saturating_sub(1);
    if names.len() <= SHOWN {
        return names.join(", ");
    }
    let last = names.last().cloned().unwrap_or_default();
    format!("{}, {last}, +{} more", names[..room].join(", "), names.len() - room - 1)
}

/// Every reason for a refusal and everything that would be lost.
fn reasons(survey: &Survey) -> String {
    let mut text = String::new();
    for (rule, (message, pods)) in survey.refused.iter().flat_map(|refused| &refused.rules) {
        let examples: Vec<&str> = pods.iter().take(EXAMPLES).map(String::as_str).collect();
        let more = if pods.len() > EXAMPLES { ", …" } else { "" };
        let mut fix = Catalogue::builtin().fix(rule).unwrap_or_default().to_owned();
        if *rule == UNKNOWN_WORKLOAD && !survey.workloads.contains(names::DEFAULT_WORKLOAD) {
            fix = format!(
                "declare an AiWorkload `{}`, which pods without the label join; or {fix}",
                names::DEFAULT_WORKLOAD
            );
        }
        let many = out::count(pods.len(), "pod");
        let message = out::clean(message);
        let _ = writeln!(
            text,
            "  {rule}  {many} ({}{more}): {message}\n    fix: {fix}",
            examples.join(", ")
        );
    }
    if !text.is_empty() {
        text.insert_str(0, "\nWould be refused, if they were created now:\n");
    }
    let observed: Vec<String> = survey
        .refused
        .iter()
        .flat_map(|refused| &refused.observed)
        .map(|(rule, (message, pods))| {
            let many = out::count(pods.len(), "pod");
            format!("  {rule}  {many}: {}\n", out::clean(message))
        })
        .collect();
    if !observed.is_empty() {
        let _ = write!(
            text,
            "\nReported only, because the control is in mode Audit here:\n{}",
            observed.concat()
        );
    }
    let names = survey.loss.iter().flat_map(Loss::names);
    let lines: Vec<String> = names.map(|name| format!("  {name}\n")).collect();
    if !lines.is_empty() {
        let _ = write!(
            text,
            "\nWould be lost (reachable now, not declared):\n{}",
            lines.concat()
        );
    }
    text
}

/// An AiWorkload to start from; empty where there is one already, or no stage to write into it.
fn skeleton(survey: &Survey, world: &World) -> String {
    let stage = survey.stage.or(survey.guess).unwrap_or(NamespaceStage::Training);
    let Some(workload_stage) = stage.workload_stage() else {
        return String::new();
    };
    if survey.workloads.contains(names::DEFAULT_WORKLOAD) {
        return String::new();
    }
    let mut text = format!(
        "\nAn AiWorkload to start from; remove what is not needed:\n---\napiVersion: {}/{}\nkind: AiWorkload\nmetadata:\n  \
         name: {}\n  namespace: {}\nspec:\n  stage: {workload_stage}\n  owner: \"TODO: the team that answers for it\"\n  \
         purpose: \"TODO: what it is for, in a sentence\"\n",
        names::GROUP,
        names::VERSION,
        names::DEFAULT_WORKLOAD,
        survey.name
    );
    if let Some(runtime) = pods::runtime(&survey.pods) {
        let _ = writeln!(text, "  runtime: {runtime}  # a guess, by the labels of its pods");
    }
    let Some(loss) = &survey.loss else { return text };
    let entries = loss::entries(loss);
    if !entries.is_empty() {
        text.push_str("  network:\n    connectTo:\n");
    }
    for entry in entries {
        let _ = writeln!(text, "    - service: {entry}");
    }
    for lost in loss.services.iter().filter(|lost| lost.entry.is_none()) {
        let namespace = lost.name.split('/').next().unwrap_or_default();
        let advice = match world.stage_of(namespace).and_then(NamespaceStage::workload_stage) {
            Some(other) if other == workload_stage => "declare the workload, at both ends",
            Some(_) => "is of another stage",
            None => "no service of the catalogue leads there; ask the admin for one if it is needed",
        };
        let _ = writeln!(text, "    # {}: {advice}", lost.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::loss::Lost;
    use super::*;
    use crate::api::stage::Mode;

    fn survey(change: impl FnOnce(&mut Survey)) -> Vec<String> {
        let mut survey = Survey {
            name: "train".to_owned(),
            stage: Some(NamespaceStage::Training),
            guess: None,
            mode: Mode::Audit,
            pods: vec![json!({"metadata": {"name": "p"}})],
            refused: Some(Refused::default()),
            loss: Some(Loss {
                services: Vec::new(),
                outside: Some("other addresses outside the cluster"),
                outside_is_declared: true,
            }),
            denied: false,
            sealed: false,
            limited: false,
            workloads: BTreeSet::from(["default".to_owned()]),
        };
        change(&mut survey);
        survey.in_the_way()
    }

    #[test]
    fn nothing_is_in_the_way_only_where_that_is_known() {
        let none = [""; 0];
        assert_eq!(survey(|_| {}), none, "all that runs is declared");
        assert_eq!(survey(|it| it.loss = None), ["what it would lose is not known"]);
        let losing = survey(|it| {
            let loss = it.loss.get_or_insert_default();
            loss.outside_is_declared = false;
            loss.services.push(Lost {
                name: "minio/minio:9000".to_owned(),
                entry: None,
            });
        });
        assert_eq!(
            losing,
            ["would lose minio/minio:9000, other addresses outside the cluster"]
        );
        let empty = survey(|it| {
            it.pods.clear();
            it.loss = None;
        });
        assert_eq!(empty, none, "nothing runs that could lose anything");
        let undeclared = survey(|it| it.workloads.clear());
        assert_eq!(
            undeclared,
            ["there is no AiWorkload: every new pod would be refused (WKL-02/unknown)"]
        );
    }
}
