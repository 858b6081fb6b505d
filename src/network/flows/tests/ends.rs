//! Flows between two workloads, and sources: what each end declares, and what is open of it.

use super::*;

fn pair(from: &str, to: &str) -> (Flows, Flows) {
    let mut world = cluster();
    world
        .workload("vision-train", "a", Generic, from)
        .workload("nlp-train", "b", Ray, to);
    (
        resolve(&world, world.get("vision-train", "a")),
        resolve(&world, world.get("nlp-train", "b")),
    )
}

#[test]
fn two_workloads_open_what_both_declare() {
    let (a, b) = pair(
        "connectTo: [{workload: {name: b, namespace: nlp-train}, ports: [{port: 8000}, {port: 9000}]}]",
        "acceptFrom: [{workload: {name: a, namespace: vision-train}}]",
    );
    assert_eq!(
        state(&a, "workload nlp-train/b"),
        (
            FlowState::Open,
            "open on TCP 8000; nlp-train/b does not accept TCP 9000"
        )
    );
    assert_eq!(state(&b, "workload vision-train/a"), (FlowState::Open, ""));
    assert_eq!(a.egress[0].ports.to_string(), "TCP 8000", "the preset's serving port");
    let b: Vec<&Opening> = b
        .ingress
        .iter()
        .filter(|opening| opening.name == "workload vision-train/a")
        .collect();
    assert_eq!(b[0].ports, a.egress[0].ports);
}

#[test]
fn an_end_without_ports_takes_the_others() {
    let (a, _) = pair(
        "connectTo: [{workload: {name: b, namespace: nlp-train}}]",
        "acceptFrom: [{workload: {name: a, namespace: vision-train}, ports: [{port: 7}, {port: 7, protocol: UDP}]}]",
    );
    assert_eq!(a.egress[0].ports.to_string(), "TCP 7, UDP 7");
    let (_, b) = pair(
        "connectTo: [{workload: {name: b, namespace: nlp-train}, ports: [{port: 9}]}]",
        "acceptFrom: [{workload: {name: a, namespace: vision-train}, ports: [{port: 10}]}]",
    );
    let (awaiting, message) = state(&b, "workload vision-train/a");
    assert_eq!(awaiting, FlowState::AwaitingPeer);
    assert!(message.starts_with("no port in common: vision-train/a asks TCP 9, nlp-train/b accepts TCP 10"));
}

#[test]
fn a_flow_without_any_port_is_not_every_port() {
    let mut world = cluster();
    world
        .workload("vision-train", "a", Generic, "connectTo: [{workload: {name: b}}]")
        .workload("vision-train", "b", PyTorch, "acceptFrom: [{workload: {name: a}}]");
    let flows = resolve(&world, world.get("vision-train", "a"));
    assert_eq!(state(&flows, "workload vision-train/b").0, FlowState::Unresolved);
    assert!(rules_of(&flows).contains(&"NET-04/no-ports".to_owned()));
    assert!(flows.egress.is_empty());
}

#[test]
fn one_sided_flows_wait_and_name_the_missing_line() {
    let (a, _) = pair("connectTo: [{workload: {name: b, namespace: nlp-train}}]", "");
    let (awaiting, message) = state(&a, "workload nlp-train/b");
    assert_eq!(awaiting, FlowState::AwaitingPeer);
    assert_eq!(
        message,
        "AiWorkload nlp-train/b does not declare this flow yet; its owner adds \
         `acceptFrom: [{workload: {name: a, namespace: vision-train}}]`"
    );
    assert!(
        !rules_of(&a).iter().any(|rule| rule.starts_with("NET-04")),
        "nobody did anything wrong"
    );
    let (a, _) = pair("connectTo: [{workload: {name: bb, namespace: nlp-train}}]", "");
    assert_eq!(
        state(&a, "workload nlp-train/bb"),
        (
            FlowState::AwaitingPeer,
            "AiWorkload nlp-train/bb does not exist yet; did you mean \"b\"?"
        )
    );
}

#[test]
fn the_other_stage_is_refused_and_names_the_waiver() {
    for (namespace, rule) in [
        ("vision-infer", "NET-03/cross-stage"),
        ("vision-eval", "NET-03/cross-stage"),
    ] {
        let (_, flows) = training(&format!(
            "connectTo: [{{workload: {{name: x, namespace: {namespace}}}}}]"
        ));
        let (refused, message) = state(&flows, &format!("workload {namespace}/x"));
        assert_eq!(refused, FlowState::Refused);
        assert!(message.contains("Waiver"), "{message}");
        assert!(rules_of(&flows).contains(&rule.to_owned()));
    }
}

#[test]
fn references_to_nowhere_are_told_apart() {
    let (_, flows) = training(
        "connectTo: [{workload: {name: x, namespace: mlops}}, {workload: {name: x, namespace: minio}},
                     {workload: {name: x, namespace: nlp-trian}}]",
    );
    assert_eq!(state(&flows, "workload mlops/x").0, FlowState::Refused);
    assert_eq!(state(&flows, "workload minio/x").0, FlowState::Unresolved);
    let (unresolved, message) = state(&flows, "workload nlp-trian/x");
    assert_eq!(unresolved, FlowState::Unresolved);
    assert!(message.ends_with("did you mean \"nlp-train\"?"), "{message}");
}

#[test]
fn sources_come_in_on_the_ports_of_their_kind() {
    let mut world = cluster();
    world.workload(
        "vision-infer",
        "w",
        KServe,
        "acceptFrom: [{source: edge}, {source: corporate}]",
    );
    let flows = resolve(&world, world.get("vision-infer", "w"));
    let ports = |name: &str| {
        let found = flows.ingress.iter().find(|opening| opening.name == name);
        found.map(|opening| opening.ports.to_string())
    };
    assert_eq!(
        ports("source edge").as_deref(),
        Some("TCP 8012-8013, TCP 8080, TCP 8112, TCP 9081")
    );
    assert_eq!(
        ports("source corporate").as_deref(),
        Some("TCP 8080"),
        "the source's own limit"
    );
    assert_eq!(ports("source prometheus").as_deref(), Some("TCP 8080"), "automatic");
    assert_eq!(
        ports("source kuberay").as_deref(),
        Some("TCP 8012-8013, TCP 8112, TCP 9090")
    );
    assert_eq!(flows.egress[0].name, "service otlp", "automatic");
}

#[test]
fn a_scraper_without_a_metrics_port_reaches_none_and_says_so() {
    let (mut world, flows) = training("connectTo: []");
    assert_eq!(rules_of(&flows), ["NET-06/metrics-port"]);
    assert!(flows.ingress.is_empty(), "not every port");
    assert_eq!(state(&flows, "source prometheus").0, FlowState::Unresolved);
    world.workload("vision-train", "w", Generic, "metricsPorts: [9100]");
    let flows = resolve(&world, world.get("vision-train", "w"));
    assert_eq!(flows.ingress[0].ports.to_string(), "TCP 9100");
    assert_eq!(flows.findings, []);
}

#[test]
fn what_a_person_wrote_at_either_end_limits_a_source() {
    let mut world = cluster();
    world.workload(
        "vision-infer",
        "w",
        Generic,
        "acceptFrom: [{source: corporate, ports: [{port: 9999}]}, {source: edge}, {source: edeg}, {source: machines},
                      {source: trainers}]",
    );
    let flows = resolve(&world, world.get("vision-infer", "w"));
    assert_eq!(
        state(&flows, "source corporate"),
        (
            FlowState::Refused,
            "source \"corporate\" may reach TCP 8080, the workload offers TCP 9999; ask the admin to add the port"
        )
    );
    assert_eq!(
        state(&flows, "source edge").0,
        FlowState::Unresolved,
        "no serving port is known"
    );
    assert!(state(&flows, "source edeg").1.ends_with("did you mean \"edge\"?"));
    assert_eq!(
        state(&flows, "source machines").1,
        "no metrics port declared, so source \"machines\" reaches none; set spec.network.metricsPorts"
    );
    assert_eq!(state(&flows, "source trainers").0, FlowState::Refused, "inside a stage");
    assert_eq!(flows.ingress, []);
}

#[test]
fn nodes_are_named_by_their_addresses_while_they_are_few() {
    let mut world = cluster();
    world.workload(
        "vision-infer",
        "w",
        Generic,
        "{metricsPorts: [9100], acceptFrom: [{source: machines}]}",
    );
    let flows = resolve(&world, world.get("vision-infer", "w"));
    let (open, note) = state(&flows, "source machines");
    assert_eq!(open, FlowState::Open, "{note}");
    assert!(note.contains("some network plugins match to no rule"), "{note}");
    let machines: Vec<_> = flows
        .ingress
        .iter()
        .filter(|opening| opening.name == "source machines")
        .collect();
    let cidrs = machines[0].peers.iter().map(|peer| match peer {
        Peer::Network { cidr, .. } => cidr.to_string(),
        other => panic!("{other:?}"),
    });
    assert_eq!(cidrs.collect::<Vec<_>>(), ["192.168.7.2/32", "192.168.7.3/32"]);
    assert_eq!(machines[0].ports.to_string(), "TCP 9100");

    let said = |world: &World| {
        let flows = resolve(world, world.get("vision-infer", "w"));
        let (state, why) = state(&flows, "source machines");
        (state, why.to_owned())
    };
    world.cluster.nodes = Vec::new();
    let (unknown, why) = said(&world);
    assert!(
        unknown == FlowState::Unresolved && why.contains("not known yet"),
        "{why}"
    );
    world.cluster.nodes = (0..=100).map(|n| format!("10.0.0.{n}/32").parse().unwrap()).collect();
    let (many, why) = said(&world);
    assert!(
        many == FlowState::Unresolved && why.contains("101 of them") && why.contains("at most 100"),
        "{why}"
    );
}
