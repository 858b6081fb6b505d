//! Changes of policies that must change no verdict, or change it in one direction only.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};

use super::brute::{Selecting, cases, cluster, writeln};
use super::concrete::pods;
use crate::api::names;
use crate::network::ports::PortSet;
use crate::network::reach::concrete::{Blocks, Connectivity, Endpoint, Pod, Snapshot};
use crate::network::reach::policy::Direction;
use crate::network::reach::{Isolation, analyse};
use crate::network::testkit::Labels;
use crate::network::world::World;

pub(super) type Connections = BTreeMap<(Endpoint, Endpoint), PortSet>;

pub(super) fn each<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    if let Err(error) = runner.run(strategy, test) {
        panic!("{error}");
    }
}

pub(super) fn snapshot(pods: Vec<Pod>, policies: &[NetworkPolicy]) -> Snapshot {
    let namespaces = cluster().namespaces.into_iter();
    Snapshot {
        namespaces: namespaces.map(|(name, found)| (name, found.labels)).collect(),
        pods,
        policies: policies.to_vec(),
        cluster_policies: Vec::new(),
    }
}

pub(super) fn connections(snapshot: &Snapshot, blocks: Blocks) -> Connections {
    Connectivity::read(snapshot, blocks).unwrap().connections()
}

/// What the symbolic mode says of each stage, without the words.
pub(super) fn verdicts(world: &World, policies: &[NetworkPolicy]) -> BTreeMap<String, u8> {
    let analysis = analyse(world, policies, &[]);
    let grave = |verdict: &Isolation| match verdict {
        Isolation::Isolated => 0,
        Isolation::Unknown { .. } => 1,
        Isolation::PathExists(_) => 2,
    };
    let namespaces = analysis.namespaces.iter();
    namespaces
        .map(|(name, verdict)| (name.clone(), grave(verdict)))
        .collect()
}

/// Addresses that other blocks cut elsewhere are the same addresses.
pub(super) fn among_pods(all: Connections) -> Connections {
    let is_pod = |end: &Endpoint| matches!(end, Endpoint::Workload { .. });
    all.into_iter()
        .filter(|((from, to), _)| is_pod(from) && is_pod(to))
        .collect()
}

/// The rules of a policy, one peer and one port in each, in a policy of their own; and one that only isolates.
fn split(policy: &NetworkPolicy) -> Vec<NetworkPolicy> {
    let spec = policy.spec.as_ref().unwrap();
    let written = spec.policy_types.clone().filter(|types| !types.is_empty());
    let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let default = || ["Ingress"].into_iter().chain(egress.then_some("Egress"));
    let types = written.unwrap_or_else(|| default().map(str::to_owned).collect());
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut NetworkPolicySpec)| {
        let mut part = policy.clone();
        part.metadata.name = Some(format!("{}-{}", policy.metadata.name.as_deref().unwrap(), all.len()));
        let mut spec = NetworkPolicySpec {
            policy_types: Some(types.clone()),
            pod_selector: spec.pod_selector.clone(),
            ..NetworkPolicySpec::default()
        };
        change(&mut spec);
        part.spec = Some(spec);
        all.push(part);
    };
    add(&|_| {});
    for rule in spec.ingress.iter().flatten() {
        for from in singles(rule.from.as_ref()) {
            for ports in singles(rule.ports.as_ref()) {
                let mut single = rule.clone();
                single.from.clone_from(&from);
                single.ports = ports;
                add(&|spec| spec.ingress = Some(vec![single.clone()]));
            }
        }
    }
    for rule in spec.egress.iter().flatten() {
        for to in singles(rule.to.as_ref()) {
            for ports in singles(rule.ports.as_ref()) {
                let mut single = rule.clone();
                single.to.clone_from(&to);
                single.ports = ports;
                add(&|spec| spec.egress = Some(vec![single.clone()]));
            }
        }
    }
    all
}

/// Lists of one, or the list itself where it is empty: that means all.
fn singles<T: Clone>(list: Option<&Vec<T>>) -> Vec<Option<Vec<T>>> {
    match list {
        Some(list) if !list.is_empty() => list.iter().map(|one| Some(vec![one.clone()])).collect(),
        other => vec![other.cloned()],
    }
}

/// Policies of one namespace, of the same pods and the same types, in one.
fn merge(policies: &[NetworkPolicy]) -> Vec<NetworkPolicy> {
    let mut merged: Vec<NetworkPolicy> = Vec::new();
    for policy in policies {
        let spec = policy.spec.as_ref().unwrap();
        let same = |other: &&mut NetworkPolicy| {
            let others = other.spec.as_ref().unwrap();
            other.metadata.namespace == policy.metadata.namespace
                && others.pod_selector == spec.pod_selector
                && others.policy_types == spec.policy_types
        };
        match merged.iter_mut().find(same) {
            None => merged.push(policy.clone()),
            Some(other) => {
                let other = other.spec.as_mut().unwrap();
                other
                    .ingress
                    .get_or_insert_default()
                    .extend(spec.ingress.clone().unwrap_or_default());
                other
                    .egress
                    .get_or_insert_default()
                    .extend(spec.egress.clone().unwrap_or_default());
            }
        }
    }
    merged
}

fn turned(policies: &[NetworkPolicy]) -> Vec<NetworkPolicy> {
    let mut all: Vec<NetworkPolicy> = policies.iter().rev().cloned().collect();
    for spec in all.iter_mut().filter_map(|policy| policy.spec.as_mut()) {
        for rule in spec.ingress.iter_mut().flatten() {
            rule.from.iter_mut().for_each(|peers| peers.reverse());
            rule.ports.iter_mut().for_each(|ports| ports.reverse());
        }
        for rule in spec.egress.iter_mut().flatten() {
            rule.to.iter_mut().for_each(|peers| peers.reverse());
            rule.ports.iter_mut().for_each(|ports| ports.reverse());
        }
        spec.ingress.iter_mut().for_each(|rules| rules.reverse());
        spec.egress.iter_mut().for_each(|rules| rules.reverse());
    }
    all
}

#[test]
fn order_is_of_no_account() {
    each(&(cases(Selecting::Anyhow), pods()), |(policies, pods)| {
        let other = turned(&policies);
        for blocks in [Blocks::External, Blocks::Pods] {
            let mut back = pods.clone();
            back.reverse();
            let one = connections(&snapshot(pods.clone(), &policies), blocks);
            prop_assert_eq!(one, connections(&snapshot(back, &other), blocks));
        }
        prop_assert_eq!(verdicts(&cluster(), &policies), verdicts(&cluster(), &other));
        Ok(())
    });
}

#[test]
fn rules_may_be_split_and_merged() {
    each(&(cases(Selecting::Anyhow), pods()), |(policies, pods)| {
        let parts: Vec<NetworkPolicy> = policies.iter().flat_map(split).collect();
        let whole = merge(&parts);
        prop_assert!(whole.len() <= parts.len());
        for blocks in [Blocks::External, Blocks::Pods] {
            let one = connections(&snapshot(pods.clone(), &policies), blocks);
            prop_assert_eq!(&one, &connections(&snapshot(pods.clone(), &parts), blocks));
            prop_assert_eq!(&one, &connections(&snapshot(pods.clone(), &whole), blocks));
        }
        let verdict = verdicts(&cluster(), &policies);
        prop_assert_eq!(&verdict, &verdicts(&cluster(), &parts));
        prop_assert_eq!(&verdict, &verdicts(&cluster(), &whole));
        Ok(())
    });
}

/// Other words for the same: every key and value of a label, and every namespace.
fn renamed(text: &str) -> String {
    format!("other-{text}")
}

fn renamed_labels(labels: &Labels) -> Labels {
    let labels = labels.iter();
    labels.map(|(key, value)| (renamed_key(key), renamed(value))).collect()
}

/// The name of a namespace stays where it is: it is the API server's own label.
fn renamed_key(key: &str) -> String {
    if key == names::NAMESPACE_NAME_LABEL {
        key.to_owned()
    } else {
        renamed(key)
    }
}

fn renamed_selector(selector: &mut LabelSelector) {
    let labels = selector.match_labels.as_ref();
    selector.match_labels = labels.map(renamed_labels);
    for requirement in selector.match_expressions.iter_mut().flatten() {
        requirement.key = renamed_key(&requirement.key);
        requirement
            .values
            .iter_mut()
            .flatten()
            .for_each(|value| *value = renamed(value));
    }
}

fn renamed_policy(policy: &NetworkPolicy) -> NetworkPolicy {
    let mut policy = policy.clone();
    policy.metadata.namespace = policy.metadata.namespace.as_deref().map(renamed);
    let spec = policy.spec.as_mut().unwrap();
    spec.pod_selector.iter_mut().for_each(renamed_selector);
    let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| &mut rule.from);
    let egress = spec.egress.iter_mut().flatten().flat_map(|rule| &mut rule.to);
    for peer in ingress.chain(egress).flatten() {
        peer.pod_selector.iter_mut().for_each(renamed_selector);
        peer.namespace_selector.iter_mut().for_each(renamed_selector);
    }
    policy
}

#[test]
fn names_are_only_names() {
    each(&(cases(Selecting::Anyhow), pods()), |(policies, pods)| {
        let one = snapshot(pods, &policies);
        let namespaces = one.namespaces.iter();
        let other = Snapshot {
            cluster_policies: Vec::new(),
            namespaces: namespaces
                .map(|(name, labels)| (renamed(name), renamed_labels(labels)))
                .collect(),
            pods: one
                .pods
                .iter()
                .map(|pod| Pod {
                    namespace: renamed(&pod.namespace),
                    labels: renamed_labels(&pod.labels),
                    ..pod.clone()
                })
                .collect(),
            policies: policies.iter().map(renamed_policy).collect(),
        };
        let end = |end: &Endpoint| match end {
            Endpoint::Workload { namespace, name, kind } => Endpoint::Workload {
                namespace: renamed(namespace),
                name: name.clone(),
                kind: kind.clone(),
            },
            Endpoint::Addresses(range) => Endpoint::Addresses(*range),
        };
        for blocks in [Blocks::External, Blocks::Pods] {
            let expected = connections(&one, blocks);
            let expected: Connections = expected
                .iter()
                .map(|((a, b), ports)| ((end(a), end(b)), ports.clone()))
                .collect();
            prop_assert_eq!(expected, connections(&other, blocks));
        }
        Ok(())
    });
}

#[test]
fn an_allow_for_isolated_pods_takes_no_path_away() {
    let asked = RefCell::new([0_u32; 2]);
    each(&(cases(Selecting::Anyhow), pods()), |(mut policies, pods)| {
        let added = policies.pop().unwrap();
        let (before, one) = (snapshot(pods.clone(), &policies), std::slice::from_ref(&added));
        let alone = snapshot(pods, one);
        let (read, alone) = (
            Connectivity::read(&before, Blocks::External).unwrap(),
            Connectivity::read(&alone, Blocks::External).unwrap(),
        );
        let isolates_more = before.pods.iter().any(|pod| {
            let newly = |direction| {
                alone.isolating(pod, direction).next().is_some() && read.isolating(pod, direction).next().is_none()
            };
            Direction::BOTH.into_iter().any(newly)
        });
        asked.borrow_mut()[usize::from(isolates_more)] += 1;
        if isolates_more {
            return Ok(());
        }
        policies.push(added);
        let after = snapshot(before.pods.clone(), &policies);
        for blocks in [Blocks::External, Blocks::Pods] {
            let after = among_pods(connections(&after, blocks));
            for (pair, ports) in among_pods(connections(&before, blocks)) {
                let now = after.get(&pair).cloned().unwrap_or_default();
                prop_assert!(ports.is_within(&now), "{:?}: {} became {}", pair, ports, now);
            }
        }
        Ok(())
    });
    let [tried, left_out] = asked.into_inner();
    writeln(&format!(
        "an allow added: {tried} cases, {left_out} left out because it isolates more"
    ));
    assert!(tried >= 20, "{tried} cases are few");
}

#[test]
fn an_allow_beside_the_denies_makes_no_verdict_better() {
    let grave = RefCell::new(BTreeSet::new());
    let mut world = cluster();
    world.namespaces.retain(|_, namespace| namespace.stage.is_some());
    each(&cases(Selecting::Stages), |mut policies| {
        // Without a deny in the shared namespace an allow there would isolate.
        policies.push(crate::network::testkit::policy(
            "shared",
            "deny",
            "{podSelector: {}, policyTypes: [Ingress, Egress]}",
        ));
        let after = verdicts(&world, &policies);
        let last = policies.iter().rposition(|policy| {
            policy
                .metadata
                .name
                .as_deref()
                .is_some_and(|name| name.starts_with("other-"))
        });
        policies.remove(last.unwrap());
        let before = verdicts(&world, &policies);
        for (namespace, grave_before) in before {
            prop_assert!(grave_before <= after[&namespace], "{}", namespace);
            grave.borrow_mut().insert((grave_before, after[&namespace]));
        }
        Ok(())
    });
    assert!(grave.into_inner().len() >= 4, "verdicts change and stay");
}
