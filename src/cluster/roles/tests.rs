use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Rule, Scope, components, loan, people};
use crate::admission::{Operator, Waived, generate};
use crate::api::names::{
    CANARY_NAMESPACE, CANARY_SECRET, CONTROLLER_ROLE, PACKETS_NAMESPACES, SWEEPER_READS_ROLE, SWEEPER_ROLE,
    SWEEPER_ROLES, WEBHOOK_SECRET,
};
use crate::api::policy::AiSecurityPolicySpec;

/// Every rule with the name of the role it is in.
fn all_rules() -> Vec<(String, Scope, Rule)> {
    let mut all = Vec::new();
    for component in components() {
        for grant in component.grants {
            all.extend(
                grant
                    .rules
                    .into_iter()
                    .map(|rule| (grant.name.to_owned(), grant.scope, rule)),
            );
        }
    }
    for role in people() {
        all.extend(
            role.rules
                .into_iter()
                .map(|rule| (role.name.to_owned(), Scope::Cluster, rule)),
        );
    }
    assert!(all.len() > 30, "the list is not the list of all rules: {}", all.len());
    all
}

#[test]
fn no_rule_has_a_wildcard() {
    for (role, _, rule) in all_rules() {
        let words = rule
            .groups
            .iter()
            .chain(&rule.resources)
            .chain(&rule.verbs)
            .chain(&rule.urls);
        for word in words.copied().chain(rule.names.iter().map(String::as_str)) {
            assert!(!word.contains('*'), "{role}: {word}");
        }
    }
}

#[test]
fn no_rule_lets_anybody_become_somebody_else() {
    for (role, scope, rule) in all_rules() {
        // Where it is let, the controller lends one role for each reason, and can neither bind nor write any other.
        let lends = (role == "cloison-lender" && rule.names == [SWEEPER_READS_ROLE])
            || (role == "cloison-rotator" && rule.names == [SWEEPER_ROLE]);
        let takes_back = role == CONTROLLER_ROLE && rule.names == SWEEPER_ROLES && rule.verbs == ["get", "delete"];
        for verb in &rule.verbs {
            assert!(!["escalate", "impersonate"].contains(verb), "{role}: {verb}");
            assert!(*verb != "bind" || lends, "{role}: {verb}");
        }
        let rbac = rule.groups.contains(&"rbac.authorization.k8s.io");
        let reads = rule.verbs.iter().all(|verb| ["get", "list", "watch"].contains(verb));
        // Where nothing else is, and never a right that it does not hold: the API server sees to that.
        let tries = scope == Scope::Namespace(CANARY_NAMESPACE) && rule.verbs == ["create"];
        assert!(
            !rbac || reads || lends || takes_back || tries,
            "{role} writes RBAC objects"
        );
    }
}

#[test]
fn two_secrets_of_our_own_are_all_that_is_in_lasting_reach() {
    let mut holders = Vec::new();
    for (role, scope, rule) in all_rules() {
        if rule
            .resources
            .iter()
            .any(|resource| resource.split('/').next() == Some("secrets"))
        {
            if SWEEPER_ROLES.contains(&&*role) {
                // Bound by nobody but for the time of a sweep.
                assert!(
                    !rule
                        .verbs
                        .iter()
                        .any(|verb| ["create", "update", "delete", "watch"].contains(verb))
                );
                continue;
            }
            if scope == Scope::Namespace(CANARY_NAMESPACE) {
                // Where nothing else is, and what it makes there it cannot read.
                assert_eq!(rule.verbs, ["create"], "{role}");
                continue;
            }
            let own = if role == "cloison-webhook" {
                WEBHOOK_SECRET
            } else {
                CANARY_SECRET
            };
            assert_eq!(rule.names, [own], "{role}");
            assert_eq!(scope, Scope::Operator, "{role}");
            holders.push(role);
        }
    }
    assert_eq!(holders, ["cloison-canary-secret", "cloison-webhook"]);
}

#[test]
fn nothing_that_runs_code_is_within_a_components_rights() {
    for component in components() {
        for grant in component.grants {
            for rule in &grant.rules {
                let runs = [
                    "pods/exec",
                    "pods/attach",
                    "pods/portforward",
                    "pods/ephemeralcontainers",
                    "nodes/proxy",
                ];
                assert!(!rule.resources.iter().any(|r| runs.contains(r)), "{}", grant.name);
                let creates_pods = rule.resources.contains(&"pods") && rule.verbs.contains(&"create");
                // A namespace of its own, where nothing else is; the packet canary's by the pod's name.
                let canary = match grant.scope {
                    Scope::Namespace(name) if PACKETS_NAMESPACES.contains(&name) => rule.names.len() == 1,
                    scope => scope == Scope::Namespace(CANARY_NAMESPACE),
                };
                assert!(!creates_pods || canary, "{}", grant.name);
            }
        }
    }
}

#[test]
fn the_role_names_every_admission_object_that_is_generated() {
    let spec = AiSecurityPolicySpec::default();
    let set = generate(
        &spec,
        &Operator::in_namespace("cloison-system"),
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    );
    let writable = |resource: &str| -> BTreeSet<String> {
        let rules = all_rules().into_iter().map(|(_, _, rule)| rule);
        let named = rules.filter(|rule| rule.resources == [resource] && rule.verbs.contains(&"create"));
        named.flat_map(|rule| rule.names).collect()
    };
    let policies: BTreeSet<String> = set.policies.iter().map(ResourceExt::name_any).collect();
    let bindings: BTreeSet<String> = set.bindings.iter().map(ResourceExt::name_any).collect();
    assert!(!policies.is_empty() && !bindings.is_empty());
    let missing = |wanted: &BTreeSet<String>, resource| -> Vec<String> {
        wanted.difference(&writable(resource)).cloned().collect()
    };
    assert_eq!(missing(&policies, "validatingadmissionpolicies"), [""; 0]);
    assert_eq!(missing(&bindings, "validatingadmissionpolicybindings"), [""; 0]);
}

#[test]
fn every_rule_says_why_and_what() {
    for (role, _, rule) in all_rules() {
        assert!(rule.why.len() > 10, "{role}: {rule:?}");
        assert!(!rule.why.ends_with('.'), "{role}: {rule:?}");
        assert!(!rule.verbs.is_empty(), "{role}: {rule:?}");
        assert_ne!(rule.urls.is_empty(), rule.resources.is_empty(), "{role}: {rule:?}");
        assert_eq!(rule.groups.is_empty(), rule.resources.is_empty(), "{role}: {rule:?}");
    }
}

#[test]
fn role_names_are_unique_in_whatever_namespace_the_release_is() {
    for operator in [
        "cloison-system",
        "default",
        "kube-system",
        "cloison-canary",
        "cloison-packets-client",
    ] {
        let mut seen = BTreeSet::new();
        for object in components().iter().flat_map(|component| component.objects(operator)) {
            let key = (
                object["kind"].to_string(),
                object["metadata"]["namespace"].to_string(),
                object["metadata"]["name"].to_string(),
            );
            assert!(seen.insert(key.clone()), "{key:?}");
        }
    }
}

#[test]
fn bindings_point_at_the_role_beside_them() {
    for component in components() {
        if component.lent {
            continue;
        }
        for pair in component.objects("somewhere").chunks(2) {
            assert_eq!(pair.len(), 2);
            let (role, binding) = (&pair[0], &pair[1]);
            assert_eq!(binding["roleRef"]["kind"], role["kind"]);
            assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
            assert_eq!(binding["metadata"]["namespace"], role["metadata"]["namespace"]);
            assert_eq!(binding["subjects"][0]["name"], component.account);
            assert_eq!(binding["subjects"][0]["namespace"], "somewhere");
        }
    }
}

#[test]
fn a_role_that_is_lent_is_bound_by_its_loan_alone() {
    let lent: Vec<_> = components().into_iter().filter(|component| component.lent).collect();
    let [sweeper] = &lent[..] else { panic!("{lent:?}") };
    let names: Vec<&str> = sweeper.grants.iter().map(|grant| grant.name).collect();
    assert_eq!(names, SWEEPER_ROLES);
    for object in sweeper.objects("somewhere") {
        assert_eq!(object["kind"], "ClusterRole");
        let name = object["metadata"]["name"].as_str().unwrap();
        let loan = loan(name, "somewhere");
        assert_eq!(
            (&loan["metadata"]["name"], &loan["roleRef"]["name"]),
            (&object["metadata"]["name"], &object["metadata"]["name"])
        );
        let subject =
            serde_json::json!([{"kind": "ServiceAccount", "name": sweeper.account, "namespace": "somewhere"}]);
        assert_eq!(loan["subjects"], subject);
    }
}

#[test]
fn people_roles_are_sorted_and_only_tenant_roles_aggregate() {
    let names: Vec<_> = people().iter().map(|role| role.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    for role in people().iter().filter(|role| !role.aggregate_to.is_empty()) {
        let resources: BTreeSet<_> = role.rules.iter().flat_map(|rule| &rule.resources).collect();
        assert_eq!(resources, BTreeSet::from([&"aiworkloads"]), "{}", role.name);
    }
}

#[test]
fn an_approver_cannot_ask_and_an_admin_cannot_approve() {
    let verbs = |role: &str, resource: &str| -> BTreeSet<&str> {
        people()
            .into_iter()
            .filter(|r| r.name == role)
            .flat_map(|r| r.rules)
            .filter(|rule| rule.resources.contains(&resource))
            .flat_map(|rule| rule.verbs)
            .collect()
    };
    assert!(!verbs("cloison-approver", "waivers").contains("create"));
    assert!(verbs("cloison-approver", "waivers/status").contains("update"));
    assert!(verbs("cloison-admin", "waivers").contains("create"));
    assert!(verbs("cloison-admin", "waivers/status").is_empty());
}
