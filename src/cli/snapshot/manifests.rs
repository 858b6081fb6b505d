//! The snapshot of manifests.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod as CorePod, PodTemplateSpec};
use kube::ResourceExt;

use super::pods::{running, templated};
use super::{Around, Input, Seen};
use crate::cli::CliError;
use crate::cli::manifests::{Document, Manifests, Node, Objects, Problem};
use crate::cli::plan::{planned, world_of};
use crate::cli::why::GROUPS;
use crate::network::cluster_policy::KIND;
use crate::network::policies;
use crate::network::reach::concrete::Pod;

/// Kinds of groups that make pods that hold a template and make no pod.
const DORMANT: [&str; 4] = [
    "PodTemplate",
    "ControllerRevision",
    "TrainingRuntime",
    "ClusterTrainingRuntime",
];

pub(super) fn read(input: &Input) -> Result<(Seen, Around), CliError> {
    let home = input.namespace.as_deref().unwrap_or("default");
    let manifests = Manifests::read(&input.files);
    let mut seen = Seen::default();
    let mut problems = Vec::new();
    for document in &manifests.documents {
        match pods_of(document, home) {
            Ok(found) => found.into_iter().for_each(|(name, pod)| seen.add(&name, pod)),
            Err(problem) => problems.push(problem),
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
    let (world, assumed) = world_of(&objects)?;
    let unmodelled = objects.unmodelled.into_iter().map(|found| found.object).collect();
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
    // Also in modes in which nothing is written yet, and in namespaces that are only assumed.
    let mut judged = policies::all(&world);
    let ours: BTreeSet<_> = judged
        .iter()
        .map(|policy| (policy.namespace(), policy.name_any()))
        .collect();
    let others = seen.snapshot.policies.iter();
    judged.extend(
        others
            .filter(|policy| !ours.contains(&(policy.namespace(), policy.name_any())))
            .cloned(),
    );
    let around = Around {
        world,
        policies: judged,
        unmodelled,
        assumed,
    };
    Ok((seen, around))
}

/// The pods of one document, itself or those of its templates, by the name they can be asked for.
pub(in crate::cli) fn pods_of(document: &Document, home: &str) -> Result<Vec<(String, Pod)>, Problem> {
    let (version, kind) = document.kind();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    if !makes_pods(document) {
        return Ok(Vec::new());
    }
    if (group, kind) == ("", "Pod") {
        let mut pod: CorePod = document.read()?;
        pod.metadata.namespace.get_or_insert_with(|| home.to_owned());
        let found = running(&pod).map(|found| (pod.name_any(), found));
        return Ok(found.into_iter().collect());
    }
    let metadata = document.root.get("metadata");
    let text = |key: &str| metadata.and_then(|metadata| metadata.text(key));
    let namespace = text("namespace").unwrap_or(home);
    let mut found = Vec::new();
    for (_, template) in templates(document) {
        let template: PodTemplateSpec = document.read_part(template)?;
        let name = text("name").unwrap_or_default();
        let pod = templated(namespace, (kind.to_owned(), name.to_owned()), &template);
        found.push((name.to_owned(), pod));
    }
    Ok(found)
}

/// Whether a document is a pod, or of a kind that makes pods.
pub(in crate::cli) fn makes_pods(document: &Document) -> bool {
    let (version, kind) = document.kind();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    (group.is_empty() || GROUPS.contains(&group)) && !DORMANT.contains(&kind)
}

/// Every template of a document that has containers, however deep, by its path: `template`, and keys such as
/// `submitterPodTemplate` and `workerTemplate`.
pub(in crate::cli) fn templates(document: &Document) -> Vec<(String, &Node)> {
    let mut found = Vec::new();
    if let Some(spec) = document.root.get("spec") {
        find(spec, "spec", &mut found);
    }
    found
}

fn find<'n>(node: &'n Node, path: &str, found: &mut Vec<(String, &'n Node)>) {
    for (step, child) in node.steps() {
        let path = format!("{path}{step}");
        let named = step == ".template" || step.ends_with("Template");
        let spec = child.get("spec").filter(|_| named);
        if spec.is_some_and(|spec| spec.items("containers").is_some()) {
            found.push((path, child));
        } else {
            find(child, &path, found);
        }
    }
}
