//! The other end of a flow: a workload, a catalogue service, a network. Sources are in [`sources`](super::sources).

use std::collections::BTreeMap;

use crate::api::network::{CatalogueService, PodLabels};
use crate::api::stage::NamespaceStage;
use crate::api::text::Cidr;
use crate::api::workload::FlowDirection;
use crate::network::mesh;
use crate::network::ports::PortSet;
use crate::network::presets::preset;
use crate::network::rules;
use crate::network::validate::{self, Problem, did_you_mean, pick};
use crate::network::waivers::Waived;
use crate::network::world::{Workload, WorkloadKey, network, owned};

use super::declared::{self, Declared};
use super::{KUBERNETES_API, Opening, Outcome, Peer, Resolver};

/// Where something of the policy is.
#[derive(Debug)]
pub(super) struct End {
    pub peers: Vec<Peer>,
    pub note: String,
}

impl Resolver<'_> {
    /// Another workload: both ends declare, the ports are those that both name.
    pub(super) fn workload(
        &self,
        workload: &Workload,
        other: &WorkloadKey,
        flow: &Declared<'_>,
    ) -> Result<Outcome, Problem> {
        if *other == workload.key {
            return Ok(Outcome {
                note: "traffic inside a workload is always open".to_owned(),
                ..Outcome::default()
            });
        }
        let (peer, waived) = validate::peer(self.world, workload, other, flow.direction)?;
        let (from, to) = match flow.direction {
            FlowDirection::Egress => (workload, peer),
            FlowDirection::Ingress => (peer, workload),
        };
        let default = preset(to.runtime).serving_ports().unwrap_or_else(PortSet::all);
        let asked = declared::asked(from, &to.key).ok_or_else(|| one_sided(from, "connectTo", &to.key))?;
        let accepted =
            declared::accepted(to, &from.key, &default).ok_or_else(|| one_sided(to, "acceptFrom", &from.key))?;
        if waived.is_none() && asked.is_all() && accepted.is_all() {
            return Err(no_port(flow));
        }
        let ports = asked.intersection(&accepted);
        if ports.is_empty() {
            let message = format!(
                "no port in common: {} asks {asked}, {} accepts {accepted}",
                from.key, to.key
            );
            return Err(Problem::awaiting(message, "name the same ports at both ends"));
        }
        if let Some(waived) = waived {
            return self.waived(flow, other, &ports, &waived);
        }
        let closed = asked.difference(&ports);
        // News to the one that asks; the one that accepts less knows it.
        let note = if flow.direction == FlowDirection::Ingress || asked.is_all() || closed.is_empty() {
            String::new()
        } else {
            format!("open on {ports}; {} does not accept {closed}", to.key)
        };
        Ok(Outcome {
            openings: vec![opening(flow, vec![Peer::Workload(other.clone())], ports)],
            note,
        })
    }

    /// A flow between two stages: of what both ends declare, what the Waivers name.
    fn waived(
        &self,
        flow: &Declared<'_>,
        other: &WorkloadKey,
        declared: &PortSet,
        waived: &Waived,
    ) -> Result<Outcome, Problem> {
        let ports = declared.intersection(&waived.ports);
        let rule = || rules::CROSS_STAGE;
        let Waived { ports: named, by } = waived;
        if ports.is_empty() {
            let message = format!("both ends declare {declared}, and {by} names {named}");
            return Err(Problem::refused(
                rule(),
                message,
                "declare a port that the Waiver names, or ask for another Waiver",
            ));
        }
        let needed = mesh::through(self.world.policy.network.mesh, &ports);
        if !needed.is_within(named) {
            let message = format!(
                "the mesh carries it over {}, which {by} does not name",
                needed.difference(named)
            );
            return Err(Problem::refused(
                rule(),
                message,
                "ask for a Waiver that names the port of the mesh too",
            ));
        }
        let closed = declared.difference(&ports);
        let but = if closed.is_empty() || declared.is_all() {
            String::new()
        } else {
            format!(", which does not name {closed}")
        };
        Ok(Outcome {
            openings: vec![opening(flow, vec![Peer::Workload(other.clone())], ports.clone())],
            note: format!("open to another stage on {ports} by {by}{but}"),
        })
    }

    /// A network outside the cluster.
    pub(super) fn network(
        &self,
        workload: &Workload,
        cidr: &Cidr,
        ports: Option<&PortSet>,
        flow: &Declared<'_>,
    ) -> Result<Outcome, Problem> {
        let cidr = validate::network(self.world, cidr, flow.direction)?;
        let serving = || match flow.direction {
            FlowDirection::Egress => None,
            FlowDirection::Ingress => preset(workload.runtime).serving_ports(),
        };
        let ports = ports.cloned().or_else(serving).ok_or_else(|| no_port(flow))?;
        let except = Vec::new();
        Ok(opening(flow, vec![Peer::Network { cidr, except }], ports).into())
    }

    /// A service of the catalogue, or the built-in one.
    pub(super) fn service(&self, workload: &Workload, name: &str, flow: &Declared<'_>) -> Result<Outcome, Problem> {
        if flow.ports()?.is_some() {
            let message = format!("service {name:?}: the ports of a service come from the catalogue");
            return Err(Problem::refused(rules::EGRESS_FLOW, message, "remove `ports`"));
        }
        match self.services.get(name) {
            Some(entry) => {
                let End { peers, note } = self.service_end(workload, entry)?;
                let ports = service_ports(entry)?;
                Ok(Outcome {
                    openings: vec![opening(flow, peers, ports)],
                    note,
                })
            }
            None if name == KUBERNETES_API => self.api_servers(flow),
            None => {
                let known = self.services.keys().copied().chain([KUBERNETES_API]);
                let fix = did_you_mean(name, known, "see what there is:");
                let message = format!("unknown service {name:?}");
                let fix = format!("{fix} (kubectl cloison catalogue)");
                Err(Problem::unresolved(rules::UNKNOWN_SERVICE, message, fix))
            }
        }
    }

    fn api_servers(&self, flow: &Declared<'_>) -> Result<Outcome, Problem> {
        let mut by_port: BTreeMap<u16, Vec<Peer>> = BTreeMap::new();
        for (cidr, port) in self.world.api_servers() {
            let except = Vec::new();
            by_port.entry(port).or_default().push(Peer::Network { cidr, except });
        }
        if by_port.is_empty() {
            let message = "the addresses of the API servers are not known yet".to_owned();
            let fix = "the admin can name them: spec.network.apiServer.cidrs of the AiSecurityPolicy";
            return Err(Problem::unresolved(rules::SERVICE_UNRESOLVED, message, fix));
        }
        let openings = by_port.into_iter().map(|(port, mut peers)| {
            peers.sort();
            peers.dedup();
            opening(
                flow,
                peers,
                PortSet::single([(crate::api::network::Protocol::TCP, port)]),
            )
        });
        Ok(Outcome {
            openings: openings.collect(),
            note: String::new(),
        })
    }

    /// Where a service is, if this workload may go there.
    pub(super) fn service_end(&self, workload: &Workload, entry: &CatalogueService) -> Result<End, Problem> {
        let name = &*entry.name;
        let what = || format!("service {name:?}");
        validate::for_stage(entry.stages.as_deref(), workload.stage, &rules::SERVICE_STAGE, what)?;
        let to = &entry.to;
        match (to.namespace.as_deref(), &to.cidrs) {
            (Some(namespace), _) => match self.world.namespaces.get(namespace).map(|found| found.stage) {
                None => Err(Problem::unresolved(
                    rules::SERVICE_UNRESOLVED,
                    format!("service {name:?}: its namespace {namespace:?} does not exist"),
                    "the flow opens once it does",
                )),
                Some(None) => Ok(End {
                    peers: vec![pods(namespace, to.pod_labels.as_ref())],
                    note: format!("opened on this side only: namespace {namespace:?} has no stage"),
                }),
                Some(Some(NamespaceStage::Shared)) => Ok(End {
                    peers: vec![pods(namespace, to.pod_labels.as_ref())],
                    note: String::new(),
                }),
                Some(Some(stage)) if stage == workload.stage.into() => Err(Problem::refused(
                    rules::SERVICE_IN_STAGE,
                    format!("service {name:?} is in namespace {namespace:?} of this very stage"),
                    "declare the flow between the two workloads, at both ends",
                )),
                Some(Some(stage)) => Err(validate::cross_stage(
                    format!("service {name:?} is in namespace {namespace:?} of stage {stage}"),
                    "ask the admin to move it to a shared namespace",
                    "between the two workloads",
                )),
            },
            (None, Some(cidrs)) => self.admin_networks(&what(), cidrs, FlowDirection::Egress),
            (None, None) => Err(Problem::unresolved(
                rules::FQDN_UNSUPPORTED,
                format!("service {name:?} is given by host names, which network policies do not know"),
                "ask the admin for its networks, or for an egress proxy as a service",
            )),
        }
    }

    /// Networks that the admin wrote. The cluster's own ranges are cut out of wider ones; a network inside them is
    /// taken as it is, because the admin may mean nodes or Services.
    pub(super) fn admin_networks(&self, what: &str, cidrs: &[Cidr], direction: FlowDirection) -> Result<End, Problem> {
        let mut peers = Vec::with_capacity(cidrs.len());
        for cidr in cidrs {
            let Some(network) = network(&cidr.0).filter(|network| network.trunc() == *network) else {
                let rule = pick(direction, &rules::EGRESS_CIDR, &rules::INGRESS_CIDR);
                let message = format!("{what}: {:?} is not a network without host bits", cidr.0);
                return Err(Problem::unresolved(rule, message, "ask the admin to mend the policy"));
            };
            if network.prefix_len() == 0 {
                let rule = pick(direction, &rules::EGRESS_ANY_ADDRESS, &rules::INGRESS_ANY_ADDRESS);
                let message = format!("{what}: {:?} is every address there is", cidr.0);
                return Err(Problem::refused(rule, message, "ask the admin to name networks"));
            }
            let mut except = self.ranges.clone();
            except.retain(|range| *range != network && network.contains(range));
            except.sort_unstable();
            except.dedup();
            peers.push(Peer::Network { cidr: network, except });
        }
        peers.sort();
        peers.dedup();
        Ok(End {
            peers,
            note: String::new(),
        })
    }
}

/// The ports of a catalogue entry.
pub(in crate::network) fn service_ports(entry: &CatalogueService) -> Result<PortSet, Problem> {
    PortSet::written(&entry.ports).map_err(|error| {
        let message = format!("service {:?}: {error}", &*entry.name);
        Problem::unresolved(rules::EGRESS_PORT, message, "ask the admin to mend the policy")
    })
}

pub(super) fn no_port(flow: &Declared<'_>) -> Problem {
    let rule = pick(flow.direction, &rules::EGRESS_NO_PORT, &rules::INGRESS_NO_PORT);
    let message = format!("{}: no end names a port, and the runtime has none", flow.name);
    Problem::unresolved(rule, message, "add `ports`")
}

/// The other end has not declared the flow.
fn one_sided(silent: &Workload, list: &str, wanted: &WorkloadKey) -> Problem {
    let WorkloadKey { namespace, name } = wanted;
    Problem::awaiting(
        format!("AiWorkload {} does not declare this flow yet", silent.key),
        format!("its owner adds `{list}: [{{workload: {{name: {name}, namespace: {namespace}}}}}]`"),
    )
}

pub(super) fn pods(namespace: &str, labels: Option<&PodLabels>) -> Peer {
    Peer::Pods {
        namespace: namespace.to_owned(),
        labels: owned(labels),
    }
}

pub(super) fn opening(flow: &Declared<'_>, peers: Vec<Peer>, ports: PortSet) -> Opening {
    Opening {
        name: flow.name.clone(),
        peers,
        ports,
    }
}

impl From<Opening> for Outcome {
    fn from(opening: Opening) -> Self {
        Self {
            openings: vec![opening],
            note: String::new(),
        }
    }
}
