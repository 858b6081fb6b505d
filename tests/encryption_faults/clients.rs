//! What clients do with Secrets all the time: they write, read, list and watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::checker::{PATIENT, Seen, ask};
use super::history::State;

/// The label of the value that was written; also its text.
const FIELD: &str = "value";
/// Requests of one task follow each other at this pace: two cores are everybody's.
const PACE: Duration = Duration::from_millis(120);
/// So many writes may be answered before a watch tells the next one.
const UNTOLD: usize = 20;

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
pub async fn write(seen: Arc<Seen>, (server, secrets): (usize, Api<Secret>), (other, others): (usize, Api<Secret>)) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let new = PostParams::default();
    let is = |name: &str, states: &[&State]| {
        let states = states.iter().map(|state| (*state).clone()).collect();
        seen.history.lock().unwrap().is(name, states);
    };
    for turn in 0_usize.. {
        pace.tick().await;
        if seen.is_ended() {
            return;
        }
        let number = turn % 5;
        let name = format!("of-{server}-{number}");
        let known = seen.history.lock().unwrap().of(&name);
        let value = format!("{server}-{turn}");
        let certain = known.len() == 1;
        let here = known.iter().any(Option::is_some);
        let next = secret(&name, &value);
        // Whatever may be there goes first, so that a create has one answer. One of them stays all the time: no list is
        // ever right without it.
        let goes = here && (!certain || turn % 4 == 3 && number > 0);
        let before: Vec<&State> = known.iter().collect();
        if goes {
            is(&name, &[&before[..], &[&None]].concat());
            if ask(&seen, server, "delete", delete(&secrets, &name)).await.is_none() {
                continue;
            }
            is(&name, &[&None]);
        }
        let wanted = Some(value);
        let after = if goes && certain {
            None
        } else if goes || !here {
            is(&name, &[&None, &wanted]);
            let created = ask(&seen, server, "create", secrets.create(&new, &next));
            if created.await.is_none() {
                continue;
            }
            wanted
        } else {
            is(&name, &[&before[..], &[&wanted]].concat());
            let replaced = ask(&seen, server, "update", secrets.replace(&name, &new, &next));
            if replaced.await.is_none() {
                continue;
            }
            wanted
        };
        is(&name, &[&after]);
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
pub async fn list(seen: Arc<Seen>, server: usize, secrets: Api<Secret>) {
    let mut pace = interval(PACE * 2);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut old: Option<String> = None;
    let all = ListParams::default();
    for turn in 0_usize.. {
        pace.tick().await;
        if seen.is_ended() {
            return;
        }
        let began = Instant::now();
        if let Some(whole) = ask(&seen, server, "list", secrets.list(&all)).await {
            judge(&seen, server, &whole.items);
            complete(&seen, ("list of another moment", server), &whole.items, began);
        }
        let began = Instant::now();
        let cached = ListParams::default().match_any();
        if let Some(cached) = ask(&seen, server, "list from the cache", secrets.list(&cached)).await {
            judge(&seen, server, &cached.items);
            let since = began.checked_sub(PATIENT).unwrap_or(began);
            complete(&seen, ("cache that stands still", server), &cached.items, since);
        }
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
                seen.did("old token expired", server);
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
fn judge<'s>(seen: &Seen, server: usize, secrets: impl IntoIterator<Item = &'s Secret>) {
    for secret in secrets {
        let (label, value) = (secret.labels().get(FIELD), value_of(secret));
        if label.is_some_and(|label| *label != value) {
            let name = secret.name_any();
            seen.wrong("value", server, format!("{value:?} of {name}; its label is {label:?}"));
        }
    }
}

/// A list has each of its own Secrets in a state that was possible after `since`: none is missing that was there all the
/// time, none has a value that was replaced before, none is there that was deleted before.
fn complete(seen: &Seen, (kind, server): (&'static str, usize), listed: &[Secret], since: Instant) {
    let listed: BTreeMap<String, String> = listed
        .iter()
        .map(|secret| (secret.name_any(), value_of(secret)))
        .collect();
    let history = seen.history.lock().unwrap();
    for name in history.names() {
        let (found, possible) = (listed.get(name).cloned(), history.possible(name, since));
        if !possible.contains(&found) {
            seen.wrong(kind, server, format!("{found:?} of {name}; possible was {possible:?}"));
        }
    }
}

/// Watches from the newest version on; begins anew when the API server ends it. Writes come every moment: a watch that
/// tells nothing of them is wrong.
pub async fn watch(seen: Arc<Seen>, server: usize, secrets: Api<Secret>) {
    let one = ListParams::default().limit(1);
    let written = || seen.history.lock().unwrap().changes();
    loop {
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
        let (mut began, mut told) = (seen.moment(server), written());
        loop {
            // Longer than the stream lasts.
            let event = timeout(PATIENT, stream.next()).await;
            let excused = seen.excuses(server, began);
            match event {
                Ok(Some(Ok(
                    WatchEvent::Added(secret) | WatchEvent::Modified(secret) | WatchEvent::Deleted(secret),
                ))) => {
                    judge(&seen, server, [&secret]);
                    seen.did("watch event", server);
                    (began, told) = (seen.moment(server), written());
                }
                Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {}
                Ok(Some(Ok(WatchEvent::Error(status)))) => {
                    if status.code != 410 && !excused {
                        seen.wrong("watch", server, format!("{status:?}"));
                    }
                    break;
                }
                Ok(Some(Err(error))) => {
                    if !excused {
                        seen.wrong("watch", server, error);
                    }
                    break;
                }
                Ok(None) | Err(_) => {
                    let untold = written() - told;
                    if untold > UNTOLD && !excused {
                        seen.wrong("silent watch", server, format!("{untold} writes, and no event"));
                    }
                    break;
                }
            }
        }
    }
}
