//! `cloison encryption rotate`: asks for a new key. By an annotation, so that GitOps, which owns the rest, sees no drift.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{PROGRESS, found};
use crate::api::encryption::EncryptionMode;
use crate::api::encryption_status::{KeyState, SecretEncryptionStatus, Step};
use crate::api::key_ring::EncryptionKeyRing;
use crate::api::{SecretEncryption, names};
use crate::cli::{CliError, Connection, FINDINGS, out};
use crate::encryption::rotation::told;

/// Flags of `encryption rotate`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Wait until everything is under the new key, for so many minutes at most; 60 without a number.
    #[arg(long, value_name = "MINUTES", num_args = 0..=1, require_equals = true, default_missing_value = "60",
        value_parser = clap::value_parser!(u32).range(1..=10_080))]
    wait: Option<u32>,
    #[command(flatten)]
    connection: Connection,
}

/// Exit code 0 when it is asked for; with `--wait`, when everything is under the new key.
pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let settings = found(&client).await?;
    let settings = match refusal(settings) {
        Ok(settings) => settings,
        Err(why) => {
            out::print(&format!("nothing rotates: {why}\n"))?;
            return Ok(ExitCode::from(FINDINGS));
        }
    };
    let request = Timestamp::now().strftime("%FT%TZ").to_string();
    let change = json!({"metadata": {
        "uid": settings.metadata.uid,
        "annotations": {names::ROTATION_ANNOTATION: request},
    }});
    let all: Api<SecretEncryption> = Api::all(client.clone());
    let changed = all
        .patch(names::SINGLETON, &PatchParams::default(), &Patch::Merge(change))
        .await;
    changed.map_err(CliError::api("annotate SecretEncryption default"))?;
    let status = settings.status.unwrap_or_default();
    out::print(&announced(&status, &request))?;
    match arguments.wait {
        None => Ok(ExitCode::SUCCESS),
        Some(minutes) => wait(&client, &request, minutes).await,
    }
}

/// Why asking would be of no use.
fn refusal(settings: Option<SecretEncryption>) -> Result<SecretEncryption, &'static str> {
    let settings = settings.ok_or(
        "there is no SecretEncryption `default`, so no key of Cloison encrypts anything; create it with `spec.mode: Manage`",
    )?;
    if settings.spec.mode == EncryptionMode::Observe {
        return Err(
            "SecretEncryption `default` is in mode Observe: its keys are somebody else's; set `spec.mode: Manage`, or rotate \
             where the keys are and then run `cloison encryption rewrite`",
        );
    }
    if settings.spec.suspend {
        return Err(
            "SecretEncryption `default` has `spec.suspend: true`, so no step is taken; first: kubectl patch secretencryption \
             default --type=merge -p '{\"spec\":{\"suspend\":false}}'",
        );
    }
    Ok(settings)
}

/// What will happen now.
fn announced(status: &SecretEncryptionStatus, request: &str) -> String {
    let what = match status.step {
        None => "the controller has not told yet where the keys stand, and takes it up when it runs".to_owned(),
        Some(Step::Idle) => {
            "a new key is made and sealed, every API server learns to read it and then writes it, every value is rewritten, \
             etcd is read to see that none is left, and the old key is retired; every value stays readable"
                .to_owned()
        }
        Some(step @ (Step::Mint | Step::Read)) => format!(
            "a rotation is on its way (step {}) and nothing is written under its key yet: a newer key takes its place",
            told::step(step)
        ),
        Some(step) => format!(
            "a rotation is on its way (step {}) and is finished first; then this one begins",
            told::step(step)
        ),
    };
    let mut text = format!("asked for a rotation at {request}: {what}\n");
    for blocked in &status.blocked_by {
        let _ = writeln!(text, "waits: {}", out::clean(&blocked.0));
    }
    if let Some(next) = &status.next_command {
        let _ = writeln!(text, "next: {}", out::clean(&next.0));
    }
    text.push_str("follow it with: cloison encryption status\n");
    text
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// One line.
    Goes(String),
    /// Everything is under this key.
    Done(String),
    /// It will not come: why.
    Lost(String),
}

fn progress(settings: &SecretEncryption, ring: Option<&EncryptionKeyRing>, request: &str) -> Progress {
    let status = settings.status.clone().unwrap_or_default();
    let key = ring.and_then(|ring| {
        let mut keys = ring.spec.keys.iter();
        keys.find(|key| key.request.as_ref().is_some_and(|made| made.0 == request))
    });
    let annotations = settings.metadata.annotations.as_ref();
    let asked = annotations.and_then(|all| all.get(names::ROTATION_ANNOTATION));
    if key.is_none() && asked.map(String::as_str) != Some(request) {
        return Progress::Lost("another request took its place before a key was made".to_owned());
    }
    if let Err(why) = refusal(Some(settings.clone())) {
        return Progress::Lost(why.to_owned());
    }
    let state = key.and_then(|key| Some((key, status.keys.iter().find(|known| known.id == key.id)?.state)));
    match state {
        Some((key, KeyState::Write)) if status.step == Some(Step::Idle) => return Progress::Done(key.name.0.clone()),
        Some((key, KeyState::Retired | KeyState::Destroyed)) => {
            return Progress::Lost(format!("{} was replaced by a newer key", key.name.0));
        }
        _ => {}
    }
    let mut line = match (key, status.step) {
        (_, None) => "the controller has not told yet where the keys stand".to_owned(),
        (None, Some(Step::Idle)) => "no key is made yet".to_owned(),
        (None, Some(step)) => format!("no key is made yet; step {}", told::step(step)),
        (Some(key), Some(step)) => format!("{}: step {}", key.name.0, told::step(step)),
    };
    if let Some(first) = status.blocked_by.first() {
        let _ = write!(line, "; waits: {}", first.0);
    }
    Progress::Goes(line)
}

async fn wait(client: &Client, request: &str, minutes: u32) -> Result<ExitCode, CliError> {
    let deadline = Instant::now() + Duration::from_secs(u64::from(minutes) * 60);
    let rings: Api<EncryptionKeyRing> = Api::all(client.clone());
    let mut told = String::new();
    loop {
        // Whoever rotates restarts API servers now and then: what cannot be read is asked again.
        let line = match (found(client).await, rings.get_opt(names::SINGLETON).await) {
            (Ok(None), _) => return ended("SecretEncryption `default` is gone"),
            (Ok(Some(settings)), Ok(ring)) => match progress(&settings, ring.as_ref(), request) {
                Progress::Goes(line) => line,
                Progress::Lost(why) => return ended(&why),
                Progress::Done(key) => {
                    out::print(&format!("done: everything is under {key}\n"))?;
                    return Ok(ExitCode::SUCCESS);
                }
            },
            (Err(error), _) => error.to_string(),
            (_, Err(error)) => format!("get EncryptionKeyRing default: {error}"),
        };
        if line != told {
            eprintln!("{}", out::clean(&line));
            told = line;
        }
        if Instant::now() >= deadline {
            return ended(&format!(
                "it did not end within {minutes} min ({told}); it goes on by itself, see `cloison encryption status`"
            ));
        }
        sleep(PROGRESS).await;
    }
}

fn ended(why: &str) -> Result<ExitCode, CliError> {
    out::print(&format!("not done: {}\n", out::clean(why)))?;
    Ok(ExitCode::from(FINDINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "2026-01-02T03:04:05Z";

    fn settings(spec: &serde_json::Value, status: &serde_json::Value, asked: &str) -> SecretEncryption {
        serde_json::from_value(json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "SecretEncryption",
            "metadata": {"name": "default", "annotations": {names::ROTATION_ANNOTATION: asked}},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn managed(status: &serde_json::Value, asked: &str) -> SecretEncryption {
        settings(
            &json!({"mode": "Manage", "escrow": {"requirement": "Waived"}}),
            status,
            asked,
        )
    }

    #[test]
    fn what_would_be_of_no_use_is_refused_with_the_fix() {
        let waived = json!({"requirement": "Waived"});
        let none = json!({});
        for (found, word) in [
            (None, "there is no SecretEncryption"),
            (Some(settings(&json!({}), &none, "")), "mode Observe"),
            (
                Some(settings(
                    &json!({"mode": "Manage", "suspend": true, "escrow": waived}),
                    &none,
                    "",
                )),
                "kubectl patch secretencryption default",
            ),
        ] {
            let why = refusal(found).unwrap_err();
            assert!(why.contains(word) && !why.contains('\n'), "{why}");
        }
        assert!(refusal(Some(managed(&none, ""))).is_ok());
    }

    #[test]
    fn it_says_whether_it_begins_replaces_or_queues() {
        for (step, word) in [
            (json!(null), "takes it up when it runs"),
            (json!("Idle"), "every value stays readable"),
            (json!("Read"), "a newer key takes its place"),
            (json!("Sweep"), "is finished first; then this one begins"),
        ] {
            let status = serde_json::from_value(json!({"step": step, "blockedBy": ["Node/x is down"]})).unwrap();
            let said = announced(&status, REQUEST);
            assert!(
                said.contains(word) && said.contains("waits: Node/x is down\n"),
                "{said}"
            );
        }
    }

    #[test]
    fn it_waits_for_its_own_key_to_hold_everything() {
        let ring = |request: &str| -> EncryptionKeyRing {
            serde_json::from_value(json!({
                "apiVersion": "cloison.dev/v1alpha1", "kind": "EncryptionKeyRing", "metadata": {"name": "default"},
                "spec": {"lastID": 2, "members": [], "escrow": [], "keys": [{
                    "id": 2, "name": "k2", "provider": "AESGCM", "origin": "Minted", "request": request,
                    "creationTime": REQUEST, "commitment": "sha256:00", "wraps": [],
                }]},
            }))
            .unwrap()
        };
        let status = |step: &str, state: &str| json!({"step": step, "keys": [{"id": 2, "name": "k2", "state": state, "creationTime": REQUEST, "writes": 0}]});
        let of = |status: &serde_json::Value, asked: &str, made: &str| {
            progress(&managed(status, asked), Some(&ring(made)), REQUEST)
        };
        let goes = |line: &str| Progress::Goes(line.to_owned());
        // The key before it, and everything under that one: not what was asked for.
        assert_eq!(
            of(&status("Idle", "Write"), REQUEST, "before"),
            goes("no key is made yet")
        );
        assert_eq!(of(&status("Sweep", "Write"), REQUEST, REQUEST), goes("k2: step Sweep"));
        assert_eq!(
            of(&status("Idle", "Write"), REQUEST, REQUEST),
            Progress::Done("k2".to_owned())
        );
        assert_eq!(
            of(&status("Idle", "Write"), "later", REQUEST),
            Progress::Done("k2".to_owned())
        );
        for lost in [
            of(&status("Idle", "Write"), "later", "before"),
            of(&status("Idle", "Retired"), REQUEST, REQUEST),
        ] {
            assert!(matches!(lost, Progress::Lost(_)), "{lost:?}");
        }
    }
}
