//! What the corpus is made of. A judge that was never asked about a construct says nothing about it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How often each construct must be there.
const ENOUGH: u32 = 200;

const CONSTRUCTS: [&str; 25] = [
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "matchLabels",
    "empty selector",
    "podSelector alone",
    "namespaceSelector alone",
    "both selectors",
    "ipBlock v4",
    "ipBlock v6",
    "except",
    "empty peers",
    "missing peers",
    "empty ports",
    "missing ports",
    "numbered port",
    "named port",
    "endPort",
    "port without number",
    "port without protocol",
    "no policyTypes",
    "both directions",
    "no rules",
    "rules of a direction not listed",
];

#[derive(Default)]
pub struct Mix(BTreeMap<&'static str, u32>);

impl Mix {
    pub fn count(&mut self, policies: &[NetworkPolicy]) {
        policies.iter().for_each(|policy| self.policy(policy));
    }

    /// Fails when a construct is rare.
    pub fn is_rich(&self) {
        let seen = |construct: &&str| self.0.get(*construct).copied().unwrap_or_default() >= ENOUGH;
        let rare: Vec<&str> = CONSTRUCTS.into_iter().filter(|construct| !seen(construct)).collect();
        assert!(rare.is_empty(), "fewer than {ENOUGH} times in the corpus: {rare:?}");
    }

    fn seen(&mut self, construct: &'static str, is: bool) {
        debug_assert!(CONSTRUCTS.contains(&construct), "{construct}");
        *self.0.entry(construct).or_default() += u32::from(is);
    }

    fn policy(&mut self, policy: &NetworkPolicy) {
        let spec = policy.spec.as_ref().unwrap();
        let types = spec.policy_types.as_deref().unwrap_or_default();
        self.seen("no policyTypes", types.is_empty());
        self.seen("both directions", types.len() == 2);
        self.selector(spec.pod_selector.as_ref());
        let listed = |direction: &str| types.iter().any(|listed| listed == direction);
        let count = |rules: Option<usize>| rules.unwrap_or_default();
        let (ingress, egress) = (
            count(spec.ingress.as_ref().map(Vec::len)),
            count(spec.egress.as_ref().map(Vec::len)),
        );
        for (direction, rules) in [("Ingress", ingress), ("Egress", egress)] {
            self.seen("no rules", listed(direction) && rules == 0);
            let unlisted = !types.is_empty() && !listed(direction);
            self.seen("rules of a direction not listed", unlisted && rules > 0);
        }
        for rule in spec.ingress.iter().flatten() {
            self.rule(rule.from.as_deref(), rule.ports.as_deref());
        }
        for rule in spec.egress.iter().flatten() {
            self.rule(rule.to.as_deref(), rule.ports.as_deref());
        }
    }

    fn rule(&mut self, peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) {
        self.seen("missing peers", peers.is_none());
        self.seen("empty peers", peers.is_some_and(<[_]>::is_empty));
        self.seen("missing ports", ports.is_none());
        self.seen("empty ports", ports.is_some_and(<[_]>::is_empty));
        for peer in peers.unwrap_or_default() {
            let (namespaces, pods) = (peer.namespace_selector.as_ref(), peer.pod_selector.as_ref());
            self.seen("podSelector alone", namespaces.is_none() && pods.is_some());
            self.seen("namespaceSelector alone", namespaces.is_some() && pods.is_none());
            self.seen("both selectors", namespaces.is_some() && pods.is_some());
            self.selector(namespaces);
            self.selector(pods);
            if let Some(block) = &peer.ip_block {
                self.seen("ipBlock v6", block.cidr.contains(':'));
                self.seen("ipBlock v4", !block.cidr.contains(':'));
                self.seen("except", block.except.as_ref().is_some_and(|except| !except.is_empty()));
            }
        }
        for port in ports.unwrap_or_default() {
            self.seen("named port", matches!(port.port, Some(IntOrString::String(_))));
            self.seen("numbered port", matches!(port.port, Some(IntOrString::Int(_))));
            self.seen("port without number", port.port.is_none());
            self.seen("port without protocol", port.protocol.is_none());
            self.seen("endPort", port.end_port.is_some());
        }
    }

    fn selector(&mut self, selector: Option<&LabelSelector>) {
        let Some(selector) = selector else { return };
        let labels = selector.match_labels.as_ref().is_some_and(|labels| !labels.is_empty());
        let expressions = selector.match_expressions.as_deref().unwrap_or_default();
        self.seen("matchLabels", labels);
        self.seen("empty selector", !labels && expressions.is_empty());
        for requirement in expressions {
            let operator = CONSTRUCTS.iter().find(|construct| **construct == requirement.operator);
            self.seen(operator.copied().unwrap(), true);
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, construct) in CONSTRUCTS.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{construct} {}",
                self.0.get(construct).copied().unwrap_or_default()
            )?;
        }
        Ok(())
    }
}
