//! `cloison-connect`: what reaches into a pod past every NetworkPolicy, and what becomes one of its accounts. The API
//! server opens these streams itself, so no policy of the network sees them; a WebSocket's GET is CONNECT here as well.
//!
//! Not here: an eviction is a deletion, which joins no stages; who binds pods to nodes (`pods/binding`), or writes their
//! status, is for RBAC to say: no stock role of tenants may, and every custom scheduler has to. Reads (`pods/log`) are no
//! matter of admission. The controller manager asks for tokens in kube-system alone, which has no stage.

use super::{USER, Written, person_with_bypass};
use crate::admission::cel::{entries, entry, field, list, present, text};
use crate::admission::clause::{Clause, Found, denied, observed};
use crate::admission::modes::{Modes, STAGES};
use crate::admission::objects::{Draft, moded, requirement, resources};
use crate::admission::operator::Operator;
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::NamespaceStage;
use crate::compliance::id::{IAM_06, WKL_06};

/// The policy's name.
pub const NAME: &str = "cloison-connect";

/// A Secret that the token controller fills with a token for ever.
pub(in crate::admission) const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";
/// Whose token.
pub(in crate::admission) const TOKEN_ACCOUNT: &str = "kubernetes.io/service-account.name";

pub(in crate::admission) fn write(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    modes: &Modes,
    hash: &str,
) -> Written {
    let clauses = clauses(spec, modes);
    let mut named = about_the_request();
    named.push(("problems", denied(&clauses)));
    named.push(("observed", observed(&clauses)));
    let streams = [
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "pods/proxy",
        "services/proxy",
    ];
    let draft = Draft {
        name: NAME,
        namespaces: vec![
            requirement(names::STAGE_LABEL, "In", &STAGES.map(NamespaceStage::as_str)),
            requirement(names::NAMESPACE_NAME_LABEL, "NotIn", &operator.reserved_namespaces()),
        ],
        resources: vec![
            resources("", "v1", &streams, &["CONNECT"]),
            resources("", "v1", &["serviceaccounts/token"], &["CREATE"]),
            resources("", "v1", &["pods/ephemeralcontainers"], &["UPDATE"]),
            resources("", "v1", &["secrets"], &["CREATE", "UPDATE"]),
        ],
        conditions: vec![
            (
                // For every pod, and again within the hour. The NodeRestriction plugin keeps them to pods on their node.
                "not-a-kubelets-token",
                format!(
                    "!(request.resource.resource == 'serviceaccounts' && {} && 'system:nodes' in request.userInfo.groups)",
                    present("request", "userInfo.groups")
                ),
            ),
            (
                "no-other-secret",
                format!(
                    "request.resource.resource != 'secrets' || {} == {}",
                    field("dyn(object)", "type", "''"),
                    text(TOKEN_SECRET)
                ),
            ),
        ],
        named,
        passes: format!("problems.size() == 0 || {}", person_with_bypass()),
        problems: "problems".to_owned(),
        observed: Some("observed".to_owned()),
        ..Draft::default()
    };
    draft.written(hash, moded(NAME, spec.mode, hash))
}

/// Whether it refuses anything in any stage.
pub(in crate::admission) fn refuses(spec: &AiSecurityPolicySpec, modes: &Modes) -> bool {
    clauses(spec, modes).iter().any(Clause::refuses)
}

fn about_the_request() -> Vec<(&'static str, String)> {
    vec![
        ("stage", entry("namespaceObject.metadata.labels", names::STAGE_LABEL)),
        (
            "path",
            "request.resource.resource + (has(request.subResource) ? '/' + request.subResource : '')".to_owned(),
        ),
        // A proxy's with its port and scheme: `p1:80`.
        ("target", field("request", "name", "''")),
    ]
}

fn clauses(spec: &AiSecurityPolicySpec, modes: &Modes) -> Vec<Clause> {
    let requesters = list(spec.pods.token_requesters.iter().flatten().map(|name| name.0.as_str()));
    let stream = |rule: &'static str, path: &str, what: &str| {
        Clause::new(
            WKL_06.rule(rule),
            modes,
            Found::When(
                format!("path == {}", text(path)),
                format!("{} + target + '\"'", text(&format!("{what} \""))),
            ),
        )
    };
    let debuggers = |root: &str| field(&format!("dyn({root})"), "spec.ephemeralContainers", "[]");
    let account = |root: &str| entries(&format!("dyn({root})"), "metadata.annotations", TOKEN_ACCOUNT);
    vec![
        stream("exec", "pods/exec", "a command in pod"),
        stream("attach", "pods/attach", "attaching to pod"),
        stream("port-forward", "pods/portforward", "a port of pod"),
        Clause::new(
            WKL_06.rule("debug"),
            modes,
            Found::When(
                // They are never taken away again, so more of them are new ones.
                format!(
                    "path == 'pods/ephemeralcontainers' && {}.size() > {}.size()",
                    debuggers("object"),
                    debuggers("oldObject")
                ),
                "'a debug container in pod \"' + target + '\"'".to_owned(),
            ),
        ),
        Clause::new(
            WKL_06.rule("proxy"),
            modes,
            Found::When(
                "path in ['pods/proxy', 'services/proxy']".to_owned(),
                "'the API server as a proxy to ' + request.resource.resource + ' \"' + target + '\"'".to_owned(),
            ),
        ),
        Clause::new(
            IAM_06.rule("token-request"),
            modes,
            Found::When(
                format!(
                    "path == 'serviceaccounts/token' && {USER} != 'system:serviceaccount:' + request.namespace + ':' + \
                     target && !({USER} in {requesters})"
                ),
                "'a token of ServiceAccount \"' + target + '\", asked for by somebody else'".to_owned(),
            ),
        ),
        Clause::new(
            IAM_06.rule("token-secret"),
            modes,
            Found::When(
                // The token controller fills an old one again when it is emptied, for whom it names then.
                format!(
                    "path == 'secrets' && (oldObject == null || {} != {})",
                    account("object"),
                    account("oldObject")
                ),
                "'Secret \"' + dyn(object).metadata.name + '\" would hold a token that never ends'".to_owned(),
            ),
        ),
    ]
}
