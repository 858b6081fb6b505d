//! A control plane, two nodes with Felix, and pods that stay while labels and policies come and go.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cloison::api::network::Protocol;
use cloison_testbed::{ControlPlane, Listens, Nodes, Outcome, PodNetwork, Probe, eventually};
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::draw::{Draw, Labels, NAMESPACE_KEY, PLACES, POD_KEYS, PODS};
use crate::pods::{self, ANSWER};

/// What every pod listens on. Policies name some of them, by number, range or name; no policy names 8443.
pub const PORTS: [(Protocol, u16); 6] = [
    (Protocol::TCP, 5000),
    (Protocol::TCP, 8080),
    (Protocol::TCP, 8085),
    (Protocol::TCP, 8443),
    (Protocol::TCP, 9090),
    (Protocol::UDP, 5000),
];

/// How long Felix may take, on a machine with other work.
const PROGRAMMED: Duration = Duration::from_secs(60);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// One thing to try: which pod connects to which, over which family, on which of [`PORTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Try {
    pub from: usize,
    pub to: usize,
    pub family: Family,
    pub port: (Protocol, u16),
}

pub struct Cluster {
    // Before the control plane, so that a Felix does not lose its API server first.
    _nodes: Nodes,
    /// In the order of [`PODS`].
    pods: Vec<PodNetwork>,
    /// One on each node, in a namespace of their own.
    beat: [PodNetwork; 2],
    beats: u64,
    applied: BTreeSet<(String, String)>,
    client: Client,
    pub plane: ControlPlane,
}

impl Cluster {
    pub async fn start() -> Self {
        let (plane, mut nodes) = pods::start().await;
        let client = plane.admin().unwrap();
        for name in PLACES.map(|(name, _)| name).into_iter().chain(["beat"]) {
            let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            let api: Api<Namespace> = Api::all(client.clone());
            apply(&api, name, &object).await;
        }
        let mut pods = Vec::new();
        for (index, (namespace, name, node)) in PODS.into_iter().enumerate() {
            pods.push(add(&mut nodes, node, namespace, name, named(index)).await);
        }
        let beat = [
            add(&mut nodes, 0, "beat", "p0", Vec::new()).await,
            add(&mut nodes, 1, "beat", "p1", Vec::new()).await,
        ];
        Self {
            _nodes: nodes,
            pods,
            beat,
            beats: 0,
            applied: BTreeSet::new(),
            client,
            plane,
        }
    }

    /// The address of a pod in a family.
    pub fn address(&self, pod: usize, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.pods[pod].v4().into(),
            Family::V6 => self.pods[pod].v6().into(),
        }
    }

    /// Puts a draw in the place of the last one; how long it took from the last write until packets on both nodes obey.
    ///
    /// Felix takes pods, namespaces and policies from three watches, each in order. So after everything else a pod, a
    /// namespace and a policy are changed that only together open a port which was closed so far: when it opens, all that
    /// was before is programmed too.
    pub async fn put(&mut self, draw: &Draw) -> Duration {
        self.beats += 1;
        let beat = self.beats.to_string();
        let client = self.client.clone();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let relabelled = PLACES.iter().zip(&draw.namespaces);
        join_all(relabelled.map(|((name, _), labels)| label(&namespaces, name, labels, &[NAMESPACE_KEY]))).await;
        let relabelled = PODS.iter().zip(&draw.pods).map(|((namespace, name, _), labels)| {
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            async move { label(&api, name, labels, &POD_KEYS).await }
        });
        join_all(relabelled).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "beat");
        let labels = Labels::from([("beat".to_owned(), beat.clone())]);
        label(&pods, "p0", &labels, &[]).await;
        label(&pods, "p1", &labels, &[]).await;
        label(&namespaces, "beat", &labels, &[]).await;

        let of = |policy: &NetworkPolicy| (policy.namespace().unwrap(), policy.name_any());
        let wanted: BTreeSet<_> = draw.policies.iter().map(of).collect();
        let applied = draw.policies.iter().map(|policy| {
            let (namespace, name) = of(policy);
            let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
            let mut object = serde_json::to_value(policy).unwrap();
            object["apiVersion"] = json!("networking.k8s.io/v1");
            object["kind"] = json!("NetworkPolicy");
            async move { apply(&api, &name, &object).await }
        });
        join_all(applied).await;
        let gone = self.applied.difference(&wanted).map(|(namespace, name)| {
            let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
            async move { api.delete(name, &DeleteParams::default()).await }
        });
        try_join_all(gone).await.unwrap();
        self.applied = wanted;

        let start = Instant::now();
        let policies: Api<NetworkPolicy> = Api::namespaced(client, "beat");
        let same = json!({"matchLabels": {"beat": beat}});
        let port = if self.beats.is_multiple_of(2) { 8080 } else { 9090 };
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "beat", "namespace": "beat"},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress"],
                     "ingress": [
                {"from": [{"namespaceSelector": same, "podSelector": same}], "ports": [{"port": port}]}]}});
        apply(&policies, "beat", &policy).await;
        eventually(PROGRAMMED, "both nodes obey the last policy", async || {
            let [first, second] = &self.beat;
            for (from, to) in [(first, second), (second, first)] {
                // Each family has tables of its own.
                let probes = to.addresses().map(|address| Probe::Tcp((address, port).into()));
                let outcome = from.probe(probes.into(), ANSWER / 6).await.unwrap();
                if outcome != [Outcome::Passed, Outcome::Passed] {
                    return Err(format!("{} to {}: {outcome:?}", from.name(), to.name()));
                }
            }
            Ok(())
        })
        .await
        .unwrap();
        start.elapsed()
    }

    /// Tries everything at once. Whether each got through; anything but a passage or silence fails the test.
    pub async fn observe(&self, tries: &[Try]) -> Vec<bool> {
        let mut by_pod: Vec<Vec<(usize, Probe)>> = vec![Vec::new(); self.pods.len()];
        for (index, tried) in tries.iter().enumerate() {
            let to = SocketAddr::from((self.address(tried.to, tried.family), tried.port.1));
            let probe = match tried.port.0 {
                Protocol::UDP => Probe::Udp(to),
                _ => Probe::Tcp(to),
            };
            by_pod[tried.from].push((index, probe));
        }
        let mut passed = vec![false; tries.len()];
        let asked = by_pod.iter().zip(&self.pods).map(|(probes, pod)| async move {
            let asked = probes.iter().map(|(_, probe)| *probe).collect();
            pod.probe(asked, ANSWER).await.unwrap()
        });
        for (probes, outcomes) in by_pod.iter().zip(join_all(asked).await) {
            for ((index, probe), outcome) in probes.iter().zip(outcomes) {
                passed[*index] = match outcome {
                    Outcome::Passed => true,
                    Outcome::Silent => false,
                    Outcome::Failed(why) => panic!("{} {probe:?}: {why}", self.pods[tries[*index].from].name()),
                };
            }
        }
        passed
    }
}

/// Every ordered pair, both families, every port.
pub fn everything() -> Vec<Try> {
    let mut all = Vec::new();
    for from in 0..PODS.len() {
        for to in (0..PODS.len()).filter(|to| *to != from) {
            for family in [Family::V4, Family::V6] {
                all.extend(PORTS.map(|port| Try { from, to, family, port }));
            }
        }
    }
    all
}

/// The ports of a pod with a name; the same name is another port, or another protocol, on another pod.
pub fn named(pod: usize) -> Vec<(&'static str, Protocol, u16)> {
    let http = if pod.is_multiple_of(2) { 8080 } else { 9090 };
    let mut ports = vec![("http", Protocol::TCP, http)];
    match pod % 3 {
        0 => ports.push(("rpc", Protocol::TCP, 5000)),
        1 => ports.push(("rpc", Protocol::UDP, 5000)),
        _ => {}
    }
    ports
}

async fn add(
    nodes: &mut Nodes,
    node: usize,
    namespace: &str,
    name: &str,
    named: Vec<(&str, Protocol, u16)>,
) -> PodNetwork {
    let ports = named.into_iter();
    let ports: Vec<Value> = ports
        .map(|(name, protocol, port)| json!({"name": name, "protocol": protocol, "containerPort": port}))
        .collect();
    let pod = json!({"metadata": {"namespace": namespace, "name": name},
                     "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:1", "ports": ports}]}});
    let of = |wanted| {
        PORTS
            .iter()
            .filter(move |(protocol, _)| *protocol == wanted)
            .map(|(_, port)| *port)
    };
    let listens = Listens {
        tcp: of(Protocol::TCP).collect(),
        udp: of(Protocol::UDP).collect(),
    };
    nodes
        .add(node, serde_json::from_value(pod).unwrap(), listens)
        .await
        .unwrap()
}

/// Sets labels, and takes away those of `keys` that are not among them.
async fn label<K>(api: &Api<K>, name: &str, labels: &Labels, keys: &[&str])
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut change = json!(labels);
    for key in keys.iter().filter(|key| !labels.contains_key(**key)) {
        change[*key] = Value::Null;
    }
    let change = json!({"metadata": {"labels": change}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await
        .unwrap();
}

async fn apply<K>(api: &Api<K>, name: &str, object: &(impl Serialize + std::fmt::Debug))
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let parameters = PatchParams::apply("packets").force();
    if let Err(error) = api.patch(name, &parameters, &Patch::Apply(object)).await {
        panic!("{}: {error}", serde_json::to_string(object).unwrap());
    }
}
