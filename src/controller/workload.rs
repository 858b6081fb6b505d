//! One pass over one workload: observe → validate → plan → apply → judge → report.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::context::{Context, key_of};
use super::error::Error;
use super::judge::{Hold, Placement, Proof, WorkloadEvidence, judge};
use super::place::{self, Placed};
use super::writer::Scope;
use super::{proofs, report};
use crate::api::AiWorkload;
use crate::api::names;
use crate::api::stage::Mode;
use crate::compliance::Finding;
use crate::network::flows::{self, Flows};
use crate::network::validate::{self, Verdict};
use crate::network::world::{WorkloadKey, World};
use crate::network::{drift, policies};

/// Looks again even when no event came.
const AGAIN: Duration = Duration::from_secs(600);
/// Waits for a cache that lags behind our own write.
const SOON: Duration = Duration::from_millis(500);

/// What one pass has seen.
struct Seen {
    key: WorkloadKey,
    scope: Scope,
    world: Arc<World>,
    hold: Option<Hold>,
    mode: Mode,
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
        Verdict::Accepted => Vec::new(),
        Verdict::Refused(findings) => findings,
    };
    let resolved = flows::resolve(&seen.world, known);
    let placement = place(&ctx, &seen, &refusals).await;
    let underway = matches!(&placement, Ok(Placement::Pending(_)));
    let unanalysed = placement.is_ok() && refusals.is_empty() && seen.hold.is_none() && !is_analysed(&ctx, &seen);
    if (underway || unanalysed) && ctx.patience.waits(&seen.key) {
        // The watch or the analysis sets this off again in a moment; what is said until then would only be said twice.
        return Ok(Action::requeue(SOON));
    }
    if !underway && !unanalysed {
        ctx.patience.settled(&seen.key);
    }
    let (placement, failure) = match placement {
        Ok(placement) => (placement, None),
        Err(error) => (Placement::Failed(error.reason(), error.to_string()), Some(error)),
    };
    let status = assess(&ctx, &seen, &refusals, &resolved, placement);
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
    let world = ctx.world();
    let mode = world.namespaces.get(&key.namespace)?.mode;
    if !world.workloads.contains_key(&key) || workload.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Seen {
        hold: ctx.hold(&key.namespace),
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
        return Ok(Placement::Pending(format!(
            "namespace {} is being sealed",
            seen.key.namespace
        )));
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
            Ok(Placement::Pending(
                "waiting for the namespace to list this workload, so that its pods are admitted".to_owned(),
            ))
        }
    }
}

/// Whether pods of the workload are admitted: the namespace's list names it.
fn is_open(ctx: &Context, seen: &Seen) -> bool {
    let namespace = ctx
        .caches
        .namespaces
        .get(&kube::runtime::reflector::ObjectRef::new(&seen.key.namespace));
    namespace.is_some_and(|namespace| {
        let list = namespace
            .annotations()
            .get(names::OPEN_ANNOTATION)
            .map(String::as_str)
            .unwrap_or_default();
        list.split_whitespace()
            .any(|entry| entry.split(':').next() == Some(&seen.key.name))
    })
}

/// Whether the analysis has seen the workload's policy as it is now.
fn is_analysed(ctx: &Context, seen: &Seen) -> bool {
    let name = format!("{}{}", names::WORKLOAD_POLICY_PREFIX, seen.key.name);
    let analysed = ctx.analysed.borrow();
    match ctx.policy_named(&seen.key.namespace, &name) {
        Some(policy) => analysed.has_seen(&policy),
        None => analysed.proof(&seen.key.namespace).is_some(),
    }
}

fn assess(
    ctx: &Context,
    seen: &Seen,
    refusals: &[Finding],
    resolved: &Flows,
    placement: Placement,
) -> report::WorkloadReport {
    let refused: Vec<String> = refusals.iter().map(Finding::line).collect();
    let evidence = ctx.evidence.snapshot();
    let analysis: Option<Proof> = is_analysed(ctx, seen)
        .then(|| ctx.analysed.borrow().proof(&seen.key.namespace))
        .flatten();
    let required = seen.world.policy.require.clone().unwrap_or_default();
    let verdicts = judge(&WorkloadEvidence {
        hold: seen.hold.clone(),
        mode: seen.mode,
        refusals: &refused,
        placement,
        analysis,
        flows: &resolved.statuses,
        admission: proofs::admission(&evidence),
        encryption: proofs::encryption(&evidence, &Time(Context::moment()), proofs::max_age(&seen.world.policy)),
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
        policy_hash: ctx.policy_hash.borrow().clone(),
    }
}
