//! Whether rights lead from an account of one stage to the Secrets of another: directly, or step by step through accounts
//! that it can become. Pure, over Roles and bindings alone.
//!
//! Followed are: reading Secrets; making pods, by themselves, by a controller of theirs, or as an ephemeral container (a pod
//! mounts any Secret of its namespace); running commands in pods; tokens of accounts; impersonation; `bind` and
//! `escalate`; the kubelet's API. Not followed are webhooks, certificate requests, nodes, and external secret stores that
//! believe an account.

mod builtin;
mod chain;
mod identity;
mod power;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject as RbacSubject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub use builtin::builtin_roles;
pub use chain::{Asked, Chain, Link};
use power::Power;
pub use power::leads_on;

use crate::api::stage::NamespaceStage;
use crate::compliance::finding::{Assurance, Finding, Subject};
use crate::compliance::id::IAM_07;

/// Where a right holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// In every namespace, and on objects without one.
    Everywhere,
    /// In one namespace.
    In(String),
}

impl Scope {
    fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(name) => name == namespace,
        }
    }
}

/// A Role, or without a namespace a ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RoleKey {
    namespace: Option<String>,
    name: String,
}

/// Whom a binding names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    User(String),
    Group(String),
    Account(String, String),
}

/// A role that a binding gives.
#[derive(Clone, Debug)]
struct Held {
    scope: Scope,
    role: RoleKey,
    /// `RoleBinding ci/deployers`.
    by: String,
}

/// The rights of a cluster, as far as they lead to Secrets.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    roles: BTreeMap<RoleKey, Vec<Power>>,
    held: BTreeMap<Named, Vec<Held>>,
    /// Accounts that a binding names, by namespace.
    accounts: BTreeMap<String, BTreeSet<String>>,
}

/// The prefix of the names under which the API server knows accounts.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The prefix of the group of all accounts of a namespace.
const ACCOUNTS_PREFIX: &str = "system:serviceaccounts:";

impl Rights {
    /// Reads roles and bindings. A ClusterRole that is made up of others holds what they hold, be it filled in or not.
    pub fn new<'o>(
        roles: impl IntoIterator<Item = &'o Role>,
        cluster_roles: impl IntoIterator<Item = &'o ClusterRole>,
        bindings: impl IntoIterator<Item = &'o RoleBinding>,
        cluster_bindings: impl IntoIterator<Item = &'o ClusterRoleBinding>,
    ) -> Self {
        let mut rights = Self::default();
        for role in roles {
            let key = RoleKey {
                namespace: role.metadata.namespace.clone(),
                name: role.metadata.name.clone().unwrap_or_default(),
            };
            rights.roles.insert(key, power::of(role.rules.iter().flatten()));
        }
        let cluster_roles: Vec<&ClusterRole> = cluster_roles.into_iter().collect();
        for role in &cluster_roles {
            let key = RoleKey {
                namespace: None,
                name: role.metadata.name.clone().unwrap_or_default(),
            };
            rights.roles.insert(key, power::of(aggregated(role, &cluster_roles)));
        }
        for binding in bindings {
            let namespace = binding.metadata.namespace.clone().unwrap_or_default();
            let by = binding_name(Some(&namespace), name_of(binding.metadata.name.as_ref()));
            let held = Held {
                role: role_key(&binding.role_ref, Some(&namespace)),
                scope: Scope::In(namespace),
                by,
            };
            rights.bind(binding.subjects.iter().flatten(), &held);
        }
        for binding in cluster_bindings {
            let held = Held {
                scope: Scope::Everywhere,
                role: role_key(&binding.role_ref, None),
                by: binding_name(None, name_of(binding.metadata.name.as_ref())),
            };
            rights.bind(binding.subjects.iter().flatten(), &held);
        }
        for held in rights.held.values_mut() {
            held.sort_by(|a, b| (&a.scope, &a.role, &a.by).cmp(&(&b.scope, &b.role, &b.by)));
        }
        rights
    }

    fn bind<'o>(&mut self, subjects: impl Iterator<Item = &'o RbacSubject>, held: &Held) {
        for subject in subjects {
            let named = match subject.kind.as_str() {
                "Group" => {
                    if let Some(namespace) = subject.name.strip_prefix(ACCOUNTS_PREFIX) {
                        self.accounts.entry(namespace.to_owned()).or_default();
                    }
                    Named::Group(subject.name.clone())
                }
                "ServiceAccount" => {
                    let Some(namespace) = subject.namespace.clone() else {
                        continue;
                    };
                    Named::Account(namespace, subject.name.clone())
                }
                // A user by the name of an account is that account.
                _ => match subject
                    .name
                    .strip_prefix(ACCOUNT_PREFIX)
                    .and_then(|name| name.split_once(':'))
                {
                    Some((namespace, name)) => Named::Account(namespace.to_owned(), name.to_owned()),
                    None => Named::User(subject.name.clone()),
                },
            };
            if let Named::Account(namespace, name) = &named {
                self.accounts.entry(namespace.clone()).or_default().insert(name.clone());
            }
            self.held.entry(named).or_default().push(held.clone());
        }
    }

    /// The accounts of a namespace that differ in their rights: those that a binding names, and `default` for the others.
    fn accounts_of(&self, namespace: &str) -> BTreeSet<String> {
        let mut names = self.accounts.get(namespace).cloned().unwrap_or_default();
        names.insert(super::pod::DEFAULT_ACCOUNT.to_owned());
        names
    }

    /// What leads from the accounts of training and evaluation to the Secrets of inference: a finding for each account, by
    /// its namespace. `stages` are those of the namespaces.
    pub fn findings(&self, stages: &BTreeMap<String, NamespaceStage>) -> BTreeMap<String, Vec<Finding>> {
        let mut findings: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        for found in self.found(stages) {
            findings
                .entry(found.namespace.clone())
                .or_default()
                .push(found.finding());
        }
        findings
    }

    /// The same as chains.
    pub fn found(&self, stages: &BTreeMap<String, NamespaceStage>) -> Vec<Found> {
        use NamespaceStage::{Evaluation, Inference, Training};
        let of = |wanted: &[NamespaceStage]| -> BTreeSet<&str> {
            let found = stages.iter().filter(|(_, stage)| wanted.contains(stage));
            found.map(|(name, _)| name.as_str()).collect()
        };
        let targets = of(&[Inference]);
        if targets.is_empty() {
            return Vec::new();
        }
        let mut all = Vec::new();
        for namespace in of(&[Training, Evaluation]) {
            for account in self.accounts_of(namespace) {
                if let Some(chain) = self.chain(namespace, &account, &targets).transpose() {
                    let namespace = namespace.to_owned();
                    all.push(Found {
                        namespace,
                        account,
                        chain,
                    });
                }
            }
        }
        all
    }
}

/// An account whose rights lead to the Secrets of inference, or that was not followed to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub account: String,
    /// The chain; an error is the number of identities after which the search was given up.
    pub chain: Result<Chain, usize>,
}

impl Found {
    /// As a finding about the account.
    pub fn finding(&self) -> Finding {
        let Self {
            namespace,
            account,
            chain,
        } = self;
        let subject = Subject::namespaced("ServiceAccount", &**namespace, &**account);
        let rule = IAM_07.rule("secret-path");
        match chain {
            Ok(chain) => {
                let fix = format!("take the first right away: {}", chain.links[0].by);
                Finding::new(rule, subject, format!("ServiceAccount {account}: {}", chain.told())).with_fix(fix)
            }
            Err(limit) => {
                let message = format!(
                    "ServiceAccount {account}: its rights lead to more than {limit} other identities; whether one of them reads the \
                     Secrets of an inference namespace was not followed to the end"
                );
                Finding::new(rule, subject, message).with_assurance(Assurance::Unknown)
            }
        }
    }
}

/// How a binding is called in a chain; without a namespace it is a ClusterRoleBinding.
pub fn binding_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("RoleBinding {namespace}/{name}"),
        None => format!("ClusterRoleBinding {name}"),
    }
}

/// Whether a binding's subject names an account of a namespace, or a group that such an account is in.
pub fn may_name(subject: &RbacSubject, namespace: &str) -> bool {
    let name = subject.name.as_str();
    match subject.kind.as_str() {
        "ServiceAccount" => subject.namespace.as_deref() == Some(namespace),
        "Group" => {
            ["system:authenticated", "system:serviceaccounts"].contains(&name)
                || name.strip_prefix(ACCOUNTS_PREFIX) == Some(namespace)
        }
        _ => {
            let account = name.strip_prefix(ACCOUNT_PREFIX).and_then(|name| name.split_once(':'));
            account.is_some_and(|(home, _)| home == namespace)
        }
    }
}

fn name_of(name: Option<&String>) -> &str {
    name.map(String::as_str).unwrap_or_default()
}

fn role_key(reference: &RoleRef, namespace: Option<&str>) -> RoleKey {
    let own = reference.kind == "Role";
    RoleKey {
        namespace: namespace.filter(|_| own).map(str::to_owned),
        name: reference.name.clone(),
    }
}

/// The rules of a ClusterRole and of all that its aggregation selects, and theirs.
fn aggregated<'o>(role: &'o ClusterRole, all: &[&'o ClusterRole]) -> Vec<&'o PolicyRule> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![role]);
    let mut rules = Vec::new();
    while let Some(next) = open.pop() {
        if !seen.insert(name_of(next.metadata.name.as_ref())) {
            continue;
        }
        rules.extend(next.rules.iter().flatten());
        if let Some(aggregation) = &next.aggregation_rule {
            open.extend(all.iter().filter(|other| selects(aggregation, other)).copied());
        }
    }
    rules
}

fn selects(aggregation: &AggregationRule, role: &ClusterRole) -> bool {
    let labels = role.metadata.labels.clone().unwrap_or_default();
    let mut selectors = aggregation.cluster_role_selectors.iter().flatten();
    selectors.any(|selector| matches(selector, &labels))
}

fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    let fits = |values: Option<&Vec<String>>, value: Option<&String>| {
        value.is_some_and(|value| values.into_iter().flatten().any(|listed| listed == value))
    };
    let expressed = selector.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        match wanted.operator.as_str() {
            "In" => fits(wanted.values.as_ref(), value),
            "NotIn" => !fits(wanted.values.as_ref(), value),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    expressed && selector.match_labels.iter().flatten().all(equal)
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "what a test writes down is its own")]
mod tests;
