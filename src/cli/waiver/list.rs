//! `cloison waiver list`: by the function that the controller and the policies use, at this moment, so that what is over or
//! not approved is told with the controller dead too. Whether one that holds is in force only the controller has seen: that is
//! read from its condition.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::admission::effect;
use crate::api::Waiver;
use crate::api::conditions::{find, types};
use crate::cli::plan::stored_policy;
use crate::cli::{CliError, Connection, FINDINGS, out};
use crate::compliance::waiver::{self, Effect, State};

/// Flags of `waiver list`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Of one namespace only.
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Prints the table; exit code 1 where a flow is open past the end of its Waiver.
pub(super) async fn run(connection: &Connection, arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = connection.client().await?;
    let mut notes = Vec::new();
    let max_days = stored_policy(&client, &mut notes).await?.waivers.max_days;
    let listed = Api::<Waiver>::all(client).list(&ListParams::default()).await;
    let mut waivers = listed.map_err(CliError::api("list Waivers"))?.items;
    waivers.retain(|waiver| about(waiver, arguments.namespace.as_deref()));
    waivers.sort_by_key(|waiver| (waiver.spec.expiration_time.0, waiver.name_any()));
    let now = Timestamp::now();
    let rows = waivers.iter().map(|waiver| row(waiver, max_days, now)).collect();
    let header = [
        "NAME",
        "FOR",
        "CONTROLS",
        "STATE",
        "UNTIL",
        "REQUESTED BY",
        "APPROVED BY",
        "REASON",
    ];
    let table = out::table(&header, rows);
    let mut text = if table.is_empty() {
        "no Waiver\n".to_owned()
    } else {
        table
    };
    let overdue: Vec<String> = waivers
        .iter()
        .filter(|it| waiver::is_overdue(it, now))
        .map(ResourceExt::name_any)
        .collect();
    if !overdue.is_empty() {
        let _ = writeln!(
            text,
            "\nWaiverOverdue: {}: the time is over and no controller has closed the flow; see kubectl cloison status",
            overdue.join(", ")
        );
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    out::print(&text)?;
    Ok(if overdue.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

/// Whether it lets something of a namespace through.
fn about(waiver: &Waiver, namespace: Option<&str>) -> bool {
    let Some(namespace) = namespace else { return true };
    let flow = waiver.spec.flow.iter().flat_map(|flow| [&flow.from, &flow.to]);
    *waiver.spec.target.namespace == *namespace || flow.into_iter().any(|end| *end.namespace == *namespace)
}

/// How it stands, in a few words.
fn state(waiver: &Waiver, max_days: i32, now: Timestamp) -> String {
    if waiver::is_overdue(waiver, now) {
        return "WaiverOverdue".to_owned();
    }
    if let Err(why) = waiver::judge(waiver, max_days, now) {
        return why.reason.to_owned();
    }
    let effect = effect(waiver);
    if let Effect::Nothing(reason, _) = effect {
        return reason.to_owned();
    }
    match told(waiver) {
        Some(active) if active.status == "True" => {}
        Some(active) if waiver::CLOSED.contains(&&*active.reason) => return active.reason.clone(),
        // The word of a moment before it was approved is no word on this.
        _ => return "approved, not seen in force yet".to_owned(),
    }
    let state = match waiver::state(waiver, max_days, now) {
        State::ExpiresSoon => {
            let left = waiver.spec.expiration_time.0.duration_since(now);
            format!("expires in {}", out::span(left))
        }
        state => state.as_str().to_owned(),
    };
    match effect {
        Effect::Part(_) => format!("{state}, in part"),
        _ => state,
    }
}

/// The controller's word on this very generation.
fn told(waiver: &Waiver) -> Option<&Condition> {
    let active = find(&waiver.status.as_ref()?.conditions, types::ACTIVE)?;
    (active.observed_generation == waiver.metadata.generation).then_some(active)
}

fn row(waiver: &Waiver, max_days: i32, now: Timestamp) -> Vec<String> {
    let spec = &waiver.spec;
    let target = match &spec.target.workload {
        Some(workload) => format!("{}/{workload}", spec.target.namespace),
        None => spec.target.namespace.to_string(),
    };
    let state = state(waiver, max_days, now);
    let approval = waiver.status.as_ref().and_then(|status| status.approval.as_ref());
    let controls: Vec<&str> = spec.controls.iter().map(|id| &**id).collect();
    vec![
        waiver.name_any(),
        target,
        controls.join(" "),
        state,
        spec.expiration_time.0.to_string(),
        spec.requested_by.to_string(),
        approval.map_or_else(|| "-".to_owned(), |approval| approval.by.to_string()),
        spec.reason.clone(),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is said of an approved one, with the controller's word on it.
    fn said(controls: &Value, active: &Value) -> String {
        let object = json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "Waiver",
            "metadata": {"name": "w", "generation": 1, "creationTimestamp": "2030-01-01T00:00:00Z"},
            "spec": {
                "target": {"namespace": "train"}, "controls": controls, "reason": "NCCL of this driver needs it",
                "requestedBy": "alice", "expirationTime": "2030-01-09T00:00:00Z",
            },
            "status": {
                "approval": {"by": "bob", "time": "2030-01-01T01:00:00Z", "generation": 1},
                "conditions": [active],
            },
        });
        state(
            &serde_json::from_value(object).unwrap(),
            90,
            "2030-01-02T00:00:00Z".parse().unwrap(),
        )
    }

    fn active(status: &str, reason: &str, generation: i64) -> Value {
        json!({"type": "Active", "status": status, "reason": reason, "message": "", "observedGeneration": generation,
               "lastTransitionTime": "2030-01-01T01:00:00Z"})
    }

    #[test]
    fn it_is_not_called_active_where_its_condition_says_that_it_opens_nothing() {
        let heard = json!(["WKL-01/host-ipc"]);
        assert_eq!(said(&heard, &active("True", "Active", 1)), "Active");
        for reason in ["NoRoom", "FlowClosed"] {
            assert_eq!(said(&heard, &active("False", reason, 1)), reason);
        }
        for older in [active("False", "NotApproved", 1), active("True", "Active", 0)] {
            assert_eq!(said(&heard, &older), "approved, not seen in force yet");
        }
        let deaf = json!(["WKL-06/exec"]);
        assert_eq!(said(&deaf, &active("True", "Active", 1)), "NoEffect");
        let both = json!(["WKL-01/host-ipc", "WKL-06/exec"]);
        assert_eq!(said(&both, &active("True", "Active", 1)), "Active, in part");
    }
}
