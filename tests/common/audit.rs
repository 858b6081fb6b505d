//! What the API servers' audit logs say of the rights of a component: nothing it asked for was forbidden, and nothing is
//! granted that it never asked for, objects' names included.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeSet;

use cloison::admission::{Operator, Waived, generate};
use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::cluster::roles::{Component, Rule, Scope};
use cloison_testbed::ControlPlane;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

/// Group, resource with its subresource, verb.
pub type Right = (String, String, String);

/// A policy for API servers that log who asked for what.
pub fn policy() -> String {
    let rules = json!([{"level": "Metadata", "omitStages": ["RequestReceived"]}]);
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}).to_string()
}

/// The name of an account.
pub fn user(account: &str) -> String {
    format!("system:serviceaccount:{}:{account}", names::DEFAULT_NAMESPACE)
}

/// What an account asked for, by the audit logs of all API servers.
pub fn asked(plane: &ControlPlane, account: &str) -> Vec<Value> {
    let logs = plane
        .api_servers()
        .iter()
        .map(|server| std::fs::read_to_string(server.audit_log()).unwrap());
    let text: String = logs.collect();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // A watch that is still open has only started.
    let told = |event: &Value| event["stage"] == "ResponseComplete" || event["stage"] == "ResponseStarted";
    let theirs = |event: &Value| event["user"]["username"] == user(account) && told(event);
    events.filter(theirs).collect()
}

/// What a rule grants. No rule says `*`.
fn granted(rule: &Rule) -> Vec<Right> {
    let groups = if rule.urls.is_empty() {
        rule.groups.clone()
    } else {
        vec![""]
    };
    let mut granted = Vec::new();
    for group in &groups {
        for resource in rule.resources.iter().chain(&rule.urls) {
            for verb in &rule.verbs {
                assert!(
                    ![group, resource, verb].iter().any(|word| word.contains('*')),
                    "{rule:?} uses *"
                );
                granted.push(((*group).to_owned(), (*resource).to_owned(), (*verb).to_owned()));
            }
        }
    }
    granted
}

/// Rights on objects of which there is one by their definition, so that a name in the rule would limit nothing.
fn is_singleton(right: &Right) -> bool {
    let (group, resource, _) = right;
    group == names::GROUP && ["aisecuritypolicies/status", "secretencryptions/status"].contains(&resource.as_str())
}

/// Names of policies and bindings of ours that this version does not generate: kept for those that are to come, and to
/// remove what another version left. Nobody else's object has such a name.
fn is_reserved(rule: &Rule, name: &str) -> bool {
    let operator = Operator::in_namespace(names::DEFAULT_NAMESPACE);
    let set = generate(
        &AiSecurityPolicySpec::default(),
        &operator,
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    );
    let policies = set.policies.iter().map(ResourceExt::name_any);
    let bindings = set.bindings.iter().map(ResourceExt::name_any);
    let ours = rule.groups == ["admissionregistration.k8s.io"] && !policies.chain(bindings).any(|known| known == name);
    ours && names::ADMISSION_POLICIES.iter().any(|policy| name.starts_with(policy))
}

/// What is wrong with a rule, by the rights that were used where it holds, each with the object's name.
fn too_wide(rule: &Rule, used: &[(Right, String)], unused: &BTreeSet<Right>) -> Vec<String> {
    let mut wrong = Vec::new();
    let named = |name: &String| rule.names.is_empty() || rule.names.contains(name);
    for right in granted(rule).into_iter().filter(|right| !unused.contains(right)) {
        let uses = used.iter().filter(|(known, name)| *known == right && named(name));
        let objects: BTreeSet<&String> = uses.map(|(_, name)| name).collect();
        // A list has no name, and a post's cannot be in a rule.
        let can_name = ["get", "patch", "update", "delete"].contains(&right.2.as_str()) && rule.urls.is_empty();
        if objects.is_empty() {
            wrong.push(format!("{right:?} was never used"));
        } else if rule.names.is_empty() && can_name && objects.len() == 1 && !is_singleton(&right) {
            wrong.push(format!(
                "{right:?} is for every object, and was used on {objects:?} alone"
            ));
        }
    }
    let rights = granted(rule);
    if rights.iter().all(|right| unused.contains(right)) {
        return wrong;
    }
    let touched = |name: &&String| {
        used.iter()
            .any(|(right, object)| rights.contains(right) && object == *name)
    };
    let idle = rule
        .names
        .iter()
        .filter(|name| !touched(name) && !is_reserved(rule, name));
    wrong.extend(idle.map(|name| format!("{:?} named {name:?} were never used", rule.resources)));
    wrong
}

/// As roles name it: group, resource with subresource, verb; with the object's name. An apply that made the object used
/// `create` too.
fn rights(event: &Value) -> Vec<(Right, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    if object.is_null() {
        let path = text(&event["requestURI"]);
        let path = path.split('?').next().unwrap_or_default().to_owned();
        return vec![((String::new(), path, text(&event["verb"])), String::new())];
    }
    let mut resource = text(&object["resource"]);
    if let Some(subresource) = object["subresource"].as_str() {
        resource = format!("{resource}/{subresource}");
    }
    let verb = text(&event["verb"]);
    let (group, name) = (text(&object["apiGroup"]), text(&object["name"]));
    let mut rights = vec![((group.clone(), resource.clone(), verb.clone()), name.clone())];
    if verb == "patch" && event["responseStatus"]["code"] == 201 {
        rights.push(((group, resource, "create".to_owned()), name));
    }
    rights
}

/// What is wrong with the rights of a component. `unused` are needed all the same.
pub fn problems(plane: &ControlPlane, component: &Component, unused: &BTreeSet<Right>) -> Vec<String> {
    let mut wrong = Vec::new();
    let events = asked(plane, component.account);
    let let_through: BTreeSet<(Right, String)> = events
        .iter()
        .filter(|event| event["annotations"]["authorization.k8s.io/decision"] == "allow")
        .flat_map(rights)
        .collect();
    for event in &events {
        let refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
        // An API server that has just started knows no role yet, and refuses what it lets through a moment later.
        if refused && rights(event).iter().all(|right| let_through.contains(right)) {
            continue;
        }
        let code = event["responseStatus"]["code"].as_i64().unwrap_or_default();
        // What the canary tries must be refused: by our policies, not for want of a right.
        if refused || code == 401 || code == 403 && component.account == names::CONTROLLER_ACCOUNT {
            let message = &event["responseStatus"]["message"];
            wrong.push(format!(
                "{}: {} {} was refused: {message}",
                component.name, event["verb"], event["requestURI"]
            ));
        }
    }
    for grant in &component.grants {
        let within = match grant.scope {
            Scope::Cluster => None,
            Scope::Operator => Some(names::DEFAULT_NAMESPACE),
            Scope::Namespace(name) => Some(name),
        };
        let here = |event: &&Value| within.is_none_or(|within| event["objectRef"]["namespace"] == within);
        let used: Vec<(Right, String)> = events.iter().filter(here).flat_map(rights).collect();
        for problem in grant.rules.iter().flat_map(|rule| too_wide(rule, &used, unused)) {
            wrong.push(format!("{}, {}: {problem}", component.name, grant.name));
        }
    }
    wrong
}
