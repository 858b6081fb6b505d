//! Requests about NetworkPolicies of tenants.

use super::*;

#[test]
fn a_namespace_that_is_new_is_looked_up() {
    let policy = json!({"metadata": {"name": "own", "namespace": "new"}, "spec": {"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}});
    let request = request(&body(TENANT, "new", "CREATE", &policy, &Value::Null));
    let asked = needs(&request, &sight());
    assert_eq!(asked, [Lookup::Namespace("new".to_owned())]);
    let with = |found: Found| review(&request, &sight(), &LookedUp::from([(asked[0].clone(), found)]), now());
    let training = Namespace {
        name: "new".to_owned(),
        stage: Some(Training),
        mode: Mode::Enforce,
        ..Namespace::default()
    };
    assert_eq!(with(Found::Namespace(Some(training))), Answer::default());
    assert!(
        !with(Found::Failed("503".to_owned())).allows(),
        "a gate stays shut when nothing is known"
    );
    assert!(
        with(Found::Namespace(None)).allows(),
        "nobody can create anything in it"
    );
    assert!(
        !review(&request, &sight(), &LookedUp::new(), now()).allows(),
        "nobody looked"
    );
}

fn tenant(namespace: &str, spec: &str, old: Option<&str>) -> Answer {
    let object = |spec: &str| {
        let policy = crate::network::testkit::policy(namespace, "own", spec);
        let mut value = serde_json::to_value(policy).unwrap();
        value["apiVersion"] = json!("networking.k8s.io/v1");
        value["kind"] = json!("NetworkPolicy");
        value
    };
    let (operation, old) = old.map_or(("CREATE", Value::Null), |old| ("UPDATE", object(old)));
    judged(&body(TENANT, namespace, operation, &object(spec), &old), &sight())
}

const HALF: &str = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: infer}}}]}]}";
const OWN: &str = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}";

#[test]
fn a_policy_that_opens_half_a_path_is_refused_with_the_counterexample() {
    assert_eq!(tenant("train", OWN, None), Answer::default());
    let refused = tenant("train", HALF, None);
    assert_eq!(rules(&refused), ["NET-10/opens-path"]);
    let finding = &refused.refused[0];
    assert_eq!(
        finding.at.as_ref().unwrap().field.as_deref(),
        Some("spec.egress[0].to[0]")
    );
    insta::assert_snapshot!(finding.message, @"train/own egress[0].to[0] lets pods of train reach pods in infer, which is of stage inference");
    // Its update is judged by the peers that it adds.
    assert_eq!(tenant("train", HALF, Some(HALF)), Answer::default());
    let more = HALF.replace("to: [", "to: [{podSelector: {}}, ");
    assert_eq!(tenant("train", &more, Some(HALF)), Answer::default());
    assert_eq!(rules(&tenant("train", &more, Some(OWN))), ["NET-10/opens-path"]);
    let other_pods = HALF.replace(
        "podSelector: {}, policyTypes",
        "podSelector: {matchLabels: {a: b}}, policyTypes",
    );
    assert_eq!(
        rules(&tenant("train", &other_pods, Some(HALF))),
        ["NET-10/opens-path"],
        "for other pods"
    );
    let everybody = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
    assert_eq!(rules(&tenant("train", everybody, Some(HALF))), ["NET-10/opens-path"]);
    assert_eq!(tenant("train", everybody, Some(everybody)), Answer::default());
}

#[test]
fn without_the_organisations_policy_nothing_is_decided_about_tenants_policies() {
    let mut sight = sight();
    sight.policy_missing = true;
    let policy = serde_json::to_value(crate::network::testkit::policy("train", "own", HALF)).unwrap();
    assert!(!judged(&body(TENANT, "train", "CREATE", &policy, &Value::Null), &sight).allows());
}
