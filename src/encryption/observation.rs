//! Everything one judgement looks at, and which API server each answer came from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::canary::{Canary, Shows, shows};
use super::leases::FreshLease;
use super::metrics::Scrape;
use super::stored::Stored;
use crate::api::encryption::Attestation;

/// An API server whose KMS v2 plugin does not answer goes on with the key it has for so long, and then refuses to write
/// (`kmsv2PluginWriteDEKSourceMaxTTL` of k8s.io/apiserver). One that answers is asked once a minute.
pub(super) const PLUGIN_NEEDED: Duration = Duration::from_mins(3);

/// What was gathered in one pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The API servers that have to be accounted for. The caller lists them after the scrapes, so that a replica that
    /// joined meanwhile is missed by the scrapes and not by the list.
    pub leases: Vec<FreshLease>,
    /// One entry per address and connection that was tried.
    pub replicas: Vec<Replica>,
    /// A person's word, used only where the evidence is hidden.
    pub attestation: Option<Attestation>,
}

impl Observation {
    /// Whether every API server that has to be accounted for answered, and nobody kept silent.
    pub fn accounted(&self) -> bool {
        let view = View::of(self);
        view.failed.is_empty()
            && view
                .leases
                .iter()
                .all(|lease| view.known.contains_key(lease.name.as_str()))
    }

    /// For each replica, the name of the Lease of the API server that answered, if it is known.
    pub fn senders(&self) -> Vec<Option<&str>> {
        let name = |replica| match sender(self, replica) {
            Sender::Lease(name) => Some(name),
            Sender::Stranger(_) | Sender::Unknown | Sender::Nobody => None,
        };
        self.replicas.iter().map(name).collect()
    }

    /// Whether a canary can be written without harm. A value that one API server writes and another cannot read breaks
    /// every LIST of Secrets there, in all namespaces (measured on 1.36.3, and it keeps a restarted one from becoming
    /// ready), so the canary waits until all are known to run with one file. While they do not, nothing could be proven.
    pub fn may_write(&self) -> bool {
        let view = View::of(self);
        self.accounted() && view.hidden.is_empty() && view.files().len() <= 1
    }
}

/// One connection to one API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// `host:port`.
    pub address: String,
    /// Its metrics, now.
    pub reading: Reading,
    /// The last canary written in the state it is in.
    pub canary: Option<Canary>,
    /// Values it lately met that no configured key fits.
    pub undecryptable: u64,
    /// For how long its KMS plugins have not answered it, by the names of their providers.
    pub silence: BTreeMap<String, Duration>,
}

/// One attempt to read `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It was read.
    Seen(Scrape),
    /// The API server answered and would not show it: 403, 404.
    Hidden(String),
    /// No answer, or a broken one.
    Failed(String),
}

/// An observation with each answer given its sender.
pub(super) struct View<'a> {
    pub leases: &'a [FreshLease],
    /// By the name of the Lease. Of several connections to one process, one.
    pub known: BTreeMap<&'a str, Seen<'a>>,
    /// Leases whose API server answered, also if it hides its metrics.
    pub answered: BTreeSet<&'a str>,
    /// Leases under which more than one process answers.
    pub shared: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Answers of API servers that have no fresh Lease: address and id hash.
    pub strangers: Vec<(&'a str, &'a str)>,
    /// Addresses whose answers do not say who they are.
    pub unidentified: Vec<&'a str>,
    /// Addresses that would not show their metrics, and why.
    pub hidden: Vec<(&'a str, &'a str)>,
    /// Addresses that did not answer, and why.
    pub failed: Vec<(&'a str, &'a str)>,
    /// All that answered, whoever they are.
    pub seen: Vec<Seen<'a>>,
}

/// One API server that answered.
#[derive(Clone)]
pub(super) struct Seen<'a> {
    pub address: &'a str,
    pub lease: Option<&'a str>,
    pub scrape: &'a Scrape,
    pub shows: Shows,
    pub undecryptable: u64,
    silence: &'a BTreeMap<String, Duration>,
}

impl Seen<'_> {
    /// For people.
    pub fn name(&self) -> String {
        match self.lease {
            Some(lease) => format!("{lease} ({})", self.address),
            None => self.address.to_owned(),
        }
    }
}

impl<'a> Seen<'a> {
    /// The KMS provider it writes Secrets with, and the hash of the `key_id` that its plugin encrypts with, where it shows
    /// one. `None` where its keys are in its file.
    pub fn kms(&self) -> Option<(String, Option<&'a str>)> {
        let Shows::Encrypted(prefix) = &self.shows else {
            return None;
        };
        let Stored::Kms(provider) = Stored::of(prefix.as_bytes()) else {
            return None;
        };
        let key_id = self.scrape.kms.current(&provider);
        Some((provider, key_id))
    }

    /// The KMS provider it writes Secrets with, where its plugin has not answered for longer than an API server writes
    /// without it.
    pub fn silent_plugin(&self) -> Option<String> {
        let (provider, _) = self.kms()?;
        let silent_for = self.silence.get(&provider)?;
        (*silent_for > PLUGIN_NEEDED).then_some(provider)
    }
}

enum Sender<'a> {
    Lease(&'a str),
    Stranger(&'a str),
    Unknown,
    /// Nothing was answered.
    Nobody,
}

static NO_IDENTITIES: BTreeSet<String> = BTreeSet::new();

impl<'a> View<'a> {
    pub fn of(observation: &'a Observation) -> Self {
        let mut view = View {
            leases: &observation.leases,
            known: BTreeMap::new(),
            answered: BTreeSet::new(),
            shared: BTreeMap::new(),
            strangers: Vec::new(),
            unidentified: Vec::new(),
            hidden: Vec::new(),
            failed: Vec::new(),
            seen: Vec::new(),
        };
        for replica in &observation.replicas {
            let address = replica.address.as_str();
            let sender = sender(observation, replica);
            match &sender {
                Sender::Lease(name) => drop(view.answered.insert(name)),
                Sender::Stranger(hash) => view.strangers.push((address, hash)),
                Sender::Unknown => view.unidentified.push(address),
                Sender::Nobody => {}
            }
            match &replica.reading {
                Reading::Hidden(why) => view.hidden.push((address, why)),
                Reading::Failed(why) => view.failed.push((address, why)),
                Reading::Seen(scrape) => {
                    view.add(replica, scrape, &sender);
                }
            }
        }
        view
    }

    /// Who runs with which file. An API server before 1.34 does not say, nor does one without a file.
    pub fn files(&self) -> BTreeMap<Option<&'a str>, Vec<String>> {
        let mut files: BTreeMap<Option<&str>, Vec<String>> = BTreeMap::new();
        for seen in &self.seen {
            let hash = seen.scrape.configuration_hash.as_deref();
            files.entry(hash).or_default().push(seen.name());
        }
        files
    }

    fn add(&mut self, replica: &'a Replica, scrape: &'a Scrape, sender: &Sender<'a>) {
        let mut seen = Seen {
            address: &replica.address,
            lease: None,
            scrape,
            shows: shows(replica.canary.as_ref(), scrape),
            undecryptable: replica.undecryptable,
            silence: &replica.silence,
        };
        if let Sender::Lease(name) = *sender {
            seen.lease = Some(name);
            match self.known.get(name) {
                None => {
                    self.known.insert(name, seen.clone());
                }
                // Two addresses of one process are one API server; two processes under one Lease may be three.
                Some(other) if other.scrape.started != scrape.started => {
                    let addresses = self.shared.entry(name).or_default();
                    addresses.extend([other.address, seen.address]);
                }
                Some(_) => {}
            }
        }
        self.seen.push(seen);
    }
}

/// Who answered. The metrics say it where they can. Where none of them carries an identity (without an
/// EncryptionConfiguration, and before 1.34 until the first reload), the Lease may name the address (from 1.36 on), or
/// be the only one.
fn sender<'a>(observation: &'a Observation, replica: &'a Replica) -> Sender<'a> {
    let leases = &observation.leases;
    let identities = match &replica.reading {
        Reading::Seen(scrape) => &scrape.identities,
        Reading::Hidden(_) => &NO_IDENTITIES,
        Reading::Failed(_) => return Sender::Nobody,
    };
    let mut identities = identities.iter();
    match (identities.next(), identities.next()) {
        (Some(hash), None) => leases
            .iter()
            .find(|lease| lease.id_hash() == *hash)
            .map_or(Sender::Stranger(hash), |lease| Sender::Lease(&lease.name)),
        (Some(_), Some(_)) => Sender::Unknown,
        (None, _) => {
            let mut claim = leases
                .iter()
                .filter(|lease| lease.peer_address.as_deref() == Some(&replica.address));
            match (claim.next(), claim.next(), leases.as_slice()) {
                (Some(lease), None, _) | (None, None, [lease]) => Sender::Lease(&lease.name),
                _ => Sender::Unknown,
            }
        }
    }
}
