//! Writes, reads, lists and watches Secrets through every API server all the time, and reads etcd beside it. Whatever was
//! answered wrongly is kept: a refusal that is no answer to what was asked, a write that is gone, another value than was
//! written, a key that somebody cannot read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloison::encryption::config;
use cloison_testbed::{ApiServer, ControlPlane};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Where it works.
pub const NAMESPACE: &str = "checked";
/// The label of the value that was written; also its text.
const FIELD: &str = "value";
/// Requests of one task follow each other at this pace: two cores are everybody's.
const PACE: Duration = Duration::from_millis(120);
/// A request that takes longer is a failed one.
pub const PATIENT: Duration = Duration::from_secs(30);
/// Of each kind by each API server: what goes wrong all the time hides nothing else.
const KEPT: usize = 3;

/// What is shared by its tasks.
#[derive(Default)]
struct Seen {
    /// By kind and API server, the first few.
    wrong: Mutex<BTreeMap<(&'static str, usize), Vec<String>>>,
    /// By what was done, how often.
    done: Mutex<BTreeMap<&'static str, usize>>,
    /// API servers that are down on purpose, and all of them while etcd is: they owe no answer.
    down: Vec<AtomicBool>,
    /// How often somebody was put down or up: an answer that comes after a change began under something else.
    changes: AtomicUsize,
    ended: AtomicBool,
}

impl Seen {
    fn wrong(&self, kind: &'static str, server: usize, what: impl Display) {
        let mut wrong = self.wrong.lock().unwrap();
        let alike = wrong.entry((kind, server)).or_default();
        if alike.len() < KEPT {
            alike.push(format!("{kind} by API server {server}: {what}"));
        }
    }

    fn did(&self, what: &'static str) {
        *self.done.lock().unwrap().entry(what).or_default() += 1;
    }

    fn moment(&self, server: usize) -> Moment {
        Moment {
            up: !self.down[server].load(Ordering::SeqCst),
            changes: self.changes.load(Ordering::SeqCst),
        }
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// When a request began.
#[derive(Clone, Copy, PartialEq)]
struct Moment {
    up: bool,
    changes: usize,
}

/// The checker while it runs.
pub struct Checker {
    seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

impl Checker {
    /// `files` are the EncryptionConfigurations of the nodes, in the order of the API servers. What another checker left
    /// goes first: a create has one answer.
    pub async fn start(plane: &Arc<ControlPlane>, files: Vec<PathBuf>) -> Self {
        let servers = plane.api_servers();
        let left: Api<Secret> = Api::namespaced(plane.admin().unwrap(), NAMESPACE);
        let (gone, all) = (DeleteParams::default(), ListParams::default());
        left.delete_collection(&gone, &all).await.unwrap();
        let seen = Arc::new(Seen {
            down: servers.iter().map(|_| AtomicBool::default()).collect(),
            ..Seen::default()
        });
        let mut tasks = JoinSet::new();
        let secrets = |server: &ApiServer| -> Api<Secret> { Api::namespaced(server.admin().unwrap(), NAMESPACE) };
        for server in servers {
            let (index, mine) = (server.index(), secrets(server));
            let other = servers[(index + 1) % servers.len()].index();
            let others = secrets(&servers[other]);
            tasks.spawn(write(seen.clone(), (index, mine.clone()), (other, others)));
            tasks.spawn(list(seen.clone(), index, mine.clone()));
            tasks.spawn(watch(seen.clone(), index, mine));
        }
        tasks.spawn(look(seen.clone(), plane.clone(), files));
        Self { seen, tasks }
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
    pub async fn end(mut self) -> (BTreeMap<&'static str, usize>, Vec<String>) {
        self.seen.ended.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a task of the checker ends by itself");
        }
        let done = self.seen.done.lock().unwrap().clone();
        (done, self.wrong())
    }
}

/// One request to one API server. `None`: it failed, which is wrong unless the API server was or went down.
async fn ask<T>(
    seen: &Seen,
    server: usize,
    what: &'static str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Option<T> {
    let before = seen.moment(server);
    let answer = timeout(PATIENT, request).await;
    let excused = !before.up || before != seen.moment(server);
    match answer {
        Ok(Ok(answer)) => {
            seen.did(what);
            return Some(answer);
        }
        Ok(Err(error)) if !excused => seen.wrong(what, server, error),
        Err(_) if !excused => seen.wrong(what, server, "no answer"),
        _ => {}
    }
    None
}

fn secret(name: &str, value: &str) -> Secret {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {FIELD: value}}, "stringData": {FIELD: value}}))
        .unwrap()
}

fn value_of(secret: &Secret) -> String {
    let data = secret.data.as_ref().and_then(|data| data.get(FIELD));
    data.map_or_else(String::new, |data| String::from_utf8_lossy(&data.0).into_owned())
}

/// Creates, replaces and deletes its own Secrets through one API server; all of them are there, as written, when another
/// one is asked. A write without an answer leaves what was and what would have been both possible.
async fn write(seen: Arc<Seen>, (server, secrets): (usize, Api<Secret>), (other, others): (usize, Api<Secret>)) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stored: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
    let (none, new) = (|| BTreeSet::from([None]), PostParams::default());
    for turn in 0_usize.. {
        pace.tick().await;
        if seen.is_ended() {
            return;
        }
        let name = format!("of-{server}-{}", turn % 5);
        let known = stored.entry(name.clone()).or_insert_with(none).clone();
        let value = format!("{server}-{turn}");
        let certain = known.len() == 1;
        let here = known.iter().any(Option::is_some);
        let next = secret(&name, &value);
        // Whatever may be there goes first, so that a create has one answer.
        let goes = here && (!certain || turn % 4 == 3);
        if goes {
            stored.get_mut(&name).unwrap().insert(None);
            if ask(&seen, server, "delete", delete(&secrets, &name)).await.is_none() {
                continue;
            }
        }
        let after = if goes && certain {
            None
        } else if goes || !here {
            stored.insert(name.clone(), BTreeSet::from([None, Some(value.clone())]));
            if ask(&seen, server, "create", secrets.create(&new, &next))
                .await
                .is_none()
            {
                continue;
            }
            Some(value)
        } else {
            stored.get_mut(&name).unwrap().insert(Some(value.clone()));
            let replaced = ask(&seen, server, "update", secrets.replace(&name, &new, &next));
            if replaced.await.is_none() {
                continue;
            }
            Some(value)
        };
        stored.insert(name.clone(), BTreeSet::from([after.clone()]));
        // Without a resource version it reads etcd.
        for (who, from) in [(server, &secrets), (other, &others)] {
            if let Some(found) = ask(&seen, who, "get", from.get_opt(&name)).await {
                let found = found.as_ref().map(value_of);
                if found != after {
                    seen.wrong("value", who, format!("{found:?} of {name}; written was {after:?}"));
                }
            }
        }
    }
}

async fn delete(secrets: &Api<Secret>, name: &str) -> Result<(), kube::Error> {
    match secrets.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        // One without an answer may have been done.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lists whole, in pages and out of the cache, and again with a token that is long out of date.
async fn list(seen: Arc<Seen>, server: usize, secrets: Api<Secret>) {
    let mut pace = interval(PACE * 2);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut old: Option<String> = None;
    let all = ListParams::default();
    for turn in 0_usize.. {
        pace.tick().await;
        if seen.is_ended() {
            return;
        }
        let whole = ask(&seen, server, "list", secrets.list(&all)).await;
        judge(&seen, server, whole.iter().flat_map(|list| &list.items));
        let cached = ListParams::default().match_any();
        let cached = ask(&seen, server, "list from the cache", secrets.list(&cached)).await;
        judge(&seen, server, cached.iter().flat_map(|list| &list.items));
        let page = ListParams::default().limit(3);
        if let Some(first) = ask(&seen, server, "first page", secrets.list(&page)).await
            && let Some(token) = first.metadata.continue_.filter(|token| !token.is_empty())
        {
            let next = page.clone().continue_token(&token);
            let next = ask(&seen, server, "next page", expiring(secrets.list(&next)));
            let next = next.await.flatten();
            judge(&seen, server, next.iter().flat_map(|list| &list.items));
            old.get_or_insert(token);
        }
        // It pins a revision from before everything. It is read while it can be, and is then refused as too old.
        if let Some(token) = old.as_ref().filter(|_| turn % 4 == 0) {
            let pinned = page.continue_token(token);
            let pinned = expiring(secrets.list(&pinned));
            if let Some(None) = ask(&seen, server, "page of an old token", pinned).await {
                seen.did("old token expired");
                old = None;
            }
        }
    }
}

/// 410 is the right answer to a token that is too old.
async fn expiring<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<Option<T>, kube::Error> {
    match request.await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 410 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The label says what was written with the value.
fn judge<'s>(seen: &Seen, server: usize, secrets: impl Iterator<Item = &'s Secret>) {
    for secret in secrets {
        let (label, value) = (secret.labels().get(FIELD), value_of(secret));
        if label.is_some_and(|label| *label != value) {
            let name = secret.name_any();
            seen.wrong("value", server, format!("{value:?} of {name}; its label is {label:?}"));
        }
    }
}

/// Watches from the newest version on; begins anew when the API server ends it.
async fn watch(seen: Arc<Seen>, server: usize, secrets: Api<Secret>) {
    let one = ListParams::default().limit(1);
    while !seen.is_ended() {
        let Some(list) = ask(&seen, server, "list", secrets.list(&one)).await else {
            tokio::time::sleep(PACE).await;
            continue;
        };
        let from = list.metadata.resource_version.unwrap_or_default();
        let parameters = WatchParams::default().timeout(20);
        let Some(stream) = ask(&seen, server, "watch", secrets.watch(&parameters, &from)).await else {
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        loop {
            if seen.is_ended() {
                return;
            }
            let before = seen.moment(server);
            // Its own writes come every moment; the stream ends after 20 s by itself.
            let Ok(Some(event)) = timeout(PATIENT, stream.next()).await else {
                break;
            };
            let excused = !before.up || before != seen.moment(server);
            match event {
                Ok(WatchEvent::Added(secret) | WatchEvent::Modified(secret) | WatchEvent::Deleted(secret)) => {
                    judge(&seen, server, std::iter::once(&secret));
                    seen.did("watch event");
                }
                Ok(WatchEvent::Bookmark(_)) => {}
                Ok(WatchEvent::Error(status)) if status.code == 410 || excused => break,
                Ok(WatchEvent::Error(status)) => {
                    seen.wrong("watch", server, format!("{status:?}"));
                    break;
                }
                Err(error) => {
                    if !excused {
                        seen.wrong("watch", server, error);
                    }
                    break;
                }
            }
        }
    }
}

/// What an API server writes under and reads; by names, `identity` for plaintext.
#[derive(Clone, Debug, PartialEq)]
struct Loaded {
    write: String,
    read: BTreeSet<String>,
}

/// I1 and I2, each second: what is stored under what, and what each API server has loaded. A second counts for which the
/// API servers had the same before and after etcd was read.
async fn look(seen: Arc<Seen>, plane: Arc<ControlPlane>, files: Vec<PathBuf>) {
    let mut pace = interval(Duration::from_secs(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: BTreeMap<String, Loaded> = BTreeMap::new();
    let mut before: Option<Vec<Loaded>> = None;
    while !seen.is_ended() {
        pace.tick().await;
        for bytes in files.iter().filter_map(|file| std::fs::read(file).ok()) {
            if let Some(loaded) = names(&bytes) {
                known.insert(config::hash(&bytes), loaded);
            }
        }
        let stored = plane.etcd().list("/registry/secrets/").await;
        let mut after = Vec::new();
        for server in plane.api_servers() {
            match loaded(server, &known).await {
                Some(loaded) => after.push(loaded),
                None => break,
            }
        }
        let all = after.len() == plane.api_servers().len();
        if let (Ok(stored), Some(before), true) = (&stored, &before, all)
            && *before == after
        {
            seen.did("second of raw etcd");
            let under: BTreeMap<String, &String> = stored.iter().map(|(key, value)| (under(value), key)).collect();
            for (server, loaded) in after.iter().enumerate() {
                for (name, key) in under.iter().filter(|(name, _)| !loaded.read.contains(*name)) {
                    let what = format!("{key} is under {name}; it reads {:?}", loaded.read);
                    seen.wrong("unreadable Secret (I1)", server, what);
                }
                for writer in after.iter().filter(|writer| !loaded.read.contains(&writer.write)) {
                    let what = format!("one writes {}; it reads {:?}", writer.write, loaded.read);
                    seen.wrong("unreadable write key (I2)", server, what);
                }
            }
        }
        before = all.then_some(after);
    }
}

/// `None` where it does not answer, or has a file that was replaced before we read it.
async fn loaded(server: &ApiServer, known: &BTreeMap<String, Loaded>) -> Option<Loaded> {
    let metrics = timeout(PATIENT, server.metrics()).await.ok()?.ok()?;
    let hashes = metrics.label_values("apiserver_encryption_config_controller_last_config_info", "hash");
    match hashes.first() {
        Some(hash) => known.get(hash).cloned(),
        None => Some(Loaded {
            write: "identity".to_owned(),
            read: BTreeSet::from(["identity".to_owned()]),
        }),
    }
}

/// The providers of a file in their order, by name.
fn names(file: &[u8]) -> Option<Loaded> {
    let file: serde_json::Value = serde_json::from_slice(file).ok()?;
    let mut names = Vec::new();
    for provider in file["resources"][0]["providers"].as_array()? {
        for (kind, what) in provider.as_object()? {
            match what["keys"].as_array() {
                Some(keys) => names.extend(keys.iter().filter_map(|key| Some(key["name"].as_str()?.to_owned()))),
                None => names.push(kind.clone()),
            }
        }
    }
    Some(Loaded {
        write: names.first()?.clone(),
        read: names.into_iter().collect(),
    })
}

/// The key of a stored value, `identity` for plaintext.
pub fn under(value: &[u8]) -> String {
    let head = String::from_utf8_lossy(&value[..value.len().min(64)]).into_owned();
    match head.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["k8s", "enc", _, _, key, _] => key.to_owned(),
        _ => "identity".to_owned(),
    }
}

/// How many Secrets are stored under what.
pub async fn stored(plane: &ControlPlane) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (_, value) in plane.etcd().list("/registry/secrets/").await.unwrap() {
        *found.entry(under(&value)).or_default() += 1;
    }
    found
}
