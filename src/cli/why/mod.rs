//! `cloison why OBJECT`: from what somebody applied down to the pod that does not come, and what to do.

mod events;
mod family;
mod judged;
mod kinds;
mod template;
mod workload;

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::jiff::Timestamp;
use kube::Client;

use self::events::Trouble;
use self::family::{Family, Member};
pub(super) use self::kinds::GROUPS;
use self::kinds::Kinds;
use super::dry_run::refusal::Problem;
use super::dry_run::{self, Answer};
use super::{CliError, Connection, FINDINGS, out};
use crate::api::names;

/// Chains that are told in full.
const TOLD: usize = 5;

/// Flags of `why`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is refused (an AiWorkload: as `status`), 1 something is, 2 it could not be read."
)]
pub struct Arguments {
    /// Whatever makes pods, a pod, or an AiWorkload: job/train, deploy/serve, aiw/default.
    #[arg(required = true, num_args = 1..=2, value_name = "KIND/NAME")]
    object: Vec<String>,
    /// The namespace; otherwise that of the context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// The namespace the operator is installed in.
    #[arg(long, value_name = "NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    operator_namespace: String,
    #[command(flatten)]
    connection: Connection,
}

/// Finds out and prints.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let (kind, name) = match arguments.object.as_slice() {
        [one] => one.split_once('/'),
        [kind, name] => Some((kind.as_str(), name.as_str())),
        _ => None,
    }
    .filter(|(kind, name)| !kind.is_empty() && !name.is_empty())
    .ok_or_else(|| CliError::Usage("name the object as KIND/NAME, for instance job/train".to_owned()))?;
    let (client, home) = arguments.connection.client().await?;
    let namespace = arguments.namespace.as_deref().unwrap_or(&home);
    let kinds = Kinds::discover(&client).await?;
    let resource = kinds.named(kind)?;
    if resource.group == names::GROUP && resource.kind == "AiWorkload" {
        return workload::run(&client, namespace, name, &arguments.operator_namespace).await;
    }
    let family = Family::gather(&client, &kinds, &resource, namespace, name).await?;
    let troubles = events::gather(&client, namespace).await?;
    let mut text = String::new();
    let mut refused = false;
    let makers = family.makers();
    for maker in makers.iter().take(TOLD) {
        let told = troubles.iter().flatten().filter(|trouble| trouble.uid == maker.uid);
        let case = Case {
            family: &family,
            maker,
            namespace,
            troubles: told.collect(),
        };
        let (said, is_refused) = case.tell(&client, &arguments.operator_namespace).await;
        text.push_str(&said);
        refused |= is_refused;
    }
    if makers.len() > TOLD {
        let _ = writeln!(text, "+{} more like these", makers.len() - TOLD);
    }
    let told: Vec<&String> = makers.iter().map(|maker| &maker.uid).collect();
    let others = family
        .members()
        .chain(&family.line)
        .filter(|member| !told.contains(&&member.uid));
    let mut seen = Vec::new();
    for member in others {
        if seen.contains(&&member.uid) {
            continue;
        }
        seen.push(&member.uid);
        for trouble in troubles.iter().flatten().filter(|trouble| trouble.uid == member.uid) {
            let _ = writeln!(
                text,
                "{}: {}: {}",
                member.title(),
                trouble.reason,
                out::clean(&trouble.message)
            );
            refused |= trouble.refusal.is_some();
        }
    }
    if troubles.is_none() {
        text.push_str("note: you may not read Events here, so what happened before is not told\n");
    }
    for note in &family.notes {
        let _ = writeln!(text, "note: {}", out::clean(note));
    }
    out::print(&text)?;
    Ok(if refused {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

/// One object that makes pods, and what happened to them.
struct Case<'a> {
    family: &'a Family,
    maker: &'a Member,
    namespace: &'a str,
    troubles: Vec<&'a Trouble>,
}

impl Case<'_> {
    /// What to say, and whether a pod is refused.
    async fn tell(&self, client: &Client, operator: &str) -> (String, bool) {
        let mut text = format!("{}\n", self.heading());
        for trouble in self.troubles.iter().filter(|trouble| trouble.refusal.is_none()) {
            let _ = writeln!(text, "  {}: {}", trouble.reason, out::clean(&trouble.message));
        }
        let past = self.past();
        let Some(pod) = template::pod(&self.maker.kind, self.namespace, &self.maker.object) else {
            text.push_str(&problems(&past, &[]));
            text.push_str("  it has no pod template, so no pod was tried\n");
            return (text, !past.is_empty());
        };
        let containers = dry_run::pod::containers(&pod);
        let refused = match dry_run::ask(client, self.namespace, &pod).await {
            Answer::Admitted(_) if past.is_empty() => {
                text.push_str("  a pod of it would be admitted now (server-side dry run as you)\n");
                false
            }
            Answer::Admitted(_) => {
                text.push_str(&problems(&past, &containers));
                text.push_str("  that was before: a pod of it would be admitted now (server-side dry run as you)\n");
                false
            }
            Answer::Refused(refusal) => {
                let mut found = refusal.problems;
                if refusal.cut {
                    let more = judged::problems(client, self.namespace, &pod, operator).await;
                    if more.is_empty() {
                        text.push_str("  there are more problems than a refusal has room for; mend these first\n");
                    }
                    found.extend(more);
                    found.sort();
                    found.dedup();
                }
                text.push_str(&problems(&found, &containers));
                text.push_str("  a pod of it would be refused now (server-side dry run as you)\n");
                true
            }
            Answer::RefusedByOther(other) => {
                text.push_str(&problems(&past, &containers));
                let _ = writeln!(
                    text,
                    "  refused now, and not by Cloison: {}",
                    out::clean(&other.message)
                );
                true
            }
            Answer::Unknown(why) => {
                text.push_str(&problems(&past, &containers));
                let _ = writeln!(
                    text,
                    "  whether a pod would be admitted now is not known: {}",
                    out::clean(&why.to_string())
                );
                !past.is_empty()
            }
        };
        (text, refused)
    }

    fn heading(&self) -> String {
        let chain = self.family.chain(self.maker);
        if self.maker.kind == "Pod" {
            return format!("{chain} (exists)");
        }
        let ours: Vec<&&Trouble> = self
            .troubles
            .iter()
            .filter(|trouble| trouble.refusal.is_some())
            .collect();
        let count: i32 = ours.iter().map(|trouble| trouble.count).sum();
        let last = ours.iter().filter_map(|trouble| trouble.last).max();
        let mut said = Vec::new();
        if count > 0 {
            said.push(format!(
                "refused {}",
                out::count(usize::try_from(count).unwrap_or_default(), "time")
            ));
        }
        said.extend(last.map(|last| format!("last {} ago", out::age(Timestamp::now(), last))));
        let pods = self.family.pods(self.maker);
        if pods > 0 {
            said.push(format!("{} there", out::count(pods, "pod")));
        }
        let said = if said.is_empty() {
            String::new()
        } else {
            format!(" ({})", said.join(", "))
        };
        format!("{chain} > Pod{said}")
    }

    /// What the events say, each problem once, the newest first.
    fn past(&self) -> Vec<Problem> {
        let mut past = Vec::new();
        for problem in self
            .troubles
            .iter()
            .filter_map(|trouble| trouble.refusal.as_ref())
            .flat_map(|r| &r.problems)
        {
            if !past.contains(problem) {
                past.push(problem.clone());
            }
        }
        past
    }
}

/// The problems with their fixes; `known` are the containers of the template.
fn problems(problems: &[Problem], known: &[&str]) -> String {
    let mut text = String::new();
    for problem in problems {
        let injected = problem
            .container()
            .filter(|name| !known.is_empty() && !known.contains(name));
        let note = injected.map_or("", |_| " (not in your manifest: an injector added it)");
        let message = out::clean(&problem.message);
        let _ = writeln!(text, "  {}  {message}{note}\n    fix: {}", problem.rule, problem.fix());
    }
    text
}
