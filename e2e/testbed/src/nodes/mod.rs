//! Nodes and pods without machines and containers: network namespaces, wired as Calico's CNI plugin wires them, with a
//! real Felix on each node that enforces what the API server holds. There is no kubelet: the pods run nothing but probes.
//!
//! Two nodes, joined by a cable. A pod has one IPv4 and one IPv6 address, its node routes both to it and everything
//! else to the other node. A node sees the API server at its own loopback (see `relay.rs`), so that all of this is inside
//! namespaces of its own, and nothing of the host's network changes. They have no names, and are gone with this process.

mod felix;
mod hosted;
mod namespace;
mod pod;
mod relay;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Binding, Node as ApiNode, ObjectReference, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};

pub use self::hosted::HostedPod;
use self::namespace::NetworkNamespace;
pub use self::pod::{Listens, Outcome, PodNetwork, Probe};
use self::relay::Relay;
use crate::{ControlPlane, Error, Identity, Program};

/// The address that Calico gives every node's end of a pod's cable: a pod's neighbour is always this one.
const NODE_END: &str = "ee:ee:ee:ee:ee:ee";

/// Two nodes of a control plane. Everything is gone when it is dropped, or when the process ends.
#[derive(Debug)]
pub struct Nodes {
    nodes: [Node; 2],
    admin: Identity,
}

#[derive(Debug)]
struct Node {
    name: String,
    felix: Program,
    pods: u8,
    _relay: Relay,
    namespace: NetworkNamespace,
}

impl Nodes {
    /// Makes two nodes, registers them and starts a Felix on each. Needs root and a few programs, and says which.
    pub async fn start(plane: &ControlPlane) -> Result<Self, Error> {
        felix::check_machine()?;
        felix::prepare(plane).await?;
        let mut nodes = [Node::create(plane, 0).await?, Node::create(plane, 1).await?];
        join(&nodes)?;
        let api: Api<ApiNode> = Api::all(plane.admin()?);
        for (index, node) in nodes.iter_mut().enumerate() {
            let (v4, v6) = node_addresses(index);
            let annotations = [("IPv4Address", format!("{v4}/24")), ("IPv6Address", format!("{v6}/64"))];
            let annotations = annotations.map(|(name, value)| (format!("projectcalico.org/{name}"), value));
            let object = ApiNode {
                metadata: ObjectMeta {
                    name: Some(node.name.clone()),
                    annotations: Some(annotations.into()),
                    ..ObjectMeta::default()
                },
                ..ApiNode::default()
            };
            api.create(&PostParams::default(), &object).await?;
            node.felix.start()?;
        }
        Ok(Self {
            nodes,
            admin: plane.identity("admin", &["system:masters"])?,
        })
    }

    /// The Felix of a node, to stop it or to read what it said.
    ///
    /// # Panics
    ///
    /// When there is no such node; there are two.
    pub fn felix(&self, node: usize) -> &Program {
        &self.nodes[node].felix
    }

    /// Creates a pod on a node and says that it runs. `pod` needs a namespace, a name and containers.
    ///
    /// # Panics
    ///
    /// When there is no such node; there are two.
    pub async fn add(&mut self, node: usize, mut pod: Pod, listens: Listens) -> Result<PodNetwork, Error> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let full_name = format!("{namespace}/{name}");
        let place = &mut self.nodes[node];
        place.pods += 1;
        let addresses = pod_addresses(node, place.pods);
        let logs = place.felix.log().parent().unwrap_or(place.felix.log());
        let own = NetworkNamespace::create(&format!("pod-{namespace}-{name}"), logs).await?;
        wire(&place.namespace, &own, &interface(&namespace, &name), addresses)?;
        let network = PodNetwork::start(full_name, addresses, own, listens)?;

        let spec = pod.spec.get_or_insert_default();
        // Nobody says that the node is ready: it would be tainted, and its pods evicted.
        spec.tolerations = Some(vec![Toleration {
            operator: Some("Exists".into()),
            ..Toleration::default()
        }]);
        let api: Api<Pod> = Api::namespaced(self.admin.client()?, &namespace);
        api.create(&PostParams::default(), &pod).await?;
        bind(&api, &name, &place.name).await?;
        let (v4, v6) = addresses;
        let status = json!({"status": {
            "phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        Ok(network)
    }
}

/// Places a pod as the scheduler does: whoever creates it does not choose its node.
async fn bind(pods: &Api<Pod>, pod: &str, node: &str) -> Result<(), Error> {
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(pod.to_owned()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let _: Value = pods
        .create_subresource("binding", pod, &PostParams::default(), &binding)
        .await?;
    Ok(())
}

impl Node {
    async fn create(plane: &ControlPlane, index: usize) -> Result<Self, Error> {
        let name = format!("node-{index}");
        let namespace = NetworkNamespace::create(&name, &plane.logs_dir()).await?;
        namespace.ip("link set lo up\n")?;
        namespace.set(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        let server = plane.api_server(0);
        let relay = Relay::start(&namespace, &name, SocketAddrV4::new(server.address(), server.port()))?;
        let felix = felix::program(plane, &name, &namespace)?;
        Ok(Self {
            name,
            felix,
            pods: 0,
            _relay: relay,
            namespace,
        })
    }
}

/// The cable between the nodes, and the way to each other's pods.
fn join(nodes: &[Node; 2]) -> Result<(), Error> {
    let [first, second] = nodes;
    first.namespace.ip(&format!(
        "link add name cable type veth peer name cable netns {}\n",
        second.namespace.holder()
    ))?;
    for (index, node) in nodes.iter().enumerate() {
        let (own4, own6) = node_addresses(index);
        let (other4, other6) = node_addresses(1 - index);
        let (pods4, pods6) = pod_addresses(1 - index, 0);
        node.namespace.ip(&format!(
            "link set cable up
             address add {own4}/24 dev cable
             address add {own6}/64 dev cable nodad
             route add {pods4}/24 via {other4}
             route add {pods6}/64 via {other6}\n"
        ))?;
    }
    Ok(())
}

/// The cable between a pod and its node, as the CNI plugin lays it. The route to the pod is Felix's work.
fn wire(
    node: &NetworkNamespace,
    pod: &NetworkNamespace,
    interface: &str,
    (v4, v6): (Ipv4Addr, Ipv6Addr),
) -> Result<(), Error> {
    node.ip(&format!(
        "link add name {interface} address {NODE_END} type veth peer name eth0 netns {}
         link set {interface} up\n",
        pod.holder()
    ))?;
    pod.ip(&format!(
        "link set lo up
         link set eth0 up
         address add {v4}/32 dev eth0
         address add {v6}/128 dev eth0 nodad
         neighbour add 169.254.1.1 lladdr {NODE_END} dev eth0 nud permanent
         neighbour add fe80::1 lladdr {NODE_END} dev eth0 nud permanent
         route add 169.254.1.1 dev eth0 scope link
         route add default via 169.254.1.1
         route add ::/0 via fe80::1 dev eth0\n"
    ))
}

/// Felix finds the interface of a pod by this name.
fn interface(namespace: &str, pod: &str) -> String {
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{namespace}.{pod}").as_bytes());
    let hex: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("cali{}", &hex.concat()[..11])
}

fn node_addresses(node: usize) -> (Ipv4Addr, Ipv6Addr) {
    let number = if node == 0 { 1 } else { 2 };
    (
        Ipv4Addr::new(172, 31, 0, number),
        Ipv6Addr::new(0xfd72, 0, 0, 0, 0, 0, 0, number.into()),
    )
}

/// `10.65.NODE.NUMBER` and `fd65:0:0:NODE::NUMBER`; number 0 is the network.
fn pod_addresses(node: usize, number: u8) -> (Ipv4Addr, Ipv6Addr) {
    let node = u8::from(node != 0);
    (
        Ipv4Addr::new(10, 65, node, number),
        Ipv6Addr::new(0xfd65, 0, 0, node.into(), 0, 0, 0, number.into()),
    )
}
