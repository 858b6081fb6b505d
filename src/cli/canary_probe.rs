//! `cloison canary-probe`: what the two pods of the packet canary run. Not for people, and so not in the help.
//!
//! The server sends back what it is sent, on all three ports. The client tries the three flows until packets obey, or until
//! it gives up: a network plugin may take seconds to program a pod that has just begun.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use futures::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::CliError;
use crate::network::enforcement::{ALLOWED, Answer, Flows, WITHOUT_EGRESS, WITHOUT_INGRESS};

/// How long the client tries. Enforcement that takes longer is none: a pod would have done its harm.
const GIVES_UP: Duration = Duration::from_secs(30);
/// How long one connection may take, there and back.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// What is sent and must come back.
const WORD: &[u8; 8] = b"cloison\n";

/// Flags of the probe.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Answer until the pod is removed.
    Serve,
    /// Try the three flows to every address of the server, and write down what came of them.
    Try {
        /// Where the answer is written.
        #[arg(long)]
        answer: PathBuf,
        /// The addresses of the server.
        #[arg(required = true)]
        addresses: Vec<IpAddr>,
    },
}

/// Serves, or tries.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    match arguments.role {
        Role::Serve => serve().await?,
        Role::Try { answer, addresses } => {
            let found = serde_json::to_vec(&tried(&addresses).await).map_err(io::Error::other)?;
            tokio::fs::write(answer, found).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All ports or none: a port that nobody listens on would look like one that is closed.
async fn serve() -> io::Result<()> {
    let mut listeners = Vec::new();
    for port in [ALLOWED, WITHOUT_INGRESS, WITHOUT_EGRESS] {
        listeners.push(listen(port).await?);
    }
    join_all(listeners.into_iter().map(echo)).await;
    Ok(())
}

/// In both families; a kernel without IPv6 has the other alone.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

async fn echo(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        tokio::spawn(timeout(PATIENCE * 2, async move {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        }));
    }
}

async fn tried(addresses: &[IpAddr]) -> Answer {
    let start = Instant::now();
    loop {
        let flows = join_all(addresses.iter().map(|address| round(*address))).await;
        let elapsed = start.elapsed();
        if flows.iter().all(Flows::obey) || elapsed > GIVES_UP {
            let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            return Answer { milliseconds, flows };
        }
        sleep(PAUSE).await;
    }
}

/// The allowed flow before and after the forbidden ones: the server was there while they were tried.
async fn round(address: IpAddr) -> Flows {
    let before = passes(address, ALLOWED).await;
    let (without_ingress, without_egress) =
        tokio::join!(passes(address, WITHOUT_INGRESS), passes(address, WITHOUT_EGRESS));
    Flows {
        address,
        allowed: before && passes(address, ALLOWED).await,
        without_ingress,
        without_egress,
    }
}

/// Whether a word comes back. A connection that is opened and says nothing may be somebody's in between.
async fn passes(address: IpAddr, port: u16) -> bool {
    let sent = async {
        let mut stream = TcpStream::connect(SocketAddr::from((address, port))).await?;
        stream.write_all(WORD).await?;
        let mut back = [0; WORD.len()];
        stream.read_exact(&mut back).await?;
        io::Result::Ok(&back == WORD)
    };
    matches!(timeout(PATIENCE, sent).await, Ok(Ok(true)))
}
