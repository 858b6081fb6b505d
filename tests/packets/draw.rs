//! What one seed makes: labels of namespaces and pods, AiWorkloads with flows and their rendered policies, and policies
//! of tenants beside them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::stage::{Mode, NamespaceStage, Stage};
use cloison::api::workload::Runtime;
use cloison::network::policies;
use cloison::network::world::{ClusterNetwork, DnsAt, DnsPeer, Namespace, Workload, WorkloadKey, World};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::dice::Dice;

pub type Labels = BTreeMap<String, String>;

/// The namespaces.
pub const PLACES: [(&str, Option<NamespaceStage>); 5] = [
    ("train-a", Some(NamespaceStage::Training)),
    ("train-b", Some(NamespaceStage::Training)),
    ("infer", Some(NamespaceStage::Inference)),
    ("hub", Some(NamespaceStage::Shared)),
    ("plain", None),
];

/// The pods: namespace, name, node. Pairs on one node and on two, in one namespace and in two.
pub const PODS: [(&str, &str, usize); 12] = [
    ("train-a", "p0", 0),
    ("train-a", "p1", 1),
    ("train-a", "p2", 0),
    ("train-b", "p0", 0),
    ("train-b", "p1", 1),
    ("infer", "p0", 1),
    ("infer", "p1", 0),
    ("infer", "p2", 1),
    ("hub", "p0", 0),
    ("hub", "p1", 1),
    ("plain", "p0", 0),
    ("plain", "p1", 1),
];

/// The label that people put on pods, beside that of the workload.
pub const POD_KEYS: [&str; 3] = ["app", "tier", names::WORKLOAD_LABEL];
/// The label that people put on namespaces.
pub const NAMESPACE_KEY: &str = "team";

/// What a seed makes.
pub struct Draw {
    /// Labels of the namespaces, in the order of [`PLACES`].
    pub namespaces: Vec<Labels>,
    /// Labels of the pods, in the order of [`PODS`].
    pub pods: Vec<Labels>,
    /// What the analysis of all possible pods takes beside the policies.
    pub world: World,
    /// All policies: ours where the namespace is managed in this draw, and those of tenants.
    pub policies: Vec<NetworkPolicy>,
    /// How many flows between two workloads, a workload and a service, or a source and a workload are rendered.
    pub flows: usize,
}

/// The same for the same seed.
pub fn draw(seed: u64) -> Draw {
    let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let namespaces: Vec<Labels> = PLACES
        .iter()
        .map(|(name, stage)| {
            let mut labels = Labels::from([(names::NAMESPACE_NAME_LABEL.to_owned(), (*name).to_owned())]);
            if let Some(stage) = stage {
                labels.insert(names::STAGE_LABEL.to_owned(), stage.to_string());
            }
            maybe(&mut dice, &mut labels, NAMESPACE_KEY, &["red", "blue"]);
            labels
        })
        .collect();
    let pods = PODS
        .iter()
        .map(|(namespace, ..)| {
            let mut labels = Labels::new();
            maybe(&mut dice, &mut labels, "app", &["a", "b", "c"]);
            maybe(&mut dice, &mut labels, "tier", &["x", "y"]);
            if !["hub", "plain"].contains(namespace) {
                maybe(&mut dice, &mut labels, names::WORKLOAD_LABEL, &["a", "b"]);
            }
            labels
        })
        .collect();
    let world = world(&mut dice, &namespaces);
    let managed: Vec<&str> = PLACES
        .iter()
        .map(|(name, _)| *name)
        .filter(|_| dice.once_in(2))
        .collect();
    let mut policies = policies::all(&world);
    policies.retain(|policy| managed.contains(&policy.metadata.namespace.as_deref().unwrap()));
    let flows = policies.iter().map(flows).sum();
    for number in 0..3 + dice.roll(4) {
        policies.push(tenants(&mut dice, &format!("tenant-{seed}-{number}")));
    }
    Draw {
        namespaces,
        pods,
        world,
        policies,
        flows,
    }
}

/// One of the values, or no such label.
fn maybe(dice: &mut Dice, labels: &mut Labels, key: &str, values: &[&str]) {
    let chosen = dice.roll(values.len() + 1);
    if let Some(value) = values.get(chosen) {
        labels.insert(key.to_owned(), (*value).to_owned());
    }
}

fn world(dice: &mut Dice, labels: &[Labels]) -> World {
    let network = json!({
        "services": [
            {"name": "mlflow", "to": {"namespace": "hub", "podLabels": {"app": "a"}}, "ports": [{"port": 5000}]},
            {"name": "store", "to": {"namespace": "plain", "podLabels": {"tier": "x"}}, "ports": [{"port": 8080, "endPort": 8085}]},
            {"name": "logs", "to": {"namespace": "hub"}, "ports": [{"port": 5000, "protocol": "UDP"}], "automatic": true},
        ],
        "sources": [
            {"name": "edge", "kind": "Gateway", "from": {"namespace": "plain", "podLabels": {"app": "a"}}, "ports": [{"port": 8080}]},
            {"name": "prom", "kind": "Scraper", "from": {"namespace": "hub", "podLabels": {"tier": "y"}}, "automatic": true, "ports": [{"port": 9090}]},
        ],
    });
    let policy = AiSecurityPolicySpec {
        network: serde_json::from_value(network).unwrap(),
        ..AiSecurityPolicySpec::default()
    };
    let mut world = World {
        policy: Arc::new(policy),
        cluster: ClusterNetwork {
            dns: vec![DnsPeer {
                at: DnsAt::Pods {
                    namespace: "plain".to_owned(),
                    labels: [("app".to_owned(), "b".to_owned())].into(),
                },
                ports: [5000].into(),
            }],
            api_servers: Vec::new(),
            nodes: Vec::new(),
            ranges: Some(["10.65.0.0/16", "fd65::/48"].map(|range| range.parse().unwrap()).into()),
        },
        ..World::default()
    };
    for ((name, stage), labels) in PLACES.iter().zip(labels) {
        let namespace = Namespace {
            name: (*name).to_owned(),
            uid: format!("uid-{name}"),
            labels: labels.clone(),
            stage: *stage,
            mode: Mode::Enforce,
            terminating: false,
        };
        world.namespaces.insert((*name).to_owned(), namespace);
    }
    for (key, stage, network) in workloads(dice) {
        let workload = Workload {
            key: key.clone(),
            stage,
            runtime: Runtime::Generic,
            network: Some(serde_json::from_value(network).unwrap()),
            terminating: false,
            quarantined: false,
        };
        world.workloads.insert(key, workload);
    }
    world
}

/// AiWorkloads with what they connect to and accept. Some agree, some wait for each other, some name what is not there.
fn workloads(dice: &mut Dice) -> Vec<(WorkloadKey, Stage, Value)> {
    let stages = [
        ("train-a", Stage::Training),
        ("train-b", Stage::Training),
        ("infer", Stage::Inference),
    ];
    let mut all: Vec<(WorkloadKey, Stage, Vec<Value>, Vec<Value>)> = Vec::new();
    for (namespace, stage) in stages {
        for name in ["a", "b", names::DEFAULT_WORKLOAD] {
            if dice.once_in(4) {
                continue;
            }
            let mut to = vec![json!({"service": "mlflow"}), json!({"service": "store"})];
            to.retain(|_| dice.once_in(2));
            let mut from = vec![json!({"source": "edge"})];
            from.retain(|_| dice.once_in(2));
            all.push((WorkloadKey::new(namespace, name), stage, to, from));
        }
    }
    let choices = [
        json!([{"port": 8080}]),
        json!([{"port": 5000, "protocol": "UDP"}, {"port": 9090}]),
        json!([{"port": 8080, "endPort": 9090}]),
        json!([{"port": 5000}]),
    ];
    let reference = |key: &WorkloadKey, ports: &Value| json!({"workload": {"name": key.name, "namespace": key.namespace}, "ports": ports});
    for _ in 0..5 {
        let (from, to) = (dice.roll(all.len()), dice.roll(all.len()));
        if from == to {
            continue;
        }
        let (asked, accepted) = (dice.pick(&choices).clone(), dice.pick(&choices).clone());
        let (source, target) = (all[from].0.clone(), all[to].0.clone());
        all[from].2.push(reference(&target, &asked));
        // One in six is not answered.
        if !dice.once_in(6) {
            all[to].3.push(reference(&source, &accepted));
        }
    }
    let written = all.into_iter();
    written
        .map(|(key, stage, to, from)| (key, stage, json!({"connectTo": to, "acceptFrom": from})))
        .collect()
}

/// The rules of a policy of ours that are there because of a flow: every allow has one inside the workload.
fn flows(policy: &NetworkPolicy) -> usize {
    let spec = policy.spec.clone().unwrap_or_default();
    let rules = spec.ingress.map_or(0, |rules| rules.len()) + spec.egress.map_or(0, |rules| rules.len());
    rules.saturating_sub(2)
}

/// A policy of somebody else, in any of the namespaces.
///
/// Each has a new name: what the API server fills in for a missing `policyTypes` when a policy is created stays when the
/// rules are replaced, so that the same text applied to an older object means something else.
fn tenants(dice: &mut Dice, name: &str) -> NetworkPolicy {
    let types = match dice.roll(5) {
        0 => Value::Null,
        1 => json!(["Ingress"]),
        2 => json!(["Egress"]),
        _ => json!(["Ingress", "Egress"]),
    };
    // No rule at all isolates; more often there are one or two.
    let mut rules = |peers: &str| {
        let count = [0, 1, 1, 2, 2, 3][dice.roll(6)];
        let rules = (0..count).map(|_| json!({peers: several(dice, 2, peer), "ports": several(dice, 2, port)}));
        rules.collect::<Vec<_>>()
    };
    let (ingress, egress) = (rules("from"), rules("to"));
    let subject = selector(dice, Of::Pods);
    let namespace = dice.pick(&PLACES).0;
    let mut spec = json!({"podSelector": subject, "ingress": ingress, "egress": egress});
    if !types.is_null() {
        spec["policyTypes"] = types;
    }
    serde_json::from_value(json!({
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    }))
    .unwrap()
}

/// Up to `most`; none means everything.
fn several(dice: &mut Dice, most: usize, one: fn(&mut Dice) -> Value) -> Vec<Value> {
    (0..dice.roll(most + 1)).map(|_| one(dice)).collect()
}

fn peer(dice: &mut Dice) -> Value {
    match dice.roll(8) {
        0 | 1 => json!({"podSelector": selector(dice, Of::Pods)}),
        2 | 3 => json!({"namespaceSelector": selector(dice, Of::Namespaces)}),
        4 => json!({"namespaceSelector": selector(dice, Of::Namespaces), "podSelector": selector(dice, Of::Pods)}),
        _ => json!({"ipBlock": dice.pick(&blocks())}),
    }
}

/// Pods have `10.65.NODE.NUMBER` and `fd65:0:0:NODE::NUMBER`, numbers from 1 to 7.
fn blocks() -> [Value; 8] {
    [
        json!({"cidr": "10.65.0.0/24"}),
        json!({"cidr": "10.65.1.0/29", "except": ["10.65.1.2/31"]}),
        json!({"cidr": "10.65.0.0/16", "except": ["10.65.0.0/30", "10.65.1.4/32"]}),
        json!({"cidr": "0.0.0.0/0"}),
        json!({"cidr": "fd65:0:0:1::/64"}),
        json!({"cidr": "fd65::/48", "except": ["fd65::/126", "fd65:0:0:1::5/128"]}),
        json!({"cidr": "::/0", "except": ["fd65:0:0:1::/64"]}),
        json!({"cidr": "fd65::4/126"}),
    ]
}

fn port(dice: &mut Dice) -> Value {
    let all = [
        json!({"protocol": "TCP", "port": 8080}),
        json!({"port": 9090}),
        json!({"protocol": "TCP", "port": 8080, "endPort": 8085}),
        json!({"protocol": "TCP", "port": 5001, "endPort": 9090}),
        json!({"protocol": "UDP", "port": 5000}),
        json!({"protocol": "UDP"}),
        json!({"protocol": "TCP", "port": "http"}),
        json!({"protocol": "TCP", "port": "rpc"}),
        json!({"protocol": "UDP", "port": "rpc"}),
    ];
    dice.pick(&all).clone()
}

/// What a selector is for.
#[derive(Clone, Copy)]
enum Of {
    Pods,
    Namespaces,
}

fn selector(dice: &mut Dice, of: Of) -> Value {
    let keys: &[(&str, &[&str])] = match of {
        Of::Pods => &[
            ("app", &["a", "b", "c"]),
            ("tier", &["x", "y"]),
            (names::WORKLOAD_LABEL, &["a", "b"]),
        ],
        Of::Namespaces => &[
            (NAMESPACE_KEY, &["red", "blue"]),
            (names::STAGE_LABEL, &["training", "inference", "shared"]),
            (names::NAMESPACE_NAME_LABEL, &["train-a", "infer", "hub", "plain"]),
        ],
    };
    let mut written = json!({});
    if dice.once_in(8) {
        return written;
    }
    for _ in 0..=dice.roll(2) {
        let (key, values) = dice.pick(keys);
        let (first, second) = (dice.pick(values), dice.pick(values));
        let operator = match dice.roll(5) {
            0 => {
                written["matchLabels"][*key] = json!(first);
                continue;
            }
            1 => json!({"key": key, "operator": "In", "values": [first, second]}),
            2 => json!({"key": key, "operator": "NotIn", "values": [first]}),
            3 => json!({"key": key, "operator": "Exists"}),
            _ => json!({"key": key, "operator": "DoesNotExist"}),
        };
        match written["matchExpressions"].as_array_mut() {
            Some(list) => list.push(operator),
            None => written["matchExpressions"] = json!([operator]),
        }
    }
    written
}
