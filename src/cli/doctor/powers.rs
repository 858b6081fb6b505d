//! Rights that admission cannot guard against: the API server lets no policy judge writes of policies, and an account of a
//! tenant may be worn by whoever may make tokens in its namespace. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, Subject};
use kube::ResourceExt;

use crate::compliance::checks::rights::binding_name;

/// What was found; each line names subject and binding.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Powers {
    /// Who can change or delete the admission policies.
    pub over_policies: BTreeSet<String>,
    /// Accounts of stage namespaces that hold something elsewhere.
    pub beyond_stage: BTreeSet<String>,
}

/// Verbs that take a policy out of force.
const VERBS: [&str; 5] = ["*", "delete", "deletecollection", "patch", "update"];
/// What they are about.
const POLICIES: [&str; 3] = ["*", "validatingadmissionpolicies", "validatingadmissionpolicybindings"];

/// Searches. `operator` is our own namespace: the roles of our components are generated, and known.
pub(super) fn find(
    roles: &[ClusterRole],
    cluster_bindings: &[ClusterRoleBinding],
    bindings: &[RoleBinding],
    operator: &str,
    staged: &BTreeSet<&str>,
) -> Powers {
    let by_name: BTreeMap<String, &ClusterRole> = roles.iter().map(|role| (role.name_any(), role)).collect();
    let mut powers = Powers::default();
    for binding in cluster_bindings {
        let held = by_name
            .get(&binding.role_ref.name)
            .is_some_and(|role| role.rules.iter().flatten().any(over_policies));
        for subject in binding.subjects.iter().flatten() {
            let line = format!(
                "{} through {} ({})",
                called(subject),
                binding_name(None, &binding.name_any()),
                binding.role_ref.name
            );
            if held && !is_known(subject, operator) {
                powers.over_policies.insert(line.clone());
            }
            if home(subject).is_some_and(|home| staged.contains(home)) {
                powers.beyond_stage.insert(line);
            }
        }
    }
    for binding in bindings {
        let namespace = binding.namespace().unwrap_or_default();
        for subject in binding.subjects.iter().flatten() {
            if home(subject).is_some_and(|home| staged.contains(home) && home != namespace) {
                powers.beyond_stage.insert(format!(
                    "{} through {} ({})",
                    called(subject),
                    binding_name(Some(&namespace), &binding.name_any()),
                    binding.role_ref.name
                ));
            }
        }
    }
    powers
}

/// A rule that is limited to names of its own counts too: they may be ours.
fn over_policies(rule: &PolicyRule) -> bool {
    let any = |written: Option<&Vec<String>>, wanted: &[&str]| {
        written.into_iter().flatten().any(|it| wanted.contains(&it.as_str()))
    };
    any(rule.api_groups.as_ref(), &["*", "admissionregistration.k8s.io"])
        && any(rule.resources.as_ref(), &POLICIES)
        && any(Some(&rule.verbs), &VERBS)
}

/// The admins' own group and ourselves; the accounts of the control plane can do more than this anyway.
fn is_known(subject: &Subject, operator: &str) -> bool {
    match subject.kind.as_str() {
        "ServiceAccount" => [Some(operator), Some("kube-system")].contains(&subject.namespace.as_deref()),
        "Group" => subject.name == "system:masters",
        _ => subject.name.starts_with("system:kube-"),
    }
}

/// The namespace of an account.
fn home(subject: &Subject) -> Option<&str> {
    match subject.kind.as_str() {
        "ServiceAccount" => subject.namespace.as_deref(),
        "Group" => subject.name.strip_prefix("system:serviceaccounts:"),
        _ => subject
            .name
            .strip_prefix("system:serviceaccount:")
            .and_then(|name| name.split_once(':'))
            .map(|(home, _)| home),
    }
}

fn called(subject: &Subject) -> String {
    match &subject.namespace {
        Some(namespace) if subject.kind == "ServiceAccount" => format!("ServiceAccount {namespace}/{}", subject.name),
        _ => format!("{} {}", subject.kind, subject.name),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn role(name: &str, group: &str, resource: &str, verb: &str) -> ClusterRole {
        let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        serde_json::from_value(json!({"metadata": {"name": name}, "rules": [rule]})).unwrap()
    }

    fn account(namespace: &str) -> Value {
        json!({"kind": "ServiceAccount", "namespace": namespace, "name": "robot"})
    }

    fn cluster_binding(role: &str, subject: &Value) -> ClusterRoleBinding {
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
        serde_json::from_value(json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]})).unwrap()
    }

    #[test]
    fn who_may_take_a_policy_away_is_named() {
        let roles = [
            role("all", "*", "*", "*"),
            role(
                "some",
                "admissionregistration.k8s.io",
                "validatingadmissionpolicybindings",
                "patch",
            ),
            role("reads", "admissionregistration.k8s.io", "*", "get"),
            role("pods", "", "*", "*"),
        ];
        let found = |role: &str, subject: Value| {
            let binding = cluster_binding(role, &subject);
            find(&roles, &[binding], &[], "cloison-system", &BTreeSet::new()).over_policies
        };
        let line = |role: &str| {
            BTreeSet::from([format!(
                "ServiceAccount argocd/robot through ClusterRoleBinding b ({role})"
            )])
        };
        assert_eq!(found("all", account("argocd")), line("all"));
        assert_eq!(found("some", account("argocd")), line("some"));
        assert!(found("reads", account("argocd")).is_empty() && found("pods", account("argocd")).is_empty());
        assert!(found("gone", account("argocd")).is_empty());
        assert!(found("all", account("cloison-system")).is_empty(), "ourselves");
        assert!(found("all", json!({"kind": "Group", "name": "system:masters"})).is_empty());
        assert_eq!(found("all", json!({"kind": "User", "name": "carol"})).len(), 1);
    }

    #[test]
    fn an_account_of_a_stage_with_power_elsewhere_is_named() {
        let staged = BTreeSet::from(["train"]);
        let found = |cluster: &[ClusterRoleBinding], bindings: &[RoleBinding]| {
            find(&[], cluster, bindings, "cloison-system", &staged)
                .beyond_stage
                .len()
        };
        let binding = |namespace: &str, subject: &Value| -> RoleBinding {
            let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"});
            let metadata = json!({"name": "b", "namespace": namespace});
            serde_json::from_value(json!({"metadata": metadata, "roleRef": reference, "subjects": [subject]})).unwrap()
        };
        assert_eq!(found(&[cluster_binding("x", &account("train"))], &[]), 1);
        assert_eq!(found(&[cluster_binding("x", &account("other"))], &[]), 0);
        assert_eq!(found(&[], &[binding("other", &account("train"))]), 1);
        assert_eq!(found(&[], &[binding("train", &account("train"))]), 0, "at home");
        let group = json!({"kind": "Group", "name": "system:serviceaccounts:train"});
        let user = json!({"kind": "User", "name": "system:serviceaccount:train:robot"});
        assert_eq!(found(&[], &[binding("other", &group), binding("another", &user)]), 2);
    }
}
