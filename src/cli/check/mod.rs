//! `cloison check`: what is against manifests before they are merged, or against a cluster as it is. The verdicts are the
//! controller's own; with manifests, those that it will come to once everything is applied.

mod baseline;
mod environment;
mod fix;
mod live;
mod server;
mod sharing;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::manifests::Problem;
use super::{CliError, Connection, out, plan};
use crate::api::names;
use crate::compliance::formats::{self, Level, Report, Told, Unreadable};
use crate::compliance::{Finding, worst};
use crate::network::world::World;

/// Flags of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is against it, 1 there are findings of severity Medium or worse, 2 something could \
                  not be read, or the API server would refuse it. What is Unknown is printed and changes no exit code; nor \
                  do chains through relays (NET-03/relay) and what is found out about Secrets and accounts (ENC, IAM), unless the \
                  policy enforces that control; nor does what the baseline holds, nor that --server got no answer about an object. All \
                  formats end with the same code."
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
    /// Findings that were accepted: they are counted, and change no exit code. May lie among the manifests.
    #[arg(long, value_name = "FILE", conflicts_with = "write_baseline")]
    baseline: Option<PathBuf>,
    /// Accept what is found now: write it to FILE, for --baseline.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// Print the lines that mend what is found, where exactly one way is right. No file is written. With `-o table` only.
    #[arg(long, requires = "files")]
    fix: bool,
    /// Ask the API server too, by a dry run with your rights: judge the pods of the manifests as injectors leave them. Nothing
    /// is created.
    #[arg(long, requires = "files")]
    server: bool,
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
    /// For programs: `{findings, notes}`, and `known` with a baseline.
    Json,
    /// SARIF 2.1.0, for code scanning and editors.
    Sarif,
    /// A table for the comment of a merge request.
    Markdown,
    /// Annotations of GitHub Actions.
    Github,
}

/// What was found.
struct Found {
    /// Gravest first, without those of the baseline.
    findings: Vec<Finding>,
    /// Those of the baseline; `None` without one.
    known: Option<Vec<Finding>>,
    /// Those of pods that the API server would not refuse for.
    reported: BTreeSet<Finding>,
    /// What was assumed.
    notes: Vec<String>,
    /// What pods are made from.
    makers: Vec<plan::Maker>,
    /// What could not be read.
    problems: Vec<Problem>,
    /// What it was judged by.
    world: World,
    /// The files that it was read from.
    files: BTreeSet<String>,
}

/// Checks.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    if arguments.fix && arguments.output != Output::Table {
        return Err(CliError::Usage(
            "--fix prints lines for people: use it with -o table".to_owned(),
        ));
    }
    let accepted = arguments.baseline.as_deref().map(baseline::read).transpose()?;
    let mut found = if arguments.files.is_empty() {
        live::read(&arguments).await?
    } else {
        of_manifests(&arguments).await?
    };
    plan::tell(&found.problems);
    if let (Some(accepted), Some(file)) = (accepted, &arguments.baseline) {
        baseline::apply(&accepted, file, &mut found);
    }
    if let Some(file) = &arguments.write_baseline {
        baseline::write(file, &mut found)?;
    }
    let report = report(&found);
    out::print(&match arguments.output {
        Output::Table => text(&found, &report, arguments.fix),
        Output::Json => json(&found)?,
        Output::Sarif => out::json(&formats::sarif::log(&report))?,
        Output::Markdown => formats::markdown::print(&report),
        Output::Github => formats::github::print(&report),
    })?;
    Ok(plan::exit_code(
        &found.problems,
        &found.findings,
        &found.reported,
        &found.world,
    ))
}

async fn of_manifests(arguments: &Arguments) -> Result<Found, CliError> {
    let sources = plan::Sources {
        files: &arguments.files,
        home: arguments.namespace.as_deref(),
        policy: arguments.policy.as_deref(),
        beside: &arguments.with,
    };
    let mut input = sources.read()?;
    let files = [&arguments.baseline, &arguments.write_baseline].into_iter().flatten();
    files.for_each(|file| baseline::is_no_manifest(file, &mut input.objects.problems));
    let mut judged = plan::judge(&input, &arguments.operator_namespace, false)?;
    if let (true, Some(set)) = (arguments.server, &judged.admission) {
        let refused = judged.findings.iter().filter(|it| !judged.reported.contains(*it));
        let known: Vec<Finding> = refused.cloned().collect();
        let told = server::ask(&arguments.connection, &input, &judged.world, set, &known).await?;
        judged.findings.extend(told.findings);
        judged.findings = worst(judged.findings, usize::MAX);
        judged.reported.extend(told.reported);
        judged.notes.extend(told.notes);
        let problems = &mut input.objects.problems;
        problems.extend(told.problems);
        problems.sort_by(|a, b| a.at.cmp(&b.at));
    }
    Ok(Found {
        findings: judged.findings,
        known: None,
        reported: judged.reported,
        notes: judged.notes,
        makers: input.makers,
        problems: input.objects.problems,
        world: judged.world,
        files: input.files,
    })
}

/// What mends the findings that no baseline holds.
fn fixes(found: &Found) -> String {
    let source = |finding: &Finding| {
        let file = finding.at.as_ref()?.file.as_deref()?;
        let of = |maker: &&plan::Maker| maker.subject == finding.subject && &*maker.document.file == file;
        found.makers.iter().find(of).map(|maker| &maker.document)
    };
    let workloads = |namespace: &str| {
        let all = found.world.workloads_in(namespace);
        all.map(|workload| workload.key.name.clone()).collect()
    };
    // Standard input is read once: its findings are left to the person.
    fix::print(&found.findings, source, workloads, |file| {
        std::fs::read_to_string(file).ok()
    })
}

/// The same for every format.
fn report(found: &Found) -> Report<'_> {
    let new = |finding| {
        let level = Level::of(finding, plan::is_against(finding, &found.reported, &found.world));
        Told::new(finding, level, &found.files)
    };
    let known = |finding| Told::new(finding, Level::Note, &found.files);
    let unreadable = |problem: &Problem| Unreadable {
        at: problem.at.clone(),
        message: problem.message.clone(),
    };
    Report {
        findings: found.findings.iter().map(new).collect(),
        known: found.known.as_ref().map(|all| all.iter().map(known).collect()),
        notes: found.notes.clone(),
        unreadable: found.problems.iter().map(unreadable).collect(),
    }
}

fn text(found: &Found, report: &Report<'_>, with_fixes: bool) -> String {
    let mut text: String = found.findings.iter().map(plan::finding).collect();
    if with_fixes {
        text.push_str(&fixes(found));
    }
    let _ = writeln!(text, "{}", report.summary());
    for note in &found.notes {
        let _ = writeln!(text, "note: {}", out::clean(note));
    }
    text
}

fn json(found: &Found) -> Result<String, CliError> {
    #[derive(Serialize)]
    struct Report<'f> {
        findings: &'f [Finding],
        #[serde(skip_serializing_if = "Option::is_none")]
        known: Option<&'f [Finding]>,
        notes: &'f [String],
    }
    out::json(&Report {
        findings: &found.findings,
        known: found.known.as_deref(),
        notes: &found.notes,
    })
}
