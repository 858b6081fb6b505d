//! Who asks for a Waiver and who approves it. GitOps writes the spec; a person approves through the status subresource, in
//! their own name as the API server knows it, and never their own. Nobody passes these rules by breaking glass: a Waiver
//! is the way round a control, so there is no way round it.

use super::super::USER;
use crate::admission::cel::{field, list, text};
use crate::admission::clause::{Clause, denied};
use crate::admission::objects::resources;
use crate::api::names;
use crate::api::policy::PolicyWaivers;
use crate::compliance::id::{CLU_04, OPS_02};
use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

/// What is matched. The spec of a Waiver is immutable by its schema.
pub(super) fn matched() -> [NamedRuleWithOperations; 2] {
    let on = |what: &str, operations: &[&str]| resources(names::GROUP, names::VERSION, &[what], operations);
    [on("waivers", &["CREATE", "UPDATE"]), on("waivers/status", &["UPDATE"])]
}

/// `waivers`, which nobody passes. In terms of `status` and `operator`.
pub(super) fn variables(limits: &PolicyWaivers) -> Vec<(&'static str, String)> {
    let appliers = limits.trusted_appliers.iter().flatten().map(|name| name.0.as_str());
    let approval = |root: &str| {
        format!(
            "(waiver && {root} != null && has({root}.status) && has({root}.status.approval) ? [{root}.status.approval] : [])"
        )
    };
    vec![
        ("waiver", "request.resource.resource == 'waivers'".to_owned()),
        ("trusted", format!("{USER} in {}", list(appliers))),
        ("asks", "waiver && request.operation == 'CREATE'".to_owned()),
        ("approval", approval("dyn(object)")),
        ("approvalWas", approval("dyn(oldObject)")),
        (
            "waivers",
            denied(&[
                requested_by(),
                approved_by(),
                too_long(limits.max_days),
                own_approval(),
                approval_edited(),
                told(),
            ]),
        ),
    ]
}

fn requested_by() -> Clause {
    Clause::always(
        OPS_02.rule("requested-by"),
        format!("asks && !trusted && dyn(object).spec.requestedBy != {USER}"),
        format!("'spec.requestedBy is \"' + dyn(object).spec.requestedBy + '\" and you are \"' + {USER} + '\"'"),
    )
}

fn approved_by() -> Clause {
    Clause::always(
        OPS_02.rule("approved-by"),
        "asks && !trusted && has(dyn(object).spec.approvedBy)",
        format!("'spec.approvedBy is the word of a trusted applier, and \"' + {USER} + '\" is none'"),
    )
}

/// By the API server's clock: it writes the time of creation itself.
fn too_long(max_days: i32) -> Clause {
    Clause::always(
        OPS_02.rule("too-long"),
        format!(
            "asks && timestamp(dyn(object).spec.expirationTime) - timestamp(dyn(object).metadata.creationTimestamp) > \
             duration('{}h')",
            24 * i64::from(max_days)
        ),
        format!("'it ends at ' + string(dyn(object).spec.expirationTime) + ', more than {max_days} days from now'"),
    )
}

/// In the name of whoever writes it, who is a person and not the one who asked, and of the object as it is.
fn own_approval() -> Clause {
    let program = format!("({USER}.startsWith('system:serviceaccount:') || {USER}.startsWith('system:node:'))");
    Clause::always(
        OPS_02.rule("own-approval"),
        format!(
            "approvalWas.size() == 0 && approval.exists(a, {program} || a.by != {USER} || \
             a.by == dyn(object).spec.requestedBy || a.generation != dyn(object).metadata.generation)"
        ),
        format!(
            "({program} ? '\"' + {USER} + '\" is no person' : approval.exists(a, a.by != {USER}) ? 'the approval is by \"' + \
             approval[0].by + '\" and you are \"' + {USER} + '\"' : approval.exists(a, \
             a.by == dyn(object).spec.requestedBy) ? 'you asked for it yourself' : 'the approval is of generation ' + \
             string(approval[0].generation) + ' and the Waiver of ' + string(dyn(object).metadata.generation))"
        ),
    )
}

fn approval_edited() -> Clause {
    Clause::always(
        OPS_02.rule("approval-edited"),
        "approvalWas.size() > 0 && approval != approvalWas",
        text("it is approved"),
    )
}

/// Whether it holds is for the operator to say.
fn told() -> Clause {
    let conditions = |root: &str| field(&format!("dyn({root})"), "status.conditions", "[]");
    Clause::always(
        CLU_04.rule("status"),
        format!(
            "waiver && status && !operator && {} != {}",
            conditions("object"),
            conditions("oldObject")
        ),
        text("the conditions of a Waiver are the operator's"),
    )
}
