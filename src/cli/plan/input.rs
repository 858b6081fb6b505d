//! What is read to be judged: manifests, the policy to judge them by, and what is known beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

use crate::cli::CliError;
use crate::cli::findings::{SecretUses, SeenPod};
use crate::cli::manifests::{Document, Manifests, Objects, Problem};
use crate::cli::snapshot::{makes_pods, pods_of};
use crate::compliance::{Finding, Subject};
use crate::network::reach::concrete::{Blocks, Connectivity, Snapshot};

use super::offline::tell;
use super::settings;
use super::templates::Maker;

/// Where to read.
pub(in crate::cli) struct Sources<'a> {
    /// What is judged: files, folders, `-`.
    pub files: &'a [PathBuf],
    /// The namespace of objects that name none.
    pub home: Option<&'a str>,
    /// The AiSecurityPolicy to judge by, in place of the one in the manifests.
    pub policy: Option<&'a Path>,
    /// What is known beside it, and not judged itself.
    pub beside: &'a [PathBuf],
}

/// What was read.
pub(in crate::cli) struct Input {
    /// The kinds that verdicts depend on, and what could not be read.
    pub objects: Objects,
    /// The pods, and those that templates would make.
    pub pods: Vec<SeenPod>,
    /// What is judged and makes them.
    pub makers: Vec<Maker>,
    /// What has to do with Secrets.
    pub secrets: SecretUses,
    /// What the webhook would say to settings and let them pass.
    pub told: Vec<Finding>,
    /// What was set aside.
    pub notes: Vec<String>,
    /// The files that objects were read from, as they were named.
    pub files: BTreeSet<String>,
}

impl Sources<'_> {
    /// Reads it all. What cannot be read is a problem of [`Objects`], and the rest goes on.
    pub(in crate::cli) fn read(&self) -> Result<Input, CliError> {
        let home = self.home.unwrap_or("default");
        let mut secrets = SecretUses::default();
        let (mut files, mut makers) = (BTreeSet::new(), Vec::new());
        let (mut objects, mut pods) = read(self.files, home, Some(&mut makers), &mut secrets, &mut files);
        if !self.beside.is_empty() {
            let (beside, more) = read(self.beside, home, None, &mut secrets, &mut files);
            objects.complete(beside);
            pods.extend(more);
        }
        let mut notes = Vec::new();
        if let Some(path) = self.policy {
            let chosen = Objects::of(Manifests::read(&[path.to_owned()]), home);
            objects.problems.extend(chosen.problems);
            if chosen.policies.is_empty() {
                tell(&objects.problems);
                return Err(CliError::Usage(format!(
                    "{} holds no readable AiSecurityPolicy",
                    path.display()
                )));
            }
            if let Some(aside) = objects.policy() {
                notes.push(format!(
                    "AiSecurityPolicy at {} is set aside for --policy",
                    aside.document.locate("")
                ));
            }
            objects.policies = chosen.policies;
        }
        let unreadable = unreadable(&objects);
        objects.problems.extend(unreadable);
        let settings = settings::judge(&objects, Timestamp::now())?;
        objects.problems.extend(settings.refused);
        objects.problems.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(Input {
            objects,
            pods,
            makers,
            secrets,
            told: settings.told,
            notes,
            files,
        })
    }
}

/// Reads files. What is judged itself has a place for what makes its pods.
fn read(
    files: &[PathBuf],
    home: &str,
    mut makers: Option<&mut Vec<Maker>>,
    secrets: &mut SecretUses,
    seen: &mut BTreeSet<String>,
) -> (Objects, Vec<SeenPod>) {
    let own = makers.is_some();
    let manifests = Manifests::read(files);
    seen.extend(manifests.documents.iter().map(|document| document.file.to_string()));
    let (mut pods, mut problems) = (Vec::new(), Vec::new());
    for document in &manifests.documents {
        secrets.add(document, home, own);
        match pods_of(document, home) {
            Ok(found) => {
                pods.extend(found.into_iter().map(|(_, pod)| SeenPod {
                    pod,
                    at: Some(document.locate("")),
                    own,
                }));
                if let Some(makers) = makers.as_deref_mut().filter(|_| makes_pods(document)) {
                    makers.push(maker(document, home));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let mut objects = Objects::of(manifests, home);
    objects.problems.extend(problems);
    (objects, pods)
}

fn maker(document: &Document, home: &str) -> Maker {
    let metadata = document.root.get("metadata");
    let text = |key: &str| metadata.and_then(|metadata| metadata.text(key));
    let (namespace, name) = (text("namespace").unwrap_or(home), text("name").unwrap_or_default());
    Maker {
        subject: Subject::namespaced(document.kind().1, namespace, name),
        document: document.clone(),
    }
}

/// NetworkPolicies that the API server would refuse. One that is left out would make every verdict a false one.
fn unreadable(objects: &Objects) -> Vec<Problem> {
    let policies = objects.network_policies.values().map(|found| found.object.clone());
    let snapshot = Snapshot {
        policies: policies.collect(),
        ..Snapshot::default()
    };
    let refused = Connectivity::read(&snapshot, Blocks::External)
        .err()
        .unwrap_or_default();
    let problem = |policy: &crate::network::reach::concrete::Unreadable| {
        let (document, _) = objects.source("NetworkPolicy", &policy.namespace, &policy.name)?;
        Some(Problem {
            at: document.locate("spec"),
            message: policy.to_string(),
        })
    };
    refused.iter().filter_map(problem).collect()
}
