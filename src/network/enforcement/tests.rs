//! The verdicts row by row, and what the analysis itself says of the canary's policies.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::api::names;
use crate::api::network::Protocol;
use crate::network::reach::concrete::{self, Blocks, Connectivity, Endpoint, Snapshot};

const V4: &str = "10.65.1.2";
const V6: &str = "fd65::2";

fn served(node: &str) -> Pod {
    let mut pod = server("cloison:1");
    pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
    pod.status = serde_json::from_value(json!({"phase": "Running", "podIPs": [{"ip": V4}, {"ip": V6}]})).unwrap();
    pod
}

fn asked(node: &str, exit_code: i32, message: &str) -> Pod {
    let mut pod = client("cloison:1", &[]);
    pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
    let ended = json!({"exitCode": exit_code, "message": message});
    let status = json!({"phase": "Succeeded", "containerStatuses": [{
        "name": "client", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": ended},
    }]});
    pod.status = serde_json::from_value(status).unwrap();
    pod
}

fn told(flows: &[(&str, [bool; 3])]) -> String {
    let flows = flows
        .iter()
        .map(|(address, [allowed, without_ingress, without_egress])| Flows {
            address: address.parse().unwrap(),
            allowed: *allowed,
            without_ingress: *without_ingress,
            without_egress: *without_egress,
        });
    let answer = Answer {
        milliseconds: 7,
        flows: flows.collect(),
    };
    serde_json::to_string(&answer).unwrap()
}

const OBEY: [bool; 3] = [true, false, false];

#[test]
fn only_a_forbidden_packet_is_false_and_only_all_three_flows_are_true() {
    type Row = ([bool; 3], [bool; 3], Truth, &'static str, &'static str);
    let rows: [Row; 7] = [
        (OBEY, OBEY, Truth::True, "PacketsObey", "IPv4, IPv6"),
        (
            [true, true, true],
            OBEY,
            Truth::False,
            "NotEnforced",
            "ingress (IPv4) and egress (IPv4)",
        ),
        (
            OBEY,
            [true, true, false],
            Truth::False,
            "NotEnforced",
            "enforces ingress (IPv6) on",
        ),
        (
            [true, false, true],
            OBEY,
            Truth::False,
            "NotEnforced",
            "enforces egress (IPv4) on",
        ),
        // That the allowed flow does not work either does not make the hole smaller.
        (
            [false, true, false],
            OBEY,
            Truth::False,
            "NotEnforced",
            "ingress (IPv4)",
        ),
        (
            [false; 3],
            [false; 3],
            Truth::Unknown,
            "AllowedFlowFailed",
            "IPv4, IPv6",
        ),
        (OBEY, [false; 3], Truth::Unknown, "AllowedFlowFailed", "(IPv6)"),
    ];
    for (v4, v6, truth, reason, word) in rows {
        let answer = told(&[(V4, v4), (V6, v6)]);
        let verdict = judge(&served("a"), &asked("b", 0, &answer));
        assert_eq!((verdict.truth, verdict.reason), (truth, reason), "{}", verdict.message);
        assert!(verdict.message.contains(word), "{word}: {}", verdict.message);
        assert!(
            !verdict.message.contains('\n') && !verdict.message.contains(V4),
            "{}",
            verdict.message
        );
    }
}

#[test]
fn on_how_many_nodes_it_was_is_said() {
    let answer = told(&[(V4, OBEY), (V6, OBEY)]);
    for (node, word) in [("a", "on one node"), ("b", "on two nodes")] {
        let verdict = judge(&served("a"), &asked(node, 0, &answer));
        assert!(verdict.message.contains(word), "{}", verdict.message);
    }
}

#[test]
fn an_answer_that_is_not_whole_is_none() {
    let whole = told(&[(V4, OBEY), (V6, OBEY)]);
    let rows = [
        (1, whole.as_str(), "exit code 1"),
        (0, "", "cannot be read"),
        (0, "{\"flows\": []}", "cannot be read"),
        (0, &told(&[]), "every address"),
        (0, &told(&[(V4, OBEY)]), "every address"),
        (0, &told(&[(V4, OBEY), (V4, OBEY)]), "every address"),
        (0, &told(&[(V4, OBEY), (V6, OBEY), (V6, OBEY)]), "every address"),
        (0, &told(&[(V4, OBEY), ("10.65.1.3", OBEY)]), "every address"),
    ];
    for (code, message, word) in rows {
        let verdict = judge(&served("a"), &asked("b", code, message));
        assert_eq!((verdict.truth, verdict.reason), (Truth::Unknown, "NoAnswer"));
        assert!(verdict.message.contains(word), "{word}: {}", verdict.message);
    }
    let mut evicted = asked("b", 0, &whole);
    evicted.status = serde_json::from_value(json!({"phase": "Failed", "reason": "Evicted"})).unwrap();
    let verdict = judge(&served("a"), &evicted);
    assert!(
        verdict.truth == Truth::Unknown && verdict.message.contains("Evicted"),
        "{}",
        verdict.message
    );
}

#[test]
fn a_pod_that_does_not_run_says_why() {
    let scheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                           "message": "0/3 nodes are available"}]});
    let state = |state| json!({"containerStatuses": [{"name": "x", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
    for (status, reason, word) in [
        (scheduled, "PodUnschedulable", "0/3 nodes are available"),
        (
            state(json!({"waiting": {"reason": "ImagePullBackOff"}})),
            "PodNotRun",
            "ImagePullBackOff",
        ),
        (
            state(json!({"terminated": {"exitCode": 2, "message": "no such port"}})),
            "PodNotRun",
            "no such port",
        ),
        (json!({}), "PodNotRun", "no node"),
        (json!(null), "PodGone", "deleted"),
    ] {
        let mut pod = server("cloison:1");
        pod.status = serde_json::from_value(status).unwrap();
        let verdict = not_running(Some(&pod), "server", "60 s");
        assert_eq!(
            (verdict.truth, verdict.reason),
            (Truth::Unknown, reason),
            "{}",
            verdict.message
        );
        assert!(verdict.message.contains(word), "{}", verdict.message);
    }
}

/// The analysis, which packets agree with, says of the three flows what the canary expects of them.
#[test]
fn the_policies_allow_one_flow_and_each_side_forbids_one() {
    let place = |namespace: &str, address: &str| concrete::Pod {
        namespace: namespace.to_owned(),
        owner: ("Pod".to_owned(), "pod".to_owned()),
        labels: BTreeMap::new(),
        ports: BTreeSet::new(),
        addresses: [address.parse().unwrap()].into(),
        host_network: false,
    };
    let namespaces = names::PACKETS_NAMESPACES.map(|name| {
        let label = (names::NAMESPACE_NAME_LABEL.to_owned(), name.to_owned());
        (name.to_owned(), BTreeMap::from([label]))
    });
    let [of_client, of_server] = policies();
    let open = |policies: Vec<_>| {
        let snapshot = Snapshot {
            namespaces: namespaces.clone().into(),
            pods: vec![
                place(names::PACKETS_CLIENT_NAMESPACE, "10.65.0.2"),
                place(names::PACKETS_SERVER_NAMESPACE, V4),
            ],
            policies,
            cluster_policies: Vec::new(),
        };
        let end = |namespace: &str| Endpoint::Workload {
            namespace: namespace.to_owned(),
            name: "pod".to_owned(),
            kind: "Pod".to_owned(),
        };
        let (from, to) = (
            end(names::PACKETS_CLIENT_NAMESPACE),
            end(names::PACKETS_SERVER_NAMESPACE),
        );
        let connections = Connectivity::read(&snapshot, Blocks::Pods).unwrap().connections();
        assert!(!connections.contains_key(&(to.clone(), from.clone())) || snapshot.policies.len() < 2);
        let ports = connections.get(&(from, to)).cloned().unwrap_or_default();
        [ALLOWED, WITHOUT_INGRESS, WITHOUT_EGRESS].map(|port| ports.contains(Protocol::TCP, port))
    };
    assert_eq!(open(vec![of_client.clone(), of_server.clone()]), [true, false, false]);
    // Each forbidden flow is forbidden by one side alone: were that side not enforced, it would pass.
    assert_eq!(open(vec![of_client]), [true, true, false]);
    assert_eq!(open(vec![of_server]), [true, false, true]);
}
