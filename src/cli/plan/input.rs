//! What is read to be judged: manifests, the policy to judge them by, and what is known beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::cli::findings::{SecretUses, SeenPod};
use crate::cli::manifests::{Manifests, Objects, Problem};
use crate::cli::snapshot::pods_of;
use crate::network::reach::concrete::{Blocks, Connectivity, Snapshot};

use super::offline::tell;

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
    /// What has to do with Secrets.
    pub secrets: SecretUses,
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
        let mut files = BTreeSet::new();
        let (mut objects, mut pods) = read(self.files, home, true, &mut secrets, &mut files);
        if !self.beside.is_empty() {
            let (beside, more) = read(self.beside, home, false, &mut secrets, &mut files);
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
        objects.problems.sort_by(|a, b| a.at.cmp(&b.at));
        Ok(Input {
            objects,
            pods,
            secrets,
            notes,
            files,
        })
    }
}

fn read(
    files: &[PathBuf],
    home: &str,
    own: bool,
    secrets: &mut SecretUses,
    seen: &mut BTreeSet<String>,
) -> (Objects, Vec<SeenPod>) {
    let manifests = Manifests::read(files);
    seen.extend(manifests.documents.iter().map(|document| document.file.to_string()));
    let (mut pods, mut problems) = (Vec::new(), Vec::new());
    for document in &manifests.documents {
        secrets.add(document, home, own);
        match pods_of(document, home) {
            Ok(found) => pods.extend(found.into_iter().map(|(_, pod)| SeenPod {
                pod,
                at: Some(document.locate("")),
                own,
            })),
            Err(problem) => problems.push(problem),
        }
    }
    let mut objects = Objects::of(manifests, home);
    objects.problems.extend(problems);
    (objects, pods)
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
