//! `cloison catalogue`: the services that workloads may name in `connectTo`.

use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::{CliError, Connection, out};
use crate::api::network::CatalogueService;
use crate::api::stage::{NamespaceStage, Stage};
use crate::api::{AiSecurityPolicy, names};
use crate::network::flows::KUBERNETES_API;

/// Flags of `catalogue`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only what workloads of this namespace may name.
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Prints the table.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, _) = arguments.connection.client().await?;
    let policy = Api::<AiSecurityPolicy>::all(client.clone())
        .get(names::SINGLETON)
        .await
        .map_err(CliError::api("get AiSecurityPolicy default"))?;
    let stage = match &arguments.namespace {
        None => None,
        Some(name) => {
            let found = Api::<Namespace>::all(client)
                .get(name)
                .await
                .map_err(CliError::api(format!("get Namespace {name}")))?;
            let label = found.metadata.labels.unwrap_or_default().remove(names::STAGE_LABEL);
            let stage = label.and_then(|label| NamespaceStage::parse(&label)?.workload_stage());
            let none = || CliError::Usage(format!("namespace {name:?} has no stage that holds workloads"));
            Some(stage.ok_or_else(none)?)
        }
    };
    let fits = |entry: &&CatalogueService| match (stage, &entry.stages) {
        (Some(stage), Some(stages)) => stages.contains(&stage),
        _ => true,
    };
    let services = policy.spec.network.services.unwrap_or_default();
    let mut rows: Vec<Vec<String>> = services.iter().filter(fits).map(row).collect();
    if services.iter().all(|entry| &*entry.name != KUBERNETES_API) {
        let built_in = [KUBERNETES_API, "all", "", "the API servers of this cluster"];
        rows.push(built_in.map(str::to_owned).to_vec());
    }
    out::print(&out::table(&["SERVICE", "FOR", "AUTO", "HOW"], rows))?;
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &CatalogueService) -> Vec<String> {
    let stages = entry.stages.as_ref().map_or_else(
        || "all".to_owned(),
        |stages| stages.iter().map(Stage::to_string).collect::<Vec<_>>().join(", "),
    );
    let how = entry
        .description
        .as_ref()
        .map_or_else(|| place(entry), ToString::to_string);
    let automatic = if entry.automatic == Some(true) { "yes" } else { "" };
    vec![entry.name.to_string(), stages, automatic.to_owned(), how]
}

/// Where it is, for an entry that nobody described.
fn place(entry: &CatalogueService) -> String {
    let list = |texts: Vec<String>| texts.join(", ");
    let at = match (&entry.to.namespace, &entry.to.cidrs, &entry.to.fqdns) {
        (Some(namespace), _, _) => format!("namespace {namespace}"),
        (None, Some(cidrs), _) => list(cidrs.iter().map(ToString::to_string).collect()),
        (None, None, fqdns) => list(fqdns.iter().flatten().map(ToString::to_string).collect()),
    };
    let ports = entry.ports.iter().map(|port| match port.end_port {
        Some(end) => format!("{}-{end}", port.port),
        None => port.port.to_string(),
    });
    format!("{at}, port {}", list(ports.collect()))
}
