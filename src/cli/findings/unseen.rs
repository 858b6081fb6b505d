//! What cannot be seen from here. It is told as unknown, never taken for fine.

use super::Case;
use crate::compliance::id::NET_03;
use crate::compliance::{Assurance, Finding, Subject};

/// Policies of namespaces and of kinds that nothing is known of, and pods that no policy holds.
pub(super) fn all(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = host_network(case);
    let Some(objects) = case.objects else { return findings };
    for ((namespace, name), found) in objects.network_policies.iter().filter(|(_, found)| found.own) {
        if !case.world.namespaces.contains_key(namespace) {
            let message = format!(
                "namespace {namespace:?} is not in the input: of what stage it is, and so what this policy opens, is not known"
            );
            let subject = Subject::namespaced("NetworkPolicy", namespace, name);
            findings.push(
                Finding::new(NET_03.rule("unseen"), subject, message)
                    .at(found.document.locate("metadata.namespace"))
                    .with_fix("add the Namespace to the input, or name where it is with --with"),
            );
        }
    }
    for found in objects.unmodelled.iter().filter(|found| found.own) {
        let metadata = found.document.root.get("metadata");
        let name = metadata.and_then(|metadata| metadata.text("name")).unwrap_or_default();
        let subject = Subject {
            kind: found.document.kind().1.to_owned(),
            namespace: found.object.namespace.clone(),
            name: name.to_owned(),
        };
        let message = format!(
            "{} is not modelled: what it opens or closes is not known",
            found.object.kind
        );
        findings.push(Finding::new(NET_03.rule("unmodelled"), subject, message).at(found.document.locate("kind")));
    }
    findings.into_iter().map(unknown).collect()
}

/// Pods of a stage on the network of their node.
fn host_network(case: &Case<'_>) -> Vec<Finding> {
    let staged = |namespace: &str| {
        let stage = case.world.stage_of(namespace);
        stage.is_some_and(|stage| stage.workload_stage().is_some())
    };
    let pods = case.pods.iter().filter(|seen| seen.own && seen.pod.host_network);
    let pods = pods.filter(|seen| staged(&seen.pod.namespace));
    let finding = |seen: &super::SeenPod| {
        let (kind, name) = &seen.pod.owner;
        let subject = Subject::namespaced(kind, &seen.pod.namespace, name);
        let message =
            "its pods are on the network of their node, which no NetworkPolicy isolates: what they reach is not known";
        let finding = Finding::new(NET_03.rule("unseen"), subject, message).with_fix("remove hostNetwork");
        match &seen.at {
            Some(at) => finding.at(at.clone()),
            None => finding,
        }
    };
    pods.map(finding).map(unknown).collect()
}

fn unknown(finding: Finding) -> Finding {
    finding.with_assurance(Assurance::Unknown)
}
