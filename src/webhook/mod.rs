//! The webhook: asked by the API server about the few things that take a look at other objects. Nothing here decides: the
//! answers come from [`crate::admission::review`].

mod certificates;
mod keys;
mod server;
mod sight;
mod trust;

pub use keys::authorities;

use std::net::SocketAddr;
use std::time::Duration;

use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use kube::Config;
use tokio::task::JoinSet;

use crate::admission::Operator;
use crate::cluster::client::{self, ConnectError};
use crate::cluster::health::{self, Readiness};
use crate::cluster::telemetry::Metrics;

/// After it was told to stop it goes on answering for so long, and ends each connection with the answer: until no API server
/// is sent here any more.
const DRAIN: Duration = Duration::from_secs(5);
/// Then requests that were begun have so long to end.
const FINISH: Duration = Duration::from_secs(10);
/// A client that sends no complete head in this time is let go. This counts while a kept connection is idle, too, and an API
/// server may use one again for 90 s (`IdleConnTimeout` of Go's transport): it must be the one who closes it, or a request
/// meets a connection that is just being closed.
const HEAD: Duration = Duration::from_secs(120);
/// An HTTP/2 client that is silent is asked for a sign of life this often.
const PING: Duration = Duration::from_secs(5);

/// How the webhook runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace it runs in: its Service and its Secret are there.
    pub namespace: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub health: SocketAddr,
    /// Somebody else writes the Secret with the certificate.
    pub external_certificates: bool,
}

/// Why the webhook ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A server could not listen.
    #[error("{what} on {address}: {source}")]
    Listen {
        /// Which server.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs until `shutdown` resolves, and then until every request that came was answered.
pub async fn run(
    config: Config,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    let client = client::client(&config)?;
    let mut tasks = JoinSet::new();
    let (stop_health, health_stopped) = tokio::sync::oneshot::channel::<()>();
    let shown = metrics.clone();
    let health = health::serve(settings.health, move || shown.text(), readiness.clone(), async {
        let _ = health_stopped.await;
    });
    let mut health = std::pin::pin!(tokio::spawn(health));
    let mut shutdown = std::pin::pin!(shutdown);

    let operator = Operator::in_namespace(&settings.namespace);
    let mut now = sight::start(&mut tasks, &client, operator, &metrics);
    let external = settings.external_certificates;
    let mut keeper = certificates::Keeper::new(&mut tasks, &client, &settings.namespace, external, metrics.clone());
    let complete = async {
        let certificate = keeper.first().await;
        // Fails only when the loop that looks is gone, which none is.
        let _ = now.wait_for(Option::is_some).await;
        certificate
    };
    let certificate = tokio::select! {
        () = &mut shutdown => return Ok(()),
        ended = &mut health => return Err(listen("health server", settings.health, ended)),
        certificate = complete => certificate,
    };
    tasks.spawn(keeper.run());

    let address = settings.address;
    let failed = |source| RunError::Listen {
        what: "webhook",
        address,
        source,
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let handle = Handle::new();
    let mut server = axum_server::from_tcp_rustls(listener, certificate)
        .map_err(failed)?
        .handle(handle.clone());
    let http = server.http_builder();
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(Some(PING));
    let shared = server::Shared::new(client, now, metrics);
    let routes = server::routes(shared, readiness.clone());
    let mut server = std::pin::pin!(tokio::spawn(server.serve(routes.into_make_service())));
    tracing::info!(address = %bound, "webhook listens");
    readiness.set(true);

    tokio::select! {
        () = &mut shutdown => {}
        ended = &mut health => return Err(listen("health server", settings.health, ended)),
        ended = &mut server => return Err(listen("webhook", address, ended)),
    }
    readiness.set(false);
    tokio::time::sleep(DRAIN).await;
    handle.graceful_shutdown(Some(FINISH));
    let _ = server.await;
    drop(stop_health);
    Ok(())
}

fn listen(
    what: &'static str,
    address: SocketAddr,
    ended: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> RunError {
    let source = match ended {
        Ok(Ok(())) => std::io::Error::other("it ended by itself"),
        Ok(Err(source)) => source,
        Err(error) => std::io::Error::other(error),
    };
    RunError::Listen { what, address, source }
}
