//! `cloison controller`: runs the controller until it is told to stop.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{CliError, Connection};
use crate::api::names;
use crate::cluster::{client, telemetry};
use crate::controller::{self, Settings};

/// Flags of the controller.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The namespace of the lease, the stop button and the canary account.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    namespace: String,
    /// Who this is among the replicas; the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "cloison-controller")]
    identity: String,
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one.
    #[arg(long, env = "CLOISON_HEALTH_ADDRESS", default_value = "127.0.0.1:8080")]
    health_address: SocketAddr,
    /// The image this runs from; the packet canary's pods run it too. Without it they are not made.
    #[arg(long, env = "CLOISON_IMAGE")]
    image: Option<String>,
    /// There is a webhook beside: its configuration is written. Without it none is, and one of before is taken away.
    #[arg(long, env = "CLOISON_WEBHOOK")]
    webhook: bool,
    /// How many objects of a kind are reconciled at once.
    #[arg(long, env = "CLOISON_CONCURRENCY", default_value_t = 16)]
    concurrency: u16,
    /// Seconds for which a crashed leader blocks the others.
    #[arg(long, env = "CLOISON_LEASE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(6..=3600))]
    lease_seconds: u64,
    /// What to log, for instance `info` or `cloison=debug`.
    #[arg(long, env = "CLOISON_LOG", default_value = "info,kube_lease_manager=warn")]
    log: String,
    /// How to log.
    #[arg(long, env = "CLOISON_LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    telemetry::start_logging(arguments.log_format == "json", &arguments.log);
    let connection = arguments.connection;
    let config = client::configuration(connection.kubeconfig.as_deref(), connection.context.as_deref()).await?;
    let settings = Settings {
        namespace: arguments.namespace,
        identity: arguments.identity,
        health: arguments.health_address,
        image: arguments.image.filter(|image| !image.is_empty()),
        webhook: arguments.webhook,
        concurrency: arguments.concurrency,
        lease: Duration::from_secs(arguments.lease_seconds),
    };
    controller::run(config, settings, stopped()).await?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves at SIGTERM or Ctrl-C.
pub(super) async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping");
}
