//! `cloison agent`: runs the agent of a control-plane node until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{CliError, Connection};
use crate::agent::{self, EtcdSettings, Settings};
use crate::cluster::{client, telemetry};

/// Flags of the agent.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// The node it runs on.
    #[arg(long, env = "NODE_NAME")]
    node: String,
    /// The directory it owns: the API server reads encryption.json there.
    #[arg(long, default_value = "/etc/kubernetes/cloison")]
    directory: PathBuf,
    /// The API server of this node.
    #[arg(long, env = "CLOISON_API_SERVER", default_value = "https://127.0.0.1:6443")]
    api_server: http::Uri,
    /// The static pod of that API server; without such a file its process is looked for.
    #[arg(long, default_value = "/etc/kubernetes/manifests/kube-apiserver.yaml")]
    manifest: PathBuf,
    /// etcd's client URL, to prove from etcd itself; without it nothing old is proven.
    #[arg(long, env = "CLOISON_ETCD", requires_all = ["etcd_ca", "etcd_cert", "etcd_key"])]
    etcd: Option<String>,
    /// The authority of etcd's certificate.
    #[arg(long)]
    etcd_ca: Option<PathBuf>,
    /// A client certificate that etcd accepts.
    #[arg(long)]
    etcd_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    etcd_key: Option<PathBuf>,
    /// The API server's --etcd-prefix.
    #[arg(long, default_value = "/registry")]
    etcd_prefix: String,
    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one.
    #[arg(long, env = "CLOISON_HEALTH_ADDRESS", default_value = "127.0.0.1:8090")]
    health_address: SocketAddr,
    /// Seconds from one look to the next.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval_seconds: u64,
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
    let (files, prefix) = (
        (arguments.etcd_ca, arguments.etcd_cert, arguments.etcd_key),
        arguments.etcd_prefix,
    );
    let etcd = match (arguments.etcd, files) {
        (Some(url), (Some(ca), Some(cert), Some(key))) => Some(EtcdSettings {
            url,
            ca,
            cert,
            key,
            prefix,
        }),
        _ => None,
    };
    let settings = Settings {
        node: arguments.node,
        directory: arguments.directory,
        api_server: arguments.api_server,
        manifest: arguments.manifest,
        etcd,
        health: arguments.health_address,
        interval: Duration::from_secs(arguments.interval_seconds),
    };
    agent::run(config, settings, super::controller::stopped()).await?;
    Ok(ExitCode::SUCCESS)
}
