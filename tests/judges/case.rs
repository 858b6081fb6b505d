//! One question to all judges: a small cluster, some addresses outside of it, every packet between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use cloison::api::network::Protocol;
use cloison::network::ports::PortSet;
use cloison::network::reach::concrete::{Blocks, Connectivity, Endpoint, Pod, Snapshot};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use crate::packets::{self, Packets};

/// What is tried: the ends of the ranges and the numbers behind the names that the corpus uses, and what is beside them.
pub const PROBES: [(Protocol, u16); 9] = [
    (Protocol::TCP, 79),
    (Protocol::TCP, 80),
    (Protocol::TCP, 85),
    (Protocol::TCP, 86),
    (Protocol::TCP, 8080),
    (Protocol::UDP, 53),
    (Protocol::UDP, 80),
    (Protocol::SCTP, 80),
    (Protocol::SCTP, 9090),
];

/// A cluster, and addresses outside of it.
#[derive(Clone)]
pub struct Case {
    pub snapshot: Snapshot,
    pub outside: Vec<IpAddr>,
}

/// A packet from one end to another; ends are numbered, pods first.
#[derive(Clone, Copy)]
pub struct Packet {
    pub from: usize,
    pub to: usize,
    pub protocol: Protocol,
    pub port: u16,
}

/// One end.
#[derive(Clone, Copy)]
pub enum End<'a> {
    Pod(&'a Pod),
    Address(IpAddr),
}

impl Case {
    pub fn end(&self, at: usize) -> End<'_> {
        match self.snapshot.pods.get(at) {
            Some(pod) => End::Pod(pod),
            None => End::Address(self.outside[at - self.snapshot.pods.len()]),
        }
    }

    /// Every probe between two ends, of which one at least is a pod.
    pub fn packets(&self) -> Vec<Packet> {
        let (pods, all) = (self.snapshot.pods.len(), self.snapshot.pods.len() + self.outside.len());
        let mut packets = Vec::new();
        for from in 0..all {
            for to in (0..all).filter(|to| *to != from && (from < pods || *to < pods)) {
                packets.extend(PROBES.map(|(protocol, port)| Packet {
                    from,
                    to,
                    protocol,
                    port,
                }));
            }
        }
        packets
    }

    /// The same cluster under other policies.
    pub fn with(&self, policies: Vec<NetworkPolicy>) -> Self {
        let mut other = self.clone();
        other.snapshot.policies = policies;
        other
    }

    /// What the analysis says.
    pub fn analysed(&self, blocks: Blocks, packets: &[Packet]) -> Vec<bool> {
        let read = Connectivity::read(&self.snapshot, blocks).unwrap();
        let mut between: BTreeMap<(usize, usize), PortSet> = BTreeMap::new();
        for ((from, to), ports) in read.connections() {
            for from in self.numbers(&from) {
                for to in self.numbers(&to) {
                    between.insert((from, to), ports.clone());
                }
            }
        }
        let passes = |packet: &Packet| {
            let ports = between.get(&(packet.from, packet.to));
            ports.is_some_and(|ports| ports.contains(packet.protocol, packet.port))
        };
        packets.iter().map(passes).collect()
    }

    /// The ends that an endpoint of the analysis stands for.
    fn numbers(&self, endpoint: &Endpoint) -> Vec<usize> {
        let is = |end: End<'_>| match (endpoint, end) {
            (Endpoint::Workload { namespace, name, .. }, End::Pod(pod)) => {
                *namespace == pod.namespace && *name == pod.owner.1
            }
            (Endpoint::Addresses(range), End::Address(address)) => (range.first..=range.last).contains(&address),
            _ => false,
        };
        let all = self.snapshot.pods.len() + self.outside.len();
        (0..all).filter(|at| is(self.end(*at))).collect()
    }

    /// What the plain evaluator says.
    pub fn plain(&self, blocks: Blocks, packets: &[Packet]) -> Vec<bool> {
        let judge = Packets {
            namespaces: self.snapshot.namespaces.clone(),
            policies: &self.snapshot.policies,
            blocks_match_pods: blocks == Blocks::Pods,
        };
        let all = self.snapshot.pods.len() + self.outside.len();
        let ends: Vec<packets::End> = (0..all).map(|at| plain(self.end(at))).collect();
        let passes = |packet: &Packet| {
            let (from, to) = (&ends[packet.from], &ends[packet.to]);
            judge.pass(from, to, packet.protocol.as_str(), packet.port)
        };
        packets.iter().map(passes).collect()
    }

    /// The namespaces, as manifests.
    pub fn namespaces(&self) -> Vec<Value> {
        let all = self.snapshot.namespaces.iter();
        all.map(|(name, labels)| json!({"kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
            .collect()
    }

    /// The pods, as manifests.
    pub fn pods(&self) -> Vec<Value> {
        let port = |(name, protocol, number): &(String, Protocol, u16)| json!({"name": name, "containerPort": number, "protocol": protocol.as_str()});
        let one = |pod: &Pod| {
            let ports: Vec<Value> = pod.ports.iter().map(port).collect();
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": pod.namespace, "name": pod.owner.1, "labels": pod.labels},
                "spec": {"containers": [{"name": "c", "ports": ports}]},
            })
        };
        self.snapshot.pods.iter().map(one).collect()
    }

    /// `namespace/pod`, or the address.
    pub fn name(&self, at: usize) -> String {
        match self.end(at) {
            End::Pod(pod) => format!("{}/{}", pod.namespace, pod.owner.1),
            End::Address(address) => address.to_string(),
        }
    }

    /// A packet, and all that has to do with it, to try by hand.
    pub fn describe(&self, packet: Packet) -> String {
        let mut text = format!(
            "{} -> {} {} {}\n",
            self.name(packet.from),
            self.name(packet.to),
            packet.protocol.as_str(),
            packet.port
        );
        let manifests = self.namespaces().into_iter().chain(self.pods());
        let policies = self.snapshot.policies.iter().map(|policy| json!(policy));
        for manifest in manifests.chain(policies) {
            let _ = writeln!(text, "{manifest}");
        }
        for pod in &self.snapshot.pods {
            let _ = writeln!(text, "{}/{} has {:?}", pod.namespace, pod.owner.1, pod.addresses);
        }
        text
    }
}

fn plain(end: End<'_>) -> packets::End {
    match end {
        End::Address(address) => packets::End::Address(address),
        End::Pod(pod) => {
            let ports = pod.ports.iter();
            let ports = ports.map(|(name, protocol, port)| (name.clone(), protocol.as_str().to_owned(), *port));
            packets::End::Pod(packets::Pod {
                namespace: pod.namespace.clone(),
                labels: pod.labels.clone(),
                ports: Some(ports.collect()),
                addresses: pod.addresses.iter().copied().collect(),
                host_network: pod.host_network,
            })
        }
    }
}
