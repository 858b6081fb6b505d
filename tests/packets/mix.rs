//! What the draws were made of, so that a suite that asks only one side is seen.

use std::collections::BTreeMap;
use std::fmt;

use cloison::api::network::Protocol;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use crate::cluster::{Family, Try};
use crate::draw::PODS;

/// Every construct that has to occur.
const CONSTRUCTS: [&str; 20] = [
    "DoesNotExist",
    "Exists",
    "In",
    "NotIn",
    "any port of a protocol",
    "endPort",
    "every peer",
    "every port",
    "flow of an AiWorkload",
    "ipBlock v4",
    "ipBlock v4 except",
    "ipBlock v6",
    "ipBlock v6 except",
    "matchLabels",
    "named port",
    "namespaceSelector",
    "no policyTypes",
    "no rule",
    "one policyType",
    "podSelector of all namespaces' pods",
];

/// Counts.
#[derive(Default)]
pub struct Mix {
    constructs: BTreeMap<&'static str, usize>,
    /// By what is asked: how many there were, how many of them passed.
    verdicts: BTreeMap<String, (usize, usize)>,
}

impl Mix {
    pub fn policies(&mut self, policies: &[NetworkPolicy], flows: usize) {
        self.add("flow of an AiWorkload", flows);
        for policy in policies {
            let spec = serde_json::to_value(&policy.spec).unwrap();
            let types = spec.get("policyTypes").and_then(Value::as_array);
            match types.map(Vec::len) {
                None | Some(0) => self.add("no policyTypes", 1),
                Some(1) => self.add("one policyType", 1),
                Some(_) => {}
            }
            let selector = spec.get("podSelector").cloned().unwrap_or_default();
            self.selector(&selector);
            let lists = [("ingress", "from"), ("egress", "to")];
            let rules = lists.iter().flat_map(|(list, peers)| {
                let rules = spec.get(*list).and_then(Value::as_array).into_iter().flatten();
                rules.map(|rule| (rule.get(*peers), rule.get("ports")))
            });
            let rules: Vec<_> = rules.collect();
            if rules.is_empty() {
                self.add("no rule", 1);
            }
            for (peers, ports) in rules {
                self.rule(peers, ports);
            }
        }
    }

    pub fn verdict(&mut self, tried: Try, passed: bool) {
        let family = match tried.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        let protocol = match tried.port.0 {
            Protocol::UDP => "UDP",
            _ => "TCP",
        };
        let (from, to) = (PODS[tried.from], PODS[tried.to]);
        let node = if from.2 == to.2 { "one node" } else { "two nodes" };
        let namespace = if from.0 == to.0 {
            "one namespace"
        } else {
            "two namespaces"
        };
        for kind in ["all", family, protocol, node, namespace] {
            let counted = self.verdicts.entry(kind.to_owned()).or_default();
            counted.0 += 1;
            counted.1 += usize::from(passed);
        }
    }

    /// The share of what passed, of everything that was asked.
    pub fn allowed(&self) -> impl Iterator<Item = (&str, f64)> {
        #[allow(clippy::cast_precision_loss)] // some ten thousand
        let share = |(all, passed): &(usize, usize)| *passed as f64 / *all as f64;
        self.verdicts
            .iter()
            .map(move |(kind, counted)| (kind.as_str(), share(counted)))
    }

    /// Constructs that occurred less often than `least`.
    pub fn rare(&self, least: usize) -> Vec<(&'static str, usize)> {
        let counted = CONSTRUCTS.map(|construct| (construct, self.constructs.get(construct).copied().unwrap_or(0)));
        counted.into_iter().filter(|(_, count)| *count < least).collect()
    }

    fn add(&mut self, construct: &'static str, count: usize) {
        *self.constructs.entry(construct).or_default() += count;
    }

    fn rule(&mut self, peers: Option<&Value>, ports: Option<&Value>) {
        let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
        let (peers, ports) = (list(peers), list(ports));
        if peers.is_empty() {
            self.add("every peer", 1);
        }
        if ports.is_empty() {
            self.add("every port", 1);
        }
        for peer in peers {
            if let Some(block) = peer.get("ipBlock") {
                let v6 = block["cidr"].as_str().is_some_and(|cidr| cidr.contains(':'));
                self.add(if v6 { "ipBlock v6" } else { "ipBlock v4" }, 1);
                if block.get("except").is_some() {
                    self.add(if v6 { "ipBlock v6 except" } else { "ipBlock v4 except" }, 1);
                }
            }
            if let Some(selector) = peer.get("namespaceSelector") {
                self.add("namespaceSelector", 1);
                self.selector(selector);
                if peer.get("podSelector").is_some() {
                    self.add("podSelector of all namespaces' pods", 1);
                }
            }
            if let Some(selector) = peer.get("podSelector") {
                self.selector(selector);
            }
        }
        for port in ports {
            match port.get("port") {
                None => self.add("any port of a protocol", 1),
                Some(Value::String(_)) => self.add("named port", 1),
                Some(_) => {}
            }
            if port.get("endPort").is_some() {
                self.add("endPort", 1);
            }
        }
    }

    fn selector(&mut self, selector: &Value) {
        if selector.get("matchLabels").is_some() {
            self.add("matchLabels", 1);
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let operator = expression["operator"].as_str();
            let known = CONSTRUCTS.into_iter().find(|construct| Some(*construct) == operator);
            self.add(known.unwrap(), 1);
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let constructs = self.constructs.iter().map(|(name, count)| format!("{name} {count}"));
        writeln!(f, "constructs: {}", constructs.collect::<Vec<_>>().join(", "))?;
        let verdicts = self.verdicts.iter().zip(self.allowed());
        let verdicts = verdicts.map(|((_, (all, _)), (kind, share))| format!("{kind} {:.0} % of {all}", share * 100.0));
        write!(f, "allowed: {}", verdicts.collect::<Vec<_>>().join(", "))
    }
}
