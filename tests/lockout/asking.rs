//! Requests that go on at every API server while something happens to us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cloison_testbed::eventually;
use kube::Client;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::operator::PATIENCE;
use crate::scene::Scene;
use crate::vital::ask;

/// A request, and what must come of it.
#[derive(Clone)]
pub struct Asked {
    verb: &'static str,
    path: String,
    body: Value,
    /// The rule that must refuse it; without one it must pass.
    rule: Option<&'static str>,
}

impl Asked {
    pub fn passes(verb: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self {
            verb,
            path: path.into(),
            body,
            rule: None,
        }
    }

    pub fn refused(verb: &'static str, path: impl Into<String>, body: Value, rule: &'static str) -> Self {
        Self {
            rule: Some(rule),
            ..Self::passes(verb, path, body)
        }
    }

    /// What is wrong with the answer.
    async fn wrong(&self, client: &Client) -> Option<String> {
        let answer = ask(client, self.verb, &self.path, &self.body).await;
        let fits = match (&answer, self.rule) {
            (Ok(()), None) => true,
            (Err(said), Some(rule)) => said.contains(&format!("{rule} ")),
            _ => false,
        };
        (!fits).then(|| format!("{} {}: {answer:?}", self.verb, self.path))
    }
}

/// Requests that go on until they are told to stop.
pub struct Asking {
    stop: Arc<AtomicBool>,
    each: Vec<(Arc<AtomicUsize>, JoinHandle<Vec<String>>)>,
}

impl Asking {
    /// By one user at each API server, one request after the other.
    pub fn start(scene: &Scene, user: &str, requests: Vec<Asked>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |client: Client| {
            let rounds = Arc::new(AtomicUsize::new(0));
            let (requests, ended, counted) = (requests.clone(), stop.clone(), rounds.clone());
            let task = tokio::spawn(async move {
                let mut wrong = Vec::new();
                while !ended.load(Ordering::Acquire) {
                    for asked in &requests {
                        wrong.extend(asked.wrong(&client).await);
                    }
                    counted.fetch_add(1, Ordering::AcqRel);
                }
                wrong
            });
            (rounds, task)
        };
        let servers = scene.plane.api_servers().iter();
        let each = servers
            .map(|server| one(server.identity(user, &[]).unwrap().client().unwrap()))
            .collect();
        Self { stop, each }
    }

    /// Ends it, after one more round everywhere: every answer was what it should be.
    pub async fn none_went_wrong(self, when: &str) {
        for (rounds, _) in &self.each {
            let before = rounds.load(Ordering::Acquire);
            eventually(PATIENCE, "one more round", || async {
                if rounds.load(Ordering::Acquire) > before + 1 {
                    Ok(())
                } else {
                    Err("waiting")
                }
            })
            .await
            .unwrap();
        }
        self.stop.store(true, Ordering::Release);
        for (_, task) in self.each {
            let wrong = task.await.unwrap();
            assert!(
                wrong.is_empty(),
                "{when}, {} times, such as {:?}",
                wrong.len(),
                wrong.first()
            );
        }
    }
}
