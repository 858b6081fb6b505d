//! The pitfalls of NetworkPolicy as they look from running pods, one by one, and what the symbolic mode makes of those
//! that `traps.rs` and `verdicts.rs` do not have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::traps::{cluster, said, training, verdicts, with};
use crate::api::network::Protocol;
use crate::network::reach::analyse;
use crate::network::reach::concrete::{Blocks, Connectivity, Endpoint, Pod, Snapshot};
use crate::network::testkit::{labels, policy};

pub(super) const NOTHING: &str = "nothing";

/// `NAMESPACE/NAME`, with one label `app: NAME`.
fn pod(full: &str) -> Pod {
    let (namespace, name) = full.split_once('/').unwrap();
    Pod {
        namespace: namespace.to_owned(),
        owner: ("Pod".to_owned(), name.to_owned()),
        labels: labels(&format!("app={name}")),
        ..Pod::default()
    }
}

/// Pods in three namespaces: a training job, an inference server that calls its port http, somebody else.
fn running() -> Snapshot {
    let mut server = pod("infer/api");
    server.ports = [("http".to_owned(), Protocol::TCP, 8080)].into();
    server.addresses = ["10.244.1.2".parse().unwrap()].into();
    let mut job = pod("train/job");
    job.ports = [("http".to_owned(), Protocol::TCP, 80)].into();
    job.addresses = ["10.244.0.2".parse().unwrap()].into();
    let namespaces = [
        ("train", labels("stage=training")),
        ("infer", labels("stage=inference")),
        ("plain", BTreeMap::new()),
    ];
    Snapshot {
        namespaces: namespaces.map(|(name, labels)| (name.to_owned(), labels)).into(),
        pods: vec![job, pod("train/other"), server, pod("plain/web")],
        policies: Vec::new(),
        cluster_policies: Vec::new(),
    }
}

/// The same with policies: (namespace, spec).
pub(super) fn under(policies: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = running();
    let named = policies.iter().enumerate();
    snapshot.policies = named
        .map(|(at, (namespace, spec))| policy(namespace, &format!("policy-{at}"), spec))
        .collect();
    snapshot
}

/// The ports from one end to another: pods as `namespace/name`, or an address.
pub(super) fn ports(snapshot: &Snapshot, from: &str, to: &str, blocks: Blocks) -> String {
    let is = |endpoint: &Endpoint, text: &str| match endpoint {
        Endpoint::Workload { namespace, name, .. } => format!("{namespace}/{name}") == text,
        Endpoint::Addresses(range) => text
            .parse::<IpAddr>()
            .is_ok_and(|address| (range.first..=range.last).contains(&address)),
    };
    let read = Connectivity::read(snapshot, blocks).unwrap();
    let connections = read.connections();
    let mut found = connections.iter().filter(|((a, b), _)| is(a, from) && is(b, to));
    found
        .next()
        .map_or_else(|| NOTHING.to_owned(), |(_, ports)| ports.to_string())
}

/// The ports from the job to the server under policies, when an `ipBlock` is no pod.
pub(super) fn to_server(policies: &[(&str, &str)]) -> String {
    ports(&under(policies), "train/job", "infer/api", Blocks::External)
}

#[test]
fn a_connection_needs_both_ends_and_its_replies_need_no_rule() {
    let (deny, out) = (
        ("train", "{podSelector: {}, policyTypes: [Egress]}"),
        (
            "train",
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}",
        ),
    );
    let (closed, open) = (
        ("infer", "{podSelector: {}, policyTypes: [Ingress]}"),
        (
            "infer",
            "{podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {}}]}]}",
        ),
    );
    assert_eq!(to_server(&[]), "all ports", "nothing isolates");
    assert_eq!(to_server(&[out, closed]), NOTHING);
    assert_eq!(to_server(&[deny, open]), NOTHING);
    assert_eq!(to_server(&[out, open]), "all ports");
    // The server may open nothing itself, and answers.
    let silent = ("infer", "{podSelector: {}, policyTypes: [Egress]}");
    assert_eq!(to_server(&[silent]), "all ports", "only egress is isolated");
    assert_eq!(to_server(&[out, open, silent]), "all ports");
    assert_eq!(
        ports(&under(&[silent]), "infer/api", "train/job", Blocks::External),
        NOTHING
    );
}

#[test]
fn policies_add_up_and_none_takes_away() {
    let some = |port: u16| format!("{{podSelector: {{}}, ingress: [{{ports: [{{port: {port}}}]}}]}}");
    let closed = "{podSelector: {}, policyTypes: [Ingress]}";
    let all = [("infer", &*some(80)), ("infer", closed), ("infer", &*some(90))];
    assert_eq!(to_server(&all), "TCP 80, TCP 90");
}

#[test]
fn without_types_an_egress_rule_isolates_ingress_too_and_no_egress_rule_leaves_egress_open() {
    let rule = ("train", "{podSelector: {}, egress: [{}]}");
    let into = |policies: &[(&str, &str)]| ports(&under(policies), "plain/web", "train/job", Blocks::External);
    assert_eq!(into(&[rule]), NOTHING);
    assert_eq!(to_server(&[rule]), "all ports");
    for none in [
        "{podSelector: {}}",
        "{podSelector: {}, egress: []}",
        "{podSelector: {}, policyTypes: []}",
    ] {
        assert_eq!(into(&[("train", none)]), NOTHING, "{none}");
        assert_eq!(to_server(&[("train", none)]), "all ports", "{none}");
    }
    // Listed, a direction without a rule is shut; not listed, its rules are nothing.
    assert_eq!(
        to_server(&[("train", "{podSelector: {}, policyTypes: [Egress]}")]),
        NOTHING
    );
    assert_eq!(
        into(&[("train", "{podSelector: {}, policyTypes: [Egress], ingress: []}")]),
        "all ports"
    );
    assert_eq!(
        to_server(&[("infer", "{podSelector: {}, policyTypes: [Ingress], egress: []}")]),
        NOTHING
    );
}

#[test]
fn missing_and_empty_lists_of_peers_and_ports_are_all_and_no_rule_is_none() {
    for all in ["[{}]", "[{from: []}]", "[{ports: []}]", "[{from: [], ports: []}]"] {
        let spec = format!("{{podSelector: {{}}, ingress: {all}}}");
        assert_eq!(to_server(&[("infer", &spec)]), "all ports", "{all}");
        let outside = ports(
            &under(&[("infer", &spec)]),
            "203.0.113.9",
            "infer/api",
            Blocks::External,
        );
        assert_eq!(outside, "all ports", "{all}");
    }
    assert_eq!(to_server(&[("infer", "{podSelector: {}, ingress: []}")]), NOTHING);
    // What the API server keeps of it.
    assert_eq!(
        to_server(&[("infer", "{podSelector: {}, policyTypes: [Ingress]}")]),
        NOTHING
    );
}

#[test]
fn a_peer_without_any_field_is_no_peer() {
    let snapshot = under(&[("train", "{podSelector: {}, egress: [{to: [{}]}]}")]);
    assert!(Connectivity::read(&snapshot, Blocks::External).is_err());
}

#[test]
fn pods_alone_are_of_the_own_namespace_and_namespaces_alone_are_all_their_pods() {
    let to = |peer: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}]}}]}}");
    let reached = |peer: &str| {
        let spec = to(peer);
        let snapshot = under(&[("train", &spec)]);
        let all = ["train/other", "infer/api", "plain/web", "203.0.113.9"];
        let open = all.map(|other| ports(&snapshot, "train/job", other, Blocks::External) != NOTHING);
        open.map(u8::from)
    };
    assert_eq!(reached("{podSelector: {}}"), [1, 0, 0, 0]);
    assert_eq!(reached("{namespaceSelector: {}}"), [1, 1, 1, 0]);
    assert_eq!(
        reached("{namespaceSelector: {matchLabels: {stage: inference}}}"),
        [0, 1, 0, 0]
    );
    assert_eq!(
        reached("{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}"),
        [0, 0, 1, 0]
    );
    // Two peers are either, not both.
    assert_eq!(
        reached("{namespaceSelector: {matchLabels: {stage: inference}}}, {podSelector: {matchLabels: {app: other}}}"),
        [1, 1, 0, 0]
    );
    assert_eq!(training(&to("{podSelector: {}}")), "isolated");
    assert!(training(&to("{namespaceSelector: {}}")).starts_with("a pod in vision-train"));
    let nobody = "{namespaceSelector: {}, podSelector: {matchExpressions: [{key: a, operator: Exists}, {key: a, operator: DoesNotExist}]}}";
    assert_eq!(training(&to(nobody)), "isolated");
    assert_eq!(reached(nobody), [0, 0, 0, 0]);
}

#[test]
fn not_in_and_does_not_exist_match_what_lacks_the_key() {
    let from = |expression: &str| {
        let spec = format!(
            "{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {{matchExpressions: [{expression}]}}}}]}}]}}"
        );
        let snapshot = under(&[("infer", &spec)]);
        ["train/job", "plain/web"]
            .map(|other| u8::from(ports(&snapshot, other, "infer/api", Blocks::External) != NOTHING))
    };
    assert_eq!(from("{key: stage, operator: NotIn, values: [inference]}"), [1, 1]);
    assert_eq!(from("{key: stage, operator: NotIn, values: [training]}"), [0, 1]);
    assert_eq!(from("{key: stage, operator: DoesNotExist}"), [0, 1]);
    assert_eq!(from("{key: stage, operator: Exists}"), [1, 0]);
    // As a subject: the policy is for pods without the label.
    let subject =
        "{podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [x]}]}, policyTypes: [Ingress]}";
    assert_eq!(to_server(&[("infer", subject)]), NOTHING);
    let absent = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]}";
    let analysis = verdicts(&[("vision-infer", "other", absent)]);
    assert!(said(&analysis, "vision-infer").starts_with("a pod in kube-system"));
}

#[test]
fn a_namespace_has_the_name_it_has_whatever_its_label_says() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: train}}}]}]}";
    let mut snapshot = under(&[("infer", spec)]);
    let forged = labels("kubernetes.io/metadata.name=train");
    snapshot.namespaces.insert("plain".to_owned(), forged);
    assert_eq!(ports(&snapshot, "plain/web", "infer/api", Blocks::External), NOTHING);
    assert_eq!(
        ports(&snapshot, "train/job", "infer/api", Blocks::External),
        "all ports"
    );
}

#[test]
fn an_ip_block_is_pods_or_is_not() {
    let spec =
        |block: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {block}}}]}}]}}");
    let reached = |block: &str, blocks: Blocks| {
        let spec = spec(block);
        let snapshot = under(&[("train", &spec)]);
        ["infer/api", "plain/web", "203.0.113.9"]
            .map(|other| u8::from(ports(&snapshot, "train/job", other, blocks) != NOTHING))
    };
    assert_eq!(reached("{cidr: 0.0.0.0/0}", Blocks::External), [0, 0, 1]);
    // The address of plain/web is not known: it may be any.
    assert_eq!(reached("{cidr: 0.0.0.0/0}", Blocks::Pods), [1, 1, 1]);
    assert_eq!(reached("{cidr: 10.244.1.0/24}", Blocks::Pods), [1, 1, 0]);
    assert_eq!(reached("{cidr: 10.244.2.0/24}", Blocks::Pods), [0, 1, 0]);
    assert_eq!(
        reached(
            "{cidr: 0.0.0.0/0, except: [10.244.1.0/24, 203.0.113.0/24]}",
            Blocks::Pods
        ),
        [0, 1, 0]
    );
    assert_eq!(
        reached("{cidr: 0.0.0.0/0, except: [203.0.113.9/32]}", Blocks::External),
        [0, 0, 0]
    );
}

#[test]
fn a_pod_cannot_be_kept_from_itself() {
    let deny = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    let snapshot = under(&[("train", deny)]);
    let read = Connectivity::read(&snapshot, Blocks::External).unwrap();
    assert!(
        read.connections().keys().all(|(from, to)| from != to),
        "nothing is said of a pod and itself"
    );
    assert_eq!(ports(&snapshot, "train/job", "train/other", Blocks::External), NOTHING);
}

#[test]
fn a_pod_of_the_host_network_is_no_subject_and_no_peer() {
    let mut snapshot = under(&[
        ("plain", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        (
            "infer",
            "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        ),
    ]);
    snapshot.pods[3].host_network = true;
    assert_eq!(
        ports(&snapshot, "train/job", "plain/web", Blocks::External),
        "all ports"
    );
    assert_eq!(ports(&snapshot, "plain/web", "infer/api", Blocks::External), NOTHING);
    let everybody = policy("infer", "everybody", "{podSelector: {}, ingress: [{}]}");
    snapshot.policies.push(everybody);
    assert_eq!(
        ports(&snapshot, "plain/web", "infer/api", Blocks::External),
        "all ports"
    );
}

#[test]
fn the_api_server_and_the_dns_of_a_node_are_addresses_that_no_selector_matches() {
    for (address, block) in [("192.168.7.2", "192.168.7.2/32"), ("169.254.20.10", "169.254.20.10/32")] {
        let everywhere = (
            "train",
            "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}",
        );
        assert_eq!(
            ports(&under(&[everywhere]), "train/job", address, Blocks::External),
            NOTHING
        );
        let there =
            format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {block}}}}}]}}]}}");
        let there = under(&[("train", &there)]);
        assert_eq!(ports(&there, "train/job", address, Blocks::External), "all ports");
    }
}

#[test]
fn an_allow_isolates() {
    // "Let Prometheus in" cuts off everybody else.
    let scrape = "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{namespaceSelector: {matchLabels:
        {kubernetes.io/metadata.name: plain}}}], ports: [{port: 9090}]}]}";
    assert_eq!(to_server(&[]), "all ports");
    assert_eq!(to_server(&[("infer", scrape)]), NOTHING);
    assert_eq!(
        ports(&under(&[("infer", scrape)]), "plain/web", "infer/api", Blocks::External),
        "TCP 9090"
    );
}

#[test]
fn all_of_one_family_is_nothing_of_the_other() {
    let out = |cidr: &str| {
        format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: '{cidr}'}}}}]}}]}}")
    };
    let reached = |cidr: &str, addresses: &[&str]| {
        let mut snapshot = under(&[("train", &out(cidr))]);
        snapshot.pods[2].addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        ["203.0.113.9", "2001:db8::9", "infer/api"]
            .map(|other| u8::from(ports(&snapshot, "train/job", other, Blocks::Pods) != NOTHING))
    };
    assert_eq!(reached("0.0.0.0/0", &["fd00::2"]), [1, 0, 0]);
    assert_eq!(reached("::/0", &["fd00::2"]), [0, 1, 1]);
    assert_eq!(reached("::/0", &["10.244.1.2"]), [0, 1, 0]);
    // A pod of both families is met by either of its addresses.
    assert_eq!(reached("0.0.0.0/0", &["fd00::2", "10.244.1.2"]), [1, 0, 1]);
    assert_eq!(reached("::/0", &["fd00::2", "10.244.1.2"]), [0, 1, 1]);
    // Every pod that could be: only the family that pods have.
    assert_eq!(training(&out("::/0")), "isolated", "no pod has IPv6");
    let mut world = cluster();
    world
        .cluster
        .ranges
        .as_mut()
        .unwrap()
        .push("fd00:10:244::/48".parse().unwrap());
    let all = with(&world, &[("vision-train", "other", &out("::/0"))]);
    assert!(said(&analyse(&world, &all, &[]), "vision-train").starts_with("CniDependent"));
}

#[test]
fn a_policy_that_selects_no_pod_changes_nothing_and_neither_does_one_of_another_namespace() {
    let nobody = (
        "infer",
        "{podSelector: {matchLabels: {app: gone}}, policyTypes: [Ingress, Egress]}",
    );
    let elsewhere = ("plain", "{podSelector: {}, policyTypes: [Ingress, Egress]}");
    assert_eq!(to_server(&[nobody, elsewhere]), "all ports");
}
