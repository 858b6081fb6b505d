//! The judge that asks no API server for a Secret: raw etcd, and what each API server says that it has loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cloison::encryption::config;
use cloison_testbed::{ApiServer, ControlPlane};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::checker::{PATIENT, Seen};

/// What an API server writes under and reads; by names, `identity` for plaintext.
#[derive(Clone, Debug, PartialEq)]
struct Loaded {
    write: String,
    read: BTreeSet<String>,
}

/// I1 and I2, each second: what is stored under what, and what each API server has loaded. A second counts for the API
/// servers that had the same before and after etcd was read.
pub async fn look(seen: Arc<Seen>, plane: Arc<ControlPlane>, files: Vec<PathBuf>) {
    let mut pace = interval(Duration::from_secs(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: BTreeMap<String, Loaded> = BTreeMap::new();
    let mut before: Vec<Option<Loaded>> = vec![None; plane.api_servers().len()];
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
            after.push(loaded(server, &known).await);
        }
        if let Ok(stored) = stored {
            let steady = before
                .iter()
                .zip(&after)
                .map(|(before, after)| after.as_ref().filter(|_| before == after));
            judge(&seen, &stored, &steady.collect::<Vec<_>>());
        }
        before = after;
    }
}

fn judge(seen: &Seen, stored: &[(String, Vec<u8>)], loaded: &[Option<&Loaded>]) {
    let under: BTreeMap<String, &String> = stored.iter().map(|(key, value)| (under(value), key)).collect();
    for (server, has) in loaded.iter().enumerate() {
        let Some(has) = has else { continue };
        seen.did("second of raw etcd", server);
        for (name, key) in under.iter().filter(|(name, _)| !has.read.contains(*name)) {
            let what = format!("{key} is under {name}; it reads {:?}", has.read);
            seen.wrong("unreadable Secret (I1)", server, what);
        }
        for writer in loaded
            .iter()
            .flatten()
            .filter(|writer| !has.read.contains(&writer.write))
        {
            let what = format!("one writes {}; it reads {:?}", writer.write, has.read);
            seen.wrong("unreadable write key (I2)", server, what);
        }
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
