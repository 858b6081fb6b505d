//! `cloison status`: every workload, what is proven about it, and how old the proofs are.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::lease::{Pulse, pulse};
use super::proof::{self, Proof};
use super::{CliError, Connection, FINDINGS, absent, forbidden, out};
use crate::api::conditions::{find, types};
use crate::api::off::Off;
use crate::api::{AiSecurityPolicy, AiWorkload, names};

/// Flags of `status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every workload is Ready and the controller alive, 1 not so, 2 it could not be read."
)]
pub struct Arguments {
    /// One namespace; otherwise that of the context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Every namespace.
    #[arg(short = 'A', long = "all-namespaces", conflicts_with = "namespace")]
    all: bool,
    /// Print for programs.
    #[arg(short, long)]
    output: Option<Output>,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// For programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
}

/// Everything there is to say.
#[derive(Debug, Serialize)]
struct Status {
    controller: Pulse,
    /// The stop button, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    off: Option<String>,
    /// Conditions of the cluster; `None` where they may not be read.
    cluster: Option<Vec<Condition>>,
    /// How old the proofs behind them can be.
    proofs: Vec<Proof>,
    workloads: Vec<Row>,
}

/// One workload.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    namespace: String,
    name: String,
    stage: String,
    mode: String,
    ready: String,
    isolated: String,
    encrypted: String,
    admitted: String,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Whether the status speaks of the object as it is.
    #[serde(skip)]
    pub is_current: bool,
}

impl Row {
    /// The exit code of every verb that tells of a workload.
    pub(super) fn is_ready(&self, controller: &Pulse) -> bool {
        self.ready == "True" && controller.stale != Some(true)
    }
}

/// Reads and prints.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (client, home) = arguments.connection.client().await?;
    let namespace = arguments.namespace.unwrap_or(home);
    let workloads: Api<AiWorkload> = if arguments.all {
        Api::all(client.clone())
    } else {
        Api::namespaced(client.clone(), &namespace)
    };
    let listed = workloads.list(&ListParams::default()).await;
    let mut rows: Vec<Row> = listed
        .map_err(CliError::api("list AiWorkloads"))?
        .iter()
        .map(row)
        .collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let now = Timestamp::now();
    let controller = pulse(&client, &arguments.operator_namespace, now).await?;
    let (cluster, proofs) = cluster(&client, &controller, now).await?;
    let status = Status {
        off: off(&client, &arguments.operator_namespace).await?,
        cluster,
        proofs,
        workloads: rows,
        controller,
    };
    out::print(&match arguments.output {
        Some(Output::Json) => out::json(&status)?,
        None => text(&status, now),
    })?;
    let ready = status.workloads.iter().all(|row| row.is_ready(&status.controller));
    Ok(if ready && status.controller.stale != Some(true) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

/// The stop button, where it is pressed.
pub(super) async fn off(client: &Client, namespace: &str) -> Result<Option<String>, CliError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    match maps.get_opt(names::OFF_CONFIGMAP).await {
        Ok(None) => Ok(None),
        Ok(Some(map)) => {
            let off = Off::read(&map.data.unwrap_or_default());
            Ok(Some(format!(
                "OFF {}: scope {}, reason {}; `cloison on` resumes",
                off.place(),
                off.scope.as_str(),
                off.why()
            )))
        }
        Err(error) if forbidden(&error) => Ok(None),
        Err(error) => Err(CliError::api(format!(
            "get ConfigMap {namespace}/{}",
            names::OFF_CONFIGMAP
        ))(error)),
    }
}

/// The conditions of the cluster, `None` where they may not be read, and the age of their proofs.
async fn cluster(
    client: &Client,
    controller: &Pulse,
    now: Timestamp,
) -> Result<(Option<Vec<Condition>>, Vec<Proof>), CliError> {
    let policies: Api<AiSecurityPolicy> = Api::all(client.clone());
    match policies.get(names::SINGLETON).await {
        Ok(policy) => {
            let proofs = proof::of(&policy, controller, now);
            Ok((Some(policy.status.unwrap_or_default().conditions), proofs))
        }
        Err(error) if absent(&error) => Ok((Some(Vec::new()), Vec::new())),
        Err(error) if forbidden(&error) => Ok((None, Vec::new())),
        Err(error) => Err(CliError::api("get AiSecurityPolicy default")(error)),
    }
}

/// What there is to say about a workload.
pub(super) fn row(workload: &AiWorkload) -> Row {
    let status = workload.status.clone().unwrap_or_default();
    // A status about an older generation says nothing about what was applied since.
    let current = status.observed_generation == workload.metadata.generation;
    let word = |kind: &str| match find(&status.conditions, kind) {
        Some(condition) if current => condition.status.clone(),
        _ => "Unknown".to_owned(),
    };
    let why = match find(&status.conditions, types::READY) {
        None => "the controller has not looked at it yet".to_owned(),
        Some(_) if !current => "the controller has not looked at the last change yet".to_owned(),
        Some(ready) if ready.status == "True" => String::new(),
        Some(ready) => format!("{}: {}", ready.reason, ready.message),
    };
    Row {
        namespace: workload.namespace().unwrap_or_default(),
        name: workload.name_any(),
        stage: workload.spec.stage.to_string(),
        mode: status.mode.map(|mode| mode.to_string()).unwrap_or_default(),
        ready: word(types::READY),
        isolated: word(types::NETWORK_ISOLATED),
        encrypted: word(types::SECRETS_ENCRYPTED),
        admitted: word(types::ADMISSION_ENFORCED),
        why,
        is_current: current,
    }
}

fn text(status: &Status, now: Timestamp) -> String {
    let mut text = format!("{}\n", status.controller.message);
    if let Some(off) = &status.off {
        let _ = writeln!(text, "{}", out::clean(off));
    }
    let rows = status.workloads.iter().map(|row| {
        let Row {
            namespace,
            name,
            stage,
            mode,
            ready,
            isolated,
            encrypted,
            admitted,
            why,
            is_current: _,
        } = row;
        let cells = [namespace, name, stage, mode, ready, isolated, encrypted, admitted, why];
        cells.map(Clone::clone).to_vec()
    });
    let header = [
        "NAMESPACE",
        "WORKLOAD",
        "STAGE",
        "MODE",
        "READY",
        "ISOLATED",
        "ENCRYPTED",
        "ADMITTED",
        "WHY NOT READY",
    ];
    let table = out::table(&header, rows.collect());
    let _ = if table.is_empty() {
        writeln!(text, "\nno AiWorkload here")
    } else {
        write!(text, "\n{table}")
    };
    let conditions = match &status.cluster {
        None => "the cluster's conditions cannot be told: you may not read AiSecurityPolicy default\n".to_owned(),
        Some(conditions) if conditions.is_empty() => "the cluster has no conditions yet\n".to_owned(),
        Some(conditions) => {
            let rows = conditions.iter().map(|condition| out::condition(condition, now));
            out::table(&["CLUSTER", "STATUS", "FOR", "REASON", "MESSAGE"], rows.collect())
        }
    };
    let _ = write!(text, "\n{conditions}");
    if !status.proofs.is_empty() {
        text.push_str("\nHow old the proofs are:\n");
    }
    for proof in &status.proofs {
        let _ = writeln!(text, "  {}", out::clean(&proof.message));
    }
    text
}
