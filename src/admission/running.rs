//! Pods that are there already, judged as if each were created now: for the controller's scan and for `plan`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::policies;
use super::verdict::{Offline, OfflineError, Request, Verdict};
use crate::api::names;
use crate::api::stage::{Mode, NamespaceStage};
use crate::compliance::id::{Family, WKL_01};
use crate::compliance::{Assurance, Finding, RuleId, Subject};
use crate::network::world::World;

/// A namespace as if it were enforced, sealed and its workloads listed: what would be refused then is refused for what the pods
/// are. A workload that nobody declared is not taken for granted, `default` no more than another.
pub fn as_enforced(name: &str, uid: &str, stage: NamespaceStage, workloads: &BTreeSet<String>) -> Value {
    let open: Vec<&str> = workloads.iter().map(String::as_str).collect();
    json!({"metadata": {
        "name": name, "uid": uid,
        "labels": {
            names::NAMESPACE_NAME_LABEL: name,
            names::STAGE_LABEL: stage.as_str(), names::MODE_LABEL: Mode::Enforce.label(),
        },
        "annotations": {names::SEALED_ANNOTATION: format!("{uid}/{stage}"), names::OPEN_ANNOTATION: open.join(" ")},
    }})
}

impl Offline {
    /// Judges a pod that runs, in a namespace as [`as_enforced`] makes it.
    pub fn judge_running(&self, pod: &Value, namespace: &Value) -> Result<Verdict, OfflineError> {
        let mut unplaced = pod.clone();
        // The scheduler wrote it, and a pod that is created now would have none yet.
        if let Some(spec) = unplaced.get_mut("spec").and_then(Value::as_object_mut) {
            spec.shift_remove("nodeName");
        }
        self.judge_pod(&unplaced, namespace, &Request::default())
    }
}

/// Whether a pod still runs or will.
pub fn is_alive(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// What was found in running pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of the workload, and of no pod by name.
    pub finding: Finding,
    /// Whether it would be refused in mode enforce, or is only reported.
    pub refused: bool,
}

/// What was found in pods, by a hash of what of them was judged.
pub type Judged = HashMap<u64, Arc<[Told]>>;

/// The pods of one namespace, judged one after the other. Pods of one template are judged once, and of none anything is kept
/// but a hash and what was found in it.
#[derive(Debug)]
pub struct Scan {
    namespace: String,
    uid: String,
    stage: NamespaceStage,
    workloads: BTreeSet<String>,
    /// Of this process alone: nobody can write a pod whose hash is that of another.
    hasher: RandomState,
    before: Judged,
    now: Judged,
    found: BTreeMap<String, BTreeMap<RuleId, Told>>,
}

impl Scan {
    /// A scan of the pods of a namespace; `None` where the rules for pods are about none of them. `before` is what the last one
    /// has judged by the same policies, with the same `hasher`.
    pub fn of(world: &World, namespace: &str, hasher: RandomState, before: Judged) -> Option<Self> {
        let namespace = world.namespaces.get(namespace).filter(|it| !it.terminating)?;
        let stage = namespace.stage.filter(|stage| *stage != NamespaceStage::Shared)?;
        let workloads = world.workloads_in(&namespace.name).map(|it| it.key.name.clone());
        Some(Self {
            workloads: workloads.collect(),
            namespace: namespace.name.clone(),
            uid: namespace.uid.clone(),
            stage,
            hasher,
            before,
            now: Judged::default(),
            found: BTreeMap::new(),
        })
    }

    /// Judges a pod. One of a workload that does not exist is passed over.
    pub fn judge(&mut self, offline: &Offline, pod: &Value) {
        let workload = workload_of(pod);
        if !is_alive(pod) || !self.workloads.contains(workload) {
            return;
        }
        let text = judged_text(pod);
        let key = self.hasher.hash_one((&self.uid, self.stage.as_str(), &text));
        let known = self.now.get(&key).or_else(|| self.before.get(&key)).cloned();
        let judged = known.unwrap_or_else(|| self.judge_text(offline, workload, &text).into());
        for told in judged.iter() {
            let of_workload = self.found.entry(workload.to_owned()).or_default();
            let example = of_workload
                .entry(told.finding.rule.clone())
                .or_insert_with(|| told.clone());
            // One for each rule, and the same one in whatever order the pods come.
            if told.finding.message < example.finding.message {
                example.clone_from(told);
            }
        }
        self.now.insert(key, judged);
    }

    fn judge_text(&self, offline: &Offline, workload: &str, text: &str) -> Vec<Told> {
        let own = BTreeSet::from([workload.to_owned()]);
        let enforced = as_enforced(&self.namespace, &self.uid, self.stage, &own);
        let subject = Subject::namespaced("AiWorkload", self.namespace.as_str(), workload);
        let pod: Value = serde_json::from_str(text).unwrap_or_default();
        let judged = if is_too_large(&pod) {
            Err(format!("it has more than {MOST_VALUES} values"))
        } else {
            let judged = offline.judge_running(&pod, &enforced);
            judged.map_err(|error| error.to_string())
        };
        match judged {
            Ok(verdict) => {
                let problems = verdict.problems.into_iter().map(|finding| (finding, true));
                let observed = verdict.observed.into_iter().map(|finding| (finding, false));
                let all = problems.chain(observed);
                // `compliance::checks` judges these from more than a pod, and tells them.
                let all = all.filter(|(finding, _)| !matches!(finding.control().family(), Family::Enc | Family::Iam));
                all.map(|(finding, refused)| {
                    let what = if refused {
                        " would be refused in mode enforce"
                    } else {
                        ""
                    };
                    let finding = Finding {
                        message: format!("a running pod{what}: {}", finding.message),
                        subject: subject.clone(),
                        ..finding
                    };
                    Told { finding, refused }
                })
                .collect()
            }
            Err(why) => {
                let message = format!("whether a running pod would be refused is not known: {why}");
                let finding = Finding::new(WKL_01.rule("unjudged"), subject, message);
                vec![Told {
                    finding: finding.with_assurance(Assurance::Unknown),
                    refused: false,
                }]
            }
        }
    }

    /// What the next scan may know when this one did not come to its end.
    pub fn given_up(mut self) -> Judged {
        self.before.extend(self.now);
        self.before
    }

    /// What was found, by workload, once for each rule; and what the next scan may know.
    pub fn ended(self) -> (BTreeMap<String, Vec<Told>>, Judged) {
        let found = self.found.into_iter();
        let found = found.map(|(workload, by_rule)| (workload, by_rule.into_values().collect()));
        (found.collect(), self.now)
    }
}

/// The workload that a pod joins, by the rule of the label.
pub fn workload_of(pod: &Value) -> &str {
    let labels = pod.pointer("/metadata/labels");
    let label = labels.and_then(|labels| labels.get(names::WORKLOAD_LABEL)?.as_str());
    label.unwrap_or(names::DEFAULT_WORKLOAD)
}

/// What of a pod is judged: the same for all pods of one template. No rule asks for its name, its other labels and annotations,
/// or its place.
fn judged_text(pod: &Value) -> String {
    let only = |list: &str, kept: fn(&str) -> bool| {
        let all = pod.pointer(list).and_then(Value::as_object);
        let entries = all.into_iter().flatten().filter(|(key, _)| kept(key));
        entries
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Map<_, _>>()
    };
    let text = json!({
        "metadata": {
            "labels": only("/metadata/labels", |key| key == names::WORKLOAD_LABEL),
            "annotations": only("/metadata/annotations", policies::pod::reads_annotation),
        },
        "spec": only("/spec", |key| !matches!(key, "nodeName" | "hostname")),
    })
    .to_string();
    // The volume of the token is named anew for each pod; a pod has one.
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let mut named = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.get("name")?.as_str());
    match named.find(|name| name.starts_with(TOKEN_VOLUME)) {
        Some(name) => text.replace(
            &format!("\"name\":{}", json!(name)),
            &format!("\"name\":{}", json!(TOKEN_VOLUME)),
        ),
        None => text,
    }
}

/// How the API server begins the name of the volume that it adds for a token.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// The most values in a pod, or a template of one, that are judged offline: the evaluator copies a list for each of its items.
pub const MOST_VALUES: usize = 10_000;

/// Whether a pod has more values.
pub fn is_too_large(pod: &Value) -> bool {
    size(pod) > MOST_VALUES
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(map) => map.values().map(size).sum::<usize>() + 1,
        _ => 1,
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
