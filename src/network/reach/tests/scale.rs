//! Figures, not verdicts: `cargo test --release --lib scale -- --ignored --nocapture`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::api::workload::Runtime::{Trainer, VLLM};
use crate::network::policies;
use crate::network::reach::{Isolation, analyse, analyse_rendered};
use crate::network::testkit::{policy, world};
use crate::network::world::World;

/// Namespaces by tens, ten workloads in each stage namespace, four flows each.
fn large(namespaces: usize) -> World {
    let mut world = world();
    world.plain("gateway", "").plain("monitoring", "").policy(
        "
services:
- {name: mlflow, to: {namespace: shared-0, podLabels: {app: mlflow}}, ports: [{port: 5000}]}
- {name: store, to: {namespace: shared-10, podLabels: {app: minio}}, ports: [{port: 9000}]}
- {name: outside, to: {cidrs: [203.0.113.0/24]}, ports: [{port: 443}]}
sources:
- {name: edge, kind: Gateway, from: {namespace: gateway}}
- {name: prom, kind: Scraper, from: {namespace: monitoring}, automatic: true}",
    );
    for index in 0..namespaces {
        let (name, stage) = match index % 10 {
            0 => (format!("shared-{index}"), Shared),
            1 => (format!("eval-{index}"), Evaluation),
            2..=5 => (format!("train-{index}"), Training),
            _ => (format!("infer-{index}"), Inference),
        };
        world.stage(&name, stage);
        if stage == Shared {
            continue;
        }
        for workload in 0..10 {
            let runtime = if stage == Inference { VLLM } else { Trainer };
            let (next, before) = ((workload + 1) % 10, (workload + 9) % 10);
            let network = format!(
                "connectTo: [{{service: mlflow}}, {{service: store}}, {{workload: {{name: w{next}}}, ports: [{{port: 7}}]}}]
acceptFrom: [{{source: edge, ports: [{{port: 8000}}]}}, {{workload: {{name: w{before}}}, ports: [{{port: 7}}]}}]"
            );
            world.workload(&name, &format!("w{workload}"), runtime, &network);
        }
    }
    world
}

fn fastest<T>(mut work: impl FnMut() -> T) -> Duration {
    let once = |_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    (0..9).map(once).min().unwrap_or_default()
}

#[test]
#[ignore = "prints figures"]
fn scale() {
    for namespaces in [100, 1_000] {
        let world = large(namespaces);
        let mut all = policies::all(&world);
        for name in world.namespaces.keys() {
            all.push(policy(
                name,
                "own",
                "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
            ));
        }
        let analysis = analyse(&world, &all, &[]);
        assert!(
            analysis
                .namespaces
                .values()
                .all(|verdict| *verdict == Isolation::Isolated)
        );
        let one = fastest(|| policies::namespace(&world, "train-2"));
        let shared = fastest(|| policies::namespace(&world, "shared-0"));
        let every = fastest(|| policies::all(&world));
        let desired = policies::all(&world);
        let judged = fastest(|| analyse_rendered(&world, &desired, &all, &[]));
        let _ = writeln!(
            std::io::stderr(),
            "{namespaces} namespaces, {} workloads, {} policies: one namespace {one:?}, a shared one {shared:?}, all {every:?}, \
             analysis of what is rendered {judged:?}",
            world.workloads.len(),
            all.len()
        );
    }
}
