//! Flows between two stages: what the Waiver names, of what both ends declare; and why not.

use super::*;
use crate::network::cluster_deny;
use crate::network::cluster_policy::{ClusterNetworkPolicy, Spec};
use crate::network::waivers::FlowWaiver;
use crate::network::world::WorkloadKey;

const UNTIL: &str = "2030-01-01T00:00:00Z";

fn waived(ports: &[(crate::api::network::Protocol, u16)], closed: Option<&str>) -> FlowWaiver {
    FlowWaiver {
        from: WorkloadKey::new("vision-train", "w"),
        to: WorkloadKey::new("vision-infer", "model"),
        ports: PortSet::single(ports.iter().copied()),
        until: UNTIL.parse().unwrap(),
        closed: closed.map(str::to_owned),
    }
}

const TCP: crate::api::network::Protocol = crate::api::network::Protocol::TCP;

/// Both ends declare TCP 80 and 81.
fn both(waivers: &[(&str, FlowWaiver)]) -> World {
    let mut world = cluster();
    let entry = |name: &str, namespace: &str| {
        format!("[{{workload: {{name: {name}, namespace: {namespace}}}, ports: [{{port: 80}}, {{port: 81}}]}}]")
    };
    world
        .workload(
            "vision-train",
            "w",
            Generic,
            &format!("connectTo: {}", entry("model", "vision-infer")),
        )
        .workload(
            "vision-infer",
            "model",
            Generic,
            &format!("acceptFrom: {}", entry("w", "vision-train")),
        );
    world.waivers = waivers
        .iter()
        .map(|(name, waiver)| ((*name).to_owned(), waiver.clone()))
        .collect();
    world
}

fn said(world: &World) -> [(FlowState, String); 2] {
    let flow = |namespace: &str, name: &str, other: &str| {
        let flows = resolve(world, world.get(namespace, name));
        let (state, message) = state(&flows, other);
        (state, message.to_owned())
    };
    [
        flow("vision-train", "w", "workload vision-infer/model"),
        flow("vision-infer", "model", "workload vision-train/w"),
    ]
}

#[test]
fn it_is_open_at_both_ends_on_the_ports_of_the_waiver_and_names_it() {
    let world = both(&[("shadow", waived(&[(TCP, 80)], None))]);
    for (state, message) in said(&world) {
        let wanted =
            "open to another stage on TCP 80 by Waiver shadow until 2030-01-01T00:00:00Z, which does not name TCP 81";
        assert_eq!((state, message.as_str()), (FlowState::Open, wanted));
    }
    let two = both(&[
        ("a", waived(&[(TCP, 80)], None)),
        ("b", waived(&[(TCP, 81), (TCP, 82)], None)),
    ]);
    let flows = resolve(&two, two.get("vision-train", "w"));
    assert_eq!(
        flows.egress[0].ports.to_string(),
        "TCP 80-81",
        "never more than both ends declare"
    );
}

#[test]
fn a_waiver_that_does_not_hold_opens_nothing_and_says_why() {
    let over = waived(
        &[(TCP, 80)],
        Some("it expired at 2030-01-01T00:00:00Z; write a new one"),
    );
    for (state, message) in said(&both(&[("shadow", over.clone())])) {
        assert_eq!(state, FlowState::Refused);
        assert!(
            message.contains("Waiver shadow opens nothing: it expired at 2030-01-01T00:00:00Z"),
            "{message}"
        );
    }
    let renewed = both(&[("shadow", over), ("shadow-2", waived(&[(TCP, 80)], None))]);
    assert!(said(&renewed).iter().all(|(state, _)| *state == FlowState::Open));
}

#[test]
fn one_that_names_other_ports_opens_nothing() {
    for (state, message) in said(&both(&[("shadow", waived(&[(TCP, 90)], None))])) {
        assert_eq!(state, FlowState::Refused);
        assert!(
            message.starts_with("both ends declare TCP 80-81, and Waiver shadow until"),
            "{message}"
        );
    }
}

#[test]
fn a_waiver_is_no_declaration() {
    let mut world = both(&[("shadow", waived(&[(TCP, 80)], None))]);
    world.workload("vision-infer", "model", Generic, "");
    let flows = resolve(&world, world.get("vision-train", "w"));
    assert_eq!(state(&flows, "workload vision-infer/model").0, FlowState::AwaitingPeer);
    assert!(flows.egress.is_empty());
}

#[test]
fn the_port_of_the_mesh_is_waived_by_name_only() {
    for (ports, wanted) in [
        (&[(TCP, 80)][..], FlowState::Refused),
        (&[(TCP, 80), (TCP, 15008)], FlowState::Open),
    ] {
        let mut world = both(&[("shadow", waived(ports, None))]);
        world.policy("mesh: Ambient");
        for (state, message) in said(&world) {
            assert_eq!(state, wanted, "{message}");
        }
    }
}

#[test]
fn it_opens_nothing_through_denies_that_hold_no_exception_for_it() {
    let mut world = both(&[("one", waived(&[(TCP, 80)], None))]);
    world.policy("clusterDeny: Auto");
    let exceptions = cluster_deny::render(&world);
    world.waivers.clear();
    let denies = cluster_deny::render(&world);
    for (stored, wanted) in [(denies, FlowState::Refused), (exceptions, FlowState::Open)] {
        let mut world = both(&[("one", waived(&[(TCP, 80)], None))]);
        let read =
            |(name, spec)| ClusterNetworkPolicy::read(name, serde_json::to_value::<Spec>(spec).unwrap_or_default());
        world.cluster_policies = stored.into_iter().map(read).collect();
        for (state, message) in said(&world) {
            assert_eq!(state, wanted, "{message}");
            let told = message.contains("of network.clusterDeny closes it: the exception is not stored yet");
            assert_eq!(told, wanted == FlowState::Refused, "{message}");
        }
    }
}
