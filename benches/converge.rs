//! Time to Ready of 1,000 workloads in 100 namespaces, against a bare client that server-side applies the same objects
//! and statuses to the same API server in the same run; what an idle minute costs; resident memory.
//!
//! `CLOISON_BENCH_WORKLOADS` and `CLOISON_BENCH_NAMESPACES` make it smaller. Numbers are printed, never asserted.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it counts to thousands"
)]

mod bench;
#[path = "../tests/common/operator.rs"]
mod operator;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use cloison::api::{AiWorkload, names};
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// As many requests at once as the controller makes.
const CONCURRENCY: usize = 16;
/// How long the cluster is watched doing nothing.
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    bench::block_on(run());
}

async fn run() {
    let workloads = bench::size("CLOISON_BENCH_WORKLOADS", 1_000);
    let namespaces = bench::size("CLOISON_BENCH_NAMESPACES", 100);
    println!("{workloads} AiWorkloads in {namespaces} namespaces, 1 API server, {CONCURRENCY} requests at once\n");
    let server = ApiServerOptions {
        audit_policy: Some(AUDIT.to_owned()),
        ..ApiServerOptions::default()
    };
    let plane = ControlPlane::start(Options {
        api_servers: vec![server],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .expect("a plane");
    let controller = operator::start(&plane).await;
    let admin = plane.admin().expect("admin");
    spaces(&admin, "cloison", namespaces).await;
    let last = format!("cloison-{}", namespaces - 1);
    operator::sealed(&admin, &last, "training").await;
    active(&admin).await;

    let before = audit(&plane).len();
    let ours = with_controller(&admin, workloads, namespaces).await;
    let requests = counted(&audit(&plane)[before..]);
    let memory = resident(&controller);
    let idle = idle(&plane).await;
    let captured = capture(&admin).await;
    controller.stop().await;
    // As the controller's own account: the same rights, and the same admission policies on every write.
    let account = plane
        .service_account(names::DEFAULT_NAMESPACE, names::CONTROLLER_ACCOUNT)
        .await
        .expect("account");
    spaces(&admin, "bare", namespaces).await;
    let bare = with_bare_client(&admin, &account, &captured).await;

    println!("| what | seconds |\n|---|---|");
    println!("| all Ready, with the controller | {:.2} |", ours.as_secs_f64());
    println!(
        "| the same {} policies and {} statuses, by a bare client | {:.2} |",
        captured.len(),
        captured.len(),
        bare.as_secs_f64()
    );
    println!(
        "| **ratio** (limit 1.5, goal 1.3) | **{:.2}** |\n",
        ours.as_secs_f64() / bare.as_secs_f64()
    );
    println!("requests of the controller until all were Ready:");
    print(&requests);
    println!("requests in {} s of doing nothing:", IDLE.as_secs());
    print(&idle);
    println!(
        "resident memory of the controller after the run: {:.0} MiB",
        memory as f64 / 1_048_576.0
    );
}

/// Namespaces of one kind, in mode enforce.
async fn spaces(admin: &Client, prefix: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(CONCURRENCY, |n| async move {
            operator::namespace(admin, &format!("{prefix}-{n}"), "training", Some("enforce")).await;
        })
        .await;
}

/// Waits until admission is proven, so that it weighs on both sides alike.
async fn active(admin: &Client) {
    let api: Api<cloison::api::AiSecurityPolicy> = Api::all(admin.clone());
    eventually(operator::PATIENCE, "admission in force", || async {
        let policy = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
        let conditions = policy.status.unwrap_or_default().conditions;
        let found = cloison::api::conditions::find(&conditions, "AdmissionEnforced").map(|c| c.status.clone());
        if found.as_deref() == Some("True") {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .expect("admission");
}

fn manifest(namespace: &str, name: &str) -> Value {
    operator::workload(
        namespace,
        name,
        "Training",
        json!({"connectTo": [{"service": "kubernetes-api"}]}),
    )
}

/// Creates all workloads and waits until each is Ready.
async fn with_controller(admin: &Client, workloads: usize, namespaces: usize) -> Duration {
    let start = Instant::now();
    let ready = tokio::spawn(all_ready(admin.clone(), workloads));
    stream::iter(0..workloads)
        .for_each_concurrent(CONCURRENCY, |n| async move {
            let (namespace, name) = (format!("cloison-{}", n % namespaces), format!("w{n}"));
            operator::apply(admin, manifest(&namespace, &name))
                .await
                .expect("a workload");
        })
        .await;
    ready.await.expect("the watch");
    start.elapsed()
}

async fn all_ready(admin: Client, wanted: usize) {
    let mut ready: BTreeSet<String> = BTreeSet::new();
    let mut events = std::pin::pin!(watcher::watcher(
        Api::<AiWorkload>::all(admin),
        watcher::Config::default()
    ));
    while let Some(event) = events.try_next().await.expect("watch") {
        let (Event::Apply(workload) | Event::InitApply(workload)) = event else {
            continue;
        };
        let conditions = workload.status.clone().unwrap_or_default().conditions;
        if cloison::api::conditions::find(&conditions, "Ready").is_some_and(|c| c.status == "True") {
            ready.insert(format!(
                "{}/{}",
                workload.namespace().unwrap_or_default(),
                workload.name_any()
            ));
        }
        if ready.len() == wanted {
            return;
        }
    }
}

/// One workload's objects as the controller wrote them.
struct Captured {
    namespace: String,
    name: String,
    policy: NetworkPolicy,
    status: Value,
}

async fn capture(admin: &Client) -> Vec<Captured> {
    let workloads = Api::<AiWorkload>::all(admin.clone())
        .list(&ListParams::default())
        .await
        .expect("workloads");
    stream::iter(workloads)
        .map(|workload| async move {
            let namespace = workload.namespace().expect("namespaced");
            let name = workload.name_any();
            let api: Api<NetworkPolicy> = Api::namespaced(admin.clone(), &namespace);
            let mut policy = api
                .get(&format!("{}{name}", names::WORKLOAD_POLICY_PREFIX))
                .await
                .expect("its policy");
            let namespace = namespace.replace("cloison-", "bare-");
            policy.metadata = ObjectMeta {
                name: policy.metadata.name,
                labels: policy.metadata.labels,
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            };
            let status = serde_json::to_value(workload.status).expect("its status");
            Captured {
                namespace,
                name,
                policy,
                status,
            }
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

/// Creates the same workloads elsewhere, and for each applies the captured policy and status.
async fn with_bare_client(admin: &Client, account: &Client, captured: &[Captured]) -> Duration {
    let start = Instant::now();
    stream::iter(captured)
        .for_each_concurrent(CONCURRENCY, |one| async move {
            operator::apply(admin, manifest(&one.namespace, &one.name))
                .await
                .expect("a workload");
            let params = PatchParams::apply("bare").force();
            let policies: Api<NetworkPolicy> = Api::namespaced(account.clone(), &one.namespace);
            policies
                .patch(&one.policy.name_any(), &params, &Patch::Apply(&one.policy))
                .await
                .expect("a policy");
            let workloads: Api<AiWorkload> = Api::namespaced(account.clone(), &one.namespace);
            let status = json!({
                "apiVersion": "cloison.dev/v1alpha1", "kind": "AiWorkload",
                "metadata": {"name": one.name}, "status": one.status,
            });
            workloads
                .patch_status(&one.name, &params, &Patch::Apply(&status))
                .await
                .expect("a status");
        })
        .await;
    start.elapsed()
}

/// What our two accounts asked the API server for, in order.
fn audit(plane: &ControlPlane) -> Vec<Value> {
    let log = fs::read_to_string(plane.api_server(0).audit_log()).expect("the audit log");
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Requests by verb and resource. A dry run stores nothing; the canaries are such.
fn counted(events: &[Value]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for event in events {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let dry = if text("/requestURI").contains("dryRun=All") {
            " (dry run)"
        } else {
            ""
        };
        let part = text("/objectRef/subresource");
        let slash = if part.is_empty() { "" } else { "/" };
        let what = format!("{} {}{slash}{part}{dry}", text("/verb"), text("/objectRef/resource"));
        *counted.entry(what).or_default() += 1;
    }
    counted
}

fn print(counted: &BTreeMap<String, usize>) {
    for (what, times) in counted.iter().filter(|(what, _)| !what.starts_with("watch")) {
        println!("  {times:>6} {what}");
    }
    println!();
}

/// The requests of a minute in which nothing happens. It begins once what the run left to do is done.
async fn idle(plane: &ControlPlane) -> BTreeMap<String, usize> {
    let requests = async |time: Duration| {
        let before = audit(plane).len();
        tokio::time::sleep(time).await;
        counted(&audit(plane)[before..])
    };
    let writes = |what: &String| {
        let read = ["get", "list", "watch"].iter().any(|verb| what.starts_with(verb));
        !read && !what.ends_with("(dry run)") && !what.ends_with("leases")
    };
    for _ in 0..20 {
        if !requests(Duration::from_secs(3)).await.keys().any(writes) {
            break;
        }
    }
    requests(IDLE).await
}

/// Audits our own accounts alone: the others' requests are not ours to count.
const AUDIT: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[{"level":"Metadata","users":["system:serviceaccount:cloison-system:cloison-controller","system:serviceaccount:cloison-system:cloison-canary"]},{"level":"None"}]}"#;

/// Resident memory in bytes.
fn resident(program: &Program) -> u64 {
    let id = program.process_id().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kilobytes: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("a number");
    kilobytes * 1024
}
