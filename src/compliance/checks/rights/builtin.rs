//! The ClusterRoles that every cluster has and people bind, for input that does not hold them. `tests/secret_rights.rs` asks
//! a real API server whether they lead to the same.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{AggregationRule, ClusterRole, PolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::ObjectMeta;

use super::power::RBAC;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// API group, resources, verbs.
type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

/// What of `edit` leads on.
const EDIT: &[Rule] = &[
    ("", &["pods/attach", "pods/exec", "secrets"], READ),
    (
        "",
        &["pods", "pods/attach", "pods/exec", "replicationcontrollers", "secrets"],
        WRITE,
    ),
    ("", &["serviceaccounts"], &["impersonate"]),
    ("", &["serviceaccounts/token"], &["create"]),
    (
        "apps",
        &["daemonsets", "deployments", "replicasets", "statefulsets"],
        WRITE,
    ),
    ("batch", &["cronjobs", "jobs"], WRITE),
];
/// What `admin` has beside `edit`.
const ADMIN: &[Rule] = &[
    (RBAC, &["rolebindings", "roles"], READ),
    (RBAC, &["rolebindings", "roles"], WRITE),
];
const CLUSTER_ADMIN: &[Rule] = &[("*", &["*"], &["*"])];

/// `cluster-admin`, `admin`, `edit` and `view`, as far as they lead towards Secrets. Each but the first takes in what is
/// labelled for it, as on a cluster.
pub fn builtin_roles() -> Vec<ClusterRole> {
    vec![
        role("cluster-admin", CLUSTER_ADMIN, None, None),
        role("admin", ADMIN, Some("admin"), None),
        role("edit", EDIT, Some("edit"), Some("admin")),
        role("view", &[], Some("view"), Some("edit")),
    ]
}

fn role(name: &str, rules: &[Rule], takes_in: Option<&str>, is_in: Option<&str>) -> ClusterRole {
    let label = |of: &str| {
        let key = format!("{RBAC}/aggregate-to-{of}");
        BTreeMap::from([(key, "true".to_owned())])
    };
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let rules = rules.iter().map(|(group, resources, verbs)| PolicyRule {
        api_groups: Some(list(&[group])),
        resources: Some(list(resources)),
        verbs: list(verbs),
        ..PolicyRule::default()
    });
    ClusterRole {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: is_in.map(label),
            ..ObjectMeta::default()
        },
        rules: Some(rules.collect()),
        aggregation_rule: takes_in.map(|of| AggregationRule {
            cluster_role_selectors: Some(vec![LabelSelector {
                match_labels: Some(label(of)),
                ..LabelSelector::default()
            }]),
        }),
    }
}
