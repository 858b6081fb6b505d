//! Pods as an API server hands them back: with what mutating webhooks and its own defaults put into them. What is against them
//! beyond what is against their templates, by the functions that judge the templates.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::input::Input;
use super::label_paths::{Place, places};
use super::templates::{Home, Maker};
use crate::admission::{Offline, PolicySet, Waived};
use crate::cli::{CliError, dry_run};
use crate::compliance::{Finding, Location, RuleId};
use crate::network::world::World;

/// Pods that a document makes, all alike.
pub(in crate::cli) struct Trial<'m> {
    /// The document.
    pub maker: &'m Maker,
    place: Place<'m>,
    /// The pod that the API server is asked about; `None` where only its label is written in the document.
    pub pod: Option<Value>,
}

/// What there is to try, in the order of the input.
pub(in crate::cli) fn trials(makers: &[Maker]) -> Vec<Trial<'_>> {
    let mut trials = Vec::new();
    for maker in makers {
        trials.extend(
            places(&maker.document)
                .into_iter()
                .map(|place| Trial::new(maker, place)),
        );
    }
    trials
}

impl<'m> Trial<'m> {
    fn new(maker: &'m Maker, place: Place<'m>) -> Self {
        let namespace = maker.subject.namespace.as_deref().unwrap_or_default();
        let object = maker.document.root.json();
        let template = place.pod(namespace, &maker.subject.name);
        let pod = dry_run::pod::of(maker.document.kind().1, namespace, &template, &object);
        Self {
            pod: pod.filter(|_| !place.is_label_alone()),
            maker,
            place,
        }
    }

    /// The namespace.
    pub(in crate::cli) fn namespace(&self) -> &str {
        self.maker.subject.namespace.as_deref().unwrap_or_default()
    }

    /// Where the template is.
    pub(in crate::cli) fn at(&self) -> Location {
        self.maker.document.locate(self.place.path())
    }

    /// A finding about these pods.
    pub(in crate::cli) fn finding(&self, rule: RuleId, message: &str) -> Finding {
        Finding::new(rule, self.maker.subject.clone(), message).at(self.at())
    }
}

/// Judges pods in the world of an input.
pub(in crate::cli) struct Returned<'a> {
    offline: Offline,
    input: &'a Input,
    world: &'a World,
    waived: Waived,
}

impl<'a> Returned<'a> {
    /// `set` is what the input was judged by.
    pub(in crate::cli) fn new(input: &'a Input, world: &'a World, set: &PolicySet) -> Result<Self, CliError> {
        let offline = Offline::new(set)?;
        let waivers = input.objects.waivers.values().map(|found| &found.object);
        Ok(Self {
            offline,
            input,
            world,
            waived: Waived::new(waivers, &world.policy, Timestamp::now()),
        })
    }

    /// What is against a pod: what would be refused, and what is only reported. Nothing where the stage of its namespace is
    /// not known.
    pub(in crate::cli) fn judge(&self, trial: &Trial<'_>, pod: &Value) -> [Vec<Finding>; 2] {
        let Trial { maker, place, .. } = trial;
        let Input { objects, secrets, .. } = self.input;
        let Some(home) = Home::named(objects, self.world, trial.namespace()) else {
            return [Vec::new(), Vec::new()];
        };
        // Both know how a pod takes credentials, as in the file.
        let checked = secrets.of_pod(pod, &maker.subject, objects, self.world, &self.waived);
        let rules: BTreeSet<&RuleId> = checked.iter().map(|finding| &finding.rule).collect();
        let [mut refused, mut reported] = home.judge(&self.offline, maker, place, pod);
        refused.retain(|finding| !rules.contains(&finding.rule));
        reported.retain(|finding| !rules.contains(&finding.rule));
        // Their fields are those of the pod that came back; in the file there is its template.
        refused.extend(checked.into_iter().map(|finding| finding.at(trial.at())));
        [refused, reported]
    }

    /// What is against the pod that came back and not against the one that was sent.
    pub(in crate::cli) fn added(&self, trial: &Trial<'_>, sent: &Value, came: &Value) -> [Vec<Finding>; 2] {
        let before = self.judge(trial, sent).concat();
        self.judge(trial, came).map(|after| {
            after
                .into_iter()
                .filter_map(|finding| beyond(&before, finding))
                .collect()
        })
    }
}

/// What of a finding others of its rule do not say. A message names all that break a rule in one list, `no digest: container
/// "a", container "b"`: of it the rest is left.
pub(in crate::cli) fn beyond(before: &[Finding], finding: Finding) -> Option<Finding> {
    let said = before.iter().filter(|other| other.rule == finding.rule);
    let said: Vec<&str> = said.map(|other| other.message.as_str()).collect();
    if said.contains(&finding.message.as_str()) {
        return None;
    }
    let Some((what, list)) = finding.message.split_once(": ") else {
        return Some(finding);
    };
    let lists = said.iter().filter_map(|message| message.split_once(": "));
    let known: BTreeSet<&str> = lists
        .filter(|(of, _)| *of == what)
        .flat_map(|(_, list)| list.split(", "))
        .collect();
    let rest: Vec<&str> = list.split(", ").filter(|item| !known.contains(item)).collect();
    let message = format!("{what}: {}", rest.join(", "));
    (!rest.is_empty()).then_some(Finding { message, ..finding })
}

#[cfg(test)]
mod tests;
