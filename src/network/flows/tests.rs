mod ends;
mod waivers;

use super::*;
use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::api::stage::Stage;
use crate::api::workload::Runtime::{Generic, KServe, Notebook, PyTorch, Ray, VLLM};
use crate::network::rules;
use crate::network::testkit::world;

const CATALOGUE: &str = "
services:
- {name: mlflow, to: {namespace: mlops, podLabels: {app: mlflow}}, ports: [{port: 5000}]}
- {name: object-store, to: {namespace: minio}, ports: [{port: 9000}, {port: 9443}]}
- {name: hf-hub, to: {fqdns: [huggingface.co]}, ports: [{port: 443}]}
- {name: licences, to: {cidrs: [203.0.113.0/24, 198.51.0.0/16]}, ports: [{port: 27000, endPort: 27009}], stages: [Training]}
- {name: lake, to: {cidrs: [10.0.0.0/8]}, ports: [{port: 443}]}
- {name: internet, to: {cidrs: [0.0.0.0/0]}, ports: [{port: 443}]}
- {name: feature-store, to: {namespace: vision-train}, ports: [{port: 6379}]}
- {name: gone, to: {namespace: nowhere}, ports: [{port: 1}]}
- {name: otlp, to: {namespace: mlops, podLabels: {app: otel}}, ports: [{port: 4317}], automatic: true, stages: [Inference]}
sources:
- {name: edge, kind: Gateway, from: {namespace: gateway}}
- {name: prometheus, kind: Scraper, from: {namespace: monitoring}, automatic: true}
- {name: kuberay, kind: Controller, from: {namespace: kuberay}, automatic: true}
- {name: corporate, kind: Gateway, from: {cidrs: [203.0.113.0/24]}, ports: [{port: 8080}]}
- {name: trainers, kind: Controller, from: {namespace: vision-train}, ports: [{port: 1}]}
- {name: machines, kind: Scraper, from: {nodes: {}}}
";

fn cluster() -> World {
    let mut world = world();
    world
        .stage("vision-train", Training)
        .stage("nlp-train", Training)
        .stage("vision-eval", Evaluation)
        .stage("vision-infer", Inference)
        .stage("mlops", Shared)
        .plain("minio", "")
        .plain("gateway", "")
        .plain("monitoring", "")
        .plain("kuberay", "")
        .policy(CATALOGUE);
    world
}

/// The flows of one workload of stage training, written as YAML.
fn training(network: &str) -> (World, Flows) {
    let mut world = cluster();
    world.workload("vision-train", "w", Generic, network);
    let flows = resolve(&world, world.get("vision-train", "w"));
    (world, flows)
}

fn state<'a>(flows: &'a Flows, name: &str) -> (FlowState, &'a str) {
    let found = flows.statuses.iter().find(|status| status.name == name);
    let found = found.unwrap_or_else(|| panic!("no flow {name} in {:?}", flows.statuses));
    (found.state, &found.message)
}

fn rules_of(flows: &Flows) -> Vec<String> {
    let mut rules: Vec<String> = flows.findings.iter().map(|finding| finding.rule.to_string()).collect();
    rules.sort();
    rules
}

#[test]
fn a_service_in_a_shared_namespace_opens() {
    let (_, flows) = training("connectTo: [{service: mlflow}]");
    assert_eq!(state(&flows, "service mlflow"), (FlowState::Open, ""));
    assert_eq!(flows.egress.len(), 1);
    assert_eq!(flows.egress[0].ports.to_string(), "TCP 5000");
}

#[test]
fn a_service_without_a_stage_opens_on_this_side_and_says_so() {
    let (_, flows) = training("connectTo: [{service: object-store}]");
    let (open, message) = state(&flows, "service object-store");
    assert_eq!(open, FlowState::Open);
    assert!(message.contains("this side only"), "{message}");
}

#[test]
fn an_unknown_service_is_named_with_the_nearest_one() {
    let (_, flows) = training("connectTo: [{service: mlfow}, {service: mlflow}]");
    let (unresolved, message) = state(&flows, "service mlfow");
    assert_eq!(unresolved, FlowState::Unresolved);
    assert_eq!(
        message,
        "unknown service \"mlfow\"; did you mean \"mlflow\"? (kubectl cloison catalogue)"
    );
    assert_eq!(state(&flows, "service mlflow").0, FlowState::Open, "nothing lost");
    let unknown = flows
        .findings
        .iter()
        .find(|finding| finding.rule == rules::UNKNOWN_SERVICE);
    let at = unknown.and_then(|finding| finding.at.as_ref()).map(ToString::to_string);
    assert_eq!(at.as_deref(), Some("spec.network.connectTo[0]"));
}

#[test]
fn host_names_are_reported_and_never_widened() {
    let (_, flows) = training("connectTo: [{service: hf-hub}]");
    assert_eq!(state(&flows, "service hf-hub").0, FlowState::Unresolved);
    assert!(rules_of(&flows).contains(&"NET-04/fqdn-unsupported".to_owned()));
    assert!(flows.egress.is_empty());
}

#[test]
fn a_service_of_another_stage_or_of_the_same_one_is_refused() {
    let (mut world, flows) = training("connectTo: [{service: feature-store}]");
    assert_eq!(state(&flows, "service feature-store").0, FlowState::Refused);
    assert!(rules_of(&flows).contains(&rules::SERVICE_IN_STAGE.to_string()));
    world.workload(
        "vision-infer",
        "x",
        VLLM,
        "connectTo: [{service: feature-store}, {service: licences}]",
    );
    let flows = resolve(&world, world.get("vision-infer", "x"));
    assert_eq!(state(&flows, "service feature-store").0, FlowState::Refused);
    assert_eq!(state(&flows, "service licences").0, FlowState::Refused);
    assert_eq!(rules_of(&flows), ["NET-03/cross-stage", "NET-04/stage"]);
}

#[test]
fn the_clusters_ranges_are_cut_out_of_a_wide_network_of_the_admin() {
    let (_, flows) = training("connectTo: [{service: lake}, {service: internet}]");
    assert_eq!(state(&flows, "service internet").0, FlowState::Refused);
    let expected = Peer::Network {
        cidr: "10.0.0.0/8".parse().unwrap(),
        except: vec!["10.96.0.0/12".parse().unwrap(), "10.244.0.0/16".parse().unwrap()],
    };
    assert_eq!(flows.egress[0].peers, [expected]);
}

#[test]
fn kubernetes_api_is_the_addresses_of_the_api_servers_and_their_ports() {
    let (mut world, flows) = training("connectTo: [{service: kubernetes-api}]");
    assert_eq!(state(&flows, "service kubernetes-api"), (FlowState::Open, ""));
    let ports: Vec<String> = flows.egress.iter().map(|opening| opening.ports.to_string()).collect();
    assert_eq!(ports, ["TCP 443", "TCP 6443"]);
    world.cluster.api_servers.clear();
    let flows = resolve(&world, world.get("vision-train", "w"));
    assert_eq!(state(&flows, "service kubernetes-api").0, FlowState::Unresolved);
}

#[test]
fn networks_are_judged_one_by_one() {
    let (_, flows) = training(
        "connectTo:
- {cidr: 203.0.113.0/24, ports: [{port: 443}]}
- {cidr: 0.0.0.0/0, ports: [{port: 443}]}
- {cidr: '::/0', ports: [{port: 443}]}
- {cidr: 11.0.0.0/8, ports: [{port: 443}]}
- {cidr: 203.0.113.9/24, ports: [{port: 443}]}
- {cidr: 10.244.7.0/24, ports: [{port: 443}]}
- {cidr: 169.254.169.254/32, ports: [{port: 80}]}
- {cidr: 192.168.7.2/32, ports: [{port: 6443}]}
- {cidr: 'fd12:3456::/32', ports: [{port: 443}]}
- {cidr: everything, ports: [{port: 443}]}
- {cidr: 203.0.114.0/24, ports: [{port: 0}]}",
    );
    assert_eq!(state(&flows, "cidr 203.0.113.0/24"), (FlowState::Open, ""));
    let refused: Vec<(&str, &str)> = [
        (
            "cidr 0.0.0.0/0",
            "egress \"0.0.0.0/0\" is every address there is; name a catalogue service instead",
        ),
        (
            "cidr ::/0",
            "egress \"::/0\" is every address there is; name a catalogue service instead",
        ),
        (
            "cidr 11.0.0.0/8",
            "egress \"11.0.0.0/8\" is wider than the policy allows (/16); name a catalogue service instead",
        ),
        (
            "cidr 203.0.113.9/24",
            "egress \"203.0.113.9/24\" has host bits; write 203.0.113.0/24",
        ),
        (
            "cidr everything",
            "egress \"everything\" is not a network; write one such as 10.20.0.0/16",
        ),
        (
            "cidr fd12:3456::/32",
            "egress \"fd12:3456::/32\" is wider than the policy allows (/48); name a catalogue service instead",
        ),
    ]
    .into();
    for (name, message) in refused {
        assert_eq!(state(&flows, name), (FlowState::Refused, message));
    }
    for name in [
        "cidr 10.244.7.0/24",
        "cidr 169.254.169.254/32",
        "cidr 192.168.7.2/32",
        "cidr 203.0.114.0/24",
    ] {
        assert_eq!(state(&flows, name).0, FlowState::Refused, "{name}");
    }
    let mut rules = rules_of(&flows);
    rules.sort();
    rules.dedup();
    assert_eq!(
        rules,
        [
            "NET-04/any-address",
            "NET-04/cidr",
            "NET-04/cidr-in-cluster",
            "NET-04/cidr-width",
            "NET-04/port",
            "NET-05/api-server",
            "NET-05/metadata",
            "NET-06/metrics-port",
        ]
    );
    assert_eq!(flows.egress.len(), 1);
}

#[test]
fn the_way_in_has_the_same_bounds_under_the_other_control() {
    let mut world = cluster();
    world.workload(
        "vision-infer",
        "w",
        VLLM,
        "acceptFrom: [{cidr: 203.0.113.0/24}, {cidr: 0.0.0.0/0}, {cidr: 11.0.0.0/8}, {cidr: 10.244.0.0/16}]",
    );
    let flows = resolve(&world, world.get("vision-infer", "w"));
    assert_eq!(state(&flows, "cidr 203.0.113.0/24").0, FlowState::Open);
    assert_eq!(
        rules_of(&flows),
        ["NET-06/any-address", "NET-06/cidr-in-cluster", "NET-06/cidr-width"]
    );
    let (external, _): (Vec<&Opening>, Vec<_>) = flows
        .ingress
        .iter()
        .partition(|opening| opening.name.starts_with("cidr"));
    assert_eq!(external[0].ports.to_string(), "TCP 8000", "the runtime's serving port");
}

#[test]
fn two_entries_about_one_end_are_one_flow() {
    let mut world = cluster();
    world.workload(
        "vision-infer",
        "w",
        Notebook,
        "connectTo:
- {cidr: 203.0.113.0/24, ports: [{port: 1}]}
- {cidr: 203.0.113.0/24, ports: [{port: 2}]}
acceptFrom: [{source: edge}, {source: edge, ports: [{port: 9}]}]",
    );
    let flows = resolve(&world, world.get("vision-infer", "w"));
    assert_eq!(flows.egress[0].ports.to_string(), "TCP 1-2");
    assert_eq!(
        flows
            .statuses
            .iter()
            .filter(|status| status.name == "source edge")
            .count(),
        1
    );
    // A status is a map by direction and name: a second line would be refused by the API server.
    let mut keys: Vec<_> = flows
        .statuses
        .iter()
        .map(|status| (status.direction, &status.name))
        .collect();
    let before = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), before);
}

#[test]
fn an_entry_that_is_not_one_thing_closes_only_itself() {
    let (_, flows) =
        training("connectTo: [{}, {service: mlflow, cidr: 1.2.3.0/24}, {service: mlflow}, {service: gone}]");
    assert_eq!(state(&flows, "connectTo[0]").0, FlowState::Refused);
    assert_eq!(state(&flows, "connectTo[1]").0, FlowState::Refused);
    assert_eq!(state(&flows, "service mlflow").0, FlowState::Open);
    assert_eq!(state(&flows, "service gone").0, FlowState::Unresolved);
}

#[test]
fn a_status_holds_sixty_four_flows_and_drops_automatic_ones_first() {
    let mut world = cluster();
    let many = |field: &str| {
        let one = |index| format!("{{cidr: 203.0.{index}.0/24, ports: [{{port: 1}}]}}");
        let entries: Vec<String> = (0..32).map(one).collect();
        format!("{field}: [{}]\n", entries.join(","))
    };
    world.workload("vision-infer", "w", VLLM, &(many("connectTo") + &many("acceptFrom")));
    let flows = resolve(&world, world.get("vision-infer", "w"));
    assert_eq!(flows.statuses.len(), 64);
    assert!(flows.statuses.iter().all(|status| status.name.starts_with("cidr")));
    assert!(
        flows.egress.iter().any(|opening| opening.name == "service otlp"),
        "but they are open"
    );
}

#[test]
fn a_refused_workload_opens_nothing_and_names_every_flow() {
    let mut world = cluster();
    world.workload("vision-train", "w", Generic, "connectTo: [{service: mlflow}]");
    let key = WorkloadKey::new("vision-train", "w");
    world.workloads.get_mut(&key).unwrap().stage = Stage::Inference;
    let flows = resolve(&world, world.get("vision-train", "w"));
    assert_eq!(rules_of(&flows), ["NET-02/stage-mismatch"]);
    let (refused, message) = state(&flows, "service mlflow");
    assert_eq!(refused, FlowState::Refused);
    assert!(message.contains("NET-02/stage-mismatch"), "{message}");
    assert!(flows.egress.is_empty() && flows.ingress.is_empty());
    // And whoever names it hears why.
    world.workload(
        "nlp-train",
        "a",
        Generic,
        "connectTo: [{workload: {name: w, namespace: vision-train}}]",
    );
    let flows = resolve(&world, world.get("nlp-train", "a"));
    assert_eq!(state(&flows, "workload vision-train/w").0, FlowState::Unresolved);
}
