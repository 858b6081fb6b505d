//! Nodes carry packets, Felix decides about them, and nothing of it is left or leaves its namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use cloison_testbed::{
    ApiServerOptions, ControlPlane, Listens, Nodes, Options, Outcome, PodNetwork, Probe, eventually,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

async fn pod(nodes: &mut Nodes, node: usize, name: &str) -> PodNetwork {
    labelled_pod(nodes, node, name, json!({})).await
}

async fn labelled_pod(nodes: &mut Nodes, node: usize, name: &str, labels: Value) -> PodNetwork {
    let pod = json!({"metadata": {"namespace": "default", "name": name, "labels": labels},
                     "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:1"}]}});
    let listens = Listens {
        tcp: vec![80],
        udp: vec![53],
    };
    nodes
        .add(node, serde_json::from_value(pod).unwrap(), listens)
        .await
        .unwrap()
}

async fn outcomes(from: &PodNetwork, to: &PodNetwork) -> Vec<Outcome> {
    let [v4, v6] = to
        .addresses()
        .map(|address| move |port| SocketAddr::from((address, port)));
    let probes = vec![
        Probe::Tcp(v4(80)),
        Probe::Udp(v4(53)),
        Probe::Tcp(v6(80)),
        Probe::Udp(v6(53)),
    ];
    from.probe(probes, Duration::from_millis(300)).await.unwrap()
}

async fn become_all(from: &PodNetwork, to: &PodNetwork, wanted: Outcome) {
    let what = format!("{} to {}: {wanted:?}", from.name(), to.name());
    eventually(PATIENCE, &what, || async {
        let found = outcomes(from, to).await;
        if found.iter().all(|outcome| *outcome == wanted) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap();
}

/// What a careless set-up would change on the machine: interfaces, addresses, routes, named namespaces, mounts, and what
/// Felix leaves for a node's CNI plugin.
fn host() -> Vec<String> {
    let folders = ["/sys/class/net", "/run/netns"].map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut seen: Vec<String> = folders
        .into_iter()
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .collect();
    seen.sort();
    let files = ["/proc/net/route", "/proc/net/if_inet6", "/proc/mounts"];
    seen.extend(files.map(|file| fs::read_to_string(file).unwrap_or_default()));
    let mtu = fs::metadata("/var/lib/calico/mtu").and_then(|file| file.modified());
    seen.push(format!("{:?}", mtu.ok()));
    seen
}

/// The processes that this one started and that are not gone.
fn children() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn felix_alone_decides_which_packets_pass_and_nothing_is_left() {
    let before = host();
    let options = Options {
        api_servers: vec![ApiServerOptions {
            disable_admission_plugins: vec!["ServiceAccount".into()],
            ..ApiServerOptions::default()
        }],
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let mut nodes = Nodes::start(&plane).await.unwrap();
    let near = pod(&mut nodes, 0, "near").await;
    let neighbour = pod(&mut nodes, 0, "neighbour").await;
    let far = pod(&mut nodes, 1, "far").await;
    let pairs = [(&near, &neighbour), (&near, &far), (&far, &near)];
    for (from, to) in pairs {
        become_all(from, to, Outcome::Passed).await;
    }
    assert_eq!(host(), before, "the host's network has changed");

    // A port that nobody listens on is no silence.
    let closed = near
        .probe(vec![Probe::Tcp((far.v4(), 81).into())], PATIENCE)
        .await
        .unwrap();
    assert!(matches!(&closed[..], [Outcome::Failed(_)]), "{closed:?}");

    let deny = json!({"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let deny: NetworkPolicy = serde_json::from_value(deny).unwrap();
    let policies: Api<NetworkPolicy> = Api::default_namespaced(plane.admin().unwrap());
    policies.create(&PostParams::default(), &deny).await.unwrap();
    for (from, to) in pairs {
        become_all(from, to, Outcome::Silent).await;
    }

    // A pod that comes after the policy is never open: when it is reached at last, it was only ever as the policy says.
    let web = json!({"metadata": {"name": "web"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}},
                     "ingress": [{"ports": [{"protocol": "TCP", "port": 80}]}]}});
    let web: NetworkPolicy = serde_json::from_value(web).unwrap();
    policies.create(&PostParams::default(), &web).await.unwrap();
    let late = labelled_pod(&mut nodes, 0, "late", json!({"app": "web"})).await;
    eventually(PATIENCE, "the late pod is reached as the policy says", async || {
        let [tcp4, udp4, tcp6, udp6] = outcomes(&far, &late).await.try_into().unwrap();
        assert_eq!([udp4, udp6], [const { Outcome::Silent }; 2]);
        match [tcp4, tcp6] {
            [Outcome::Passed, Outcome::Passed] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    // Without Felix a node keeps to what it was told last.
    nodes.felix(1).kill();
    policies.delete("deny", &DeleteParams::default()).await.unwrap();
    become_all(&near, &neighbour, Outcome::Passed).await;
    assert_eq!(outcomes(&near, &far).await, [const { Outcome::Silent }; 4]);
    nodes.felix(1).start().unwrap();
    become_all(&near, &far, Outcome::Passed).await;

    drop((nodes, near, neighbour, far, late, plane));
    assert_eq!(children(), Vec::<String>::new());
    assert_eq!(host(), before, "something is left");
}
