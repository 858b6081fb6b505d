use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde_json::{Value, json};

use super::{Chain, Rights};
use crate::api::stage::NamespaceStage;
use crate::compliance::finding::Assurance;

mod brute;

/// Roles and bindings, as they are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub roles: Vec<Role>,
    pub cluster_roles: Vec<ClusterRole>,
    pub bindings: Vec<RoleBinding>,
    pub cluster_bindings: Vec<ClusterRoleBinding>,
}

impl Objects {
    pub fn rights(&self) -> Rights {
        Rights::new(&self.roles, &self.cluster_roles, &self.bindings, &self.cluster_bindings)
    }

    /// Adds `VERBS RESOURCES[/SUB][.GROUP] [NAMES]` as a role in `namespace`, or everywhere, for a subject.
    fn grant(mut self, namespace: &str, rule: &str, subject: Value) -> Self {
        let name = format!("r{}", self.roles.len() + self.cluster_roles.len());
        let rules = json!([self::rule(rule)]);
        let of_cluster = namespace.is_empty();
        let role = json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules});
        let kind = if of_cluster { "ClusterRole" } else { "Role" };
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let binding =
            json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": reference, "subjects": [subject]});
        if of_cluster {
            self.cluster_roles.push(read(role));
            self.cluster_bindings.push(read(binding));
        } else {
            self.roles.push(read(role));
            self.bindings.push(read(binding));
        }
        self
    }

    fn chain(&self, account: &str) -> Option<Chain> {
        let (namespace, name) = account.split_once('/').unwrap();
        self.rights()
            .chain(namespace, name, &BTreeSet::from(["infer", "infer-b"]))
            .unwrap()
    }

    fn steps(&self, account: &str) -> Option<usize> {
        self.chain(account).map(|chain| chain.links.len())
    }
}

pub(super) fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// `get,list secrets` or `create deployments.apps` or `get secrets a,b`.
pub(super) fn rule(text: &str) -> Value {
    let mut words = text.split(' ');
    let mut list = |otherwise| -> Vec<String> {
        words
            .next()
            .unwrap_or(otherwise)
            .split(',')
            .map(str::to_owned)
            .collect()
    };
    let (verbs, resources, names) = (list(""), list(""), list(""));
    let names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let split = |resource: &String| match resource.split_once('.') {
        Some((resource, "rbac")) => (resource.to_owned(), "rbac.authorization.k8s.io".to_owned()),
        Some((resource, group)) => (resource.to_owned(), group.to_owned()),
        None if resource == "*" => ("*".to_owned(), "*".to_owned()),
        None => (resource.clone(), String::new()),
    };
    let (resources, groups): (Vec<String>, Vec<String>) = resources.iter().map(split).unzip();
    json!({"verbs": verbs, "resources": resources, "apiGroups": groups, "resourceNames": names})
}

pub(super) fn account(text: &str) -> Value {
    let (namespace, name) = text.split_once('/').unwrap();
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

pub(super) fn group(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

pub(super) fn user(name: &str) -> Value {
    json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn granted(rule: &str) -> Option<usize> {
    Objects::default()
        .grant("infer", rule, account("train/a"))
        .steps("train/a")
}

#[test]
fn each_right_that_opens_a_secret_is_a_path_and_its_neighbour_is_none() {
    for (opens, harmless) in [
        ("get secrets", "update secrets"),
        ("list secrets", "get configmaps"),
        ("watch secrets", "get secrets.example.com"),
        ("get secrets one", "create secrets"),
        // What these answer holds the data.
        ("patch secrets", "patch configmaps"),
        ("delete secrets one", "delete configmaps"),
        ("deletecollection secrets", "deletecollection pods"),
        ("create pods", "get pods"),
        ("patch deployments.apps", "patch deployments/scale.apps"),
        ("create jobs.batch", "patch jobs.batch"),
        ("update cronjobs.batch", "delete cronjobs.batch"),
        ("create rayclusters.ray.io", "get rayclusters.ray.io"),
        ("patch pods/ephemeralcontainers", "patch pods/status"),
        ("patch pods", "delete pods"),
        ("update pods one", "update pods/resize"),
        ("create pods/exec", "create pods/portforward"),
        ("get pods/attach", "get pods/log"),
        ("create */exec", "create */log"),
        ("create serviceaccounts/token", "create serviceaccounts"),
        ("* secrets", "* services"),
        ("get *", "update services"),
    ] {
        assert_eq!(granted(opens), Some(1), "{opens}");
        assert_eq!(granted(harmless), None, "{harmless}");
    }
}

#[test]
fn a_rule_is_kept_where_it_leads_on() {
    let kept = |text: &str| super::leads_on(&read(rule(text)));
    for leads in [
        "get secrets one",
        "bind clusterroles.rbac",
        "impersonate groups",
        "* *",
        "create */exec",
    ] {
        assert!(kept(leads), "{leads}");
    }
    for harmless in [
        "get pods",
        "update services",
        "get configmaps",
        "watch secrets.example.com",
    ] {
        assert!(!kept(harmless), "{harmless}");
    }
}

#[test]
fn a_right_elsewhere_opens_nothing_by_itself() {
    let here = Objects::default().grant("train", "* *", account("train/a"));
    assert_eq!(here.steps("train/a"), None);
    let kubelet = |namespace| Objects::default().grant(namespace, "get nodes/proxy", account("train/a"));
    assert_eq!(kubelet("infer").steps("train/a"), None, "a node is in no namespace");
    assert_eq!(kubelet("").steps("train/a"), Some(1));
}

#[test]
fn groups_and_users_name_accounts_too() {
    for (subject, reaches) in [
        (group("system:authenticated"), true),
        (group("system:serviceaccounts"), true),
        (group("system:serviceaccounts:train"), true),
        (group("system:serviceaccounts:infer"), false),
        (group("system:unauthenticated"), false),
        (user("system:serviceaccount:train:default"), true),
        (user("system:serviceaccount:train:other"), false),
        (account("train/default"), true),
        (account("infer/default"), false),
    ] {
        let objects = Objects::default().grant("", "list secrets", subject.clone());
        assert_eq!(objects.steps("train/default").is_some(), reaches, "{subject}");
    }
}

#[test]
fn a_cluster_role_given_in_a_namespace_holds_there_alone() {
    let given = |namespace: &str| {
        let mut objects = Objects::default();
        objects.cluster_roles.push(read(
            json!({"metadata": {"name": "reader"}, "rules": [rule("get secrets")]}),
        ));
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"});
        objects.bindings.push(read(
            json!({"metadata": {"name": "b", "namespace": namespace}, "roleRef": reference,
            "subjects": [account("train/a")]}),
        ));
        objects.steps("train/a")
    };
    assert_eq!((given("infer-b"), given("train")), (Some(1), None));
}

#[test]
fn a_role_made_up_of_others_holds_what_they_hold() {
    let mut objects = Objects::default();
    let label = |key: &str| json!({"rbac.example.com/to": key});
    let selects = |key: &str| json!({"clusterRoleSelectors": [{"matchLabels": label(key)}]});
    for role in [
        json!({"metadata": {"name": "top"}, "aggregationRule": selects("top")}),
        json!({"metadata": {"name": "middle", "labels": label("top")}, "aggregationRule": selects("middle")}),
        json!({"metadata": {"name": "bottom", "labels": label("middle")}, "rules": [rule("get secrets")]}),
    ] {
        objects.cluster_roles.push(read(role));
    }
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "top"});
    objects.cluster_bindings.push(read(
        json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": [account("train/a")]}),
    ));
    assert_eq!(objects.steps("train/a"), Some(1));
    objects.cluster_roles[1].metadata.labels = None;
    assert_eq!(objects.steps("train/a"), None, "nothing is selected any more");
}

#[test]
fn chains_are_followed_and_the_shortest_is_told() {
    let reader = |objects: Objects| objects.grant("infer", "get secrets", account("tools/deployer"));
    for (first, steps) in [
        ("create pods", Some(2)),
        ("create pods/exec", Some(2)),
        ("create serviceaccounts/token deployer", Some(2)),
        ("create serviceaccounts/token other", None),
        ("impersonate serviceaccounts deployer", Some(2)),
        ("impersonate serviceaccounts other", None),
        ("impersonate users", None),
        ("create,get secrets", Some(2)),
        ("create secrets", None),
        ("get secrets", None),
    ] {
        let objects = reader(Objects::default().grant("tools", first, account("train/a")));
        assert_eq!(objects.steps("train/a"), steps, "{first}");
        assert_eq!(objects.steps("train/b"), None, "{first}");
    }
    let long = Objects::default()
        .grant("", "impersonate users alice", account("train/a"))
        .grant("tools", "patch statefulsets.apps", user("alice"));
    let chain = reader(long).chain("train/a").unwrap();
    assert_eq!(
        chain.told(),
        "its rights lead to the Secrets of inference namespace infer in 3 steps: it can impersonate user alice \
         (ClusterRoleBinding r0), then run a pod as ServiceAccount tools/deployer (RoleBinding tools/r1), then get \
         secrets in infer (RoleBinding infer/r2)"
    );
    let asked: Vec<_> = chain.links.iter().filter_map(|link| link.asked.clone()).collect();
    assert_eq!(asked[0].user, "system:serviceaccount:train:a");
    assert_eq!(
        (asked[1].resource, asked[1].namespace.as_deref()),
        ("statefulsets", Some("tools"))
    );
}

#[test]
fn a_group_is_impersonated_beside_a_user_alone() {
    let ops = |objects: Objects| objects.grant("", "get secrets", group("ops"));
    let alone = Objects::default().grant("", "impersonate groups ops", account("train/a"));
    assert_eq!(ops(alone.clone()).steps("train/a"), None);
    let both = alone.grant("", "impersonate users nobody", account("train/a"));
    assert_eq!(ops(both).steps("train/a"), Some(2));
    let masters = Objects::default().grant("", "impersonate users,groups", account("train/a"));
    assert_eq!(masters.steps("train/a"), Some(2), "the group that no rule limits");
}

#[test]
fn bind_needs_a_binding_to_write_and_escalate_a_role_it_has() {
    let grants = |rules: &[(&str, &str)]| {
        let add =
            |objects: Objects, (namespace, rule): &(&str, &str)| objects.grant(namespace, rule, account("train/a"));
        rules.iter().fold(Objects::default(), add)
    };
    let bind = ("infer", "bind clusterroles.rbac");
    let write = ("infer", "create rolebindings.rbac");
    assert_eq!(grants(&[bind]).steps("train/a"), None);
    assert_eq!(grants(&[write]).steps("train/a"), None);
    assert_eq!(grants(&[bind, write]).steps("train/a"), Some(2));
    assert_eq!(
        grants(&[bind, ("train", write.1)]).steps("train/a"),
        None,
        "in two places"
    );
    let named = |name: &str| {
        let mut objects = grants(&[("infer", &format!("bind clusterroles.rbac {name}")), write]);
        objects
            .cluster_roles
            .push(read(json!({"metadata": {"name": "look"}, "rules": [rule("get pods")]})));
        objects
            .cluster_roles
            .push(read(json!({"metadata": {"name": "all"}, "rules": [rule("* *")]})));
        objects.steps("train/a")
    };
    assert_eq!((named("look"), named("all"), named("absent")), (None, Some(2), None));
    // Its own role is r0, r1 in the order of the grants.
    assert_eq!(
        grants(&[("infer", "update,escalate roles.rbac r0")]).steps("train/a"),
        Some(2)
    );
    assert_eq!(
        grants(&[("infer", "update,escalate roles.rbac other")]).steps("train/a"),
        None
    );
    assert_eq!(grants(&[("infer", "update roles.rbac")]).steps("train/a"), None);
    assert_eq!(grants(&[("infer", "escalate roles.rbac")]).steps("train/a"), None);
}

#[test]
fn findings_are_of_training_and_evaluation_and_name_the_account() {
    use NamespaceStage::{Evaluation, Inference, Shared, Training};
    let stages: BTreeMap<String, NamespaceStage> = [
        ("train", Training),
        ("eval", Evaluation),
        ("infer", Inference),
        ("shared", Shared),
    ]
    .map(|(name, stage)| (name.to_owned(), stage))
    .into();
    let everybody = Objects::default().grant("infer", "list secrets", group("system:serviceaccounts"));
    let found = everybody.rights().findings(&stages);
    let names: Vec<&String> = found.keys().collect();
    assert_eq!(names, ["eval", "train"]);
    let finding = &found["train"][0];
    assert_eq!(finding.subject.to_string(), "ServiceAccount train/default");
    assert_eq!(
        finding.line(),
        "IAM-07/secret-path ServiceAccount default: its rights lead to the Secrets of inference namespace infer: it can list \
         secrets in infer (RoleBinding infer/r0); take the first right away: RoleBinding infer/r0 (ANSSI R10)"
    );
    let without = BTreeMap::from([("train".to_owned(), Training)]);
    assert_eq!(
        everybody.rights().findings(&without),
        BTreeMap::new(),
        "there is no inference"
    );
}

#[test]
fn whoever_can_become_thousands_is_unknown() {
    let mut objects = Objects::default().grant("", "impersonate users", account("train/a"));
    let subjects: Vec<Value> = (0..3_000).map(|number| user(&format!("u{number}"))).collect();
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "none"});
    objects.cluster_bindings.push(read(
        json!({"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects}),
    ));
    let stages = [
        ("train", NamespaceStage::Training),
        ("infer", NamespaceStage::Inference),
    ];
    let stages = stages.map(|(name, stage)| (name.to_owned(), stage)).into();
    let found = objects.rights().findings(&stages);
    assert_eq!(found["train"][0].assurance, Assurance::Unknown);
    let without = BTreeMap::from([("train".to_owned(), NamespaceStage::Training)]);
    let found = objects.rights().findings(&without);
    assert_eq!(found, BTreeMap::new(), "without inference there is nothing not to know");
}
