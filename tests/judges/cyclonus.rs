//! cyclonus: an engine that follows one packet at a time (`analyze --mode query-traffic`).
//!
//! It reads a `NetworkPolicyList` (of a file with several documents only the first, without a word), wants `policyTypes`
//! to be there, and matches an `ipBlock` with the address of a pod.

use std::process::Command;

use cloison::network::reach::concrete::{Blocks, Pod};
use cloison_testbed::{Tool, find};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::case::{Case, End, Packet};
use crate::{Judge, bugs};

pub struct Cyclonus;

impl Judge for Cyclonus {
    const NAME: &'static str = "cyclonus";
    const BLOCKS: Blocks = Blocks::Pods;

    fn judge(&mut self, case: &Case, packets: &[Packet]) -> Vec<bool> {
        let folder = tempfile::tempdir().unwrap();
        let (policies, traffic) = (folder.path().join("policies.json"), folder.path().join("traffic.json"));
        let items = &case.snapshot.policies;
        let list = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": items});
        std::fs::write(&policies, list.to_string()).unwrap();
        let questions: Vec<Value> = packets.iter().map(|packet| question(case, *packet)).collect();
        std::fs::write(&traffic, json!(questions).to_string()).unwrap();
        let output = Command::new(find(Tool::Cyclonus).unwrap_or_else(|error| panic!("{error}")))
            .args(["analyze", "--mode", "query-traffic", "--simplify-policies=false"])
            .arg("--policy-path")
            .arg(policies)
            .arg("--traffic-path")
            .arg(traffic)
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cyclonus failed: {complaints}");
        // The last row of the table that it prints for each question.
        let text = String::from_utf8_lossy(&output.stdout);
        let rows = text.lines().filter(|line| line.contains("IS ALLOWED?"));
        rows.map(|row| row.contains("TRUE")).collect()
    }

    /// With the policyTypes that the API server writes where there are none.
    fn given(policy: &NetworkPolicy) -> NetworkPolicy {
        let mut policy = policy.clone();
        if let Some(spec) = &mut policy.spec
            && spec.policy_types.as_ref().is_none_or(Vec::is_empty)
        {
            let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
            let types = ["Ingress"].into_iter().chain(egress.then_some("Egress"));
            spec.policy_types = Some(types.map(str::to_owned).collect());
        }
        policy
    }

    fn misread(policies: &[NetworkPolicy]) -> Option<Vec<NetworkPolicy>> {
        bugs::not_in_wants_the_key(policies)
    }
}

fn question(case: &Case, packet: Packet) -> Value {
    let to = case.end(packet.to);
    let name = match to {
        End::Pod(pod) => port_name(pod, packet),
        End::Address(_) => None,
    };
    json!({
        "Source": peer(case, case.end(packet.from)),
        "Destination": peer(case, to),
        "ResolvedPort": packet.port,
        "ResolvedPortName": name.unwrap_or_default(),
        "Protocol": packet.protocol.as_str(),
    })
}

/// What the target calls the port.
fn port_name(pod: &Pod, packet: Packet) -> Option<&str> {
    let mut ports = pod.ports.iter();
    let found = ports.find(|(_, protocol, port)| (*protocol, *port) == (packet.protocol, packet.port))?;
    Some(&found.0)
}

fn peer(case: &Case, end: End<'_>) -> Value {
    match end {
        End::Address(address) => json!({"IP": address}),
        End::Pod(pod) => json!({
            "IP": pod.addresses.first(),
            "Internal": {
                "Namespace": pod.namespace,
                "NamespaceLabels": case.snapshot.namespaces[&pod.namespace],
                "PodLabels": pod.labels,
            },
        }),
    }
}
