//! `cloison check`: what is against manifests before they are merged, or against a cluster as it is. The verdicts are the
//! controller's own; with manifests, those that it will come to once everything is applied.

mod live;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::manifests::Problem;
use super::{CliError, Connection, out, plan};
use crate::api::names;
use crate::compliance::{Assurance, Finding};
use crate::network::world::World;

/// Flags of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is against it, 1 there are findings of severity Medium or worse, 2 something could \
                  not be read, or the API server would refuse it. What is Unknown is printed and changes no exit code; nor \
                  do chains through relays (NET-03/relay) and what is found out about Secrets and accounts (ENC, IAM), unless the \
                  policy enforces that control."
)]
pub struct Arguments {
    /// Manifests: files, folders with everything below them, `-` for standard input. Otherwise the cluster is asked.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// The namespace of objects in the manifests that name none.
    #[arg(short, long, requires = "files")]
    namespace: Option<String>,
    /// The AiSecurityPolicy to judge by, in place of the one in the manifests.
    #[arg(long, value_name = "FILE", requires = "files")]
    policy: Option<PathBuf>,
    /// What the manifests do not hold and the cluster does: namespaces, policies, workloads. Known beside them, not judged.
    #[arg(long, value_name = "FILE|DIR", requires = "files")]
    with: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people: a line for each finding.
    Table,
    /// For programs: `{findings, notes}`.
    Json,
}

/// What was found.
struct Found {
    /// Gravest first.
    findings: Vec<Finding>,
    /// What was assumed.
    notes: Vec<String>,
    /// What could not be read.
    problems: Vec<Problem>,
    /// What it was judged by.
    world: World,
}

/// Checks.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let found = if arguments.files.is_empty() {
        live::read(&arguments).await?
    } else {
        offline(&arguments)?
    };
    plan::tell(&found.problems);
    out::print(&match arguments.output {
        Output::Table => text(&found),
        Output::Json => json(&found)?,
    })?;
    Ok(plan::exit_code(&found.problems, &found.findings, &found.world))
}

fn offline(arguments: &Arguments) -> Result<Found, CliError> {
    let sources = plan::Sources {
        files: &arguments.files,
        home: arguments.namespace.as_deref(),
        policy: arguments.policy.as_deref(),
        beside: &arguments.with,
    };
    let input = sources.read()?;
    let judged = plan::judge(&input, &arguments.operator_namespace, false)?;
    Ok(Found {
        findings: judged.findings,
        notes: judged.notes,
        problems: input.objects.problems,
        world: judged.world,
    })
}

fn text(found: &Found) -> String {
    let mut text: String = found.findings.iter().map(plan::finding).collect();
    let unknown = found
        .findings
        .iter()
        .filter(|finding| finding.assurance == Assurance::Unknown);
    let unknown = unknown.count();
    let known = found.findings.len() - unknown;
    let mut said = match known {
        0 => "no findings".to_owned(),
        known => out::count(known, "finding"),
    };
    if unknown > 0 {
        let _ = write!(said, ", {unknown} unknown");
    }
    if !found.problems.is_empty() {
        let _ = write!(said, ", {} not readable", out::count(found.problems.len(), "place"));
    }
    let _ = writeln!(text, "{said}");
    for note in &found.notes {
        let _ = writeln!(text, "note: {}", out::clean(note));
    }
    text
}

fn json(found: &Found) -> Result<String, CliError> {
    #[derive(Serialize)]
    struct Report<'f> {
        findings: &'f [Finding],
        notes: &'f [String],
    }
    out::json(&Report {
        findings: &found.findings,
        notes: &found.notes,
    })
}
