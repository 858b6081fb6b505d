//! `cloison waiver approve`.

use std::process::ExitCode;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::api::Waiver;
use crate::cli::{CliError, Connection, out};
use crate::cluster::client::whoami;

/// Flags of `waiver approve`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The Waiver.
    name: String,
    /// Anything worth saying.
    #[arg(long)]
    comment: Option<String>,
}

/// Approves what was read: the approval names its generation, and a Waiver that was replaced meanwhile is refused by its uid.
/// It names no resource version, because the controller writes the status of a new Waiver at any moment.
pub(super) async fn run(connection: &Connection, arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = connection.client().await?;
    let waivers: Api<Waiver> = Api::all(client.clone());
    let name = &arguments.name;
    let waiver = waivers
        .get(name)
        .await
        .map_err(CliError::api(format!("get Waiver {name}")))?;
    if let Some(approval) = waiver.status.as_ref().and_then(|status| status.approval.as_ref()) {
        return Err(CliError::Usage(format!(
            "Waiver {name} was approved by {} at {}; an approval is never changed, and to withdraw it the Waiver is deleted",
            &*approval.by, approval.time.0
        )));
    }
    let me = whoami(&client).await?;
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let change = json!({
        "metadata": {"uid": waiver.metadata.uid},
        "status": {"approval": {
            "by": me, "time": now.to_string(), "generation": waiver.metadata.generation, "comment": arguments.comment,
        }},
    });
    waivers
        .patch_status(name, &PatchParams::default(), &Patch::Merge(change))
        .await
        .map_err(CliError::api(format!("approve Waiver {name}")))?;
    let spec = &waiver.spec;
    let target = match &spec.target.workload {
        Some(workload) => format!("{}/{workload}", spec.target.namespace),
        None => format!("every workload of {}", spec.target.namespace),
    };
    let controls: Vec<&str> = spec.controls.iter().map(|id| &**id).collect();
    out::print(&out::clean(&format!(
        "{me} approved Waiver {name} of {}: {} for {target}, until {}. Reason: {}",
        &*spec.requested_by,
        controls.join(", "),
        spec.expiration_time.0,
        spec.reason
    )))?;
    out::print(&super::unheard(&waiver))?;
    out::print("\nWhether it holds:\n    kubectl wait waiver/")?;
    out::print(&format!("{name} --for=condition=Active --timeout=60s\n"))?;
    Ok(ExitCode::SUCCESS)
}
