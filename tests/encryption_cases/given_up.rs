//! A person changes their mind while a rotation is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloison::agent::node::FILE;
use cloison::api::names;
use cloison::encryption::config;
use cloison_testbed::eventually;
use serde_json::Value;

use super::raw::stored;
use super::scene::{ROTATED, SOON, condition};
use super::story::Story;

/// Everything ends under the key before.
pub async fn in_the_step(story: &mut Story, step: &str) {
    let before = story.keys(0).remove(0);
    let key = story.ask_for_another_key().await;
    let written = Written::by(story, &key);
    match step {
        "Read" => first_file(story, |keys| keys.contains(&key)).await,
        "Promote" => first_file(story, |keys| keys[0] == key).await,
        _ => {
            let sweeps = |status: &Value| status["step"] == "Sweep";
            story.scene.status("everything is rewritten", ROTATED, sweeps).await;
        }
    }
    story.annotate(names::ABANDONED_ANNOTATION, &key).await;
    let under = stored(&story.scene.plane).await;
    let goes = |status: &Value| condition(status, "Abandoned")["reason"] == "GoingBack";
    let status = story.scene.status("it goes back", SOON, goes).await;
    let told = condition(&status, "Abandoned")["message"].as_str().unwrap();
    assert!(
        told.contains(&format!("every Secret comes under {before} again")),
        "{told}"
    );
    let gone = |status: &Value| condition(status, "Abandoned")["reason"] == "GivenUp";
    story.scene.status("it is given up", ROTATED, gone).await;
    // That it was done in that step, and not in one before or after.
    let written = written.end().await;
    match step {
        "Read" => assert!(!written, "nobody wrote {key}"),
        "Promote" => assert!(written, "{key} was to write"),
        _ => assert!(written && under.contains_key(&key), "{under:?}"),
    }
}

/// The first file of any node that is like that.
async fn first_file(story: &Story, wanted: impl Fn(&[String]) -> bool) {
    let look = async || {
        let files: Vec<_> = (0..story.scene.nodes.len()).map(|node| story.keys(node)).collect();
        if files.iter().any(|keys| wanted(keys)) {
            Ok(())
        } else {
            Err(format!("{files:?}"))
        }
    };
    eventually(ROTATED, "a file is in place", look).await.unwrap();
}

/// Whether a file of any node ever had a key to write with.
struct Written {
    ended: Arc<AtomicBool>,
    seen: tokio::task::JoinHandle<bool>,
}

impl Written {
    fn by(story: &Story, key: &str) -> Self {
        let files: Vec<_> = story.scene.nodes.iter().map(|node| node.folder.join(FILE)).collect();
        let (ended, key) = (Arc::new(AtomicBool::default()), key.to_owned());
        let until = ended.clone();
        let seen = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            let mut seen = false;
            while !until.load(Ordering::SeqCst) {
                pace.tick().await;
                seen |= files.iter().any(|file| {
                    let read = config::read(&std::fs::read(file).unwrap()).unwrap();
                    read.keys().first().is_some_and(|first| first.name.to_string() == key)
                });
            }
            seen
        });
        Self { ended, seen }
    }

    async fn end(self) -> bool {
        self.ended.store(true, Ordering::SeqCst);
        self.seen.await.unwrap()
    }
}
