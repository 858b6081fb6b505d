//! `cloison-managed`: nobody tampers with what the operator wrote. Six clauses let a request through; everything else
//! that changes one of our objects is refused.

use super::{COLLECTORS, USER, Written, collected_or_emptied, person_with_bypass};
use crate::admission::cel::{entries, field, list, text};
use crate::admission::clause::{Clause, denied};
use crate::admission::objects::{Draft, always, requirement, resources};
use crate::admission::operator::Operator;
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::compliance::id::CLU_04;

/// The policy's name.
pub const NAME: &str = "cloison-managed";

/// Every object of ours is called so.
pub(super) const NAME_PREFIX: &str = "cloison-";

pub(in crate::admission) fn write(spec: &AiSecurityPolicySpec, operator: &Operator, hash: &str) -> Written {
    let operations = ["CREATE", "DELETE", "UPDATE"];
    let draft = Draft {
        name: NAME,
        // Old or new labels: stripping the label first does not help.
        objects: vec![requirement(names::MANAGED_BY_LABEL, "In", &[names::CLOISON])],
        resources: vec![
            resources("networking.k8s.io", "v1", &["networkpolicies"], &operations),
            resources(
                "admissionregistration.k8s.io",
                "v1",
                &["validatingwebhookconfigurations"],
                &operations,
            ),
        ],
        named: variables(spec, operator),
        passes: format!(
            "!touched || operator || collector || dataplane || certifier || {}",
            person_with_bypass()
        ),
        problems: "problems".to_owned(),
        ..Draft::default()
    };
    draft.written(hash, always(NAME, hash))
}

fn variables(spec: &AiSecurityPolicySpec, operator: &Operator) -> Vec<(&'static str, String)> {
    let unchanged = |path: &str| {
        let (new, old) = (field("new", path, "null"), field("old", path, "null"));
        format!("[dyn(object)].all(new, [dyn(oldObject)].all(old, {new} == {old}))")
    };
    let all_unchanged = |paths: &[&str]| {
        let each: Vec<String> = paths.iter().map(|path| unchanged(path)).collect();
        each.join(" && ")
    };
    let dataplane = list(spec.network.dataplane_controllers.iter().map(|name| name.0.as_str()));
    vec![
        ("updates", "request.operation == 'UPDATE'".to_owned()),
        (
            "subject",
            "dyn(request.operation == 'DELETE' ? oldObject : object)".to_owned(),
        ),
        // What an object is for: its content, its labels and its name.
        (
            "sameContent",
            format!("updates && {}", all_unchanged(&["spec", "webhooks", "metadata.labels"])),
        ),
        (
            "sameOwners",
            format!("updates && {}", unchanged("metadata.ownerReferences")),
        ),
        // A write that changes nothing is no tampering: migrations and rewrites of stored objects are such writes.
        (
            "touched",
            format!(
                "!(sameContent && sameOwners && {})",
                all_unchanged(&["metadata.annotations", "metadata.finalizers"])
            ),
        ),
        // operator: our own account, and it writes nothing that is not called cloison-*.
        (
            "operator",
            format!(
                "{USER} == {} && subject.metadata.name.startsWith('{NAME_PREFIX}')",
                text(&operator.user)
            ),
        ),
        // collector and emptier; the collector also clears the owners and the finalizer of what it is collecting.
        (
            "collector",
            format!(
                "({}) || (sameContent && {USER} in {})",
                collected_or_emptied(),
                list(COLLECTORS)
            ),
        ),
        // dataplane: a controller that marks a policy before it programs it (EKS adds a finalizer).
        (
            "dataplane",
            format!("sameContent && sameOwners && {USER} in {dataplane}"),
        ),
        // certifier: the webhook, which writes its authority into the configuration and changes nothing else of it.
        (
            "certifier",
            format!(
                "updates && sameOwners && {} && {USER} == {} && {}",
                all_unchanged(&["metadata.labels", "metadata.annotations", "metadata.finalizers"]),
                text(&operator.webhook()),
                same_but_bundles()
            ),
        ),
        ("problems", denied(&clauses())),
    ]
}

/// Every entry of the webhook configuration is as it was, but for the CA bundle.
fn same_but_bundles() -> String {
    let fields = [
        "rules",
        "failurePolicy",
        "matchPolicy",
        "matchConditions",
        "namespaceSelector",
        "objectSelector",
        "sideEffects",
        "timeoutSeconds",
        "admissionReviewVersions",
        "clientConfig.service",
        "clientConfig.url",
    ];
    let same = fields.map(|path| format!("{} == {}", field("w", path, "null"), field("o", path, "null")));
    let entries = |root: &str| field(&format!("dyn({root})"), "webhooks", "[]");
    format!(
        "{new}.size() == {old}.size() && {new}.all(w, {old}.exists(o, o.name == w.name && {}))",
        same.join(" && "),
        new = entries("object"),
        old = entries("oldObject"),
    )
}

fn clauses() -> Vec<Clause> {
    let new = entries("object", "metadata.labels", names::MANAGED_BY_LABEL);
    let old = entries("oldObject", "metadata.labels", names::MANAGED_BY_LABEL);
    let ours = format!("{old} == ['{}']", names::CLOISON);
    let webhook = "request.resource.resource == 'validatingwebhookconfigurations'";
    let what = |said: &str| {
        format!(
            "request.resource.resource + ' \"' + subject.metadata.name + {}",
            text(&format!("\" {said}"))
        )
    };
    let is_ours = || what("is the operator's");
    vec![
        Clause::always(
            CLU_04.rule("managed-label"),
            format!("!({ours}) && {new} == ['{}']", names::CLOISON),
            what("is not the operator's"),
        ),
        Clause::always(
            CLU_04.rule("managed-object"),
            format!("{ours} && !({webhook})"),
            is_ours(),
        ),
        Clause::always(CLU_04.rule("webhook"), format!("{ours} && {webhook}"), is_ours()),
    ]
}
