//! `why aiworkload/NAME`: what is not True, and what to do about it.

use std::fmt::Write as _;
use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};

use crate::api::AiWorkload;
use crate::api::conditions::types;
use crate::api::workload::{AiWorkloadStatus, FlowDirection};
use crate::cli::lease::pulse;
use crate::cli::plan::state;
use crate::cli::status::row;
use crate::cli::{CliError, FINDINGS, out};

/// Reads its status and prints it; in the words of `status`, and with its exit code.
pub(super) async fn run(
    client: &Client,
    namespace: &str,
    name: &str,
    operator_namespace: &str,
) -> Result<ExitCode, CliError> {
    let workload = Api::<AiWorkload>::namespaced(client.clone(), namespace)
        .get(name)
        .await
        .map_err(CliError::api(format!("get AiWorkload {namespace}/{name}")))?;
    let now = Timestamp::now();
    let controller = pulse(client, operator_namespace, now).await?;
    let row = row(&workload);
    let status = workload.status.clone().unwrap_or_default();
    let mut text = format!("AiWorkload {namespace}/{name}\n{}\n", controller.message);
    if !row.is_current {
        let _ = writeln!(text, "{}; what follows is older", row.why);
    }
    let sections = [conditions(&status, now), flows(&status), findings(&status)];
    let sections: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    if sections.is_empty() && row.is_current {
        text.push_str("everything is True\n");
    }
    for section in sections {
        let _ = write!(text, "\n{section}");
    }
    out::print(&text)?;
    Ok(if row.is_ready(&controller) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

/// Those that are not True. Reconciling and Stalled are bad news when they are.
fn conditions(status: &AiWorkloadStatus, now: Timestamp) -> String {
    let news = |kind: &str, status: &str| match kind {
        types::RECONCILING | types::STALLED => status == "True",
        _ => status != "True",
    };
    let rows = status
        .conditions
        .iter()
        .filter(|c| news(&c.type_, &c.status))
        .map(|condition| out::condition(condition, now));
    out::table(&["CONDITION", "STATUS", "FOR", "REASON", "MESSAGE"], rows.collect())
}

fn flows(status: &AiWorkloadStatus) -> String {
    let rows = status.flows.iter().map(|flow| {
        let direction = match flow.direction {
            FlowDirection::Egress => "egress",
            FlowDirection::Ingress => "ingress",
        };
        let cells = [direction, &flow.name, state(flow.state), &flow.message];
        cells.map(str::to_owned).to_vec()
    });
    out::table(&["DIRECTION", "FLOW", "STATE", "MESSAGE"], rows.collect())
}

fn findings(status: &AiWorkloadStatus) -> String {
    let rows = status
        .findings
        .iter()
        .map(|finding| vec![finding.severity.clone(), finding.message.clone()]);
    out::table(&["SEVERITY", "FINDING"], rows.collect())
}
