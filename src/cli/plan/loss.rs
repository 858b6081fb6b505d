//! What a namespace would lose: everything that its pods can reach now and that no workload of it declares. Nobody knows
//! from here whether it is ever asked for, so nothing here says so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::api::names;
use crate::api::network::{CatalogueService, Protocol};
use crate::network::flows::{Opening, Peer, Resolver};
use crate::network::ports::PortSet;
use crate::network::world::{DnsAt, World};

/// A Service and those of its ports that nothing declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// `minio/minio:9000,9001`.
    pub name: String,
    /// The catalogue entry that would keep it.
    pub entry: Option<String>,
}

/// What a namespace would lose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// Services outside the namespace, by name.
    pub services: Vec<Lost>,
    /// In words, where any address outside the cluster would close.
    pub outside: Option<&'static str>,
    /// Some of the outside is declared: that the rest closes is what was meant.
    pub outside_is_declared: bool,
}

impl Loss {
    /// All of it, in one list.
    pub(super) fn names(&self) -> Vec<String> {
        let services = self.services.iter().map(|lost| lost.name.clone());
        services.chain(self.outside.map(str::to_owned)).collect()
    }

    /// What nobody has thought about yet.
    pub(super) fn undeclared(&self) -> Vec<String> {
        let services = self.services.iter().map(|lost| lost.name.clone());
        let outside = self.outside.filter(|_| !self.outside_is_declared);
        services.chain(outside.map(str::to_owned)).collect()
    }
}

/// Looks at every Service of the cluster outside the namespace.
pub(super) fn of(world: &World, namespace: &str, services: &[Service]) -> Loss {
    let resolver = Resolver::new(world);
    let workloads = world.workloads_in(namespace);
    let mut openings: Vec<Opening> = workloads
        .flat_map(|workload| resolver.resolve(workload).egress)
        .collect();
    let declared_outside = openings
        .iter()
        .flat_map(|opening| &opening.peers)
        .any(|peer| is_outside(world, peer));
    openings.extend(dns(world));
    let mut lost = Vec::new();
    for service in services
        .iter()
        .filter(|service| service.namespace().as_deref() != Some(namespace))
    {
        let Some(target) = Target::of(service) else { continue };
        let closed: Vec<String> = target
            .ports
            .iter()
            .filter(|port| !openings.iter().any(|opening| target.is_open(opening, port)))
            .map(|port| port.service.to_string())
            .collect();
        if !closed.is_empty() {
            let name = format!("{}/{}:{}", target.namespace, service.name_any(), closed.join(","));
            lost.push(Lost {
                name,
                entry: target.entry(world),
            });
        }
    }
    lost.sort_by(|a, b| a.name.cmp(&b.name));
    Loss {
        services: lost,
        outside: Some(if declared_outside {
            "other addresses outside the cluster"
        } else {
            "addresses outside the cluster"
        }),
        outside_is_declared: declared_outside,
    }
}

/// The API servers are addresses too, and nobody takes them for the outside.
fn is_outside(world: &World, peer: &Peer) -> bool {
    let Peer::Network { cidr, .. } = peer else { return false };
    world.api_servers().iter().all(|(server, _)| server != cidr)
}

/// DNS needs no declaration.
fn dns(world: &World) -> Vec<Opening> {
    let opening = |peer: crate::network::world::DnsPeer| Opening {
        name: "dns".to_owned(),
        peers: match peer.at {
            DnsAt::Pods { namespace, labels } => vec![Peer::Pods { namespace, labels }],
            DnsAt::Addresses(networks) => {
                let network = |cidr| Peer::Network {
                    cidr,
                    except: Vec::new(),
                };
                networks.into_iter().map(network).collect()
            }
        },
        ports: PortSet::single(
            peer.ports
                .iter()
                .flat_map(|port| [(Protocol::TCP, *port), (Protocol::UDP, *port)]),
        ),
    };
    world.dns().into_iter().map(opening).collect()
}

/// A Service as NetworkPolicies see it: pods behind it, and addresses before it.
struct Target {
    namespace: String,
    selector: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    ports: Vec<TargetPort>,
}

struct TargetPort {
    service: i32,
    /// On the pods; `None` for a port by name.
    pod: Option<u16>,
    protocol: Protocol,
}

impl Target {
    /// `None` for an alias of a name outside, and for a Service without a port.
    fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let ports: Vec<TargetPort> = spec
            .ports
            .iter()
            .flatten()
            .map(|port| TargetPort {
                service: port.port,
                pod: match &port.target_port {
                    Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
                    Some(IntOrString::String(_)) => None,
                    None => u16::try_from(port.port).ok(),
                },
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::UDP,
                    Some("SCTP") => Protocol::SCTP,
                    _ => Protocol::TCP,
                },
            })
            .collect();
        let addresses = spec
            .cluster_ips
            .iter()
            .flatten()
            .filter_map(|address| address.parse().ok());
        (!ports.is_empty()).then(|| Self {
            namespace: service.namespace().unwrap_or_default(),
            selector: spec.selector.clone().unwrap_or_default(),
            addresses: addresses.collect(),
            ports,
        })
    }

    /// Whether a flow leads to a port of it.
    fn is_open(&self, opening: &Opening, port: &TargetPort) -> bool {
        let allows = |number: Option<u16>| match number {
            Some(number) => PortSet::single([(port.protocol, number)]).is_within(&opening.ports),
            // A named port is a number that only the pod knows; that the flow is meant for it is the likelier case.
            None => !opening.ports.is_empty(),
        };
        opening.peers.iter().any(|peer| match peer {
            Peer::Workload(key) => key.namespace == self.namespace && self.is_workload(&key.name) && allows(port.pod),
            Peer::Pods { namespace, labels } => *namespace == self.namespace && self.has(labels) && allows(port.pod),
            Peer::Network { cidr, except } => {
                let inside = |address: &IpAddr| {
                    cidr.contains(&IpNet::from(*address))
                        && !except.iter().any(|out| out.contains(&IpNet::from(*address)))
                };
                self.addresses.iter().any(inside) && allows(u16::try_from(port.service).ok())
            }
        })
    }

    /// Whether the pods behind it have these labels, as far as its selector tells.
    fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(key, value)| self.selector.get(key) == Some(value))
    }

    /// Whether the pods behind it may be those of a workload: a selector rarely names the workload.
    fn is_workload(&self, name: &str) -> bool {
        self.selector
            .get(names::WORKLOAD_LABEL)
            .is_none_or(|label| label == name)
    }

    /// The first entry of the catalogue that leads here.
    fn entry(&self, world: &World) -> Option<String> {
        let leads = |entry: &&CatalogueService| {
            let labels: BTreeMap<String, String> = entry
                .to
                .pod_labels
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.to_string()))
                .collect();
            let ports = PortSet::written(&entry.ports).unwrap_or_else(|_| PortSet::none());
            let port = |port: &TargetPort| match port.pod {
                Some(number) => PortSet::single([(port.protocol, number)]).is_within(&ports),
                None => true,
            };
            entry.to.namespace.as_deref() == Some(&self.namespace) && self.has(&labels) && self.ports.iter().any(port)
        };
        let found = world.services().iter().find(leads).map(|entry| entry.name.to_string());
        let servers = world.api_servers();
        let is_api = || {
            let mut addresses = self.addresses.iter();
            addresses.any(|address| {
                servers
                    .iter()
                    .any(|(server, _)| server.contains(&IpNet::from(*address)))
            })
        };
        found.or_else(|| is_api().then(|| crate::network::flows::KUBERNETES_API.to_owned()))
    }
}

/// The names of catalogue entries that would keep something, each once.
pub(super) fn entries(loss: &Loss) -> BTreeSet<&str> {
    loss.services.iter().filter_map(|lost| lost.entry.as_deref()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::stage::{NamespaceStage, Stage};
    use crate::network::world::{Namespace, Workload, WorkloadKey};

    fn world(connect_to: &serde_json::Value) -> World {
        let policy = json!({"network": {
            "apiServer": {"cidrs": ["10.96.0.1/32"]},
            "dns": {"servers": [{"namespace": "kube-system", "podLabels": {"k8s-app": "kube-dns"}}]},
            "services": [{"name": "store", "to": {"namespace": "minio", "podLabels": {"app": "minio"}}, "ports": [{"port": 9000}]}],
        }});
        let namespace = |name: &str, stage| {
            let facts = Namespace {
                name: name.to_owned(),
                stage,
                ..Namespace::default()
            };
            (name.to_owned(), facts)
        };
        let key = WorkloadKey::new("train", "default");
        World {
            namespaces: BTreeMap::from([
                namespace("train", Some(NamespaceStage::Training)),
                namespace("minio", None),
                namespace("kube-system", None),
            ]),
            workloads: BTreeMap::from([(
                key.clone(),
                Workload {
                    key,
                    stage: Stage::Training,
                    runtime: crate::api::workload::Runtime::Generic,
                    network: Some(serde_json::from_value(json!({"connectTo": connect_to})).unwrap()),
                    terminating: false,
                    quarantined: false,
                },
            )]),
            policy: Arc::new(serde_json::from_value(policy).unwrap()),
            ..World::default()
        }
    }

    fn services() -> Vec<Service> {
        let service =
            |namespace: &str, name: &str, address: &str, selector: serde_json::Value, ports: serde_json::Value| {
                serde_json::from_value(json!({
                    "metadata": {"namespace": namespace, "name": name},
                    "spec": {"selector": selector, "clusterIPs": [address], "ports": ports},
                }))
                .unwrap()
            };
        vec![
            service(
                "minio",
                "minio",
                "10.96.0.9",
                json!({"app": "minio"}),
                json!([{"port": 80, "targetPort": 9000}, {"port": 9001}]),
            ),
            service(
                "kube-system",
                "kube-dns",
                "10.96.0.10",
                json!({"k8s-app": "kube-dns"}),
                json!([{"port": 53, "protocol": "UDP"}]),
            ),
            service(
                "default",
                "kubernetes",
                "10.96.0.1",
                json!(null),
                json!([{"port": 443, "targetPort": 6443}]),
            ),
            service("train", "own", "10.96.0.8", json!({"app": "own"}), json!([{"port": 1}])),
        ]
    }

    #[test]
    fn what_is_declared_is_not_lost_and_dns_never_is() {
        let nothing = of(&world(&json!([])), "train", &services());
        assert_eq!(
            nothing.names(),
            [
                "default/kubernetes:443",
                "minio/minio:80,9001",
                "addresses outside the cluster"
            ]
        );
        assert_eq!(entries(&nothing), BTreeSet::from(["kubernetes-api", "store"]));
        let declared = of(
            &world(
                &json!([{"service": "store"}, {"service": "kubernetes-api"}, {"cidr": "192.0.2.0/24", "ports": [{"port": 443}]}]),
            ),
            "train",
            &services(),
        );
        assert_eq!(
            declared.names(),
            ["minio/minio:9001", "other addresses outside the cluster"]
        );
    }
}
