//! NetworkPolicies that come at random, the same in every run.

use serde_json::{Value, json};

use crate::dice::Dice;

/// The spec of a NetworkPolicy.
pub fn random_policy(dice: &mut Dice) -> Value {
    let mut spec = json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]});
    if dice.once_in(4) {
        spec["podSelector"] = json!({"matchLabels": {"app": "a"}});
    }
    for (direction, peers) in [("egress", "to"), ("ingress", "from")] {
        let rules: Vec<Value> = (0..dice.roll(3)).map(|_| random_rule(dice, peers)).collect();
        spec[direction] = json!(rules);
    }
    spec
}

/// One rule, whose peers are in the field `peers`.
pub fn random_rule(dice: &mut Dice, peers: &str) -> Value {
    let mut rule = json!({});
    if !dice.once_in(8) {
        let some: Vec<Value> = (0..=dice.roll(2)).map(|_| peer(dice.roll(12))).collect();
        rule[peers] = json!(some);
    }
    if dice.once_in(2) {
        rule["ports"] = json!([{"protocol": "TCP", "port": 443}]);
    }
    rule
}

/// One of twelve peers, from bad to good.
pub fn peer(number: usize) -> Value {
    let block = |cidr: &str| json!({"ipBlock": {"cidr": cidr}});
    match number {
        0 => json!({"namespaceSelector": {}}),
        1 => json!({"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}),
        2 => block("198.0.0.0/8"),
        3 => block("2001:db8::/32"),
        4 => block("10.20.0.0/16"),
        5 => block("169.254.169.254/32"),
        6 => json!({"ipBlock": {"cidr": "192.168.0.0/16", "except": ["192.168.1.0/24"]}}),
        7 => block("2001:db8:1::/64"),
        8 => block("198.51.100.0/24"),
        _ => json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}),
    }
}
