//! From what people declared to what is open. Every declared flow gets a state; nothing is lost, and one bad flow does
//! not close the others.

mod declared;
mod ends;
mod sources;

pub(super) use self::ends::service_ports;

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use crate::api::network::{CatalogueService, Source};
use crate::api::stage::NamespaceStage;
use crate::api::workload::{FlowDirection, FlowState, FlowStatus};
use crate::compliance::finding::Finding;

use self::declared::{Declared, Target};
use super::ports::PortSet;
use super::validate::{self, Problem, Verdict};
use super::world::{Workload, WorkloadKey, World};

/// The built-in service: the API servers.
pub const KUBERNETES_API: &str = "kubernetes-api";
/// Most flows a status holds (`AiWorkload.status.flows`).
const STATUS_LIMIT: usize = 64;
/// Longest message of one flow in a status.
const MESSAGE_LIMIT: usize = 512;

/// The flows of one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// One for each declared flow, then the automatic ones, sorted by direction and name; at most 64.
    pub statuses: Vec<FlowStatus>,
    /// What is wrong, the gravest first.
    pub findings: Vec<Finding>,
    /// Those of the findings that may come to nothing by themselves: what the flow names is not there, or not yet.
    pub unresolved: Vec<Finding>,
    /// What the workload may connect to, sorted.
    pub egress: Vec<Opening>,
    /// What may connect to the workload, sorted.
    pub ingress: Vec<Opening>,
}

/// An open flow, seen from the workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// The flow's name in the status.
    pub name: String,
    /// The other end.
    pub peers: Vec<Peer>,
    /// Destination ports.
    pub ports: PortSet,
}

/// The other end of an open flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The pods of a workload.
    Workload(WorkloadKey),
    /// Pods that the policy names; no labels means all of the namespace.
    Pods {
        /// Their namespace.
        namespace: String,
        /// Their labels.
        labels: BTreeMap<String, String>,
    },
    /// Addresses.
    Network {
        /// The network.
        cidr: IpNet,
        /// The cluster's own ranges inside it.
        except: Vec<IpNet>,
    },
}

/// Resolves the flows of one workload.
pub fn resolve(world: &World, workload: &Workload) -> Flows {
    Resolver::new(world).resolve(workload)
}

/// What one flow came to.
#[derive(Debug, Default)]
struct Outcome {
    openings: Vec<Opening>,
    /// Worth saying although the flow is open.
    note: String,
}

/// A world with its catalogue looked up by name; made once for many workloads.
#[derive(Debug)]
pub struct Resolver<'w> {
    world: &'w World,
    services: HashMap<&'w str, &'w CatalogueService>,
    sources: HashMap<&'w str, &'w Source>,
    ranges: Vec<IpNet>,
}

impl<'w> Resolver<'w> {
    /// Reads the catalogue.
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            services: world.services().iter().map(|entry| (&*entry.name, entry)).collect(),
            sources: world.sources().iter().map(|entry| (&*entry.name, entry)).collect(),
            ranges: world.ranges().unwrap_or_default(),
        }
    }

    /// The world that is looked at.
    pub const fn world(&self) -> &'w World {
        self.world
    }

    /// Resolves the flows of one workload.
    pub fn resolve(&self, workload: &Workload) -> Flows {
        let refusal = match validate::workload(self.world, workload) {
            Verdict::Accepted => None,
            Verdict::Refused(findings) => Some(findings),
        };
        let mut collected = Collected::new(workload);
        let declared = declared::flows(workload);
        for flow in &declared {
            collected.add(flow, || match &refusal {
                Some(findings) => Err(closed_by(findings)),
                None if workload.quarantined => Err(in_quarantine()),
                None => self.one(workload, flow),
            });
        }
        match refusal {
            Some(findings) => collected.flows.findings = findings,
            None if workload.quarantined => {}
            None => {
                for flow in self.automatic(workload) {
                    if !declared.iter().any(|known| known.same_as(&flow)) {
                        collected.add(&flow, || self.one(workload, &flow));
                    }
                }
            }
        }
        collected.finish()
    }

    /// Only what is open, egress and ingress, as in [`Self::resolve`]: enough to render, and much cheaper.
    pub fn openings(&self, workload: &Workload) -> [Vec<Opening>; 2] {
        let mut open = [Vec::new(), Vec::new()];
        if workload.quarantined || !validate::accepts(self.world, workload) {
            return open;
        }
        let declared = declared::flows(workload);
        let automatic = self.automatic(workload);
        let automatic = automatic
            .iter()
            .filter(|flow| !declared.iter().any(|known| known.same_as(flow)));
        for flow in declared.iter().chain(automatic) {
            if let Ok(outcome) = self.one(workload, flow) {
                open[usize::from(flow.direction == FlowDirection::Ingress)].extend(outcome.openings);
            }
        }
        for side in &mut open {
            side.sort();
        }
        open
    }

    /// The catalogue services in shared namespaces that are open to a workload, without duplicates.
    pub fn shared_services(&self, workload: &Workload) -> Vec<&'w CatalogueService> {
        if workload.quarantined || !validate::accepts(self.world, workload) {
            return Vec::new();
        }
        let automatic = self
            .world
            .services()
            .iter()
            .filter(|entry| entry.automatic == Some(true));
        let mut names: Vec<&str> = declared::services(workload)
            .chain(automatic.map(|entry| &*entry.name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| self.services.get(name).copied())
            .filter(|entry| self.is_shared(entry))
            .filter(|entry| self.service_end(workload, entry).is_ok() && service_ports(entry).is_ok())
            .collect()
    }

    /// The catalogue services in shared namespaces, in the order of the catalogue. Of two with one name, which only a
    /// file that no API server saw can hold, the one that [`Self::resolve`] means.
    pub fn shared_entries(&self) -> impl Iterator<Item = &'w CatalogueService> {
        let meant = |entry: &&CatalogueService| {
            let found = self.services.get(&*entry.name);
            found.is_some_and(|found| std::ptr::eq(*found, *entry))
        };
        let entries = self.world.services().iter().filter(meant);
        entries.filter(|entry| self.is_shared(entry))
    }

    fn is_shared(&self, entry: &CatalogueService) -> bool {
        let namespace = entry.to.namespace.as_deref();
        namespace.and_then(|namespace| self.world.stage_of(namespace)) == Some(NamespaceStage::Shared)
    }

    fn one(&self, workload: &Workload, flow: &Declared<'_>) -> Result<Outcome, Problem> {
        let ports = flow.ports()?;
        match &flow.target {
            Target::Nothing => Err(flow.not_one_thing()),
            Target::Service(name) => self.service(workload, name, flow),
            Target::Source(name) => self.source(workload, name, ports, flow),
            Target::Workload(other) => self.workload(workload, other, flow),
            Target::Cidr(cidr) => self.network(workload, cidr, ports, flow),
        }
    }

    /// Services and sources that the policy gives to every workload of the stage.
    fn automatic(&self, workload: &Workload) -> Vec<Declared<'w>> {
        let fits = |stages: Option<&Vec<_>>| stages.is_none_or(|stages| stages.contains(&workload.stage));
        let services = self
            .world
            .services()
            .iter()
            .filter(|entry| entry.automatic == Some(true) && fits(entry.stages.as_ref()))
            .map(|entry| Declared::automatic(Target::Service(&entry.name)));
        let sources = self
            .world
            .sources()
            .iter()
            .filter(|entry| entry.automatic == Some(true) && fits(entry.stages.as_ref()))
            .map(|entry| Declared::automatic(Target::Source(&entry.name)));
        services.chain(sources).collect()
    }
}

/// What a flow of a refused workload says.
fn closed_by(findings: &[Finding]) -> Problem {
    let why = findings
        .first()
        .map(|first| format!(": {} {}", first.rule, first.message))
        .unwrap_or_default();
    Problem {
        state: FlowState::Refused,
        rule: None,
        message: format!("the workload is refused{why}"),
        fix: String::new(),
    }
}

/// What a flow of a workload in quarantine says. Nobody did anything wrong.
fn in_quarantine() -> Problem {
    Problem {
        state: FlowState::Refused,
        rule: None,
        message: "the workload is in quarantine".to_owned(),
        fix: "who may release it runs `cloison quarantine --release`".to_owned(),
    }
}

/// Flows under way.
struct Collected<'w> {
    workload: &'w Workload,
    flows: Flows,
}

impl<'w> Collected<'w> {
    fn new(workload: &'w Workload) -> Self {
        Self {
            workload,
            flows: Flows::default(),
        }
    }

    fn add(&mut self, flow: &Declared<'_>, resolve: impl FnOnce() -> Result<Outcome, Problem>) {
        let (state, message) = match resolve() {
            // An automatic flow that brings nothing to this runtime is no news.
            Ok(outcome) if flow.automatic && outcome.openings.is_empty() => return,
            Ok(outcome) => {
                match flow.direction {
                    FlowDirection::Egress => self.flows.egress.extend(outcome.openings),
                    FlowDirection::Ingress => self.flows.ingress.extend(outcome.openings),
                }
                (FlowState::Open, outcome.note)
            }
            Err(problem) => {
                let finding = problem.finding(&self.workload.key, &flow.field);
                if problem.state == FlowState::Unresolved {
                    self.flows.unresolved.extend(finding.clone());
                }
                self.flows.findings.extend(finding);
                let dash = if problem.fix.is_empty() { "" } else { "; " };
                (problem.state, format!("{}{dash}{}", problem.message, problem.fix))
            }
        };
        // Declared flows come first, so only automatic ones are ever left out.
        if self.flows.statuses.len() < STATUS_LIMIT {
            self.flows.statuses.push(FlowStatus {
                direction: flow.direction,
                name: flow.name.clone(),
                state,
                message: shorten(message),
            });
        }
    }

    fn finish(mut self) -> Flows {
        self.flows
            .statuses
            .sort_by(|a, b| (a.direction, &a.name).cmp(&(b.direction, &b.name)));
        self.flows.findings.sort();
        self.flows.egress.sort();
        self.flows.ingress.sort();
        self.flows
    }
}

fn shorten(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let mut end = MESSAGE_LIMIT - 4;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(" …");
    }
    message
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
