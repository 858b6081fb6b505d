//! What an agent says of its node.

use std::collections::BTreeMap;

use crate::api::control_plane_report::{
    ApiServerSeen, ControlPlaneReportSpec, FileKey, FileSeen, KeyCounter, KeyValues, RawProof,
};
use crate::api::encryption::Provider;
use crate::api::key_ring::RingKey;
use crate::api::text::{Digest, KeyName, Line, MinorVersion, ResourceText};
use crate::encryption::config::{self, Seen, SeenProvider};
use crate::encryption::metrics::{Operations, Scrape};
use crate::encryption::stored::Stored;

/// Most entries of a list in a report; the schema says the same.
const MOST: usize = 256;
/// Most keys of a file; the schema says the same.
const MOST_KEYS: usize = 130;
/// Longest line; the schema says the same.
const MOST_CHARACTERS: usize = 512;

/// A line of at most 512 characters, without line breaks.
pub fn line(text: &str) -> Line {
    let one = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Line(one.chars().take(MOST_CHARACTERS).collect())
}

/// The configuration file, by names and hash. A file that the API server refuses shows its hash alone.
pub fn file_seen(bytes: &[u8]) -> FileSeen {
    let seen = config::read(bytes).ok();
    FileSeen {
        hash: Digest(config::hash(bytes)),
        own: seen.as_ref().is_some_and(|seen| seen.ours().is_some()),
        kms: seen.as_ref().is_some_and(Seen::kms),
        keys: seen.iter().flat_map(keys).take(MOST_KEYS).collect(),
    }
}

fn keys(seen: &Seen) -> Vec<FileKey> {
    let mut found = Vec::new();
    for provider in seen.entries().iter().flat_map(|entry| &entry.providers) {
        let (keys, cipher) = match provider {
            SeenProvider::Aesgcm(keys) => (keys, Some(Provider::AESGCM)),
            SeenProvider::Secretbox(keys) => (keys, Some(Provider::Secretbox)),
            SeenProvider::Aescbc(keys) => (keys, None),
            SeenProvider::Identity => {
                found.push(named("identity", None));
                continue;
            }
            SeenProvider::Kms { name, .. } => {
                found.push(named(name, None));
                continue;
            }
        };
        found.extend(keys.iter().map(|key| named(&key.name, cipher)));
    }
    // The name of a key is text that somebody else chose; one that the schema refuses is left out.
    found.retain(|key| {
        let bad = |c: char| c == ':' || c.is_whitespace();
        !key.name.is_empty() && !key.name.contains(bad) && key.name.chars().count() <= 253
    });
    found
}

fn named(name: &str, provider: Option<Provider>) -> FileKey {
    FileKey {
        name: KeyName(name.to_owned()),
        provider,
    }
}

/// The API server of the node, by its metrics; `None` when it does not say when it started.
pub fn api_server_seen(scrape: &Scrape) -> Option<ApiServerSeen> {
    let digest = |hash: &String| is_digest(hash).then(|| Digest(hash.clone()));
    let counters = counts(scrape).into_iter().take(MOST);
    Some(ApiServerSeen {
        identity_hash: scrape.identities.iter().find_map(digest),
        loaded_hash: scrape.configuration_hash.as_ref().and_then(digest),
        started: started(scrape)?,
        version: scrape
            .version
            .map(|(major, minor)| MinorVersion(format!("{major}.{minor}"))),
        counters: counters
            .map(|((resource, key), Operations { reads, writes })| KeyCounter {
                resource: ResourceText(resource),
                key: KeyName(key),
                reads: i64::try_from(reads).unwrap_or(i64::MAX),
                writes: i64::try_from(writes).unwrap_or(i64::MAX),
            })
            .collect(),
        unknown: i64::try_from(scrape.undecryptable).unwrap_or(i64::MAX),
    })
}

/// When the process started, in whole seconds since 1970.
pub fn started(scrape: &Scrape) -> Option<i64> {
    let seconds: f64 = scrape.started.as_deref()?.parse().ok()?;
    format!("{:.0}", seconds.floor())
        .parse()
        .ok()
        .filter(|seconds| *seconds >= 0)
}

fn is_digest(hash: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    hash.strip_prefix("sha256:")
        .is_some_and(|hash| hash.len() == 64 && hash.chars().all(hex))
}

/// By resource and key. The counts of a provider hold those of its keys once more and are left out.
fn counts(scrape: &Scrape) -> BTreeMap<(String, String), Operations> {
    let mut counts: BTreeMap<(String, String), Operations> = BTreeMap::new();
    for ((resource, prefix), operations) in &scrape.operations {
        let key = match prefix.as_str() {
            "" | "identity" => "identity".to_owned(),
            prefix => match Stored::of(prefix.as_bytes()) {
                Stored::Kms(name) => name,
                Stored::Plain => prefix.trim_end_matches(':').to_owned(),
                Stored::Key { .. } | Stored::Unknown => continue,
            },
        };
        let sum = counts.entry((resource.clone(), key)).or_default();
        sum.reads += operations.reads;
        sum.writes += operations.writes;
    }
    counts
}

/// What its API server wrote under each key since it started, all resources together.
pub fn written(scrape: &Scrape) -> BTreeMap<KeyName, i64> {
    let mut written = BTreeMap::new();
    for ((_, key), operations) in counts(scrape) {
        let count = i64::try_from(operations.writes).unwrap_or(i64::MAX);
        if key != "identity" {
            *written.entry(KeyName(key)).or_insert(0) += count;
        }
    }
    written
}

/// The histogram as reports have it. A value of another cipher than the ring's key of its name has is under no key of ours:
/// nobody can read it.
pub fn values(values: &BTreeMap<(String, Stored), u64>, ring: &[RingKey]) -> Vec<KeyValues> {
    let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
    for ((resource, under), count) in values {
        let fits = match under {
            Stored::Key { provider, name } => ring
                .iter()
                .filter(|key| *key.name == **name)
                .all(|key| config::field(key.provider) == provider),
            Stored::Plain | Stored::Kms(_) | Stored::Unknown => true,
        };
        let under = if fits { under } else { &Stored::Unknown };
        *sums.entry((resource.clone(), under.to_string())).or_default() += count;
    }
    let sums = sums.into_iter().take(MOST);
    sums.map(|((resource, key), count)| KeyValues {
        resource: ResourceText(resource),
        key: KeyName(key),
        count: i64::try_from(count).unwrap_or(i64::MAX),
    })
    .collect()
}

/// Whether a report says something new: time, counters and revisions alone are nothing new.
pub fn is_news(before: &ControlPlaneReportSpec, now: &ControlPlaneReportSpec) -> bool {
    let quiet = |report: &ControlPlaneReportSpec| {
        let mut report = report.clone();
        report.observed_time = now.observed_time.clone();
        if let Some(server) = &mut report.api_server {
            server.counters.clear();
        }
        if let Some(RawProof { time, revision, .. }) = &mut report.proof {
            (*time, *revision) = (now.observed_time.clone(), 1);
        }
        report
    };
    quiet(before) != quiet(now)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn counts_are_of_keys_and_not_once_more_of_their_provider() {
        let family = "apiserver_storage_transformation_operations_total";
        let mut text = String::from("process_start_time_seconds 1.79545829408e+09\n");
        for (prefix, count) in [
            ("k8s:enc:aesgcm:v1:", 3),
            ("k2:", 3),
            ("", 5),
            ("k8s:enc:kms:v2:cloud:", 7),
        ] {
            let labels = r#"resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix="#;
            let _ = writeln!(text, "{family}{{{labels}\"{prefix}\"}} {count}");
        }
        let scrape = Scrape::of(&text);
        let keys: Vec<(String, i64)> = written(&scrape)
            .into_iter()
            .map(|(key, count)| (key.0, count))
            .collect();
        assert_eq!(keys, [("cloud".to_owned(), 7), ("k2".to_owned(), 3)]);
        assert_eq!(started(&scrape), Some(1_795_458_294));
    }

    #[test]
    fn a_value_of_another_cipher_than_its_key_has_is_under_no_key_of_ours() {
        let key: RingKey = serde_json::from_value(serde_json::json!({
            "id": 2, "name": "k2", "provider": "AESGCM", "origin": "Minted", "creationTime": "2026-01-01T00:00:00Z",
            "commitment": "sha256:00", "wraps": [],
        }))
        .unwrap();
        let stored = |provider: &str, name: &str| Stored::Key {
            provider: provider.to_owned(),
            name: name.to_owned(),
        };
        let all = [
            stored("aesgcm", "k2"),
            stored("secretbox", "k2"),
            stored("aescbc", "old"),
        ];
        let histogram = all.map(|under| (("secrets".to_owned(), under), 1)).into();
        let said: Vec<String> = values(&histogram, &[key])
            .into_iter()
            .map(|found| found.key.0)
            .collect();
        assert_eq!(said, ["k2", "old", "unknown"]);
    }

    #[test]
    fn a_line_is_one_line_and_no_longer_than_the_schema_says() {
        assert_eq!(line("a\n  b").0, "a b");
        assert_eq!(line(&"é".repeat(600)).0.chars().count(), 512);
    }
}
