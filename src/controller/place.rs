//! Puts NetworkPolicies in place, and takes them away.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::context::Context;
use super::error::Error;
use super::writer::Scope;
use crate::api::names;
use crate::cluster::telemetry::Kind;
use crate::network::drift::{self, Drift};
use crate::network::policies;

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It was there as planned.
    Already,
    /// It was written; the API server returned it as planned.
    Now,
    /// An object of that name is not ours; it was left alone.
    Foreign(String),
}

/// Puts one policy in place. `expected`: it was in place before, so that a repair is counted as one.
pub async fn policy(ctx: &Context, scope: &Scope, desired: &NetworkPolicy, expected: bool) -> Result<Placed, Error> {
    // The store does not show our last write yet: whatever it shows is older, and writing again would say it twice.
    if ctx.triggers.in_flight(desired) {
        return Ok(Placed::Now);
    }
    let observed = ctx.policy_named(scope.namespace(), &desired.name_any());
    let observed = observed.as_deref();
    // A difference is drift only if nothing changed on our side since the last pass.
    let meant_before = ctx.placed(desired);
    match drift::compare(desired, observed) {
        Drift::Same => return Ok(Placed::Already),
        Drift::Foreign { why } => return Ok(Placed::Foreign(why)),
        Drift::Missing => {
            if expected && meant_before {
                repaired(ctx, scope, desired, "it was deleted");
            }
        }
        Drift::Differs(fields) => {
            if meant_before {
                repaired(ctx, scope, desired, &fields.join(", "));
            }
        }
        Drift::Touched(fields) => {
            repaired(ctx, scope, desired, &fields.join(", "));
            if let Some(observed) = observed {
                let stripped = ctx.writer.strip_network_policy(scope, observed).await?;
                wrote(ctx, scope, &stripped);
            }
            return Ok(Placed::Now);
        }
    }
    let applied = ctx.writer.apply_network_policy(scope, desired).await?;
    // An apply owns the fields it names. Finalizers and owners that others added are taken off by name.
    let last = if matches!(drift::compare(desired, Some(&applied)), Drift::Touched(_)) {
        ctx.writer.strip_network_policy(scope, &applied).await?
    } else {
        applied
    };
    wrote(ctx, scope, &last);
    Ok(Placed::Now)
}

/// Remembers a write until the store shows it.
fn wrote(ctx: &Context, scope: &Scope, written: &NetworkPolicy) {
    let shown = ctx.policy_named(scope.namespace(), &written.name_any());
    ctx.triggers.wrote(written, shown.as_deref());
}

fn repaired(ctx: &Context, scope: &Scope, desired: &NetworkPolicy, what: &str) {
    ctx.metrics
        .drift_repaired
        .get_or_create(&Kind { kind: "NetworkPolicy" })
        .inc();
    tracing::info!(
        namespace = scope.namespace(),
        policy = desired.name_any(),
        what,
        "put back"
    );
}

/// Takes an allow away: emptied first, so that no moment shows it half gone, then deleted.
pub async fn withdraw(ctx: &Context, scope: &Scope, policy: &NetworkPolicy) -> Result<(), Error> {
    if !is_ours(policy) {
        return Ok(());
    }
    // Built from what was seen, of which an apply takes the identity and the rules alone.
    let mut emptied = policies::emptied(policy);
    emptied.metadata = ObjectMeta {
        name: policy.metadata.name.clone(),
        namespace: policy.metadata.namespace.clone(),
        labels: policy.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    let emptied = ctx.writer.apply_network_policy(scope, &emptied).await?;
    ctx.writer.delete_network_policy(scope, &emptied).await
}

/// Whether a policy carries our name and our label.
pub fn is_ours(policy: &NetworkPolicy) -> bool {
    policy
        .labels()
        .get(names::MANAGED_BY_LABEL)
        .is_some_and(|by| by == names::CLOISON)
        && policy.name_any().starts_with("cloison-")
}
