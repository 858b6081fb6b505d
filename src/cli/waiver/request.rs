//! `cloison waiver request`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use crate::api::Waiver;
use crate::api::network::{Port, Protocol};
use crate::api::text::{Contact, DnsLabel, Line, RuleName};
use crate::api::waiver::{FlowEnd, WaivedFlow, WaiverSpec, WaiverTarget};
use crate::cli::{CliError, Connection, forbidden, out};
use crate::cluster::client::whoami;
use crate::compliance::{Catalogue, RuleId};

/// Flags of `waiver request`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The name of the Waiver.
    name: String,
    /// The namespace it is for; otherwise that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// The AiWorkload it is for; without one, every workload of the namespace.
    #[arg(short, long)]
    workload: Option<String>,
    /// A control (SUP-01) or one rule of it (WKL-01/host-ipc); may be repeated.
    #[arg(long = "control", required = true, value_parser = control)]
    controls: Vec<RuleId>,
    /// Why, in at least 20 characters: whoever approves it reads this.
    #[arg(long)]
    reason: String,
    /// For so many days from now; the policy has a limit, 90 unless it says otherwise.
    #[arg(long, required_unless_present = "until", value_parser = clap::value_parser!(u32).range(1..=366))]
    days: Option<u32>,
    /// Until this moment, such as 2030-01-31T18:00:00Z.
    #[arg(long, conflicts_with = "days")]
    until: Option<Timestamp>,
    /// Where it is discussed.
    #[arg(long)]
    ticket: Option<String>,
    /// A flow between two stages, from NAMESPACE/WORKLOAD.
    #[arg(long, requires = "flow_to", value_parser = end)]
    flow_from: Option<FlowEnd>,
    /// To NAMESPACE/WORKLOAD.
    #[arg(long, requires = "flow_from", requires = "ports", value_parser = end)]
    flow_to: Option<FlowEnd>,
    /// On this port, such as 8080 or 5000-5010/UDP; may be repeated.
    #[arg(long = "port", requires = "flow_from", value_parser = port)]
    ports: Vec<Port>,
    /// Print the object and create nothing.
    #[arg(short, long)]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
}

fn control(text: &str) -> Result<RuleId, String> {
    let id: RuleId = text
        .parse()
        .map_err(|error: crate::compliance::id::IdError| error.to_string())?;
    if Catalogue::builtin().contains(&id) {
        Ok(id)
    } else {
        Err(format!("there is no {id}; `cloison controls` lists them"))
    }
}

fn end(text: &str) -> Result<FlowEnd, String> {
    let (namespace, workload) = text.split_once('/').ok_or("write NAMESPACE/WORKLOAD")?;
    Ok(FlowEnd {
        namespace: DnsLabel(namespace.to_owned()),
        workload: DnsLabel(workload.to_owned()),
    })
}

fn port(text: &str) -> Result<Port, String> {
    let wrong = || format!("{text:?} is no port: write 8080, 8080/UDP or 5000-5010");
    let (ports, protocol) = match text.split_once('/') {
        None => (text, None),
        Some((ports, "TCP")) => (ports, Some(Protocol::TCP)),
        Some((ports, "UDP")) => (ports, Some(Protocol::UDP)),
        Some((ports, "SCTP")) => (ports, Some(Protocol::SCTP)),
        Some(_) => return Err(wrong()),
    };
    let number = |text: &str| text.parse::<u16>().map(i32::from).map_err(|_| wrong());
    let (first, last) = match ports.split_once('-') {
        None => (ports, None),
        Some((first, last)) => (first, Some(last)),
    };
    Ok(Port {
        port: number(first)?,
        end_port: last.map(number).transpose()?,
        protocol,
    })
}

/// Creates it, or prints it.
pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> Result<ExitCode, CliError> {
    let (client, home) = connection.client().await?;
    let me = whoami(&client).await?;
    let waiver = waiver(arguments, &home, &me, Timestamp::now());
    if arguments.output == Some(Output::Yaml) {
        out::print(&out::document(&waiver)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let unheard = super::unheard(&waiver);
    if !unheard.is_empty() {
        eprintln!("{}", unheard.trim());
    }
    let name = waiver.name_any();
    match Api::<Waiver>::all(client).create(&PostParams::default(), &waiver).await {
        Ok(_) => {}
        Err(error) if forbidden(&error) && !error.to_string().contains("[cloison") => {
            return Err(CliError::Usage(format!(
                "you may not create Waivers: print it with -o yaml, and let an admin or your GitOps pipeline apply it ({error})"
            )));
        }
        Err(error) => return Err(CliError::api(format!("create Waiver {name}"))(error)),
    }
    out::print(&format!(
        "Waiver {name} is asked for by {me}, until {}. It holds for nothing before another person approves it:\n    \
         kubectl cloison waiver approve {name}\n",
        waiver.spec.expiration_time.0
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn waiver(arguments: &Arguments, home: &str, me: &str, now: Timestamp) -> Waiver {
    let days = i64::from(arguments.days.unwrap_or(0));
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let flow = arguments.flow_from.clone().zip(arguments.flow_to.clone());
    let spec = WaiverSpec {
        target: WaiverTarget {
            namespace: DnsLabel(arguments.namespace.clone().unwrap_or_else(|| home.to_owned())),
            workload: arguments.workload.clone().map(DnsLabel),
        },
        controls: arguments.controls.iter().map(|id| RuleName(id.to_string())).collect(),
        flow: flow.map(|(from, to)| WaivedFlow {
            from,
            to,
            ports: arguments.ports.clone(),
        }),
        reason: arguments.reason.clone(),
        ticket: arguments.ticket.clone().map(Line),
        requested_by: Contact(me.to_owned()),
        approved_by: None,
        // A minute less, so that the policy's whole limit may be asked for by a clock that is ahead.
        expiration_time: Time(
            arguments
                .until
                .unwrap_or_else(|| whole + SignedDuration::from_hours(24 * days) - SignedDuration::from_mins(1)),
        ),
    };
    Waiver::new(&arguments.name, spec)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_or_a_range_with_a_protocol() {
        let written = |text: &str| {
            let port = port(text).unwrap();
            (port.port, port.end_port, port.protocol)
        };
        assert_eq!(written("8080"), (8080, None, None));
        assert_eq!(written("8080/UDP"), (8080, None, Some(Protocol::UDP)));
        assert_eq!(written("5000-5010/TCP"), (5000, Some(5010), Some(Protocol::TCP)));
        for wrong in ["", "http", "70000", "80/tcp", "1-", "-2"] {
            assert!(port(wrong).unwrap_err().contains("is no port"), "{wrong}");
        }
    }

    #[test]
    fn a_control_is_one_of_the_catalogue() {
        assert!(control("WKL-01/host-ipc").is_ok() && control("SUP-01").is_ok());
        assert!(
            control("WKL-01/nothing")
                .unwrap_err()
                .contains("there is no WKL-01/nothing")
        );
        assert!(control("everything").unwrap_err().contains("is not a control id"));
    }
}
