//! What arrives at two API servers in the same moment: neither sees the other's request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access, clippy::needless_pass_by_value)] // tables read best whole

#[path = "common/admission.rs"]
mod common;
#[path = "common/dice.rs"]
mod dice;

use std::collections::BTreeMap;
use std::sync::Arc;

use cloison::api::stage::{Mode, NamespaceStage};
use cloison::network::policies;
use cloison::network::reach::{self, Isolation};
use cloison::network::world::{Namespace, World};
use common::*;
use dice::Dice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use serde_json::{Value, json};

const POLICY: &str = "cloison-net";
const NET: &str = "networking.k8s.io/v1";

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
    let ranges = spec(json!({"network": {"clusterCIDRs": ["10.0.0.0/8"]}}));
    let cluster = Cluster::start(vec![Default::default(), Default::default()], ranges.clone()).await;
    let admins: Vec<Client> = (0..2)
        .map(|replica| cluster.plane.api_server(replica).admin().unwrap())
        .collect();
    let mut world = World {
        policy: Arc::new(ranges),
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
    let all = all.list(&Default::default()).await.unwrap().items;
    assert_eq!(all.len(), stored + 2);
    let analysis = reach::analyse(&world, &all, &[]);
    for home in ["one", "two"] {
        assert_eq!(analysis.namespaces[home], Isolation::Isolated, "{home}");
    }
}

async fn live_labels(client: &Client, name: &str) -> BTreeMap<String, String> {
    let found = objects(client, "v1", "Namespace", None).get(name).await.unwrap();
    found.metadata.labels.unwrap()
}
