//! `cloison encryption status`: what the controller says of the encryption of Secrets, and what to do next.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::jiff::Timestamp;

use super::{found, next, replicas, reports};
use crate::api::conditions;
use crate::api::encryption::{EncryptionMode, SecretEncryption};
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
    if settings.spec.mode == EncryptionMode::Manage {
        // Who may not read reports is not kept from the rest.
        match reports::all(&client).await {
            Ok(all) => text.push_str(&reports::said(&all, now)),
            Err(error) => {
                let _ = writeln!(
                    text,
                    "what the agents say cannot be told: {}",
                    out::clean(&error.to_string())
                );
            }
        }
    }
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
    let stored = |key: &str| {
        let values = status
            .values_per_key
            .iter()
            .filter(|values| values.key.0 == key && values.count > 0);
        let each: Vec<String> = values
            .map(|values| format!("{} {}", values.count, values.resource.0))
            .collect();
        if each.is_empty() {
            "-".to_owned()
        } else {
            each.join(", ")
        }
    };
    let keys = status.keys.iter().map(|key| {
        let days = now.duration_since(key.creation_time.0).as_hours() / 24;
        vec![
            key.name.0.clone(),
            format!("{:?}", key.state),
            format!("{days}d"),
            key.writes.to_string(),
            stored(&key.name.0),
        ]
    });
    // Plaintext, and what no key of the ring fits.
    let others: BTreeSet<&str> = status
        .values_per_key
        .iter()
        .map(|values| values.key.0.as_str())
        .collect();
    let ours = |name: &str| status.keys.iter().any(|key| key.name.0 == name);
    let others = others.into_iter().filter(|name| !ours(name) && stored(name) != "-");
    let others = others.map(|name| {
        let dash = || "-".to_owned();
        vec![name.to_owned(), dash(), dash(), dash(), stored(name)]
    });
    let rows = keys.chain(others).collect();
    let mut text = out::table(&["KEY", "STATE", "AGE", "WRITES", "STORED"], rows);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_told_by_key_and_resource_also_those_under_no_key() {
        let status: SecretEncryptionStatus = serde_json::from_value(json!({
            "step": "Sweep",
            "keys": [{"id": 1, "name": "k1", "state": "Write", "creationTime": "2026-01-01T00:00:00Z", "writes": 30}],
            "valuesPerKey": [
                {"resource": "secrets", "key": "k1", "count": 20},
                {"resource": "configmaps", "key": "k1", "count": 4},
                {"resource": "secrets", "key": "identity", "count": 3},
                {"resource": "secrets", "key": "k0", "count": 0},
            ],
            "blockedBy": ["Node/cp-1: it is not approved"],
        }))
        .unwrap();
        let said = rotation(&status, Step::Sweep, "2026-01-03T01:00:00Z".parse().unwrap());
        let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[1],
            ["k1", "Write", "2d", "30", "20", "secrets,", "4", "configmaps"]
        );
        assert_eq!(lines[2], ["identity", "-", "-", "-", "3", "secrets"]);
        assert!(!said.contains("k0"), "{said}");
        assert!(
            said.contains("step Sweep\nwaits: Node/cp-1: it is not approved\n"),
            "{said}"
        );
    }
}
