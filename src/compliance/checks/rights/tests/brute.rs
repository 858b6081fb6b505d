//! The chains against a second opinion that shares no code: every identity of a small universe, asked right by right as
//! RBAC's documentation reads a rule, layer by layer.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde_json::json;

use super::{Objects, account, group, read, rule, user};

const NAMESPACES: [&str; 3] = ["train", "infer", "tools"];
const ACCOUNTS: [&str; 2] = ["default", "a"];
/// What answers with the data of a Secret.
const READ: &[&str] = &["get", "list", "watch", "patch", "delete", "deletecollection"];
const ROLES: [&str; 4] = ["r0", "r1", "r2", "r3"];

/// Somebody: what it is called, and the rights it brings itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Account(&'static str, String),
    User(&'static str),
    Group(&'static str),
    /// Holds a role (its namespace, its name) in a place; `None` is everywhere.
    Holds(Option<String>, String, Option<String>),
    /// May do everything in a place.
    All(Option<String>),
}

struct Judge<'o> {
    objects: &'o Objects,
}

impl Judge<'_> {
    fn rules(&self, reference: &RoleRef, home: Option<&str>) -> Vec<PolicyRule> {
        if reference.kind == "ClusterRole" {
            let found = self.objects.cluster_roles.iter();
            let found = found.filter(|role| role.metadata.name.as_ref() == Some(&reference.name));
            return found.flat_map(|role| role.rules.clone().unwrap_or_default()).collect();
        }
        let found = self.objects.roles.iter().filter(|role| {
            role.metadata.name.as_ref() == Some(&reference.name) && role.metadata.namespace.as_deref() == home
        });
        found.flat_map(|role| role.rules.clone().unwrap_or_default()).collect()
    }

    /// Its roles: where each holds, what it is called, and its rules.
    fn holds(&self, who: &Who) -> Vec<(Option<String>, RoleRef, Vec<PolicyRule>)> {
        let reference = |kind: &str, name: &str| RoleRef {
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..RoleRef::default()
        };
        match who {
            Who::All(place) => vec![(place.clone(), reference("", ""), vec![read(rule("* *"))])],
            Who::Group("system:masters") => vec![(None, reference("", ""), vec![read(rule("* *"))])],
            Who::Holds(home, name, place) => {
                let kind = if home.is_some() { "Role" } else { "ClusterRole" };
                let reference = reference(kind, name);
                let rules = self.rules(&reference, home.as_deref());
                vec![(place.clone(), reference, rules)]
            }
            _ => {
                let mut found = Vec::new();
                for binding in &self.objects.bindings {
                    let home = binding.metadata.namespace.as_deref();
                    if binding.subjects.iter().flatten().any(|subject| names(subject, who)) {
                        found.push((
                            home.map(str::to_owned),
                            binding.role_ref.clone(),
                            self.rules(&binding.role_ref, home),
                        ));
                    }
                }
                for binding in &self.objects.cluster_bindings {
                    if binding.subjects.iter().flatten().any(|subject| names(subject, who)) {
                        found.push((None, binding.role_ref.clone(), self.rules(&binding.role_ref, None)));
                    }
                }
                found
            }
        }
    }

    /// Whether somebody may do something. `namespace` is empty for what is in none, `name` for any object.
    fn may(&self, who: &Who, verbs: &[&str], resource: &str, namespace: &str, name: Option<&str>) -> bool {
        let (resource, wanted) = match resource.split_once('.') {
            Some((resource, group)) => (
                resource,
                if group == "rbac" {
                    "rbac.authorization.k8s.io"
                } else {
                    group
                },
            ),
            None => (resource, ""),
        };
        self.holds(who).iter().any(|(place, _, rules)| {
            let here = place.as_ref().is_none_or(|place| place == namespace);
            here && rules.iter().any(|rule| {
                let lists = |list: &Option<Vec<String>>, word: &str| {
                    list.iter().flatten().any(|known| known == "*" || known == word)
                };
                let names = rule.resource_names.clone().unwrap_or_default();
                rule.verbs
                    .iter()
                    .any(|verb| verb == "*" || verbs.contains(&verb.as_str()))
                    && lists(&rule.api_groups, wanted)
                    && lists(&rule.resources, resource)
                    && (names.is_empty() || name.is_none_or(|name| names.iter().any(|known| known == name)))
            })
        })
    }

    /// Whether somebody has the Secrets of inference in hand.
    fn ends(&self, who: &Who) -> bool {
        let may = |verbs: &[&str], resource: &str| self.may(who, verbs, resource, "infer", None);
        may(READ, "secrets")
            || may(&["create"], "pods")
            || may(&["create", "update", "patch"], "deployments.apps")
            || may(&["create", "get"], "pods/exec")
            || may(&["update", "patch"], "pods")
            || may(&["create"], "serviceaccounts/token")
            || self.may(who, &["create", "get"], "nodes/proxy", "", None)
    }

    /// Everybody that somebody can be next.
    fn next(&self, who: &Who) -> BTreeSet<Who> {
        let mut next = BTreeSet::new();
        let any = |verbs: &[&str], resource: &str, namespace: &str| self.may(who, verbs, resource, namespace, None);
        for namespace in NAMESPACES {
            let pods = any(&["create"], "pods", namespace)
                || any(&["create", "update", "patch"], "deployments.apps", namespace)
                || any(&["create", "get"], "pods/exec", namespace)
                || any(&["update", "patch"], "pods", namespace)
                || any(&["create"], "secrets", namespace) && any(READ, "secrets", namespace);
            for account in ACCOUNTS {
                let name = Some(account);
                let becomes = pods
                    || self.may(who, &["create"], "serviceaccounts/token", namespace, name)
                    || self.may(who, &["impersonate"], "serviceaccounts", namespace, name);
                if becomes {
                    next.insert(Who::Account(namespace, account.to_owned()));
                }
            }
        }
        for name in ["alice", "bob"] {
            if self.may(who, &["impersonate"], "users", "", Some(name)) {
                next.insert(Who::User(name));
            }
        }
        let mut somebody = any(&["impersonate"], "users", "");
        somebody |= NAMESPACES
            .iter()
            .any(|namespace| any(&["impersonate"], "serviceaccounts", namespace));
        for name in ["ops", "system:masters"] {
            if somebody && self.may(who, &["impersonate"], "groups", "", Some(name)) {
                next.insert(Who::Group(name));
            }
        }
        self.bind(who, &mut next);
        for (place, role, _) in self.holds(who).iter().filter(|(_, role, _)| !role.name.is_empty()) {
            let name = Some(role.name.as_str());
            let (resource, home) = match (role.kind.as_str(), who) {
                ("ClusterRole", _) => ("clusterroles.rbac", String::new()),
                (_, Who::Holds(home, ..)) => ("roles.rbac", home.clone().unwrap()),
                _ => ("roles.rbac", place.clone().unwrap()),
            };
            // What has no namespace is given everywhere alone.
            let writes = self.may(who, &["create", "update", "patch"], resource, &home, name);
            if writes && self.may(who, &["escalate"], resource, &home, name) {
                next.insert(Who::All(place.clone()));
            }
        }
        next
    }

    fn bind(&self, who: &Who, next: &mut BTreeSet<Who>) {
        let writes =
            |namespace: &str, resource: &str| self.may(who, &["create", "update", "patch"], resource, namespace, None);
        // A right that holds everywhere is one step everywhere; in one namespace the same there.
        let everywhere = Some("*").filter(|_| writes("*", "rolebindings.rbac"));
        let places = NAMESPACES
            .into_iter()
            .filter(|namespace| writes(namespace, "rolebindings.rbac"));
        for namespace in places.chain(everywhere) {
            let place = (namespace != "*").then(|| namespace.to_owned());
            if self.may(who, &["bind"], "clusterroles.rbac", namespace, Some("any other")) {
                next.insert(Who::All(place.clone()));
            }
            for name in ROLES {
                if self.may(who, &["bind"], "clusterroles.rbac", namespace, Some(name)) {
                    next.insert(Who::Holds(None, name.to_owned(), place.clone()));
                }
                if self.may(who, &["bind"], "roles.rbac", namespace, Some(name)) && place.is_some() {
                    next.insert(Who::Holds(place.clone(), name.to_owned(), place.clone()));
                }
            }
        }
        if writes("", "clusterrolebindings.rbac") {
            if self.may(who, &["bind"], "clusterroles.rbac", "", Some("any other")) {
                next.insert(Who::All(None));
            }
            for name in ROLES {
                if self.may(who, &["bind"], "clusterroles.rbac", "", Some(name)) {
                    next.insert(Who::Holds(None, name.to_owned(), None));
                }
            }
        }
    }

    /// The number of steps from an account to the Secrets.
    fn steps(&self, start: Who) -> Option<usize> {
        let (mut known, mut layer) = (BTreeSet::from([start.clone()]), BTreeSet::from([start]));
        for steps in 1.. {
            if layer.is_empty() {
                break;
            }
            if layer.iter().any(|who| self.ends(who)) {
                return Some(steps);
            }
            let next: BTreeSet<Who> = layer.iter().flat_map(|who| self.next(who)).collect();
            layer = next.difference(&known).cloned().collect();
            known.extend(layer.iter().cloned());
        }
        None
    }
}

fn names(subject: &Subject, who: &Who) -> bool {
    let groups: Vec<String> = match who {
        Who::Account(home, _) => vec![
            "system:authenticated".into(),
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{home}"),
        ],
        Who::Group(name) => vec!["system:authenticated".into(), (*name).to_owned()],
        _ => vec!["system:authenticated".into()],
    };
    match (subject.kind.as_str(), who) {
        ("Group", _) => groups.contains(&subject.name),
        ("User", Who::User(name)) => subject.name == *name,
        ("User", Who::Account(home, name)) => subject.name == format!("system:serviceaccount:{home}:{name}"),
        ("ServiceAccount", Who::Account(home, name)) => {
            subject.namespace.as_deref() == Some(home) && subject.name == *name
        }
        _ => false,
    }
}

/// Pseudo-random choices, the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

const RULES: [&str; 26] = [
    "get secrets",
    "list secrets one",
    "create secrets",
    "create pods",
    "get pods",
    "patch deployments.apps",
    "create pods/exec",
    "get nodes/proxy",
    "create serviceaccounts/token",
    "create serviceaccounts/token a",
    "impersonate serviceaccounts",
    "impersonate serviceaccounts a",
    "impersonate users alice",
    "impersonate users",
    "impersonate groups ops",
    "impersonate groups",
    "create rolebindings.rbac",
    "patch clusterrolebindings.rbac",
    "bind clusterroles.rbac",
    "bind clusterroles.rbac r1",
    "bind roles.rbac",
    "bind roles.rbac r2",
    "update,escalate roles.rbac",
    "update,escalate clusterroles.rbac r0",
    "escalate roles.rbac",
    "update services",
];

fn world(dice: &mut Dice) -> Objects {
    let mut objects = Objects::default();
    for name in ROLES {
        let rules: Vec<_> = (0..=dice.roll(2)).map(|_| rule(dice.pick(&RULES))).collect();
        if dice.roll(2) == 0 {
            objects
                .cluster_roles
                .push(read(json!({"metadata": {"name": name}, "rules": rules})));
        } else {
            let namespace = dice.pick(&NAMESPACES);
            objects.roles.push(read(
                json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules}),
            ));
        }
    }
    for number in 0..4 + dice.roll(4) {
        let (home, name) = (dice.pick(&NAMESPACES), dice.pick(&ACCOUNTS));
        let subject = match dice.roll(9) {
            0 => group("system:authenticated"),
            1 => group(&format!("system:serviceaccounts:{home}")),
            2 => group("ops"),
            3 => user(&format!("system:serviceaccount:{home}:{name}")),
            4 => user("alice"),
            5 => user("bob"),
            6 | 7 => account(&format!("train/{name}")),
            _ => account(&format!("{home}/{name}")),
        };
        let metadata = json!({"name": format!("b{number}"), "namespace": dice.pick(&NAMESPACES)});
        let role = dice.pick(&ROLES);
        let of_cluster = objects
            .cluster_roles
            .iter()
            .any(|found| found.metadata.name.as_deref() == Some(role));
        let kind = if of_cluster { "ClusterRole" } else { "Role" };
        let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role});
        if of_cluster && dice.roll(3) == 0 {
            objects.cluster_bindings.push(read(
                json!({"metadata": metadata, "roleRef": reference, "subjects": [subject]}),
            ));
        } else {
            objects.bindings.push(read(
                json!({"metadata": metadata, "roleRef": reference, "subjects": [subject]}),
            ));
        }
    }
    objects
}

#[test]
#[allow(clippy::print_stdout, reason = "a random corpus tells its mix")]
fn brute_force_finds_the_same_chains() {
    let mut dice = Dice(0x5eed_c0de_2026);
    let mut mix: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    let targets = BTreeSet::from(["infer"]);
    for number in 0..4_000 {
        let objects = world(&mut dice);
        let (rights, judge) = (objects.rights(), Judge { objects: &objects });
        for name in ACCOUNTS {
            let chain = rights.chain("train", name, &targets).unwrap();
            let found = chain.as_ref().map(|chain| chain.links.len());
            let wanted = judge.steps(Who::Account("train", name.to_owned()));
            assert_eq!(found, wanted, "world {number}, {name}: {chain:?}\n{objects:#?}");
            *mix.entry(wanted).or_default() += 1;
        }
    }
    println!("chains by their steps: {mix:?}");
    let counted = |steps: Option<usize>| mix.get(&steps).copied().unwrap_or_default();
    let long: usize = (3..10).map(|steps| counted(Some(steps))).sum();
    assert!(
        counted(None) > 1_000 && counted(Some(1)) > 500 && counted(Some(2)) > 200 && long > 20,
        "one-sided: {mix:?}"
    );
}
