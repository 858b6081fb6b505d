//! `cloison-pod` on a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/admission.rs"]
mod common;

use common::*;
use serde_json::json;
use tokio::sync::OnceCell;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| Cluster::start(vec![Default::default()], spec(json!({}))))
        .await
}

#[tokio::test]
async fn smoke() {
    let cluster = cluster().await;
    cluster.stage_namespace("smoke", "inference", Some("enforce"), "default").await;
    let alice = cluster.tenant("alice", "smoke", "edit").await;
    try_create(&alice, pod("smoke", "a")).await.unwrap();
    let bad = with(pod("smoke", "a"), json!({"spec": {"hostPID": true}}));
    println!("{}", cluster.refused(try_create(&alice, bad).await, "cloison-pod", "WKL-01/host-pid"));
}
