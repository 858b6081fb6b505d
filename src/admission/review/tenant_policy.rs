//! A tenant's NetworkPolicy where the policy says `tenantPolicies: Analysed`: it must open neither half of a path that the
//! stage matrix forbids. One policy is judged alone, so that two halves that come in the same second are both refused.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;

use super::{Answer, Place, Request, Sight, answer, parse};
use crate::admission::modes::{Modes, overrides};
use crate::api::policy::TenantPolicies;
use crate::api::stage::ControlMode;
use crate::compliance::id::NET_10;
use crate::compliance::{Finding, Location, Subject};
use crate::network::reach::guard::{OpenedHalf, opens_half};
use crate::network::world::World;

pub(super) fn review(request: &Request, object: &DynamicObject, sight: &Sight, now: Timestamp) -> Answer {
    if sight.policy_missing {
        return Answer::undecided("AiSecurityPolicy/default is missing or unreadable; the admin must restore it");
    }
    let policy: NetworkPolicy = match parse(request, object) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let old = request.old_object.as_ref();
    let old = old.and_then(|old| old.clone().try_parse::<NetworkPolicy>().ok());
    // Which rule it was is told by its place in what was written.
    let half = opens_half(&sight.world, &policy).filter(|_| {
        let new = old.as_ref().map(|old| what_is_new(&policy, old));
        new.is_none_or(|new| opens_half(&sight.world, &new).is_some())
    });
    let namespace = request.namespace.clone().unwrap_or_default();
    let finding = half.map(|half| told(&policy, &half));
    answer(finding.into_iter().collect(), &Place::of(sight, &namespace), sight, now)
}

/// What the door would say to a policy in a file: where the policy leaves it to the webhook and its control refuses.
pub fn in_a_file(world: &World, policy: &NetworkPolicy, now: Timestamp) -> Option<Finding> {
    let analysed = world.policy.network.tenant_policies == TenantPolicies::Analysed;
    let half = opens_half(world, policy).filter(|_| analysed)?;
    let finding = told(policy, &half);
    let stage = world.stage_of(policy.metadata.namespace.as_deref().unwrap_or_default());
    let mode = Modes::new(overrides(&world.policy, now)).of(&finding.rule, stage);
    (mode == ControlMode::Enforce).then_some(finding)
}

fn told(policy: &NetworkPolicy, half: &OpenedHalf) -> Finding {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let (namespace, name) = (name(&policy.metadata.namespace), name(&policy.metadata.name));
    let subject = Subject::namespaced("NetworkPolicy", namespace, name);
    let finding = Finding::new(NET_10.rule("opens-path"), subject, half.to_string());
    match &half.field {
        Some(field) => finding.at(Location::field(format!("spec.{field}"))),
        None => finding,
    }
}

/// What an update adds: peers that no rule for the same ports had, where it is about the same pods and directions. The
/// same measure as that of `cloison-net`.
fn what_is_new(policy: &NetworkPolicy, old: &NetworkPolicy) -> NetworkPolicy {
    let (Some(new), Some(old)) = (&policy.spec, &old.spec) else {
        return policy.clone();
    };
    if (&new.pod_selector, &new.policy_types) != (&old.pod_selector, &old.policy_types) {
        return policy.clone();
    }
    let mut rest = policy.clone();
    let Some(spec) = &mut rest.spec else { return rest };
    let before = old.egress.iter().flatten();
    let before: Vec<Rule<'_>> = before.map(|rule| (rule.ports.as_deref(), rule.to.as_deref())).collect();
    for rule in spec.egress.iter_mut().flatten() {
        rule.to = Some(left(&before, (rule.ports.as_deref(), rule.to.as_deref())));
    }
    let before = old.ingress.iter().flatten();
    let before: Vec<Rule<'_>> = before
        .map(|rule| (rule.ports.as_deref(), rule.from.as_deref()))
        .collect();
    for rule in spec.ingress.iter_mut().flatten() {
        rule.from = Some(left(&before, (rule.ports.as_deref(), rule.from.as_deref())));
    }
    // A rule that lost its last peer adds nothing; left as it is, it would mean everybody.
    let emptied = |peers: Option<&[NetworkPolicyPeer]>| peers == Some(&[NOBODY][..]);
    if let Some(rules) = &mut spec.egress {
        rules.retain(|rule| !emptied(rule.to.as_deref()));
    }
    if let Some(rules) = &mut spec.ingress {
        rules.retain(|rule| !emptied(rule.from.as_deref()));
    }
    rest
}

/// Stands for no peer at all, which an empty list does not: it is everybody.
const NOBODY: NetworkPolicyPeer = NetworkPolicyPeer {
    ip_block: None,
    namespace_selector: None,
    pod_selector: None,
};

/// Ports and peers of a rule.
type Rule<'r> = (Option<&'r [NetworkPolicyPort]>, Option<&'r [NetworkPolicyPeer]>);

/// The peers of a rule that no rule before had for these ports.
fn left(before: &[Rule<'_>], (ports, peers): Rule<'_>) -> Vec<NetworkPolicyPeer> {
    let before = before.iter().filter(|(there, _)| *there == ports);
    let former: Vec<&[NetworkPolicyPeer]> = before.map(|(_, peers)| peers.unwrap_or_default()).collect();
    let peers = peers.unwrap_or_default();
    if peers.is_empty() {
        let everybody = former.iter().any(|peers| peers.is_empty());
        return if everybody { vec![NOBODY] } else { Vec::new() };
    }
    let had = |peer: &&NetworkPolicyPeer| former.iter().any(|peers| peers.contains(peer));
    let new: Vec<NetworkPolicyPeer> = peers.iter().filter(|peer| !had(peer)).cloned().collect();
    if new.is_empty() { vec![NOBODY] } else { new }
}
