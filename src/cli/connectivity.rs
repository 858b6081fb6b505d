//! `cloison connectivity`: which workloads can connect to which, and to what outside the cluster.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::snapshot::{Input, Seen};
use super::{CliError, out};
use crate::network::ports::PortSet;
use crate::network::reach::concrete::{Connectivity, Endpoint};

/// Flags of `connectivity`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    input: Input,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs: an array of `{src, dst, protocol, ports}`, sorted.
    Json,
}

/// Prints every connection that is allowed.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let seen = arguments.input.read().await?;
    let read = Connectivity::read(&seen.snapshot, arguments.input.blocks());
    let read = read.map_err(|unreadable| seen.refuse(&unreadable))?;
    Seen::note_unsettled(&read);
    let connections = read.connections();
    out::print(&match arguments.output {
        Output::Json => out::json(&rows(&connections))?,
        Output::Table => table(&connections),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One row of the JSON: connections of one protocol between two ends.
#[derive(Serialize)]
struct Row<'c> {
    src: End<'c>,
    dst: End<'c>,
    protocol: &'static str,
    /// First and last port of each range, in order.
    ports: Vec<(u16, u16)>,
}

/// One end.
#[derive(Serialize)]
#[serde(untagged)]
enum End<'c> {
    Workload {
        namespace: &'c str,
        /// `name[Kind]`.
        workload: String,
    },
    Block {
        /// `first-last`.
        #[serde(rename = "ipBlock")]
        ip_block: String,
    },
}

fn rows(connections: &BTreeMap<(Endpoint, Endpoint), PortSet>) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for ((from, to), ports) in connections {
        let mut protocol = None;
        for interval in ports.intervals() {
            let range = (interval.first, interval.last);
            match rows.last_mut() {
                Some(row) if protocol == Some(interval.protocol) => row.ports.push(range),
                _ => rows.push(Row {
                    src: end(from),
                    dst: end(to),
                    protocol: interval.protocol.as_str(),
                    ports: vec![range],
                }),
            }
            protocol = Some(interval.protocol);
        }
    }
    rows
}

fn end(endpoint: &Endpoint) -> End<'_> {
    match endpoint {
        Endpoint::Workload { namespace, name, kind } => End::Workload {
            namespace,
            workload: format!("{name}[{kind}]"),
        },
        Endpoint::Addresses(range) => End::Block {
            ip_block: format!("{}-{}", range.first, range.last),
        },
    }
}

fn table(connections: &BTreeMap<(Endpoint, Endpoint), PortSet>) -> String {
    let rows = connections.iter();
    let rows = rows.map(|((from, to), ports)| vec![from.to_string(), to.to_string(), ports.to_string()]);
    out::table(&["FROM", "TO", "PORTS"], rows.collect())
}
