//! The whole way from an author's `kubectl apply` to the packet: the operator as installed, and Felix on two nodes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cloison::api::names;
use cloison_testbed::{Listens, Nodes, Outcome, PodNetwork, Probe, eventually};
use kube::Client;
use serde_json::{Value, json};

use crate::operator::{self, PATIENCE, apply, condition, namespace, sealed, workload};
use crate::pods::{self, ANSWER};
use crate::say;

/// A port that flows declare, and one that none does.
const PORTS: [u16; 2] = [8000, 8001];

struct Pods {
    trainer: PodNetwork,
    data: PodNetwork,
    server: PodNetwork,
}

async fn pod(nodes: &mut Nodes, node: usize, namespace: &str, name: &str) -> PodNetwork {
    let pod = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {names::WORKLOAD_LABEL: name}},
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:1"}]},
    });
    pods::add(nodes, node, pod, listens()).await
}

fn listens() -> Listens {
    Listens {
        tcp: PORTS.into(),
        udp: PORTS.into(),
    }
}

async fn reaches(from: &PodNetwork, to: &PodNetwork, wanted: &[u16]) {
    pods::reaches(from, to, &listens(), wanted).await;
}

/// How long from now until nothing gets from one pod to another any more.
async fn dropped(from: &PodNetwork, to: &PodNetwork) -> Duration {
    let start = Instant::now();
    eventually(PATIENCE, "the packet is dropped", async || {
        let probe = Probe::Tcp((to.v4(), PORTS[0]).into());
        let outcome = from.probe(vec![probe], Duration::from_millis(50)).await.unwrap();
        if outcome == [Outcome::Silent] {
            Ok(())
        } else {
            Err(format!("{outcome:?}"))
        }
    })
    .await
    .unwrap();
    start.elapsed()
}

/// Whether what is sent over a connection comes back.
fn echoes(connection: &mut TcpStream) -> bool {
    let mut answer = [0];
    connection.write_all(b"?").is_ok() && connection.read_exact(&mut answer).is_ok()
}

async fn declare(client: &Client, name: &str, network: Value) {
    apply(client, workload("road-train", name, "Training", network))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_writes_is_what_packets_meet() {
    let (plane, mut nodes) = pods::start().await;
    let admin = plane.admin().unwrap();
    namespace(&admin, "road-train", "training", Some("audit")).await;
    namespace(&admin, "road-infer", "inference", Some("audit")).await;
    // The pods run before the operator comes.
    let run = Pods {
        trainer: pod(&mut nodes, 0, "road-train", "trainer").await,
        data: pod(&mut nodes, 1, "road-train", "data").await,
        server: pod(&mut nodes, 1, "road-infer", "server").await,
    };
    let controller = operator::start(&plane).await;
    let to_data = json!({"connectTo": [{"workload": {"name": "data"}, "ports": [{"port": 8000}, {"port": 8000, "protocol": "UDP"}]}]});
    declare(&admin, "trainer", to_data).await;
    declare(
        &admin,
        "data",
        json!({"acceptFrom": [{"workload": {"name": "trainer"}}]}),
    )
    .await;
    apply(&admin, workload("road-infer", "server", "Inference", Value::Null))
        .await
        .unwrap();
    condition(&admin, "road-train", "trainer", "Ready", "True").await;
    let all = [
        (&run.trainer, &run.data),
        (&run.trainer, &run.server),
        (&run.server, &run.trainer),
    ];
    for (from, to) in all {
        reaches(from, to, &PORTS).await;
    }

    // Enforced, also for pods that ran before.
    let to_server = SocketAddr::from((run.server.v4(), PORTS[0]));
    let mut established = run.trainer.connect(to_server, ANSWER).unwrap();
    assert!(echoes(&mut established));
    let start = Instant::now();
    namespace(&admin, "road-train", "training", Some("enforce")).await;
    let applied = start.elapsed();
    let took = dropped(&run.trainer, &run.server).await + applied;
    // Which of the two it is, every network plugin decides for itself.
    let persists = if echoes(&mut established) { "persists" } else { "is cut" };
    say(&format!(
        "from `mode: enforce` to the packet being dropped: {took:.0?}; a connection from before {persists}"
    ));
    sealed(&admin, "road-train", "training").await;
    reaches(&run.trainer, &run.data, &PORTS[..1]).await;
    reaches(&run.data, &run.trainer, &[]).await;
    reaches(&run.trainer, &run.server, &[]).await;
    reaches(&run.server, &run.trainer, &[]).await;

    // An author takes a flow back.
    let start = Instant::now();
    declare(&admin, "trainer", Value::Null).await;
    let applied = start.elapsed();
    let took = dropped(&run.trainer, &run.data).await + applied;
    say(&format!(
        "from the AiWorkload without its flow to the packet being dropped: {took:.0?}"
    ));

    // With the operator and the nodes' programs gone the wall stands.
    controller.stop().await;
    nodes.felix(0).kill();
    nodes.felix(1).kill();
    for (from, to) in all {
        reaches(from, to, &[]).await;
    }
}
