//! `cloison webhook`: answers the API server until it is told to stop.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use super::controller::stopped;
use super::{CliError, Connection};
use crate::api::names;
use crate::cluster::{client, telemetry};
use crate::webhook::{self, Settings};

/// Flags of the webhook.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The namespace of the Service and of the Secret with the certificate.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    namespace: String,
    /// Where the API server is answered; port 0 takes a free one.
    #[arg(long, env = "CLOISON_WEBHOOK_ADDRESS", default_value = "127.0.0.1:8443")]
    address: SocketAddr,
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one.
    #[arg(long, env = "CLOISON_HEALTH_ADDRESS", default_value = "127.0.0.1:8080")]
    health_address: SocketAddr,
    /// The Secret is somebody else's, for instance cert-manager's: it is read and never written.
    #[arg(long, env = "CLOISON_EXTERNAL_CERTIFICATES")]
    external_certificates: bool,
    /// What to log, for instance `info` or `cloison=debug`.
    #[arg(long, env = "CLOISON_LOG", default_value = "info")]
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
        address: arguments.address,
        health: arguments.health_address,
        external_certificates: arguments.external_certificates,
    };
    webhook::run(config, settings, stopped()).await?;
    Ok(ExitCode::SUCCESS)
}
