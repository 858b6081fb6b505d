//! `cloison waiver list`: by the function that the controller and the policies use, at this moment, so that it is right with
//! the controller dead too.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::api::Waiver;
use crate::cli::plan::stored_policy;
use crate::cli::{CliError, Connection, FINDINGS, out};
use crate::compliance::waiver::{self, State};

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

fn row(waiver: &Waiver, max_days: i32, now: Timestamp) -> Vec<String> {
    let spec = &waiver.spec;
    let target = match &spec.target.workload {
        Some(workload) => format!("{}/{workload}", spec.target.namespace),
        None => spec.target.namespace.to_string(),
    };
    let state = match waiver::judge(waiver, max_days, now) {
        _ if waiver::is_overdue(waiver, now) => "WaiverOverdue".to_owned(),
        Err(why) => why.reason.to_owned(),
        Ok(()) => match waiver::state(waiver, max_days, now) {
            State::ExpiresSoon => format!("expires in {}", out::span(spec.expiration_time.0.duration_since(now))),
            state => state.as_str().to_owned(),
        },
    };
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
