//! The command line: one verb per question, one file each.
//!
//! Exit codes: 0 nothing to say against it, 1 findings, 2 wrong usage or an input or output that failed.

mod agent;
mod canary_probe;
mod catalogue;
mod check;
mod completions;
mod connectivity;
mod controller;
mod controls;
mod crds;
mod doctor;
mod dry_run;
mod encryption;
mod explain;
mod findings;
mod graph;
mod lease;
mod manifests;
mod off;
mod offboard;
mod on;
mod out;
mod plan;
mod proof;
mod quarantine;
mod ring;
mod snapshot;
mod status;
mod waiver;
mod webhook;
mod why;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use kube::Client;

use crate::cluster::client::{self, ConnectError};

/// Keeps AI training and AI inference apart in a Kubernetes cluster, and proves it.
#[derive(Debug, Parser)]
#[command(name = "cloison", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the cluster; the same flags as kubectl's.
#[derive(Clone, Debug, Default, Args)]
pub struct Connection {
    /// A kubeconfig file; otherwise KUBECONFIG, the home directory, or the pod's own account.
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
}

impl Connection {
    /// A client with the caller's own rights, and the namespace of the context.
    async fn client(&self) -> Result<(Client, String), ConnectError> {
        let config = client::configuration(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
        Ok((client::client(&config)?, config.default_namespace))
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is against manifests (-f) or the cluster: forbidden paths, flows that are cut, refusals.
    Check(check::Arguments),
    /// Show what would be written, cut and refused: for manifests (-f), or for what runs (-n, -A).
    Plan(plan::Arguments),
    /// Say why pods of an object do not come, or what of an AiWorkload is not True.
    Why(why::Arguments),
    /// Show every workload with what is proven about it, and how old the proofs are.
    Status(status::Arguments),
    /// Say what is enforced where, what stands in the way, and who could switch it off.
    Doctor(doctor::Arguments),
    /// Show which workloads can connect to which, in manifests (-f) or in the cluster.
    Connectivity(connectivity::Arguments),
    /// Say which rule of which policy allows a connection, or that none does.
    Explain(explain::Arguments),
    /// Draw who may talk to whom, and every hole that the analysis finds: of manifests (-f) or of the cluster.
    Graph(graph::Arguments),
    /// List the services that workloads may name in connectTo.
    Catalogue(catalogue::Arguments),
    /// List the controls, or show one in full.
    Controls(controls::Arguments),
    /// Cut a workload off from everything, itself included, and let it back in.
    Quarantine(quarantine::Arguments),
    /// Ask for a way round a control, approve what somebody else asked for, list what was asked for.
    Waiver(waiver::Arguments),
    /// Stop button: stop refusing, and with --scope all stop isolating. Works with the controller dead.
    Off(off::Arguments),
    /// Leave a cluster on purpose: take away what isolates and refuses, the denies first.
    Offboard(offboard::Arguments),
    /// Undo `off`: the controller puts everything back, the denies first.
    On(on::Arguments),
    /// Look after the sealed keys of the Secrets: approve a node, try the escrow, recover without an API server.
    Ring(ring::Arguments),
    /// Run the agent of a control-plane node, which holds the keys of the Secrets.
    Agent(agent::Arguments),
    /// See, prove and rewrite how Secrets are stored in etcd.
    Encryption(encryption::Arguments),
    /// Run the controller.
    Controller(controller::Arguments),
    /// Run the webhook, which judges for the API server what takes a look at other objects.
    Webhook(webhook::Arguments),
    /// What the pods of the packet canary run.
    #[command(hide = true)]
    CanaryProbe(canary_probe::Arguments),
    /// Print the CustomResourceDefinitions.
    Crds,
    /// Print the completion script of a shell.
    Completions(completions::Arguments),
}

/// Reads the command line; wrong usage ends the process with exit code 2.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command, under the name it was called by: a program `kubectl-cloison` is a plugin of kubectl.
fn command() -> clap::Command {
    let called = std::env::args_os().next().unwrap_or_default();
    let plugin = Path::new(&called).file_stem() == Some(OsStr::new("kubectl-cloison"));
    let command = Cli::command();
    if plugin {
        command.bin_name("kubectl cloison")
    } else {
        command
    }
}

/// Runs one subcommand.
pub async fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Check(arguments) => check::run(arguments).await,
        Command::Plan(arguments) => plan::run(arguments).await,
        Command::Why(arguments) => why::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Connectivity(arguments) => connectivity::run(arguments).await,
        Command::Explain(arguments) => explain::run(arguments).await,
        Command::Graph(arguments) => graph::run(arguments).await,
        Command::Catalogue(arguments) => catalogue::run(arguments).await,
        Command::Controls(arguments) => controls::run(&arguments),
        Command::Quarantine(arguments) => quarantine::run(arguments).await,
        Command::Waiver(arguments) => waiver::run(arguments).await,
        Command::Off(arguments) => off::run(arguments).await,
        Command::Offboard(arguments) => offboard::run(arguments).await,
        Command::On(arguments) => on::run(arguments).await,
        Command::Ring(arguments) => ring::run(arguments).await,
        Command::Agent(arguments) => agent::run(arguments).await,
        Command::Encryption(arguments) => encryption::run(arguments).await,
        Command::Controller(arguments) => controller::run(arguments).await,
        Command::Webhook(arguments) => webhook::run(arguments).await,
        Command::CanaryProbe(arguments) => canary_probe::run(arguments).await,
        Command::Crds => crds::run(),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cloison: {error}");
            ExitCode::from(2)
        }
    }
}

/// There is something to say against it.
const FINDINGS: u8 = 1;
/// Something could not be read.
const UNREADABLE: u8 = 2;

/// What makes a verb fail with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No connection to a cluster.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller could not run.
    #[error(transparent)]
    Run(#[from] crate::controller::RunError),
    /// The webhook could not run.
    #[error(transparent)]
    Webhook(#[from] crate::webhook::RunError),
    /// The agent could not run.
    #[error(transparent)]
    Agent(#[from] crate::agent::RunError),
    /// A request failed. `what` names the verb and the object.
    #[error("{what}: {source}")]
    Api {
        /// For instance `list namespaces`.
        what: String,
        /// What the API server answered.
        #[source]
        source: kube::Error,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The generated policies cannot be evaluated here.
    #[error(transparent)]
    Offline(#[from] crate::admission::OfflineError),
    /// Output failed.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// Names the request that failed.
    fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source }
    }
}

/// Whether the caller may not do it. What may not be read is said to be unknown, and the rest goes on.
fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Whether there is no such object, or no such kind.
fn absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
