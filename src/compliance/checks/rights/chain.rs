//! The shortest chain of rights from an account to a Secret.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::identity::{Identity, Right};
use super::power::{self, Act, Names};
use super::{ACCOUNT_PREFIX, Rights};

/// Most identities that are followed from one account. Whoever can become so many is no question of one chain.
const MOST: usize = 2_000;

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
}

/// Where one right ends at the Secrets of a target by itself.
fn end(identity: &Identity, rights: &[Right<'_>], targets: &BTreeSet<&str>) -> Option<(String, Link)> {
    use Act::{Exec, Kubelet, ReadSecrets, RequestToken, RunPods};
    // A token is an end by itself: stores outside the cluster give Secrets for it.
    let ends = |right: &&Right<'_>| matches!(right.power.act, ReadSecrets | RunPods | Exec | Kubelet | RequestToken);
    let mut found: Vec<(Act, &str, &Right<'_>)> = Vec::new();
    for right in rights.iter().filter(ends) {
        let first = targets.iter().find(|target| right.scope.covers(target));
        found.extend(first.map(|target| (right.power.act, *target, right)));
    }
    found.sort_by(|a, b| (a.0, a.1, &a.2.by).cmp(&(b.0, b.1, &b.2.by)));
    let (act, target, right) = found.first()?;
    let words = match act {
        ReadSecrets => match right.power.verb {
            verb @ ("get" | "list" | "watch") => format!("{verb} secrets in {target}"),
            verb => format!("{verb} secrets in {target}, which is answered with their data"),
        },
        RunPods => {
            let (verb, resource) = (right.power.verb, right.power.resource);
            format!("{verb} {resource} in {target}, and mount its Secrets there")
        }
        Exec if right.power.resource == "pods" => {
            format!("give the pods of {target}, where its Secrets are mounted, an image of its own")
        }
        Exec => format!("run commands in the pods of {target}, where its Secrets are mounted"),
        Kubelet => format!("run commands in the pods of {target} through the kubelets"),
        _ => format!("ask for tokens of the accounts of {target}"),
    };
    let name = match &right.power.names {
        Names::Any => None,
        Names::These(names) => names.first().map(String::as_str),
    };
    let place = (*act != Kubelet).then_some(*target);
    Some(((*target).to_owned(), link(identity, right, place, name, words)))
}

pub(super) fn link(
    identity: &Identity,
    right: &Right<'_>,
    namespace: Option<&str>,
    name: Option<&str>,
    told: String,
) -> Link {
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
