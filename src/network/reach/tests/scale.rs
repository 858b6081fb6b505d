//! A hundred namespaces with ten workloads each.

use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::api::workload::Runtime::{Trainer, VLLM};
use crate::network::policies;
use crate::network::reach::{Isolation, analyse};
use crate::network::testkit::{policy, world};
use crate::network::world::World;

/// Namespaces by tens, ten workloads in each stage namespace, four flows each.
pub(super) fn large(namespaces: usize) -> World {
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

#[test]
fn a_large_cluster_of_rendered_policies_is_isolated() {
    let world = large(100);
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
}
