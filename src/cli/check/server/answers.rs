//! What the API server's answers add to what the manifests alone say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cli::dry_run::refusal::Refusal;
use crate::cli::dry_run::{Answer, Cause, Other, Silence};
use crate::cli::manifests::Problem;
use crate::cli::plan::{Returned, Trial, beyond};
use crate::cli::{dry_run, out};
use crate::compliance::id::{NET_01, WKL_02};
use crate::compliance::{Finding, RuleId};

/// Objects that a note names.
const NAMED: usize = 5;
/// How a finding ends that a pod gets on its way.
const ADDED: &str = " (not in the manifest: an injector or a default of the API server added it)";
/// How one ends that the API server refuses, and nobody here knows for what in the pod.
const REFUSED: &str = " (refused by the API server now; the manifests alone do not show it)";

/// What there is to say besides.
#[derive(Debug, Default)]
pub(in crate::cli::check) struct Told {
    /// What is against the pods.
    pub findings: Vec<Finding>,
    /// Those of them that the API server would not refuse for.
    pub reported: BTreeSet<Finding>,
    /// What others than Cloison would refuse.
    pub problems: Vec<Problem>,
    /// What was done, and what is not known.
    pub notes: Vec<String>,
}

/// Puts trials and their answers into words; no answer is one that could not be asked for. `known` are those findings of the
/// manifests that something is refused for.
pub(super) fn told<'t>(
    tried: impl Iterator<Item = (&'t Trial<'t>, &'t Option<Answer>)>,
    returned: &Returned<'_>,
    known: &[Finding],
) -> Told {
    let mut said = Words {
        returned,
        known,
        told: Told::default(),
        admitted: 0,
        unknown: BTreeMap::new(),
    };
    for (trial, answer) in tried {
        match (answer, &trial.pod) {
            (Some(Answer::Admitted(came)), Some(sent)) => said.admitted(trial, sent, came),
            (Some(Answer::Refused(refusal)), Some(sent)) => said.refused(trial, sent, refusal),
            (Some(Answer::RefusedByOther(other)), _) => said.refused_by_other(trial, other),
            (Some(Answer::Unknown(why)), _) => said.silent(trial, why),
            _ => said.unknown(
                trial,
                "its controller writes the pods; they are judged when they are made".to_owned(),
            ),
        }
    }
    said.finish()
}

struct Words<'a> {
    returned: &'a Returned<'a>,
    known: &'a [Finding],
    told: Told,
    /// Pods that came back.
    admitted: usize,
    /// By reason, the objects whose pods are not known.
    unknown: BTreeMap<String, BTreeSet<String>>,
}

impl Words<'_> {
    fn admitted(&mut self, trial: &Trial<'_>, sent: &Value, came: &Value) {
        self.admitted += 1;
        let [refused, reported] = self.returned.added(trial, sent, came).map(|found| {
            let marked = found.into_iter().map(|finding| marked(finding, ADDED));
            marked.collect::<Vec<_>>()
        });
        self.told
            .findings
            .extend(refused.into_iter().chain(reported.iter().cloned()));
        self.told.reported.extend(reported);
    }

    fn refused(&mut self, trial: &Trial<'_>, sent: &Value, refusal: &Refusal) {
        // What the file only reports says nothing of a refusal.
        let [before, _] = self.returned.judge(trial, sent);
        if refusal.problems.is_empty() && !refusal.cut {
            self.told.problems.push(Problem {
                at: trial.at(),
                message: "the API server would refuse its pods: a policy of Cloison does, and does not say why"
                    .to_owned(),
            });
        }
        for problem in &refusal.problems {
            let finding = trial.finding(problem.rule.clone(), &problem.message);
            let is_known = self.is_known(&finding);
            if is_of_the_moment(&finding.rule) {
                // The manifests are judged as applied: with their workloads, and sealed.
                if !is_known {
                    let why = format!(
                        "it refuses them under {} for what the namespace and its AiWorkloads are now; try again once the \
                         manifests are applied",
                        finding.rule
                    );
                    self.unknown(trial, why);
                }
                continue;
            }
            let Some(finding) = beyond(&before, finding) else {
                continue;
            };
            if names_another(&finding.message, sent) {
                self.told.findings.push(marked(finding, ADDED));
            } else if !is_known {
                self.told.findings.push(marked(finding, REFUSED));
            }
        }
        if refusal.cut {
            let why = "its refusal had no room for more; try again once what it names is mended";
            self.unknown(trial, why.to_owned());
        }
    }

    fn is_known(&self, finding: &Finding) -> bool {
        let mut known = self.known.iter();
        known.any(|other| other.rule == finding.rule && other.subject == finding.subject)
    }

    fn refused_by_other(&mut self, trial: &Trial<'_>, other: &Other) {
        let Other { cause, message } = other;
        let namespace = trial.namespace();
        match cause {
            Cause::NoNamespace => self.unknown(
                trial,
                format!("namespace {namespace:?} is not there; try again once it is"),
            ),
            Cause::NoAccount => self.unknown(
                trial,
                format!("a ServiceAccount is not there ({message}); try again once it is"),
            ),
            Cause::Invalid if !is_built_in(trial) => self.unknown(
                trial,
                format!("the template alone is no valid pod ({message}); where its controller completes it, it is judged then"),
            ),
            Cause::Rule | Cause::Invalid => self.told.problems.push(Problem {
                at: trial.at(),
                message: format!("the API server would refuse its pods, and not by Cloison: {message}"),
            }),
        }
    }

    fn silent(&mut self, trial: &Trial<'_>, why: &Silence) {
        let namespace = trial.namespace();
        let why = match why {
            Silence::MayNotCreate => {
                format!("you may not create pods in namespace {namespace:?}; run it as somebody who may")
            }
            Silence::Failed(words) => format!("{words}; try again"),
        };
        self.unknown(trial, why);
    }

    fn unknown(&mut self, trial: &Trial<'_>, why: String) {
        let subject = trial.maker.subject.to_string();
        self.unknown.entry(why).or_default().insert(subject);
    }

    fn finish(mut self) -> Told {
        if self.admitted > 0 {
            self.told.notes.push(format!(
                "{} came back from the API server (server-side dry run as you): what was added there is judged where the \
                 stage is known",
                out::count(self.admitted, "pod")
            ));
        }
        let notes = self.unknown.into_iter().map(|(why, objects)| {
            let mut names: Vec<&str> = objects.iter().take(NAMED).map(String::as_str).collect();
            let more = format!("{} more", objects.len().saturating_sub(NAMED));
            if objects.len() > NAMED {
                names.push(&more);
            }
            format!(
                "what the API server makes of pods of {} is not known: {why}",
                names.join(", ")
            )
        });
        self.told.notes.extend(notes);
        self.told
    }
}

fn marked(mut finding: Finding, how: &str) -> Finding {
    finding.message.push_str(how);
    finding
}

/// Whether a rule asks what the namespace and its workloads are, which is another thing once the manifests are applied.
fn is_of_the_moment(rule: &RuleId) -> bool {
    rule.control() == WKL_02 || *rule == NET_01.rule("seal")
}

/// Whether a message names a container or a volume that the pod did not have when it was sent.
fn names_another(message: &str, sent: &Value) -> bool {
    let containers = dry_run::pod::containers(sent);
    let volumes = sent
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let volumes: Vec<&str> = volumes.filter_map(|volume| volume.get("name")?.as_str()).collect();
    let names = |what: &str, known: &[&str]| {
        let parts = message.split(what).skip(1);
        let mut named = parts.filter_map(|part| part.split_once('"').map(|(name, _)| name));
        named.any(|name| !known.contains(&name))
    };
    names("container \"", &containers) || names("volume \"", &volumes)
}

/// Whether a pod of a template is whole without a controller of others.
fn is_built_in(trial: &Trial<'_>) -> bool {
    let (version, _) = trial.maker.document.kind();
    version == "v1" || version.starts_with("apps/") || version.starts_with("batch/")
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
