//! `cloison-rbac`: to whom a tenant may give rights in a namespace of a stage. With stock `admin` it could give `edit` to
//! an account of another stage, and the two would be one. One RoleBinding is judged alone: CEL cannot look up the stage of
//! another namespace, so an account of any other is foreign. Ours are not: the canary works in a stage.
//!
//! An update is judged by the subjects it adds. Deletions are nobody's harm and not matched.

use super::{Written, person_with_bypass};
use crate::admission::cel::{entry, field, list, text};
use crate::admission::clause::{Clause, Found, denied, observed};
use crate::admission::modes::{Modes, STAGES};
use crate::admission::objects::{Draft, moded, requirement, resources};
use crate::admission::operator::Operator;
use crate::admission::waived::Waived;
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::NamespaceStage;
use crate::compliance::id::IAM_07;

/// The policy's name.
pub const NAME: &str = "cloison-rbac";

/// Everybody, whoever that is.
const EVERYBODY: [&str; 3] = [
    "system:authenticated",
    "system:serviceaccounts",
    "system:unauthenticated",
];

pub(in crate::admission) fn write(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    waived: &Waived,
    modes: &Modes,
    hash: &str,
) -> Written {
    let clauses = clauses(modes);
    let mut named = variables(operator);
    named.push(("found", denied(&clauses)));
    named.extend(waived.but_for(&[("found", "problems")], None));
    named.push(("observed", observed(&clauses)));
    let draft = Draft {
        name: NAME,
        namespaces: vec![
            requirement(names::STAGE_LABEL, "In", &STAGES.map(NamespaceStage::as_str)),
            requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &operator.reserved_namespaces()),
        ],
        resources: vec![resources(
            "rbac.authorization.k8s.io",
            "v1",
            &["rolebindings"],
            &["CREATE", "UPDATE"],
        )],
        named,
        passes: format!("problems.size() == 0 || {}", person_with_bypass()),
        problems: "problems".to_owned(),
        observed: Some("observed".to_owned()),
        ..Draft::default()
    };
    draft.written(hash, moded(NAME, spec.mode, hash))
}

/// Whether it refuses anything in any stage.
pub(in crate::admission) fn refuses(modes: &Modes) -> bool {
    clauses(modes).iter().any(Clause::refuses)
}

fn variables(operator: &Operator) -> Vec<(&'static str, String)> {
    // What is suspicious is looked for first: two lists of thousands are never compared.
    let added = |test: &str| format!("subjects.filter(s, ({test}) && !(s in former))");
    let ours = &operator.namespace;
    vec![
        ("stage", entry("namespaceObject.metadata.labels", names::STAGE_LABEL)),
        ("subjects", field("dyn(object)", "subjects", "[]")),
        (
            "former",
            format!("oldObject == null ? [] : {}", field("dyn(oldObject)", "subjects", "[]")),
        ),
        // Without a namespace it is one of here. An account is also a user, by another spelling.
        ("homes", format!("['', request.namespace, {}]", text(ours))),
        (
            "prefix",
            "'system:serviceaccount:' + request.namespace + ':'".to_owned(),
        ),
        (
            "foreign",
            added(&format!(
                "s.kind == 'ServiceAccount' ? !({} in homes) : s.kind == 'User' && \
                 s.name.startsWith('system:serviceaccount:') && !s.name.startsWith(prefix) && !s.name.startsWith({})",
                field("s", "namespace", "''"),
                text(&format!("system:serviceaccount:{ours}:"))
            )),
        ),
        (
            "everybody",
            added(&format!(
                "s.kind == 'Group' ? s.name in {} || s.name.startsWith('system:serviceaccounts:') : s.kind == 'User' && \
                 s.name == 'system:anonymous'",
                list(EVERYBODY)
            )),
        ),
    ]
}

pub(super) fn clauses(modes: &Modes) -> Vec<Clause> {
    // The first by name, and how many more: a list of all could be longer than any message.
    let clause = |rule: &'static str, found: &str| {
        Clause::new(
            IAM_07.rule(rule),
            modes,
            Found::When(
                format!("{found}.size() > 0"),
                // Users and groups have no namespace.
                format!(
                    "'RoleBinding \"' + dyn(object).metadata.name + '\" names ' + {found}[0].kind + ' ' + \
                     (has({found}[0].namespace) ? {found}[0].namespace + '/' : '') + {found}[0].name + \
                     ({found}.size() > 1 ? ' and ' + string({found}.size() - 1) + ' more' : '')"
                ),
            ),
        )
    };
    vec![clause("foreign-account", "foreign"), clause("everyone", "everybody")]
}
