//! `cloison quarantine`: cuts a workload off, and lets it back in.

use std::process::ExitCode;

use clap::Args;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{CliError, Connection, out};
use crate::api::{AiWorkload, names};

/// Flags of `quarantine`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The AiWorkload.
    name: String,
    /// Its namespace; otherwise that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Why, for whoever finds it: an incident, a name.
    #[arg(long, required_unless_present = "release", conflicts_with = "release", value_parser = reason)]
    reason: Option<String>,
    /// Lift the quarantine; needs the verb `release` on quarantines.cloison.dev.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    connection: Connection,
}

fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// Sets the annotation, or takes it off. Whether it holds is for the controller to see: the condition `Quarantined`.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, home) = arguments.connection.client().await?;
    let namespace = arguments.namespace.unwrap_or(home);
    let name = &arguments.name;
    let workloads: Api<AiWorkload> = Api::namespaced(client, &namespace);
    let change = json!({"metadata": {"annotations": {names::QUARANTINE_ANNOTATION: arguments.reason}}});
    let changed = workloads
        .patch(name, &PatchParams::default(), &Patch::Merge(change))
        .await;
    changed.map_err(CliError::api(format!("annotate AiWorkload {namespace}/{name}")))?;
    let line = if arguments.release {
        format!("AiWorkload {namespace}/{name} is released: its declared flows open again\n")
    } else {
        format!(
            "AiWorkload {namespace}/{name} is in quarantine: its policies are being emptied. Whether it holds:\n    \
             kubectl wait -n {namespace} aiworkload/{name} --for=condition=Quarantined --timeout=60s\nConnections from \
             before may persist until its pods are gone\n"
        )
    };
    out::print(&line)?;
    Ok(ExitCode::SUCCESS)
}
