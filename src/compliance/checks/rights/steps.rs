//! Whom somebody can become with the rights it has.

use std::collections::BTreeSet;

use super::chain::{Link, link};
use super::identity::{Identity, MASTERS, Right, named};
use super::power::{Act, Names};
use super::{Named, Rights, RoleKey, Scope};

impl Rights {
    /// Whom an identity can become next, in order.
    pub(super) fn steps(&self, identity: &Identity, rights: &[Right<'_>]) -> Vec<(Identity, Link)> {
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
                Act::Exec if right.power.resource == "pods" => "give an image of its own to a pod of",
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

/// Whether it can be somebody at all: a group is put on beside a user.
fn is_user_of_any(right: &Right<'_>) -> bool {
    matches!(right.power.act, Act::ImpersonateUser | Act::ImpersonateAccount)
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
