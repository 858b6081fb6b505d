//! Rewriting 10,000 Secrets under a new key: by `cloison encryption rewrite`, by one pass of its library alone, by
//! `kubectl get secrets -A -o json | kubectl replace -f -`, and by a bare client of etcd as the limit; each on the same set
//! against the same API server in the same run, after a change of the key. Beside each, the latency of somebody else's reads.
//!
//! `CLOISON_BENCH_SECRETS=50000` makes it larger. Numbers are printed, never asserted.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]
#![allow(clippy::cast_precision_loss, reason = "it counts to thousands")]

mod bench;
#[path = "../tests/common/operator.rs"]
mod operator;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloison::api::names;
use cloison::cluster::sweep::{self, Loan, PARALLEL, Settings, Work};
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Tool, find};
use futures::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::sync::watch;

const NAMESPACES: usize = 20;
/// As much as a kubeconfig or a certificate with its key.
const SIZE: usize = 4_096;
/// The most that `SecretEncryption` allows.
const RATE: u32 = 5_000;

fn main() {
    bench::block_on(run());
}

async fn run() {
    let number = bench::size("CLOISON_BENCH_SECRETS", 10_000);
    println!(
        "{number} Secrets of {SIZE} bytes in {NAMESPACES} namespaces, 1 API server, at most {RATE} requests a second\n"
    );
    let plane = ControlPlane::start(Options {
        api_servers: vec![ApiServerOptions {
            encryption_config: Some(configuration("k1")),
            ..ApiServerOptions::default()
        }],
        ..Options::default()
    })
    .await
    .expect("a plane");
    operator::install(&plane, &[]);
    fill(&plane.admin().expect("admin"), number).await;
    let idle = beside(&plane, tokio::time::sleep(Duration::from_secs(5))).await.1;
    // One way may be as slow as the other is fast because of what came before: each begins with a restart.
    let (program, peak) = program(&plane, "k2").await;
    let pass = Box::pin(library(&plane, "k1")).await;
    let kubectl = kubectl(&plane, "k2").await;
    let etcd = etcd(&plane).await;

    println!("| what | seconds | Secrets per second | reads beside it: p50, p99 |\n|---|---|---|---|");
    println!("| nothing | | | {idle} |");
    for (what, one) in [
        ("one pass, by the library", &pass),
        (
            "`cloison encryption rewrite`: that, and a pass that proves it",
            &program,
        ),
        ("`kubectl get secrets -A -o json \\| kubectl replace -f -`", &kubectl),
        ("a bare client of etcd: every value read and put", &etcd),
    ] {
        let seconds = one.took.as_secs_f64();
        println!(
            "| {what} | {seconds:.1} | {:.0} | {} |",
            number as f64 / seconds,
            one.beside
        );
    }
    let times = |one: &Measured| kubectl.took.as_secs_f64() / one.took.as_secs_f64();
    println!(
        "\n**ratio** to kubectl (goal 5): **{:.1}** with its proof, {:.1} without",
        times(&program),
        times(&pass)
    );
    println!(
        "to the bare client of etcd: {:.1}",
        pass.took.as_secs_f64() / etcd.took.as_secs_f64()
    );
    println!(
        "resident memory of the program at its peak: {:.0} MiB",
        peak as f64 / 1024.0
    );
}

struct Measured {
    took: Duration,
    beside: String,
}

async fn fill(admin: &Client, number: usize) {
    for n in 0..NAMESPACES {
        operator::apply(
            admin,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space(n)}}),
        )
        .await
        .map(drop)
        .expect("a namespace");
    }
    let _: Namespace = Api::all(admin.clone()).get(&space(0)).await.expect("a namespace");
    stream::iter(0..number)
        .for_each_concurrent(PARALLEL, |n| async move {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(format!("s{n}")),
                    ..ObjectMeta::default()
                },
                data: Some(BTreeMap::from([("value".to_owned(), ByteString(vec![b'x'; SIZE]))])),
                ..Secret::default()
            };
            let api: Api<Secret> = Api::namespaced(admin.clone(), &space(n % NAMESPACES));
            api.create(&PostParams::default(), &secret).await.expect("a Secret");
        })
        .await;
}

fn space(n: usize) -> String {
    format!("space-{n}")
}

/// Writes under `key`, and reads both.
fn configuration(key: &str) -> String {
    let one = |name: &str| json!({"name": name, "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="});
    let other = if key == "k1" { "k2" } else { "k1" };
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": [one(key), one(other)]}}]}],
    })
    .to_string()
}

async fn change_key(plane: &ControlPlane, key: &str) {
    plane.write_encryption_config(&configuration(key)).expect("the file");
    plane.restart_api_servers().await.expect("restart");
}

/// Runs `work` while somebody else reads one small object again and again.
async fn beside<T>(plane: &ControlPlane, work: impl Future<Output = T>) -> (T, String) {
    let api: Api<Namespace> = Api::all(plane.admin().expect("admin"));
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let reads = async {
        loop {
            let start = Instant::now();
            api.get("default").await.expect("a read");
            times.lock().expect("times").push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = reads => panic!("reads end"),
    };
    let mut times = times.lock().expect("times").clone();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1_000.0;
    (done, format!("{:.1} ms, {:.1} ms", at(50), at(99)))
}

/// Runs the program as an admin does; also the peak of its memory in kilobytes.
async fn program(plane: &ControlPlane, key: &str) -> (Measured, u64) {
    change_key(plane, key).await;
    let kubeconfig = plane.admin_kubeconfig().expect("kubeconfig");
    let work = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
            .args(["encryption", "rewrite", "--rate", &RATE.to_string()])
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program");
        let mut peak = 0;
        loop {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("VmHWM:"));
            peak = peak.max(
                line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                    .unwrap_or(0),
            );
            if child.try_wait().expect("its end").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = start.elapsed();
        let output = child.wait_with_output().expect("its output");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        println!("{said}");
        (took, peak)
    });
    let (done, beside) = beside(plane, work).await;
    let (took, peak) = done.expect("the program");
    (Measured { took, beside }, peak)
}

async fn library(plane: &ControlPlane, key: &str) -> Measured {
    change_key(plane, key).await;
    let mut config: Option<Config> = None;
    let admin = plane.identity("admin", &["system:masters"]).expect("admin");
    let client = admin.client_with(|found| config = Some(found.clone())).expect("admin");
    let loan = Loan::take(&client, names::DEFAULT_NAMESPACE, names::SWEEPER_ROLE)
        .await
        .expect("the role");
    let client = sweep::client(&config.expect("a configuration"), loan.token()).expect("a client");
    let settings = Settings {
        work: Work::Rewrite,
        rate: RATE,
        client,
        parallel: PARALLEL,
    };
    let work = async {
        let start = Instant::now();
        let (tally, stop) = sweep::pass(&settings, &watch::Sender::default()).await;
        let took = start.elapsed();
        assert!(stop.is_none() && tally.all_blocked() == 0, "{stop:?} {tally:?}");
        took
    };
    let (done, ended) = loan.during(beside(plane, work), std::future::pending()).await;
    ended.expect("the role is back");
    let (took, beside) = done.expect("nobody stops it");
    Measured { took, beside }
}

async fn kubectl(plane: &ControlPlane, key: &str) -> Measured {
    change_key(plane, key).await;
    let kubeconfig = plane.admin_kubeconfig().expect("kubeconfig");
    let kubectl = find(Tool::Kubectl).expect("kubectl");
    let work = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let line = format!(
            "'{0}' get secrets -A -o json | '{0}' replace -f - >/dev/null",
            kubectl.display()
        );
        let status = Command::new("sh")
            .args(["-c", &line])
            .env("KUBECONFIG", kubeconfig)
            .status();
        assert!(status.expect("kubectl").success());
        start.elapsed()
    });
    let (took, beside) = beside(plane, work).await;
    Measured {
        took: took.expect("kubectl"),
        beside,
    }
}

/// Reads every value and puts it back, with as many requests at once as the sweep makes.
async fn etcd(plane: &ControlPlane) -> Measured {
    let etcd = plane.etcd();
    let file = |path: &std::path::Path| STANDARD.encode(fs::read(path).expect("a file"));
    let mut config = Config::new(etcd.url().parse().expect("a URL"));
    let authority = fs::read_to_string(etcd.authority_file()).expect("the authority");
    let der: String = authority.lines().filter(|line| !line.starts_with("-----")).collect();
    config.root_cert = Some(vec![STANDARD.decode(der).expect("a certificate")]);
    config.auth_info.client_certificate_data = Some(file(etcd.certificate_file()));
    config.auth_info.client_key_data = Some(file(etcd.key_file()).into());
    let client = Client::try_from(config).expect("a client");
    let call = async |path: &str, body: Value| -> Value {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes());
        client.request(request.expect("a request")).await.expect("etcd")
    };
    let call = &call;
    let work = async {
        let start = Instant::now();
        let range = json!({"key": STANDARD.encode("/registry/secrets/"), "range_end": STANDARD.encode("/registry/secrets0"), "keys_only": true});
        let keys = call("/v3/kv/range", range).await;
        let keys = keys["kvs"].as_array().expect("keys").clone();
        stream::iter(keys)
            .for_each_concurrent(PARALLEL, |found| async move {
                let found = call("/v3/kv/range", json!({"key": found["key"]})).await;
                let found = &found["kvs"][0];
                call("/v3/kv/put", json!({"key": found["key"], "value": found["value"]})).await;
            })
            .await;
        start.elapsed()
    };
    let (took, beside) = beside(plane, work).await;
    Measured { took, beside }
}
