//! Our own webhook, asked directly: pods never are what it is asked about.

use std::time::{Duration, Instant};

use cloison::api::names;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::load::{quantile, resident, used};
use crate::operator;
use crate::scene::{Scene, Webhook};

pub const RATE: u32 = 500;
const SECONDS: u32 = 10;

/// Milliseconds, and MB.
pub struct Reviews {
    pub p50: f64,
    pub p99: f64,
    pub each: f64,
    pub resident: f64,
}

/// [`RATE`] reviews a second for ten seconds, each counted from the moment at which it was due, so that one that is late makes
/// the next ones late in the figures too. One second before goes uncounted: connections are made in it.
pub async fn reviews(scene: &Scene, webhook: &Webhook) -> Reviews {
    let client = client(scene, webhook).await;
    let body = serde_json::to_vec(&review()).expect("JSON");
    let process = webhook.program.process_id().expect("it runs");
    send(&client, &body, 1).await;
    let before = used(process);
    let mut times = send(&client, &body, SECONDS).await;
    Reviews {
        p50: quantile(&mut times, 0.5),
        p99: quantile(&mut times, 0.99),
        each: (used(process) - before) / times.len() as f64,
        resident: resident(process),
    }
}

async fn send(client: &Client, body: &[u8], seconds: u32) -> Vec<Duration> {
    let start = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..RATE * seconds {
        let due = start + Duration::from_secs(1) * number / RATE;
        tokio::time::sleep_until(due.into()).await;
        let (client, body) = (client.clone(), body.to_vec());
        tasks.push(tokio::spawn(async move {
            let request = http::Request::post("/review")
                .header("content-type", "application/json")
                .body(body)
                .expect("a request");
            let answer: Value = client.request(request).await.expect("an answer");
            let took = due.elapsed();
            assert_eq!(answer["response"]["allowed"], json!(true), "{answer}");
            took
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await.expect("a request"));
    }
    times
}

/// As the API server asks it: by its Service's name, with its authority's certificate.
async fn client(scene: &Scene, webhook: &Webhook) -> Client {
    let authority = scene.material().await["ca.crt"].clone();
    let ders = CertificateDer::pem_slice_iter(authority.as_bytes());
    let mut config = Config::new(format!("https://{}", webhook.address).parse().expect("a URL"));
    config.root_cert = Some(ders.map(|der| der.expect("a certificate").to_vec()).collect());
    config.tls_server_name = Some("cloison-webhook.cloison-system.svc".to_owned());
    Client::try_from(config).expect("a client")
}

/// A new `AiWorkload` that wants to go out.
fn review() -> Value {
    let object = operator::workload(
        "train",
        "new",
        "Training",
        json!({"connectTo": [{"cidr": "8.8.8.0/24", "ports": [{"port": 443}]}]}),
    );
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "0c9a8d74", "kind": {"group": names::GROUP, "version": names::VERSION, "kind": "AiWorkload"},
        "resource": {"group": names::GROUP, "version": names::VERSION, "resource": "aiworkloads"},
        "name": "new", "namespace": "train", "operation": "CREATE", "userInfo": {"username": "alice"},
        "object": object, "dryRun": true}})
}
