//! Requests, and what they cost: the time of processors that the API server and an engine use for them, and how long each
//! takes.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::pods::{Case, cases};
use crate::scene::Scene;
use crate::{Engine, bench};

/// Milliseconds of a processor that a process has used so far.
pub fn used(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    // In hundredths of a second, on every Linux.
    (fields[11].parse::<f64>().expect("user") + fields[12].parse::<f64>().expect("system")) * 10.0
}

/// A size of a process in MB: `VmRSS` is what is resident, `VmHWM` the most that was. `None` when it has ended.
pub fn memory(process: &str, which: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(which))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1_024.0 / 1e6)
}

pub fn resident(process: u32) -> f64 {
    memory(&process.to_string(), "VmRSS").expect("it runs")
}

/// Milliseconds at which so many of the times end.
pub fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = ((times.len() - 1) as f64 * share) as usize;
    times[at].as_secs_f64() * 1_000.0
}

/// What requests of one kind cost.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Milliseconds of processors for one request: of the API server, and of the engine's own process.
    pub server: f64,
    pub engine: f64,
    /// Milliseconds until an answer, of two clients.
    pub p50: f64,
    pub p99: f64,
    /// Requests a second, of 8 and of 32 clients.
    pub at_8: f64,
    pub at_32: f64,
}

/// How many requests one measurement has.
pub fn number() -> usize {
    bench::size("CLOISON_BENCH_PODS", 2_000)
}

/// How many requests [`costs`] makes of each case.
pub fn asked_of_each_case() -> usize {
    number() / 4 + 3 * number()
}

/// What each case costs while an engine is in force. `process` is the engine's own, where requests go to one.
pub async fn costs(scene: &Scene, engine: Engine, process: Option<u32>) -> Vec<Cost> {
    let mut costs = Vec::new();
    for case in cases() {
        eprintln!("{}: {}", engine.name(), case.what);
        ask(scene, engine, &case, number() / 4, 2).await;
        let server = scene.plane.api_server(0).process_id().expect("it runs");
        let before = (used(server), process.map_or(0.0, used));
        let (mut times, _) = ask(scene, engine, &case, number(), 2).await;
        let after = (used(server), process.map_or(0.0, used));
        let (_, at_8) = ask(scene, engine, &case, number(), 8).await;
        let (_, at_32) = ask(scene, engine, &case, number(), 32).await;
        costs.push(Cost {
            server: (after.0 - before.0) / number() as f64,
            engine: (after.1 - before.1) / number() as f64,
            p50: quantile(&mut times, 0.5),
            p99: quantile(&mut times, 0.99),
            at_8,
            at_32,
        });
    }
    costs
}

/// Asks `number` times as a dry run, `clients` at once, each on a connection of its own that is kept alive. How long each
/// took, and how many there were in a second.
async fn ask(scene: &Scene, engine: Engine, case: &Case, number: usize, clients: usize) -> (Vec<Duration>, f64) {
    let left = Arc::new(AtomicUsize::new(number));
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", case.namespace);
    let body = serde_json::to_vec(&case.pod).expect("JSON");
    let clients: Vec<_> = (0..clients).map(|_| scene.plane.admin().expect("admin")).collect();
    let start = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let (left, path, body, refused) = (left.clone(), path.clone(), body.clone(), case.refused);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while left
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let request = http::Request::post(&path)
                        .header("content-type", "application/json")
                        .body(body.clone())
                        .expect("a request");
                    let begun = Instant::now();
                    let answer = client.request_text(request).await;
                    times.push(begun.elapsed());
                    engine.answers(refused, &answer).expect("as it should");
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a client"));
    }
    let rate = number as f64 / start.elapsed().as_secs_f64();
    (times, rate)
}
