//! The other end of a flow that comes in from a source of the policy: a gateway, a scraper, a controller, the nodes.

use ipnet::IpNet;

use crate::api::network::{Protocol, Source, SourceKind};
use crate::api::stage::NamespaceStage;
use crate::api::workload::FlowDirection;
use crate::network::ports::PortSet;
use crate::network::presets::preset;
use crate::network::rules;
use crate::network::validate::{self, Problem, did_you_mean};
use crate::network::world::Workload;

use super::declared::Declared;
use super::ends::{End, no_port, opening, pods};
use super::{Outcome, Peer, Resolver};

/// Most addresses of nodes that a policy names one by one.
const NODES: usize = 100;

impl Resolver<'_> {
    /// A source of the policy.
    pub(super) fn source(
        &self,
        workload: &Workload,
        name: &str,
        ports: Option<&PortSet>,
        flow: &Declared<'_>,
    ) -> Result<Outcome, Problem> {
        let Some(entry) = self.sources.get(name) else {
            let fix = did_you_mean(
                name,
                self.sources.keys().copied(),
                "ask the admin to add it to the policy",
            );
            let message = format!("unknown source {name:?}");
            return Err(Problem::unresolved(rules::UNKNOWN_SOURCE, message, fix));
        };
        let End { peers, note } = self.source_end(workload, entry)?;
        let Some(ports) = source_ports(workload, entry, ports, flow)? else {
            return Ok(Outcome::default());
        };
        Ok(Outcome {
            openings: vec![opening(flow, peers, ports)],
            note,
        })
    }

    fn source_end(&self, workload: &Workload, entry: &Source) -> Result<End, Problem> {
        let name = &*entry.name;
        let what = || format!("source {name:?}");
        validate::for_stage(entry.stages.as_deref(), workload.stage, &rules::SOURCE_STAGE, what)?;
        let from = &entry.from;
        match (from.namespace.as_deref(), &from.cidrs) {
            (Some(namespace), _) => match self.world.namespaces.get(namespace).map(|found| found.stage) {
                None => Err(Problem::unresolved(
                    rules::SOURCE_UNRESOLVED,
                    format!("source {name:?}: its namespace {namespace:?} does not exist"),
                    "the flow opens once it does",
                )),
                Some(None | Some(NamespaceStage::Shared)) => Ok(End {
                    peers: vec![pods(namespace, from.pod_labels.as_ref())],
                    note: String::new(),
                }),
                Some(Some(stage)) if stage == workload.stage.into() => Err(Problem::refused(
                    rules::SOURCE_IN_STAGE,
                    format!("source {name:?} is in namespace {namespace:?} of this very stage"),
                    "declare the flow between the two workloads, at both ends",
                )),
                Some(Some(stage)) => Err(validate::cross_stage(
                    format!("source {name:?} is in namespace {namespace:?} of stage {stage}"),
                    "ask the admin to move it out of that stage",
                    "between the two workloads",
                )),
            },
            (None, Some(cidrs)) => self.admin_networks(&what(), cidrs, FlowDirection::Ingress),
            (None, None) => self.nodes(name),
        }
    }

    /// The nodes, each by its addresses: no selector matches what runs on a node's own network.
    fn nodes(&self, name: &str) -> Result<End, Problem> {
        let nodes = &self.world.cluster.nodes;
        let fix = "ask the admin for `cidrs`; a pod's own node always reaches it";
        let what = match nodes.len() {
            0 => "which are not known yet".to_owned(),
            1..=NODES => {
                let peer = |node: &IpNet| Peer::Network {
                    cidr: *node,
                    except: Vec::new(),
                };
                return Ok(End {
                    peers: nodes.iter().map(peer).collect(),
                    note: "on addresses of nodes, which some network plugins match to no rule".to_owned(),
                });
            }
            many => format!("{many} of them, and a policy would change with each; at most {NODES} are followed"),
        };
        let message = format!("source {name:?} is the addresses of the nodes, {what}");
        Err(Problem::unresolved(rules::SOURCE_UNRESOLVED, message, fix))
    }
}

/// The ports that a source reaches. What a person wrote at either end limits it; without a word it is what the runtime
/// has for that kind of source. `None` for an automatic source that this runtime has nothing for.
fn source_ports(
    workload: &Workload,
    entry: &Source,
    written: Option<&PortSet>,
    flow: &Declared<'_>,
) -> Result<Option<PortSet>, Problem> {
    let name = &*entry.name;
    let limit = entry
        .ports
        .as_deref()
        .map(PortSet::written)
        .transpose()
        .map_err(|error| {
            let message = format!("source {name:?}: {error}");
            Problem::unresolved(rules::INGRESS_PORT, message, "ask the admin to mend the policy")
        })?;
    let own = match (written, entry.kind) {
        (Some(ports), _) => Some(ports.clone()),
        (None, SourceKind::Scraper) => metrics_ports(workload),
        (None, _) => None,
    };
    let ports = match (own, limit) {
        (Some(own), Some(limit)) => {
            let both = own.intersection(&limit);
            if both.is_empty() && !own.is_empty() {
                let message = format!("source {name:?} may reach {limit}, the workload offers {own}");
                return Err(Problem::refused(
                    rules::INGRESS_PORT,
                    message,
                    "ask the admin to add the port",
                ));
            }
            both
        }
        (Some(ports), None) | (None, Some(ports)) => ports,
        (None, None) => preset(workload.runtime).for_source(entry.kind),
    };
    match (ports.is_empty(), entry.kind) {
        (false, _) => Ok(Some(ports)),
        (true, SourceKind::Scraper) => {
            let message = format!("no metrics port declared, so source {name:?} reaches none");
            let fix = "set spec.network.metricsPorts";
            Err(Problem::unresolved(rules::NO_METRICS_PORT, message, fix))
        }
        (true, _) if flow.automatic => Ok(None),
        (true, _) => Err(no_port(flow)),
    }
}

/// The metrics ports that the author wrote; an invalid number is left to the schema.
fn metrics_ports(workload: &Workload) -> Option<PortSet> {
    let written = workload.network.as_ref()?.metrics_ports.as_ref()?;
    let ports = written
        .iter()
        .filter_map(|port| u16::try_from(*port).ok().filter(|port| *port > 0));
    Some(PortSet::single(ports.map(|port| (Protocol::TCP, port))))
}
