//! A control plane with Felix on two nodes, and the pods that a test runs there.

use std::net::SocketAddr;
use std::time::Duration;

use cloison_testbed::{
    ApiServerOptions, ControlPlane, Listens, Nodes, Options, Outcome, PodNetwork, Probe, eventually,
};
use serde_json::Value;

use crate::operator::PATIENCE;

/// How long a packet may take before it counts as dropped.
pub const ANSWER: Duration = Duration::from_millis(300);

/// Starts both. Without a controller manager nobody makes ServiceAccounts, and nobody minds that nodes send no heartbeat.
pub async fn start() -> (ControlPlane, Nodes) {
    let options = Options {
        api_servers: vec![ApiServerOptions {
            disable_admission_plugins: vec!["ServiceAccount".into()],
            ..ApiServerOptions::default()
        }],
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let nodes = Nodes::start(&plane).await.unwrap_or_else(|error| panic!("{error}"));
    (plane, nodes)
}

/// Runs a pod.
pub async fn add(nodes: &mut Nodes, node: usize, pod: Value, listens: Listens) -> PodNetwork {
    let pod = serde_json::from_value(pod).unwrap();
    nodes.add(node, pod, listens).await.unwrap()
}

/// Waits until just these of the TCP ports that pods listen on get through, over both families and whatever protocols the
/// pods listen for there.
pub async fn reaches(from: &PodNetwork, to: &PodNetwork, listens: &Listens, wanted: &[u16]) {
    let what = format!("{} reaches {} on {wanted:?}", from.name(), to.name());
    eventually(PATIENCE, &what, || async {
        let open = through(from, to, listens).await?;
        if open == wanted {
            Ok(())
        } else {
            Err(format!("{open:?}"))
        }
    })
    .await
    .unwrap();
}

/// Which ports of TCP get through, when both families agree on it, and UDP where the pods listen for it on the same port.
async fn through(from: &PodNetwork, to: &PodNetwork, listens: &Listens) -> Result<Vec<u16>, String> {
    let mut open = Vec::new();
    for port in &listens.tcp {
        let ends = to.addresses().map(|address| SocketAddr::from((address, *port)));
        let udp = listens.udp.contains(port);
        let ways = ends.iter().flat_map(|end| {
            let datagram = udp.then_some(Probe::Udp(*end));
            [Some(Probe::Tcp(*end)), datagram].into_iter().flatten()
        });
        let outcomes = from.probe(ways.collect(), ANSWER).await.unwrap();
        match outcomes.iter().filter(|outcome| **outcome == Outcome::Passed).count() {
            0 => {}
            all if all == outcomes.len() => open.push(*port),
            _ => return Err(format!("{} to {} port {port}: {outcomes:?}", from.name(), to.name())),
        }
    }
    Ok(open)
}
