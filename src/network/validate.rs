//! What a workload may say about the network: short checks, asked in order. The first that answers wins.

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::api::stage::{NamespaceStage, Stage};
use crate::api::text::Cidr;
use crate::api::workload::{FlowDirection, FlowState};
use crate::compliance::finding::{Finding, Location, Subject};
use crate::compliance::id::RuleId;

use super::rules;
use super::waivers::{self, Waived};
use super::world::{self, Workload, WorkloadKey, World};

/// Whether a workload can be rendered at all. A flow that is not allowed refuses only itself: see
/// [`flows::resolve`](super::flows::resolve).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its flows are judged one by one.
    Accepted,
    /// Nothing of it is rendered; its pods meet the namespace's deny alone.
    Refused(Vec<Finding>),
}

/// Why a flow is not open, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub state: FlowState,
    /// `None` where nobody did anything wrong: the other end has not answered yet.
    pub rule: Option<RuleId>,
    pub message: String,
    pub fix: String,
}

impl Problem {
    pub(super) fn new(state: FlowState, rule: RuleId, message: String, fix: impl Into<String>) -> Self {
        Self {
            state,
            rule: Some(rule),
            message,
            fix: fix.into(),
        }
    }

    pub(super) fn refused(rule: RuleId, message: String, fix: impl Into<String>) -> Self {
        Self::new(FlowState::Refused, rule, message, fix)
    }

    pub(super) fn unresolved(rule: RuleId, message: String, fix: impl Into<String>) -> Self {
        Self::new(FlowState::Unresolved, rule, message, fix)
    }

    pub(super) fn awaiting(message: String, fix: impl Into<String>) -> Self {
        Self {
            state: FlowState::AwaitingPeer,
            rule: None,
            message,
            fix: fix.into(),
        }
    }

    /// The finding about it, at a field of the workload.
    pub(super) fn finding(&self, workload: &WorkloadKey, field: &str) -> Option<Finding> {
        let rule = self.rule.clone()?;
        let finding = Finding::new(rule, subject(workload), &self.message).with_fix(&self.fix);
        Some(if field.is_empty() {
            finding
        } else {
            finding.at(Location::field(field))
        })
    }
}

/// A workload as the subject of findings.
pub(super) fn subject(workload: &WorkloadKey) -> Subject {
    Subject::namespaced("AiWorkload", &workload.namespace, &workload.name)
}

type WorkloadCheck = fn(&World, &Workload) -> Option<Finding>;
/// In the order in which an author should mend them.
const WORKLOAD_CHECKS: [WorkloadCheck; 4] = [name, namespace_without_stage, shared_namespace, stage_mismatch];

/// Judges a workload as a whole.
pub fn workload(world: &World, workload: &Workload) -> Verdict {
    let findings: Vec<Finding> = WORKLOAD_CHECKS
        .iter()
        .filter_map(|check| check(world, workload))
        .collect();
    if findings.is_empty() {
        Verdict::Accepted
    } else {
        Verdict::Refused(findings)
    }
}

/// Whether [`workload`] accepts, without saying why not.
pub fn accepts(world: &World, workload: &Workload) -> bool {
    WORKLOAD_CHECKS.iter().all(|check| check(world, workload).is_none())
}

/// The name is the value of a pod label and part of an object's name.
fn name(_: &World, workload: &Workload) -> Option<Finding> {
    let name = &workload.key.name;
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = name.len() <= 63 && name.chars().all(inside) && end(name.chars().next()) && end(name.chars().last());
    (!fits).then(|| {
        let message = format!("name {name:?} cannot be the value of a pod label");
        Finding::new(rules::NAME, subject(&workload.key), message)
            .at(Location::field("metadata.name"))
            .with_fix("use lower-case letters, digits and dashes, at most 63")
    })
}

fn namespace_without_stage(world: &World, workload: &Workload) -> Option<Finding> {
    let namespace = &workload.key.namespace;
    world.stage_of(namespace).is_none().then(|| {
        let label = NamespaceStage::from(workload.stage);
        Finding::new(
            rules::NO_STAGE,
            subject(&workload.key),
            format!("namespace {namespace:?} has no stage"),
        )
        .at(Location::field("metadata.namespace"))
        .with_fix(format!(
            "ask the admin to label it: kubectl label namespace {namespace} cloison.dev/stage={label}"
        ))
    })
}

fn shared_namespace(world: &World, workload: &Workload) -> Option<Finding> {
    let namespace = &workload.key.namespace;
    (world.stage_of(namespace) == Some(NamespaceStage::Shared)).then(|| {
        Finding::new(
            rules::SHARED_NAMESPACE,
            subject(&workload.key),
            format!("namespace {namespace:?} is shared and holds no AiWorkload"),
        )
        .at(Location::field("metadata.namespace"))
        .with_fix("move it to a namespace of its stage, or ask the admin for a catalogue service")
    })
}

fn stage_mismatch(world: &World, workload: &Workload) -> Option<Finding> {
    let stage = world.stage_of(&workload.key.namespace)?.workload_stage()?;
    (stage != workload.stage).then(|| {
        let message = format!(
            "stage {} is not that of namespace {:?}, which is {stage}",
            workload.stage, workload.key.namespace
        );
        Finding::new(rules::STAGE_MISMATCH, subject(&workload.key), message)
            .at(Location::field("spec.stage"))
            .with_fix(format!("create it in a namespace of stage {}", workload.stage))
    })
}

/// A network that an author wrote, on its way through [`NETWORK_CHECKS`].
struct Written<'a> {
    world: &'a World,
    text: &'a str,
    network: IpNet,
    direction: FlowDirection,
}

type NetworkCheck = fn(&Written<'_>) -> Option<Problem>;
const NETWORK_CHECKS: [NetworkCheck; 6] = [host_bits, any_address, width, infrastructure, api_server, in_cluster];

/// Reads and judges a network that an author wrote.
pub(super) fn network(world: &World, cidr: &Cidr, direction: FlowDirection) -> Result<IpNet, Problem> {
    let text = cidr.0.as_str();
    let Some(network) = world::network(text) else {
        let rule = pick(direction, &rules::EGRESS_CIDR, &rules::INGRESS_CIDR);
        let message = format!("{} {text:?} is not a network", word(direction));
        return Err(Problem::refused(rule, message, "write one such as 10.20.0.0/16"));
    };
    let written = Written {
        world,
        text,
        network,
        direction,
    };
    match NETWORK_CHECKS.iter().find_map(|check| check(&written)) {
        Some(problem) => Err(problem),
        None => Ok(network),
    }
}

impl Written<'_> {
    fn refused(&self, egress: &RuleId, ingress: &RuleId, what: &str, fix: impl Into<String>) -> Problem {
        let message = format!("{} {:?} {what}", word(self.direction), self.text);
        Problem::refused(pick(self.direction, egress, ingress), message, fix)
    }
}

fn host_bits(written: &Written<'_>) -> Option<Problem> {
    let masked = written.network.trunc();
    (masked != written.network).then(|| {
        let fix = format!("write {masked}");
        written.refused(&rules::EGRESS_CIDR, &rules::INGRESS_CIDR, "has host bits", fix)
    })
}

fn any_address(written: &Written<'_>) -> Option<Problem> {
    (written.network.prefix_len() == 0).then(|| {
        let (egress, ingress) = (&rules::EGRESS_ANY_ADDRESS, &rules::INGRESS_ANY_ADDRESS);
        written.refused(egress, ingress, "is every address there is", instead(written.direction))
    })
}

fn width(written: &Written<'_>) -> Option<Problem> {
    let limits = written.world.policy.network.max_egress_cidr;
    let limit = match written.network {
        IpNet::V4(_) => limits.ipv4_prefix_length,
        IpNet::V6(_) => limits.ipv6_prefix_length,
    };
    (i32::from(written.network.prefix_len()) < limit).then(|| {
        let (egress, ingress) = (&rules::EGRESS_CIDR_WIDTH, &rules::INGRESS_CIDR_WIDTH);
        let what = format!("is wider than the policy allows (/{limit})");
        written.refused(egress, ingress, &what, instead(written.direction))
    })
}

/// Addresses where nodes and clouds hand out identities, and those that are no unicast network at all.
pub(crate) const INFRASTRUCTURE: [&str; 8] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "::/127",
    "fd00:ec2::/32",
    "fe80::/10",
    "ff00::/8",
];

fn infrastructure(written: &Written<'_>) -> Option<Problem> {
    let hit = INFRASTRUCTURE
        .iter()
        .find(|text| text.parse().is_ok_and(|network| overlap(&network, &written.network)))?;
    let what = format!("meets {hit}, addresses of the infrastructure (metadata, loopback, multicast)");
    let rule = &rules::INFRASTRUCTURE_ADDRESS;
    Some(written.refused(rule, rule, &what, instead(written.direction)))
}

fn api_server(written: &Written<'_>) -> Option<Problem> {
    if written.direction == FlowDirection::Ingress {
        return None;
    }
    let servers = written.world.api_servers();
    let (hit, _) = servers.iter().find(|(server, _)| overlap(server, &written.network))?;
    let what = format!("holds an API server ({hit})");
    let rule = &rules::API_SERVER_ADDRESS;
    Some(written.refused(rule, rule, &what, "declare `service: kubernetes-api` instead"))
}

fn in_cluster(written: &Written<'_>) -> Option<Problem> {
    let ranges = written.world.ranges()?;
    let hit = ranges.iter().find(|range| overlap(range, &written.network))?;
    let what = format!("meets the cluster's own range {hit}, where CNIs disagree on what a network policy matches");
    let (egress, ingress) = (&rules::EGRESS_CIDR_IN_CLUSTER, &rules::INGRESS_CIDR_IN_CLUSTER);
    Some(written.refused(
        egress,
        ingress,
        &what,
        "declare a workload, a service or a source instead",
    ))
}

/// Whether two networks share an address. Networks are nested or disjoint.
pub(super) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The part of the sentence that names the direction.
pub(super) const fn word(direction: FlowDirection) -> &'static str {
    match direction {
        FlowDirection::Egress => "egress",
        FlowDirection::Ingress => "ingress",
    }
}

/// One of two rules that differ by direction only.
pub(super) fn pick(direction: FlowDirection, egress: &RuleId, ingress: &RuleId) -> RuleId {
    match direction {
        FlowDirection::Egress => egress.clone(),
        FlowDirection::Ingress => ingress.clone(),
    }
}

const fn instead(direction: FlowDirection) -> &'static str {
    match direction {
        FlowDirection::Egress => "name a catalogue service instead",
        FlowDirection::Ingress => "name a source of the policy instead",
    }
}

/// Judges a reference to another workload, up to whether it may be a peer at all; what it declares comes after. Beside it,
/// what Waivers open of the flow where it is one between two stages.
pub(super) fn peer<'w>(
    world: &'w World,
    from: &Workload,
    to: &WorkloadKey,
    direction: FlowDirection,
) -> Result<(&'w Workload, Option<Waived>), Problem> {
    let WorkloadKey { namespace, name } = to;
    let unknown = |message, fix: &str| Problem::unresolved(rules::UNKNOWN_WORKLOAD, message, fix);
    let Some(there) = world.namespaces.get(namespace) else {
        return Err(unknown(
            format!("workload {to}: namespace {namespace:?} does not exist"),
            &did_you_mean(
                namespace,
                world.namespaces.keys().map(String::as_str),
                "create it first",
            ),
        ));
    };
    let Some(stage) = there.stage else {
        return Err(unknown(
            format!("workload {to}: namespace {namespace:?} has no stage"),
            "ask the admin for its stage label, or for a catalogue service",
        ));
    };
    if stage == NamespaceStage::Shared {
        return Err(Problem::refused(
            rules::UNKNOWN_WORKLOAD,
            format!("workload {to}: namespace {namespace:?} is shared and holds no AiWorkload"),
            "name a catalogue service instead",
        ));
    }
    let waived = if stage == from.stage.into() {
        None
    } else {
        let (source, target) = match direction {
            FlowDirection::Egress => (&from.key, to),
            FlowDirection::Ingress => (to, &from.key),
        };
        let waived = waivers::between(world, source, target).map_err(|closed| {
            let own = NamespaceStage::from(from.stage);
            let closed = closed.map(|why| format!("; {why}")).unwrap_or_default();
            let message = format!("workload {to} is of stage {stage}, this one of stage {own}{closed}");
            let instead = "pass data through a shared service of the catalogue";
            cross_stage(message, instead, &format!("from {source} to {target}"))
        })?;
        Some(waived)
    };
    let Some(peer) = world.workloads.get(to) else {
        let names = world.workloads_in(namespace).map(|workload| workload.key.name.as_str());
        return Err(Problem::awaiting(
            format!("AiWorkload {to} does not exist yet"),
            did_you_mean(name, names, "the flow opens once it exists and declares its end"),
        ));
    };
    if peer.quarantined {
        let message = format!("AiWorkload {to} is in quarantine");
        return Err(Problem::awaiting(message, "the flow opens again once it is released"));
    }
    match workload(world, peer) {
        Verdict::Accepted => Ok((peer, waived)),
        Verdict::Refused(findings) => {
            let mut message = format!("AiWorkload {to} is itself refused");
            if let Some(first) = findings.first() {
                let _ = write!(message, ": {} {}", first.rule, first.message);
            }
            Err(unknown(message, "its owner must mend it first"))
        }
    }
}

/// A flow between two stages that no Waiver opens. `flow` is one that a Waiver could.
pub(super) fn cross_stage(message: String, instead: &str, flow: &str) -> Problem {
    let fix = format!("{instead}, or ask for a Waiver with a flow {flow}");
    Problem::refused(rules::CROSS_STAGE, message, fix)
}

/// Judges whether something of the policy is meant for a stage.
pub(super) fn for_stage(
    stages: Option<&[Stage]>,
    stage: Stage,
    rule: &RuleId,
    what: impl FnOnce() -> String,
) -> Result<(), Problem> {
    let Some(stages) = stages.filter(|stages| !stages.contains(&stage)) else {
        return Ok(());
    };
    let names: Vec<String> = stages.iter().map(ToString::to_string).collect();
    let message = format!("{} is for {}, not for {stage}", what(), names.join(", "));
    Err(Problem::refused(
        rule.clone(),
        message,
        "ask the admin to add the stage to the entry",
    ))
}

/// The nearest known name as a question, or else what to do without one.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    // Two slips in a word of six letters or more, one in a shorter one: beyond that a guess is another word.
    let limit = if name.chars().count() < 6 { 1 } else { 2 };
    known
        .map(|other| (strsim::osa_distance(name, other), other))
        .filter(|(distance, _)| (1..=limit).contains(distance))
        .min()
        .map_or_else(|| otherwise.to_owned(), |(_, other)| format!("did you mean {other:?}?"))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
