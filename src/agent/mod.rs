//! The agent on a control-plane node: it owns one directory with the EncryptionConfiguration of its own API server, holds
//! the keys, and tells what it sees there. It never edits how the API server is started.
//!
//! What it may do is decided in [`crate::encryption::duties`]; here the disk, the API server and etcd are touched.

mod counts;
pub mod directory;
pub mod etcd;
pub mod flags;
mod metrics;
pub mod node;
mod pass;
mod proof;
pub mod sealing;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kube::{Client, Config};

use self::counts::Counts;
use self::directory::{Directory, DirectoryError};
use self::etcd::{Etcd, EtcdError};
use self::metrics::Metrics;
use self::node::IdentityError;
use self::pass::Agent;
use self::proof::Prover;
use crate::api::text::ObjectName;
use crate::cluster::client::{self, ConnectError};
use crate::cluster::health::{self, Readiness};

/// The name every API server's certificate is valid for.
const SERVER_NAME: &str = "kubernetes.default.svc";
/// Pages of memory that a core dump of this process holds: none. There are keys in it.
const NO_CORE: (&str, &str) = ("/proc/self/coredump_filter", "0");

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node it runs on; its token is of a pod there.
    pub node: String,
    /// The directory it owns.
    pub directory: PathBuf,
    /// The API server of this node, `https://127.0.0.1:6443`.
    pub api_server: http::Uri,
    /// Its static pod, where it is one.
    pub manifest: PathBuf,
    /// How etcd is reached; without it no proof is made.
    pub etcd: Option<EtcdSettings>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub health: SocketAddr,
    /// From one look to the next.
    pub interval: Duration,
}

/// How etcd is reached: as the API server reaches it.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// Its client URL.
    pub url: String,
    /// The authority of its certificate.
    pub ca: PathBuf,
    /// A client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The API server's `--etcd-prefix`.
    pub prefix: String,
}

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// etcd's address or certificates.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The health server.
    #[error("health server on {address}: {source}")]
    Health {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs until `shutdown` resolves. An API server that is away is waited for.
pub async fn run(
    config: Config,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    if let Err(error) = std::fs::write(NO_CORE.0, NO_CORE.1) {
        tracing::warn!(%error, "a core dump of this process would hold keys: {} cannot be written", NO_CORE.0);
    }
    let directory = Directory::take(&settings.directory)?;
    let identity = node::identity(&directory)?;
    tracing::info!(node = settings.node, recipient = %identity.recipient(), "the identity of this node");
    let mut own = config.clone();
    own.cluster_url = settings.api_server.clone();
    own.tls_server_name = Some(SERVER_NAME.to_owned());
    let etcd = match &settings.etcd {
        None => None,
        Some(etcd) => Some(Etcd::new(&etcd.url, &etcd.ca, &etcd.cert, &etcd.key, &etcd.prefix).await?),
    };
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    let mut agent = Agent {
        node: ObjectName(settings.node.clone()),
        client: client::client(&config)?,
        own: client::client(&own)?,
        counts: Counts::load(&directory)?,
        prover: Prover::new(etcd),
        manifest: settings.manifest,
        port: settings.api_server.port_u16().unwrap_or(443),
        metrics: metrics.clone(),
        reported: None,
        directory,
        identity,
    };
    let address = settings.health;
    let mut health = std::pin::pin!(health::serve(
        address,
        move || metrics.text(),
        readiness.clone(),
        std::future::pending()
    ));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let again = async {
            let done = agent.pass().await;
            if let Err(error) = &done {
                tracing::warn!(%error, "this pass ended early");
            }
            readiness.set(done.is_ok());
            tokio::time::sleep(settings.interval).await;
        };
        // A pass that is dropped leaves a whole file behind, like one that is killed.
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            ended = &mut health => return ended.map_err(|source| RunError::Health { address, source }),
            () = again => {}
        }
    }
}

/// Reads `/metrics` of this node's API server.
async fn scrape(client: &Client) -> Result<crate::encryption::Scrape, kube::Error> {
    use futures::{AsyncBufReadExt, TryStreamExt};
    let request = http::Request::get("/metrics")
        .body(Vec::new())
        .map_err(kube::Error::HttpError)?;
    let mut scrape = crate::encryption::Scrape::default();
    let mut lines = client.request_stream(request).await?.lines();
    while let Some(line) = lines
        .try_next()
        .await
        .map_err(|error| kube::Error::Service(error.into()))?
    {
        scrape.read(&line);
    }
    Ok(scrape)
}
