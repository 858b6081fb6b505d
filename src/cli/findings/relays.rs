//! Chains of permitted connections from one stage to another: each relay once, with all of its rules. A report: by the
//! catalogue's mode it is against nothing, and no verdict changes by it.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;

use super::Case;
use super::paths::{concerns, told};
use crate::admission::overrides;
use crate::api::names;
use crate::api::stage::ControlMode;
use crate::compliance::id::{NET_03, RuleId};
use crate::compliance::{Assurance, Catalogue, Finding, Subject};
use crate::network::reach::relays::Chain;
use crate::network::reach::{Place, Provenance};
use crate::network::verdict;
use crate::network::world::World;

/// Most relays that are told one by one.
const MOST: usize = 50;
const NAMESPACE: &str = "Namespace";

fn rule() -> RuleId {
    NET_03.rule("relay")
}

/// Whether a finding is only a report: a chain where the policy does not enforce that there be none, or word of others.
pub(super) fn is_report(finding: &Finding, world: &World) -> bool {
    let Subject { kind, name, .. } = &finding.subject;
    finding.rule == rule() && (kind != NAMESPACE || mode(world, name) != ControlMode::Enforce)
}

/// How strictly it is taken in a namespace.
fn mode(world: &World, namespace: &str) -> ControlMode {
    let said = overrides(&world.policy, Timestamp::now());
    Catalogue::builtin().effective_mode(&rule(), world.stage_of(namespace), &said)
}

/// The chains that begin, end or pass where something is judged.
pub(super) fn all(case: &Case<'_>) -> Vec<Finding> {
    let mut chains = verdict::relays(case.world, case.stored, case.unmodelled);
    let cut = chains.cut;
    chains
        .found
        .retain(|chain| places(chain).any(|place| concerns(case, place)) && of_interest(case, chain));
    let (seen, assumed): (Vec<_>, Vec<_>) = chains.found.into_iter().partition(|chain| is_seen(case, chain));
    chains.found = seen;
    let mut relays = chains.each_relay_once();
    // Those that count are told.
    relays.sort_by_cached_key(|(chain, _)| Reverse(mode(case.world, reached(chain))));
    let left: usize = relays.iter().skip(MOST).map(|(_, others)| 1 + others).sum();
    let mut findings: Vec<Finding> = relays
        .iter()
        .take(MOST)
        .map(|(chain, others)| one(case, chain, *others))
        .collect();
    let cluster = || Subject::cluster("AiSecurityPolicy", names::SINGLETON);
    if left > 0 {
        let message = format!("+{left} more chains from one stage to another, through other relays");
        findings.push(Finding::new(rule(), cluster(), message));
    }
    if cut {
        let message = "more rules and classes of pods than can be searched for relays: chains may be missing here";
        let fix = "deny by default in the namespaces without a stage, or check fewer manifests at a time";
        let finding = Finding::new(rule(), cluster(), message).with_fix(fix);
        findings.push(finding.with_assurance(Assurance::Unknown));
    }
    let absent: BTreeSet<&str> = assumed
        .iter()
        .flat_map(places)
        .filter(|place| !is_in_input(case, place))
        .collect();
    if !absent.is_empty() {
        let names: Vec<&str> = absent.into_iter().collect();
        let message = format!(
            "chains may lead through pods in {}: the input has no such Namespace, and policies there are not known",
            names.join(", ")
        );
        let finding = Finding::new(rule(), cluster(), message).with_fix("add it, with its policies, to the input");
        findings.push(finding.with_assurance(Assurance::Unknown));
    }
    findings
}

/// Whether all of its namespaces are in the input. One that was only assumed, as a note says, may have policies of its own.
fn is_seen(case: &Case<'_>, chain: &Chain) -> bool {
    places(chain).all(|place| is_in_input(case, place))
}

fn is_in_input(case: &Case<'_>, namespace: &str) -> bool {
    let objects = case.objects.as_ref();
    objects.is_none_or(|objects| objects.source(NAMESPACE, "", namespace).is_some())
}

/// Whether the policy wants to know of it.
fn of_interest(case: &Case<'_>, chain: &Chain) -> bool {
    let mut ends = chain.ends().into_iter().flatten().map(|end| &end.namespace);
    ends.any(|end| matches!(end, Place::Namespace(name) if mode(case.world, name) != ControlMode::Disabled))
}

fn places(chain: &Chain) -> impl Iterator<Item = &str> {
    let ends = chain.ends().into_iter().flatten();
    ends.chain(chain.passed()).filter_map(|end| match &end.namespace {
        Place::Namespace(name) => Some(name.as_str()),
        Place::Later(_) => None,
    })
}

/// The namespace that it ends in.
fn reached(chain: &Chain) -> &str {
    places(chain).nth(1).unwrap_or_default()
}

/// A chain as a finding about the namespace that is reached.
fn one(case: &Case<'_>, chain: &Chain, others: usize) -> Finding {
    let mut message = chain.told(|rule| told(case, rule));
    if others > 0 {
        let _ = write!(message, " (+{others} more through the same)");
    }
    let mut finding = Finding::new(rule(), Subject::cluster(NAMESPACE, reached(chain)), message);
    let mut rules = chain.hops.iter().flat_map(|hop| [&hop.egress, &hop.ingress]);
    let place = rules.find_map(|rule| match rule {
        Provenance::Rule { policy, field } => {
            let at = case.locate_policy(policy, &format!("spec.{field}"));
            at.file.is_some().then_some(at)
        }
        Provenance::NotIsolated { .. } => None,
    });
    if let Some(at) = place {
        finding = finding.at(at);
    }
    match chain.doubt {
        Some(_) => finding.with_assurance(Assurance::Unknown),
        None => finding,
    }
}
