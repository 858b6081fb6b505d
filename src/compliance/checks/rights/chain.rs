//! The shortest chain of rights from an account to a Secret.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::power::{self, Act, Names, Power};
use super::{ACCOUNT_PREFIX, Named, Rights, RoleKey, Scope};

/// Most identities that are followed from one account. Whoever can become so many is no question of one chain.
const MOST: usize = 2_000;
/// The group that no rule limits.
const MASTERS: &str = "system:masters";

/// What is asked of the API server in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The user.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// The verb.
    pub verb: &'static str,
    /// The API group.
    pub group: &'static str,
    /// The resource, with its subresource.
    pub resource: &'static str,
    /// The namespace; `None` for an object without one.
    pub namespace: Option<String>,
    /// The object, where the right is for some alone.
    pub name: Option<String>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it does, in words.
    pub told: String,
    /// The binding that gives the right.
    pub by: String,
    /// The right, in the API server's terms; `None` for a step that is taken with a role that is not written yet.
    pub asked: Option<Asked>,
}

/// From an account to a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// At least one.
    pub links: Vec<Link>,
    /// The inference namespace it ends in.
    pub target: String,
}

impl Chain {
    /// In one line.
    pub fn told(&self) -> String {
        let links: Vec<String> = self
            .links
            .iter()
            .map(|link| format!("{} ({})", link.told, link.by))
            .collect();
        let steps = if links.len() == 1 {
            ""
        } else {
            &format!(" in {} steps", links.len())
        };
        format!(
            "its rights lead to the Secrets of inference namespace {}{steps}: it can {}",
            self.target,
            links.join(", then ")
        )
    }
}

/// Who somebody can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identity {
    Account(String, String),
    User(String),
    Group(String),
    /// Whoever bound a role to itself.
    Holder(RoleKey, Scope),
    /// Whoever wrote itself a role.
    Everything(Scope),
}

/// A right that an identity has: where, on what, and from which binding.
pub(super) struct Right<'r> {
    scope: Scope,
    power: &'r Power,
    by: String,
}

impl Rights {
    /// The shortest chain from an account to the Secrets of any of `targets`; of equal ones the first by name. An error is
    /// the number of identities after which the search was given up.
    pub fn chain(&self, namespace: &str, account: &str, targets: &BTreeSet<&str>) -> Result<Option<Chain>, usize> {
        let everything = power::all();
        let start = Identity::Account(namespace.to_owned(), account.to_owned());
        let mut from: BTreeMap<Identity, Option<(Identity, Link)>> = BTreeMap::from([(start.clone(), None)]);
        let mut open = VecDeque::from([start]);
        while let Some(identity) = open.pop_front() {
            let rights = self.of(&identity, &everything);
            if rights.is_empty() {
                continue;
            }
            if let Some((target, last)) = end(&identity, &rights, targets) {
                let mut links = vec![last];
                let mut at = &identity;
                while let Some(Some((before, link))) = from.get(at) {
                    links.push(link.clone());
                    at = before;
                }
                links.reverse();
                return Ok(Some(Chain { links, target }));
            }
            for (next, link) in self.steps(&identity, &rights) {
                if from.contains_key(&next) {
                    continue;
                }
                if from.len() >= MOST {
                    return Err(MOST);
                }
                from.insert(next.clone(), Some((identity.clone(), link)));
                open.push_back(next);
            }
        }
        Ok(None)
    }

    /// Everything that an identity may do on the way to a Secret.
    fn of<'r>(&'r self, identity: &Identity, everything: &'r [Power]) -> Vec<Right<'r>> {
        let mut rights = Vec::new();
        let mut add = |powers: &'r [Power], scope: &Scope, by: &str| {
            // What has no namespace is given by what holds everywhere alone.
            let holds = powers
                .iter()
                .filter(|power| *scope == Scope::Everywhere || is_namespaced(power.act));
            rights.extend(holds.map(|power| Right {
                scope: scope.clone(),
                power,
                by: by.to_owned(),
            }));
        };
        match identity {
            Identity::Holder(role, scope) => {
                let powers = self.roles.get(role).map(Vec::as_slice).unwrap_or_default();
                add(powers, scope, &format!("the role {} it bound to itself", role.name));
            }
            Identity::Everything(scope) => add(everything, scope, "the role it wrote"),
            Identity::Group(group) if group == MASTERS => add(everything, &Scope::Everywhere, "group system:masters"),
            Identity::Account(..) | Identity::User(_) | Identity::Group(_) => {
                for held in named(identity)
                    .iter()
                    .filter_map(|named| self.held.get(named))
                    .flatten()
                {
                    let powers = self.roles.get(&held.role).map(Vec::as_slice).unwrap_or_default();
                    add(powers, &held.scope, &held.by);
                }
            }
        }
        rights
    }

    /// Whom an identity can become next, in order.
    fn steps(&self, identity: &Identity, rights: &[Right<'_>]) -> Vec<(Identity, Link)> {
        let mut steps = self.accounts_by_namespace(identity, rights);
        for right in rights {
            match right.power.act {
                Act::RequestToken => steps.extend(self.accounts(identity, right, "ask for a token of")),
                Act::ImpersonateAccount => steps.extend(self.accounts(identity, right, "impersonate")),
                Act::ImpersonateUser => {
                    let users = self.held.keys().filter_map(|named| match named {
                        Named::User(name) if right.power.names.contains(name) => Some(name),
                        _ => None,
                    });
                    steps.extend(users.map(|name| {
                        let told = format!("impersonate user {name}");
                        (
                            Identity::User(name.clone()),
                            link(identity, right, None, Some(name), told),
                        )
                    }));
                }
                // A group is put on beside a user.
                Act::ImpersonateGroup if rights.iter().any(|other| is_user_of_any(other)) => {
                    let masters = MASTERS.to_owned();
                    let groups = self.held.keys().filter_map(|named| match named {
                        Named::Group(name) => Some(name),
                        _ => None,
                    });
                    let groups: BTreeSet<&String> = groups.chain([&masters]).collect();
                    let groups = groups.into_iter().filter(|name| right.power.names.contains(name));
                    steps.extend(groups.map(|name| {
                        let told = format!("impersonate group {name}");
                        (
                            Identity::Group(name.clone()),
                            link(identity, right, None, Some(name), told),
                        )
                    }));
                }
                _ => {}
            }
        }
        steps.extend(self.bound(identity, rights));
        steps.extend(self.escalated(identity, rights));
        steps.sort_by(|a, b| a.0.cmp(&b.0));
        steps
    }

    /// By pods, commands in pods, or a Secret that the API server fills with a token: any account of the namespace.
    fn accounts_by_namespace(&self, identity: &Identity, rights: &[Right<'_>]) -> Vec<(Identity, Link)> {
        let mut steps = Vec::new();
        for right in rights {
            let words = match right.power.act {
                Act::RunPods => "run a pod as",
                Act::Exec => "run commands in a pod of",
                Act::CreateSecrets if rights.iter().any(|other| reads_beside(other, &right.scope)) => {
                    "have a Secret filled with a token of"
                }
                _ => continue,
            };
            for namespace in self.namespaces(&right.scope) {
                for account in self.accounts_of(&namespace) {
                    let told = format!("{words} ServiceAccount {namespace}/{account}");
                    let link = link(identity, right, Some(&namespace), None, told);
                    steps.push((Identity::Account(namespace.clone(), account), link));
                }
            }
        }
        steps
    }

    /// The accounts that a right on accounts is for.
    fn accounts(&self, identity: &Identity, right: &Right<'_>, words: &str) -> Vec<(Identity, Link)> {
        let mut steps = Vec::new();
        for namespace in self.namespaces(&right.scope) {
            let accounts = match &right.power.names {
                Names::Any => self.accounts_of(&namespace),
                // Also one that no binding names: it is in the groups of its namespace.
                Names::These(names) => names.iter().cloned().collect(),
            };
            for account in accounts {
                let told = format!("{words} ServiceAccount {namespace}/{account}");
                let link = link(identity, right, Some(&namespace), Some(&account), told);
                steps.push((Identity::Account(namespace.clone(), account), link));
            }
        }
        steps
    }

    /// The namespaces of a scope whose accounts have rights of their own.
    fn namespaces(&self, scope: &Scope) -> Vec<String> {
        match scope {
            Scope::Everywhere => self.accounts.keys().cloned().collect(),
            Scope::In(name) => vec![name.clone()],
        }
    }

    /// Roles that somebody can bind to itself: it may write bindings, and holds `bind` on the role.
    fn bound(&self, identity: &Identity, rights: &[Right<'_>]) -> Vec<(Identity, Link)> {
        let mut steps = Vec::new();
        for write in rights {
            let cluster = match write.power.act {
                Act::WriteBinding => false,
                Act::WriteClusterBinding => true,
                _ => continue,
            };
            for bind in rights {
                let of_cluster = bind.power.act == Act::BindClusterRole;
                if !of_cluster && (cluster || bind.power.act != Act::BindRole) {
                    continue;
                }
                let scope = match (cluster, narrower(&write.scope, &bind.scope)) {
                    (_, None) => continue,
                    (true, Some(scope)) if scope != Scope::Everywhere => continue,
                    (_, Some(scope)) => scope,
                };
                let place = match &scope {
                    Scope::Everywhere => None,
                    Scope::In(name) => Some(name.as_str()),
                };
                // Every cluster has a ClusterRole that holds all.
                if of_cluster && bind.power.names == Names::Any {
                    let told = format!("bind any role to itself {}", told(&scope));
                    let link = link(identity, bind, place, None, told);
                    steps.push((Identity::Everything(scope.clone()), link));
                    continue;
                }
                let roles = self.roles.keys().filter(|key| {
                    let of_kind = match &key.namespace {
                        None => of_cluster,
                        Some(home) => !of_cluster && scope.covers(home),
                    };
                    of_kind && bind.power.names.contains(&key.name)
                });
                for role in roles.cloned() {
                    // A Role is bound in its own namespace.
                    let scope = role.namespace.clone().map_or_else(|| scope.clone(), Scope::In);
                    let place = match &scope {
                        Scope::Everywhere => None,
                        Scope::In(name) => Some(name.clone()),
                    };
                    let told = format!("bind role {} to itself {}", role.name, told(&scope));
                    let link = link(identity, bind, place.as_deref(), Some(&role.name), told);
                    steps.push((Identity::Holder(role, scope), link));
                }
            }
        }
        steps
    }

    /// Roles that somebody has and can write whatever it likes into.
    fn escalated(&self, identity: &Identity, rights: &[Right<'_>]) -> Vec<(Identity, Link)> {
        let mut own: Vec<(RoleKey, Scope)> = match identity {
            Identity::Holder(role, scope) => vec![(role.clone(), scope.clone())],
            Identity::Everything(_) => Vec::new(),
            _ => {
                let held = named(identity)
                    .into_iter()
                    .filter_map(|named| self.held.get(&named))
                    .flatten();
                held.map(|held| (held.role.clone(), held.scope.clone())).collect()
            }
        };
        own.sort();
        own.dedup();
        let mut steps = Vec::new();
        for (role, scope) in own {
            let (write, escalate) = match role.namespace {
                None => (Act::WriteClusterRole, Act::EscalateClusterRole),
                Some(_) => (Act::WriteRole, Act::EscalateRole),
            };
            let may = |act: Act| {
                let here = |right: &&Right<'_>| match &role.namespace {
                    None => right.scope == Scope::Everywhere,
                    Some(home) => right.scope.covers(home),
                };
                let mut found = rights.iter().filter(here);
                found.find(|right| right.power.act == act && right.power.names.contains(&role.name))
            };
            if let (Some(_), Some(right)) = (may(write), may(escalate)) {
                let told = format!("write any right into its own role {}, {}", role.name, told(&scope));
                let link = link(identity, right, role.namespace.as_deref(), Some(&role.name), told);
                steps.push((Identity::Everything(scope), link));
            }
        }
        steps
    }
}

/// Where one right ends at the Secrets of a target by itself.
fn end(identity: &Identity, rights: &[Right<'_>], targets: &BTreeSet<&str>) -> Option<(String, Link)> {
    let ends = |right: &&Right<'_>| right.power.act <= Act::RequestToken && right.power.act != Act::CreateSecrets;
    let mut found: Vec<(Act, &str, &Right<'_>)> = Vec::new();
    for right in rights.iter().filter(ends) {
        let first = targets.iter().find(|target| right.scope.covers(target));
        found.extend(first.map(|target| (right.power.act, *target, right)));
    }
    found.sort_by(|a, b| (a.0, a.1, &a.2.by).cmp(&(b.0, b.1, &b.2.by)));
    let (act, target, right) = found.first()?;
    let words = match act {
        Act::ReadSecrets => format!("{} secrets in {target}", right.power.verb),
        Act::RunPods => {
            let (verb, resource) = (right.power.verb, right.power.resource);
            format!("{verb} {resource} in {target}, and mount its Secrets there")
        }
        Act::Exec => format!("run commands in the pods of {target}, where its Secrets are mounted"),
        Act::Kubelet => format!("run commands in the pods of {target} through the kubelets"),
        _ => format!("ask for tokens of the accounts of {target}"),
    };
    let name = match &right.power.names {
        Names::Any => None,
        Names::These(names) => names.first().map(String::as_str),
    };
    let place = (*act != Act::Kubelet).then_some(*target);
    Some(((*target).to_owned(), link(identity, right, place, name, words)))
}

/// What is not in a namespace.
const fn is_namespaced(act: Act) -> bool {
    !matches!(
        act,
        Act::Kubelet
            | Act::ImpersonateUser
            | Act::ImpersonateGroup
            | Act::WriteClusterBinding
            | Act::WriteClusterRole
            | Act::EscalateClusterRole
    )
}

/// Whether it can be somebody at all: a group is put on beside a user.
fn is_user_of_any(right: &Right<'_>) -> bool {
    let empty = right.power.names == Names::These(Vec::new());
    matches!(right.power.act, Act::ImpersonateUser | Act::ImpersonateAccount) && !empty
}

fn reads_beside(right: &Right<'_>, scope: &Scope) -> bool {
    right.power.act == Act::ReadSecrets && narrower(&right.scope, scope).as_ref() == Some(scope)
}

fn narrower(a: &Scope, b: &Scope) -> Option<Scope> {
    match (a, b) {
        (Scope::Everywhere, other) | (other, Scope::Everywhere) => Some(other.clone()),
        (Scope::In(a), Scope::In(b)) => (a == b).then(|| Scope::In(a.clone())),
    }
}

fn told(scope: &Scope) -> String {
    match scope {
        Scope::Everywhere => "in every namespace".to_owned(),
        Scope::In(name) => format!("in {name}"),
    }
}

/// Everything that a binding can call an identity.
fn named(identity: &Identity) -> Vec<Named> {
    let group = |name: String| Named::Group(name);
    let everybody = || group("system:authenticated".to_owned());
    match identity {
        Identity::Account(namespace, name) => vec![
            Named::Account(namespace.clone(), name.clone()),
            group(format!("system:serviceaccounts:{namespace}")),
            group("system:serviceaccounts".to_owned()),
            everybody(),
        ],
        Identity::User(name) => vec![Named::User(name.clone()), everybody()],
        Identity::Group(name) => vec![group(name.clone()), everybody()],
        Identity::Holder(..) | Identity::Everything(_) => Vec::new(),
    }
}

fn link(identity: &Identity, right: &Right<'_>, namespace: Option<&str>, name: Option<&str>, told: String) -> Link {
    let (user, groups) = match identity {
        Identity::Account(home, name) => (
            format!("{ACCOUNT_PREFIX}{home}:{name}"),
            vec![
                format!("system:serviceaccounts:{home}"),
                "system:serviceaccounts".to_owned(),
                "system:authenticated".to_owned(),
            ],
        ),
        Identity::User(name) => (name.clone(), vec!["system:authenticated".to_owned()]),
        Identity::Group(name) => (
            "somebody".to_owned(),
            vec![name.clone(), "system:authenticated".to_owned()],
        ),
        Identity::Holder(..) | Identity::Everything(_) => (String::new(), Vec::new()),
    };
    let name = match &right.power.names {
        Names::Any => None,
        Names::These(names) => name.or(names.first().map(String::as_str)),
    };
    let asked = (!user.is_empty()).then(|| Asked {
        user,
        groups,
        verb: right.power.verb,
        group: right.power.group,
        resource: right.power.resource,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
    });
    Link {
        told,
        by: right.by.clone(),
        asked,
    }
}
