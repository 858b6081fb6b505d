//! Writes, reads, lists and watches Secrets through every API server all the time, and reads etcd beside it. Whatever was
//! answered wrongly is kept: a refusal that is no answer to what was asked, a write that is gone, another value than was
//! written, a key that somebody cannot read.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloison_testbed::{ApiServer, ControlPlane};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::clients::{list, watch, write};
use super::history::History;
use super::raw;
use super::scene::NAMESPACE;

/// A request that takes longer is a failed one; a cache that is as far behind is one that stands still.
pub const PATIENT: Duration = Duration::from_secs(30);
/// Of each kind by each API server: what goes wrong all the time hides nothing else.
const KEPT: usize = 3;

/// What is shared by its tasks.
#[derive(Default)]
pub struct Seen {
    /// By kind and API server, the first few.
    wrong: Mutex<BTreeMap<(&'static str, usize), Vec<String>>>,
    done: Mutex<Done>,
    /// What its own Secrets were, and when.
    pub history: Mutex<History>,
    /// API servers that are down on purpose, and all of them while etcd is: they owe no answer.
    down: Vec<AtomicBool>,
    /// How often somebody was put down or up: an answer that comes after a change began under something else.
    changes: AtomicUsize,
    ended: AtomicBool,
}

/// How often what was done, by each API server.
#[derive(Clone, Debug, Default)]
pub struct Done(BTreeMap<&'static str, Vec<usize>>);

impl Done {
    /// By the API server that did it least. What one of them did says nothing of the others.
    pub fn least(&self, what: &str) -> usize {
        let each = self.0.get(what).into_iter().flatten();
        each.copied().min().unwrap_or_default()
    }

    fn one(&mut self, what: &'static str, server: usize, servers: usize) {
        self.0.entry(what).or_insert_with(|| vec![0; servers])[server] += 1;
    }
}

impl Seen {
    pub fn wrong(&self, kind: &'static str, server: usize, what: impl Display) {
        let mut wrong = self.wrong.lock().unwrap();
        let alike = wrong.entry((kind, server)).or_default();
        if alike.len() < KEPT {
            alike.push(format!("{kind} by API server {server}: {what}"));
        }
    }

    pub fn did(&self, what: &'static str, server: usize) {
        self.done.lock().unwrap().one(what, server, self.down.len());
    }

    pub fn moment(&self, server: usize) -> Moment {
        Moment {
            up: !self.down[server].load(Ordering::SeqCst),
            changes: self.changes.load(Ordering::SeqCst),
        }
    }

    /// Whether an answer that was asked for then may be missing, or an error.
    pub fn excuses(&self, server: usize, began: Moment) -> bool {
        !began.up || began != self.moment(server)
    }

    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// When a request began.
#[derive(Clone, Copy, PartialEq)]
pub struct Moment {
    up: bool,
    changes: usize,
}

/// The checker while it runs.
pub struct Checker {
    seen: Arc<Seen>,
    tasks: JoinSet<()>,
    /// These wait for what does not come once nobody writes.
    watches: JoinSet<()>,
}

impl Checker {
    /// `files` are the EncryptionConfigurations of the nodes, in the order of the API servers, and `down` those API servers
    /// that owe no answer yet. What another checker left goes first: a create has one answer.
    pub async fn start(plane: &Arc<ControlPlane>, files: Vec<PathBuf>, down: &[usize]) -> Self {
        let servers = plane.api_servers();
        let left: Api<Secret> = Api::namespaced(plane.admin().unwrap(), NAMESPACE);
        let (gone, all) = (DeleteParams::default(), ListParams::default());
        left.delete_collection(&gone, &all).await.unwrap();
        let seen = Arc::new(Seen {
            down: servers
                .iter()
                .map(|server| AtomicBool::new(down.contains(&server.index())))
                .collect(),
            ..Seen::default()
        });
        let (mut tasks, mut watches) = (JoinSet::new(), JoinSet::new());
        let secrets = |server: &ApiServer| -> Api<Secret> { Api::namespaced(server.admin().unwrap(), NAMESPACE) };
        for server in servers {
            let (index, mine) = (server.index(), secrets(server));
            let other = servers[(index + 1) % servers.len()].index();
            let others = secrets(&servers[other]);
            tasks.spawn(write(seen.clone(), (index, mine.clone()), (other, others)));
            tasks.spawn(list(seen.clone(), index, mine.clone()));
            watches.spawn(watch(seen.clone(), index, mine));
        }
        tasks.spawn(raw::look(seen.clone(), plane.clone(), files));
        Self { seen, tasks, watches }
    }

    /// From now on this API server owes no answer.
    pub fn down(&self, server: usize) {
        self.seen.down[server].store(true, Ordering::SeqCst);
        self.seen.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// It does again.
    pub fn up(&self, server: usize) {
        self.seen.changes.fetch_add(1, Ordering::SeqCst);
        self.seen.down[server].store(false, Ordering::SeqCst);
    }

    /// What was wrong until now.
    pub fn wrong(&self) -> Vec<String> {
        self.seen.wrong.lock().unwrap().values().flatten().cloned().collect()
    }

    /// Ends it; what it did, and what was wrong.
    pub async fn end(mut self) -> (Done, Vec<String>) {
        self.seen.ended.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a task of the checker ends by itself");
        }
        self.watches.abort_all();
        while let Some(ended) = self.watches.join_next().await {
            assert!(
                ended.is_err_and(|error| error.is_cancelled()),
                "a watch goes on until here"
            );
        }
        let done = self.seen.done.lock().unwrap().clone();
        (done, self.wrong())
    }
}

/// One request to one API server. `None`: it failed, which is wrong unless the API server was or went down.
pub async fn ask<T>(
    seen: &Seen,
    server: usize,
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Option<T> {
    let before = seen.moment(server);
    let answer = timeout(PATIENT, request).await;
    let excused = seen.excuses(server, before);
    match answer {
        Ok(Ok(answer)) => {
            seen.did(what, server);
            return Some(answer);
        }
        Ok(Err(error)) if !excused => seen.wrong(what, server, error),
        Err(_) if !excused => seen.wrong(what, server, "no answer"),
        _ => {}
    }
    None
}
