use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::addresses::{free_port, next_address};
use crate::binaries::{Tool, find};
use crate::certificates::{Authority, Certified, CertifiedFiles};
use crate::processes::{Process, Recipe};
use crate::{Error, WorkDir};

/// The etcd of a control plane, with raw access to what it stores.
///
/// Raw access goes through etcd's own JSON gateway, over TLS with a client certificate.
pub struct Etcd {
    process: Process,
    url: String,
    authority: Arc<Authority>,
    certificate_file: PathBuf,
    key_file: PathBuf,
    client: Certified,
}

impl Etcd {
    pub(crate) fn create(work_dir: &WorkDir, authority: Arc<Authority>) -> Result<Self, Error> {
        let (address, peers) = (next_address(), next_address());
        let port = free_port(&[address, peers])?;
        let url = format!("https://{address}:{port}");
        let peers = format!("https://{peers}:{port}");
        let server = authority.write("etcd", &authority.etcd(address)?)?;
        let client = authority.client("etcd-client", &[])?;
        let CertifiedFiles {
            certificate: certificate_file,
            key: key_file,
        } = authority.write("etcd-client", &client)?;
        let mut arguments: Vec<String> = vec![
            "--name=testbed".into(),
            "--unsafe-no-fsync".into(),
            // A lone member elects itself only after this timeout, a second by default.
            "--heartbeat-interval=10".into(),
            "--election-timeout=100".into(),
            "--logger=zap".into(),
            "--log-level=warn".into(),
            format!("--data-dir={}", work_dir.database().display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=testbed={peers}"),
        ];
        for prefix in ["", "peer-"] {
            arguments.push(format!("--{prefix}client-cert-auth"));
            arguments.push(format!("--{prefix}trusted-ca-file={}", authority.file().display()));
            arguments.push(format!("--{prefix}cert-file={}", server.certificate.display()));
            arguments.push(format!("--{prefix}key-file={}", server.key.display()));
        }
        let process = Process::new(Recipe {
            name: "etcd".into(),
            program: find(Tool::Etcd)?,
            arguments: arguments.into_iter().map(Into::into).collect(),
            hostname: None,
            log: work_dir.logs().join("etcd.log"),
        });
        Ok(Self {
            process,
            url,
            authority,
            certificate_file,
            key_file,
            client,
        })
    }

    /// The client endpoint, `https://127.x.y.z:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file of the authority that signed etcd's certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// The file of a certificate that etcd accepts from clients.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }

    /// The file of the key of [`Etcd::certificate_file`].
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Starts etcd unless it runs, and returns when it serves.
    pub async fn start(&self) -> Result<(), Error> {
        self.process.start()?;
        let client = self.connection()?;
        self.process
            .ready(Duration::from_secs(30), async || {
                let health = http::Request::get("/health").body(Vec::new());
                let health = health.map_err(|error| error.to_string())?;
                let answer = client.request_text(health).await.map_err(|error| error.to_string())?;
                if answer.contains("\"true\"") {
                    Ok(())
                } else {
                    Err(answer)
                }
            })
            .await
    }

    /// Stops etcd in an orderly way.
    pub async fn stop(&self) {
        self.process.stop(Duration::from_secs(5)).await;
    }

    /// The process id while etcd runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The stored bytes of one key, such as `/registry/secrets/NAMESPACE/NAME`.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let answer = self.call("/v3/kv/range", json!({ "key": encode(key) })).await?;
        Ok(pairs("/v3/kv/range", &answer)?.pop().map(|(_, value)| value))
    }

    /// Every key under a prefix with its stored bytes, sorted by key.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let body = json!({ "key": encode(prefix), "range_end": STANDARD.encode(range_end(prefix)) });
        pairs("/v3/kv/range", &self.call("/v3/kv/range", body).await?)
    }

    /// Writes one key behind the API servers' back. Their watch caches see it like any other write.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        let body = json!({ "key": encode(key), "value": STANDARD.encode(value) });
        self.call("/v3/kv/put", body).await.map(drop)
    }

    /// Deletes one key behind the API servers' back.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let body = json!({ "key": encode(key) });
        self.call("/v3/kv/deleterange", body).await.map(drop)
    }

    /// The current revision of the store.
    pub async fn revision(&self) -> Result<i64, Error> {
        let answer = self
            .call("/v3/kv/range", json!({ "key": encode("/"), "count_only": true }))
            .await?;
        answer["header"]["revision"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| unexpected("/v3/kv/range", &answer))
    }

    /// Forgets the history before now, and returns when that is on disk.
    pub async fn compact(&self) -> Result<(), Error> {
        let revision = self.revision().await?;
        let body = json!({ "revision": revision.to_string(), "physical": true });
        self.call("/v3/kv/compaction", body).await.map(drop)
    }

    /// Rewrites the database file without its freed pages.
    pub async fn defragment(&self) -> Result<(), Error> {
        self.call("/v3/maintenance/defragment", json!({})).await.map(drop)
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    async fn call(&self, path: &str, body: Value) -> Result<Value, Error> {
        let failed = |reason: String| Error::Etcd {
            path: path.to_string(),
            reason,
        };
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| failed(error.to_string()))?;
        let client = self.connection()?;
        client
            .request(request)
            .await
            .map_err(|error: kube::Error| failed(error.to_string()))
    }

    /// kube's client is an HTTP client that verifies TLS; nothing in it asks for an API server.
    fn connection(&self) -> Result<Client, Error> {
        let url = self
            .url
            .parse()
            .map_err(|error| Error::Usage(format!("{}: {error}", self.url)))?;
        let mut config = Config::new(url);
        config.default_retry = false;
        config.root_cert = Some(vec![self.authority.der()]);
        config.auth_info.client_certificate_data = Some(STANDARD.encode(&self.client.certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(&self.client.key).into());
        Ok(Client::try_from(config)?)
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("url", &self.url).finish_non_exhaustive()
    }
}

fn encode(key: &str) -> String {
    STANDARD.encode(key)
}

/// The first key after all keys that begin with `prefix`, as etcd's own client computes it.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn pairs(path: &str, answer: &Value) -> Result<Vec<(String, Vec<u8>)>, Error> {
    // The gateway leaves out what is empty: no `kvs` without a hit, no `value` for an empty one.
    let pairs = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
    let decode = |value: &Value| {
        STANDARD
            .decode(value.as_str().unwrap_or_default())
            .map_err(|_| unexpected(path, value))
    };
    pairs
        .iter()
        .map(|pair| {
            let key = String::from_utf8_lossy(&decode(&pair["key"])?).into_owned();
            Ok((key, decode(&pair["value"])?))
        })
        .collect()
}

fn unexpected(path: &str, answer: &Value) -> Error {
    Error::Etcd {
        path: path.to_string(),
        reason: format!("unexpected answer {answer}"),
    }
}
