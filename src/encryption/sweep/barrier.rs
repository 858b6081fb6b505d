//! Every API server that exists, each with its process and its file. Two of these that are equal say that nobody came,
//! went, restarted or took another file in between; one that reloads and goes back shows it by its number of reloads.

use std::collections::BTreeMap;
use std::fmt;

use crate::encryption::canary::Shows;
use crate::encryption::judge::barrier;
use crate::encryption::metrics::RunState;
use crate::encryption::observation::{Observation, View};

/// Who there is, by identity Lease, and what each runs with.
pub type Shape = BTreeMap<String, RunsWith>;

/// With what one API server encrypts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsWith {
    /// The hash of its file, where it shows it (Kubernetes before 1.34 does not).
    pub file: Option<String>,
    /// The hash of the `key_id` that its KMS v2 plugin encrypts with. A plugin is given a new key without another file.
    pub key_id: Option<String>,
}

/// The `key_id` that the plugins of one KMS provider encrypt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// The provider's name.
    pub provider: String,
    /// The hash of the `key_id`.
    pub key_id: String,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoBarrier {
    /// Not everything that it needs was seen.
    Unseen(String),
    /// API servers are known to run with different files or keys. What is rewritten under the key of one, another may not
    /// be able to read.
    Differs(String),
}

impl fmt::Display for NoBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unseen(why) | Self::Differs(why) => f.write_str(why),
        }
    }
}

/// All API servers under one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    replicas: BTreeMap<String, (RunState, Option<String>)>,
    writes: String,
    kms: Option<KmsKey>,
}

impl Barrier {
    /// What an observation shows; else why it does not show that all API servers write under one key.
    pub fn of(seen: &Observation) -> Result<Self, NoBarrier> {
        let view = View::of(seen);
        if view.files().len() > 1 {
            let message = "the API servers run with different encryption configuration files";
            return Err(NoBarrier::Differs(message.to_owned()));
        }
        if let Some((_, message)) = barrier(seen) {
            return Err(NoBarrier::Unseen(message));
        }
        if let Some((address, why)) = view.hidden.first() {
            return Err(NoBarrier::Unseen(format!("{address} does not show its metrics: {why}")));
        }
        let mut replicas = BTreeMap::new();
        let mut writes = None;
        let mut kms: Option<KmsKey> = None;
        for (lease, seen) in &view.known {
            let unsaid = || NoBarrier::Unseen(format!("{} does not show under which key it writes", seen.name()));
            let state = seen.scrape.state().ok_or_else(unsaid)?;
            let prefix = match &seen.shows {
                Shows::Encrypted(prefix) => prefix.as_str(),
                Shows::Plaintext | Shows::NotConfigured => "identity",
                _ => return Err(unsaid()),
            };
            if writes.is_some_and(|known| known != prefix) {
                let message = "the API servers write under different keys";
                return Err(NoBarrier::Differs(message.to_owned()));
            }
            writes = Some(prefix);
            let of_kms = seen.kms();
            let key_id = of_kms.as_ref().and_then(|(_, key_id)| key_id.map(str::to_owned));
            if let Some((provider, Some(key_id))) = of_kms {
                if kms.as_ref().is_some_and(|known| known.key_id != key_id) {
                    let message = format!("the API servers encrypt with different key_ids of KMS provider {provider}");
                    return Err(NoBarrier::Differs(message));
                }
                kms = Some(KmsKey {
                    provider,
                    key_id: key_id.to_owned(),
                });
            }
            replicas.insert((*lease).to_owned(), (state, key_id));
        }
        let unknown = || NoBarrier::Unseen("no API server is known".to_owned());
        let writes = writes.ok_or_else(unknown)?.to_owned();
        Ok(Self { replicas, writes, kms })
    }

    /// The prefix all of them write under, as stored values begin: `k8s:enc:aesgcm:v1:k2:`; `identity` for plaintext.
    pub fn writes(&self) -> &str {
        &self.writes
    }

    /// The key of the KMS plugins, where they encrypt and it is shown.
    pub fn kms(&self) -> Option<&KmsKey> {
        self.kms.as_ref()
    }

    /// How many API servers there are.
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// Another process with the same file has the same shape. What was proven of stored values stands as long as this does:
    /// as far as looks every few seconds can tell, nothing else has been written since.
    pub fn shape(&self) -> Shape {
        self.replicas
            .iter()
            .map(|(lease, (state, key_id))| {
                let runs_with = RunsWith {
                    file: state.configuration_hash().map(str::to_owned),
                    key_id: key_id.clone(),
                };
                (lease.clone(), runs_with)
            })
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::encryption::leases::id_hash;
    use crate::encryption::metrics::Scrape;
    use crate::encryption::{Canary, FreshLease, Reading, Replica, Write};

    fn scrape(lease: &str, hash: &str, key: &str, writes: u32) -> Scrape {
        let id = id_hash(lease);
        let operations = "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\"OK\",\
                          transformation_type=\"to_storage\",transformer_prefix=";
        Scrape::of(&format!(
            "process_start_time_seconds 1\n\
             apiserver_encryption_config_controller_last_config_info{{apiserver_id_hash=\"{id}\",hash=\"{hash}\"}} 1\n\
             {operations}\"k8s:enc:aesgcm:v1:\"}} {writes}\n{operations}\"{key}:\"}} {writes}\n"
        ))
    }

    fn replica(lease: &str, hash: &str, key: &str) -> Replica {
        Replica {
            address: lease.to_owned(),
            reading: Reading::Seen(scrape(lease, hash, key, 1)),
            canary: Some(Canary {
                before: scrape(lease, hash, key, 0),
                write: Write::Done,
                after: scrape(lease, hash, key, 1),
            }),
            undecryptable: 0,
            silence: BTreeMap::new(),
        }
    }

    fn seen(replicas: Vec<Replica>, leases: &[&str]) -> Observation {
        let lease = |name: &&str| FreshLease {
            name: (*name).to_owned(),
            peer_address: None,
        };
        Observation {
            leases: leases.iter().map(lease).collect(),
            replicas,
            attestation: None,
        }
    }

    pub fn barrier(hash: &str) -> Barrier {
        Barrier::of(&seen(vec![replica("a", hash, "k1")], &["a"])).unwrap()
    }

    #[test]
    fn it_stands_only_where_every_api_server_writes_under_one_key() {
        let both = seen(vec![replica("a", "x", "k1"), replica("b", "x", "k1")], &["a", "b"]);
        let stands = Barrier::of(&both).unwrap();
        assert_eq!((stands.writes(), stands.replicas()), ("k8s:enc:aesgcm:v1:k1:", 2));
        let why = |seen: &Observation| Barrier::of(seen).unwrap_err();
        let unseen = |seen: &Observation| match why(seen) {
            NoBarrier::Unseen(why) => why,
            NoBarrier::Differs(why) => panic!("{why}"),
        };
        let missing = seen(vec![replica("a", "x", "k1")], &["a", "b"]);
        assert!(unseen(&missing).contains("Lease b"));
        let mut untried = both.clone();
        untried.replicas[1].canary = None;
        assert!(unseen(&untried).contains("does not show under which key"));
        let mut hidden = both;
        hidden.replicas.push(Replica {
            address: "c".to_owned(),
            reading: Reading::Hidden("403".to_owned()),
            canary: None,
            undecryptable: 0,
            silence: BTreeMap::new(),
        });
        unseen(&hidden);

        let files = seen(vec![replica("a", "x", "k1"), replica("b", "y", "k1")], &["a", "b"]);
        let message = "the API servers run with different encryption configuration files";
        assert_eq!(why(&files), NoBarrier::Differs(message.to_owned()));
        let keys = seen(vec![replica("a", "x", "k1"), replica("b", "x", "k2")], &["a", "b"]);
        let message = "the API servers write under different keys";
        assert_eq!(why(&keys), NoBarrier::Differs(message.to_owned()));
    }

    /// An API server whose plugin `cloud` named this key last.
    fn with_kms(lease: &str, key_id: &str) -> Replica {
        let scrape = |writes: u32| {
            let id = id_hash(lease);
            let operations = "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\"OK\",\
                              transformation_type=\"to_storage\",transformer_prefix=";
            Scrape::of(&format!(
                "process_start_time_seconds 1\n\
                 apiserver_encryption_config_controller_last_config_info{{apiserver_id_hash=\"{id}\",hash=\"x\"}} 1\n\
                 {operations}\"k8s:enc:kms:v2:cloud:\"}} {writes}\n\
                 apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{{apiserver_id_hash=\"{id}\",\
                 key_id_hash=\"{key_id}\",provider_name=\"cloud\"}} 1.7e+09\n"
            ))
        };
        Replica {
            address: lease.to_owned(),
            reading: Reading::Seen(scrape(1)),
            canary: Some(Canary {
                before: scrape(0),
                write: Write::Done,
                after: scrape(1),
            }),
            undecryptable: 0,
            silence: BTreeMap::new(),
        }
    }

    pub fn barrier_with_kms(key_id: &str) -> Barrier {
        Barrier::of(&seen(vec![with_kms("a", key_id)], &["a"])).unwrap()
    }

    #[test]
    fn a_new_key_of_a_plugin_is_another_barrier_and_another_shape_with_the_same_file() {
        let (one, other) = (barrier_with_kms("sha256:1"), barrier_with_kms("sha256:2"));
        assert_ne!(one, other);
        assert_ne!(one.shape(), other.shape());
        let both = seen(vec![with_kms("a", "sha256:1"), with_kms("b", "sha256:2")], &["a", "b"]);
        let message = "the API servers encrypt with different key_ids of KMS provider cloud";
        assert_eq!(Barrier::of(&both), Err(NoBarrier::Differs(message.to_owned())));
    }

    #[test]
    fn another_file_is_another_shape() {
        assert_ne!(barrier("x").shape(), barrier("y").shape());
    }
}
