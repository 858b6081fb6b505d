//! Reads from etcd itself how values are stored: what an API server says of its own work is no proof of that. All pages are
//! read at one revision. Of a value only the first bytes are looked at, and the pages are wiped from memory.
//!
//! By etcd's JSON gateway (`/v3/kv/range`), with a client certificate that etcd accepts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::api::names::{GROUP, SINGLETON};
use crate::encryption::stored::{HEAD, Stored, places};

/// Values of one page. A Secret has 1 MiB at most, most have less than 10 KiB.
const PAGE: usize = 250;
/// One page may take so long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Base64 of [`HEAD`] bytes, whole groups of four.
const HEAD_TEXT: usize = HEAD.div_ceil(3) * 4;

/// Why etcd could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Its certificates, or its address.
    #[error("etcd {url}: {source}; check --etcd-ca, --etcd-cert and --etcd-key")]
    Configuration {
        /// Which.
        url: String,
        /// Why.
        source: kube::Error,
    },
    /// The same, before anything was asked.
    #[error("etcd {url}: {source}; check --etcd-ca, --etcd-cert and --etcd-key")]
    Certificates {
        /// Which.
        url: String,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// It answered, and not what was asked for.
    #[error("etcd answered {status}: {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// In etcd's words; a value is never part of them.
        message: String,
    },
    /// It is not what the API server of this node writes to.
    #[error(
        "etcd {url} is not that of the API server: {why}; compare --etcd and --etcd-prefix with its --etcd-servers and \
         --etcd-prefix"
    )]
    Elsewhere {
        /// Which.
        url: String,
        /// What is missing there.
        why: String,
    },
    /// The answer makes no sense.
    #[error("etcd's answer cannot be read: {0}")]
    Unreadable(String),
}

/// How many values are under which key, by resource; and the revision all of them were read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// At which all pages were read.
    pub revision: i64,
    /// By resource, as it was asked for, and key.
    pub values: BTreeMap<(String, Stored), u64>,
}

/// A connection to etcd.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    url: String,
    /// The API server's `--etcd-prefix`, with a slash at its end.
    prefix: String,
}

#[derive(Deserialize)]
struct Range<'a> {
    header: Header,
    #[serde(borrow, default)]
    kvs: Vec<Pair<'a>>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

/// Borrowed from the page: nothing of a value is copied.
#[derive(Deserialize)]
struct Pair<'a> {
    key: &'a str,
    #[serde(default)]
    value: &'a str,
    #[serde(default)]
    mod_revision: &'a str,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
}

impl Etcd {
    /// Does not connect yet. `prefix` is the API server's `--etcd-prefix`.
    pub async fn new(url: &str, ca: &Path, cert: &Path, key: &Path, prefix: &str) -> Result<Self, EtcdError> {
        let kubeconfig = json!({
            "clusters": [{"name": "etcd", "cluster": {"server": url, "certificate-authority": ca}}],
            "users": [{"name": "etcd", "user": {"client-certificate": cert, "client-key": key}}],
            "contexts": [{"name": "etcd", "context": {"cluster": "etcd", "user": "etcd"}}],
            "current-context": "etcd",
        });
        let kubeconfig: Kubeconfig =
            serde_json::from_value(kubeconfig).map_err(|error| EtcdError::Unreadable(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|source| EtcdError::Certificates {
            url: url.to_owned(),
            source,
        })?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(TIMEOUT);
        let client = Client::try_from(config).map_err(|source| EtcdError::Configuration {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self {
            client,
            url: url.to_owned(),
            prefix: format!("{}/", prefix.trim_end_matches('/')),
        })
    }

    /// Refuses an etcd, or a prefix, where `SecretEncryption` is not at the revision that the API server gave or a later one:
    /// a reading elsewhere finds nothing, which would look like a proof. A copy of etcd that was made since is not noticed,
    /// nor are Secrets that `--etcd-servers-overrides` keeps in another one.
    pub async fn has_what_the_api_server_has(&self, revision: i64) -> Result<(), EtcdError> {
        let key = format!("{}{GROUP}/secretencryptions/{SINGLETON}", self.prefix);
        let end = [key.as_bytes(), b"\0"].concat();
        let page = self.range(key.as_bytes(), &end, 1, 0, true).await?;
        let page: Range<'_> = parsed(&page)?;
        let found = page.kvs.first().map(|pair| pair.mod_revision.parse::<i64>());
        let why = match found {
            Some(Ok(found)) if found >= revision => return Ok(()),
            Some(Ok(found)) => format!("{key} is at revision {found} there, and at {revision} in the API"),
            Some(Err(_)) => return Err(EtcdError::Unreadable("mod_revision is no number".to_owned())),
            None => format!("{key} is not there"),
        };
        Err(EtcdError::Elsewhere {
            url: self.url.clone(),
            why,
        })
    }

    /// Counts the values of these resources, all at the revision of the first answer.
    pub async fn histogram<'r>(&self, resources: impl IntoIterator<Item = &'r str>) -> Result<Histogram, EtcdError> {
        let mut found = Histogram {
            revision: 0,
            values: BTreeMap::new(),
        };
        for resource in resources {
            for place in places(resource) {
                let prefix = format!("{}{place}", self.prefix);
                self.count(resource, &prefix, &mut found).await?;
            }
        }
        Ok(found)
    }

    async fn count(&self, resource: &str, prefix: &str, found: &mut Histogram) -> Result<(), EtcdError> {
        let end = after(prefix.as_bytes());
        let mut from = prefix.as_bytes().to_vec();
        loop {
            let page = self.range(&from, &end, PAGE, found.revision, false).await?;
            let page: Range<'_> = parsed(&page)?;
            if found.revision == 0 {
                found.revision = revision(&page)?;
            }
            for pair in &page.kvs {
                let head = pair.value.get(..HEAD_TEXT).unwrap_or(pair.value);
                let head = Zeroizing::new(decoded(head)?);
                *found
                    .values
                    .entry((resource.to_owned(), Stored::of(&head)))
                    .or_default() += 1;
            }
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                return Ok(());
            };
            from = decoded(last.key)?;
            from.push(0);
        }
    }

    /// Whether etcd compacted everything before a revision, so that nobody can read it any more.
    pub async fn is_compacted_to(&self, revision: i64) -> Result<bool, EtcdError> {
        if revision < 2 {
            return Ok(true);
        }
        let prefix = self.prefix.as_bytes();
        match self.range(prefix, &after(prefix), 1, revision - 1, true).await {
            Ok(_) => Ok(false),
            Err(EtcdError::Refused { message, .. }) if message.contains("has been compacted") => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn range(
        &self,
        from: &[u8],
        end: &[u8],
        limit: usize,
        revision: i64,
        keys_only: bool,
    ) -> Result<Zeroizing<Vec<u8>>, EtcdError> {
        let asked = json!({
            "key": STANDARD.encode(from), "range_end": STANDARD.encode(end), "limit": limit.to_string(),
            "revision": revision.to_string(), "keys_only": keys_only,
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v3/kv/range")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::from(asked.to_string().into_bytes()))
            .map_err(|error| EtcdError::Unreadable(error.to_string()))?;
        let refused = |source: kube::Error| EtcdError::Configuration {
            url: "range".to_owned(),
            source,
        };
        let response = self.client.send(request).await.map_err(refused)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(refused)?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        if status.is_success() {
            return Ok(body);
        }
        let Refusal { message } = serde_json::from_slice(&body).unwrap_or_default();
        Err(EtcdError::Refused { status, message })
    }
}

/// The first key after all with a prefix.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // To the end of everything.
    vec![0]
}

fn parsed(page: &[u8]) -> Result<Range<'_>, EtcdError> {
    // The words of the parser may hold a piece of the page.
    serde_json::from_slice(page)
        .map_err(|error| EtcdError::Unreadable(format!("line {}, column {}", error.line(), error.column())))
}

fn revision(page: &Range<'_>) -> Result<i64, EtcdError> {
    let revision = page.header.revision.parse();
    revision.map_err(|_| EtcdError::Unreadable("header.revision is no number".to_owned()))
}

fn decoded(text: &str) -> Result<Vec<u8>, EtcdError> {
    STANDARD
        .decode(text)
        .map_err(|_| EtcdError::Unreadable("a key or value is not base64".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_that_has_it_not() {
        assert_eq!(after(b"/registry/secrets/"), b"/registry/secrets0");
        assert_eq!(after(b"a\xff"), b"b");
        assert_eq!(after(b"\xff"), [0], "etcd takes that for the end of everything");
    }
}
