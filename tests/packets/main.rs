//! What the analysis says is what packets do: random AiWorkloads and tenants' policies, enforced by Calico's Felix on two
//! nodes, every ordered pair of pods, every port, both families.
//!
//! 40 draws; `CLOISON_PACKETS_SEEDS` asks for more. Needs root, and fails without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod cluster;
#[path = "../common/dice.rs"]
mod dice;
mod draw;
mod egress_proxy;
mod mix;
#[path = "../common/operator.rs"]
mod operator;
mod operator_at_work;
mod pods;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cloison::api::stage::NamespaceStage;
use cloison::network::reach::concrete::{Blocks, Connectivity, Endpoint, Pod, Snapshot};
use cloison::network::reach::explain::Asked;
use cloison::network::reach::{Isolation, analyse};
use cloison_testbed::eventually;

use cluster::{Cluster, Family, Try, everything, named};
use draw::{Draw, PLACES, PODS, draw};
use mix::Mix;

/// How long a difference may last once Felix has programmed everything: a probe may be late on a busy machine.
const SETTLED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_do_what_the_analysis_says() {
    let seeds = std::env::var("CLOISON_PACKETS_SEEDS").map_or(40, |text| text.parse().unwrap());
    let mut cluster = Cluster::start().await;
    let everything = everything();
    nothing_is_dropped_without_a_policy(&mut cluster, &everything).await;

    let start = Instant::now();
    let mut mix = Mix::default();
    let (mut programmed, mut late, mut isolated, mut wider) = (Vec::new(), 0, 0, 0);
    for seed in 0..seeds {
        let draw = draw(seed);
        let snapshots = [Family::V4, Family::V6].map(|family| snapshot(&cluster, &draw, &[family]));
        let predicted: Vec<_> = everything.iter().zip(predict(&snapshots, &everything)).collect();
        wider += both_families_at_once_allow_no_less(&cluster, &draw, &predicted);
        isolated += isolated_stages_are_not_crossed(seed, &draw, &predicted);
        programmed.push(cluster.put(&draw).await);
        let observed = cluster.observe(&everything).await;
        let mut differing = Vec::new();
        for ((tried, predicted), observed) in predicted.into_iter().zip(observed) {
            mix.verdict(*tried, predicted);
            if predicted != observed {
                differing.push((*tried, predicted));
            }
        }
        late += differing.len();
        settle(&cluster, seed, &draw, &snapshots, differing).await;
        mix.policies(&draw.policies, draw.flows);
    }
    programmed.sort();
    let median = programmed[programmed.len() / 2];
    say(&format!(
        "{seeds} draws in {:.0} s, {} verdicts, none that packets contradict; {late} asked twice\n\
         {wider} verdicts are wider where a pod is read with both its addresses\n\
         {isolated} namespaces called isolated, and no packet of another stage in or out of them\n{mix}\n\
         from the last write until packets obey on both nodes: median {median:.0?}, at most {:.0?}",
        start.elapsed().as_secs_f64(),
        usize::try_from(seeds).unwrap() * everything.len(),
        programmed.last().unwrap()
    ));
    assert!(isolated >= usize::try_from(seeds).unwrap() / 4, "hardly ever isolated");
    assert_eq!(mix.rare(usize::try_from(seeds).unwrap() / 2), [], "hardly asked");
    let one_sided: Vec<_> = mix
        .allowed()
        .filter(|(_, share)| !(0.3..=0.7).contains(share))
        .collect();
    assert_eq!(one_sided, [], "one-sided");
}

/// The positive control: without it a broken network would look like a perfect deny.
async fn nothing_is_dropped_without_a_policy(cluster: &mut Cluster, everything: &[Try]) {
    let nothing = Draw {
        policies: Vec::new(),
        ..draw(0)
    };
    cluster.put(&nothing).await;
    let cluster = &*cluster;
    eventually(SETTLED, "without a policy everything passes", || async move {
        let passed = cluster.observe(everything).await;
        let dropped = everything.iter().zip(passed).find(|(_, passed)| !passed);
        dropped.map_or(Ok(()), |(tried, _)| Err(format!("{tried:?} does not")))
    })
    .await
    .unwrap();
}

/// A live pod is read with both its addresses, so that one end may be let through by a block of the other family: that may
/// allow more than packets do, and never less. How often it allows more.
fn both_families_at_once_allow_no_less(cluster: &Cluster, draw: &Draw, predicted: &[(&Try, bool)]) -> usize {
    let both = snapshot(cluster, draw, &[Family::V4, Family::V6]);
    let tries: Vec<Try> = predicted.iter().map(|(tried, _)| **tried).collect();
    let wide = predict(&[both.clone(), both], &tries);
    let differing = predicted.iter().zip(wide).filter(|((_, passes), wide)| passes != wide);
    let differing: Vec<_> = differing.map(|((tried, _), wide)| (tried, wide)).collect();
    assert!(differing.iter().all(|(_, wide)| *wide), "{differing:?}");
    differing.len()
}

/// Whoever is called isolated, for any pod that could exist, is so for the pods there are: between training and inference
/// nothing is predicted to pass, and packets do what is predicted. How many namespaces are called so.
fn isolated_stages_are_not_crossed(seed: u64, draw: &Draw, predicted: &[(&Try, bool)]) -> usize {
    let verdicts = analyse(&draw.world, &draw.policies, &[]).namespaces;
    let isolated = |namespace: &str| verdicts.get(namespace) == Some(&Isolation::Isolated);
    let stage = |namespace: &str| draw.world.stage_of(namespace).and_then(NamespaceStage::workload_stage);
    for (tried, _) in predicted.iter().filter(|(_, passes)| *passes) {
        let [from, to] = [tried.from, tried.to].map(|pod| PODS[pod].0);
        let crosses = stage(from).zip(stage(to)).is_some_and(|(from, to)| from != to);
        assert!(
            !crosses || !(isolated(from) || isolated(to)),
            "seed {seed}: {tried:?} passes from {from} to {to}: {verdicts:?}"
        );
    }
    verdicts
        .values()
        .filter(|verdict| **verdict == Isolation::Isolated)
        .count()
}

/// Asks again what differs until nothing does, and fails with the policies that decide where it stays so.
async fn settle(cluster: &Cluster, seed: u64, draw: &Draw, snapshots: &[Snapshot; 2], mut differing: Vec<(Try, bool)>) {
    let deadline = Instant::now() + SETTLED;
    while !differing.is_empty() {
        if Instant::now() > deadline {
            cluster.plane.keep_logs();
            panic!("seed {seed}: {}", explained(draw, snapshots, &differing));
        }
        let tries: Vec<Try> = differing.iter().map(|(tried, _)| *tried).collect();
        let observed = cluster.observe(&tries).await;
        let mut observed = observed.into_iter();
        differing.retain(|(_, predicted)| observed.next() != Some(*predicted));
    }
}

/// The draw as the analysis reads it. A packet has one family, so for one the pods have one address each.
fn snapshot(cluster: &Cluster, draw: &Draw, families: &[Family]) -> Snapshot {
    let pods = PODS.iter().zip(&draw.pods).enumerate();
    let pods = pods.map(|(index, ((namespace, name, _), labels))| {
        let ports = named(index).into_iter();
        Pod {
            namespace: (*namespace).to_owned(),
            owner: ("Pod".to_owned(), (*name).to_owned()),
            labels: labels.clone(),
            ports: ports
                .map(|(name, protocol, port)| (name.to_owned(), protocol, port))
                .collect(),
            addresses: families.iter().map(|family| cluster.address(index, *family)).collect(),
            host_network: false,
        }
    });
    let namespaces = PLACES.iter().zip(&draw.namespaces);
    Snapshot {
        cluster_policies: Vec::new(),
        namespaces: namespaces
            .map(|((name, _), labels)| ((*name).to_owned(), labels.clone()))
            .collect(),
        pods: pods.collect(),
        policies: draw.policies.clone(),
    }
}

fn of(snapshots: &[Snapshot; 2], family: Family) -> &Snapshot {
    &snapshots[usize::from(family == Family::V6)]
}

fn predict(snapshots: &[Snapshot; 2], tries: &[Try]) -> Vec<bool> {
    let connections = snapshots
        .each_ref()
        .map(|snapshot| Connectivity::read(snapshot, Blocks::Pods).unwrap().connections());
    let end = |pod: usize| Endpoint::Workload {
        namespace: PODS[pod].0.to_owned(),
        name: PODS[pod].1.to_owned(),
        kind: "Pod".to_owned(),
    };
    let allowed = tries.iter().map(|tried| {
        let connections = &connections[usize::from(tried.family == Family::V6)];
        let ports = connections.get(&(end(tried.from), end(tried.to)));
        ports.is_some_and(|ports| ports.contains(tried.port.0, tried.port.1))
    });
    allowed.collect()
}

/// The first differences, why the analysis says what it says, and every policy that has a say in them.
fn explained(draw: &Draw, snapshots: &[Snapshot; 2], differing: &[(Try, bool)]) -> String {
    let mut text = format!("{} verdicts that packets contradict", differing.len());
    let mut concerned = BTreeSet::new();
    for (tried, predicted) in differing.iter().take(5) {
        let snapshot = of(snapshots, tried.family);
        let connectivity = Connectivity::read(snapshot, Blocks::Pods).unwrap();
        let [from, to] = [tried.from, tried.to].map(|pod| &snapshot.pods[pod]);
        let why = connectivity.explain(Asked::Pod(from), Asked::Pod(to), tried.port.0, tried.port.1);
        write!(
            text,
            "\n{from:?}\n  to {to:?}\n  on {:?}: predicted {predicted}: {why:?}",
            tried.port
        )
        .unwrap();
        let halves = [why.egress, why.ingress].into_iter().flatten();
        concerned.extend(halves.flat_map(|half| half.isolated_by));
    }
    for policy in &draw.policies {
        let name = format!(
            "{}/{}",
            policy.metadata.namespace.as_deref().unwrap(),
            policy.metadata.name.as_deref().unwrap()
        );
        if concerned.contains(&name) {
            write!(text, "\n{name}: {}", serde_json::to_string(&policy.spec).unwrap()).unwrap();
        }
    }
    text
}

fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "packets: {text}");
}
