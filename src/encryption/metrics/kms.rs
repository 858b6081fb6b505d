//! The keys that KMS v2 plugins hold. The EncryptionConfiguration names a plugin and never its keys: a plugin says by its
//! `key_id` which one it encrypts with, and an API server asks it once a minute. Metrics show the SHA-256 of each
//! `key_id`.
//!
//! - `apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{provider_name,key_id_hash}`: when the plugin
//!   last named it;
//! - `apiserver_envelope_encryption_key_id_hash_total{transformation_type,…}`: values read and written under it, of all
//!   resources together.

use std::collections::BTreeMap;

use super::named;

const STATUS: &str = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds";
const TOTAL: &str = "apiserver_envelope_encryption_key_id_hash_total";
/// Both begin so.
pub(super) const FAMILY: &str = "apiserver_envelope_encryption_key_id_hash_";

/// The plugins of one API server, by the names of their providers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsKeys(BTreeMap<String, Keys>);

/// Everything by the hash of the `key_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Keys {
    /// When the plugin last named it, in milliseconds since 1970.
    named: BTreeMap<String, u64>,
    /// Values read from etcd.
    reads: BTreeMap<String, u64>,
}

impl KmsKeys {
    /// What the plugin encrypts with: what it named last.
    pub fn current(&self, provider: &str) -> Option<&str> {
        let named = &self.0.get(provider)?.named;
        named.iter().max_by_key(|(_, at)| **at).map(|(hash, _)| hash.as_str())
    }

    /// When each plugin named each of its keys, by the name of its provider: with each answer one of these changes. In
    /// milliseconds since 1970, by the clock of its API server, which may be set back.
    pub fn answers(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, u64>)> {
        self.0.iter().map(|(provider, keys)| (provider, &keys.named))
    }

    /// Values read from etcd, by the hash of the `key_id` they are under.
    pub fn reads(&self, provider: &str) -> BTreeMap<String, u64> {
        self.0.get(provider).map(|keys| keys.reads.clone()).unwrap_or_default()
    }

    pub(super) fn read(&mut self, line: &str) {
        let (sample, named_by_status) = match (named(line, STATUS), named(line, TOTAL)) {
            (Some(sample), _) => (sample, true),
            (None, Some(sample)) => (sample, false),
            (None, None) => return,
        };
        let (Some(provider), Some(hash)) = (sample.label("provider_name"), sample.label("key_id_hash")) else {
            return;
        };
        let keys = self.0.entry(provider.into_owned()).or_default();
        if named_by_status {
            let at = sample.value.parse::<f64>().ok();
            let at = at.and_then(|seconds| format!("{:.0}", seconds * 1000.0).parse().ok());
            keys.named.insert(hash.into_owned(), at.unwrap_or_default());
        } else if sample.is("transformation_type", "from_storage") {
            *keys.reads.entry(hash.into_owned()).or_default() += sample.count().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::Scrape;

    /// Out of a 1.36.3, hashes cut short.
    const REAL: &str = r#"
apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds{apiserver_id_hash="sha256:0fa5",key_id_hash="sha256:new",provider_name="cloud",transformation_type="to_storage"} 1.7954583200e+09
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{apiserver_id_hash="sha256:0fa5",key_id_hash="sha256:old",provider_name="cloud"} 1.79545829408e+09
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{apiserver_id_hash="sha256:0fa5",key_id_hash="sha256:new",provider_name="cloud"} 1.79545835408e+09
apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{apiserver_id_hash="sha256:0fa5",key_id_hash="sha256:other",provider_name="other"} 1.79545899408e+09
apiserver_envelope_encryption_key_id_hash_total{apiserver_id_hash="sha256:0fa5",key_id_hash="sha256:old",provider_name="cloud",transformation_type="from_storage"} 7
apiserver_envelope_encryption_key_id_hash_total{apiserver_id_hash="sha256:0fa5",key_id_hash="sha256:old",provider_name="cloud",transformation_type="to_storage"} 9
"#;

    #[test]
    fn a_plugin_encrypts_with_what_it_named_last() {
        let kms = Scrape::of(REAL).kms;
        assert_eq!(kms.current("cloud"), Some("sha256:new"));
        assert_eq!(kms.current("other"), Some("sha256:other"));
        assert_eq!(kms.current("absent"), None);
        assert_eq!(kms.reads("cloud"), BTreeMap::from([("sha256:old".to_owned(), 7)]));
    }
}
