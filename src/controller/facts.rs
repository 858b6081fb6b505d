//! What the controller finds out about the cluster's own addresses: DNS, API servers, ranges.
//!
//! Read every few minutes and when the EndpointSlices of the Service `kubernetes` change; what the policy says wins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::runtime::reflector::Store;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::network::world::{ClusterNetwork, DnsAt, DnsPeer};

/// Between two tries of the first reading.
const AGAIN: Duration = Duration::from_secs(2);
/// Where cluster DNS usually is: namespace and Service. The last is OpenShift's, whose pods listen on 5353.
const DNS_SERVICES: [(&str, &str); 2] = [("kube-system", "kube-dns"), ("openshift-dns", "dns-default")];
/// The address of the node-local cache (NodeLocal DNSCache's default).
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// What a pod resolves names with. Ours is like any other pod's: the chart leaves its DNS policy at the default.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Objects in one answer: of thousands of nodes not all at once.
const PAGE: u32 = 500;

/// Tries until everything was read once.
pub async fn first(client: &Client, slices: &Store<EndpointSlice>) -> ClusterNetwork {
    loop {
        match gather(client, &slices.state()).await {
            Ok(found) => return found,
            Err(error) => tracing::warn!(%error, "waiting for the cluster's own addresses"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Gathers everything. An answer that is missing is an error, never an empty answer: what is rendered from it would cut.
pub async fn gather(client: &Client, slices: &[Arc<EndpointSlice>]) -> Result<ClusterNetwork, kube::Error> {
    let machines = every(&Api::<Node>::all(client.clone())).await?;
    let nodes: BTreeSet<IpNet> = machines.iter().flat_map(addresses).collect();
    Ok(ClusterNetwork {
        dns: dns(client).await?,
        api_servers: api_servers(client, slices).await?,
        ranges: ranges(client, machines).await?,
        nodes: nodes.into_iter().collect(),
    })
}

async fn dns(client: &Client) -> Result<Vec<DnsPeer>, kube::Error> {
    let mut peers = BTreeSet::new();
    for (namespace, name) in DNS_SERVICES {
        let services = Api::<Service>::namespaced(client.clone(), namespace);
        if let Some(service) = services.get_opt(name).await? {
            peers.extend(peers_of(namespace, &service));
        }
    }
    peers.extend(own_resolvers().into_iter().map(|address| DnsPeer {
        at: DnsAt::Addresses(vec![address]),
        ports: BTreeSet::from([53]),
    }));
    let cache = Api::<DaemonSet>::namespaced(client.clone(), "kube-system")
        .get_metadata_opt("node-local-dns")
        .await?;
    if let (Some(_), Ok(address)) = (cache, NODE_LOCAL_DNS.parse()) {
        peers.insert(DnsPeer {
            at: DnsAt::Addresses(vec![address]),
            ports: BTreeSet::from([53]),
        });
    }
    Ok(peers.into_iter().collect())
}

/// The resolvers of our own pod: those of every pod, also where a cloud answers in place of a Service (GKE's Cloud DNS) or
/// the cache of the node has another address. Outside of a cluster it is somebody else's machine that is asked.
fn own_resolvers() -> Vec<IpNet> {
    let in_a_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let text = in_a_pod.then(|| std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    nameservers(&text.unwrap_or_default())
}

/// The addresses after `nameserver`, as resolv.conf(5) has it.
fn nameservers(text: &str) -> Vec<IpNet> {
    let lines = text.lines().map(str::split_whitespace);
    let named = lines.filter_map(|mut words| words.next().filter(|word| *word == "nameserver").and(words.next()));
    let addresses = named.filter_map(|address| address.parse::<IpAddr>().ok());
    // A resolver inside of the pod itself is none that a policy could open.
    addresses
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .map(IpNet::from)
        .collect()
}

/// The pods behind a DNS Service, on the ports they listen on, and its own addresses on the Service's ports: a plugin may
/// judge a packet before or after it was translated.
fn peers_of(namespace: &str, service: &Service) -> Vec<DnsPeer> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let number = |port: i32| u16::try_from(port).ok();
    let service_ports: BTreeSet<u16> = ports
        .iter()
        .filter(|port| port.port == 53)
        .filter_map(|p| number(p.port))
        .collect();
    let pod_ports: BTreeSet<u16> = ports
        .iter()
        .filter(|port| port.port == 53)
        .filter_map(|port| match &port.target_port {
            Some(IntOrString::Int(target)) => number(*target),
            // CoreDNS names its port `dns` on 53 in kubeadm and on 5353 in OpenShift; a name tells no number.
            Some(IntOrString::String(_)) if namespace == "openshift-dns" => Some(5353),
            Some(IntOrString::String(_)) | None => number(port.port),
        })
        .collect();
    let mut peers = Vec::new();
    if let Some(selector) = spec.selector.clone().filter(|selector| !selector.is_empty()) {
        let labels: BTreeMap<String, String> = selector.into_iter().collect();
        peers.push(DnsPeer {
            at: DnsAt::Pods {
                namespace: namespace.to_owned(),
                labels,
            },
            ports: pod_ports,
        });
    }
    let addresses: Vec<IpNet> = cluster_ips(service).collect();
    if !addresses.is_empty() && !service_ports.is_empty() {
        peers.push(DnsPeer {
            at: DnsAt::Addresses(addresses),
            ports: service_ports,
        });
    }
    peers
}

fn cluster_ips(service: &Service) -> impl Iterator<Item = IpNet> {
    let addresses = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ips.clone())
        .unwrap_or_default();
    addresses
        .into_iter()
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(IpNet::from)
}

async fn api_servers(client: &Client, slices: &[Arc<EndpointSlice>]) -> Result<Vec<(IpNet, u16)>, kube::Error> {
    let mut found = BTreeSet::new();
    for slice in slices {
        let ports: Vec<u16> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| port.port)
            .filter_map(|port| u16::try_from(port).ok())
            .collect();
        for address in slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
            let Ok(address) = address.parse::<IpAddr>() else {
                continue;
            };
            found.extend(ports.iter().map(|port| (IpNet::from(address), *port)));
        }
    }
    let services = Api::<Service>::namespaced(client.clone(), "default");
    if let Some(service) = services.get_opt("kubernetes").await? {
        found.extend(cluster_ips(&service).map(|address| (address, 443)));
    }
    Ok(found.into_iter().collect())
}

/// The addresses of a node; its names are none.
fn addresses(node: &Node) -> Vec<IpNet> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let read = listed.filter_map(|listed| listed.address.parse::<IpAddr>().ok());
    read.map(IpNet::from).collect()
}

/// The ranges of Services, pods and nodes; `None` unless pods' ranges are known, because half of the truth would make
/// an address inside the cluster look external.
async fn ranges(client: &Client, nodes: Vec<Node>) -> Result<Option<Vec<IpNet>>, kube::Error> {
    let services = match every(&Api::<ServiceCIDR>::all(client.clone())).await {
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
        services => services?,
    };
    let mut found = BTreeSet::new();
    let mut pods_known = !nodes.is_empty();
    for node in nodes {
        found.extend(addresses(&node));
        let pod_ranges = node.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
        pods_known &= !pod_ranges.is_empty();
        found.extend(pod_ranges.iter().filter_map(|range| range.parse::<IpNet>().ok()));
    }
    let service_ranges = services
        .into_iter()
        .filter_map(|range| range.spec)
        .filter_map(|spec| spec.cidrs);
    found.extend(service_ranges.flatten().filter_map(|range| range.parse::<IpNet>().ok()));
    Ok(pods_known.then(|| found.into_iter().collect()))
}

/// All objects, page by page.
async fn every<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut page = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let list = api.list(&page).await?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolvers_of_a_pod_are_read_from_its_file() {
        let text = "search ns.svc.cluster.local svc.cluster.local\nnameserver 169.254.169.254\n# nameserver 10.0.0.1\n\
                    nameserver\tfd00::10\nnameserver 127.0.0.11\nnameserver odd\nnameservers 10.0.0.2\noptions ndots:5\n";
        let read: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["169.254.169.254/32", "fd00::10/128"]);
        assert_eq!(nameservers(""), []);
    }

    #[test]
    fn outside_of_a_pod_nobodys_resolvers_are_taken() {
        assert_eq!(own_resolvers(), [], "tests run in no pod");
    }
}
