//! `cloison explain`: which rule of which policy decides one connection.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;

use super::snapshot::{Input, Seen};
use super::{CliError, FINDINGS, out};
use crate::api::network::Protocol;
use crate::network::cluster_policy::Action;
use crate::network::reach::concrete::{Connectivity, Pod};
use crate::network::reach::explain::{Asked, Half, OfCluster};

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Who connects: namespace/name of a pod or of what owns it, or an address outside the cluster.
    #[arg(long, value_name = "NAMESPACE/NAME|ADDRESS")]
    from: String,
    /// Who is reached.
    #[arg(long, value_name = "NAMESPACE/NAME|ADDRESS")]
    to: String,
    /// The port: `8080`, `53/udp`.
    #[arg(long, value_name = "PORT[/PROTOCOL]", value_parser = port)]
    port: (u16, Protocol),
    #[command(flatten)]
    input: Input,
}

fn port(text: &str) -> Result<(u16, Protocol), String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = number.parse().ok().filter(|number| *number > 0);
    let protocol = match protocol.to_lowercase().as_str() {
        "tcp" => Some(Protocol::TCP),
        "udp" => Some(Protocol::UDP),
        "sctp" => Some(Protocol::SCTP),
        _ => None,
    };
    number
        .zip(protocol)
        .ok_or_else(|| "a port from 1 to 65535, and tcp, udp or sctp behind a slash".to_owned())
}

/// Who is asked about.
enum Who<'s> {
    Pods(&'s [Pod]),
    Address(IpAddr),
}

/// Explains; exit code 1 when the connection is not allowed.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    let seen = arguments.input.read().await?;
    let (from, to) = (who(&seen, &arguments.from)?, who(&seen, &arguments.to)?);
    let read = Connectivity::read(&seen.snapshot, arguments.input.blocks());
    let read = read.map_err(|unreadable| seen.refuse(&unreadable))?;
    let (port, protocol) = arguments.port;
    let (mut text, mut denied) = (String::new(), false);
    for from_end in ends(&from) {
        for to_end in ends(&to) {
            let answer = read.explain(from_end, to_end, protocol, port);
            let verdict = if answer.allows() { "allowed" } else { "not allowed" };
            denied |= !answer.allows();
            let line = format!(
                "{} -> {} {} {port}: {verdict}",
                arguments.from,
                arguments.to,
                protocol.as_str()
            );
            text += &line;
            text += &labels(from_end, to_end, &from, &to);
            text.push('\n');
            text.push_str(&half("out of the source", answer.egress.as_ref(), &seen));
            text.push_str(&half("into the target", answer.ingress.as_ref(), &seen));
        }
    }
    out::print(&text)?;
    Ok(if denied {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    })
}

fn who<'s>(seen: &'s Seen, text: &str) -> Result<Who<'s>, CliError> {
    if let Ok(address) = text.parse() {
        return Ok(Who::Address(address));
    }
    let Some((namespace, name)) = text.split_once('/') else {
        return Err(CliError::Usage(format!(
            "{text:?} is neither namespace/name nor an address"
        )));
    };
    let found = seen.named.get(&(namespace.to_owned(), name.to_owned()));
    found.map(|pods| Who::Pods(pods.as_slice())).ok_or_else(|| {
        let known = seen
            .named
            .keys()
            .filter(|(of, _)| of == namespace)
            .map(|(_, name)| name.as_str());
        let known: Vec<&str> = known.take(10).collect();
        let known = if known.is_empty() {
            "no pod at all".to_owned()
        } else {
            known.join(", ")
        };
        CliError::Usage(format!(
            "no pod or owner of pods {text:?}; in {namespace} there is {known}"
        ))
    })
}

fn ends<'s>(who: &Who<'s>) -> Vec<Asked<'s>> {
    match who {
        Who::Pods(pods) => pods.iter().map(Asked::Pod).collect(),
        Who::Address(address) => vec![Asked::Address(*address)],
    }
}

/// Labels tell the pods of one owner apart, where there are several.
fn labels(from: Asked<'_>, to: Asked<'_>, froms: &Who<'_>, tos: &Who<'_>) -> String {
    let several = |who: &Who<'_>| matches!(who, Who::Pods(pods) if pods.len() > 1);
    let text = |asked: Asked<'_>| match asked {
        Asked::Pod(pod) => format!("{:?}", pod.labels),
        Asked::Address(address) => address.to_string(),
    };
    match (several(froms), several(tos)) {
        (false, false) => String::new(),
        _ => format!(" (pods labelled {} -> {})", text(from), text(to)),
    }
}

fn half(title: &str, half: Option<&Half>, seen: &Seen) -> String {
    let Some(half) = half else {
        return format!("  {title}: an address, which no policy isolates\n");
    };
    match &half.of_cluster {
        Some(OfCluster::Decided {
            action,
            tier,
            policy,
            field,
        }) => {
            let word = if *action == Action::Accept {
                "allowed"
            } else {
                "not allowed"
            };
            let place = seen.place(policy, field);
            return format!("  {title}: {word} by {place}, in tier {tier:?}\n");
        }
        Some(OfCluster::Unknown { allows, causes }) => {
            let counted = if *allows { "allowed" } else { "not allowed" };
            let causes = causes.join("; ");
            return format!("  {title}: unknown, counted as {counted}; it depends on {causes}\n");
        }
        None => {}
    }
    if half.isolated_by.is_empty() {
        return format!("  {title}: allowed, because no policy isolates the pod\n");
    }
    if half.allowed_by.is_empty() {
        let policies = half.isolated_by.iter().map(|policy| seen.place(policy, "podSelector"));
        let policies: Vec<String> = policies.collect();
        return format!(
            "  {title}: not allowed; isolated by {}, and no rule fits\n",
            policies.join(", ")
        );
    }
    let rules = half.allowed_by.iter().map(|(policy, field)| seen.place(policy, field));
    format!("  {title}: allowed by {}\n", rules.collect::<Vec<_>>().join(", "))
}
