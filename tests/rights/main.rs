//! Rule 10: every component holds exactly the rights it uses. The API server's audit log of a whole story is compared with
//! the roles, objects' names included: nothing was forbidden, and nothing is granted that nobody asked for.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../common/operator.rs"]
mod operator;
mod story;

use std::collections::BTreeSet;

use cloison::admission::{Operator, generate};
use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::cluster::roles::{Rule, Scope, components};
use cloison::network::foreign::FOREIGN_KINDS;
use cloison_testbed::ControlPlane;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use story::{planes, story};

/// Group, resource with its subresource, verb.
type Right = (String, String, String);

/// Rights that this story does not use, each with the reason why they are needed all the same.
fn unused() -> BTreeSet<Right> {
    let mut unused = BTreeSet::new();
    for kind in FOREIGN_KINDS.iter().filter(|kind| !kind.is_modelled()) {
        // Asked only where the kind is served; nothing serves it here.
        unused.insert((kind.group.to_owned(), kind.plural.to_owned(), "list".to_owned()));
    }
    unused.extend(
        [
            // A version that no longer generates one of its policies removes it; this one generates all it knows.
            ("admissionregistration.k8s.io", "validatingadmissionpolicies", "delete"),
            (
                "admissionregistration.k8s.io",
                "validatingadmissionpolicybindings",
                "delete",
            ),
            // Asked by the API server itself while it judges a binding, so no request shows it.
            ("rbac.authorization.k8s.io", "clusterroles", "bind"),
            // An event that is told again word for word within six minutes is counted up; nothing here is.
            ("events.k8s.io", "events", "patch"),
        ]
        .map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned())),
    );
    unused
}

fn user(account: &str) -> String {
    format!("system:serviceaccount:{}:{account}", names::DEFAULT_NAMESPACE)
}

/// What an account asked for, by the audit logs of all API servers.
fn asked(plane: &ControlPlane, account: &str) -> Vec<Value> {
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
    let set = generate(&AiSecurityPolicySpec::default(), &operator, Timestamp::UNIX_EPOCH);
    let policies = set.policies.iter().map(ResourceExt::name_any);
    let bindings = set.bindings.iter().map(ResourceExt::name_any);
    let ours = rule.groups == ["admissionregistration.k8s.io"] && !policies.chain(bindings).any(|known| known == name);
    ours && names::ADMISSION_POLICIES.iter().any(|policy| name.starts_with(policy))
}

/// What is wrong with a rule, by the rights that were used where it holds, each with the object's name.
fn too_wide(rule: &Rule, used: &[(Right, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let named = |name: &String| rule.names.is_empty() || rule.names.contains(name);
    for right in granted(rule).into_iter().filter(|right| !unused().contains(right)) {
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
    if rights.iter().all(|right| unused().contains(right)) {
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

#[tokio::test(flavor = "multi_thread")]
async fn every_component_holds_what_it_uses_and_nothing_else() {
    let plane = planes().await;
    story(&plane).await;
    let mut wrong = Vec::new();
    // Agents, and the rotation that follows what they say, have a story of their own: there is no control-plane node here.
    let elsewhere = ["agent", "rotator"];
    for component in components()
        .into_iter()
        .filter(|component| !elsewhere.contains(&component.name))
    {
        let events = asked(&plane, component.account);
        for event in &events {
            let refused = event["annotations"]["authorization.k8s.io/decision"] == "forbid";
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
            for problem in grant.rules.iter().flat_map(|rule| too_wide(rule, &used)) {
                wrong.push(format!("{}, {}: {problem}", component.name, grant.name));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    // Neither is anybody's master.
    let admin = plane.admin().unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(admin);
    for component in components() {
        let review = serde_json::from_value(json!({
            "metadata": {},
            "spec": {
                "user": user(component.account), "groups": ["system:serviceaccounts", "system:authenticated"],
                "resourceAttributes": {"group": "*", "resource": "*", "verb": "*"},
            },
        }));
        let answer = reviews.create(&PostParams::default(), &review.unwrap()).await.unwrap();
        assert!(!answer.status.unwrap().allowed, "{} may do everything", component.name);
        for event in asked(&plane, component.account) {
            let groups = event["user"]["groups"].to_string();
            assert!(!groups.contains("system:masters"), "{}: {groups}", component.name);
        }
    }
}
