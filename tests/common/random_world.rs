//! Worlds drawn by chance: namespaces of every stage and of none, workloads that name one another, a catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::stage::{Mode, NamespaceStage, Stage};
use cloison::network::world::{ClusterNetwork, DnsAt, DnsPeer, Namespace, Workload, WorkloadKey, World};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

const RUNTIMES: [&str; 4] = ["Generic", "VLLM", "Ray", "Notebook"];

/// Flows as indexes: a namespace and a workload, or a catalogue entry and nothing.
type Pairs = Vec<(usize, usize)>;

/// A workload: its runtime, and what it connects to and accepts.
pub type Written = (usize, Pairs, Pairs);

/// A namespace drawn by chance: its stage (4 is none) and its workloads, each with a runtime and the flows of both sides.
#[derive(Clone, Debug)]
pub struct Drawn {
    pub stage: usize,
    pub workloads: Vec<Written>,
}

pub fn drawn() -> impl Strategy<Value = Vec<Drawn>> {
    let namespace = (0..5_usize, workloads()).prop_map(|(stage, workloads)| Drawn { stage, workloads });
    vec(namespace, 1..6)
}

/// What the tenant of one namespace may write.
pub fn workloads() -> impl Strategy<Value = Vec<Written>> {
    let flows = || vec((0..12_usize, 0..4_usize), 0..5);
    vec((0..RUNTIMES.len(), flows(), flows()), 0..4)
}

/// Some order, another for each number; zero leaves the list as it is.
pub fn shuffled<T>(mut list: Vec<T>, mut order: u64) -> Vec<T> {
    if order == 0 {
        return list;
    }
    for last in (1..list.len()).rev() {
        order = order
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        list.swap(last, usize::try_from(order >> 33).unwrap() % (last + 1));
    }
    list
}

fn ports(choice: usize, order: u64) -> Value {
    let all = [vec![], vec![8000], vec![8000, 443, 8001], vec![6379, 8000]];
    json!(
        shuffled(all[choice].clone(), order)
            .into_iter()
            .map(|port| json!({"port": port}))
            .collect::<Vec<_>>()
    )
}

/// One flow of a workload; `side` is `service` or `source`.
fn flow(side: &str, (target, choice): (usize, usize), order: u64) -> Value {
    let mut flow = match target {
        0..6 => json!({"workload": {"name": format!("w{}", target % 3), "namespace": format!("ns{}", target / 2)}}),
        6..9 => return json!({ side: format!("s{}", target - 6) }),
        9 => json!({"cidr": "192.0.2.0/24"}),
        10 => json!({"cidr": "0.0.0.0/0"}),
        _ => json!({"cidr": "198.51.100.0/25"}),
    };
    if choice > 0 {
        flow["ports"] = ports(choice, order);
    }
    flow
}

fn policy(order: u64) -> AiSecurityPolicySpec {
    let end = |n: usize| match n {
        0 => json!({"namespace": "ns0", "podLabels": {"app": "x", "tier": "y"}}),
        1 => json!({"namespace": "ns3"}),
        _ => json!({"cidrs": shuffled(vec!["203.0.113.0/24", "10.0.0.0/7"], order)}),
    };
    let port = || ports(2, order);
    let services = (0..3)
        .map(|n| json!({"name": format!("s{n}"), "to": end(n), "ports": port()}))
        .collect();
    let source = |n: usize| json!({"name": format!("s{n}"), "kind": "Gateway", "from": end(n), "automatic": n == 1});
    let network = json!({
        "services": shuffled::<Value>(services, order),
        "sources": shuffled((0..3).map(source).collect::<Vec<_>>(), order),
    });
    serde_json::from_value(json!({ "network": network })).unwrap()
}

pub fn world(drawn: &[Drawn], order: u64) -> World {
    let mut world = World {
        policy: Arc::new(policy(order)),
        ..World::default()
    };
    for (n, drawn) in shuffled(drawn.iter().enumerate().collect(), order) {
        let name = format!("ns{n}");
        let stage = NamespaceStage::ALL.get(drawn.stage).copied();
        let namespace = Namespace {
            name: name.clone(),
            uid: format!("uid-{n}"),
            labels: BTreeMap::from([(names::NAMESPACE_NAME_LABEL.to_owned(), name.clone())]),
            stage,
            mode: Mode::Enforce,
            terminating: false,
        };
        world.namespaces.insert(name.clone(), namespace);
        for (w, (runtime, to, from)) in shuffled(drawn.workloads.iter().enumerate().collect(), order) {
            let flows = |side: &str, list: &[(usize, usize)]| {
                let flows: Vec<Value> = list.iter().map(|one| flow(side, *one, order)).collect();
                shuffled(flows, order)
            };
            let network = json!({"connectTo": flows("service", to), "acceptFrom": flows("source", from)});
            let key = WorkloadKey::new(&name, format!("w{w}"));
            let workload = Workload {
                key: key.clone(),
                stage: stage
                    .and_then(NamespaceStage::workload_stage)
                    .unwrap_or(Stage::Training),
                runtime: serde_json::from_value(json!(RUNTIMES[*runtime])).unwrap(),
                network: Some(serde_json::from_value(network).unwrap()),
                terminating: false,
                quarantined: false,
            };
            world.workloads.insert(key, workload);
        }
    }
    let dns = |address: &str| DnsPeer {
        at: DnsAt::Addresses(shuffled(
            vec![
                format!("{address}/32").parse().unwrap(),
                "10.96.0.10/32".parse().unwrap(),
            ],
            order,
        )),
        ports: [53].into(),
    };
    world.cluster = ClusterNetwork {
        dns: shuffled(vec![dns("10.96.0.11"), dns("169.254.20.10")], order),
        api_servers: shuffled(
            vec![
                ("10.96.0.1/32".parse().unwrap(), 443),
                ("192.168.7.2/32".parse().unwrap(), 6443),
            ],
            order,
        ),
        nodes: shuffled(
            vec!["192.168.7.2/32".parse().unwrap(), "192.168.7.3/32".parse().unwrap()],
            order,
        ),
        ranges: Some(shuffled(
            vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/12".parse().unwrap()],
            order,
        )),
    };
    world
}
