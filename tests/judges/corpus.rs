//! Random clusters and policies, in what all judges understand: one address for each pod, bare pods, no pod on the host
//! network, no empty label values (both programs take a missing label for one: `bugs.rs`).

use std::collections::BTreeMap;

use cloison::api::network::Protocol;
use cloison::network::reach::concrete::{Pod, Snapshot};
use serde_json::{Map, Value, json};

use crate::case::Case;
use crate::dice::Dice;

const PLACES: [&str; 3] = ["a", "b", "c"];
/// Labels of pods and of namespaces: keys, and values that they may have.
const OF_PODS: [(&str, [&str; 3]); 2] = [("app", ["web", "api", "db"]), ("tier", ["front", "back", "x"])];
const OF_NAMESPACES: [(&str, [&str; 3]); 2] = [("team", ["red", "blue", "x"]), ("env", ["dev", "prod", "x"])];
const NAME: (&str, [&str; 3]) = ("kubernetes.io/metadata.name", PLACES);

/// Blocks, and networks that may be taken out of them.
static BLOCKS: [[(&str, &[&str]); 4]; 2] = [
    [
        ("0.0.0.0/0", &["10.0.0.0/8", "203.0.113.0/24", "10.244.0.0/25"]),
        ("10.244.0.0/16", &["10.244.1.0/24", "10.244.0.128/25", "10.244.0.2/32"]),
        ("10.244.0.0/24", &["10.244.0.0/25", "10.244.0.200/29"]),
        ("203.0.113.0/24", &["203.0.113.8/30"]),
    ],
    [
        ("::/0", &["fd00:10:244::/48", "2001:db8::/32"]),
        ("fd00:10:244::/48", &["fd00:10:244:1::/64", "fd00:10:244::2/128"]),
        ("fd00:10:244:1::/64", &["fd00:10:244:1::8000/113"]),
        ("2001:db8::/32", &["2001:db8:1::/48"]),
    ],
];

/// Outside the cluster. One of each family is where pods are: an address that no pod has.
const OUTSIDE: [&str; 4] = ["203.0.113.9", "10.244.0.201", "2001:db8:1::9", "fd00:10:244:1::9000"];

pub fn case(dice: &mut Dice) -> Case {
    let namespaces = PLACES.map(|name| {
        let mut labels = labels(dice, &OF_NAMESPACES);
        labels.insert(NAME.0.to_owned(), name.to_owned());
        (name.to_owned(), labels)
    });
    let pods = (0..5).map(|number| pod(dice, number)).collect();
    let count = 3 + dice.roll(5);
    let policies = (0..count).map(|number| serde_json::from_value(policy(dice, number)).unwrap());
    Case {
        snapshot: Snapshot {
            cluster_policies: Vec::new(),
            policies: policies.collect(),
            namespaces: namespaces.into(),
            pods,
        },
        outside: OUTSIDE.map(|address| address.parse().unwrap()).into(),
    }
}

fn labels(dice: &mut Dice, of: &[(&str, [&str; 3])]) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, values) in of {
        if !dice.once_in(3) {
            labels.insert((*key).to_owned(), (*dice.pick(values)).to_owned());
        }
    }
    labels
}

fn pod(dice: &mut Dice, number: usize) -> Pod {
    let addresses = [
        format!("10.244.0.{}", 2 + number),
        format!("10.244.0.{}", 130 + number),
        format!("10.244.1.{}", 2 + number),
        format!("fd00:10:244::{}", 2 + number),
        format!("fd00:10:244:1::{}", 2 + number),
        format!("fd00:10:244:1::80{}", 10 + number),
    ];
    // The first has IPv6, so that it matters in every case.
    let address = if number == 0 {
        &addresses[3]
    } else {
        dice.pick(&addresses)
    };
    let http = [
        None,
        Some((Protocol::TCP, 8080)),
        Some((Protocol::TCP, 80)),
        Some((Protocol::UDP, 80)),
    ];
    let metrics = [
        None,
        Some((Protocol::TCP, 85)),
        Some((Protocol::SCTP, 9090)),
        Some((Protocol::UDP, 53)),
    ];
    let named = [("http", *dice.pick(&http)), ("metrics", *dice.pick(&metrics))];
    let named = named.into_iter().filter_map(|(name, port)| Some((name, port?)));
    Pod {
        namespace: PLACES[number % 3].to_owned(),
        owner: ("Pod".to_owned(), format!("p{number}")),
        labels: labels(dice, &OF_PODS),
        ports: named
            .map(|(name, (protocol, port))| (name.to_owned(), protocol, port))
            .collect(),
        addresses: [address.parse().unwrap()].into(),
        host_network: false,
    }
}

fn policy(dice: &mut Dice, number: usize) -> Value {
    let mut spec = json!({"podSelector": if dice.once_in(3) { json!({}) } else { selector(dice, &OF_PODS) }});
    let types = [
        json!(null),
        json!([]),
        json!(["Ingress"]),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
        json!(["Egress", "Ingress"]),
    ];
    let types = dice.pick(&types);
    // Also rules of a direction that is not listed, which nobody heeds. Now and then no rule: nothing passes.
    for (field, peers) in [("ingress", "from"), ("egress", "to")] {
        let count = *dice.pick(&[0, 0, 1, 2, 2, 3]);
        let rules: Vec<Value> = (0..count).map(|_| rule(dice, peers)).collect();
        spec[field] = json!(rules);
    }
    if !types.is_null() {
        spec["policyTypes"] = types.clone();
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": dice.pick(&PLACES), "name": format!("policy-{number}")},
        "spec": spec,
    })
}

fn rule(dice: &mut Dice, peers: &str) -> Value {
    let mut rule = json!({});
    match dice.roll(8) {
        0 => rule[peers] = json!([]),
        1 => {}
        _ => rule[peers] = (0..=dice.roll(2)).map(|_| peer(dice)).collect(),
    }
    match dice.roll(6) {
        0 => rule["ports"] = json!([]),
        1 => {}
        _ => rule["ports"] = (0..=dice.roll(3)).map(|_| port(dice)).collect(),
    }
    rule
}

fn peer(dice: &mut Dice) -> Value {
    let of_namespaces = [OF_NAMESPACES[0], OF_NAMESPACES[1], NAME];
    match dice.roll(8) {
        0 | 1 => json!({"podSelector": selector(dice, &OF_PODS)}),
        2 => json!({"namespaceSelector": selector(dice, &of_namespaces)}),
        3 | 4 => json!({"namespaceSelector": selector(dice, &of_namespaces), "podSelector": selector(dice, &OF_PODS)}),
        family => {
            let (cidr, within) = dice.pick(&BLOCKS[family % 2]);
            let except: Vec<&&str> = within.iter().filter(|_| dice.once_in(2)).collect();
            if except.is_empty() {
                json!({"ipBlock": {"cidr": cidr}})
            } else {
                json!({"ipBlock": {"cidr": cidr, "except": except}})
            }
        }
    }
}

fn selector(dice: &mut Dice, of: &[(&str, [&str; 3])]) -> Value {
    let mut selector = Map::new();
    let what = dice.roll(7);
    if what == 0 {
        return json!({});
    }
    if what <= 2 {
        let (key, values) = dice.pick(of);
        selector.insert("matchLabels".to_owned(), json!({*key: dice.pick(values)}));
    }
    if what >= 2 {
        let requirement = |dice: &mut Dice| {
            let (key, values) = *dice.pick(of);
            let operator = *dice.pick(&["In", "In", "In", "NotIn", "NotIn", "Exists", "DoesNotExist"]);
            if !operator.ends_with("In") {
                return json!({"key": key, "operator": operator});
            }
            let first = dice.roll(3);
            let listed = &values[first..(first + 1 + dice.roll(2)).min(3)];
            json!({"key": key, "operator": operator, "values": listed})
        };
        let count = if dice.once_in(4) { 2 } else { 1 };
        let requirements: Vec<Value> = (0..count).map(|_| requirement(dice)).collect();
        selector.insert("matchExpressions".to_owned(), json!(requirements));
    }
    Value::Object(selector)
}

fn port(dice: &mut Dice) -> Value {
    let written = [
        json!({"port": 80}),
        json!({"port": 8080}),
        json!({"port": 9090}),
        json!({"port": 53}),
        json!({"port": 80, "endPort": 85}),
        json!({"port": 80, "endPort": 80}),
        json!({"port": 1, "endPort": 79}),
        json!({"port": 86, "endPort": 65535}),
        json!({"port": "http"}),
        json!({"port": "metrics"}),
        json!({"port": "unknown"}),
        json!({}),
    ];
    let mut port = dice.pick(&written).clone();
    if let Some(protocol) = dice.pick(&[None, Some("TCP"), Some("TCP"), Some("UDP"), Some("SCTP")]) {
        port["protocol"] = json!(protocol);
    }
    port
}
