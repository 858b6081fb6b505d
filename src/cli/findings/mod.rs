//! What there is to say against the policies and flows of manifests, or of a cluster: the verdicts of the controller, with
//! every path behind them and the place of every rule.

mod flows;
mod paths;
mod relays;
mod rights;
mod secrets;
mod unseen;

pub(super) use self::secrets::SecretUses;

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::manifests::Objects;
use crate::compliance::{Finding, Location, Subject};
use crate::network::reach::concrete::Pod;
use crate::network::reach::{UnmodelledPolicy, Witness};
use crate::network::world::World;

/// A pod, and where it was read from.
#[derive(Debug)]
pub(super) struct SeenPod {
    /// The pod.
    pub pod: Pod,
    /// The document that it, or its template, is in; `None` for one of a cluster.
    pub at: Option<Location>,
    /// Whether it is of what is judged, and not of what was read beside it.
    pub own: bool,
}

/// What is judged.
pub(super) struct Case<'c> {
    /// Namespaces, workloads, the organisation's policy.
    pub world: &'c World,
    /// The NetworkPolicies that are in force, or would be: those of others, and ours where enforce is on.
    pub stored: &'c [NetworkPolicy],
    /// Policies of other kinds.
    pub unmodelled: &'c [UnmodelledPolicy],
    /// The pods that are known.
    pub pods: &'c [SeenPod],
    /// Where it all was read from; `None` for a cluster, all of which is judged.
    pub objects: Option<&'c Objects>,
}

impl Case<'_> {
    /// Everything, in no order. Places are those of files, where there are any.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = paths::isolation(self);
        findings.extend(relays::all(self));
        findings.extend(flows::cut(self));
        findings.extend(unseen::all(self));
        findings
    }

    /// A forbidden path as a finding, at the first of its rules that a file holds.
    pub(super) fn path(&self, witness: &Witness) -> Finding {
        paths::path(self, witness)
    }

    /// Whether an object is of what is judged. One that no file holds is.
    pub(super) fn is_own(&self, subject: &Subject) -> bool {
        let Some(objects) = self.objects else { return true };
        let namespace = subject.namespace.as_deref().unwrap_or_default();
        let source = objects.source(&subject.kind, namespace, &subject.name);
        source.is_none_or(|(_, own)| own)
    }

    /// The same finding with the file and line of its subject, where it was read from one and nobody knew better.
    pub(super) fn locate(&self, finding: Finding) -> Finding {
        if finding.at.as_ref().is_some_and(|at| at.file.is_some()) {
            return finding;
        }
        let Subject { kind, namespace, name } = &finding.subject;
        let namespace = namespace.as_deref().unwrap_or_default();
        let source = self.objects.and_then(|objects| objects.source(kind, namespace, name));
        let Some((document, _)) = source else { return finding };
        let field = finding.at.as_ref().and_then(|at| at.field.clone()).unwrap_or_default();
        finding.at(document.locate(&field))
    }

    /// A field of a policy as `namespace/name file:line:column field`.
    fn place(&self, policy: &str, field: &str) -> String {
        format!("{policy} {}", self.locate_policy(policy, field))
    }

    fn locate_policy(&self, policy: &str, field: &str) -> Location {
        let (namespace, name) = policy.split_once('/').unwrap_or(("", policy));
        let source = self
            .objects
            .and_then(|objects| objects.source("NetworkPolicy", namespace, name));
        source.map_or_else(|| Location::field(field), |(document, _)| document.locate(field))
    }
}

/// Whether a finding is told and counts for nothing: the policy only wants to hear of it.
pub(super) fn is_report(finding: &Finding, world: &World) -> bool {
    relays::is_report(finding, world) || secrets::is_report(finding, world)
}

/// A policy by `namespace/name`.
fn subject(policy: &str) -> Subject {
    let (namespace, name) = policy.split_once('/').unwrap_or(("", policy));
    Subject::namespaced("NetworkPolicy", namespace, name)
}
