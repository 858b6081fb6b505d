//! One pass over one workload: observe → validate → plan → apply → judge → report.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::context::{Context, key_of};
use super::error::Error;
use super::judge::{Hold, Placement, Proof, WorkloadEvidence, judge};
use super::open;
use super::place::{self, Placed};
use super::proofs::Asked;
use super::writer::Scope;
use super::{proofs, report, secrets};
use crate::api::conditions::Verdict as Judged;
use crate::api::stage::Mode;
use crate::api::{AiWorkload, names};
use crate::compliance::id::WKL_01;
use crate::compliance::{Assurance, Finding, Subject};
use crate::network::far::{self, Ends};
use crate::network::flows::{self, Flows};
use crate::network::validate::{self, Verdict};
use crate::network::world::{Workload, WorkloadKey, World};
use crate::network::{drift, interfaces, policies, quarantine};

/// Looks again even when no event came.
const AGAIN: Duration = Duration::from_secs(600);
/// Waits for a cache that lags behind our own write.
const SOON: Duration = Duration::from_millis(500);

/// What is said of a finding in running pods while nobody looks at them.
const EARLIER: &str = " (found earlier: no running pod is judged now)";

/// What one pass has seen.
struct Seen {
    key: WorkloadKey,
    scope: Scope,
    world: Arc<World>,
    hold: Option<Hold>,
    /// Why admission is off here, if it is.
    admission_off: Option<String>,
    mode: Mode,
}

impl Seen {
    /// Whether nothing is decided about admission here.
    fn is_held(&self) -> bool {
        self.hold.is_some() || self.admission_off.is_some()
    }
}

/// One pass.
pub async fn reconcile(workload: Arc<AiWorkload>, ctx: Arc<Context>) -> Result<Action, Error> {
    let Some(seen) = observe(&ctx, &workload) else {
        return Ok(Action::await_change());
    };
    let Some(known) = seen.world.workloads.get(&seen.key) else {
        return Ok(Action::await_change());
    };
    let refusals = match validate::workload(&seen.world, known) {
        Verdict::Accepted => no_room(&ctx, &seen).into_iter().collect(),
        Verdict::Refused(findings) => findings,
    };
    let resolved = flows::resolve(&seen.world, known);
    let placement = place(&ctx, &seen, &refusals).await;
    let underway = matches!(&placement, Ok(Placement::Pending(_)));
    let unanalysed = placement.is_ok() && refusals.is_empty() && seen.hold.is_none() && !is_analysed(&ctx, &seen);
    let ends = match &placement {
        Ok(Placement::Placed) => far::ends(&seen.world, known, &resolved, |ns, name| ctx.policy_named(ns, name)),
        _ => Ends::default(),
    };
    if is_unscanned(&ctx, &seen) {
        // However long it takes: its policies are in place, and what was said of its pods before a new start still stands.
        return Ok(Action::requeue(SOON));
    }
    let waiting = underway || unanalysed || !ends.missing.is_empty();
    if waiting && ctx.patience.waits(&seen.key) {
        // The watch or the analysis sets this off again in a moment; what is said until then would only be said twice.
        return Ok(Action::requeue(SOON));
    }
    if !waiting {
        ctx.patience.settled(&seen.key);
    }
    let (placement, failure) = match placement {
        Ok(placement) => (placement, None),
        Err(error) => (Placement::Failed(error.reason(), error.line()), Some(error)),
    };
    let moment = Context::moment();
    let (of_secrets, kept) = secrets::look(&ctx, &seen.key, &workload, &seen.world.policy, moment);
    let mut status = assess(&ctx, &seen, known, (&refusals, kept), &resolved, &ends, placement);
    status.findings.extend(of_secrets);
    status.findings.extend(of_pods(&ctx, &seen));
    let shared = ctx.shared.borrow().get(&seen.key).cloned();
    status.findings.extend(shared.into_iter().flatten());
    report::workload(&ctx, &workload, status).await?;
    match failure {
        Some(error) => Err(error),
        None => Ok(Action::requeue(AGAIN)),
    }
}

/// Reads the stores; `None` for a workload the stores no longer hold.
fn observe(ctx: &Context, workload: &AiWorkload) -> Option<Seen> {
    let key = key_of(workload)?;
    let scope = Scope::of(workload)?;
    let view = ctx.view();
    let world = view.world.clone();
    let mode = world.namespaces.get(&key.namespace)?.mode;
    if !world.workloads.contains_key(&key) || workload.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Seen {
        hold: view.hold(&key.namespace),
        admission_off: match view.admission_hold(&key.namespace) {
            Some(Hold::Off { reason }) => Some(reason),
            Some(Hold::PolicyMissing) | None => None,
        },
        key,
        scope,
        world,
        mode,
    })
}

/// Writes the workload's policy where the namespace is enforced, after the deny. Refused keeps what is there.
async fn place(ctx: &Context, seen: &Seen, refusals: &[Finding]) -> Result<Placement, Error> {
    if seen.hold.is_some() || !refusals.is_empty() || seen.mode != Mode::Enforce {
        return Ok(Placement::NothingToPlace);
    }
    let (Some(desired), Some(facts)) = (
        policies::workload(&seen.world, &seen.key),
        seen.world.namespaces.get(&seen.key.namespace),
    ) else {
        return Ok(Placement::NothingToPlace);
    };
    let Some(stage) = facts.stage else {
        return Ok(Placement::NothingToPlace);
    };
    let deny = policies::deny(&seen.key.namespace, stage);
    let denied = ctx.policy_named(&seen.key.namespace, names::DENY_POLICY);
    if drift::compare(&deny, denied.as_deref()) != drift::Drift::Same {
        return Ok(unsealed(ctx, seen, "the namespace is being sealed"));
    }
    let opened = is_open(ctx, seen);
    match place::policy(ctx, &seen.scope, &desired, opened).await? {
        Placed::Foreign(why) => Ok(Placement::Failed(
            "ForeignObject",
            format!(
                "NET-09/foreign-object NetworkPolicy {} is not ours ({why}); it was left alone. Rename or delete it",
                desired.name_any()
            ),
        )),
        Placed::Now => Ok(Placement::Pending(
            "the policy was written; waiting to read it back".to_owned(),
        )),
        Placed::Already if opened => Ok(Placement::Placed),
        Placed::Already => {
            ctx.triggers.namespace(&seen.key.namespace);
            let waits = "waiting for the namespace to list this workload, so that its pods are admitted";
            Ok(unsealed(ctx, seen, waits))
        }
    }
}

/// What a workload says that waits for its namespace: what keeps the namespace back, if anything does.
fn unsealed(ctx: &Context, seen: &Seen, waits: &str) -> Placement {
    let known = ctx.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(&seen.key.namespace) {
        Some((reason, why)) => Placement::Failed(reason, why.clone()),
        None => Placement::Pending(waits.to_owned()),
    }
}

/// The workloads that the namespace lists: pods of these are admitted.
fn listed(ctx: &Context, seen: &Seen) -> open::Entries {
    let namespace = ctx.caches.namespaces.get(&ObjectRef::new(&seen.key.namespace));
    let list = namespace.and_then(|namespace| namespace.annotations().get(names::OPEN_ANNOTATION).cloned());
    open::read(&list.unwrap_or_default())
}

fn is_open(ctx: &Context, seen: &Seen) -> bool {
    listed(ctx, seen).contains_key(&seen.key.name)
}

/// The refusal of a workload that its namespace has no room for.
fn no_room(ctx: &Context, seen: &Seen) -> Option<Finding> {
    let enforced = seen.mode == Mode::Enforce;
    open::no_room(&listed(ctx, seen), &seen.key).filter(|_| enforced)
}

/// Whether the analysis has seen the workload's policy as it is now.
fn is_analysed(ctx: &Context, seen: &Seen) -> bool {
    let name = policies::workload_policy_name(&seen.key.name);
    let analysed = ctx.analysed.borrow();
    match ctx.policy_named(&seen.key.namespace, &name) {
        Some(policy) => analysed.has_seen(&policy),
        None => analysed.proof(&seen.key.namespace).is_some(),
    }
}

/// Whether running pods will be judged in a moment for the first time.
fn is_unscanned(ctx: &Context, seen: &Seen) -> bool {
    let namespace = &seen.key.namespace;
    !seen.is_held() && ctx.caches.pod_facts.any_in(namespace) && ctx.scanned.borrow().awaits(namespace)
}

/// What was found in running pods. While nothing is judged the pods may be others by now, and that is said.
fn of_pods(ctx: &Context, seen: &Seen) -> Vec<Finding> {
    let scanned = ctx.scanned.borrow();
    let mut findings: Vec<Finding> = scanned.of(&seen.key).cloned().collect();
    let unlisted = scanned.is_unlisted(&seen.key.namespace);
    if seen.is_held() || unlisted {
        findings.iter_mut().for_each(|it| it.message.push_str(EARLIER));
    }
    if unlisted && !seen.is_held() {
        let WorkloadKey { namespace, name } = &seen.key;
        let subject = Subject::namespaced("AiWorkload", namespace.as_str(), name.as_str());
        let message = "whether running pods would be refused is not known: they could not be listed";
        let finding = Finding::new(WKL_01.rule("unjudged"), subject, message);
        findings.push(finding.with_assurance(Assurance::Unknown));
    }
    findings
}

/// What the pods that run have beside the pod network.
fn interfaces(ctx: &Context, seen: &Seen, known: &Workload) -> Judged {
    let WorkloadKey { namespace, name } = &seen.key;
    let pods = ctx
        .caches
        .pods
        .state_filter(|pod| !pod.ended && pod.workload() == name && pod.meta().namespace.as_ref() == Some(namespace));
    let named = pods
        .iter()
        .map(|pod| (pod.meta().name.as_deref().unwrap_or_default(), &pod.interfaces));
    let dedicated = seen
        .world
        .policy
        .network
        .dedicated_interfaces
        .as_deref()
        .unwrap_or_default();
    interfaces::judge(named, dedicated, known.stage)
}

/// What the policies as they are say of a quarantine; `None` for a workload that is in none.
fn quarantine(ctx: &Context, seen: &Seen, known: &Workload) -> Option<Judged> {
    if !known.quarantined {
        return None;
    }
    let stored = ctx.caches.network_policies.state();
    let others = ctx.other_policies.borrow();
    let stored = stored.iter().map(AsRef::as_ref);
    let of_cluster = &seen.world.cluster_policies;
    Some(quarantine::judge(&seen.key, stored, of_cluster, &others.unmodelled))
}

fn assess(
    ctx: &Context,
    seen: &Seen,
    known: &Workload,
    (refusals, kept): (&[Finding], Option<Proof>),
    resolved: &Flows,
    ends: &Ends,
    placement: Placement,
) -> report::WorkloadReport {
    let refused: Vec<String> = refusals.iter().map(Finding::line).collect();
    let evidence = ctx.evidence.snapshot();
    let analysis: Option<Proof> = is_analysed(ctx, seen)
        .then(|| ctx.analysed.borrow().proof(&seen.key.namespace))
        .flatten();
    let required = seen.world.policy.require.clone().unwrap_or_default();
    let encryption = ctx.caches.encryptions.get(&ObjectRef::new(names::SINGLETON));
    let asked = Asked::of(Some(&seen.world.policy), encryption.as_ref().map(|found| &found.spec));
    let (policy_hash, moment) = (ctx.policy_hash.borrow().clone(), Time(Context::moment()));
    let verdicts = judge(&WorkloadEvidence {
        hold: seen.hold.clone(),
        mode: seen.mode,
        refusals: &refused,
        placement,
        analysis,
        flows: &resolved.statuses,
        ends,
        admission_off: seen.admission_off.as_deref(),
        admission: proofs::admission(&evidence, &policy_hash, &moment, asked.max_age),
        encryption: proofs::encryption(&evidence, &moment, &asked),
        secret_settings: kept,
        packets: proofs::packets(
            &evidence,
            seen.world.policy.network.enforcement_proof,
            &moment,
            asked.max_age,
        ),
        interfaces: interfaces(ctx, seen, known),
        quarantine: quarantine(ctx, seen, known),
        required: &required,
    });
    let analysed = ctx.analysed.borrow().clone();
    let others = analysed.findings(&seen.key.namespace);
    let findings: Vec<Finding> = refusals
        .iter()
        .chain(&resolved.findings)
        .chain(others)
        .cloned()
        .collect();
    report::WorkloadReport {
        verdicts,
        mode: seen.mode,
        flows: resolved.statuses.clone(),
        findings,
        policy_hash,
    }
}
