//! What one write of the canary Secret shows about the API server that took it.
//!
//! A counter says *how many* Secrets were written under a prefix, not which; other Secrets may be written between the
//! two scrapes. That is sound all the same: a process writes every Secret through one transformer chain, swapped as a
//! whole on reload. So if our write went through this process (one TCP connection, same start time before and after)
//! and every prefix that moved encrypts, ours was encrypted. If the empty prefix moved, some Secret was written in
//! plaintext and the claim is disproven, whoever wrote it. If both moved, the configuration changed in between.

use std::collections::BTreeMap;

use super::metrics::Scrape;

/// Prefix of every value that a provider encrypted.
const ENCRYPTED: &str = "k8s:enc:";
/// What `identity`, the provider that does not encrypt, is counted under.
const IDENTITY: &str = "";

/// A canary write through one API server, between two scrapes of the same connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Scraped before the write.
    pub before: Scrape,
    /// What became of the write.
    pub write: Write,
    /// Scraped after the write.
    pub after: Scrape,
}

/// What became of a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The API server took it.
    Done,
    /// None was sent: the two scrapes show the writes of others. They can disprove, and never prove.
    NotSent,
    /// It was refused or failed, and why.
    Refused(String),
}

/// What is known of the writes of one API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// New Secrets are written under this prefix, provider and key.
    Encrypted(String),
    /// New Secrets are written by `identity`.
    Plaintext,
    /// Both happened since the first of the two scrapes.
    Mixed(String),
    /// The configuration of this API server names no provider for Secrets.
    NotConfigured,
    /// No canary was written in the present state of the process.
    NotWritten,
    /// The API server or its configuration changed around the write.
    Changed,
    /// The write was refused or failed.
    Refused(String),
    /// The write was accepted and no counter moved: it went through another process.
    Unseen,
    /// Counters that this version of the program does not understand.
    Unfamiliar(String),
    /// The metrics do not say enough.
    Hidden(&'static str),
}

impl Shows {
    /// Whether another canary in the same state would show the same.
    pub fn settled(&self) -> bool {
        matches!(
            self,
            Self::Encrypted(_) | Self::Plaintext | Self::NotConfigured | Self::Hidden(_)
        )
    }

    /// Whether Secrets are known to be written in plaintext.
    pub fn disproves(&self) -> bool {
        matches!(self, Self::Plaintext | Self::Mixed(_) | Self::NotConfigured)
    }
}

/// What the last canary of a process and its present counters show together.
pub fn shows(canary: Option<&Canary>, present: &Scrape) -> Shows {
    let Some(state) = present.state() else {
        return Shows::Hidden("its metrics lack process_start_time_seconds, so a restart could not be seen");
    };
    let Some(canary) = canary else { return Shows::NotWritten };
    let Some(moved) = growth(&canary.before.writes, &canary.after.writes) else {
        return Shows::Changed;
    };
    let encrypted: u64 = sum(&moved, |prefix| prefix.starts_with(ENCRYPTED));
    let plain: u64 = sum(&moved, |prefix| prefix == IDENTITY);
    // Each write under a local key is counted for its provider and, inside that, for its key; never for a key alone.
    let keys: u64 = sum(&moved, |prefix| prefix != IDENTITY && !prefix.starts_with(ENCRYPTED));
    if canary.before.state() != canary.after.state() || canary.after.state() != Some(state) {
        return Shows::Changed;
    }
    match (plain, encrypted, &canary.write) {
        (1.., 1.., _) => Shows::Mixed(prefixes(&moved)),
        (1.., 0, _) => since(canary, present, |prefix| prefix.starts_with(ENCRYPTED)).unwrap_or(Shows::Plaintext),
        (0, _, Write::NotSent) => Shows::NotWritten,
        (0, _, Write::Refused(why)) => Shows::Refused(why.clone()),
        (0, 1.., Write::Done) if keys > encrypted => Shows::Unfamiliar(prefixes(&moved)),
        (0, 1.., Write::Done) => {
            since(canary, present, |prefix| prefix == IDENTITY).unwrap_or_else(|| Shows::Encrypted(prefixes(&moved)))
        }
        (0, 0, Write::Done) if keys > 0 => Shows::Unfamiliar(prefixes(&moved)),
        (0, 0, Write::Done) => nothing_moved(present),
    }
}

/// Counters go on moving after the canary, and can contradict it without another one. A write that was under way
/// during a reload may do that too, so the answer is not settled: the canary is repeated.
fn since(canary: &Canary, present: &Scrape, contradicts: impl Fn(&str) -> bool) -> Option<Shows> {
    match growth(&canary.after.writes, &present.writes) {
        None => Some(Shows::Changed),
        Some(moved) if moved.keys().any(|prefix| contradicts(prefix)) => Some(Shows::Mixed(prefixes(&moved))),
        Some(_) => None,
    }
}

fn nothing_moved(present: &Scrape) -> Shows {
    if !present.writes.is_empty() {
        Shows::Unseen
    } else if present.complete() {
        Shows::NotConfigured
    } else {
        Shows::Hidden("its metrics of storage transformations are switched off or carry other names")
    }
}

/// What grew; nothing if anything shrank, which a counter only does when its process restarts.
pub(super) fn growth(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Option<BTreeMap<String, u64>> {
    if before.keys().any(|prefix| !after.contains_key(prefix)) {
        return None;
    }
    let mut grown = BTreeMap::new();
    for (prefix, count) in after {
        let by = count.checked_sub(before.get(prefix).copied().unwrap_or_default())?;
        if by > 0 {
            grown.insert(prefix.clone(), by);
        }
    }
    Some(grown)
}

fn sum(moved: &BTreeMap<String, u64>, of: impl Fn(&str) -> bool) -> u64 {
    moved.iter().filter(|(prefix, _)| of(prefix)).map(|(_, by)| by).sum()
}

/// As the stored values begin: `k8s:enc:aesgcm:v1:k2:`. Several of a kind, which only a reload leaves, are joined by
/// commas.
fn prefixes(moved: &BTreeMap<String, u64>) -> String {
    let join = |encrypting: bool| {
        let all: Vec<&str> = moved
            .keys()
            .filter(|prefix| prefix.starts_with(ENCRYPTED) == encrypting)
            .map(|prefix| if prefix == IDENTITY { "identity" } else { prefix })
            .collect();
        all.join(",")
    };
    format!("{}{}", join(true), join(false))
}
