//! The judgement: are new Secrets encrypted, by every API server?
//!
//! An ordered chain of small checks; the first that has something to say decides. Plaintext comes first, because one
//! replica that writes it disproves the claim whatever else is unknown. Everything that could hide such a replica comes
//! next and gives `Unknown`. `True` is what is left.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::canary::Shows;
use super::observation::{Observation, PLUGIN_NEEDED, Seen, View};
use super::proof::{EncryptionProof, reasons};
use crate::api::conditions::Truth;
use crate::api::encryption::Attestation;
use crate::api::encryption_status::ReplicaStatus;

/// A status holds so many replicas (CRD).
const REPLICAS: usize = 16;

struct Finding {
    truth: Truth,
    reason: &'static str,
    message: String,
}

impl Finding {
    #[allow(clippy::unnecessary_wraps)] // every check ends with it
    fn some(truth: Truth, reason: &'static str, message: String) -> Option<Self> {
        Some(Self { truth, reason, message })
    }
}

type Check = fn(&View<'_>) -> Option<Finding>;

/// Everything that could hide an API server, in the order in which it is told.
const BARRIER: [Check; 6] = [anonymous, unidentified, shared, stranger, uncovered, unreached];

/// Judges what was gathered. Total and deterministic: the same observation gives the same words.
pub fn judge(seen: &Observation, now: &Time) -> EncryptionProof {
    let view = View::of(seen);
    let first = |checks: &[Check]| checks.iter().find_map(|check| check(&view));
    let finding = first(&[plaintext, hidden])
        .or_else(|| first(&BARRIER))
        .or_else(|| first(&[divergent, unproven, unreadable_counters, key_ids_differ, kms_unhealthy]))
        .unwrap_or_else(|| proven(&view));
    let Finding { truth, reason, message } = attested(finding, seen.attestation.as_ref(), now);
    EncryptionProof {
        truth,
        reason,
        message,
        replicas: statuses(&view),
        degraded: degraded(&view),
        at: now.clone(),
    }
}

/// Whether some API server may exist that did not answer, with the reason and a message. Metrics that are hidden are no
/// such thing: that API server answered.
pub fn barrier(seen: &Observation) -> Option<(&'static str, String)> {
    let view = View::of(seen);
    let found = BARRIER.iter().find_map(|check| check(&view))?;
    Some((found.reason, found.message))
}

/// One replica that writes plaintext disproves the claim; no barrier is needed for that.
fn plaintext(view: &View<'_>) -> Option<Finding> {
    let guilty: Vec<&Seen<'_>> = view.seen.iter().filter(|seen| seen.shows.disproves()).collect();
    let first = guilty.first()?;
    let names = list(guilty.iter().map(|seen| seen.name()));
    if let Some(hashes) = divergence(view) {
        let message = format!("{names} stores new Secrets in plaintext, and the API servers differ: {hashes}");
        return Finding::some(Truth::False, reasons::HASH_DIVERGENT, message);
    }
    if guilty.iter().all(|seen| seen.shows == Shows::NotConfigured) {
        let message = format!(
            "{names} stores new Secrets in plaintext: no EncryptionConfiguration covers secrets there; set \
             --encryption-provider-config on every API server"
        );
        return Finding::some(Truth::False, reasons::NOT_CONFIGURED, message);
    }
    let message = match &first.shows {
        Shows::Mixed(prefixes) => {
            format!("{names} wrote both plaintext and encrypted Secrets ({prefixes}); looking again")
        }
        _ => format!(
            "{names} stores new Secrets in plaintext: the first provider for secrets is identity; put an encrypting \
             provider first"
        ),
    };
    Finding::some(Truth::False, reasons::PLAINTEXT_WRITES, message)
}

fn hidden(view: &View<'_>) -> Option<Finding> {
    let (address, why) = view.hidden.first()?;
    let message = format!("{address} does not show its metrics: {why}");
    Finding::some(Truth::Unknown, reasons::UNVERIFIABLE, message)
}

fn anonymous(view: &View<'_>) -> Option<Finding> {
    if !view.leases.is_empty() {
        return None;
    }
    let message = "no API server has an identity Lease in kube-system (label apiserver.kubernetes.io/identity), so \
                   nobody can say how many there are";
    Finding::some(Truth::Unknown, reasons::NO_IDENTITIES, message.to_owned())
}

fn unidentified(view: &View<'_>) -> Option<Finding> {
    if view.unidentified.is_empty() {
        return None;
    }
    let message = format!(
        "{} answered without saying which of {} API servers it is; Kubernetes before 1.34 says it only after a first \
         reload of the encryption configuration",
        list(view.unidentified.iter().map(|address| (*address).to_owned())),
        view.leases.len(),
    );
    Finding::some(Truth::Unknown, reasons::REPLICA_UNIDENTIFIED, message)
}

fn shared(view: &View<'_>) -> Option<Finding> {
    let (lease, addresses) = view.shared.first_key_value()?;
    let message = format!(
        "{} are several API servers with one host name and so one identity, {lease}; give each its own host name",
        list(addresses.iter().map(|address| (*address).to_owned())),
    );
    Finding::some(Truth::Unknown, reasons::IDENTITY_SHARED, message)
}

fn stranger(view: &View<'_>) -> Option<Finding> {
    let (address, hash) = view.strangers.first()?;
    let message = format!("{address} is an API server without a fresh identity Lease (it calls itself {hash})");
    Finding::some(Truth::Unknown, reasons::REPLICA_UNIDENTIFIED, message)
}

/// The barrier: every API server that exists has been scraped.
fn uncovered(view: &View<'_>) -> Option<Finding> {
    let missing: Vec<String> = view
        .leases
        .iter()
        .filter(|lease| !view.answered.contains(lease.name.as_str()))
        .map(|lease| lease.name.clone())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let silent = match view.failed.first() {
        Some((address, why)) => format!("; no answer from {address}: {why}"),
        None => "; no discovered address leads to it".to_owned(),
    };
    let message = format!("the API server of Lease {} was not seen{silent}", list(missing));
    Finding::some(Truth::Unknown, reasons::REPLICA_UNSEEN, message)
}

/// An address may be a replica that shares an identity with another; a dead one leaves the endpoints by itself.
fn unreached(view: &View<'_>) -> Option<Finding> {
    let (address, why) = view.failed.first()?;
    let message = format!("no answer from {address}: {why}");
    Finding::some(Truth::Unknown, reasons::REPLICA_UNSEEN, message)
}

fn divergent(view: &View<'_>) -> Option<Finding> {
    let hashes = divergence(view)?;
    let message = format!("the API servers run with different encryption configuration files: {hashes}");
    Finding::some(Truth::Unknown, reasons::HASH_DIVERGENT, message)
}

fn unproven(view: &View<'_>) -> Option<Finding> {
    view.known.values().find_map(|seen| {
        let name = seen.name();
        let (reason, message) = match &seen.shows {
            Shows::Encrypted(_) | Shows::Plaintext | Shows::Mixed(_) | Shows::NotConfigured | Shows::Hidden(_) => {
                return None;
            }
            Shows::NotWritten | Shows::Changed => (
                reasons::CONFIGURATION_CHANGING,
                format!("{name} restarted or changed its configuration during the proof; looking again"),
            ),
            Shows::Refused(why) => (
                reasons::CANARY_REFUSED,
                format!("the canary Secret could not be written through {name}: {why}"),
            ),
            Shows::Unseen => (
                reasons::WRITE_UNSEEN,
                format!("the canary Secret was written through {name} and not counted there; a proxy in between?"),
            ),
            Shows::Unfamiliar(prefixes) => (
                reasons::UNVERIFIABLE,
                format!("{name} counts writes of Secrets under prefixes this version does not know: {prefixes}"),
            ),
        };
        Finding::some(Truth::Unknown, reason, message)
    })
}

fn unreadable_counters(view: &View<'_>) -> Option<Finding> {
    view.known.values().find_map(|seen| match seen.shows {
        Shows::Hidden(why) => Finding::some(Truth::Unknown, reasons::UNVERIFIABLE, format!("{}: {why}", seen.name())),
        _ => None,
    })
}

/// One KMS plugin was given a new key and another not yet, or never: what one encrypts the other may not decrypt.
fn key_ids_differ(view: &View<'_>) -> Option<Finding> {
    let mut by: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    for seen in view.known.values() {
        if let Some((provider, Some(key_id))) = seen.kms() {
            by.entry((provider, key_id)).or_default().push(seen.name());
        }
    }
    let providers: BTreeSet<&String> = by.keys().map(|(provider, _)| provider).collect();
    if by.len() == providers.len() {
        return None;
    }
    let each = by.iter().map(|((provider, key_id), names)| {
        format!("{} has {} of {provider}", list(names.iter().cloned()), short(key_id))
    });
    let message = format!(
        "the API servers encrypt with different keys of one KMS provider: {}; each asks its plugin once a minute",
        list(each)
    );
    Finding::some(Truth::Unknown, reasons::KEY_IDS_DIFFER, message)
}

/// What was proven of a key that nobody can use any more says nothing of the next write: there is none.
fn kms_unhealthy(view: &View<'_>) -> Option<Finding> {
    let (seen, provider) = view
        .known
        .values()
        .find_map(|seen| Some((seen, seen.silent_plugin()?)))?;
    let message = format!(
        "the plugin of KMS provider {provider} has not answered {} for more than {} s: no Secret can be written there, and \
         after a restart none read; start the plugin again",
        seen.name(),
        PLUGIN_NEEDED.as_secs()
    );
    Finding::some(Truth::Unknown, reasons::KMS_UNHEALTHY, message)
}

/// With which keys KMS plugins encrypt, for people.
fn key_ids(view: &View<'_>) -> String {
    let mut all: Vec<String> = view
        .known
        .values()
        .filter_map(Seen::kms)
        .map(|(provider, key_id)| match key_id {
            Some(key_id) => format!("; KMS provider {provider} encrypts with key_id {}", short(key_id)),
            None => format!("; which key KMS provider {provider} encrypts with is not shown"),
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all.concat()
}

fn proven(view: &View<'_>) -> Finding {
    let mut prefixes: Vec<&str> = view.known.values().filter_map(writes).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let who = match view.known.len() {
        1 => "the API server".to_owned(),
        number => format!("all {number} API servers"),
    };
    Finding {
        truth: Truth::True,
        reason: reasons::NEW_WRITES_ENCRYPTED,
        message: format!(
            "new Secrets are written under {} by {who}; values written earlier were not read{}",
            prefixes.join(" and "),
            key_ids(view)
        ),
    }
}

/// A person's word counts only where the control plane hides the evidence, and never for `True`.
fn attested(finding: Finding, attestation: Option<&Attestation>, now: &Time) -> Finding {
    let Some(word) = attestation else { return finding };
    let concealed = [reasons::UNVERIFIABLE, reasons::NO_IDENTITIES].contains(&finding.reason);
    if !concealed || word.expiration_time.0 <= now.0 {
        return finding;
    }
    Finding {
        truth: Truth::Unknown,
        reason: reasons::ATTESTED,
        message: format!(
            "{} attests until {}: {}; seen from inside: {}",
            word.attested_by, word.expiration_time.0, word.statement, finding.message
        ),
    }
}

/// Who runs with which file, if they differ.
fn divergence(view: &View<'_>) -> Option<String> {
    let files = view.files();
    (files.len() > 1).then(|| {
        let each: Vec<String> = files
            .into_iter()
            .map(|(hash, names)| format!("{} has {}", list(names), hash.map_or("none", short)))
            .collect();
        each.join("; ")
    })
}

/// Enough of a hash to tell files apart by eye.
fn short(hash: &str) -> &str {
    hash.get(..19).unwrap_or(hash)
}

fn degraded(view: &View<'_>) -> Option<String> {
    let met: Vec<String> = view
        .seen
        .iter()
        .filter(|seen| seen.undecryptable > 0)
        .map(Seen::name)
        .collect();
    (!met.is_empty()).then(|| {
        format!(
            "values are stored that no configured key fits, met by {}; compare the encryption configuration files",
            list(met)
        )
    })
}

fn statuses(view: &View<'_>) -> Vec<ReplicaStatus> {
    let mut all: Vec<ReplicaStatus> = view
        .leases
        .iter()
        .map(|lease| {
            let seen = view.known.get(lease.name.as_str());
            ReplicaStatus {
                identity: lease.name.clone(),
                address: seen.map(|seen| seen.address.to_owned()),
                configuration_hash: seen.and_then(|seen| seen.scrape.configuration_hash.clone()),
                writes: seen.and_then(writes).map(str::to_owned),
                key_id_hash: seen.and_then(|seen| seen.kms()?.1).map(str::to_owned),
            }
        })
        .collect();
    all.sort_by(|a, b| a.identity.cmp(&b.identity));
    all.truncate(REPLICAS);
    all
}

/// The prefix a replica writes under; `identity` for plaintext.
fn writes<'a>(seen: &'a Seen<'_>) -> Option<&'a str> {
    match &seen.shows {
        Shows::Encrypted(prefix) => Some(prefix),
        Shows::Plaintext | Shows::NotConfigured => Some("identity"),
        _ => None,
    }
}

/// At most three, then how many more.
fn list(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    match names.get(3..) {
        Some(more) if !more.is_empty() => format!("{} and {} more", names[..3].join(", "), more.len()),
        _ => names.join(", "),
    }
}
