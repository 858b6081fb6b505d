//! `cloison encryption rewrite`: the sweep by hand, for instance after a cloud provider rotated its key.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use tokio::sync::watch;

use super::{Bench, Reach, counts, interrupt, interrupted, obstacles, tell};
use crate::api::names;
use crate::cli::{CliError, FINDINGS, out};
use crate::cluster::api_servers::Error;
use crate::cluster::sweep::{self, Loan, PARALLEL, Settings, Work};
use crate::encryption::sweep::{Barrier, NoBarrier, Pass, Unclean};

/// The first rewrites and the second finds nothing left to do, unless others write at the same time.
const PASSES: usize = 3;

/// A provider outside: what it encrypts with is not in the prefix.
const KMS: &str = "k8s:enc:kms:";

/// Flags of `encryption rewrite`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

/// Passes until one finds nothing left to do, or something is in the way. Exit code 0 when a whole pass found nothing left
/// to do, also where the API servers hide what would prove it.
pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let mut bench = arguments.reach.open().await?;
    let before = look(&mut bench).await;
    if let Err(NoBarrier::Differs(why)) = &before {
        // What one API server writes and another cannot read breaks every list of Secrets there.
        out::print(&format!(
            "nothing was rewritten: {why}; give every API server the same EncryptionConfiguration first (`cloison encryption \
             verify` shows who differs)\n"
        ))?;
        return Ok(ExitCode::from(FINDINGS));
    }
    let loan = Loan::take(&bench.gathering.client, &bench.gathering.namespace, names::SWEEPER_ROLE);
    let loan = loan.await.map_err(|error| {
        CliError::Usage(format!(
            "the sweeper's role could not be lent: {error}; this verb needs the rights to bind ClusterRole {}, to write its \
             binding, and to ask for tokens of ServiceAccount {}/{}",
            names::SWEEPER_ROLE,
            bench.gathering.namespace,
            names::SWEEPER_ACCOUNT
        ))
    })?;
    let token = loan.token();
    let config = bench.config.clone();
    let work = async {
        let settings = Settings {
            work: Work::Rewrite,
            rate: bench.rate,
            client: sweep::client(&config, token)?,
            parallel: PARALLEL,
        };
        all(&mut bench, &settings, before).await
    };
    let (passes, ended) = loan.during(work, interrupt()).await;
    if let Err(error) = ended {
        eprintln!(
            "the sweeper's role was not taken back: {error}; do it with `kubectl delete clusterrolebinding {}`",
            names::SWEEPER_ROLE
        );
    }
    let passes = passes
        .ok_or_else(interrupted)?
        .map_err(|error| CliError::Usage(format!("the sweeper was not let in: {error}")))?;
    out::print(&told(&passes))?;
    let done = |pass: &Pass| matches!(pass.clean(), Ok(_) | Err(Unclean::BarrierUnseen(_)));
    Ok(if passes.last().is_some_and(done) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

async fn all(
    bench: &mut Bench,
    settings: &Settings,
    mut before: Result<Barrier, NoBarrier>,
) -> Result<Vec<Pass>, Error> {
    let progress = watch::Sender::default();
    let work = async {
        sweep::admitted(&settings.client).await?;
        let mut passes: Vec<Pass> = Vec::new();
        for _ in 0..PASSES {
            let (tally, stop) = sweep::pass(settings, &progress).await;
            let after = look(bench).await;
            let pass = Pass {
                tally,
                stop,
                before,
                after: after.clone(),
            };
            before = after;
            // Rewritten values want a second look; everything else stays as it is.
            let again = matches!(pass.clean(), Err(Unclean::Rewritten(_)));
            passes.push(pass);
            if !again {
                break;
            }
        }
        Ok(passes)
    };
    tokio::select! {
        passes = work => passes,
        never = tell(progress.subscribe()) => match never {},
    }
}

async fn look(bench: &mut Bench) -> Result<Barrier, NoBarrier> {
    match bench.observer.look().await {
        Ok(seen) => Barrier::of(&seen),
        Err(error) => Err(NoBarrier::Unseen(error.to_string())),
    }
}

fn told(passes: &[Pass]) -> String {
    let mut text = String::new();
    for (number, pass) in passes.iter().enumerate() {
        let _ = writeln!(text, "pass {}: {}", number + 1, counts(&pass.tally));
    }
    let Some(last) = passes.last() else { return text };
    text.push_str(&obstacles(&last.tally));
    let _ = match last.clean() {
        Ok(barrier) => writeln!(
            text,
            "every Secret is stored under {}, which all API servers ({}) write with{}",
            barrier.writes(),
            barrier.replicas(),
            if barrier.writes().starts_with(KMS) {
                "; which of the provider's own keys that is, is not seen"
            } else {
                ""
            }
        ),
        Err(why) => writeln!(text, "not proven: {why}"),
    };
    text
}
