//! `cloison encryption verify`: the proof, now, with what was seen.

use std::process::ExitCode;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::{Bench, Reach, interrupt, interrupted, obstacles, replicas, tell};
use crate::api::conditions::Truth;
use crate::cli::{CliError, FINDINGS, out};
use crate::controller::evidence::reads;
use crate::encryption::sweep::{Barrier, NoBarrier, Reads, Tally, unread};
use crate::encryption::{EncryptionProof, Observation, judge};

/// Flags of `encryption verify`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Prove new Secrets alone: write the canary, read nothing.
    #[arg(long)]
    writes_only: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Exit code 0 when everything that was asked for is proven.
pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let mut bench = arguments.reach.open().await?;
    let looked = bench.observer.look().await;
    let now = || Time(Timestamp::now());
    let (seen, new) = match looked {
        Ok(seen) => {
            let proof = judge(&seen, &now());
            (seen, proof)
        }
        Err(error) => (
            Observation::default(),
            EncryptionProof::unreadable(error.to_string(), &now()),
        ),
    };
    let mut text = replicas(&new.replicas);
    text.push_str(&line("new Secrets", new.truth, new.reason, &new.message));
    let mut proven = new.truth == Truth::True;
    if !arguments.writes_only {
        let (stored, tally) = stored(&mut bench, &seen).await?;
        text.push_str(&line("stored Secrets", stored.truth, stored.reason, &stored.message));
        let rows = stored
            .decrypted
            .iter()
            .map(|(prefix, times)| vec![times.to_string(), prefix.clone()]);
        text.push_str(&obstacles(&tally));
        text.push_str(&out::table(&["DECRYPTED", "WITH"], rows.collect()));
        proven &= stored.truth == Truth::True;
    }
    if let Some(degraded) = &new.degraded {
        text.push_str(&line("Degraded", Truth::True, "UnreadableValues", degraded));
    }
    out::print(&text)?;
    Ok(if proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

async fn stored(bench: &mut Bench, seen: &Observation) -> Result<(Reads, Tally), CliError> {
    let before = match Barrier::of(seen) {
        Ok(before) => before,
        Err(why) => {
            let why = format!("nothing was read, because it would prove nothing: {why}");
            return Ok((unread(&why), Tally::default()));
        }
    };
    let Bench {
        gathering,
        observer,
        rate,
        ..
    } = bench;
    let progress = watch::Sender::default();
    let after = async || {
        let seen = observer.look().await;
        Barrier::of(&seen.map_err(|error| NoBarrier::Unseen(error.to_string()))?)
    };
    let proof = tokio::select! {
        proof = reads::prove(gathering, seen, before, *rate, &progress, interrupt(), after) => proof,
        never = tell(progress.subscribe()) => match never {},
    };
    let proof = proof.ok_or_else(interrupted)?;
    Ok((proof.reads, progress.borrow().clone()))
}

fn line(what: &str, truth: Truth, reason: &str, message: &str) -> String {
    format!("{what}: {} ({reason}): {}\n", truth.as_str(), out::clean(message))
}
