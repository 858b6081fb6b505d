//! Ends Waivers when their time is over, and says on each whether it holds.
//!
//! A NetworkPolicy has no clock: somebody has to wake and take the flow out of it. While no controller runs, a flow stays
//! open past the end of its Waiver. What is waived at the door ends by the API server's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::cluster::waived;
use super::context::Context;
use super::error::Error;
use super::report;
use crate::admission::{Waived, effect};
use crate::api::Waiver;
use crate::api::conditions::{self, types};
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::waiver::WaiverStatus;
use crate::cluster::telemetry::Status;
use crate::compliance::waiver::{self, Effect, State};
use crate::network::waivers::{self, FlowWaiver};

/// Longest sleep: the clock of a machine may be set anew.
const CHECK: Duration = Duration::from_secs(60);
/// Why a Waiver that holds stands in no admission policy.
const NO_ROOM: &str = "the admission policies have no room for more Waivers; delete some that come before it by name";
/// Between two tries to write a status.
const AGAIN: Duration = Duration::from_secs(5);

/// Wakes when a Waiver or the policy changed, and at each end, for ever.
pub async fn run(ctx: Arc<Context>) {
    let mut before: BTreeMap<String, FlowWaiver> = BTreeMap::new();
    loop {
        let now = Context::moment();
        let policy = ctx.policy().map(|policy| policy.spec.clone()).unwrap_or_default();
        let max_days = policy.waivers.max_days;
        let all = ctx.caches.waivers.state();
        let current = waivers::of(all.iter().map(AsRef::as_ref), max_days, now);
        let current = waivers::behind_denies(&ctx.world(), current);
        tell(&ctx, &before, &current);
        let waived_before = ctx.waived.borrow().clone();
        let waived = look(&ctx, &policy, now);
        if waived != waived_before {
            ctx.triggers.cluster.notify_one();
            // What is held against their pods is another thing now.
            let workloads = ctx.caches.workloads.state();
            workloads
                .iter()
                .for_each(|it| ctx.triggers.workload(ObjectRef::from_obj(it.as_ref())));
        }
        let effects: Vec<Effect> = all.iter().map(|waiver| opens(waiver, &current, &waived)).collect();
        count(&ctx, &all, &effects, max_days, now);

        let mut wait = all
            .iter()
            .filter_map(|waiver| waiver::next_change(waiver, now))
            .filter_map(|moment| Duration::try_from(moment.duration_since(now)).ok())
            .fold(CHECK, Duration::min);
        if ctx.view().hold("").is_none() {
            for (waiver, effect) in all.iter().zip(&effects) {
                let verdicts = waiver::conditions(waiver, max_days, now, effect);
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

/// Looks at what is waived for pods, once.
pub fn look(ctx: &Context, policy: &AiSecurityPolicySpec, now: Timestamp) -> Arc<Waived> {
    let waived = Arc::new(waived(ctx, policy, now));
    ctx.waived.send_replace(waived.clone());
    waived
}

/// What a Waiver opens, where it holds: by what it names, by the room in the policies and by the denies of the cluster.
fn opens(waiver: &Waiver, flows: &BTreeMap<String, FlowWaiver>, waived: &Waived) -> Effect {
    let effect = effect(waiver);
    if let Effect::Nothing(..) = effect {
        return effect;
    }
    let name = waiver.name_any();
    match flows.get(&name) {
        Some(flow) => match &flow.closed {
            Some(why) => Effect::Nothing(waiver::FLOW_CLOSED, why.clone()),
            None => effect,
        },
        None if waived.names(&name) => effect,
        None => Effect::Nothing(waiver::NO_ROOM, NO_ROOM.to_owned()),
    }
}

/// How many there are in each state, and when the next flow has to be closed. One that opens nothing is not active.
fn count(ctx: &Context, all: &[Arc<Waiver>], effects: &[Effect], max_days: i32, now: Timestamp) {
    let told: Vec<(&Waiver, State)> = all
        .iter()
        .zip(effects)
        .map(|(it, effect)| (it.as_ref(), waiver::seen(it, max_days, now, effect)))
        .collect();
    for state in State::ALL {
        let labels = Status { status: state.as_str() };
        let there = told.iter().filter(|(_, found)| *found == state).count();
        let number = i64::try_from(there).unwrap_or(i64::MAX);
        ctx.metrics.waivers.get_or_create(&labels).set(number);
    }
    let open = told
        .iter()
        .filter(|(it, state)| it.spec.flow.is_some() && *state != State::Inactive);
    let end = open.map(|(it, _)| it.spec.expiration_time.0.as_second()).min();
    ctx.metrics.next_flow_end.set(end.unwrap_or_default());
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

/// What is said where the last hours of a Waiver begin: once, because the condition remembers it.
fn begins_to_end<'c>(present: &[Condition], wanted: &'c [Condition]) -> Option<&'c str> {
    let soon = |list: &'c [Condition]| {
        let active = conditions::find(list, types::ACTIVE)?;
        (active.reason == State::ExpiresSoon.as_str()).then_some(&*active.message)
    };
    let before = conditions::find(present, types::ACTIVE);
    soon(wanted).filter(|_| before.is_none_or(|active| active.reason != State::ExpiresSoon.as_str()))
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
        Err(error) => Err(error),
        Ok(_) => {
            if let Some(message) = begins_to_end(present, &status.conditions) {
                report::ends_soon(ctx, waiver, message).await;
            }
            Ok(())
        }
    }
}
