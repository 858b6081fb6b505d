//! What is in a picture, and what is said of it.

use super::random::{locate, with_pods, with_workloads};
use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::api::stage::{Mode, Stage};
use crate::api::workload::Runtime;
use crate::network::picture::view::{Kind, View};
use crate::network::picture::{Basis, Format, Group, Node, Picture, Room, allowed, declared, write};
use crate::network::policies;
use crate::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot};
use crate::network::reach::{UnmodelledPolicy, analyse};
use crate::network::testkit::{self, labels, policy};
use crate::network::world::World;

const OUT: &str = "{podSelector: {}, policyTypes: [Egress], egress: [{}]}";
const IN: &str = "{podSelector: {}, policyTypes: [Ingress], ingress: [{}]}";

fn world() -> World {
    let mut world = testkit::world();
    world
        .stage("train", Training)
        .stage("infer", Inference)
        .stage("common", Shared)
        .plain("edge", "")
        .policy(
            "{services: [{name: registry, to: {namespace: common}, ports: [{port: 5000}]}, \
             {name: mirror, to: {cidrs: [203.0.113.0/24]}, ports: [{port: 443}]}], \
             sources: [{name: gateway, kind: Gateway, from: {namespace: edge}}]}",
        )
        .workload(
            "train",
            "road",
            Runtime::PyTorch,
            "{connectTo: [{service: registry}, {service: mirror}, {cidr: 192.0.2.0/24, ports: [{port: 22}]}, {service: kubernetes-api}]}",
        )
        .workload(
            "infer",
            "front",
            Runtime::Generic,
            "{connectTo: [{workload: {name: model}}, {workload: {name: nobody}}]}",
        )
        .workload(
            "infer",
            "model",
            Runtime::VLLM,
            "{connectTo: [{service: registry}], acceptFrom: [{workload: {name: front}, ports: [{port: 8080}]}, {source: gateway}]}",
        );
    world
}

fn of(world: &World, others: &[k8s_openapi::api::networking::v1::NetworkPolicy]) -> Picture {
    let mut all = policies::all(world);
    all.extend_from_slice(others);
    declared(world, &analyse(world, &all, &[]), &[], &locate)
}

/// `room group/name -> room group/name ports`.
fn doors(picture: &Picture) -> Vec<String> {
    let end = |node: &Node| match &node.group {
        Group::Namespace(name) => format!("{:?} {name}/{}", node.room, node.name),
        group => format!("{:?} {group:?} {}", node.room, node.name),
    };
    let doors = picture.doors.iter();
    doors
        .map(|((from, to), door)| format!("{} -> {} {}", end(from), end(to), door.ports))
        .collect()
}

#[test]
fn doors_are_the_declared_flows_that_are_open() {
    let picture = of(&world(), &[]);
    assert_eq!(
        doors(&picture),
        [
            "Sources edge/gateway -> Stage(Inference) infer/model TCP 8000",
            "Stage(Training) train/road -> Shared common/registry TCP 5000",
            "Stage(Training) train/road -> Outside Addresses 192.0.2.0/24 TCP 22",
            "Stage(Training) train/road -> Outside Addresses kubernetes-api TCP 443, TCP 6443",
            "Stage(Training) train/road -> Outside Addresses mirror TCP 443",
            "Stage(Inference) infer/front -> Stage(Inference) infer/model TCP 8080",
            "Stage(Inference) infer/model -> Shared common/registry TCP 5000",
        ]
    );
    assert_eq!(picture.closed, 1, "one names a workload that does not exist");
    assert_eq!(picture.holes, []);
    let drawing = write(&picture, Format::Svg);
    for text in [
        "No packet was sent",
        "2 namespaces of stages: 0 with a hole, 0 unknown, 2 without a forbidden path",
        "Not drawn, because not open: 1 declared flow.",
    ] {
        assert!(drawing.contains(text), "{text}");
    }
}

#[test]
fn a_hole_is_drawn_with_both_rules_and_where_they_are_written() {
    let others = [policy("train", "lets-out", OUT), policy("infer", "lets-in", IN)];
    let picture = of(&world(), &others);
    let [hole, ..] = picture.holes.as_slice() else {
        panic!("{:?}", picture.holes)
    };
    assert_eq!(
        (hole.from.0, hole.to.0),
        (Room::Stage(Stage::Training), Room::Stage(Stage::Inference))
    );
    let both = [
        "train/lets-out manifests/train/lets-out.yaml:12:7 spec.egress[0]",
        "infer/lets-in manifests/infer/lets-in.yaml:12:7 spec.ingress[0]",
    ];
    for format in [Format::Svg, Format::Dot, Format::Html] {
        let text = write(&picture, format);
        assert!(text.contains("HOLE 1"), "{format:?}");
        for rule in both {
            assert!(text.contains(rule), "{rule} is not in {format:?}");
        }
    }
    let mermaid = write(&picture, Format::Mermaid);
    assert!(
        mermaid.contains("-.->|\"HOLE 1\"|")
            && mermaid.contains("manifests/train/lets-out.yaml:12:7 spec.egress#91;0#93;")
    );
    let view = View::of(&picture);
    let line = view.links.iter().find(|link| link.kind == Kind::Hole).unwrap();
    assert!(both.iter().all(|rule| line.title.contains(rule)), "{line:?}");
    let drawing = write(&picture, Format::Svg);
    assert!(
        drawing.contains("lets-out egress[0]") && drawing.contains("lets-in ingress[0]"),
        "at its two ends"
    );
}

#[test]
fn a_path_that_two_namespaces_share_is_one_hole() {
    let half = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
                {kubernetes.io/metadata.name: infer}}}]}]}";
    let other = "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: \
                 {kubernetes.io/metadata.name: train}}}]}]}";
    let picture = of(&world(), &[policy("train", "out", half), policy("infer", "in", other)]);
    assert_eq!(picture.holes.len(), 1, "{:?}", picture.holes);
    assert!(write(&picture, Format::Svg).contains("2 namespaces of stages: 2 with a hole"));
}

#[test]
fn a_hole_to_a_namespace_that_does_not_exist_has_its_place() {
    let to =
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: new}}}]}]}";
    let picture = of(&world(), &[policy("train", "out", to)]);
    assert_eq!(
        picture.holes[0].to,
        (Room::Unstaged, Group::Later),
        "{:?}",
        picture.holes
    );
    assert!(write(&picture, Format::Svg).contains("a namespace created later"));
}

#[test]
fn a_namespace_of_which_nothing_is_known_says_so_in_its_room() {
    let world = world();
    let cilium = UnmodelledPolicy {
        namespace: Some("infer".to_owned()),
        kind: "CiliumNetworkPolicy.cilium.io".to_owned(),
    };
    let analysis = analyse(&world, &policies::all(&world), &[cilium]);
    let picture = declared(&world, &analysis, &[], &locate);
    let view = View::of(&picture);
    let room = view
        .rooms
        .iter()
        .find(|room| room.room == Room::Stage(Stage::Inference))
        .unwrap();
    assert_eq!(room.frames[0].title, "infer");
    assert!(room.frames[0].unknown);
    assert_eq!(room.frames[0].status, "enforce · UNKNOWN: UnmodelledPolicy");
    for format in [Format::Svg, Format::Dot, Format::Mermaid, Format::Html] {
        let text = write(&picture, format);
        assert!(text.contains("UNKNOWN: UnmodelledPolicy"), "{format:?}");
        assert!(text.contains("CiliumNetworkPolicy.cilium.io"), "{format:?}");
    }
}

#[test]
fn a_namespace_where_nothing_is_enforced_is_not_called_isolated() {
    let mut world = world();
    world.namespaces.get_mut("train").unwrap().mode = Mode::Audit;
    let view = View::of(&of(&world, &[]));
    let room = view
        .rooms
        .iter()
        .find(|room| room.room == Room::Stage(Stage::Training))
        .unwrap();
    assert_eq!(room.frames[0].status, "audit · no forbidden path, once enforced");
}

#[test]
fn without_workloads_doors_are_what_the_policies_allow() {
    let mut world = testkit::world();
    world
        .stage("train", Training)
        .stage("infer", Inference)
        .plain("tools", "");
    let pod = |namespace: &str, name: &str| Pod {
        namespace: namespace.to_owned(),
        owner: ("Deployment".to_owned(), name.to_owned()),
        labels: labels(&format!("app={name}")),
        ..Pod::default()
    };
    let snapshot = Snapshot {
        pods: vec![pod("train", "road"), pod("infer", "model"), pod("tools", "alone")],
        policies: vec![
            policy(
                "train",
                "out",
                "{podSelector: {}, policyTypes: [Ingress, Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: infer}}}], ports: [{port: 7}]}]}",
            ),
            policy("infer", "in", "{podSelector: {}, policyTypes: [Egress]}"),
            policy("tools", "deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        ],
        ..Snapshot::default()
    };
    let connections = Connectivity::read(&snapshot, Blocks::External).unwrap().connections();
    let analysis = analyse(&world, &snapshot.policies, &[]);
    let picture = allowed(&world, &analysis, &snapshot, &connections, &[], &locate);
    assert_eq!(picture.basis, Basis::Allowed);
    assert_eq!(
        doors(&picture),
        [
            "Sources Addresses addresses outside -> Stage(Inference) infer/model[Deployment] all ports",
            "Stage(Training) train/road[Deployment] -> Stage(Inference) infer/model[Deployment] TCP 7",
        ]
    );
    let view = View::of(&picture);
    let crossing = view.links.iter().find(|link| link.kind == Kind::Forbidden).unwrap();
    assert_eq!(crossing.label, "FORBIDDEN TCP 7");
    assert!(
        view.links.iter().any(|link| link.kind == Kind::Hole),
        "{:?}",
        picture.holes
    );
    let drawing = write(&picture, Format::Svg);
    assert!(
        drawing.contains("alone[Deployment]"),
        "who has no door is there all the same"
    );
    assert!(drawing.contains("No AiWorkload declares anything"));
}

#[test]
fn an_empty_world_is_no_error() {
    let picture = declared(&World::default(), &analyse(&World::default(), &[], &[]), &[], &locate);
    for format in [Format::Svg, Format::Dot, Format::Mermaid, Format::Html] {
        assert!(
            write(&picture, format).contains("No namespace has a stage"),
            "{format:?}"
        );
    }
}

/// The same cluster gives the same bytes, whatever the order in which things are read.
#[test]
fn pictures_are_deterministic() {
    for seed in 0..40 {
        let of = |seed: u64| {
            if seed % 4 == 3 {
                with_pods(seed)
            } else {
                with_workloads(seed)
            }
        };
        let (case, again) = (of(seed), of(seed));
        for format in [Format::Svg, Format::Dot, Format::Mermaid, Format::Html] {
            assert_eq!(
                write(&case.picture, format),
                write(&again.picture, format),
                "{seed} {format:?}"
            );
        }
        if case.picture.basis == Basis::Declared {
            let mut turned = case.world.clone();
            let network = &mut std::sync::Arc::make_mut(&mut turned.policy).network;
            network.services.as_mut().unwrap().reverse();
            network.sources.as_mut().unwrap().reverse();
            let picture = declared(&turned, &case.analysis, &[], &locate);
            assert_eq!(picture, case.picture, "{seed}");
        }
    }
}
