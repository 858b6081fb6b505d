//! What the door would say to the pods of manifests: to pods, and to those that templates would make. The very
//! expressions, evaluated here; the namespace is taken as sealed, with the AiWorkloads of the input as those that exist.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::label_paths::{Place, label_at, places};
use crate::admission::{ConfigMaps, MOST_VALUES, Offline, PolicySet, Request, is_too_large};
use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::cli::manifests::{Document, Objects};
use crate::cli::{CliError, out};
use crate::compliance::id::{WKL_01, WKL_02};
use crate::compliance::{Assurance, Finding, RuleId, Subject};
use crate::controller::open_list;
use crate::network::world::{Namespace, World};

/// Workloads that a fix names.
const NAMED: usize = 5;

/// A document that is a pod or makes pods.
pub(in crate::cli) struct Maker {
    /// The object.
    pub subject: Subject,
    /// Where it was read.
    pub document: Document,
}

/// What was found.
#[derive(Default)]
pub(super) struct Judged {
    /// Everything.
    pub findings: Vec<Finding>,
    /// Those that the API server would not refuse for: the namespace is not in mode Enforce, or the control is in mode
    /// Audit.
    pub reported: BTreeSet<Finding>,
    /// What could not be judged, and why.
    pub notes: Vec<String>,
    /// How many documents were looked at, by kind.
    pub kinds: BTreeMap<String, usize>,
}

/// Judges each pod as one that is created now. What is `checked` elsewhere under the same rule is told there.
pub(super) fn judge(
    makers: &[Maker],
    objects: &Objects,
    world: &World,
    set: &PolicySet,
    checked: &[Finding],
    environment: &ConfigMaps,
) -> Result<Judged, CliError> {
    let checked: BTreeSet<(&RuleId, &Subject)> = checked.iter().map(|found| (&found.rule, &found.subject)).collect();
    let told = |finding: &Finding| !checked.contains(&(&finding.rule, &finding.subject));
    let mut judged = Judged::default();
    let (mut offline, mut homes) = (None, BTreeMap::new());
    let (mut unseen, mut later) = (BTreeMap::<&str, usize>::new(), BTreeMap::<&str, usize>::new());
    for maker in makers {
        let Maker { subject, document } = maker;
        let places = places(document);
        if places.is_empty() {
            continue;
        }
        *judged.kinds.entry(subject.kind.clone()).or_default() += 1;
        let namespace = subject.namespace.as_deref().unwrap_or_default();
        let Some(facts) = known(objects, world, namespace) else {
            *unseen.entry(namespace).or_default() += 1;
            continue;
        };
        let Some(stage) = facts.stage else { continue };
        if places.iter().any(Place::is_label_alone) {
            *later.entry(&subject.kind).or_default() += 1;
        }
        let offline = match &mut offline {
            Some(offline) => offline,
            none => none.insert(Offline::new(set)?),
        };
        let home = homes
            .entry(namespace)
            .or_insert_with(|| Home::of(facts, stage, open_list(world, namespace)));
        for place in &places {
            let pod = place.pod(namespace, &subject.name);
            let [mut refused, mut reported] = home.judge(offline, maker, place, &pod);
            if !is_too_large(&pod) {
                // Of one that cannot be judged that is said already.
                for (finding, is_refused) in environment.against(offline, &pod, &home.object).unwrap_or_default() {
                    let subject = subject.clone();
                    let finding = Finding { subject, ..finding }.at(document.locate(place.path()));
                    if is_refused { &mut refused } else { &mut reported }.push(finding);
                }
            }
            let reported: Vec<Finding> = reported.into_iter().filter(&told).collect();
            judged.findings.extend(refused.into_iter().filter(&told));
            judged.findings.extend(reported.iter().cloned());
            judged.reported.extend(reported);
        }
    }
    judged.notes.extend(unseen.iter().map(|(namespace, number)| {
        format!(
            "pods of {} not judged, because the stage of namespace {namespace:?} is not known; add the Namespace to the \
             input, or name where it is with --with",
            out::count(*number, "document")
        )
    }));
    judged.notes.extend(later.iter().map(|(kind, number)| {
        let many = out::count(*number, "document");
        format!(
            "{many} of kind {kind}: its controller writes some of the pods; their label is judged here, the rest when \
             they are made"
        )
    }));
    if !judged.reported.is_empty() {
        judged.notes.push(format!(
            "{} on pods that nothing is refused for: the namespace is not in mode Enforce, or the control is in mode Audit",
            out::count(judged.reported.len(), "finding")
        ));
    }
    Ok(judged)
}

/// Where pods are judged: a namespace once everything is applied.
pub(super) struct Home {
    object: Value,
    /// The workloads that exist, as its annotation spells them.
    open: String,
}

impl Home {
    /// The one of this name; `None` where its stage is not known, or it has none.
    pub(super) fn named(objects: &Objects, world: &World, name: &str) -> Option<Self> {
        let facts = known(objects, world, name)?;
        Some(Self::of(facts, facts.stage?, open_list(world, name)))
    }

    fn of(facts: &Namespace, stage: NamespaceStage, open: String) -> Self {
        let Namespace { name, uid, mode, .. } = facts;
        let mut labels = facts.labels.clone();
        labels.insert(names::NAMESPACE_NAME_LABEL.to_owned(), name.clone());
        labels.insert(names::MODE_LABEL.to_owned(), mode.label().to_owned());
        let object = json!({"metadata": {
            "name": name, "uid": uid, "labels": labels,
            "annotations": {names::SEALED_ANNOTATION: format!("{uid}/{stage}"), names::OPEN_ANNOTATION: open},
        }});
        Self { object, open }
    }

    /// What is refused (or could not be judged) of a pod that a document makes at a place, and what is only reported.
    pub(super) fn judge(&self, offline: &Offline, maker: &Maker, place: &Place<'_>, pod: &Value) -> [Vec<Finding>; 2] {
        let Maker { subject, document } = maker;
        let at = document.locate(place.path());
        let unjudged = |why: String| {
            let message = format!("{why}: whether the API server would refuse its pods is not judged here");
            let finding = Finding::new(WKL_01.rule("unjudged"), subject.clone(), message);
            [
                vec![finding.at(at.clone()).with_assurance(Assurance::Unknown)],
                Vec::new(),
            ]
        };
        if is_too_large(pod) {
            return unjudged(format!("a template has more than {MOST_VALUES} values"));
        }
        let verdict = match offline.judge_pod(pod, &self.object, &Request::default()) {
            Ok(verdict) => verdict,
            Err(error) => return unjudged(error.to_string()),
        };
        let placed = |finding: Finding| {
            let subject = subject.clone();
            let finding = Finding { subject, ..finding };
            if finding.rule == WKL_02.rule("unknown") {
                let fix = fix(&place.labels, &self.open);
                finding.at(document.locate(&place.labels)).with_fix(fix)
            } else {
                finding.at(at.clone())
            }
        };
        let written = |finding: &Finding| !place.is_label_alone() || finding.control() == WKL_02;
        let all = |findings: Vec<Finding>| findings.into_iter().filter(written).map(placed).collect::<Vec<_>>();
        let (problems, observed) = (all(verdict.problems), all(verdict.observed));
        if verdict.refused {
            [problems, observed]
        } else {
            [Vec::new(), [problems, observed].concat()]
        }
    }
}

/// A namespace whose stage is known: it is in the input, or was assumed to be of one.
fn known<'w>(objects: &Objects, world: &'w World, name: &str) -> Option<&'w Namespace> {
    let facts = world.namespaces.get(name)?;
    let read = objects.source("Namespace", "", name).is_some() && !facts.labels.contains_key(names::STAGE_LABEL);
    (facts.stage.is_some() || read).then_some(facts)
}

/// How a pod joins a workload that exists.
fn fix(labels: &str, open: &str) -> String {
    let names: Vec<&str> = open
        .split_whitespace()
        .filter_map(|entry| entry.split(':').next())
        .collect();
    let to = match names.as_slice() {
        [] => "the name of an AiWorkload".to_owned(),
        [one] => (*one).to_owned(),
        some if some.len() <= NAMED => format!("one of {}", some.join(", ")),
        many => format!("one of {} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    };
    format!("set {} to {to}, or create the AiWorkload", label_at(labels))
}
