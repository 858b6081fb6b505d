//! Waivers in the denies between stages.
//!
//! A Waiver for a flow is a Pass before the deny, in the policies of both stages: out of the one stage to the workload
//! that is reached, into the other from the workload that connects. A subject is a stage and not a workload, so that two
//! Waivers between the same stages pass each other's ends too; behind a Pass the NetworkPolicies decide, and those open
//! the two flows alone.

use std::collections::HashMap;

use crate::api::names;
use crate::api::network::Protocol;
use crate::api::stage::NamespaceStage;
use crate::network::cluster_policy::{
    Action, EgressPeer, EgressRule, IngressRule, KIND, NamespacedPod, PortMatch, PortRange, ProtocolMatch, Spec,
    Subject, Transport,
};
use crate::network::policies::{in_workload, selecting};
use crate::network::ports::{Interval, PortSet};
use crate::network::waivers::FlowWaiver;
use crate::network::world::{WorkloadKey, World};

use super::{STAGES, name};

/// The most rules of one direction that the kind takes, but one: the deny.
const MOST_WAIVERS: usize = 24;

/// Puts the exceptions of a stage before its deny.
pub(super) fn put_first(spec: &mut Spec, world: &World, stage: NamespaceStage) {
    let waivers = passed(world);
    let of = |end: &WorkloadKey| stage_of(world, end) == Some(stage);
    let out = waivers.iter().filter(|waiver| of(&waiver.from));
    spec.egress.splice(0..0, out.map(|waiver| pass_out(waiver)));
    let into = waivers.iter().filter(|waiver| of(&waiver.to));
    spec.ingress.splice(0..0, into.map(|waiver| pass_in(waiver)));
}

/// The Waivers between two stages that hold and that there is room for, in the order of their names.
fn passed(world: &World) -> Vec<&FlowWaiver> {
    let mut taken: HashMap<(NamespaceStage, &str), usize> = HashMap::new();
    let mut found = Vec::new();
    for waiver in world.waivers.values().filter(|waiver| waiver.closed.is_none()) {
        let ends = stage_of(world, &waiver.from).zip(stage_of(world, &waiver.to));
        let Some((from, to)) = ends.filter(|(from, to)| from != to && STAGES.contains(from) && STAGES.contains(to))
        else {
            continue;
        };
        let rules = [(from, "egress"), (to, "ingress")];
        if rules
            .iter()
            .any(|rule| taken.get(rule).is_some_and(|rules| *rules >= MOST_WAIVERS))
        {
            continue;
        }
        for rule in rules {
            *taken.entry(rule).or_default() += 1;
        }
        found.push(waiver);
    }
    found
}

/// Whether our denies that are stored let a Waiver's flow through to the NetworkPolicies; otherwise why not.
pub(in crate::network) fn lets_through(world: &World, waiver: &FlowWaiver) -> Result<(), String> {
    let closed = |end: &WorkloadKey, passes: &dyn Fn(&Spec) -> bool| {
        let name = stage_of(world, end).map(name)?;
        let stored = world.cluster_policies.iter().find(|policy| policy.name == name)?;
        (!stored.spec.as_ref().is_ok_and(passes)).then_some(name)
    };
    let closed = closed(&waiver.from, &|spec| spec.egress.contains(&pass_out(waiver)))
        .or_else(|| closed(&waiver.to, &|spec| spec.ingress.contains(&pass_in(waiver))));
    closed.map_or(Ok(()), |name| {
        Err(format!(
            "{KIND} {name} of network.clusterDeny closes it: the exception is not stored yet, or there is no room, at most \
             {MOST_WAIVERS} Waivers out of a stage or into it; end another one, or set clusterDeny to None"
        ))
    })
}

fn stage_of(world: &World, workload: &WorkloadKey) -> Option<NamespaceStage> {
    world.stage_of(&workload.namespace)
}

/// Out of the stage of the workload that connects.
fn pass_out(waiver: &FlowWaiver) -> EgressRule {
    EgressRule {
        name: Some("waived".to_owned()),
        action: Action::Pass,
        to: vec![EgressPeer {
            pods: Some(pods(&waiver.to)),
            ..EgressPeer::default()
        }],
        protocols: Some(protocols(&waiver.ports)),
    }
}

/// Into the stage of the workload that is reached.
fn pass_in(waiver: &FlowWaiver) -> IngressRule {
    IngressRule {
        name: Some("waived".to_owned()),
        action: Action::Pass,
        from: vec![Subject {
            namespaces: None,
            pods: Some(pods(&waiver.from)),
        }],
        protocols: Some(protocols(&waiver.ports)),
    }
}

fn pods(workload: &WorkloadKey) -> NamespacedPod {
    NamespacedPod {
        namespace_selector: selecting([(names::NAMESPACE_NAME_LABEL.to_owned(), workload.namespace.clone())]),
        pod_selector: in_workload(&workload.name),
    }
}

fn protocols(ports: &PortSet) -> Vec<ProtocolMatch> {
    let one = |interval: &Interval| {
        let (start, end) = (i32::from(interval.first), i32::from(interval.last));
        let port = if start == end {
            PortMatch {
                number: Some(start),
                range: None,
            }
        } else {
            PortMatch {
                number: None,
                range: Some(PortRange { start, end }),
            }
        };
        let transport = Some(Transport {
            destination_port: Some(port),
        });
        match interval.protocol {
            Protocol::TCP => ProtocolMatch {
                tcp: transport,
                ..ProtocolMatch::default()
            },
            Protocol::UDP => ProtocolMatch {
                udp: transport,
                ..ProtocolMatch::default()
            },
            Protocol::SCTP => ProtocolMatch {
                sctp: transport,
                ..ProtocolMatch::default()
            },
        }
    };
    ports.intervals().iter().map(one).collect()
}
