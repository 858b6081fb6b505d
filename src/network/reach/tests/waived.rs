//! Waivers: what one names is permitted, to the pod and the port; what is rendered is never more; what others open beyond
//! it is a path as ever.

use super::traps::said;
use crate::api::names;
use crate::api::stage::NamespaceStage::{Inference, Training};
use crate::api::workload::Runtime::Generic;
use crate::network::policies;
use crate::network::ports::PortSet;
use crate::network::reach::guard::{Set, opened};
use crate::network::reach::{Isolation, Place, analyse};
use crate::network::testkit::{self, End, packets};
use crate::network::waivers::FlowWaiver;
use crate::network::world::{WorkloadKey, World};

fn waiver(from: &str, to: &str, ports: &[(u16, u16)]) -> FlowWaiver {
    let port = |(first, last): &(u16, u16)| crate::network::ports::Interval {
        protocol: crate::api::network::Protocol::TCP,
        first: *first,
        last: *last,
    };
    FlowWaiver {
        from: WorkloadKey::new("train", from),
        to: WorkloadKey::new("infer", to),
        ports: ports.iter().map(port).collect(),
        until: "2030-01-01T00:00:00Z".parse().unwrap(),
        closed: None,
    }
}

fn world(waivers: impl IntoIterator<Item = FlowWaiver>) -> World {
    let mut world = testkit::world();
    world.stage("train", Training).stage("infer", Inference);
    world.waivers = waivers
        .into_iter()
        .enumerate()
        .map(|(n, waiver)| (format!("w{n}"), waiver))
        .collect();
    world
}

/// `road` connects to `model` on 8080 and 8081, and both say so.
fn declared(waivers: impl IntoIterator<Item = FlowWaiver>) -> World {
    let mut world = world(waivers);
    let other = |name: &str, namespace: &str| {
        format!("[{{workload: {{name: {name}, namespace: {namespace}}}, ports: [{{port: 8080, endPort: 8081}}]}}]")
    };
    world
        .workload(
            "train",
            "road",
            Generic,
            &format!("connectTo: {}", other("model", "infer")),
        )
        .workload(
            "infer",
            "model",
            Generic,
            &format!("acceptFrom: {}", other("road", "train")),
        );
    world
}

fn pod(namespace: &str, workload: &str) -> End {
    End::pod(namespace, &format!("{}={workload}", names::WORKLOAD_LABEL))
}

#[test]
fn a_waived_flow_is_rendered_at_both_ends_and_permitted() {
    let world = declared([waiver("road", "model", &[(8080, 8080)])]);
    let all = policies::all(&world);
    let analysis = analyse(&world, &all, &[]);
    assert_eq!(
        (said(&analysis, "train"), said(&analysis, "infer")),
        ("isolated".into(), "isolated".into())
    );
    let packets = packets(&world, &all);
    let (road, model) = (pod("train", "road"), pod("infer", "model"));
    assert!(packets.pass(&road, &model, "TCP", 8080));
    for (from, to, protocol, port) in [
        (&road, &model, "TCP", 8081),
        (&road, &model, "UDP", 8080),
        (&model, &road, "TCP", 8080),
        (&pod("train", "other"), &model, "TCP", 8080),
        (&road, &pod("infer", "other"), "TCP", 8080),
    ] {
        assert!(
            !packets.pass(from, to, protocol, port),
            "{from:?} {to:?} {protocol} {port}"
        );
    }
}

#[test]
fn when_it_is_over_nothing_is_rendered_and_what_is_left_is_a_path() {
    let open = declared([waiver("road", "model", &[(8080, 8080)])]);
    let mut over = open.clone();
    over.waivers.get_mut("w0").unwrap().closed = Some("it expired".to_owned());
    let left = policies::all(&open);
    assert_eq!(policies::all(&over), policies::all(&declared([])));
    let analysis = analyse(&over, &left, &[]);
    insta::assert_snapshot!(said(&analysis, "train"), @"a pod in train with labels {cloison.dev/workload: road} can reach a pod in infer with labels {cloison.dev/workload: model} on TCP 8080: allowed by train/cloison-wl-road egress[3].to[0] and infer/cloison-wl-model ingress[1].from[0]");
    // The other way round, what a new Waiver opens is no hole.
    let (before, now) = (policies::all(&over), policies::all(&open));
    let set = |world, policies| Set {
        world,
        policies,
        unmodelled: &[],
    };
    assert_eq!(opened(set(&over, &before), set(&open, &now)), []);
    assert_eq!(
        opened(set(&over, &before), set(&over, &now)).len(),
        1,
        "without one it is"
    );
}

#[test]
fn a_waiver_is_for_one_direction_and_these_two_workloads() {
    for other in [
        FlowWaiver {
            from: WorkloadKey::new("infer", "model"),
            to: WorkloadKey::new("train", "road"),
            ..waiver("road", "model", &[(8080, 8080)])
        },
        waiver("other", "model", &[(8080, 8080)]),
        waiver("road", "other", &[(8080, 8080)]),
        waiver("default", "model", &[(8080, 8080)]),
    ] {
        let world = declared([other]);
        assert_eq!(policies::all(&world), policies::all(&declared([])));
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const SELECTORS: [&str; 8] = [
    "{}",
    "{matchLabels: {cloison.dev/workload: a}}",
    "{matchLabels: {cloison.dev/workload: b}}",
    "{matchLabels: {cloison.dev/workload: a, app: web}}",
    "{matchExpressions: [{key: cloison.dev/workload, operator: In, values: [a, b]}]}",
    "{matchExpressions: [{key: cloison.dev/workload, operator: DoesNotExist}]}",
    "{matchExpressions: [{key: cloison.dev/workload, operator: NotIn, values: [a]}]}",
    "{matchExpressions: [{key: app, operator: DoesNotExist}, {key: cloison.dev/workload, operator: In, values: [a, c]}]}",
];
const NARROW: [&str; 3] = [SELECTORS[1], SELECTORS[2], SELECTORS[5]];
const PORTS: [&str; 5] = [
    "[{port: 80}]",
    "[{port: 80, endPort: 81}]",
    "[{port: 81}]",
    "[{port: 80}, {port: 90}]",
    "[{port: 80, protocol: UDP}]",
];
const NAMED: [&[(u16, u16)]; 4] = [&[(80, 80)], &[(80, 81)], &[(81, 90)], &[(1, 65535)]];

/// A policy of somebody else: `workload` and `app` of both ends, any ports.
fn foreign(dice: &mut Dice, field: &str, peers: &str, far: &str) -> String {
    let kind = if field == "egress" { "Egress" } else { "Ingress" };
    // Half of them narrow, as people write them, so that Waivers can cover them.
    let mut selector = || match dice.below(2) {
        0 => dice.one(&NARROW),
        _ => dice.one(&SELECTORS),
    };
    let (subject, peer) = (selector(), selector());
    let ports = dice.one(&PORTS);
    format!(
        "{{podSelector: {subject}, policyTypes: [{kind}], {field}: [{{{peers}: [{{podSelector: {peer}, namespaceSelector: \
         {{matchLabels: {{kubernetes.io/metadata.name: {far}}}}}}}], ports: {ports}}}]}}"
    )
}

/// Every pod that differs to these policies and Waivers.
fn pods(namespace: &str) -> Vec<(String, End)> {
    let mut pods = Vec::new();
    for workload in ["", "a", "b", "c", "x"] {
        for app in ["", "web", "x"] {
            let label = |key: &str, value: &str| {
                if value.is_empty() {
                    String::new()
                } else {
                    format!("{key}={value} ")
                }
            };
            let text = format!("{}{}", label(names::WORKLOAD_LABEL, workload), label("app", app));
            let member = if workload.is_empty() {
                names::DEFAULT_WORKLOAD
            } else {
                workload
            };
            pods.push((member.to_owned(), End::pod(namespace, &text)));
        }
    }
    pods
}

#[test]
#[allow(clippy::print_stdout, reason = "a random corpus tells its mix")]
fn the_analysis_finds_exactly_what_is_beyond_the_waivers() {
    let mut dice = Dice(20_261_126);
    let (mut isolated, mut paths, mut narrowed) = (0, 0, 0);
    for round in 0..600 {
        let number = dice.below(9);
        let drawn: Vec<FlowWaiver> = (0..number)
            .map(|_| {
                waiver(
                    dice.one(&["a", "b", "default"]),
                    dice.one(&["a", "b", "default"]),
                    dice.one(&NAMED),
                )
            })
            .collect();
        let world = world(drawn);
        let mut all = policies::all(&world);
        for n in 0..=dice.below(2) {
            all.push(testkit::policy(
                "train",
                &format!("out{n}"),
                &foreign(&mut dice, "egress", "to", "infer"),
            ));
            all.push(testkit::policy(
                "infer",
                &format!("in{n}"),
                &foreign(&mut dice, "ingress", "from", "train"),
            ));
        }
        let packets = packets(&world, &all);
        let permitted = |from: &str, to: &str, protocol: &str, port: u16| {
            protocol == "TCP"
                && world.waivers.values().any(|waiver| {
                    (&*waiver.from.name, &*waiver.to.name) == (from, to)
                        && waiver.ports.contains(crate::api::network::Protocol::TCP, port)
                })
        };
        let (mut passes, mut beyond) = (false, false);
        for (from, source) in pods("train") {
            for (to, target) in pods("infer") {
                for (protocol, port) in [("TCP", 80), ("TCP", 81), ("TCP", 90), ("UDP", 80), ("TCP", 7)] {
                    let open = packets.pass(&source, &target, protocol, port);
                    passes |= open;
                    beyond |= open && !permitted(&from, &to, protocol, port);
                }
            }
        }
        let analysis = analyse(&world, &all, &[]);
        for namespace in ["train", "infer"] {
            match &analysis.namespaces[namespace] {
                Isolation::Isolated => assert!(!beyond, "round {round} {namespace}: {all:#?} {:?}", world.waivers),
                Isolation::PathExists(witness) => {
                    assert!(beyond, "round {round} {namespace}: {witness} {:?}", world.waivers);
                    let end = |end: &crate::network::reach::End| {
                        let Place::Namespace(namespace) = &end.namespace else {
                            panic!("{witness}")
                        };
                        let text: Vec<String> =
                            end.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                        let member = end.labels.get(names::WORKLOAD_LABEL).cloned();
                        let member = member.unwrap_or_else(|| names::DEFAULT_WORKLOAD.to_owned());
                        (member, End::pod(namespace, &text.join(" ")))
                    };
                    let ((from, source), (to, target)) = (end(&witness.from), end(&witness.to));
                    for port in [witness.ports.0, witness.ports.1] {
                        let protocol = witness.protocol.as_str();
                        assert!(
                            packets.pass(&source, &target, protocol, port),
                            "round {round}: {witness}"
                        );
                        assert!(!permitted(&from, &to, protocol, port), "round {round}: {witness}");
                    }
                }
                unknown @ Isolation::Unknown { .. } => panic!("round {round}: {unknown:?}"),
            }
        }
        let open = |passes: bool| usize::from(passes);
        isolated += open(!beyond);
        paths += open(beyond);
        narrowed += open(passes && !beyond);
    }
    println!("{isolated} isolated, {narrowed} of them by Waivers; {paths} paths");
    assert!(
        isolated >= 120 && paths >= 120 && narrowed >= 25,
        "{isolated} {narrowed} {paths}"
    );
}

#[test]
fn without_a_port_set_nothing_is_permitted() {
    let none = FlowWaiver {
        ports: PortSet::none(),
        ..waiver("road", "model", &[])
    };
    assert_eq!(policies::all(&declared([none])), policies::all(&declared([])));
}
