//! What admission costs: API server time and latency that our policies add to a pod, the webhook at 500 requests a second, a
//! scan of 10,000 stored pods, time from a start to enforcing, memory, bytes in etcd for a workload. Beside it, on the same API
//! server in the same run, no policy at all and Gatekeeper with the nearest equal rules (`admission/gatekeeper.yaml` says which
//! are not), as a plain process with its webhook by URL.
//!
//! `CLOISON_BENCH_PODS` and `CLOISON_BENCH_SCAN` make it shorter. Numbers are printed, never asserted.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]
#![allow(clippy::cast_precision_loss, reason = "it counts to thousands")]

#[path = "../tests/common/audit.rs"]
#[allow(dead_code, reason = "the scene asks for it")]
mod audit;
mod bench;
#[path = "admission/gatekeeper.rs"]
mod gatekeeper;
#[path = "admission/load.rs"]
mod load;
#[path = "../tests/common/operator.rs"]
mod operator;
#[path = "admission/pods.rs"]
mod pods;
#[path = "../tests/webhook/raw.rs"]
#[allow(dead_code, reason = "the scene asks for it")]
mod raw;
#[path = "admission/report.rs"]
mod report;
#[path = "admission/reviews.rs"]
mod reviews;
#[path = "admission/scan.rs"]
mod scan;
#[path = "../tests/webhook/scene.rs"]
#[allow(dead_code, reason = "it has more than is needed here")]
mod scene;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use cloison_testbed::{ApiServerOptions, Program, eventually};
use gatekeeper::{Gatekeeper, WEBHOOK};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use operator::PATIENCE;
use pods::{MANAGED, UNMANAGED, broken, cases};
use report::{Costs, Report};
use scene::Scene;
use serde_json::{Value, json};

fn main() {
    bench::block_on(run());
}

/// Who refuses.
#[derive(Clone, Copy)]
enum Engine {
    Nobody,
    Cloison,
    Gatekeeper,
}

impl Engine {
    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no policy",
            Self::Cloison => "Cloison",
            Self::Gatekeeper => "Gatekeeper",
        }
    }

    /// Whether this is its answer: what is refused is refused by it and in its words, unless nobody refuses.
    fn answers<T: Debug>(self, refused: bool, answer: &Result<T, kube::Error>) -> Result<(), String> {
        let words = match self {
            Self::Nobody => None,
            Self::Cloison => Some("denied request: [cloison ".to_owned()),
            Self::Gatekeeper => Some(format!("admission webhook \"{WEBHOOK}\" denied the request: ")),
        };
        match (words.filter(|_| refused), answer) {
            (None, Ok(_)) => Ok(()),
            (Some(words), Err(kube::Error::Api(status))) if status.message.contains(&words) => Ok(()),
            _ => Err(format!("{answer:?}")),
        }
    }
}

/// All rules that refuse by themselves, and images from one place by digest.
fn policy() -> Value {
    json!({"apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
        "spec": {"mode": "Enforce", "pods": {"images": [{"prefix": "registry.example.com/train", "digest": "Required"}]}}})
}

async fn run() {
    let built = gatekeeper::built();
    // Without an audit log, which would cost all of them the same.
    let scene = Scene::start_with(vec![ApiServerOptions::default()], &[]).await;
    let admin = &scene.admin;
    operator::apply(admin, policy()).await.expect("a policy");
    operator::namespace(admin, MANAGED, "training", Some("enforce")).await;
    let unmanaged = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": UNMANAGED}});
    operator::apply(admin, unmanaged).await.expect("a namespace");
    let workload = operator::workload(MANAGED, "road", "Training", Value::Null);
    operator::apply(admin, workload).await.expect("a workload");
    let webhook = scene.webhook("webhook").await;
    scene.lead_to(&webhook).await;
    in_force(admin, Engine::Cloison).await;
    refuses_each_rule(admin, Engine::Cloison).await;
    let bytes = bytes_of_a_workload(&scene).await;
    let reviews = reviews::reviews(&scene, &webhook).await;

    let ours = load::costs(&scene, Engine::Cloison, None).await;
    scene.kill_controller();
    webhook.program.kill();
    take_away(admin).await;
    let before = load::costs(&scene, Engine::Nobody, None).await;

    let peer = Gatekeeper::start(&scene, &built).await;
    in_force(admin, Engine::Gatekeeper).await;
    refuses_each_rule(admin, Engine::Gatekeeper).await;
    let asked = asked_gatekeeper(&scene).await;
    let theirs = load::costs(&scene, Engine::Gatekeeper, Some(peer.process())).await;
    // Of the three cases, it is asked about the two in a namespace with a stage, and about each of their pods.
    assert_eq!(asked_gatekeeper(&scene).await - asked, 2 * load::asked_of_each_case());
    let their_memory = peer.resident();
    peer.restart();
    let their_start = in_force(admin, Engine::Gatekeeper).await;
    peer.stop(admin).await;
    let after = load::costs(&scene, Engine::Nobody, None).await;
    let costs = Costs {
        ours,
        theirs,
        before,
        after,
    };
    costs.print();

    let controller = operator::controller(&scene.plane, "again").await;
    let our_start = start(&controller, admin).await;
    scan::store(admin).await;
    let our_memory = scan::idle(&controller).await;
    let scanned = scan::declared(&controller, admin).await;
    controller.stop().await;
    let plan = scan::plan(&scene.plane).await;
    let judgement = scan::judgement();
    let audit = peer.audit(admin).await;

    Report {
        costs,
        reviews,
        our_start,
        their_start,
        our_memory,
        their_memory,
        bytes,
        scanned,
        plan,
        judgement,
        audit,
    }
    .print();
}

/// Waits until a pod that breaks a rule is refused and one that breaks none is not; how long it took.
async fn in_force(admin: &Client, engine: Engine) -> Duration {
    let start = Instant::now();
    for case in cases() {
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), case.namespace);
        eventually(PATIENCE, &format!("{}: {}", engine.name(), case.what), || async {
            accounts.get("default").await.map_err(|error| error.to_string())?;
            engine.answers(case.refused, &create(admin, case.namespace, case.pod.clone()).await)
        })
        .await
        .expect("enforcing");
    }
    start.elapsed()
}

/// As a dry run.
async fn create(admin: &Client, namespace: &str, mut pod: Value) -> Result<(), kube::Error> {
    pod["metadata"]["namespace"] = json!(namespace);
    scene::create(admin, pod, true).await.map(drop)
}

/// Waits until a pod that breaks one rule is refused for this rule, by either engine.
async fn refuses_each_rule(admin: &Client, engine: Engine) {
    for (ours, theirs, pod) in broken() {
        let name = match engine {
            Engine::Gatekeeper => theirs.to_lowercase(),
            _ => ours.to_owned(),
        };
        eventually(PATIENCE, &name, || async {
            let answer = create(admin, MANAGED, pod.clone()).await;
            engine.answers(true, &answer)?;
            let said = answer.expect_err("refused").to_string();
            if said.contains(&name) { Ok(()) } else { Err(said) }
        })
        .await
        .expect("refused");
    }
}

/// How often the API server has asked Gatekeeper.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
async fn asked_gatekeeper(scene: &Scene) -> usize {
    let metrics = scene.plane.api_server(0).metrics().await.expect("metrics");
    metrics.sum("apiserver_admission_webhook_request_total", &[("name", WEBHOOK)]) as usize
}

/// Policies, bindings and webhooks of ours.
async fn take_away(admin: &Client) {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=cloison");
    let how = DeleteParams::default();
    Api::<ValidatingAdmissionPolicyBinding>::all(admin.clone())
        .delete_collection(&how, &ours)
        .await
        .expect("bindings");
    Api::<ValidatingAdmissionPolicy>::all(admin.clone())
        .delete_collection(&how, &ours)
        .await
        .expect("policies");
    Api::<ValidatingWebhookConfiguration>::all(admin.clone())
        .delete_collection(&how, &ours)
        .await
        .expect("webhooks");
    in_force(admin, Engine::Nobody).await;
}

/// From the start of a controller that finds no policy in the cluster until these refuse.
async fn start(controller: &Program, admin: &Client) -> Duration {
    let start = Instant::now();
    controller.start().expect("it starts");
    in_force(admin, Engine::Cloison).await;
    start.elapsed()
}

/// What is stored for it: itself with its status, and its NetworkPolicy.
async fn bytes_of_a_workload(scene: &Scene) -> [usize; 2] {
    operator::policy(&scene.admin, MANAGED, "cloison-wl-road").await;
    operator::condition(&scene.admin, MANAGED, "road", "Ready", "True").await;
    let mut bytes = [0; 2];
    for (key, bytes) in [
        "/registry/cloison.dev/aiworkloads/train/road",
        "/registry/networkpolicies/train/cloison-wl-road",
    ]
    .iter()
    .zip(&mut bytes)
    {
        let value = scene.plane.etcd().get(key).await.expect("etcd").expect("an object");
        *bytes = key.len() + value.len();
    }
    bytes
}
