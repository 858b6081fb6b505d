use std::collections::VecDeque;
use std::sync::{Arc, Mutex as StdMutex};

use http::{Method, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

type Script = Arc<StdMutex<VecDeque<(u16, Value)>>>;
type Heard = Arc<StdMutex<Vec<(Method, String, String)>>>;

/// An API server that answers what it is told to, and a record of what it heard: method, path and `Accept`.
fn server(answers: Vec<(u16, Value)>) -> (Client, Heard) {
    let script: Script = Arc::new(StdMutex::new(answers.into()));
    let heard: Heard = Arc::default();
    let record = heard.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let accept = request.headers()["accept"].to_str().unwrap_or_default().to_owned();
        let heard = (request.method().clone(), request.uri().to_string(), accept);
        record.lock().unwrap().push(heard);
        let (code, body) = script.lock().unwrap().pop_front().unwrap_or((418, json!({})));
        let answer = Response::builder()
            .status(StatusCode::from_u16(code).unwrap())
            .body(Body::from(body.to_string().into_bytes()));
        std::future::ready(Ok::<_, std::convert::Infallible>(answer.unwrap()))
    });
    (Client::new(service, "default"), heard)
}

fn metadata(name: &str, version: u32) -> Value {
    json!({"name": name, "namespace": "a", "uid": name, "resourceVersion": version.to_string()})
}

fn object(name: &str, version: u32) -> (u16, Value) {
    (
        200,
        json!({"kind": "PartialObjectMetadata", "metadata": metadata(name, version)}),
    )
}

fn list(names: &[&str], next: &str) -> (u16, Value) {
    let items: Vec<Value> = names
        .iter()
        .map(|name| json!({ "metadata": metadata(name, 1) }))
        .collect();
    (
        200,
        json!({"kind": "PartialObjectMetadataList", "metadata": {"continue": next}, "items": items}),
    )
}

fn status(code: u16, message: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "message": message}))
}

fn gone() -> (u16, Value) {
    (404, json!({"kind": "Status", "details": {"kind": "secrets"}}))
}

async fn sweep(work: Work, answers: Vec<(u16, Value)>) -> (Tally, Option<Stop>, Vec<(Method, String, String)>) {
    let (client, heard) = server(answers);
    let settings = Settings {
        work,
        rate: 5_000,
        client,
        parallel: 1,
    };
    let (tally, stop) = pass(&settings, &watch::Sender::default()).await;
    let heard = heard.lock().unwrap().clone();
    (tally, stop, heard)
}

#[tokio::test]
async fn each_secret_is_patched_once_and_only_metadata_is_asked_for() {
    let answers = vec![
        list(&["x", "y"], "t/1+"),
        list(&["z"], ""),
        object("x", 1),
        object("y", 2),
        object("z", 1),
    ];
    let (tally, stop, heard) = sweep(Work::Rewrite, answers).await;
    assert_eq!((tally.listed, tally.rewritten, tally.current, stop), (3, 1, 2, None));
    assert!(heard[1].1.contains("continue=t%2F1%2B"), "{}", heard[1].1);
    let patched: Vec<&str> = heard[2..]
        .iter()
        .map(|(_, path, _)| path.trim_end_matches('?'))
        .collect();
    let paths = ["x", "y", "z"].map(|name| format!("/api/v1/namespaces/a/secrets/{name}"));
    assert_eq!(patched, paths);
    for (_, path, accept) in &heard {
        assert!(
            accept.starts_with("application/json;as=PartialObjectMetadata") && !accept.contains(','),
            "{path} {accept}"
        );
    }
}

#[tokio::test]
async fn a_whole_object_ends_the_pass() {
    let whole = (
        200,
        json!({"kind": "Secret", "metadata": metadata("x", 1), "data": {"password": "aHVudGVyMg=="}}),
    );
    let (tally, stop, _) = sweep(Work::Rewrite, vec![list(&["x"], ""), whole]).await;
    assert!(matches!(stop, Some(Stop::NotMetadata(_))), "{stop:?}");
    assert_eq!(tally.settled(), 0);
}

#[tokio::test]
async fn an_expired_token_begins_the_list_anew() {
    let answers = vec![
        list(&["x"], "t"),
        status(410, "too old"),
        list(&["x", "y"], ""),
        object("x", 1),
        object("y", 1),
    ];
    let (tally, stop, _) = sweep(Work::Rewrite, answers).await;
    assert_eq!((tally.listed, tally.current, stop), (2, 2, None));
    let endless = [list(&["x"], "t"), status(410, "too old")]
        .into_iter()
        .cycle()
        .take(8)
        .collect();
    let (tally, stop, _) = sweep(Work::Rewrite, endless).await;
    assert_eq!((stop, tally.listed), (Some(Stop::PlaceLost), 0));
}

#[tokio::test]
async fn a_conflict_is_read_again_and_repeated_and_given_up_in_the_end() {
    let conflict = || status(409, "changed");
    let answers = vec![list(&["x"], ""), conflict(), object("x", 5), object("x", 5)];
    let (tally, stop, heard) = sweep(Work::Rewrite, answers).await;
    assert_eq!(heard.len(), 4);
    assert_eq!((tally.current, tally.rewritten, stop), (1, 0, None));
    let mut answers = vec![list(&["x"], "")];
    for version in 0..=10 {
        answers.extend([conflict(), object("x", version)]);
    }
    let (tally, _, _) = sweep(Work::Rewrite, answers).await;
    assert_eq!((tally.blocked.get("Contended"), tally.settled()), (Some(&1), 1));
    // Deleted meanwhile.
    let answers = vec![list(&["x"], ""), conflict(), gone()];
    let (tally, _, _) = sweep(Work::Rewrite, answers).await;
    assert_eq!((tally.gone, tally.all_blocked()), (1, 0));
}

#[tokio::test]
async fn what_the_api_server_asks_to_wait_for_is_repeated() {
    let busy = (429, json!({"kind": "Status", "details": {"retryAfterSeconds": 1}}));
    let answers = vec![busy.clone(), list(&["x"], ""), busy, object("x", 1)];
    let (tally, stop, heard) = sweep(Work::Rewrite, answers).await;
    assert_eq!((tally.current, stop, heard.len()), (1, None, 4));
}

#[tokio::test]
async fn a_value_that_breaks_the_list_is_named_and_everything_else_is_swept() {
    let message = "Internal error occurred: unable to transform key \"/registry/secrets/b/bad\": x";
    let mut answers = vec![list(&["x"], "t")];
    // Ever smaller parts, until it is alone in one.
    answers.extend(std::iter::repeat_n(status(500, message), 8));
    answers.extend([list(&["y"], ""), object("x", 2), object("y", 2)]);
    let (tally, stop, heard) = sweep(Work::Rewrite, answers).await;
    assert_eq!(
        (tally.listed, tally.rewritten, tally.all_blocked(), stop),
        (3, 2, 1, None)
    );
    assert_eq!(&*tally.named[0].name, "bad");
    let parts = [250, 250, 125, 62, 31, 15, 7, 3, 1, 1].map(|part| format!("limit={part}"));
    for (part, (_, path, _)) in parts.iter().zip(&heard) {
        assert!(path.split(['?', '&']).any(|field| field == part), "{part}: {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_not_let_in_for_long_ends_the_pass() {
    let denied = || {
        status(
            403,
            "secrets \"x\" is forbidden: User \"u\" cannot patch resource \"secrets\"",
        )
    };
    // Another run took the role away: it comes back.
    let answers = vec![list(&["x"], ""), denied(), denied(), object("x", 1)];
    let (tally, stop, _) = sweep(Work::Rewrite, answers).await;
    assert_eq!((tally.current, stop), (1, None));
    let answers = std::iter::once(list(&["x"], "")).chain(std::iter::repeat_n(denied(), 200));
    let (tally, stop, _) = sweep(Work::Rewrite, answers.collect()).await;
    assert!(matches!(stop, Some(Stop::Denied(_))), "{stop:?}");
    assert_eq!((tally.listed, tally.settled()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_stays_away_ends_the_pass() {
    let answers = std::iter::once(list(&["x"], "")).chain(std::iter::repeat_n(status(503, ""), 20));
    let (tally, stop, heard) = sweep(Work::Rewrite, answers.collect()).await;
    assert_eq!(
        (tally.settled(), stop, heard.len()),
        (0, Some(Stop::Unavailable(503)), 10)
    );
}

#[tokio::test]
async fn reads_patch_nothing() {
    let (tally, stop, heard) = sweep(
        Work::Read,
        vec![list(&["x", "y"], ""), object("x", 9), status(500, "boom")],
    )
    .await;
    assert_eq!(
        (tally.current, tally.blocked.get("DecryptFailed"), stop),
        (1, Some(&1), None)
    );
    assert!(heard.iter().all(|(method, ..)| *method == Method::GET));
}
