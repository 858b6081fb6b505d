//! `cloison-pod`: pods of the stages training, evaluation and inference.
//!
//! A new pod is judged whole. An update is judged by what it changes, so that an old pod that breaks a rule can still be
//! finished, relabelled and deleted.

mod credentials;
mod devices;
pub(in crate::admission) mod images;
mod membership;
mod networks;
mod security;

use super::Written;
use crate::admission::cel::{bound, entries, entry, list, text};
use crate::admission::clause::{Clause, denied, observed, passes};
use crate::admission::modes::{Modes, STAGES};
use crate::admission::objects::{Draft, moded, requirement, resources};
use crate::admission::operator::Operator;
use crate::admission::waived::{Waived, of_the_pod};
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::{Mode, NamespaceStage};

/// The policy's name.
pub const NAME: &str = "cloison-pod";

pub(in crate::admission) fn write(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    waived: &Waived,
    modes: &Modes,
    hash: &str,
) -> Written {
    let mut variables = about_the_request(spec.mode);
    variables.extend(about_the_pod(spec, waived, modes));
    let stages = STAGES.map(NamespaceStage::as_str);
    let draft = Draft {
        name: NAME,
        namespaces: vec![
            requirement(names::STAGE_LABEL, "In", &stages),
            // The API server writes this label itself, so nobody can take a namespace out, or put one in.
            requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &operator.reserved_namespaces()),
        ],
        resources: vec![
            resources("", "v1", &["pods"], &["CREATE", "UPDATE"]),
            // A status update can carry labels, and `kubectl debug` adds containers through its own subresource.
            resources("", "v1", &["pods/ephemeralcontainers", "pods/status"], &["UPDATE"]),
        ],
        conditions: vec![(
            // Kubelets write statuses all day; the NodeRestriction plugin keeps them from labels.
            "not-a-kubelet-status",
            "!(has(request.subResource) && request.subResource == 'status' && has(request.userInfo.groups) && \
             'system:nodes' in request.userInfo.groups)"
                .to_owned(),
        )],
        named: variables,
        // With Waivers it takes the texts to know what they cover.
        passes: if waived.is_empty() {
            passes(&clauses(spec, modes))
        } else {
            "problems.size() == 0".to_owned()
        },
        problems: "problems".to_owned(),
        // No audit annotation, though `observed` has its text: it would be evaluated for every pod and cost the API server
        // another 0.3 ms. Whoever wants to tell it evaluates it offline.
        ..Draft::default()
    };
    draft.written(hash, moded(NAME, spec.mode, hash))
}

/// What is found in a pod, from `creates`, `stage`, `enforces`, `is`, `was`, `spec` and `before`.
fn about_the_pod(spec: &AiSecurityPolicySpec, waived: &Waived, modes: &Modes) -> Vec<(&'static str, String)> {
    let mut variables = parts(spec, "dyn(object)", "dyn(oldObject)");
    let clauses = clauses(spec, modes);
    variables.push(("found", denied(&clauses)));
    variables.extend(waived.but_for(&[("found", "problems")], Some(&of_the_pod())));
    variables.push(("observed", observed(&clauses)));
    variables
}

/// What the clauses ask of. `pod` is what has its metadata, `former` the same before an update.
pub(super) fn parts(spec: &AiSecurityPolicySpec, pod: &str, former: &str) -> Vec<(&'static str, String)> {
    let mut variables = membership::variables();
    variables.extend(security::variables(&spec.pods, pod, former));
    variables.extend(images::variables(&spec.pods));
    variables.extend(credentials::variables());
    variables.extend(networks::variables(&spec.network, pod, former));
    variables
}

pub(super) fn clauses(spec: &AiSecurityPolicySpec, modes: &Modes) -> Vec<Clause> {
    let mut clauses = membership::clauses(modes);
    clauses.extend(security::clauses(modes, &spec.pods));
    clauses.extend(images::clauses(modes, &spec.pods));
    clauses.extend(devices::clauses(modes));
    clauses.extend(networks::clauses(modes, &spec.network));
    clauses.extend(credentials::clauses(modes));
    clauses
}

/// The variable that takes accelerators.
pub(in crate::admission) const VISIBLE_DEVICES: &str = devices::VISIBLE;

/// Whether any of its rules reads an annotation of a pod.
pub(in crate::admission) fn reads_annotation(key: &str) -> bool {
    networks::reads(key) || key.starts_with(security::APPARMOR_ANNOTATION)
}

/// How many characters its expressions have without any Waiver.
pub(in crate::admission) fn size(spec: &AiSecurityPolicySpec, modes: &Modes) -> usize {
    let mut named = about_the_request(spec.mode);
    named.extend(about_the_pod(spec, &Waived::default(), modes));
    bound(&named, "problems").chars().count()
}

/// Whether it refuses anything in any stage.
pub(in crate::admission) fn refuses(spec: &AiSecurityPolicySpec, modes: &Modes) -> bool {
    clauses(spec, modes).iter().any(Clause::refuses)
}

/// What the clauses ask of the request and its namespace.
fn about_the_request(default: Mode) -> Vec<(&'static str, String)> {
    vec![
        ("creates", "request.operation == 'CREATE'".to_owned()),
        ("stage", entry("namespaceObject.metadata.labels", names::STAGE_LABEL)),
        ("enforces", enforces(default)),
        ("is", entries("object", "metadata.labels", names::WORKLOAD_LABEL)),
        ("was", entries("oldObject", "metadata.labels", names::WORKLOAD_LABEL)),
        // Of no declared type from here on: containers of three types stand in one list.
        ("spec", "dyn(object).spec".to_owned()),
        ("before", "oldObject == null ? {} : dyn(oldObject).spec".to_owned()),
    ]
}

/// Whether the mode of the namespace is Enforce, as the bindings read it: what is not a mode is the default.
pub(super) fn enforces(default: Mode) -> String {
    let mode = entry("namespaceObject.metadata.labels", names::MODE_LABEL);
    let known = list(Mode::ALL.map(Mode::label));
    format!(
        "({mode} in {known} ? {mode} : {}) == {}",
        text(default.label()),
        text(Mode::Enforce.label())
    )
}
