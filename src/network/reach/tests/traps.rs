//! The traps of NetworkPolicy, one by one (`reference/network.md` §1), and what the verdict says in each.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::api::workload::Runtime::{Generic, VLLM};
use crate::network::policies;
use crate::network::reach::{Analysis, Isolation, analyse};
use crate::network::testkit::{policy, world};
use crate::network::world::World;

pub(super) fn cluster() -> World {
    let mut world = world();
    world
        .stage("vision-train", Training)
        .stage("vision-infer", Inference)
        .stage("mlops", Shared)
        .plain("portal", "team=web")
        .policy(
            "
services:
- {name: mlflow, to: {namespace: mlops, podLabels: {app: mlflow}}, ports: [{port: 5000}]}
sources:
- {name: edge, kind: Gateway, from: {namespace: portal, podLabels: {app: envoy}}}",
        )
        .workload(
            "vision-train",
            "w",
            Generic,
            "connectTo: [{service: mlflow}, {service: kubernetes-api}]",
        )
        .workload("vision-infer", "w", VLLM, "acceptFrom: [{source: edge}]");
    world
}

/// Our own policies and these: (namespace, name, spec).
pub(super) fn with(world: &World, others: &[(&str, &str, &str)]) -> Vec<NetworkPolicy> {
    let mut all = policies::all(world);
    all.extend(
        others
            .iter()
            .map(|(namespace, name, spec)| policy(namespace, name, spec)),
    );
    all
}

pub(super) fn verdicts(others: &[(&str, &str, &str)]) -> Analysis {
    let world = cluster();
    analyse(&world, &with(&world, others), &[])
}

pub(super) fn said(analysis: &Analysis, namespace: &str) -> String {
    match &analysis.namespaces[namespace] {
        Isolation::Isolated => "isolated".to_owned(),
        Isolation::Unknown { reason, message } => format!("{reason}: {message}"),
        Isolation::PathExists(witness) => witness.to_string(),
    }
}

pub(super) fn training(spec: &str) -> String {
    said(&verdicts(&[("vision-train", "other", spec)]), "vision-train")
}

pub(super) fn inference(spec: &str) -> String {
    said(&verdicts(&[("vision-infer", "other", spec)]), "vision-infer")
}

pub(super) const OPEN_INGRESS: (&str, &str, &str) = ("vision-infer", "open", "{podSelector: {}, ingress: [{}]}");

#[test]
fn what_we_render_isolates() {
    let analysis = verdicts(&[]);
    assert_eq!(
        analysis.namespaces.keys().collect::<Vec<_>>(),
        ["vision-infer", "vision-train"]
    );
    assert!(
        analysis
            .namespaces
            .values()
            .all(|verdict| *verdict == Isolation::Isolated),
        "{analysis:?}"
    );
    assert!(analysis.findings.is_empty());
}

#[test]
fn a_hostile_policy_is_found_before_any_pod_exists() {
    let hostile = (
        "vision-train",
        "hostile",
        "{podSelector: {matchLabels: {app: x}}, policyTypes: [Egress],
          egress: [{to: [{namespaceSelector: {matchExpressions:
            [{key: cloison.dev/stage, operator: NotIn, values: [training]}]}}]}]}",
    );
    let open = (
        "vision-infer",
        "open",
        "{podSelector: {matchLabels: {role: api}}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 8000}]}]}",
    );
    let analysis = verdicts(&[hostile, open]);
    // Without the far half: still a path, to where nothing isolates.
    insta::assert_snapshot!(said(&verdicts(&[hostile]), "vision-train"), @"a pod in vision-train with labels {app: x} can reach a pod in kube-system with labels {} on TCP 1-65535: allowed by vision-train/hostile egress[0].to[0] and kube-system by default (no policy isolates the pod)");
    insta::assert_snapshot!(said(&analysis, "vision-infer"), @"a pod in vision-train with labels {app: x} can reach a pod in vision-infer with labels {role: api} on TCP 8000: allowed by vision-train/hostile egress[0].to[0] and vision-infer/open ingress[0].from[0]");
    let world = cluster();
    let mut only_stages = world.clone();
    only_stages.namespaces.retain(|_, namespace| namespace.stage.is_some());
    let analysis = analyse(&only_stages, &with(&only_stages, &[hostile, open]), &[]);
    insta::assert_snapshot!(said(&analysis, "vision-train"), @"a pod in vision-train with labels {app: x} can reach a pod in vision-infer with labels {role: api} on TCP 8000: allowed by vision-train/hostile egress[0].to[0] and vision-infer/open ingress[0].from[0]");
}

#[test]
fn one_half_of_a_path_between_stages_is_no_path() {
    let to_inference = "{podSelector: {}, policyTypes: [Egress],
        egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: vision-infer}}}]}]}";
    assert_eq!(training(to_inference), "isolated");
    let both = verdicts(&[("vision-train", "other", to_inference), OPEN_INGRESS]);
    assert!(
        said(&both, "vision-train").starts_with("a pod in vision-train with labels {} can reach a pod in vision-infer")
    );
}

#[test]
fn ports_must_meet() {
    let half = |port: &str| {
        format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{port}],
              to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: vision-infer}}}}}}]}}]}}"
        )
    };
    let open = |port: &str| {
        format!(
            "{{podSelector: {{}}, ingress: [{{ports: [{port}],
              from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: vision-train}}}}}}]}}]}}"
        )
    };
    for (egress, ingress, ports) in [
        ("{port: 80}", "{port: 81}", None),
        ("{port: 80, protocol: UDP}", "{port: 80}", None),
        ("{port: 80, endPort: 90}", "{port: 90, endPort: 99}", Some("TCP 90")),
        ("{port: http}", "{port: 90}", Some("TCP 90")),
        ("{port: http}", "{port: metrics}", Some("TCP 1-65535")),
        ("{port: http, protocol: SCTP}", "{port: 90}", None),
        ("{protocol: UDP}", "{port: 53, protocol: UDP}", Some("UDP 53")),
    ] {
        let (egress, ingress) = (half(egress), open(ingress));
        let analysis = verdicts(&[("vision-train", "a", &egress), ("vision-infer", "b", &ingress)]);
        match ports {
            None => assert_eq!(said(&analysis, "vision-train"), "isolated", "{egress} {ingress}"),
            Some(ports) => assert!(said(&analysis, "vision-train").contains(&format!(" on {ports}: "))),
        }
    }
}

#[test]
fn missing_and_empty_peers_are_everyone_and_no_rule_is_no_one() {
    for open in [
        "ingress: [{}]",
        "ingress: [{from: []}]",
        "ingress: [{ports: [{port: 80}]}]",
        "egress: [{}], policyTypes: [Egress]",
    ] {
        let said = inference(&format!("{{podSelector: {{}}, {open}}}"));
        assert!(said.starts_with("a pod in "), "{open}: {said}");
    }
    for closed in [
        "ingress: []",
        "policyTypes: [Ingress]",
        "egress: [], policyTypes: [Ingress, Egress]",
    ] {
        assert_eq!(
            inference(&format!("{{podSelector: {{}}, {closed}}}")),
            "isolated",
            "{closed}"
        );
    }
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_where_there_are_rules() {
    let world = cluster();
    let bare = |spec: &str| {
        let mut all = policies::all(&world);
        let deny = |policy: &NetworkPolicy| policy.metadata.name.as_deref() == Some("cloison-ns-deny");
        all.retain(|policy| policy.metadata.namespace.as_deref() != Some("vision-train") || !deny(policy));
        all.push(policy("vision-train", "deny", spec));
        said(&analyse(&world, &all, &[]), "vision-train")
    };
    assert_eq!(bare("{podSelector: {}, policyTypes: [Ingress, Egress]}"), "isolated");
    // No types and no egress rules: egress is open.
    assert!(bare("{podSelector: {}}").contains("vision-train by default"));
    assert!(bare("{podSelector: {}, policyTypes: [Egress]}").contains("vision-train by default"));
    // No types and an egress rule: both are isolated.
    let own = "{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}";
    assert_eq!(bare(own), "isolated");
    // A rule in a direction that the types leave out is no rule.
    assert_eq!(
        bare("{podSelector: {}, policyTypes: [Ingress, Egress], egress: []}"),
        "isolated"
    );
    let unused = "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}";
    assert_eq!(inference(unused), "isolated");
}

#[test]
fn without_the_deny_a_namespace_is_not_isolated_by_default() {
    let world = cluster();
    let mut all = policies::all(&world);
    all.retain(|policy| {
        policy.metadata.name.as_deref() != Some("cloison-ns-deny")
            || policy.metadata.namespace.as_deref() != Some("vision-train")
    });
    let analysis = analyse(&world, &all, &[]);
    insta::assert_snapshot!(said(&analysis, "vision-train"), @"a pod in vision-train with labels {} can reach a pod in kube-system with labels {} on TCP 1-65535: allowed by vision-train by default (no policy isolates the pod) and kube-system by default (no policy isolates the pod)");
    assert_eq!(said(&analysis, "vision-infer"), "isolated");
    // Would-be mode: the deny is in the set.
    all.push(policies::deny("vision-train", Training));
    assert_eq!(said(&analyse(&world, &all, &[]), "vision-train"), "isolated");
}

#[test]
fn two_policies_that_leave_no_pod_out_isolate_as_well_as_one() {
    let world = cluster();
    let mut all = policies::all(&world);
    all.retain(|policy| {
        policy.metadata.name.as_deref() != Some("cloison-ns-deny")
            || policy.metadata.namespace.as_deref() != Some("vision-train")
    });
    let part = |operator: &str| {
        format!(
            "{{podSelector: {{matchExpressions: [{{key: a, operator: {operator}, values: [x]}}]}},
              policyTypes: [Ingress, Egress]}}"
        )
    };
    all.push(policy("vision-train", "one", &part("In")));
    assert!(said(&analyse(&world, &all, &[]), "vision-train").starts_with("a pod in"));
    all.push(policy("vision-train", "two", &part("NotIn")));
    assert_eq!(said(&analyse(&world, &all, &[]), "vision-train"), "isolated");
}

#[test]
fn not_in_matches_what_lacks_the_key() {
    let not_in = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions:
        [{key: team, operator: NotIn, values: [web]}]}}]}]}";
    // kube-system has no `team`.
    assert!(inference(not_in).starts_with("a pod in kube-system with labels {} can reach a pod in vision-infer"));
}

#[test]
fn a_forged_namespace_name_is_not_believed() {
    let mut world = cluster();
    let portal = world.namespaces.get_mut("portal").unwrap();
    portal
        .labels
        .insert("kubernetes.io/metadata.name".to_owned(), "vision-train".to_owned());
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels:
        {kubernetes.io/metadata.name: portal}}}]}]}";
    let analysis = analyse(&world, &with(&world, &[("vision-infer", "other", spec)]), &[]);
    assert!(said(&analysis, "vision-infer").starts_with("a pod in portal"));
}

#[test]
fn a_selector_that_contradicts_itself_opens_nothing() {
    let never = "{matchLabels: {a: x}, matchExpressions: [{key: a, operator: DoesNotExist}]}";
    assert_eq!(
        inference(&format!("{{podSelector: {never}, ingress: [{{}}]}}")),
        "isolated"
    );
    let from =
        format!("{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {{}}, podSelector: {never}}}]}}]}}");
    assert_eq!(inference(&from), "isolated");
}

#[test]
fn the_order_of_policies_changes_no_verdict() {
    let world = cluster();
    let mut all = with(
        &world,
        &[
            OPEN_INGRESS,
            (
                "vision-train",
                "out",
                "{podSelector: {}, policyTypes: [Egress], egress: [{}]}",
            ),
        ],
    );
    let first = analyse(&world, &all, &[]);
    all.reverse();
    assert_eq!(analyse(&world, &all, &[]), first);
    all.rotate_left(3);
    assert_eq!(analyse(&world, &all, &[]), first);
}
