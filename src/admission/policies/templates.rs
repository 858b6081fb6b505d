//! `cloison-templates`: pod templates of the built-in kinds, so that whoever types `kubectl apply` hears what the pods will
//! meet. Their refusal would reach a controller alone, and people as an event of some other object.
//!
//! The expressions are those of `cloison-pod`, asked of a template as of a new pod. It warns and never denies, so it
//! proves nothing, has no canary, and errors let the request pass: a refusal for a warning's sake would be the worse harm.

use super::{Written, pod};
use crate::admission::cel::{entries, entry, list};
use crate::admission::clause::{Clause, denied, passes};
use crate::admission::modes::{Modes, STAGES};
use crate::admission::objects::{Draft, Warning, requirement, resources, told};
use crate::admission::operator::Operator;
use crate::admission::waived::{Waived, of_the_pod};
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::NamespaceStage;
use crate::compliance::RuleId;

/// Each Waiver stands beside every rule that it is about, in a validation of its own. An API server takes seconds over more
/// characters than these, and etcd none beyond 1.5 MB.
const WAIVERS: usize = 200_000;

/// The policy's name.
pub const NAME: &str = "cloison-templates";

pub(in crate::admission) fn write(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    waived: &Waived,
    modes: &Modes,
    hash: &str,
) -> Written {
    let of_template = |map: &str, key: &str| {
        let found = entries("template", map, key);
        format!("has(template.metadata) ? {found} : []")
    };
    let mut variables = vec![
        ("template", template("dyn(object)")),
        // A pod that is new, whatever is done to its template.
        ("creates", "true".to_owned()),
        ("stage", entry("namespaceObject.metadata.labels", names::STAGE_LABEL)),
        ("enforces", pod::enforces(spec.mode)),
        ("is", of_template("metadata.labels", names::WORKLOAD_LABEL)),
        ("was", "[''].filter(w, false)".to_owned()),
        ("spec", "template.spec".to_owned()),
        ("before", "dyn({})".to_owned()),
    ];
    variables.extend(pod::parts(spec, "template", "template"));
    let clauses = pod::clauses(spec, modes);
    let refusing: Vec<&Clause> = clauses.iter().filter(|clause| clause.refuses()).collect();
    let rules: Vec<&RuleId> = refusing.iter().map(|clause| clause.rule()).collect();
    let (waived, elsewhere) = waived.beside(&rules, WAIVERS);
    let mut warnings: Vec<Warning> = refusing
        .iter()
        .map(|clause| warning(clause, &waived.about(clause.rule())))
        .collect();
    if warnings.is_empty() {
        // A policy without a validation is refused, and to have one policy less would be another number of them.
        warnings.push(Warning::of_nothing());
    }
    let writes = ["CREATE", "UPDATE"];
    let draft = Draft {
        name: NAME,
        namespaces: vec![
            requirement(names::STAGE_LABEL, "In", &STAGES.map(NamespaceStage::as_str)),
            requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &operator.reserved_namespaces()),
        ],
        resources: vec![
            resources("", "v1", &["replicationcontrollers"], &writes),
            resources(
                "apps",
                "v1",
                &["daemonsets", "deployments", "replicasets", "statefulsets"],
                &writes,
            ),
            resources("batch", "v1", &["cronjobs", "jobs"], &writes),
        ],
        conditions: [
            // A ReplicaSet of a Deployment, a Job of a CronJob or a JobSet: a controller wrote it, and reads no warnings.
            (
                "not-a-controllers",
                "!(has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(o, \
                 has(o.controller) && o.controller))"
                    .to_owned(),
            ),
            // Scaling, pausing and statuses change no pod.
            (
                "another-template",
                format!(
                    "oldObject == null || {} != {}",
                    template("dyn(object)"),
                    template("dyn(oldObject)")
                ),
            ),
        ]
        .into_iter()
        // To keep silent is better than to warn of what a Waiver lets in.
        .chain((!elsewhere.is_empty()).then(|| {
            (
                "no-waiver-without-room",
                format!("!(request.namespace in {})", list(elsewhere)),
            )
        }))
        .collect(),
        named: variables,
        warnings,
        ..Draft::default()
    };
    draft.written(hash, told(NAME, spec.mode, hash))
}

/// One clause, asked by itself.
fn warning(clause: &Clause, waived: &Waived) -> Warning {
    let only = std::slice::from_ref(clause);
    let mut named = vec![("found", denied(only))];
    named.extend(waived.but_for(&[("found", "problems")], Some(&of_the_pod())));
    Warning {
        passes: if waived.is_empty() {
            passes(only)
        } else {
            "problems.size() == 0".to_owned()
        },
        problems: "problems".to_owned(),
        named,
    }
}

/// Where the template is: a CronJob has it in the template of its Jobs.
fn template(root: &str) -> String {
    format!("(has({root}.spec.jobTemplate) ? {root}.spec.jobTemplate.spec.template : {root}.spec.template)")
}
