//! The controller: three reconcilers, and one loop for each kind of proof.
//!
//! Nothing here decides: what to write comes from [`crate::network`] and [`crate::admission`], what to say from
//! [`judge`]. One process at a time holds the lease; it watches, writes and proves for as long as it does.

mod admission_objects;
mod analysis;
pub mod backoff;
pub(crate) mod caches;
mod cluster;
mod cluster_denies;
mod cluster_status;
mod context;
mod encryption_status;
mod error;
pub mod evidence;
pub mod facts;
mod forget;
pub mod judge;
mod namespace;
mod open;
mod packets;
mod patience;
mod place;
mod pod_facts;
mod pods;
mod proofs;
mod report;
mod rights;
mod rotation;
mod scan;
mod secrets;
mod sharing;
mod storage;
mod stores;
mod term;
mod triggers;
mod unmodelled;
mod unreadable;
mod view;
mod waivers;
mod webhook;
mod withdraw;
mod withdrawals;
mod workload;
mod writer;

pub use context::{facts_of, workload_facts};
pub use open::once_applied as open_list;
pub use proofs::Asked;
pub use unmodelled::look as unmodelled_policies;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Config;

use self::term::Term;
use crate::cluster::client::{self, ConnectError};
use crate::cluster::health::{self, Readiness};
use crate::cluster::leadership::{Leadership, LeaseLeadership, LeaseSettings};
use crate::cluster::telemetry::Metrics;

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace it runs in: its lease, the stop button and the canary account are there.
    pub namespace: String,
    /// Who it is among the replicas: the pod's name.
    pub identity: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub health: SocketAddr,
    /// The image of this program, for the packet canary's pods.
    pub image: Option<String>,
    /// Whether there is a webhook, whose configuration is to be written.
    pub webhook: bool,
    /// How many objects of a kind are reconciled at once.
    pub concurrency: u16,
    /// How long a crashed leader blocks the others.
    pub lease: Duration,
}

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The health server could not listen.
    #[error("health server on {address}: {source}")]
    Health {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs until `shutdown` resolves. An API server that is away is waited for: the process stays alive, and not ready.
pub async fn run(
    config: Config,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    let client = client::client(&config)?;
    let (stop_health, health_stopped) = tokio::sync::oneshot::channel::<()>();
    let address = settings.health;
    let shown = metrics.clone();
    let health = tokio::spawn(health::serve(address, move || shown.text(), readiness.clone(), async {
        let _ = health_stopped.await;
    }));
    let mut leadership = LeaseLeadership::start(
        client::lease_client(&config, settings.lease)?,
        LeaseSettings {
            namespace: settings.namespace.clone(),
            identity: settings.identity.clone(),
            duration: settings.lease,
        },
    );
    // Outlives a term: an API server that was away must not make anybody forget what was deleted before.
    let withdrawals = Arc::default();
    let since = Instant::now();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut health = std::pin::pin!(health);
    let failure = loop {
        // A standby is ready: it can take over at any moment.
        readiness.set(true);
        tokio::select! {
            () = &mut shutdown => break None,
            ended = &mut health => break health_failure(address, ended),
            () = leadership.acquired() => {}
        }
        metrics.leader.set(1);
        tracing::info!(identity = %settings.identity, "leading");
        let term = term::run(Term {
            config: &config,
            client: client.clone(),
            settings: &settings,
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            withdrawals: Arc::clone(&withdrawals),
            since,
        });
        tokio::select! {
            () = &mut shutdown => break None,
            ended = &mut health => break health_failure(address, ended),
            // Dropping the term stops every write of it.
            () = leadership.lost() => tracing::warn!("lease lost; writing stops"),
            () = term => {}
        }
        metrics.leader.set(0);
    };
    readiness.set(false);
    metrics.leader.set(0);
    leadership.release().await;
    drop(stop_health);
    failure.map_or(Ok(()), Err)
}

fn health_failure(address: SocketAddr, ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Option<RunError> {
    match ended {
        Ok(Ok(())) => None,
        Ok(Err(source)) => Some(RunError::Health { address, source }),
        Err(error) => Some(RunError::Health {
            address,
            source: std::io::Error::other(error),
        }),
    }
}
