//! Where the label `cloison.dev/workload` of the pods of a kind is set: on their templates, or where the controller of
//! the kind copies it from.

use serde_json::{Map, Value, json};

use crate::api::names;
use crate::cli::manifests::{Document, Node};
use crate::cli::snapshot::templates;

type Places = &'static [(&'static str, &'static str)];
/// Kinds whose pods do not have the labels of a template: the path that is there for each such group of pods, and where
/// below it the labels are. KServe copies those of the InferenceService to every pod, Kubeflow those of the Notebook;
/// Trainer copies none of the TrainJob's.
const ELSEWHERE: [(&str, &str, Places); 4] = [
    ("serving.kserve.io", "InferenceService", &[("metadata", "labels")]),
    (
        "serving.kserve.io",
        "LLMInferenceService",
        &[
            ("spec", "labels"),
            ("spec.prefill", "labels"),
            ("spec.router.scheduler", "labels"),
        ],
    ),
    (
        "trainer.kubeflow.org",
        "TrainJob",
        &[(
            "spec.runtimePatches[].trainingRuntimeSpec.template.spec.replicatedJobs[]",
            "template.spec.template.metadata.labels",
        )],
    ),
    ("kubeflow.org", "Notebook", &[("metadata", "labels")]),
];
/// Where the submitter of a RayJob gets its labels. Without this template KubeRay writes one that has none of the user's.
const SUBMITTER: &str = "spec.submitterPodTemplate";

/// Pods that a document makes, all alike.
#[derive(Clone, Debug)]
pub(super) struct Place<'d> {
    /// The path of their labels.
    pub labels: String,
    /// The labels that are there.
    given: Option<&'d Node>,
    /// Their template and its path (empty: the document is a pod); `None` where only their label is written here.
    template: Option<(String, &'d Node)>,
}

impl Place<'_> {
    /// Whether only the label of these pods is written here.
    pub(super) const fn is_label_alone(&self) -> bool {
        self.template.is_none()
    }

    /// The path of what they are made from.
    pub(super) fn path(&self) -> &str {
        match &self.template {
            Some((path, _)) => path,
            None => &self.labels,
        }
    }

    /// A pod as it would be created, as far as it is written here.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Value {
        let written = |key: &str| {
            self.template
                .as_ref()
                .and_then(|(_, node)| node.get(key))
                .map(Node::json)
        };
        let mut metadata = match written("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        metadata.insert("namespace".to_owned(), json!(namespace));
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("labels".to_owned(), self.given.map(Node::json).unwrap_or_default());
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": written("spec").unwrap_or_else(|| json!({"containers": []})),
        })
    }
}

/// The pods that a document makes, in its order.
pub(super) fn places(document: &Document) -> Vec<Place<'_>> {
    let (version, kind) = document.kind();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let elsewhere = ELSEWHERE.iter().find(|(of, name, _)| (*of, *name) == (group, kind));
    let mut found: Vec<Place<'_>> = match elsewhere {
        _ if (version, kind) == ("v1", "Pod") => vec![place("metadata.labels", "", &document.root)],
        // Its pod is written out, but for the labels.
        Some((.., rows)) if kind == "Notebook" => templates(document)
            .into_iter()
            .flat_map(|template| rows.iter().map(move |row| (row, template.clone())))
            .map(|((from, labels), template)| Place {
                labels: format!("{from}.{labels}"),
                given: below(&document.root, &format!("{from}.{labels}")),
                template: Some(template),
            })
            .collect(),
        Some((.., rows)) => rows.iter().flat_map(|row| of_row(document, row)).collect(),
        None => templates(document)
            .into_iter()
            .map(|(path, node)| place(&format!("{path}.metadata.labels"), &path, node))
            .collect(),
    };
    if (group, kind) == ("ray.io", "RayJob") && lacks_submitter(document) {
        found.push(alone(format!("{SUBMITTER}.metadata.labels"), None));
    }
    found
}

/// What a label at a path is written as.
pub(super) fn label_at(labels: &str) -> String {
    format!("{labels}[\"{}\"]", names::WORKLOAD_LABEL)
}

fn place<'d>(labels: &str, path: &str, node: &'d Node) -> Place<'d> {
    Place {
        labels: labels.to_owned(),
        given: below(node, "metadata.labels"),
        template: Some((path.to_owned(), node)),
    }
}

const fn alone(labels: String, given: Option<&Node>) -> Place<'_> {
    Place {
        labels,
        given,
        template: None,
    }
}

/// Each item of a list that a path leads through is a place of its own; one that leads through none that is there is one
/// place all the same, unless it starts at something that is not written.
fn of_row<'d>(document: &'d Document, (from, labels): &(&str, &str)) -> Vec<Place<'d>> {
    let mut found = Vec::new();
    expand(&document.root, from, "", &mut found);
    if found.is_empty() && from.contains("[]") {
        return vec![alone(format!("{from}.{labels}"), None)];
    }
    let place = |(path, node): (String, &'d Node)| alone(format!("{path}.{labels}"), below(node, labels));
    found.into_iter().map(place).collect()
}

/// The nodes under a path with `[]` for every item.
fn expand<'d>(node: &'d Node, path: &str, walked: &str, found: &mut Vec<(String, &'d Node)>) {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (key, is_list) = step.strip_suffix("[]").map_or((step, false), |key| (key, true));
    let dot = if walked.is_empty() { "" } else { "." };
    let here = format!("{walked}{dot}{key}");
    let children: Vec<(String, &Node)> = if is_list {
        let items = node.items(key).unwrap_or_default().iter().enumerate();
        items.map(|(index, item)| (format!("{here}[{index}]"), item)).collect()
    } else {
        node.get(key).map(|child| (here, child)).into_iter().collect()
    };
    for (here, child) in children {
        if rest.is_empty() {
            found.push((here, child));
        } else {
            expand(child, rest, &here, found);
        }
    }
}

/// The node under a path of keys.
fn below<'d>(node: &'d Node, path: &str) -> Option<&'d Node> {
    path.split('.').try_fold(node, Node::get)
}

/// Whether KubeRay makes a submitter that this RayJob says nothing of. Only in `K8sJobMode`, the default, is it a pod.
fn lacks_submitter(document: &Document) -> bool {
    let spec = document.root.get("spec");
    let mode = spec.and_then(|spec| spec.text("submissionMode"));
    mode.is_none_or(|mode| mode == "K8sJobMode") && below(&document.root, SUBMITTER).is_none()
}

#[cfg(test)]
mod tests;
