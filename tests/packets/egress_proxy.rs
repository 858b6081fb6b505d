//! `examples/egress-proxy`: what is known by name only is reached through a proxy, and nothing else leaves.

use std::path::Path;

use cloison_testbed::{Listens, Nodes, PodNetwork};
use kube::Client;
use serde_json::{Value, json};

use crate::operator::{self, apply, condition, policy, sealed};
use crate::pods;

/// The proxy's port, and the one that a hub answers on.
const PORTS: [u16; 2] = [3128, 443];

/// The objects of an example that matter without a kubelet.
async fn example(client: &Client, folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for document in documents {
            let kind = document["kind"].as_str().unwrap_or_default();
            if ["Namespace", "AiSecurityPolicy", "AiWorkload"].contains(&kind) {
                apply(client, document).await.unwrap();
            }
        }
    }
}

async fn pod(nodes: &mut Nodes, node: usize, namespace: &str, name: &str, labels: Value) -> PodNetwork {
    let pod = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "main",
            "image": "registry.example.com/vision/app@sha256:85aaee176b282ae1bd649d0ca2f62c41ca31bfd0566e54e241202c2411fb399d"}]},
    });
    pods::add(nodes, node, pod, listens()).await
}

fn listens() -> Listens {
    Listens {
        tcp: PORTS.into(),
        udp: Vec::new(),
    }
}

async fn reaches(from: &PodNetwork, to: &PodNetwork, wanted: &[u16]) {
    pods::reaches(from, to, &listens(), wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_is_reached_through_the_proxy_and_no_other_way() {
    let (plane, mut nodes) = pods::start().await;
    let admin = plane.admin().unwrap();
    let _controller = operator::start(&plane).await;
    for folder in ["quickstart", "egress-proxy"] {
        example(&admin, folder).await;
    }
    let outside = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "outside"}});
    apply(&admin, outside).await.unwrap();
    for (home, stage) in [("vision-train", "training"), ("vision-infer", "inference")] {
        sealed(&admin, home, stage).await;
    }
    policy(&admin, "shared-egress", "cloison-svc-model-hub").await;
    for name in ["fetcher", "road-train"] {
        condition(&admin, "vision-train", name, "Ready", "True").await;
    }
    let of = |workload: &str| json!({"cloison.dev/workload": workload});
    let proxy = pod(&mut nodes, 1, "shared-egress", "proxy", json!({"app": "egress-proxy"})).await;
    // Stands for what is outside: no policy is about it.
    let hub = pod(&mut nodes, 1, "outside", "hub", json!({})).await;
    let fetcher = pod(&mut nodes, 0, "vision-train", "fetcher", of("fetcher")).await;
    let trainer = pod(&mut nodes, 0, "vision-train", "trainer", of("road-train")).await;
    let server = pod(&mut nodes, 0, "vision-infer", "server", of("road-det")).await;

    reaches(&fetcher, &proxy, &[3128]).await;
    reaches(&proxy, &hub, &PORTS).await;
    reaches(&fetcher, &hub, &[]).await;
    // Who does not name the service has no way out, and the proxy has no way in.
    for (from, to) in [
        (&trainer, &proxy),
        (&server, &proxy),
        (&hub, &proxy),
        (&proxy, &fetcher),
        (&proxy, &server),
    ] {
        reaches(from, to, &[]).await;
    }
    for name in ["vision-train/fetcher", "vision-infer/road-det"] {
        let (home, name) = name.split_once('/').unwrap();
        let (reason, message) = condition(&admin, home, name, "PoliciesIsolate", "True").await;
        assert_eq!(reason, "Isolated", "{message}");
    }
}
