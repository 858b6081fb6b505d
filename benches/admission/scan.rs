//! What is there already, judged: pods that were stored before anything was enforced.

use std::time::{Duration, Instant};

use cloison::admission::{Offline, Operator, Request, Waived, generate};
use cloison::api::{AiWorkload, names};
use cloison_testbed::{ControlPlane, Program, eventually};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::load::{memory, used};
use crate::operator::{self, PATIENCE};
use crate::pods::pod;
use crate::{bench, policy, scene};

const NAMESPACES: usize = 20;
/// One pod of so many breaks a rule.
const ONE_IN: usize = 10;

/// Seconds, and MB.
pub struct Scan {
    pub took: f64,
    pub processor: f64,
    pub memory: f64,
}

pub fn number() -> usize {
    bench::size("CLOISON_BENCH_SCAN", 10_000)
}

pub fn refused() -> usize {
    number().div_ceil(ONE_IN)
}

fn namespace(number: usize) -> String {
    format!("scan-{number}")
}

fn stored(index: usize) -> Value {
    let mut pod = if index.is_multiple_of(ONE_IN) {
        pod(&json!({"hostPID": true}))
    } else {
        pod(&json!({}))
    };
    // Each namespace has as many that break a rule.
    let home = namespace(index / ONE_IN % NAMESPACES);
    pod["metadata"] = json!({"name": format!("p-{index}"), "namespace": home, "labels": {"app": format!("a-{index}")}});
    pod["spec"]["containers"][0]["env"][0]["value"] = json!(index.to_string());
    pod
}

/// Stores them, in namespaces of the stage training in mode audit, in which nothing is refused.
pub async fn store(admin: &Client) {
    eprintln!("storing {} pods", number());
    for name in (0..NAMESPACES).map(namespace) {
        operator::namespace(admin, &name, "training", Some("audit")).await;
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), &name);
        eventually(PATIENCE, "the account", || async { accounts.get("default").await })
            .await
            .expect("an account");
    }
    stream::iter(0..number())
        .for_each_concurrent(32, |index| async move {
            scene::create(admin, stored(index), false).await.expect("a pod");
        })
        .await;
}

/// Waits until a process has next to nothing to do, and says how much is resident then.
pub async fn idle(program: &Program) -> f64 {
    let process = program.process_id().expect("it runs");
    eventually(Duration::from_secs(180), "it is idle", || async {
        let before = used(process);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = used(process) - before;
        if now <= 30.0 {
            Ok(())
        } else {
            Err(format!("{now} ms in 3 s"))
        }
    })
    .await
    .expect("idle");
    memory(&process.to_string(), "VmRSS").expect("it runs")
}

/// The controller's own scan, from the moment that each namespace has a workload until the last one's status tells what was found.
/// No two pods are alike, so none is judged for another. `memory` is what is resident afterwards.
pub async fn declared(controller: &Program, admin: &Client) -> Scan {
    let process = controller.process_id().expect("it runs");
    let (before, start) = (used(process), Instant::now());
    for name in (0..NAMESPACES).map(namespace) {
        let workload = operator::workload(&name, names::DEFAULT_WORKLOAD, "Training", Value::Null);
        operator::apply(admin, workload).await.expect("a workload");
    }
    for name in (0..NAMESPACES).map(namespace) {
        let workloads: Api<AiWorkload> = Api::namespaced(admin.clone(), &name);
        eventually(Duration::from_secs(900), &name, || async {
            let workload = workloads.get(names::DEFAULT_WORKLOAD).await;
            let status = workload.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let told = status
                .findings
                .iter()
                .any(|it| it.rule.as_deref() == Some("WKL-01/host-pid"));
            if told { Ok(()) } else { Err("not told yet".to_owned()) }
        })
        .await
        .expect("it is told");
    }
    let took = start.elapsed().as_secs_f64();
    let processor = (used(process) - before) / 1_000.0;
    let memory = idle(controller).await;
    Scan {
        took,
        processor,
        memory,
    }
}

/// `cloison plan -A`: lists and judges as if everything were enforced, and prints a table.
pub async fn plan(plane: &ControlPlane) -> Scan {
    let kubeconfig = plane.admin_kubeconfig().expect("a kubeconfig");
    let arguments = [
        "plan".to_owned(),
        "-A".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
    ];
    let log = plane.logs_dir().join("plan.log");
    let program = Program::new("plan", env!("CARGO_BIN_EXE_cloison"), arguments, log);
    let start = Instant::now();
    program.start().expect("it starts");
    let (mut peak, mut processor): (f64, f64) = (0.0, 0.0);
    while let Some(process) = program.process_id() {
        // One that has ended has no memory, but its times until somebody asks how it ended.
        peak = peak.max(memory(&process.to_string(), "VmHWM").unwrap_or_default());
        processor = used(process);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = start.elapsed().as_secs_f64();
    let said = operator::plain(&program.output());
    let counts = said.split("WKL-01/host-pid ").skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().expect("a number")
    });
    assert_eq!(counts.sum::<usize>(), refused(), "{said}");
    Scan {
        took,
        processor: processor / 1_000.0,
        memory: peak,
    }
}

/// The judgement alone, as `plan` calls it, on pods that are in memory already. `memory` is what is resident beyond them.
pub fn judgement() -> Scan {
    let pods: Vec<Value> = (0..number()).map(stored).collect();
    let spec = serde_json::from_value(policy()["spec"].clone()).expect("a policy");
    let (before, used_before) = (memory("self", "VmRSS").expect("this"), used(std::process::id()));
    let start = Instant::now();
    let operator = Operator::in_namespace(names::DEFAULT_NAMESPACE);
    let set = generate(&spec, &operator, &Waived::default(), Timestamp::now());
    let offline = Offline::new(&set).expect("they compile");
    let enforced = json!({"metadata": {"name": "n", "uid": "u",
        "labels": {names::NAMESPACE_NAME_LABEL: "n", names::STAGE_LABEL: "training", names::MODE_LABEL: "enforce"},
        "annotations": {names::SEALED_ANNOTATION: "u/training", names::OPEN_ANNOTATION: names::DEFAULT_WORKLOAD}}});
    let verdicts = pods
        .iter()
        .map(|pod| offline.judge_pod(pod, &enforced, &Request::default()));
    let found = verdicts
        .filter(|verdict| verdict.as_ref().expect("a verdict").refused)
        .count();
    let took = start.elapsed().as_secs_f64();
    assert_eq!(found, refused());
    Scan {
        took,
        processor: (used(std::process::id()) - used_before) / 1_000.0,
        memory: memory("self", "VmRSS").expect("this") - before,
    }
}
