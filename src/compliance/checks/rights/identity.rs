//! Who somebody can be, and what RBAC gives it.

use super::power::{Act, Power};
use super::{Named, Rights, RoleKey, Scope};

/// The group that no rule limits.
pub(super) const MASTERS: &str = "system:masters";

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
    pub scope: Scope,
    pub power: &'r Power,
    pub by: String,
}

impl Rights {
    /// Everything that an identity may do on the way to a Secret.
    pub(super) fn of<'r>(&'r self, identity: &Identity, everything: &'r [Power]) -> Vec<Right<'r>> {
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
}

/// Whether what it is about is in a namespace.
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

/// Everything that a binding can call an identity.
pub(super) fn named(identity: &Identity) -> Vec<Named> {
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
