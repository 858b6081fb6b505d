//! HTTPS for the API server: bounded in size, time and number; whatever happens, the answer is never a yes by mistake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sight::{self, Now};
use crate::admission::review::{Answer, Request, needs, read, review};
use crate::admission::webhook::PATH;
use crate::cluster::health::Readiness;
use crate::cluster::telemetry::Metrics;

/// The largest request that an API server takes (`MaxRequestBodyBytes`, k8s.io/apiserver, `pkg/server/config.go`).
const REQUEST: usize = 3 * 1024 * 1024;
/// The largest body: a review of an update holds the object as it is and as it was, and around them who asks for what. What a
/// client writes in protobuf may be longer as JSON; whatever is still larger is not judged.
const LARGEST: usize = 2 * REQUEST + 64 * 1024;
/// Bytes of bodies that are held at once, read or half read, whoever connects.
const HELD: usize = 4 * LARGEST;
/// The longest a request may take, the sending of its body included: less than the API server waits.
const LONGEST: Duration = Duration::from_secs(4);
/// Turns: requests that are judged at once. The others wait for theirs, with their body read.
const AT_ONCE: usize = 16;
/// A body takes a turn for each so many bytes of it, because what is parsed takes several times the memory of its text: all
/// that is judged at once comes from at most 16 times so much.
const TURN: usize = 512 * 1024;

/// What every request shares.
#[derive(Clone)]
pub struct Shared {
    client: Client,
    now: Now,
    metrics: Metrics,
    turns: Arc<Semaphore>,
    held: Arc<Semaphore>,
}

impl Shared {
    /// What every request shares.
    pub fn new(client: Client, now: Now, metrics: Metrics) -> Self {
        Self {
            client,
            now,
            metrics,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            held: Arc::new(Semaphore::new(HELD)),
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
    let (body, room) = match whole(body, &shared.held).await {
        Ok(body) => body,
        Err(what) => return told("malformed", StatusCode::PAYLOAD_TOO_LARGE, &what),
    };
    // Held until the judging ends, also when nobody waits for it any more.
    let Ok(turn) = shared.turns.clone().acquire_many_owned(turns(body.len())).await else {
        return told("overloaded", StatusCode::SERVICE_UNAVAILABLE, "it is stopping");
    };
    let request = match read(&body) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(%error, "a request was not read");
            return told("malformed", StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    drop((body, room));
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

/// Reads a body, each piece of it once there is room.
async fn whole(body: Body, held: &Arc<Semaphore>) -> Result<(Vec<u8>, Vec<OwnedSemaphorePermit>), String> {
    let (mut text, mut room) = (Vec::new(), Vec::new());
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| format!("the body cannot be read: {error}"))?;
        if text.len() + piece.len() > LARGEST {
            return Err(format!("the body is larger than {LARGEST} bytes"));
        }
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let permit = held.clone().acquire_many_owned(bytes).await;
        room.push(permit.map_err(|_| "it is stopping".to_owned())?);
        text.extend_from_slice(&piece);
    }
    Ok((text, room))
}

/// How many turns a body of so many bytes takes.
fn turns(bytes: usize) -> u32 {
    u32::try_from((1 + bytes / TURN).min(AT_ONCE)).unwrap_or(u32::MAX)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_judged_at_once_is_bounded_by_its_bytes() {
        assert_eq!([turns(0), turns(TURN - 1), turns(TURN)], [1, 1, 2]);
        let largest = turns(LARGEST) as usize;
        assert!((LARGEST / TURN..=AT_ONCE).contains(&largest), "{largest}");
    }

    #[tokio::test]
    async fn no_more_is_held_than_there_is_room_for() {
        let held = Arc::new(Semaphore::new(10));
        let (text, room) = whole(Body::from("12345678"), &held).await.unwrap();
        assert_eq!((text.len(), held.available_permits()), (8, 2));
        let mut next = std::pin::pin!(whole(Body::from("123"), &held));
        assert!(futures::poll!(&mut next).is_pending(), "it waits for room");
        drop(room);
        assert_eq!(next.await.unwrap().0, b"123");
        assert_eq!(held.available_permits(), 10, "and gives it back");
        let large = Body::from(vec![b' '; LARGEST + 1]);
        assert!(whole(large, &held).await.unwrap_err().contains("larger than"));
    }
}
