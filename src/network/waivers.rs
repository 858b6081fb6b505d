//! Flows between two stages that a Waiver opens: from one workload to another, on the ports it names, until it ends.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::cluster_deny;
use super::ports::PortSet;
use super::world::{WorkloadKey, World};
use crate::api::Waiver;
use crate::compliance::waiver;

/// A Waiver with a flow, as it stands at the moment of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowWaiver {
    /// The workload that connects.
    pub from: WorkloadKey,
    /// The workload that is reached.
    pub to: WorkloadKey,
    /// The destination ports.
    pub ports: PortSet,
    /// When it ends.
    pub until: Timestamp,
    /// Why it opens nothing, in one line; `None` while it holds.
    pub closed: Option<String>,
}

/// The Waivers with a flow, by name. `max_days` is the policy's limit; see [`waiver::judge`].
pub fn of<'w>(
    waivers: impl IntoIterator<Item = &'w Waiver>,
    max_days: i32,
    now: Timestamp,
) -> BTreeMap<String, FlowWaiver> {
    let named = |waiver: &Waiver| Some((waiver.name_any(), one(waiver, max_days, now)?));
    waivers.into_iter().filter_map(named).collect()
}

fn one(waiver: &Waiver, max_days: i32, now: Timestamp) -> Option<FlowWaiver> {
    let flow = waiver.spec.flow.as_ref()?;
    let (ports, bad) = match PortSet::written(&flow.ports) {
        Ok(ports) => (ports, None),
        Err(error) => (
            PortSet::none(),
            Some(format!("spec.flow.ports: {error}; write a new one")),
        ),
    };
    let judged = waiver::judge(waiver, max_days, now);
    Some(FlowWaiver {
        from: WorkloadKey::new(&*flow.from.namespace, &*flow.from.workload),
        to: WorkloadKey::new(&*flow.to.namespace, &*flow.to.workload),
        ports,
        until: waiver.spec.expiration_time.0,
        closed: judged.err().map(|why| why.message).or(bad),
    })
}

/// What Waivers open between two workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waived {
    /// The ports of all of them.
    pub ports: PortSet,
    /// `Waiver a until 2030-01-01T00:00:00Z`, one after the other.
    pub by: String,
}

/// What the Waivers of a world open from one workload to another; otherwise why those about this flow do not, `None` where
/// there is none about it.
pub(super) fn between(world: &World, from: &WorkloadKey, to: &WorkloadKey) -> Result<Waived, Option<String>> {
    let about = world
        .waivers
        .iter()
        .filter(|(_, waiver)| (&waiver.from, &waiver.to) == (from, to));
    let (mut open, mut closed) = (Vec::new(), None);
    for (name, waiver) in about {
        match holds(world, waiver) {
            Ok(()) => open.push((name, waiver)),
            Err(why) => closed = closed.or_else(|| Some(format!("Waiver {name} opens nothing: {why}"))),
        }
    }
    if open.is_empty() {
        return Err(closed);
    }
    let by: Vec<String> = open.iter().map(|(name, waiver)| told(name, waiver)).collect();
    let ports = open
        .iter()
        .fold(PortSet::none(), |ports, (_, waiver)| ports.union(&waiver.ports));
    Ok(Waived {
        ports,
        by: by.join(", "),
    })
}

/// Whether it opens its flow; otherwise why not.
fn holds(world: &World, waiver: &FlowWaiver) -> Result<(), String> {
    match &waiver.closed {
        Some(why) => Err(why.clone()),
        None => cluster_deny::lets_through(world, waiver),
    }
}

/// The same Waivers, closed where our denies that are stored close their flows.
pub fn behind_denies(world: &World, waivers: BTreeMap<String, FlowWaiver>) -> BTreeMap<String, FlowWaiver> {
    let seen = |(name, mut waiver): (String, FlowWaiver)| {
        waiver.closed = holds(world, &waiver).err();
        (name, waiver)
    };
    waivers.into_iter().map(seen).collect()
}

/// The Waivers that open a flow into or out of a namespace, each with its end; sorted.
pub fn about(world: &World, namespace: &str) -> Vec<String> {
    let ends_here = |waiver: &FlowWaiver| [&waiver.from, &waiver.to].iter().any(|end| end.namespace == namespace);
    let here = world.waivers.iter().filter(|(_, waiver)| ends_here(waiver));
    let open = here.filter(|(_, waiver)| holds(world, waiver).is_ok());
    open.map(|(name, waiver)| told(name, waiver)).collect()
}

fn told(name: &str, waiver: &FlowWaiver) -> String {
    format!("Waiver {name} until {}", waiver.until)
}
