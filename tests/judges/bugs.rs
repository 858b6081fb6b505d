//! What the two programs get wrong, as far as we know. While a mistake lasts, its test here shows it; when the test
//! fails, the program was mended, and what makes up for the mistake can go.
//!
//! | program | mistake | what is done about it |
//! |---|---|---|
//! | cyclonus | `NotIn` does not match what lacks the key | [`not_in_wants_the_key`]: it must say exactly what that makes |
//! | cyclonus | a label that is missing equals an empty value | the corpus has no empty values |
//! | network-config-analyzer | `Exists` and `DoesNotExist` of a pod look only in the policy's own namespace, also beside a `namespaceSelector` | [`exists_stays_at_home`], the same way |
//! | network-config-analyzer | `egress: []` without `policyTypes` isolates egress | [`readable`]: it gets no empty lists, as the API server keeps none |
//! | network-config-analyzer | refuses rules of a direction that `policyTypes` leaves out | [`readable`]: it does not get them |
//! | network-config-analyzer | refuses `policyTypes: [Egress, Ingress]` | [`readable`]: it gets the other order |
//! | network-config-analyzer | a label that a namespace lacks equals an empty value | the corpus has no empty values |

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// As if `NotIn` came with `Exists`.
pub fn not_in_wants_the_key(policies: &[NetworkPolicy]) -> Option<Vec<NetworkPolicy>> {
    let mut changed = policies.to_vec();
    for policy in &mut changed {
        let spec = policy.spec.as_mut()?;
        spec.pod_selector.iter_mut().for_each(want_keys);
        for peer in peers(policy) {
            peer.pod_selector.iter_mut().for_each(want_keys);
            peer.namespace_selector.iter_mut().for_each(want_keys);
        }
    }
    (changed != policies).then_some(changed)
}

fn want_keys(selector: &mut LabelSelector) {
    let expressions = selector.match_expressions.get_or_insert_default();
    let keys: Vec<String> = expressions
        .iter()
        .filter(|requirement| requirement.operator == "NotIn")
        .map(|requirement| requirement.key.clone())
        .collect();
    expressions.extend(keys.into_iter().map(|key| requirement(&key, "Exists", None)));
}

/// As if a peer whose pods are selected by `Exists` or `DoesNotExist` had to be in the policy's own namespace.
pub fn exists_stays_at_home(policies: &[NetworkPolicy]) -> Option<Vec<NetworkPolicy>> {
    let mut changed = policies.to_vec();
    for policy in &mut changed {
        let home = policy.metadata.namespace.clone()?;
        for peer in peers(policy) {
            let mut pods = peer
                .pod_selector
                .iter()
                .flat_map(|pods| pods.match_expressions.iter().flatten());
            let existence = pods.any(|requirement| matches!(&*requirement.operator, "Exists" | "DoesNotExist"));
            if let Some(namespaces) = peer.namespace_selector.as_mut().filter(|_| existence) {
                let name = requirement("kubernetes.io/metadata.name", "In", Some(vec![home.clone()]));
                namespaces.match_expressions.get_or_insert_default().push(name);
            }
        }
    }
    (changed != policies).then_some(changed)
}

/// The same policy in words that network-config-analyzer reads: no empty lists of rules, no rules of a direction that
/// policyTypes leaves out, policyTypes in its order.
pub fn readable(policy: &NetworkPolicy) -> NetworkPolicy {
    let mut policy = policy.clone();
    if let Some(spec) = &mut policy.spec {
        let types = spec.policy_types.clone().unwrap_or_default();
        let listed = |direction: &str| types.is_empty() || types.iter().any(|listed| listed == direction);
        spec.ingress = spec
            .ingress
            .take()
            .filter(|rules| !rules.is_empty() && listed("Ingress"));
        spec.egress = spec.egress.take().filter(|rules| !rules.is_empty() && listed("Egress"));
        let types = spec.policy_types.iter_mut();
        types.for_each(|types| types.sort_by_key(|direction| direction != "Ingress"));
    }
    policy
}

fn requirement(key: &str, operator: &str, values: Option<Vec<String>>) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values,
    }
}

fn peers(policy: &mut NetworkPolicy) -> impl Iterator<Item = &mut NetworkPolicyPeer> {
    let spec = policy.spec.iter_mut();
    spec.flat_map(|spec| {
        let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| &mut rule.from);
        let egress = spec.egress.iter_mut().flatten().flat_map(|rule| &mut rule.to);
        ingress.chain(egress).flatten()
    })
}

mod tests {
    use std::collections::BTreeMap;

    use cloison::api::network::Protocol;
    use cloison::network::reach::concrete::{Pod, Snapshot};

    use super::NetworkPolicy;
    use crate::Judge;
    use crate::analyzer::Analyzer;
    use crate::case::{Case, Packet};
    use crate::cyclonus::Cyclonus;

    /// `a/plain` and `b/plain` without labels, in namespaces without any, and a policy in `a`.
    fn case(spec: &str) -> Case {
        let pod = |namespace: &str, address: &str| Pod {
            namespace: namespace.to_owned(),
            owner: ("Pod".to_owned(), "plain".to_owned()),
            addresses: [address.parse().unwrap()].into(),
            ..Pod::default()
        };
        let named = |name: &str| BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        let mut policy = NetworkPolicy {
            spec: Some(serde_saphyr::from_str(spec).unwrap()),
            ..NetworkPolicy::default()
        };
        policy.metadata.name = Some("policy".to_owned());
        policy.metadata.namespace = Some("a".to_owned());
        Case {
            snapshot: Snapshot {
                cluster_policies: Vec::new(),
                namespaces: ["a", "b"].map(|name| (name.to_owned(), named(name))).into(),
                pods: vec![pod("a", "10.244.0.2"), pod("b", "10.244.0.3")],
                policies: vec![policy],
            },
            outside: Vec::new(),
        }
    }

    /// What the analysis, the plain evaluator and a judge say of one packet between the two pods.
    fn said<J: Judge>(case: &Case, from: usize, judge: impl FnOnce(&[Packet]) -> Vec<bool>) -> [bool; 3] {
        let packet = Packet {
            from,
            to: 1 - from,
            protocol: Protocol::TCP,
            port: 80,
        };
        let packet = [packet];
        let all = [
            case.analysed(J::BLOCKS, &packet),
            case.plain(J::BLOCKS, &packet),
            judge(&packet),
        ];
        all.map(|said| said[0])
    }

    fn to_cyclonus(spec: &str, from: usize) -> [bool; 3] {
        let case = case(spec);
        said::<Cyclonus>(&case, from, |packet| Cyclonus.judge(&case, packet))
    }

    fn to_analyzer(spec: &str, from: usize) -> [bool; 3] {
        let case = case(spec);
        said::<Analyzer>(&case, from, |packet| Analyzer::start().ask(&case, packet).unwrap())
    }

    const FROM_A: usize = 0;
    const FROM_B: usize = 1;
    const RIGHT: &str = "it is mended: remove what makes up for this mistake";

    #[test]
    fn cyclonus_does_not_match_not_in_with_what_lacks_the_key() {
        let spec =
            "{podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [x]}]}, policyTypes: [Ingress]}";
        assert_eq!(to_cyclonus(spec, FROM_B), [false, false, true], "{RIGHT}");
    }

    #[test]
    fn cyclonus_takes_a_missing_label_for_an_empty_one() {
        let spec = "{podSelector: {matchLabels: {tier: ''}}, policyTypes: [Ingress]}";
        assert_eq!(to_cyclonus(spec, FROM_B), [true, true, false], "{RIGHT}");
    }

    #[test]
    fn the_analyzer_looks_for_keys_of_pods_only_in_the_policys_namespace() {
        let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {},
            podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}}]}]}";
        assert_eq!(to_analyzer(spec, FROM_A), [true, true, false], "{RIGHT}");
    }

    #[test]
    fn the_analyzer_takes_a_missing_label_of_a_namespace_for_an_empty_one() {
        let spec = "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: ''}}}]}]}";
        assert_eq!(to_analyzer(spec, FROM_B), [false, false, true], "{RIGHT}");
    }

    #[test]
    fn the_analyzer_isolates_egress_by_an_empty_list() {
        let spec = "{podSelector: {}, egress: []}";
        assert_eq!(to_analyzer(spec, FROM_A), [true, true, false], "{RIGHT}");
    }

    #[test]
    fn the_analyzer_refuses_what_the_api_server_takes() {
        for (spec, complaint) in [
            (
                "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}",
                r#"egress field but no "Egress" in its policyTypes"#,
            ),
            (
                "{podSelector: {}, policyTypes: [Egress, Ingress]}",
                "policyTypes has invalid value",
            ),
        ] {
            let mut case = case(spec);
            let mut analyzer = Analyzer::start();
            let refused = analyzer.ask(&case, &[]).expect_err(RIGHT);
            assert!(refused.contains(complaint), "{refused}");
            case.snapshot.policies = case.snapshot.policies.iter().map(super::readable).collect();
            assert_eq!(analyzer.ask(&case, &[]), Ok(Vec::new()), "{spec}");
        }
    }
}
