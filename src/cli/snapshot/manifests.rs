//! The snapshot of manifests.

use k8s_openapi::api::core::v1::{Pod as CorePod, PodTemplateSpec};
use kube::ResourceExt;

use super::pods::{running, templated};
use super::{Input, Seen};
use crate::cli::CliError;
use crate::cli::manifests::{Document, Manifests, Node, Objects, Problem};
use crate::cli::plan::planned;
use crate::cli::why::GROUPS;
use crate::network::cluster_policy::KIND;

/// Kinds of groups that make pods that hold a template and make no pod.
const DORMANT: [&str; 4] = [
    "PodTemplate",
    "ControllerRevision",
    "TrainingRuntime",
    "ClusterTrainingRuntime",
];

pub(super) fn read(input: &Input) -> Result<Seen, CliError> {
    let home = input.namespace.as_deref().unwrap_or("default");
    let manifests = Manifests::read(&input.files);
    let mut seen = Seen::default();
    let mut problems = Vec::new();
    for document in &manifests.documents {
        if let Err(problem) = pods(&mut seen, document, home) {
            problems.push(problem);
        }
    }
    let objects = Objects::of(manifests, home);
    problems.extend(objects.problems.iter().cloned());
    if !problems.is_empty() {
        problems.sort_by(|a, b| a.at.cmp(&b.at));
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        return Err(CliError::Usage(lines.join("\n")));
    }
    for found in objects.namespaces.values() {
        let labels = found.object.labels().clone();
        seen.snapshot.namespaces.insert(found.object.name_any(), labels);
    }
    let ours = planned(&objects)?;
    if !ours.is_empty() {
        seen.notes.push(format!(
            "{} NetworkPolicies that the operator would write for the AiWorkloads are part of the answer",
            ours.len()
        ));
    }
    for (key, found) in objects.network_policies {
        let replaced = ours
            .iter()
            .any(|policy| (policy.namespace().unwrap_or_default(), policy.name_any()) == key);
        if !replaced {
            seen.snapshot.policies.push(found.object);
            seen.documents.insert(key, found.document);
        }
    }
    seen.snapshot.policies.extend(ours);
    for (name, found) in objects.cluster_policies {
        seen.snapshot.cluster_policies.push(found.object);
        seen.documents
            .insert((String::new(), format!("{KIND} {name}")), found.document);
    }
    seen.note_what_is_not_seen();
    Ok(seen)
}

/// The pods of one document: itself, or those of its templates.
fn pods(seen: &mut Seen, document: &Document, home: &str) -> Result<(), Problem> {
    let (version, kind) = document.kind();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if !(group.is_empty() || GROUPS.contains(&group)) || DORMANT.contains(&kind) {
        return Ok(());
    }
    if (group, kind) == ("", "Pod") {
        let mut pod: CorePod = document.read()?;
        pod.metadata.namespace.get_or_insert_with(|| home.to_owned());
        if let Some(found) = running(&pod) {
            seen.add(&pod.name_any(), found);
        }
        return Ok(());
    }
    let metadata = document.root.get("metadata");
    let text = |key: &str| metadata.and_then(|metadata| metadata.text(key));
    let namespace = text("namespace").unwrap_or(home);
    let mut templates = Vec::new();
    if let Some(spec) = document.root.get("spec") {
        find(spec, &mut templates);
    }
    for template in templates {
        let template: PodTemplateSpec = document.read_part(template)?;
        let name = text("name").unwrap_or_default();
        let pod = templated(namespace, (kind.to_owned(), name.to_owned()), &template);
        seen.add(name, pod);
    }
    Ok(())
}

/// Every `template` that has containers, however deep.
fn find<'n>(node: &'n Node, found: &mut Vec<&'n Node>) {
    let template = node.get("template");
    let own = template.filter(|template| {
        template
            .get("spec")
            .is_some_and(|spec| spec.items("containers").is_some())
    });
    match own {
        Some(template) => found.push(template),
        None => node.children().for_each(|child| find(child, found)),
    }
}
