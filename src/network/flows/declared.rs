//! What an author wrote, one entry for each other end. Two entries about the same end are one flow: their ports add up,
//! and a status has one line for it.

use crate::api::network::{AcceptFrom, ConnectTo, Port, WorkloadRef};
use crate::api::text::{Cidr, DnsLabel};
use crate::api::workload::FlowDirection;
use crate::network::ports::{PortError, PortSet};
use crate::network::rules;
use crate::network::validate::{Problem, pick, word};
use crate::network::world::{Workload, WorkloadKey};

/// The other end of a flow, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Service(&'a str),
    Source(&'a str),
    Workload(WorkloadKey),
    Cidr(&'a Cidr),
    /// None of them, or several.
    Nothing,
}

/// A flow as declared at one end.
#[derive(Debug)]
pub(super) struct Declared<'a> {
    pub direction: FlowDirection,
    pub name: String,
    pub target: Target<'a>,
    pub automatic: bool,
    /// Where it was first written; empty for an automatic flow.
    pub field: String,
    ports: Result<Option<PortSet>, PortError>,
}

impl<'a> Declared<'a> {
    /// A flow of the policy.
    pub(super) fn automatic(target: Target<'a>) -> Self {
        let direction = match target {
            Target::Source(_) => FlowDirection::Ingress,
            _ => FlowDirection::Egress,
        };
        Self {
            direction,
            name: name(&target).unwrap_or_default(),
            target,
            automatic: true,
            field: String::new(),
            ports: Ok(None),
        }
    }

    /// The ports that were written; `None` when one entry names none.
    pub(super) fn ports(&self) -> Result<Option<&PortSet>, Problem> {
        self.ports.as_ref().map(Option::as_ref).map_err(|error| {
            let rule = pick(self.direction, &rules::EGRESS_PORT, &rules::INGRESS_PORT);
            let message = format!("{} {}: {error}", word(self.direction), self.name);
            Problem::refused(rule, message, "ports are numbers from 1 to 65535")
        })
    }

    /// The refusal of an entry that is not exactly one thing.
    pub(super) fn not_one_thing(&self) -> Problem {
        let rule = pick(self.direction, &rules::EGRESS_FLOW, &rules::INGRESS_FLOW);
        let (message, fix) = match self.direction {
            FlowDirection::Egress => (
                "egress entry is not one thing",
                "set exactly one of service, workload, cidr",
            ),
            FlowDirection::Ingress => (
                "ingress entry is not one thing",
                "set exactly one of source, workload, cidr",
            ),
        };
        Problem::refused(rule, message.to_owned(), fix)
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        (self.direction, &self.name) == (other.direction, &other.name)
    }

    /// Adds another entry about the same end.
    fn absorb(&mut self, other: Self) {
        let service = matches!(self.target, Target::Service(_));
        self.ports = match (std::mem::replace(&mut self.ports, Ok(None)), other.ports) {
            (Ok(Some(mine)), Ok(Some(more))) => Ok(Some(mine.union(&more))),
            // A service with ports is a mistake, and one right entry does not mend it.
            (Ok(Some(ports)), Ok(None)) | (Ok(None), Ok(Some(ports))) if service => Ok(Some(ports)),
            (Ok(_), Ok(_)) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
}

/// Every flow that an author declared, in the order of writing.
pub(super) fn flows(workload: &Workload) -> Vec<Declared<'_>> {
    let egress = connect_to(workload).iter().enumerate().map(|(index, entry)| {
        let target = match (&entry.service, &entry.workload, &entry.cidr) {
            (Some(service), None, None) => Target::Service(service),
            (None, Some(other), None) => Target::Workload(key(workload, other)),
            (None, None, Some(cidr)) => Target::Cidr(cidr),
            _ => Target::Nothing,
        };
        entry_of(FlowDirection::Egress, target, index, entry.ports.as_deref())
    });
    let ingress = accept_from(workload).iter().enumerate().map(|(index, entry)| {
        let target = match (&entry.source, &entry.workload, &entry.cidr) {
            (Some(source), None, None) => Target::Source(source),
            (None, Some(other), None) => Target::Workload(key(workload, other)),
            (None, None, Some(cidr)) => Target::Cidr(cidr),
            _ => Target::Nothing,
        };
        entry_of(FlowDirection::Ingress, target, index, entry.ports.as_deref())
    });
    let mut flows: Vec<Declared<'_>> = Vec::new();
    for flow in egress.chain(ingress) {
        // At most 64 entries: a list is quicker than a map.
        match flows.iter_mut().find(|known| known.same_as(&flow)) {
            Some(known) => known.absorb(flow),
            None => flows.push(flow),
        }
    }
    flows
}

/// The names of catalogue services that an author wrote as they should be.
pub(super) fn services(workload: &Workload) -> impl Iterator<Item = &str> {
    let entries = connect_to(workload);
    let with_ports = move |name: &Option<DnsLabel>| {
        let mut others = entries.iter().filter(|entry| entry.ports.is_some());
        others.any(|entry| entry.service == *name)
    };
    entries
        .iter()
        .filter(|entry| entry.workload.is_none() && entry.cidr.is_none())
        .filter(move |entry| !with_ports(&entry.service))
        .filter_map(|entry| entry.service.as_deref())
}

/// What `from` asks of `to`: `None` when it does not name it, every port when it names none.
pub(super) fn asked(from: &Workload, to: &WorkloadKey) -> Option<PortSet> {
    let entries = connect_to(from)
        .iter()
        .filter(|entry| entry.service.is_none() && entry.cidr.is_none());
    sum(
        from,
        to,
        entries.map(|entry| (&entry.workload, &entry.ports)),
        &PortSet::all(),
    )
}

/// What `to` accepts from `from`, `default` standing for an entry without ports.
pub(super) fn accepted(to: &Workload, from: &WorkloadKey, default: &PortSet) -> Option<PortSet> {
    let entries = accept_from(to)
        .iter()
        .filter(|entry| entry.source.is_none() && entry.cidr.is_none());
    sum(to, from, entries.map(|entry| (&entry.workload, &entry.ports)), default)
}

/// The ports of all entries about `other`. An entry with a bad port declares nothing.
fn sum<'a>(
    workload: &Workload,
    other: &WorkloadKey,
    entries: impl Iterator<Item = (&'a Option<WorkloadRef>, &'a Option<Vec<Port>>)>,
    default: &PortSet,
) -> Option<PortSet> {
    let mut sum: Option<PortSet> = None;
    for (reference, ports) in entries {
        let Some(reference) = reference else { continue };
        if *reference.name != *other.name || namespace(workload, reference) != other.namespace {
            continue;
        }
        let ports = match ports {
            None => default.clone(),
            // One bad port spoils the flow at its own end, so it may not open it from here.
            Some(ports) => PortSet::written(ports).ok()?,
        };
        sum = Some(sum.map_or_else(|| ports.clone(), |sum| sum.union(&ports)));
    }
    sum
}

fn connect_to(workload: &Workload) -> &[ConnectTo] {
    let network = workload.network.as_ref();
    network
        .and_then(|network| network.connect_to.as_deref())
        .unwrap_or_default()
}

fn accept_from(workload: &Workload) -> &[AcceptFrom] {
    let network = workload.network.as_ref();
    network
        .and_then(|network| network.accept_from.as_deref())
        .unwrap_or_default()
}

/// The workload that a reference means, seen from another.
fn key(workload: &Workload, reference: &WorkloadRef) -> WorkloadKey {
    WorkloadKey::new(namespace(workload, reference), &*reference.name)
}

fn namespace<'a>(workload: &'a Workload, reference: &'a WorkloadRef) -> &'a str {
    reference.namespace.as_deref().unwrap_or(&workload.key.namespace)
}

fn entry_of<'a>(direction: FlowDirection, target: Target<'a>, index: usize, ports: Option<&[Port]>) -> Declared<'a> {
    let list = match direction {
        FlowDirection::Egress => "connectTo",
        FlowDirection::Ingress => "acceptFrom",
    };
    Declared {
        direction,
        name: name(&target).unwrap_or_else(|| format!("{list}[{index}]")),
        target,
        automatic: false,
        field: format!("spec.network.{list}[{index}]"),
        ports: ports.map(PortSet::written).transpose(),
    }
}

/// The name of a flow in a status.
fn name(target: &Target<'_>) -> Option<String> {
    match target {
        Target::Service(name) => Some(format!("service {name}")),
        Target::Source(name) => Some(format!("source {name}")),
        Target::Workload(key) => Some(format!("workload {key}")),
        Target::Cidr(cidr) => Some(format!("cidr {cidr}")),
        Target::Nothing => None,
    }
}
