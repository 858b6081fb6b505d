//! `why aiworkload/NAME`: what is not True, and what to do about it.

use std::fmt::Write as _;
use std::process::ExitCode;

use kube::{Api, Client};

use crate::api::AiWorkload;
use crate::api::conditions::{find, types};
use crate::api::workload::{AiWorkloadStatus, FlowDirection, FlowState};
use crate::cli::plan::state;
use crate::cli::{CliError, FINDINGS, out};

/// Reads its status and prints it.
pub(super) async fn run(client: &Client, namespace: &str, name: &str) -> Result<ExitCode, CliError> {
    let workload = Api::<AiWorkload>::namespaced(client.clone(), namespace)
        .get(name)
        .await
        .map_err(CliError::api(format!("get AiWorkload {namespace}/{name}")))?;
    let status = workload.status.clone().unwrap_or_default();
    let current = status.observed_generation == workload.metadata.generation;
    let mut text = format!("AiWorkload {namespace}/{name}\n");
    if !current {
        text.push_str("the controller has not looked at the last change yet; what follows is older\n");
    }
    let sections = [conditions(&status), flows(&status), findings(&status)];
    let sections: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    if sections.is_empty() && current {
        text.push_str("everything is True\n");
    }
    for section in sections {
        let _ = write!(text, "\n{section}");
    }
    out::print(&text)?;
    let stalled = find(&status.conditions, types::STALLED).is_some_and(|c| c.status == "True");
    let unready = find(&status.conditions, types::READY).is_some_and(|c| c.status == "False");
    let refused = status.flows.iter().any(|flow| flow.state == FlowState::Refused);
    Ok(if stalled || unready || refused {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

/// Those that are not True. Reconciling and Stalled are bad news when they are.
fn conditions(status: &AiWorkloadStatus) -> String {
    let news = |kind: &str, status: &str| match kind {
        types::RECONCILING | types::STALLED => status == "True",
        _ => status != "True",
    };
    let rows = status
        .conditions
        .iter()
        .filter(|c| news(&c.type_, &c.status))
        .map(|c| [&c.type_, &c.status, &c.reason, &c.message].map(Clone::clone).to_vec());
    out::table(&["CONDITION", "STATUS", "REASON", "MESSAGE"], rows.collect())
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
