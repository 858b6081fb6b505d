//! `testbed up`: a control plane in the foreground, for the demo and for looking around.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloison_testbed::{ApiServerOptions, ControlPlane, Error, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A real Kubernetes control plane without a container engine.
#[derive(Parser)]
#[command(name = "testbed")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts etcd, API servers and a controller manager, and stops them at Ctrl-C or SIGTERM.
    Up {
        /// The number of replicas of the API server.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        api_servers: u8,
        /// Also writes the admin's kubeconfig to this file, and removes it at the end.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Verb::Up {
        api_servers,
        kubeconfig,
    } = Arguments::parse().command;
    match up(api_servers, kubeconfig).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn up(api_servers: u8, kubeconfig: Option<PathBuf>) -> Result<(), Error> {
    let listen = |kind| signal(kind).map_err(|error| Error::Usage(format!("signals: {error}")));
    // Before the start: a Ctrl-C in its middle must clean up too.
    let mut ends = [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?];
    let options = Options {
        api_servers: vec![ApiServerOptions::default(); usize::from(api_servers)],
        controller_manager: true,
        ..Options::default()
    };
    let plane = tokio::select! {
        plane = ControlPlane::start(options) => plane?,
        () = any(&mut ends) => return Ok(()),
    };
    let file = match kubeconfig {
        Some(path) => {
            plane.identity("admin", &["system:masters"])?.write_kubeconfig(&path)?;
            path
        }
        None => plane.admin_kubeconfig()?,
    };
    // Whoever started us may have closed the pipe; the plane is what matters.
    let _ = report(&plane, &file);
    any(&mut ends).await;
    drop(plane);
    // The one in the plane's own folder is gone with it; nothing answers at the other one's address any more.
    let _ = std::fs::remove_file(&file);
    Ok(())
}

fn report(plane: &ControlPlane, kubeconfig: &std::path::Path) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, id) in plane.processes() {
        let url = match name.strip_prefix("api-server-").and_then(|index| index.parse().ok()) {
            Some(index) => plane.api_server(index).url(),
            None if name == "etcd" => plane.etcd().url(),
            None => "",
        };
        let log = plane.logs_dir().join(format!("{name}.log"));
        writeln!(out, "{name:<20} pid {id:<8} {url:<28} {}", log.display())?;
    }
    writeln!(out, "export KUBECONFIG={}", kubeconfig.display())?;
    out.flush()
}

async fn any(signals: &mut [Signal; 2]) {
    let [interrupt, terminate] = signals;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
