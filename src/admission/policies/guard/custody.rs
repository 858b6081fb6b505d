//! Who writes what the agents write. Each agent runs in a pod on one control-plane node, and the API server writes the
//! pod's node into its token: an agent reports of its own node alone, and of the ring it changes what the ring's rules
//! and people's approvals let it change. What one write cannot show, that a key is what was minted, the agents see.

use super::super::{USER, collected_or_emptied};
use crate::admission::cel::{field, text};
use crate::admission::clause::{Clause, denied};
use crate::admission::objects::resources;
use crate::admission::operator::Operator;
use crate::api::names;
use crate::compliance::id::CLU_04;
use k8s_openapi::api::admissionregistration::v1::NamedRuleWithOperations;

/// The ring, in the plural.
pub(super) const RING: &str = "encryptionkeyrings";
/// The reports.
const REPORTS: &str = "controlplanereports";

/// What is matched.
pub(super) fn matched() -> [NamedRuleWithOperations; 2] {
    let on = |what: &[&str], operations: &[&str]| resources(names::GROUP, names::VERSION, what, operations);
    [
        on(&[REPORTS, RING], &["CREATE", "DELETE", "UPDATE"]),
        on(&["encryptionkeyrings/status"], &["UPDATE"]),
    ]
}

/// `custody`, what only a person who may break glass passes, and `approvals`, which nobody does.
pub(super) fn variables(operator: &Operator) -> Vec<(&'static str, String)> {
    let agent = format!("system:serviceaccount:{}:{}", operator.namespace, names::AGENT_ACCOUNT);
    let key = text(names::TOKEN_NODE);
    vec![
        (
            "status",
            "has(request.subResource) && request.subResource == 'status'".to_owned(),
        ),
        ("report", format!("request.resource.resource == '{REPORTS}'")),
        ("ring", format!("request.resource.resource == '{RING}'")),
        // The node of the agent that asks; nobody else has one here.
        (
            "node",
            format!(
                "{USER} == {} && has(request.userInfo.extra) && {key} in request.userInfo.extra && \
                 request.userInfo.extra[{key}].size() == 1 ? request.userInfo.extra[{key}][0] : ''",
                text(&agent)
            ),
        ),
        // A write that changes nothing is no tampering: stored objects are rewritten when versions change.
        (
            "kept",
            "(report || ring) && request.operation == 'UPDATE' && dyn(object).spec == dyn(oldObject).spec".to_owned(),
        ),
        (
            "approved",
            format!(
                "(oldObject == null ? [] : {})",
                field("dyn(oldObject)", "status.approvals", "[]")
            ),
        ),
        (
            "custody",
            denied(&[report(), deletion(), ring(), members(), recipients()]),
        ),
        ("approvals", denied(&[approval()])),
    ]
}

/// A report is of the agent on that node; the garbage collector takes it when the node goes.
fn report() -> Clause {
    Clause::always(
        CLU_04.rule("agent-object"),
        format!(
            "report && !kept && !(node != '' && !deletes && \
             subject.metadata.name == node) && !({})",
            collected_or_emptied()
        ),
        "'ControlPlaneReport \"' + subject.metadata.name + '\" is written by the agent on that node alone' + \
         (node == '' ? '' : '; this is the agent on ' + node)",
    )
}

/// Without the ring nobody reads the Secrets after the next restart: not even the agents delete it.
fn deletion() -> Clause {
    Clause::always(
        CLU_04.rule("agent-object"),
        "ring && deletes",
        "'without the EncryptionKeyRing the Secrets are lost'",
    )
}

/// The ring is written by agents on nodes that are in it; the first one makes it, empty of keys, and others join while
/// there is none.
fn ring() -> Clause {
    Clause::always(
        CLU_04.rule("agent-object"),
        "ring && !deletes && !kept && !status && !(node != '' && \
         (oldObject == null ? dyn(object).spec.lastID == 0 && dyn(object).spec.keys.size() == 0 : \
         dyn(oldObject).spec.lastID == 0 || dyn(oldObject).spec.members.exists(m, m.node == node)))",
        "'the EncryptionKeyRing is written by agents on nodes that are in it' + (node == '' ? '' : '; ' + \
         node + ' is not')",
    )
}

/// Who joins is the agent itself, before the first key; afterwards whom a person approved, under that identity.
fn members() -> Clause {
    let stranger = "!(oldObject != null && dyn(oldObject).spec.members.exists(o, o.node == m.node && o.recipient == \
                    m.recipient)) && !(m.node == node && (oldObject == null || dyn(oldObject).spec.lastID == 0)) \
                    && !approved.exists(a, a.node == m.node && a.recipient == m.recipient)";
    Clause::always(
        CLU_04.rule("agent-object"),
        format!("{} && dyn(object).spec.members.exists(m, {stranger})", changed()),
        format!(
            "'nobody approved this identity of ' + dyn(object).spec.members.filter(m, {stranger}).map(m, \
             string(m.node)).join(', ')"
        ),
    )
}

/// A key is sealed for members and for the escrow, and for nobody else.
fn recipients() -> Clause {
    let stranger = "k.wraps.exists(w, !(w.recipient in dyn(object).spec.escrow) && !dyn(object).spec.members.exists(m, \
                    m.recipient == w.recipient))";
    Clause::always(
        CLU_04.rule("agent-object"),
        format!("{} && dyn(object).spec.keys.exists(k, {stranger})", changed()),
        format!(
            "'sealed for somebody who is neither member nor escrow: ' + dyn(object).spec.keys.filter(k, {stranger}).map(k, \
             string(k.name)).join(', ')"
        ),
    )
}

/// The spec of the ring is written, and is another than before.
fn changed() -> &'static str {
    "ring && !deletes && !kept && !status"
}

/// An approval is a person's, and bears their name.
fn approval() -> Clause {
    let new = format!(
        "{}.exists(a, !(a in approved) && (a.by != {USER} || {USER}.startsWith('system:serviceaccount:') || \
         {USER}.startsWith('system:node:')))",
        field("dyn(object)", "status.approvals", "[]")
    );
    Clause::always(
        CLU_04.rule("approval"),
        format!("ring && status && {new}"),
        format!("'an approval of a node is a person\\'s and in their own name; this is ' + {USER}"),
    )
}
