//! Looking at classes of pods, and only at those that may meet, says the same as looking at every two pods.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use proptest::prelude::*;

use super::brute::{PLACES, Selecting, cases, cluster, writeln};
use super::metamorphic::Connections;
use super::selectors::universe;
use super::tiers_concrete::thinned;
use super::tiers_random::{Style, cluster_policies, read, runner};
use crate::api::network::Protocol;
use crate::network::ports::PortSet;
use crate::network::reach::concrete::{Blocks, Connectivity, Endpoint, Other, Pod, Snapshot, workload};
use crate::network::reach::ends::Ends;
use crate::network::reach::explain::Asked;
use crate::network::reach::policy::Direction;
use crate::network::reach::settle::Unsettled;
use crate::network::testkit::policy;

/// In the block that the policies name, in what they except of it, and outside; and with a second family.
const ADDRESSES: [&[&str]; 6] = [
    &[],
    &["10.244.3.7"],
    &["10.244.3.200"],
    &["10.244.9.7"],
    &["10.244.9.7", "fd00::7"],
    &["10.244.3.7", "10.244.9.8", "fd00:1::7"],
];

/// Pods of a few kinds in each namespace and of a few owners, so that many are alike: also some of different owners, and
/// not all of one owner.
fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let kind = (
        any::<prop::sample::Index>(),
        0..ADDRESSES.len(),
        0..4_usize,
        proptest::bool::weighted(0.1),
    );
    let one = (any::<prop::sample::Index>(), 0..3_usize, 0..9_u8);
    let here = (
        proptest::collection::vec(kind, 1..4),
        proptest::collection::vec(one, 3..7),
    );
    let place = move |name: &'static str| here.clone().prop_map(move |here| (name, here));
    PLACES.map(place).prop_map(|places| {
        let universe = universe();
        let mut pods = Vec::new();
        for (namespace, (kinds, all)) in places {
            for (kind, owner, own) in all {
                let (labels, addresses, http, host_network) = kind.get(&kinds);
                let mut labels = labels.get(&universe).clone();
                // Of these no selector asks.
                labels.insert("pod-template-hash".to_owned(), format!("x{own}"));
                let named = [
                    ("http", Protocol::TCP, 8080),
                    ("http", Protocol::UDP, 53),
                    ("metrics", Protocol::TCP, 85),
                ];
                let named = named
                    .get(*http)
                    .map(|(name, protocol, port)| ((*name).to_owned(), *protocol, *port));
                pods.push(Pod {
                    namespace: namespace.to_owned(),
                    owner: ("Deployment".to_owned(), format!("d{owner}")),
                    labels,
                    addresses: ADDRESSES[*addresses].iter().map(|text| text.parse().unwrap()).collect(),
                    ports: named.into_iter().collect(),
                    host_network: *host_network,
                });
            }
        }
        pods
    })
}

/// Every two pods, one by one.
fn one_by_one(read: &Connectivity<'_>, pods: &BTreeSet<&Pod>) -> Connections {
    let mut all = Connections::new();
    let mut allow = |from: Endpoint, to: Endpoint, ports: PortSet| {
        if from != to && !ports.is_empty() {
            let known = all.entry((from, to)).or_default();
            *known = known.union(&ports);
        }
    };
    for own in pods {
        for other in pods {
            allow(
                workload(own),
                workload(other),
                read.allowed(Asked::Pod(own), Asked::Pod(other)),
            );
        }
        for range in read.outside(Direction::Egress) {
            let ports = read.allowed(Asked::Pod(own), Asked::Address(range.first));
            allow(workload(own), Endpoint::Addresses(range), ports);
        }
        for range in read.outside(Direction::Ingress) {
            let ports = read.allowed(Asked::Address(range.first), Asked::Pod(own));
            allow(Endpoint::Addresses(range), workload(own), ports);
        }
    }
    all
}

/// What is unknown between every two pods, one by one.
fn unknown(read: &Connectivity<'_>, pods: &BTreeSet<&Pod>) -> BTreeMap<String, Unsettled> {
    let mut found: BTreeMap<String, Unsettled> = BTreeMap::new();
    let mut note = |ends: (Endpoint, Endpoint), halves: &[(&Pod, Direction, Other<'_>)]| {
        let settled = halves
            .iter()
            .map(|(own, direction, other)| read.settled(&read.subject(own), *direction, *other));
        let settled: Vec<_> = settled.collect();
        let possible = settled
            .iter()
            .fold(PortSet::all(), |all, half| all.intersection(&half.may_allow));
        for ((own, direction, other), half) in halves.iter().zip(&settled) {
            let ports = half.unknown().intersection(&possible);
            if ends.0 == ends.1 || ports.is_empty() {
                continue;
            }
            let example = (ends.0.clone(), ends.1.clone(), ports.clone());
            for cause in read.causes(own, *direction, *other, &ports) {
                let example = example.clone();
                let known = found.entry(cause).or_insert_with(|| Unsettled {
                    pairs: 0,
                    example: example.clone(),
                });
                known.pairs += 1;
                known.example = example.min(known.example.clone());
            }
        }
    };
    for own in pods {
        for other in pods {
            let out = (*own, Direction::Egress, Other::Pod(other));
            note(
                (workload(own), workload(other)),
                &[out, (*other, Direction::Ingress, Other::Pod(own))],
            );
        }
        for range in read.outside(Direction::Egress) {
            let out = (*own, Direction::Egress, Other::Address(range.first));
            note((workload(own), Endpoint::Addresses(range)), &[out]);
        }
    }
    found
}

#[test]
fn classes_say_what_every_two_pods_say() {
    let namespaces = cluster().namespaces.into_iter();
    let namespaces: BTreeMap<_, _> = namespaces.map(|(name, found)| (name, found.labels)).collect();
    let mix: RefCell<BTreeMap<&str, usize>> = RefCell::default();
    let denied = proptest::collection::vec(proptest::bool::weighted(0.5), PLACES.len());
    let tiers = proptest::option::of(cluster_policies(Style::Anything));
    let drawn = (cases(Selecting::Anyhow), pods(), denied, tiers, any::<bool>());
    let outcome = runner(100).run(&drawn, |(policies, pods, denied, tiers, six)| {
        let mut policies = thinned(policies, &denied);
        policies.extend(six.then(of_the_second_family));
        let snapshot = Snapshot {
            namespaces: namespaces.clone(),
            pods,
            policies,
            cluster_policies: read(tiers.as_deref().unwrap_or_default()),
        };
        let pods: BTreeSet<&Pod> = snapshot.pods.iter().collect();
        for blocks in [Blocks::External, Blocks::Pods] {
            let read = Connectivity::read(&snapshot, blocks).unwrap();
            let found = read.connections();
            prop_assert_eq!(&found, &one_by_one(&read, &pods));
            let unsettled = unknown(&read, &pods);
            prop_assert_eq!(&read.unsettled(), &unsettled);
            let mut mix = mix.borrow_mut();
            let ends: BTreeSet<Endpoint> = pods.iter().map(|pod| workload(pod)).collect();
            let is_pod = |end: &Endpoint| matches!(end, Endpoint::Workload { .. });
            let mut count = |what, many| *mix.entry(what).or_default() += many;
            count("pods", pods.len());
            count("classes", read.classes.len());
            let shared = read.classes.iter().filter(|class| class.workloads.len() > 1);
            count("classes of several owners", shared.count());
            count("pairs of workloads", ends.len() * (ends.len() - 1));
            count(
                "allowed",
                found.keys().filter(|(from, to)| is_pod(from) && is_pod(to)).count(),
            );
            count("sets", 1);
            count("sets with tiers", usize::from(tiers.is_some()));
            count("sets with something unknown", usize::from(!unsettled.is_empty()));
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let mix = mix.into_inner();
    writeln(&format!("classes: {mix:?}"));
    let share = |part: &str, whole: &str| 100 * mix[part] / mix[whole];
    assert!((30..=80).contains(&share("classes", "pods")), "one-sided: {mix:?}");
    assert!(
        (30..=70).contains(&share("allowed", "pairs of workloads")),
        "one-sided: {mix:?}"
    );
    assert!(
        share("classes of several owners", "classes") >= 10,
        "one-sided: {mix:?}"
    );
    assert!(
        (40..=60).contains(&share("sets with tiers", "sets")),
        "one-sided: {mix:?}"
    );
    assert!(mix["sets with something unknown"] >= 30, "one-sided: {mix:?}");
}

fn of_the_second_family() -> NetworkPolicy {
    let block = "[{ipBlock: {cidr: 'fd00::/32'}}]";
    let spec = format!(
        "{{podSelector: {{}}, policyTypes: [Ingress, Egress], egress: [{{to: {block}}}], ingress: [{{from: {block}}}]}}"
    );
    policy("infer", "six", &spec)
}

/// A thousand replicas are a class, whatever their addresses and the labels that nobody asks for.
#[test]
fn replicas_are_one_class_until_a_policy_tells_them_apart() {
    let replica = |number: u8| Pod {
        namespace: "a".to_owned(),
        owner: ("StatefulSet".to_owned(), "db".to_owned()),
        labels: [("app", "db".to_owned()), ("index", number.to_string())]
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        addresses: BTreeSet::from([IpAddr::from([10, 0, 0, number])]),
        ..Pod::default()
    };
    let classes = |policies: &[&str], blocks| {
        let all = policies.iter().enumerate();
        let snapshot = Snapshot {
            pods: (0..200).map(replica).collect(),
            policies: all
                .map(|(index, spec)| policy("a", &format!("p{index}"), spec))
                .collect(),
            ..Snapshot::default()
        };
        Connectivity::read(&snapshot, blocks).unwrap().classes.len()
    };
    let by_label = "{podSelector: {matchExpressions: [{key: index, operator: NotIn, values: ['7', '9']}]}}";
    let by_address = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.64/26]}}]}]}";
    assert_eq!(classes(&["{podSelector: {matchLabels: {app: db}}}"], Blocks::Pods), 1);
    assert_eq!(
        classes(&[by_label], Blocks::Pods),
        3,
        "two that are named, and the others"
    );
    assert_eq!(classes(&[by_address], Blocks::External), 1);
    assert_eq!(
        classes(&[by_address], Blocks::Pods),
        3,
        "before what is excepted, inside, and behind"
    );
}

/// Of each two namespaces that let in, or out, their own pods alone, nobody looks from one to the other.
#[test]
fn only_those_that_may_meet_are_looked_at() {
    let places = ["a", "b", "c"];
    let pods = places.iter().flat_map(|place| {
        ["x", "y"].map(|app| Pod {
            namespace: (*place).to_owned(),
            owner: ("Deployment".to_owned(), app.to_owned()),
            labels: [("app".to_owned(), app.to_owned())].into(),
            ..Pod::default()
        })
    });
    let pods: Vec<Pod> = pods.collect();
    let looks = |spec: &str| {
        let snapshot = Snapshot {
            pods: pods.clone(),
            policies: places.map(|place| policy(place, "own", spec)).into(),
            ..Snapshot::default()
        };
        let read = Connectivity::read(&snapshot, Blocks::External).unwrap();
        let [out, into] = Direction::BOTH.map(|direction| Ends::of(&read, direction, &[]));
        let targets = (0..read.classes.len()).map(|from| Ends::targets(&out, &into, from).len());
        targets.sum::<usize>()
    };
    let own = "[{podSelector: {matchLabels: {app: x}}}]";
    let others = "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [x, y]}]}}";
    assert_eq!(looks(others), 36, "nothing isolates any");
    assert_eq!(looks(&format!("{{podSelector: {{}}, ingress: [{{from: {own}}}]}}")), 6);
    let out = format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: {own}}}]}}");
    assert_eq!(looks(&out), 6);
    let both = format!("{{podSelector: {{}}, egress: [{{to: {own}}}], ingress: [{{from: {own}}}]}}");
    assert_eq!(looks(&both), 3, "from x to x in each");
}
