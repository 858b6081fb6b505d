//! `cloison encryption`: how Secrets are stored in etcd; looked at, proven, rewritten.

mod next;
mod rewrite;
mod status;
mod verify;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{CliError, Connection, absent, out};
use crate::api::encryption::SecretEncryptionSpec;
use crate::api::encryption_status::ReplicaStatus;
use crate::api::{SecretEncryption, names};
use crate::cluster::client;
use crate::controller::evidence::Gathering;
use crate::controller::evidence::encryption::{EncryptionSettings, Observer};
use crate::encryption::sweep::Tally;

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(2);

/// Flags of `encryption`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what is known of each API server, what is against it, and what to do next.
    Status(status::Arguments),
    /// Prove now, with a canary Secret and a read of every Secret's metadata; what is not shown is Unknown.
    Verify(verify::Arguments),
    /// Rewrite every Secret under the key that API servers write with, without receiving one: after a key rotation.
    Rewrite(rewrite::Arguments),
}

/// Runs one verb.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    match arguments.verb {
        Verb::Status(arguments) => status::run(arguments).await,
        Verb::Verify(arguments) => Box::pin(verify::run(arguments)).await,
        Verb::Rewrite(arguments) => Box::pin(rewrite::run(arguments)).await,
    }
}

/// Flags of the verbs that talk to every API server.
#[derive(Debug, Args)]
struct Reach {
    /// Requests a second; otherwise SecretEncryption.spec.sweep.maxRequestsPerSecond.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: Option<u32>,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// What those verbs work with.
struct Bench {
    config: Config,
    gathering: Gathering,
    observer: Observer,
    rate: u32,
}

impl Reach {
    async fn open(self) -> Result<Bench, CliError> {
        let Connection { kubeconfig, context } = self.connection;
        let config = client::configuration(kubeconfig.as_deref(), context.as_deref()).await?;
        let client = client::client(&config)?;
        let spec = match found(&client).await? {
            Some(found) => found.spec,
            None => SecretEncryptionSpec::default(),
        };
        let settings = EncryptionSettings::from(&spec);
        let gathering = Gathering {
            client,
            config: config.clone(),
            namespace: self.operator_namespace,
            evidence: std::sync::Arc::default(),
        };
        let asked = u32::try_from(spec.sweep.max_requests_per_second).unwrap_or(1);
        Ok(Bench {
            config,
            observer: Observer::new(gathering.clone(), settings),
            gathering,
            rate: self.rate.unwrap_or(asked),
        })
    }
}

/// The settings, where there are any. A cluster without the definition has none.
async fn found(client: &Client) -> Result<Option<SecretEncryption>, CliError> {
    let all: Api<SecretEncryption> = Api::all(client.clone());
    match all.get(names::SINGLETON).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if absent(&error) => Ok(None),
        Err(error) => Err(CliError::api("get SecretEncryption default")(error)),
    }
}

/// Comes when the person at the keyboard has had enough: the sweeper's role is to be taken back then, too.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn interrupted() -> CliError {
    CliError::Usage("interrupted; what was done stays done, and the same command goes on with the rest".to_owned())
}

/// Tells on standard error how far it is, for as long as it takes.
async fn tell(progress: watch::Receiver<Tally>) -> std::convert::Infallible {
    loop {
        sleep(PROGRESS).await;
        let tally = progress.borrow().clone();
        if tally.listed == 0 {
            eprintln!("listing Secrets");
        } else {
            eprintln!("{} of {}: {}", tally.settled(), tally.listed, counts(&tally));
        }
    }
}

/// The API servers, each with its file and the prefix it writes under.
fn replicas(all: &[ReplicaStatus]) -> String {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let rows = all.iter().map(|replica| {
        vec![
            replica.identity.clone(),
            dash(&replica.address),
            dash(&replica.configuration_hash),
            dash(&replica.writes),
        ]
    });
    out::table(&["API SERVER", "ADDRESS", "CONFIGURATION", "WRITES"], rows.collect())
}

/// `3 rewritten, 39 current, 1 blocked`.
fn counts(tally: &Tally) -> String {
    format!(
        "{} rewritten, {} current, {} gone, {} blocked",
        tally.rewritten,
        tally.current,
        tally.gone,
        tally.all_blocked()
    )
}

/// Every Secret that is known by name, with its fix, and how many more there are.
fn obstacles(tally: &Tally) -> String {
    let mut text = String::new();
    for found in &tally.named {
        let (name, fix) = (out::clean(&found.to_string()), found.obstacle.fix());
        let _ = writeln!(text, "    {name}; {fix}");
    }
    let more = tally.all_blocked().saturating_sub(tally.named.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "    and {more} more");
    }
    if let Some(first) = tally.copies.first() {
        let _ = writeln!(
            text,
            "{} with the annotation in which `kubectl apply` keeps a copy of the data, for whoever reads metadata: {} first; \
             take it off with `kubectl annotate secret -n NAMESPACE NAME \
             kubectl.kubernetes.io/last-applied-configuration-`, and write with `kubectl apply --server-side`",
            out::count(usize::try_from(tally.copied).unwrap_or(usize::MAX), "Secret"),
            out::clean(first)
        );
    }
    text
}
