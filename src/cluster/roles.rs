//! The rights of every component and of the people around it, each with its reason. Pure data: the chart's roles, the
//! reference page and the tests that run components under these rights are all rendered from here.
//!
//! An object that is posted has no name when its creation is authorized, so `create` with names never matches there. A
//! server-side apply names it: everything we apply has `create` limited by name.

mod components;
mod people;

use serde_json::{Value, json};

use crate::api::names::{ADMISSION_POLICIES, BINDING_SUFFIXES, CLOISON, PART_OF_LABEL, SWEEPER_ACCOUNT};

pub use components::components;
pub use people::people;

/// What one rule allows, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// API groups; the empty string is the core group.
    pub groups: Vec<&'static str>,
    /// Resources in the plural, or `resource/subresource`.
    pub resources: Vec<&'static str>,
    /// Names of objects; empty means any.
    pub names: Vec<String>,
    /// Paths that are no resources, such as `/metrics`. Excludes the three fields above.
    pub urls: Vec<&'static str>,
    /// Verbs.
    pub verbs: Vec<&'static str>,
    /// Why it is needed: one line.
    pub why: &'static str,
}

impl Rule {
    /// A rule for resources of one API group.
    fn new(group: &'static str, resources: &[&'static str], verbs: &[&'static str], why: &'static str) -> Self {
        Self {
            groups: vec![group],
            resources: resources.to_vec(),
            verbs: verbs.to_vec(),
            why,
            ..Self::default()
        }
    }

    /// A rule for paths.
    fn path(url: &'static str, verbs: &[&'static str], why: &'static str) -> Self {
        Self {
            urls: vec![url],
            verbs: verbs.to_vec(),
            why,
            ..Self::default()
        }
    }

    /// The same rule for these objects only.
    fn named<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// As RBAC writes it; fields that are empty are left out.
    fn json(&self) -> Value {
        let mut rule = serde_json::Map::new();
        if self.urls.is_empty() {
            rule.insert("apiGroups".into(), json!(self.groups));
            rule.insert("resources".into(), json!(self.resources));
        } else {
            rule.insert("nonResourceURLs".into(), json!(self.urls));
        }
        if !self.names.is_empty() {
            rule.insert("resourceNames".into(), json!(self.names));
        }
        rule.insert("verbs".into(), json!(self.verbs));
        Value::Object(rule)
    }
}

/// Where a set of rules holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere, cluster-scoped objects included.
    Cluster,
    /// In the namespace the release is in.
    Operator,
    /// In this namespace.
    Namespace(&'static str),
}

impl Scope {
    /// The namespace's name, where there is one.
    fn namespace(self, operator: &str) -> Option<&str> {
        match self {
            Self::Cluster => None,
            Self::Operator => Some(operator),
            Self::Namespace(name) => Some(name),
        }
    }
}

/// Rules that hold in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role's name; unique, because the release may be in any of the namespaces below.
    pub name: &'static str,
    /// Where.
    pub scope: Scope,
    /// What.
    pub rules: Vec<Rule>,
}

/// A component: one ServiceAccount and exactly the rights it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name, which is also the name of its generated file.
    pub name: &'static str,
    /// Its ServiceAccount in the operator's namespace.
    pub account: &'static str,
    /// Its rights.
    pub grants: Vec<Grant>,
    /// Whether it holds them only while it runs: the release has no binding of them, see [`loan`].
    pub lent: bool,
}

impl Component {
    /// Its roles and, unless they are lent, their bindings, ready to apply, for a release in the namespace `operator`.
    pub fn objects(&self, operator: &str) -> Vec<Value> {
        self.grants
            .iter()
            .flat_map(|grant| {
                let namespace = grant.scope.namespace(operator);
                let bound = (!self.lent).then(|| binding(grant.name, namespace, self.name, self.account, operator));
                std::iter::once(role(grant.name, namespace, self.name, &grant.rules)).chain(bound)
            })
            .collect()
    }
}

/// The binding that lends a role of the sweeper to it, for a release in the namespace `operator`.
pub fn loan(role: &str, operator: &str) -> Value {
    binding(role, None, SWEEPER, SWEEPER_ACCOUNT, operator)
}

/// The component that reads and rewrites Secrets.
const SWEEPER: &str = "sweeper";
/// The rights that the controller has only where the chart's `encryption.readStored` says so.
pub const LENDER: &str = "lender";
/// The component whose rights the controller has only where there are agents.
pub const ROTATOR: &str = "rotator";

/// The name of every binding of an admission policy of ours.
fn binding_names() -> Vec<String> {
    let of = |policy: &&str| BINDING_SUFFIXES.map(|suffix| format!("{policy}-{suffix}"));
    ADMISSION_POLICIES.iter().flat_map(of).collect()
}

/// A role that the admin gives to people. Nobody has one by default but the readers of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeopleRole {
    /// The ClusterRole's name.
    pub name: &'static str,
    /// Whom it is for, in one line.
    pub purpose: &'static str,
    /// Stock roles that take these rules in: `view`, `edit`, `admin`.
    pub aggregate_to: Vec<&'static str>,
    /// What it allows.
    pub rules: Vec<Rule>,
}

impl PeopleRole {
    /// The ClusterRole, ready to apply.
    pub fn object(&self) -> Value {
        let mut object = role(self.name, None, "people", &self.rules);
        for stock in &self.aggregate_to {
            object["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{stock}")] = json!("true");
        }
        object["metadata"]["annotations"] = json!({ "kubernetes.io/description": self.purpose });
        object
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn metadata(name: &str, namespace: Option<&str>, component: &str) -> Value {
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata["labels"] = json!({
        "app.kubernetes.io/name": CLOISON,
        "app.kubernetes.io/component": component,
        PART_OF_LABEL: CLOISON,
    });
    metadata
}

fn role(name: &str, namespace: Option<&str>, component: &str, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": if namespace.is_some() { "Role" } else { "ClusterRole" },
        "metadata": metadata(name, namespace, component),
        "rules": rules.iter().map(Rule::json).collect::<Vec<_>>(),
    })
}

fn binding(name: &str, namespace: Option<&str>, component: &str, account: &str, operator: &str) -> Value {
    let (kind, role_kind) = match namespace {
        Some(_) => ("RoleBinding", "Role"),
        None => ("ClusterRoleBinding", "ClusterRole"),
    };
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": kind,
        "metadata": metadata(name, namespace, component),
        "roleRef": { "apiGroup": RBAC, "kind": role_kind, "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": operator }],
    })
}

#[cfg(test)]
mod tests;
