//! What was only ever seen on the model, on real API servers and a real etcd: an API server that joins in mid rotation with
//! an old file, a value that is put back under an old key, a key that is given up in mid rotation. Secrets are
//! written and read through every API server all the time, and raw etcd is the judge. With `CLOISON_CASES=all` further ones
//! follow on the same control plane.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::default_trait_access)]
#![allow(
    clippy::print_stdout,
    reason = "a story of minutes says where it is, and what was checked how often"
)]

mod again;
#[path = "../common/agents.rs"]
mod agents;
#[path = "../encryption_faults/checker.rs"]
mod checker;
#[path = "../encryption_faults/clients.rs"]
mod clients;
#[path = "../common/admission.rs"]
mod common;
mod given_up;
mod hidden;
#[path = "../encryption_faults/history.rs"]
mod history;
mod joins;
mod leaders;
mod minted;
#[path = "../common/operator.rs"]
mod operator;
#[path = "../encryption_faults/raw.rs"]
mod raw;
#[path = "../encryption_faults/scene.rs"]
mod scene;
mod story;

use checker::{Checker, Done};
use cloison::agent::node::FILE;
use raw::stored;
use scene::{ROTATED, Scene, idle};
use story::Story;

/// A Secret of before the first key; it is immutable.
const OLD: &str = "old-4";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_loses_a_read_whoever_joins_and_whatever_is_given_up_or_put_back() {
    let mut story = Story::new(Scene::with_spares("value", 1).await);
    story.scene.enable().await;
    let checker = story.checker(&[2]).await;
    story.scene.status("the first enable ends", ROTATED, idle).await;
    story.said("everything is under k1");
    let first = story.scene.nodes[0].read(FILE);
    let value = story.raw(OLD).await;

    joins::in_the_middle_of_the_sweep(&mut story, &checker, &first).await;
    let (done, wrong) = checker.end().await;
    println!("{done:?}");
    // Until it has the others' file, who joins reads what it came with.
    let others: Vec<String> = wrong.into_iter().filter(|line| !joins::of_who_joins(line)).collect();
    assert_eq!(others, Vec::<String>::new());
    story.everything_is_under(2).await;
    story.said("who joined in mid rotation has the file of the others");

    let checker = story.checker(&[]).await;
    hidden::under_an_old_key(&story, &checker, &value).await;
    story.everything_is_under(2).await;
    // Until the key is back, raw etcd shows that one value which nobody can read, and nothing else is wrong.
    let (done, wrong) = checker.end().await;
    worked(&done);
    let shown: Vec<String> = wrong.iter().filter(|line| hidden::is_shown_by(line)).cloned().collect();
    assert_eq!(wrong, shown);
    story.said("the value that was put back under k1 is under k2");

    if std::env::var_os("CLOISON_CASES").is_some_and(|which| which == "all") {
        further(&mut story).await;
    }
    story.scene.controller.stop().await;
}

/// These take four times as long again. Each has its own verdict: what a later one meets takes nothing from it.
async fn further(story: &mut Story) {
    for step in ["Read", "Promote", "Sweep"] {
        let checker = story.checker(&[]).await;
        given_up::in_the_step(story, step).await;
        story.everything_is_under(2).await;
        nothing_was_wrong(story, checker, &format!("a key was given up in {step}")).await;
    }
    let checker = story.checker(&[]).await;
    minted::and_killed_before_the_ring_has_it(story).await;
    nothing_was_wrong(
        story,
        checker,
        "a key that was made and never stored leaves no number behind",
    )
    .await;
    let checker = story.checker(&[]).await;
    leaders::two_at_once(story).await;
    nothing_was_wrong(story, checker, "a rotation ended while two controllers led by turns").await;
    let checker = story.checker(&[]).await;
    again::enabled_after_a_disable(story).await;
    nothing_was_wrong(story, checker, "encryption was taken away and came back").await;
    let found = stored(&story.scene.plane).await;
    assert_eq!(found.len(), 1, "{found:?}");
}

async fn nothing_was_wrong(story: &Story, checker: Checker, what: &str) {
    let (done, wrong) = checker.end().await;
    println!("{done:?}");
    assert_eq!(
        wrong,
        Vec::<String>::new(),
        "{what}\n{}",
        scene::tail(&story.scene.controller)
    );
    worked(&done);
    story.said(what);
}

/// A checker that did nothing saw nothing.
fn worked(done: &Done) {
    for what in [
        "create",
        "update",
        "get",
        "list",
        "list from the cache",
        "watch event",
        "second of raw etcd",
    ] {
        assert!(done.least(what) >= 5, "{what}: {done:?}");
    }
}
