//! HTTPS for the API server: bounded in size, time and number; whatever happens, the answer is never a yes by mistake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::Semaphore;

use super::sight::{self, Now};
use crate::admission::review::{Answer, Request, needs, read, review};
use crate::admission::webhook::PATH;
use crate::cluster::health::Readiness;
use crate::cluster::telemetry::Metrics;

/// The largest body. An API server takes no larger object.
const LARGEST: usize = 3 * 1024 * 1024;
/// The longest a request may take, the sending of its body included: less than the API server waits.
const LONGEST: Duration = Duration::from_secs(4);
/// Requests that are judged at once; the others wait for their turn, with their body read.
const AT_ONCE: usize = 16;

/// What every request shares.
#[derive(Clone)]
pub struct Shared {
    client: Client,
    now: Now,
    metrics: Metrics,
    turns: Arc<Semaphore>,
}

impl Shared {
    /// What every request shares.
    pub fn new(client: Client, now: Now, metrics: Metrics) -> Self {
        Self {
            client,
            now,
            metrics,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// The routes.
pub fn routes(shared: Shared, readiness: Readiness) -> Router {
    Router::new()
        .route(PATH, post(answer))
        .with_state(shared)
        .layer(from_fn_with_state(readiness, let_go))
}

/// Ends a connection with its answer once this server is stopping. API servers speak HTTP/1.1 to webhooks and keep their
/// connections, whatever the Service leads to by then. One that is closed while the next request is on its way fails that
/// request: nobody sends a POST twice. In HTTP/2 the server says itself which requests it still takes.
async fn let_go(State(readiness): State<Readiness>, request: HttpRequest, next: Next) -> Response {
    let version = request.version();
    let mut response = next.run(request).await;
    if !readiness.get() && version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

async fn answer(State(shared): State<Shared>, body: Body) -> Response {
    let start = Instant::now();
    let (result, response) = tokio::time::timeout(LONGEST, judged(&shared, body))
        .await
        .unwrap_or_else(|_| told("timeout", StatusCode::GATEWAY_TIMEOUT, "it took too long"));
    shared.metrics.webhook.seconds.observe(start.elapsed().as_secs_f64());
    shared.metrics.webhook.count(result);
    response
}

/// The label of the metric, and the response.
type Judged = (&'static str, Response);

async fn judged(shared: &Shared, body: Body) -> Judged {
    let body = match to_bytes(body, LARGEST).await {
        Ok(body) => body,
        Err(error) => {
            let what = format!("the body cannot be read, or is larger than {LARGEST} bytes: {error}");
            return told("malformed", StatusCode::PAYLOAD_TOO_LARGE, &what);
        }
    };
    // Held until the judging ends, also when nobody waits for it any more.
    let Ok(turn) = shared.turns.clone().acquire_owned().await else {
        return told("overloaded", StatusCode::SERVICE_UNAVAILABLE, "it is stopping");
    };
    let request = match read(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(%error, "a request was not read");
            return told("malformed", StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let sight = shared.now.borrow().clone();
    let Some(sight) = sight else {
        return told(
            "undecided",
            StatusCode::SERVICE_UNAVAILABLE,
            "the caches are not complete yet",
        );
    };
    let found = sight::look_up(&shared.client, needs(&request, &sight), &sight).await;
    // Judging a policy may take a while, and others are answered meanwhile.
    let now = Timestamp::now();
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let answer = review(&request, &sight, &found, now);
        let label = label(&answer);
        log(&request, &answer);
        let review = answer.review(&request, &sight.hash);
        let body = review.and_then(|review| serde_json::to_vec(&review).map_err(|error| error.to_string()));
        (label, body)
    });
    match work.await {
        Ok((label, Ok(body))) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (label, (json, body).into_response())
        }
        Ok((_, Err(why))) => told("undecided", StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(error) => {
            tracing::error!(%error, "judging a request failed; this is a fault of Cloison");
            told("undecided", StatusCode::INTERNAL_SERVER_ERROR, "judging it failed")
        }
    }
}

fn told(result: &'static str, status: StatusCode, text: &str) -> Judged {
    (result, (status, format!("cloison webhook: {text}\n")).into_response())
}

const fn label(answer: &Answer) -> &'static str {
    if answer.undecided.is_some() {
        "undecided"
    } else if !answer.refused.is_empty() {
        "refused"
    } else if !answer.warnings.is_empty() {
        "warned"
    } else {
        "allowed"
    }
}

fn log(request: &Request, answer: &Answer) {
    let (kind, name) = (&request.kind.kind, &request.name);
    let namespace = request.namespace.as_deref().unwrap_or_default();
    if let Some(why) = &answer.undecided {
        tracing::warn!(kind, namespace, name, why, "not decided");
    } else if let Some(first) = answer.refused.first() {
        tracing::info!(kind, namespace, name, rule = %first.rule, "refused");
    }
}
