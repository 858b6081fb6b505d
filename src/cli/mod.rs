//! The command line: one verb per question, one file each.
//!
//! Exit codes: 0 nothing to say against it, 1 findings, 2 wrong usage or an input or output that failed.

mod controller;
mod crds;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller.
    Controller(controller::Arguments),
    /// Print the CustomResourceDefinitions.
    Crds,
}

/// Runs one subcommand.
pub async fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Controller(arguments) => controller::run(arguments).await,
        Command::Crds => crds::run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cloison: {error}");
            ExitCode::from(2)
        }
    }
}

/// What makes a verb fail with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// No connection to a cluster.
    #[error(transparent)]
    Connect(#[from] crate::cluster::client::ConnectError),
    /// The controller could not run.
    #[error(transparent)]
    Run(#[from] crate::controller::RunError),
    /// Output failed, for instance a closed pipe.
    #[error("output: {0}")]
    Output(#[from] std::io::Error),
}
