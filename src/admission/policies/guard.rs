//! `cloison-guard`: what is the operator's whatever labels an object has. Status, our finalizers and quarantine of our
//! own kinds; and our own accounts: the operator may write NetworkPolicies of ours and no others, the sweeper may rewrite
//! Secrets and change nothing in them, so that a stolen token opens nothing. What the agents write is in `custody`, who asks
//! for a Waiver and who approves it in `waivers`.

mod custody;
mod waivers;

use super::managed::NAME_PREFIX;
use super::{USER, Written, collected_or_emptied, may, person_with_bypass};
use crate::admission::cel::{entries, field, text};
use crate::admission::clause::{Clause, denied};
use crate::admission::objects::{Draft, always, resources};
use crate::admission::operator::Operator;
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::compliance::id::{CLU_04, OPS_01};

/// The policy's name.
pub const NAME: &str = "cloison-guard";

/// What every finalizer of ours begins with.
const OUR_FINALIZERS: &str = "cloison.dev/";

pub(in crate::admission) fn write(spec: &AiSecurityPolicySpec, operator: &Operator, hash: &str) -> Written {
    let group = (names::GROUP, names::VERSION);
    let mut matched = vec![
        resources(group.0, group.1, &["aiworkloads"], &["CREATE", "DELETE", "UPDATE"]),
        resources(
            group.0,
            group.1,
            &["aisecuritypolicies", "secretencryptions"],
            &["CREATE", "UPDATE"],
        ),
        resources(
            group.0,
            group.1,
            &[
                "aisecuritypolicies/status",
                "aiworkloads/status",
                "secretencryptions/status",
            ],
            &["UPDATE"],
        ),
        resources(
            "networking.k8s.io",
            "v1",
            &["networkpolicies"],
            &["CREATE", "DELETE", "UPDATE"],
        ),
        resources("", "v1", &["secrets"], &["CREATE", "DELETE", "UPDATE"]),
    ];
    matched.extend(custody::matched());
    matched.extend(waivers::matched());
    let draft = Draft {
        name: NAME,
        resources: matched,
        conditions: vec![
            (
                "ours",
                format!(
                    "request.resource.resource != 'networkpolicies' || {USER} == {}",
                    text(&operator.user)
                ),
            ),
            (
                "sweeper",
                format!(
                    "request.resource.resource != 'secrets' || {USER} == {}",
                    text(&operator.sweeper())
                ),
            ),
        ],
        named: variables(spec, operator),
        passes: format!(
            "(never + approvals + waivers).size() == 0 && ((finalizers + custody).size() == 0 || {}) && (releases.size() == 0 \
             || {})",
            person_with_bypass(),
            may("release", "quarantines")
        ),
        problems: "(never + approvals + waivers + custody + finalizers + releases)".to_owned(),
        ..Draft::default()
    };
    draft.written(hash, always(NAME, hash))
}

fn variables(spec: &AiSecurityPolicySpec, operator: &Operator) -> Vec<(&'static str, String)> {
    let finalizers = |root: &str| {
        format!(
            "({root} == null ? [] : {}.filter(f, f.startsWith('{OUR_FINALIZERS}')))",
            field(&format!("dyn({root})"), "metadata.finalizers", "[]")
        )
    };
    let quarantine = |root: &str| entries(root, "metadata.annotations", names::QUARANTINE_ANNOTATION);
    let status = |root: &str| field(&format!("dyn({root})"), "status", "null");
    let mut first = vec![
        ("operator", format!("{USER} == {}", text(&operator.user))),
        ("deletes", "request.operation == 'DELETE'".to_owned()),
        ("subject", "dyn(deletes ? oldObject : object)".to_owned()),
    ];
    first.extend(custody::variables(operator));
    first.extend(waivers::variables(&spec.waivers));
    first.extend([
        ("policy", "request.resource.resource == 'networkpolicies'".to_owned()),
        ("secret", "request.resource.resource == 'secrets'".to_owned()),
        // On a deletion nothing of an object is changed but that it goes.
        ("ours", format!("deletes ? [] : {}", finalizers("object"))),
        (
            "oursWere",
            format!("deletes ? [] : {}", finalizers("oldObject")),
        ),
        (
            "quarantine",
            format!("deletes ? [] : {}", quarantine("object")),
        ),
        ("quarantineWas", quarantine("oldObject")),
        (
            "never",
            denied(&[
                Clause::always(
                    CLU_04.rule("status"),
                    format!(
                        "!operator && !ring && !waiver && status && {} != {}",
                        status("object"),
                        status("oldObject")
                    ),
                    "'the status of ' + request.resource.resource + ' is the operator\\'s'",
                ),
                Clause::always(
                    CLU_04.rule("managed-object"),
                    foreign_policy(),
                    "'networkpolicies \"' + subject.metadata.name + '\" is not the operator\\'s to write'",
                ),
                Clause::always(
                    CLU_04.rule("rewrite"),
                    format!("secret && !({})", rewritten()),
                    "'secrets \"' + subject.metadata.name + '\" would be changed'",
                ),
            ]),
        ),
        (
            "finalizers",
            denied(&[Clause::always(
                CLU_04.rule("finalizer"),
                "!operator && !policy && !secret && ours != oursWere",
                "'the finalizers of ' + request.resource.resource + ' that begin with cloison.dev/ are the operator\\'s'",
            )]),
        ),
        (
            "releases",
            denied(&[Clause::always(
                OPS_01.rule("release"),
                format!(
                    "!policy && !secret && quarantineWas.size() > 0 && quarantine != \
                     quarantineWas && !({})",
                    collected_or_emptied()
                ),
                "'AiWorkload \"' + subject.metadata.name + '\" is in quarantine'",
            )]),
        ),
    ]);
    first
}

/// A NetworkPolicy that our own account writes and that is not one of ours: by name, and by our label or a field that we
/// own. Without the latter nobody could put back a label that was stripped (`network::drift` knows ours the same way).
fn foreign_policy() -> String {
    let label = |root: &str| {
        format!(
            "{} == ['{}']",
            entries(root, "metadata.labels", names::MANAGED_BY_LABEL),
            names::CLOISON
        )
    };
    format!(
        "policy && !(subject.metadata.name.startsWith('{NAME_PREFIX}') && (deletes || \
         {}) && (request.operation == 'CREATE' || {} || \
         dyn(oldObject).metadata.?managedFields.orValue([]).exists(f, f.?manager.orValue('') == '{}')))",
        label("object"),
        label("oldObject"),
        names::FIELD_MANAGER
    )
}

/// A Secret that is written again as it was: its content, labels, annotations, finalizers and owners.
fn rewritten() -> String {
    let same = [
        "data",
        "type",
        "immutable",
        "metadata.labels",
        "metadata.annotations",
        "metadata.finalizers",
        "metadata.ownerReferences",
    ]
    .map(|path| {
        let (new, old) = (field("new", path, "null"), field("old", path, "null"));
        format!("{new} == {old}")
    });
    format!(
        "request.operation == 'UPDATE' && [dyn(object)].all(new, [dyn(oldObject)].all(old, {}))",
        same.join(" && ")
    )
}
