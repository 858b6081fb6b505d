//! Rule 2: a plan is total and deterministic. Whatever order the inputs come in (stores are hash maps, people's lists are
//! sets), the output is byte-equal and sorted by kind, namespace and name.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/random_world.rs"]
mod random_world;

use cloison::admission::{Operator, Waived, generate};
use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::network::flows;
use cloison::network::policies;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use random_world::{drawn, shuffled, world};
use serde_json::json;

const MODES: [&str; 3] = ["Audit", "Warn", "Enforce"];

fn yaml(policies: &[NetworkPolicy]) -> String {
    policies
        .iter()
        .map(|policy| serde_saphyr::to_string(policy).unwrap())
        .collect::<Vec<_>>()
        .join("---\n")
}

fn place(policy: &NetworkPolicy) -> (String, String) {
    let metadata = policy.metadata.clone();
    (metadata.namespace.unwrap(), metadata.name.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn network_policies_are_the_same_bytes(drawn in drawn(), order in 1..u64::MAX) {
        let (one, other) = (world(&drawn, 0), world(&drawn, order));
        let all = policies::all(&one);
        prop_assert_eq!(yaml(&all), yaml(&policies::all(&other)));
        let places: Vec<_> = all.iter().map(place).collect();
        prop_assert!(places.is_sorted_by(|a, b| a < b), "sorted by namespace and name, each once: {:?}", places);
        // One by one or all at once: the same. The controller writes the first, the analysis reads the second.
        let by_namespace = one.namespaces.keys().flat_map(|name| policies::namespace(&one, name)).collect::<Vec<_>>();
        prop_assert_eq!(&by_namespace, &all);
        for (key, workload) in &one.workloads {
            let found = policies::workload(&one, key);
            let name = policies::workload_policy_name(&key.name);
            let wanted = all.iter().find(|policy| place(policy) == (key.namespace.clone(), name.clone()));
            prop_assert_eq!(found.as_ref(), wanted);
            let told = flows::resolve(&other, &other.workloads[key]);
            prop_assert_eq!(flows::resolve(&one, workload).statuses, told.statuses);
        }
    }

    #[test]
    fn admission_policies_are_the_same_bytes(order in 1..u64::MAX, mode in 0..3_usize) {
        let spec = |order: u64| -> AiSecurityPolicySpec {
            serde_json::from_value(json!({
                "mode": MODES[mode],
                "controls": shuffled(vec![
                    json!({"id": "WKL-01", "mode": "Enforce"}),
                    json!({"id": "WKL-03", "mode": "Audit", "reason": "later", "perStage": {"training": "Disabled"}}),
                    json!({"id": "WKL-05", "mode": "Enforce"}),
                ], order),
                "pods": {
                    "images": shuffled(vec![
                        json!({"prefix": "registry.example.com", "stages": ["Training", "Inference"]}),
                        json!({"prefix": "registry.example.com/base", "digest": "Required"}),
                        json!({"prefix": "mirror.example.com"}),
                    ], order),
                    "addCapabilities": shuffled(vec![json!({"capability": "IPC_LOCK"}), json!({"capability": "SYS_NICE"})], order),
                    "inlineCSIDrivers": ["a.csi.example.com", "b.csi.example.com"],
                },
                "network": {"dataplaneControllers": ["eks:network-policy-controller", "system:other"]},
            })).unwrap()
        };
        let operator = Operator::in_namespace(names::DEFAULT_NAMESPACE);
        let set = |order| generate(&spec(order), &operator, &Waived::default(), Timestamp::UNIX_EPOCH);
        let (one, again, other) = (set(0), set(0), set(order));
        prop_assert_eq!(serde_saphyr::to_string(&one).unwrap(), serde_saphyr::to_string(&again).unwrap());
        prop_assert_eq!(&one.hash, &other.hash, "lists of people are sets");
        prop_assert_eq!(serde_saphyr::to_string(&one).unwrap(), serde_saphyr::to_string(&other).unwrap());
        prop_assert!(one.policies.is_sorted_by_key(|policy| policy.metadata.name.clone()));
        prop_assert!(one.bindings.is_sorted_by_key(|binding| binding.metadata.name.clone()));
    }
}
