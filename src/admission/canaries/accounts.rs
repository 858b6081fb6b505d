//! The canaries of rights: a Secret that would hold a token, and a RoleBinding to an account of another namespace.
//!
//! Streams and tokens cannot be tried themselves. CONNECT and TokenRequest know no dry-run: where no policy refuses, a
//! stream needs a running pod at its end, and a token is handed out. A Secret that is not stored is filled by nobody.

use serde_json::{Value, json};

use super::{Canary, CanaryRequest, canary, create};
use crate::admission::policies::{connect, rbac};
use crate::api::names;
use crate::compliance::RuleId;
use crate::compliance::id::{IAM_06, IAM_07};

fn secret(kind: &str) -> CanaryRequest {
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": "cloison-canary", "namespace": names::CANARY_NAMESPACE,
                     "annotations": {connect::TOKEN_ACCOUNT: "default"}},
    });
    create("v1", "secrets", body)
}

pub(super) fn connect_canary(on: impl Fn(&RuleId) -> bool) -> Option<Canary> {
    let rule = IAM_06.rule("token-secret");
    on(&rule).then(|| canary(connect::NAME, rule, secret(connect::TOKEN_SECRET), secret("Opaque")))
}

fn role_binding(subject: &Value) -> CanaryRequest {
    let group = "rbac.authorization.k8s.io";
    let body = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"name": "cloison-canary", "namespace": names::CANARY_NAMESPACE},
        // Its own: the API server asks first whether the one who binds holds what is bound.
        "roleRef": {"apiGroup": group, "kind": "Role", "name": names::CANARY_ROLE},
        "subjects": [subject],
    });
    create(&format!("{group}/v1"), "rolebindings", body)
}

pub(super) fn rbac_canary(on: impl Fn(&RuleId) -> bool) -> Option<Canary> {
    let account = |namespace: &str| json!({"kind": "ServiceAccount", "name": "default", "namespace": namespace});
    let everybody = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"});
    let candidates = [
        (IAM_07.rule("foreign-account"), account("default")),
        (IAM_07.rule("everyone"), everybody),
    ];
    let (rule, refused) = candidates.into_iter().find(|(rule, _)| on(rule))?;
    let positive = role_binding(&account(names::CANARY_NAMESPACE));
    Some(canary(rbac::NAME, rule, role_binding(&refused), positive))
}
