//! Whatever goes away comes back: API servers, watches, leaders, rights. Meanwhile nothing is lost and nothing loosened.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/operator.rs"]
mod operator;

use std::time::{Duration, Instant};

use cloison::api::{AiWorkload, names};
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, eventually};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use operator::PATIENCE;
use serde_json::{Value, json};

/// The controllers of these tests hold their lease for six seconds; a crashed one is replaced after that, and some time
/// for the election and for this machine.
const LEASE: Duration = Duration::from_secs(6);
const SLACK: Duration = Duration::from_secs(6);

async fn plane(api_servers: usize) -> ControlPlane {
    let options = Options {
        api_servers: vec![ApiServerOptions::default(); api_servers],
        controller_manager: true,
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

fn leads(controller: &Program) -> bool {
    operator::metric(controller, "cloison_leader", &[]) == 1
}

async fn comes_to_lead(controller: &Program) {
    operator::metric_is(controller, "cloison_leader", &[], |leads| leads == 1).await;
}

async fn stops_leading(controller: &Program) {
    operator::metric_is(controller, "cloison_leader", &[], |leads| leads == 0).await;
}

async fn delete_allow(admin: &Client, namespace: &str) {
    operator::network_policies(admin, namespace)
        .delete("cloison-wl-steady", &DeleteParams::default())
        .await
        .unwrap();
}

fn leases(admin: &Client) -> Api<Lease> {
    Api::namespaced(admin.clone(), names::DEFAULT_NAMESPACE)
}

async fn holder(admin: &Client) -> String {
    let lease = leases(admin).get(names::CONTROLLER_LEASE).await.unwrap();
    lease.spec.unwrap().holder_identity.unwrap_or_default()
}

/// How long the API servers are away: many times the lease, and past what a watch or a backoff of the start takes.
const AWAY: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn api_servers_that_are_away_for_long_cost_nothing() {
    let plane = plane(2).await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "train", "Training").await;
    operator::healthy(&admin, "infer", "Inference").await;
    let everything = || async {
        let train = operator::in_place(&admin, "train").await;
        (train, operator::in_place(&admin, "infer").await)
    };
    let before = everything().await;
    let process = controller.process_id();
    for server in plane.api_servers() {
        server.stop().await.unwrap();
    }
    stops_leading(&controller).await;
    operator::stays(AWAY, || async {
        assert_eq!(operator::ask(&controller, "/livez").unwrap().0, 200);
    })
    .await;
    for server in plane.api_servers() {
        server.start().await.unwrap();
    }
    comes_to_lead(&controller).await;
    operator::apply(&admin, operator::workload("train", "after", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "train", "after", "Ready", "True").await;
    let (train, infer) = everything().await;
    assert!(
        before.0.iter().all(|(name, policy)| train.get(name) == Some(policy)),
        "{train:?}"
    );
    assert_eq!(before.1, infer);
    assert_eq!(controller.process_id(), process, "it survived");
    operator::condition(&admin, "infer", "steady", "Ready", "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_history_was_lost_is_seen_and_absence_is_no_deletion() {
    let plane = plane(2).await;
    operator::install(&plane, &[]);
    // Its lease outlives the outage: the watches themselves have to recover.
    let controller = operator::controller_with_lease(&plane, "controller", 120).await;
    controller.start().unwrap();
    comes_to_lead(&controller).await;
    let admin = plane.api_server(1).admin().unwrap();
    operator::healthy(&admin, "train", "Training").await;
    operator::apply(&admin, operator::workload("train", "dropped", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "train", "dropped", "Ready", "True").await;
    let before = operator::in_place(&admin, "train").await;

    plane.api_server(0).kill();
    delete_allow(&admin, "train").await;
    let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), "train");
    workloads.delete("dropped", &DeleteParams::default()).await.unwrap();
    operator::apply(
        &admin,
        operator::workload("train", "meanwhile", "Training", Value::Null),
    )
    .await
    .unwrap();
    plane.etcd().compact().await.unwrap();
    plane.api_server(0).start().await.unwrap();

    operator::condition(&admin, "train", "meanwhile", "Ready", "True").await;
    let repaired = operator::policy(&admin, "train", "cloison-wl-steady").await;
    assert_eq!(
        serde_json::to_value(repaired.spec).unwrap(),
        before["cloison-wl-steady"]["spec"]
    );
    operator::metric_is(&controller, "cloison_vanished_workloads", &[], |vanished| vanished == 1).await;
    let after = operator::in_place(&admin, "train").await;
    for name in [names::DENY_POLICY, "cloison-wl-dropped"] {
        assert_eq!(after[name], before[name], "nobody saw a deletion");
    }
    let output = operator::plain(&controller.output());
    assert_eq!(
        output.matches("INFO cloison::controller: leading").count(),
        1,
        "one term"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_writes_and_the_other_takes_over() {
    let plane = plane(1).await;
    let first = operator::start(&plane).await;
    // A long lease, so that waiting for its end is not taken for a hand-over.
    let second = operator::controller_with_lease(&plane, "second", 30).await;
    second.start().unwrap();
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "train", "Training").await;
    eventually(PATIENCE, "the second is a ready standby", || async {
        match operator::ask(&second, "/readyz") {
            Some((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    assert!(leads(&first) && !leads(&second));
    assert_eq!(holder(&admin).await, "controller");
    assert_eq!(operator::metric(&second, "cloison_writes_total", &[]), 0);

    // SIGKILL: within the lease.
    let crash = Instant::now();
    first.kill();
    comes_to_lead(&second).await;
    assert!(crash.elapsed() < LEASE + SLACK, "{:?}", crash.elapsed());
    delete_allow(&admin, "train").await;
    operator::policy(&admin, "train", "cloison-wl-steady").await;
    assert!(operator::metric(&second, "cloison_writes_total", &[]) > 0);

    // SIGTERM: the lease is given back, and the other need not wait for its end.
    first.start().unwrap();
    eventually(PATIENCE, "the first is a ready standby", || async {
        match operator::ask(&first, "/readyz") {
            Some((200, _)) if !leads(&first) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    let stop = Instant::now();
    second.stop().await;
    let stopped = stop.elapsed();
    assert!(stopped < Duration::from_secs(5), "it took {stopped:?} to stop");
    comes_to_lead(&first).await;
    let handed = stop.elapsed();
    assert!(handed < LEASE, "{handed:?}");
    assert_eq!(holder(&admin).await, "controller");
    delete_allow(&admin, "train").await;
    operator::policy(&admin, "train", "cloison-wl-steady").await;
    first.stop().await;
    assert_eq!(holder(&admin).await, "", "a graceful shutdown gives the lease back");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lease_stops_writing() {
    let plane = plane(1).await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "train", "Training").await;
    let api = leases(&admin);
    // A person's edit, whatever the version.
    let edit = json!({"spec": {"holderIdentity": "intruder", "leaseDurationSeconds": 3600}});
    api.patch(names::CONTROLLER_LEASE, &PatchParams::default(), &Patch::Merge(edit))
        .await
        .unwrap();
    stops_leading(&controller).await;
    delete_allow(&admin, "train").await;
    operator::stays(Duration::from_secs(4), || async {
        let policies = operator::in_place(&admin, "train").await;
        assert_eq!(policies.keys().collect::<Vec<_>>(), [names::DENY_POLICY]);
        assert_eq!(operator::ask(&controller, "/livez").unwrap().0, 200);
    })
    .await;
    api.delete(names::CONTROLLER_LEASE, &DeleteParams::default())
        .await
        .unwrap();
    comes_to_lead(&controller).await;
    operator::policy(&admin, "train", "cloison-wl-steady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_withdrawn_are_missed_aloud_and_taken_up_again() {
    let plane = plane(1).await;
    let controller = operator::start(&plane).await;
    let admin = plane.admin().unwrap();
    operator::healthy(&admin, "zebra-namespace", "Training").await;
    let process = controller.process_id();
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    let mut binding = bindings.get("cloison-controller").await.unwrap();
    let before = operator::in_place(&admin, "zebra-namespace").await;
    bindings
        .delete("cloison-controller", &DeleteParams::default())
        .await
        .unwrap();
    let from = controller.output().len();
    delete_allow(&admin, "zebra-namespace").await;
    operator::logs(&controller, from, "reason=\"Forbidden\"").await;
    let forbidden = ["kind=\"NetworkPolicy\"", "result=\"Forbidden\""];
    operator::metric_is(&controller, "cloison_writes_total", &forbidden, |writes| writes >= 1).await;
    let left = operator::in_place(&admin, "zebra-namespace").await;
    assert_eq!(left.keys().collect::<Vec<_>>(), [names::DENY_POLICY]);
    assert_eq!(left[names::DENY_POLICY], before[names::DENY_POLICY]);
    // No object's name becomes a label: there would be a series for each.
    let (_, text) = operator::ask(&controller, "/metrics").unwrap();
    assert!(text.contains("cloison_reconcile_seconds") && !text.contains("zebra") && !text.contains("steady"));

    binding.metadata = kube::api::ObjectMeta {
        name: binding.metadata.name,
        labels: binding.metadata.labels,
        ..kube::api::ObjectMeta::default()
    };
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    operator::policy(&admin, "zebra-namespace", "cloison-wl-steady").await;
    operator::condition(&admin, "zebra-namespace", "steady", "Ready", "True").await;
    assert_eq!(controller.process_id(), process, "without a restart");
}

/// A Service that cannot be read is no Service that is not there: DNS would be cut for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_cannot_be_read_are_waited_for() {
    let plane = plane(1).await;
    let admin = plane.admin().unwrap();
    let services: Api<Service> = Api::namespaced(admin.clone(), "kube-system");
    let dns = serde_json::from_value(json!({
        "metadata": {"name": "kube-dns"},
        "spec": {"selector": {"k8s-app": "kube-dns"}, "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]},
    }));
    services.create(&PostParams::default(), &dns.unwrap()).await.unwrap();
    let controller = operator::start(&plane).await;
    operator::healthy(&admin, "train", "Training").await;
    let before = operator::in_place(&admin, "train").await;
    assert!(before["cloison-wl-steady"].to_string().contains("kube-dns"));

    let roles: Api<ClusterRole> = Api::all(admin.clone());
    let role = roles.get("cloison-controller").await.unwrap();
    let set = |rules: Option<Vec<k8s_openapi::api::rbac::v1::PolicyRule>>| {
        let (roles, patch) = (roles.clone(), Patch::Merge(json!({ "rules": rules })));
        async move {
            roles
                .patch("cloison-controller", &PatchParams::default(), &patch)
                .await
                .unwrap()
        }
    };
    let mut fewer = role.rules.clone().unwrap();
    for rule in &mut fewer {
        rule.resource_names
            .iter_mut()
            .for_each(|names| names.retain(|name| name != "kube-dns"));
    }
    set(Some(fewer)).await;
    let from = controller.output().len();
    controller.stop().await;
    controller.start().unwrap();
    operator::logs(&controller, from, "waiting for the cluster's own addresses").await;
    assert_eq!(operator::ask(&controller, "/readyz").unwrap().0, 503);
    assert_eq!(operator::in_place(&admin, "train").await, before);
    set(role.rules).await;
    operator::apply(&admin, operator::workload("train", "after", "Training", Value::Null))
        .await
        .unwrap();
    operator::condition(&admin, "train", "after", "Ready", "True").await;
    assert_eq!(
        operator::in_place(&admin, "train").await["cloison-wl-steady"],
        before["cloison-wl-steady"]
    );
}
