//! What arrives at two API servers in the same moment: neither sees the other's request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value)] // tables read best whole

#[path = "common/admission.rs"]
mod common;
#[path = "common/dice.rs"]
mod dice;

use std::collections::BTreeMap;
use std::sync::Arc;

use cloison::api::names;
use cloison::api::policy::AiSecurityPolicySpec;
use cloison::api::stage::{Mode, NamespaceStage};
use cloison::network::policies;
use cloison::network::reach::{self, Isolation};
use cloison::network::world::{Namespace, World};
use common::*;
use dice::Dice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, mpsc};

const POLICY: &str = "cloison-net";
const NET: &str = "networking.k8s.io/v1";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

fn ranges() -> AiSecurityPolicySpec {
    spec(json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}}))
}

/// Two API servers on one etcd.
async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default(), Default::default()], ranges()))
        .await
}

/// A half of a path, or something that is none.
fn half(dice: &mut Dice, elsewhere: &str) -> Value {
    let by_name = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": elsewhere}}});
    let not_here =
        json!({"namespaceSelector": {"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["x"]}]}});
    let peers = [
        json!([by_name]),
        json!([not_here]),
        json!([]),
        json!([{"podSelector": {}}]),
        json!([{"ipBlock": {"cidr": "10.0.0.0/16"}}]),
        json!([{"podSelector": {"matchLabels": {"app": "a"}}}, {"ipBlock": {"cidr": "198.51.100.0/24"}}]),
    ];
    let rule = |peers: &Value| json!({"egress": [{"to": peers}], "ingress": [{"from": peers}]});
    rule(dice.pick(&peers))
}

/// The two halves of a path arrive at two API servers in the same moment: neither sees the other, and no path is open
/// afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn two_halves_at_once_at_two_api_servers_open_nothing() {
    const TIMES: usize = 1_000;
    let cluster = cluster().await;
    let admins: Vec<Client> = (0..2)
        .map(|replica| cluster.plane.api_server(replica).admin().unwrap())
        .collect();
    let mut world = World {
        policy: Arc::new(ranges()),
        ..World::default()
    };
    for (home, stage) in [("one", NamespaceStage::Training), ("two", NamespaceStage::Inference)] {
        cluster
            .stage_namespace(home, stage.as_str(), Some("enforce"), "default")
            .await;
        let labels = live_labels(&admins[0], home).await;
        let facts = Namespace {
            name: home.to_owned(),
            labels,
            stage: Some(stage),
            mode: Mode::Enforce,
            ..Namespace::default()
        };
        world.namespaces.insert(home.to_owned(), facts);
        let deny = policies::deny(home, stage);
        create(&cluster.operator().await, typed(NET, "NetworkPolicy", &deny))
            .await
            .unwrap();
    }
    let mut dice = Dice(0x2A17);
    let (mut refused, mut stored) = (0, 0);
    for round in 0..TIMES {
        let halves = [("one", "two"), ("two", "one")].map(|(home, other)| {
            let spec = with(
                json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]}),
                half(&mut dice, other),
            );
            json!({"apiVersion": NET, "kind": "NetworkPolicy",
                   "metadata": {"name": format!("half-{round}"), "namespace": home}, "spec": spec})
        });
        let [first, second] = halves;
        let answers = tokio::join!(create(&admins[0], first), create(&admins[1], second));
        for answer in [answers.0, answers.1] {
            match answer {
                Ok(_) => stored += 1,
                Err(kube::Error::Api(status)) if status.message.contains(POLICY) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
    }
    eprintln!("{refused} halves refused, {stored} policies stored");
    assert!(
        refused * 5 >= TIMES * 2 && stored * 5 >= TIMES * 2,
        "a one-sided corpus shows nothing"
    );
    let all = kube::Api::<NetworkPolicy>::all(admins[0].clone());
    let mut all = all.list(&Default::default()).await.unwrap().items;
    all.retain(|policy| {
        policy
            .metadata
            .namespace
            .as_deref()
            .is_some_and(|home| ["one", "two"].contains(&home))
    });
    assert_eq!(all.len(), stored + 2);
    let analysis = reach::analyse(&world, &all, &[]);
    for home in ["one", "two"] {
        assert_eq!(analysis.namespaces[home], Isolation::Isolated, "{home}");
    }
}

/// What an API server said to one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// It stored the pod at this revision.
    Stored(u64),
    Refused,
}

/// How often each API server refuses a pod before the namespace is sealed, at least.
const REFUSALS: usize = 12;
/// And stores one afterwards.
const STORED: usize = 20;

/// Creates one pod after the other, and tells what was said, until nobody listens any more.
async fn crowd(client: Client, namespace: String, server: usize, tell: mpsc::Sender<(usize, Said)>) {
    for number in 0.. {
        let said = match create(&client, pod(&namespace, &format!("p-{server}-{number}"))).await {
            Ok(stored) => Said::Stored(revision(&stored)),
            Err(kube::Error::Api(status)) if status.message.contains("NET-01/seal") => Said::Refused,
            Err(other) => panic!("{other}"),
        };
        if tell.send((server, said)).await.is_err() {
            return;
        }
    }
}

fn revision(object: &kube::core::DynamicObject) -> u64 {
    object.metadata.resource_version.as_deref().unwrap().parse().unwrap()
}

/// What the API servers said in one round, and when the stage and the seal were stored.
#[derive(Default)]
struct Round {
    said: [Vec<Said>; 2],
    staged: u64,
    sealed: u64,
}

impl Round {
    fn refused(&self, server: usize) -> usize {
        self.said[server].iter().filter(|said| **said == Said::Refused).count()
    }

    fn stored_behind_the_seal(&self, server: usize) -> usize {
        let behind = |said: &&Said| matches!(said, Said::Stored(at) if *at > self.sealed);
        self.said[server].iter().filter(behind).count()
    }
}

/// Pods come in at two API servers while their namespace gets its stage, its deny and its seal: the stage with the namespace
/// or later, deny and seal at once or when both API servers have refused a while.
async fn round(cluster: &Cluster, admins: &[Client], name: &str, later: bool, at_once: bool) -> Round {
    let stage = json!({names::STAGE_LABEL: "training", names::MODE_LABEL: "enforce"});
    let labels = if later { json!({}) } else { stage.clone() };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let mut round = Round {
        staged: revision(&create(&admins[0], namespace).await.unwrap()),
        ..Round::default()
    };
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
    apply(&admins[0], account).await;
    let (tell, mut told) = mpsc::channel(1);
    let crowds: Vec<_> = admins
        .iter()
        .enumerate()
        .map(|(server, client)| tokio::spawn(crowd(client.clone(), name.to_owned(), server, tell.clone())))
        .collect();
    if later {
        while round.said.iter().any(Vec::is_empty) {
            let (server, said) = told.recv().await.unwrap();
            round.said[server].push(said);
        }
        let labelled = patch(
            &admins[1],
            "v1",
            "Namespace",
            None,
            name,
            json!({"metadata": {"labels": stage}}),
        )
        .await;
        round.staged = revision(&labelled.unwrap());
    }
    while !at_once && (0..2).any(|server| round.refused(server) < REFUSALS) {
        let (server, said) = told.recv().await.unwrap();
        round.said[server].push(said);
    }
    let deny = typed(NET, "NetworkPolicy", &policies::deny(name, NamespaceStage::Training));
    create(&cluster.operator().await, deny).await.unwrap();
    round.sealed = u64::MAX;
    let sealing = cluster.seal(name, "training", "default");
    tokio::pin!(sealing);
    let mut done = false;
    while !done {
        tokio::select! {
            () = &mut sealing => done = true,
            Some((server, said)) = told.recv() => round.said[server].push(said),
        }
    }
    round.sealed = revision(&objects(&admins[0], "v1", "Namespace", None).get(name).await.unwrap());
    while (0..2).any(|server| round.stored_behind_the_seal(server) < STORED) {
        let (server, said) = told.recv().await.unwrap();
        round.said[server].push(said);
    }
    drop(told);
    for crowd in crowds {
        crowd.await.unwrap();
    }
    round
}

/// A pod is stored while its namespace has no stage, or behind deny and seal. An API server learns of a label some
/// milliseconds late, and lets pods in meanwhile: they are counted, and the deny, which selects every pod, holds them as soon as
/// it is stored. Once an API server has refused one, it lets none in before the seal; and where the stage came with the
/// namespace, none at all.
#[tokio::test(flavor = "multi_thread")]
async fn no_pod_runs_in_a_namespace_that_is_not_sealed() {
    const ROUNDS: usize = 32;
    let cluster = cluster().await;
    let admins: Vec<Client> = (0..2)
        .map(|replica| cluster.plane.api_server(replica).admin().unwrap())
        .collect();
    let (mut asked, mut refused, mut late) = (0, 0, 0);
    for number in 0..ROUNDS {
        let later = number % 2 == 0;
        let name = format!("sealing-{number}");
        let round = tokio::time::timeout(SOON, round(cluster, &admins, &name, later, number % 8 == 0));
        let round = round.await.expect("a round ends");
        for said in &round.said {
            asked += said.len();
            let first = said
                .iter()
                .position(|said| *said == Said::Refused)
                .unwrap_or(said.len());
            refused += said.iter().filter(|said| **said == Said::Refused).count();
            for (place, said) in said.iter().enumerate() {
                let Said::Stored(at) = *said else { continue };
                if at > round.staged && at < round.sealed && place < first {
                    assert!(later, "{number}: a pod came in before the seal");
                    late += 1;
                }
                assert!(
                    place < first || at > round.sealed,
                    "{number}: a pod came in before the seal"
                );
            }
        }
    }
    eprintln!(
        "{asked} pods asked for, {refused} refused, {late} let in by an API server that did not know the stage yet"
    );
    assert!(
        asked >= 1_000 && refused * 5 >= asked && refused * 5 <= asked * 4,
        "{refused} of {asked}"
    );
}

async fn live_labels(client: &Client, name: &str) -> BTreeMap<String, String> {
    let found = objects(client, "v1", "Namespace", None).get(name).await.unwrap();
    found.metadata.labels.unwrap()
}
