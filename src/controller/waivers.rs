//! Ends Waivers when their time is over, and says on each whether it holds.
//!
//! A NetworkPolicy has no clock: somebody has to wake and take the flow out of it. While no controller runs, a flow stays
//! open past the end of its Waiver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{Api, ResourceExt};

use super::context::Context;
use super::error::Error;
use crate::api::Waiver;
use crate::api::conditions::{self, types};
use crate::api::waiver::WaiverStatus;
use crate::compliance::waiver;
use crate::network::waivers::{self, FlowWaiver};

/// Longest sleep: the clock of a machine may be set anew.
const CHECK: Duration = Duration::from_secs(60);
/// Between two tries to write a status.
const AGAIN: Duration = Duration::from_secs(5);

/// Wakes when a Waiver or the policy changed, and at each end, for ever.
pub async fn run(ctx: Arc<Context>) {
    let mut before: BTreeMap<String, FlowWaiver> = BTreeMap::new();
    loop {
        let now = Context::moment();
        let max_days = ctx
            .policy()
            .map(|policy| policy.spec.clone())
            .unwrap_or_default()
            .waivers
            .max_days;
        let all = ctx.caches.waivers.state();
        let current = waivers::of(all.iter().map(AsRef::as_ref), max_days, now);
        let current = waivers::behind_denies(&ctx.world(), current);
        tell(&ctx, &before, &current);

        let mut wait = all
            .iter()
            .filter_map(|waiver| Duration::try_from(waiver.spec.expiration_time.0.duration_since(now)).ok())
            .filter(|left| !left.is_zero())
            .fold(CHECK, Duration::min);
        if ctx.view().hold("").is_none() {
            for waiver in &all {
                let closed = current.get(&waiver.name_any()).and_then(|flow| flow.closed.as_deref());
                let verdicts = waiver::conditions(waiver, max_days, now, closed);
                let present = waiver
                    .status
                    .as_ref()
                    .map(|status| status.conditions.as_slice())
                    .unwrap_or_default();
                let at = Time(Context::now());
                let wanted = conditions::conditions(present, &verdicts, waiver.metadata.generation, &at);
                if let Err(error) = say(&ctx, waiver, present, wanted).await {
                    tracing::warn!(%error, waiver = waiver.name_any(), "the status of a Waiver could not be written");
                    wait = wait.min(AGAIN);
                }
            }
        }
        before = current;
        tokio::select! {
            () = ctx.triggers.waivers.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Sets off both ends of every flow whose Waiver came, went or changed.
fn tell(ctx: &Context, before: &BTreeMap<String, FlowWaiver>, now: &BTreeMap<String, FlowWaiver>) {
    let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
    let changed = now.iter().filter(|(name, waiver)| before.get(*name) != Some(*waiver));
    for (name, waiver) in gone.chain(changed) {
        tracing::info!(
            waiver = name,
            closed = waiver.closed,
            "a Waiver for a flow is not as it was"
        );
        ctx.triggers.waived_flow([&waiver.from, &waiver.to]);
    }
}

async fn say(ctx: &Context, waiver: &Waiver, present: &[Condition], wanted: Vec<Condition>) -> Result<(), Error> {
    let ours = |condition: &&Condition| [types::ACTIVE, types::APPROVED].contains(&condition.type_.as_str());
    if present.iter().filter(ours).eq(wanted.iter()) {
        return Ok(());
    }
    let status = WaiverStatus {
        // The approver's own field.
        approval: None,
        conditions: wanted,
    };
    let api: Api<Waiver> = Api::all(ctx.client.clone());
    match ctx
        .writer
        .apply_status(&api, "Waiver", &waiver.name_any(), &status)
        .await
    {
        // Deleted meanwhile.
        Err(Error::Api {
            source: kube::Error::Api(status),
            ..
        }) if status.code == 404 => Ok(()),
        written => written.map(drop),
    }
}
