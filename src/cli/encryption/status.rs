//! `cloison encryption status`: what the controller says of the encryption of Secrets, and what to do next.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::jiff::Timestamp;

use super::{found, next, replicas};
use crate::api::conditions;
use crate::api::encryption::SecretEncryption;
use crate::api::encryption_status::{SecretEncryptionStatus, Step};
use crate::api::names;
use crate::cli::{CliError, Connection, FINDINGS, lease, out};
use crate::cluster::sweep::{self, Lent};

/// Flags of `encryption status`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// Exit code 0 while Secrets are proven to be encrypted and a controller looks after it.
pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let now = Timestamp::now();
    let pulse = lease::pulse(&client, &arguments.operator_namespace, now).await?;
    let mut text = format!("{}\n", out::clean(&pulse.message));
    let Some(settings) = found(&client).await? else {
        text.push_str("there is no SecretEncryption `default`: the proof of new Secrets is in `cloison status`\n");
        let _ = writeln!(text, "next: {}", next::WITHOUT_SETTINGS);
        out::print(&text)?;
        return Ok(ExitCode::from(FINDINGS));
    };
    text.push_str(&described(&settings, now));
    // Who may not read bindings is not kept from the rest.
    let lent = sweep::lent(&client).await.unwrap_or_default();
    lent.iter().for_each(|lent| text.push_str(&running(lent, now)));
    let _ = writeln!(text, "next: {}", out::clean(&next::next(&settings)));
    out::print(&text)?;
    let conditions = settings.status.unwrap_or_default().conditions;
    let encrypted = conditions::find(&conditions, "Encrypted").is_some_and(|found| found.status == "True");
    let well = encrypted && pulse.stale == Some(false);
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn described(settings: &SecretEncryption, now: Timestamp) -> String {
    let status = settings.status.clone().unwrap_or_default();
    let mut text = format!("mode {:?}, proof {:?}", settings.spec.mode, settings.spec.proof);
    if settings.spec.suspend {
        text.push_str(", suspended");
    }
    if status.observed_generation != settings.metadata.generation {
        text.push_str("; the controller has not seen the last change of it yet");
    }
    text.push_str("\n\n");
    let rows = status.conditions.iter().map(|condition| out::condition(condition, now));
    text.push_str(&out::table(
        &["CONDITION", "STATUS", "FOR", "REASON", "MESSAGE"],
        rows.collect(),
    ));
    let _ = writeln!(text, "\n{}", replicas(&status.replicas));
    if let Some(step) = status.step {
        text.push_str(&rotation(&status, step, now));
    }
    text
}

/// The keys, what is stored under each, and what a rotation waits for.
fn rotation(status: &SecretEncryptionStatus, step: Step, now: Timestamp) -> String {
    let rows = status.keys.iter().map(|key| {
        let values = status.values_per_key.iter().filter(|values| values.key == key.name);
        let days = now.duration_since(key.creation_time.0).as_hours() / 24;
        vec![
            key.name.0.clone(),
            format!("{:?}", key.state),
            format!("{days}d"),
            key.writes.to_string(),
            values.map(|values| values.count).sum::<i64>().to_string(),
        ]
    });
    let mut text = out::table(&["KEY", "STATE", "AGE", "WRITES", "STORED"], rows.collect());
    let _ = writeln!(text, "\nstep {step:?}");
    for blocked in &status.blocked_by {
        let _ = writeln!(text, "waits: {}", out::clean(&blocked.0));
    }
    text
}

fn running(lent: &Lent, now: Timestamp) -> String {
    let what = if lent.role == names::SWEEPER_ROLE {
        "rewritten"
    } else {
        "read"
    };
    match lent.until {
        Some(until) if until > now => format!(
            "Secrets are being {what}: ClusterRole {} is lent until {until}\n",
            lent.role
        ),
        _ => format!(
            "ClusterRole {} is still lent after a run that was killed; a running controller takes it back, or: kubectl delete \
             clusterrolebinding {}\n",
            lent.role, lent.role
        ),
    }
}
