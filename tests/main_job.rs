//! The main job: an `AiWorkload` applied to a real API server becomes policies, a seal, and conditions that say no more
//! than was proven.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use cloison::api::names;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options};
use kube::ResourceExt;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_becomes_policies_a_seal_and_honest_conditions() {
    let plane = ControlPlane::start(Options {
        api_servers: vec![ApiServerOptions::default(); 2],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let _controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::namespace(&admin, "vision-train", "training", Some("enforce")).await;
    operator::apply(
        &admin,
        operator::workload("vision-train", "road", "Training", Value::Null),
    )
    .await
    .unwrap();
    let (reason, message) = operator::condition(&admin, "vision-train", "road", "Ready", "True").await;
    assert_eq!(reason, "Reconciled", "{message}");
    let deny = operator::policy(&admin, "vision-train", names::DENY_POLICY).await;
    let spec = serde_json::to_value(deny.spec).unwrap();
    assert_eq!(spec, json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    let namespace = operator::sealed(&admin, "vision-train", "training").await;
    assert_eq!(namespace.annotations()[names::OPEN_ANNOTATION], "road");
    operator::condition(&admin, "vision-train", "road", "PoliciesIsolate", "True").await;
    let (reason, _) = operator::condition(&admin, "vision-train", "road", "NetworkIsolated", "Unknown").await;
    assert_eq!(reason, "EnforcementUnverified", "no packet was sent");
}
