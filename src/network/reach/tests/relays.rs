//! Chains through relays: what is one, what only looks like one, and what nobody can know.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::api::workload::Runtime::{Generic, VLLM};
use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::policies;
use crate::network::reach::relays::{Chains, Relay, chains, within};
use crate::network::reach::{Isolation, UnmodelledPolicy, analyse};
use crate::network::testkit::world;
use crate::network::world::World;

use super::scale::large;
use super::traps::with;

/// A service that training uses, and a gateway that inference lets in, both in a namespace that is shared.
fn cluster(service: &str, gateway: &str) -> World {
    let mut world = world();
    world.namespaces.clear();
    world.cluster.dns.clear();
    world
        .stage("train", Training)
        .stage("serve", Inference)
        .stage("mlops", Shared)
        .policy(&format!(
            "
services: [{{name: hub, to: {{namespace: mlops{service}}}, ports: [{{port: 5000}}]}}]
sources: [{{name: edge, kind: Gateway, from: {{namespace: mlops{gateway}}}}}]"
        ))
        .workload("train", "road", Generic, "connectTo: [{service: hub}]")
        .workload("serve", "model", VLLM, "acceptFrom: [{source: edge}]");
    world
}

fn all(world: &World, policies: &[NetworkPolicy], unmodelled: &[UnmodelledPolicy]) -> Chains {
    let desired = policies::all(world);
    chains(
        world,
        &desired.iter().collect::<Vec<_>>(),
        &policies.iter().collect::<Vec<_>>(),
        unmodelled,
        &|_| true,
    )
}

fn said(world: &World, others: &[(&str, &str, &str)]) -> Vec<String> {
    let found = all(world, &with(world, others), &[]);
    assert!(!found.cut);
    found.found.iter().map(ToString::to_string).collect()
}

const LABELS: [&str; 2] = [", podLabels: {app: hub}", ", podLabels: {app: gate}"];

#[test]
fn a_service_that_may_connect_on_is_a_relay() {
    // One pod may be both: it is of the service, and the gateway's pods are any of the namespace.
    let world = cluster(LABELS[0], "");
    insta::assert_snapshot!(said(&world, &[]).join("\n"), @"a pod in train with labels {cloison.dev/workload: road} can reach a pod in serve with labels {cloison.dev/workload: model} through a relay: to a pod in mlops with labels {app: hub} (catalogue service hub) on TCP 5000, allowed by train/cloison-wl-road egress[1].to[0] and mlops/cloison-svc-hub ingress[0].from[0]; from there on TCP 8000, allowed by mlops by default (no policy isolates the pod) and serve/cloison-wl-model ingress[1].from[0]");
    // It is a report: each hop is permitted, and the verdicts stay as they are.
    let analysis = analyse(&world, &policies::all(&world), &[]);
    assert!(analysis.namespaces.values().all(|found| *found == Isolation::Isolated));
    let found = all(&world, &policies::all(&world), &[]).found;
    assert_eq!(found[0].relays, [Some(Relay::Service("hub".to_owned()))]);
    assert_eq!(found[0].stages, [Training, Inference]);
}

#[test]
fn two_pods_of_one_namespace_are_no_relay_unless_the_one_reaches_the_other() {
    let world = cluster(LABELS[0], LABELS[1]);
    // The deny of the shared namespace keeps the two apart.
    assert_eq!(said(&world, &[]), [""; 0]);
    let own = |to: &str, from: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{app: {to}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: {from}}}}}}}]}}]}}"
        )
    };
    assert_eq!(
        said(&world, &[("mlops", "own", &own("hub", "gate"))]),
        [""; 0],
        "the wrong way round"
    );
    insta::assert_snapshot!(said(&world, &[("mlops", "own", &own("gate", "hub"))]).join("\n"), @"a pod in train with labels {cloison.dev/workload: road} can reach a pod in serve with labels {cloison.dev/workload: model} through 2 relays: to a pod in mlops with labels {app: hub} (catalogue service hub) on TCP 5000, allowed by train/cloison-wl-road egress[1].to[0] and mlops/cloison-svc-hub ingress[0].from[0]; from there to a pod in mlops with labels {app: gate} on TCP 1-65535, allowed by mlops by default (no policy isolates the pod) and mlops/own ingress[0].from[0]; from there on TCP 8000, allowed by mlops by default (no policy isolates the pod) and serve/cloison-wl-model ingress[1].from[0]");
}

#[test]
fn what_both_sides_want_of_a_relay_must_be_satisfiable_at_once() {
    let both = |ingress: &str, egress: &str| {
        let world = cluster(", podLabels: {app: hub}", "");
        let guard = format!("{{podSelector: {{matchExpressions: [{egress}]}}, policyTypes: [Egress], egress: []}}");
        let only = format!("{{podSelector: {{matchExpressions: [{ingress}]}}, policyTypes: [Egress], egress: []}}");
        said(&world, &[("mlops", "a", &guard), ("mlops", "b", &only)]).len()
    };
    let (hub, tier) = (
        "{key: app, operator: In, values: [hub]}",
        "{key: tier, operator: Exists}",
    );
    let untiered = "{key: tier, operator: DoesNotExist}";
    assert_eq!(both(tier, "{key: app, operator: In, values: [other]}"), 1);
    assert_eq!(both(tier, hub), 0, "every pod of the service is isolated");
    assert_eq!(both(tier, untiered), 0, "whatever its tier, one of the two isolates it");
}

#[test]
fn the_shortest_chain_is_told_and_rings_of_relays_end() {
    let mut world = cluster(LABELS[0], LABELS[1]);
    // Three namespaces without a policy: each reaches all.
    world.plain("a", "").plain("b", "").plain("c", "");
    let into_gate = "{podSelector: {matchLabels: {app: gate}}, ingress: [{from: [{namespaceSelector:
        {matchLabels: {kubernetes.io/metadata.name: c}}}]}]}";
    let ring = said(&world, &[("mlops", "gate", into_gate)]);
    insta::assert_snapshot!(ring.join("\n"), @"a pod in train with labels {cloison.dev/workload: road} can reach a pod in serve with labels {cloison.dev/workload: model} through 3 relays: to a pod in mlops with labels {app: hub} (catalogue service hub) on TCP 5000, allowed by train/cloison-wl-road egress[1].to[0] and mlops/cloison-svc-hub ingress[0].from[0]; from there to a pod in c with labels {} on TCP 1-65535, allowed by mlops by default (no policy isolates the pod) and c by default (no policy isolates the pod); from there to a pod in mlops with labels {app: gate} on TCP 1-65535, allowed by c by default (no policy isolates the pod) and mlops/gate ingress[0].from[0]; from there on TCP 8000, allowed by mlops by default (no policy isolates the pod) and serve/cloison-wl-model ingress[1].from[0]");
    // Closed, there is none, however long one goes round.
    assert_eq!(said(&world, &[]), [""; 0]);
}

#[test]
fn a_third_stage_is_a_relay_and_the_first_and_the_last_are_none() {
    let mut world = world();
    world.namespaces.clear();
    world.cluster.dns.clear();
    world
        .stage("train", Training)
        .stage("eval", Evaluation)
        .stage("serve", Inference)
        .stage("serve-2", Inference)
        .workload("eval", "judge", Generic, "");
    let to = |direction: &str, list: &str, peers: &str, namespace: &str| {
        format!(
            "{{podSelector: {{matchLabels: {{cloison.dev/workload: judge}}}}, policyTypes: [{direction}],
              {list}: [{{{peers}: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}],
              ports: [{{port: 80}}]}}]}}"
        )
    };
    let hops = [
        ("train", "out", to("Egress", "egress", "to", "eval")),
        ("eval", "in", to("Ingress", "ingress", "from", "train")),
        ("eval", "out", to("Egress", "egress", "to", "serve")),
        ("serve", "in", to("Ingress", "ingress", "from", "eval")),
        ("serve", "on", to("Egress", "egress", "to", "serve-2")),
        ("serve-2", "in", to("Ingress", "ingress", "from", "serve")),
    ];
    let hops: Vec<(&str, &str, &str)> = hops
        .iter()
        .map(|(at, name, spec)| (*at, *name, spec.as_str()))
        .collect();
    insta::assert_snapshot!(said(&world, &hops).join("\n"), @"a pod in train with labels {cloison.dev/workload: judge} can reach a pod in serve with labels {cloison.dev/workload: judge} through a relay: to a pod in eval with labels {cloison.dev/workload: judge} (AiWorkload eval/judge) on TCP 80, allowed by train/out egress[0].to[0] and eval/in ingress[0].from[0]; from there on TCP 80, allowed by eval/out egress[0].to[0] and serve/in ingress[0].from[0]");
}

#[test]
fn what_may_match_pods_or_may_open_anything_makes_a_possible_chain() {
    let doubts = |world: &World, others: &[(&str, &str, &str)], unmodelled: &[UnmodelledPolicy]| {
        let found = all(world, &with(world, others), unmodelled).found;
        let doubts = found
            .iter()
            .map(|chain| chain.doubt.as_ref().map(|(reason, _)| *reason));
        doubts.collect::<Vec<_>>()
    };
    // Two pods of one namespace, and a block that may be the one to the other: also the addresses of nodes, where pods
    // of the host network are.
    let world = cluster(LABELS[0], LABELS[1]);
    for cidr in ["10.244.7.0/24", "192.168.7.3/32"] {
        let block = format!(
            "{{podSelector: {{matchLabels: {{app: gate}}}}, ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}"
        );
        assert_eq!(
            doubts(&world, &[("mlops", "own", &block)], &[]),
            [Some("CniDependent")],
            "{cidr}"
        );
    }
    let outside = "{podSelector: {matchLabels: {app: gate}}, ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]}";
    assert_eq!(doubts(&world, &[("mlops", "own", outside)], &[]), []);
    let cilium = UnmodelledPolicy {
        namespace: Some("mlops".to_owned()),
        kind: "CiliumNetworkPolicy".to_owned(),
    };
    let unmodelled = doubts(&world, &[], std::slice::from_ref(&cilium));
    assert_eq!(unmodelled, [Some("UnmodelledPolicy")]);
    // At the end of a stage it is the verdict on the stage that is Unknown.
    let of_stage = UnmodelledPolicy {
        namespace: Some("serve".to_owned()),
        ..cilium.clone()
    };
    let apart = {
        let mut world = world.clone();
        world.plain("portal", "");
        world
    };
    assert_eq!(doubts(&apart, &[], &[of_stage]), []);
    let broken = "{podSelector: {}, policyTypes: [Sideways]}";
    assert_eq!(
        doubts(&world, &[("mlops", "own", broken)], &[]),
        [Some("UnreadablePolicy")]
    );
    // A certain one is told in place of a possible one.
    assert_eq!(doubts(&cluster(LABELS[0], ""), &[], &[cilium]), [None]);
}

#[test]
fn cluster_network_policies_close_a_hop_or_leave_it_alone_or_nobody_knows() {
    let told = |spec: &str| {
        let mut world = cluster(LABELS[0], "");
        let wall = ClusterNetworkPolicy::read("wall", serde_saphyr::from_str(spec).unwrap());
        world.cluster_policies = vec![wall];
        let found = all(&world, &policies::all(&world), &[]).found;
        let doubts = found
            .iter()
            .map(|chain| chain.doubt.as_ref().map(|(reason, _)| *reason));
        doubts.collect::<Vec<_>>()
    };
    // Between the stages it stops no hop of this chain; as the operator renders it.
    let between = "{tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}},
        ingress: [{action: Deny, from: [{namespaces: {matchLabels: {cloison.dev/stage: training}}}]}]}";
    assert_eq!(told(between), [None]);
    let from_shared = between.replace("stage: training", "stage: shared");
    assert_eq!(told(&from_shared), []);
    let from_some = from_shared.replace(
        "{namespaces: {matchLabels: {cloison.dev/stage: shared}}}",
        "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {tier: x}}}}",
    );
    assert_ne!(from_some, from_shared);
    assert_eq!(told(&from_some), [Some("TooComplex")]);
    // Rules of NetworkPolicies let in at both hops, so that nobody asks the Baseline tier; and a Pass leaves it to them.
    let everywhere = "subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}";
    let baseline = format!("{{tier: Baseline, priority: 10, {everywhere}");
    assert_eq!(told(&baseline), [None]);
    assert_eq!(told(&baseline.replace("Baseline", "Admin")), []);
    assert_eq!(
        told(&baseline.replace("Baseline", "Admin").replace("Deny", "Pass")),
        [None]
    );
    // Nothing isolates the egress of the relay: it is the Baseline tier that does, but not with every implementation.
    let out = baseline.replace("ingress", "egress").replace("from", "to");
    assert_eq!(told(&out), [Some("CniDependent")]);
}

#[test]
fn the_relays_of_a_large_cluster_are_told_once_and_a_search_has_an_end() {
    let world = large(100);
    let desired = policies::all(&world);
    let desired: Vec<&NetworkPolicy> = desired.iter().collect();
    let found = chains(&world, &desired, &desired, &[], &|_| true);
    assert!(!found.cut);
    // The gateway and the monitoring, which nobody closed, by way of the DNS server.
    let ends: Vec<usize> = found.found.iter().map(|chain| chain.hops.len()).collect();
    assert!(ends.len() > 100 && ends.iter().all(|hops| *hops == 3), "{ends:?}");
    let told = found.each_relay_once();
    let others: usize = told.iter().map(|(_, others)| others).sum();
    assert_eq!(others + told.len(), ends.len(), "none is dropped");
    assert!(told.len() < 12, "{told:?}");
    let hurried = within(1_000, &world, &desired, &desired, &[], &|_| true);
    assert!(hurried.cut && hurried.found.len() < ends.len());
}

#[test]
fn what_it_takes_to_escape_policies_counts_too() {
    let world = cluster(LABELS[0], "");
    // Few rules to look at, and a pod of the relay that must fail each of these policies in one of two ways.
    let isolating = |index: usize| {
        let (one, other) = (index, (index * 7 + 3) % 40);
        format!(
            "{{podSelector: {{matchExpressions: [{{key: k{one}, operator: DoesNotExist}}, {{key: l{other}, operator: Exists}}]}},
              policyTypes: [Egress]}}"
        )
    };
    let specs: Vec<String> = (0..40).map(isolating).collect();
    let named: Vec<String> = (0..40).map(|index| format!("own-{index}")).collect();
    let others = named.iter().zip(&specs);
    let others: Vec<(&str, &str, &str)> = others
        .map(|(name, spec)| ("mlops", name.as_str(), spec.as_str()))
        .collect();
    let stored = with(&world, &others);
    let (desired, stored) = (policies::all(&world), stored.iter().collect::<Vec<_>>());
    let desired: Vec<&NetworkPolicy> = desired.iter().collect();
    let found = |looks| within(looks, &world, &desired, &stored, &[], &|_| true);
    assert!(!found(1_000_000).cut);
    assert!(found(10_000).cut);
}
