//! The packet canary's loop: when it runs, and that nothing of it is left. What it makes and what that shows is decided in
//! [`enforcement`](crate::network::enforcement).
//!
//! A proof is of this term: a new leader sends packets anew. What a leader that died left behind, the next one removes
//! first, also when nobody asks for packets any more.

mod run;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::reflector::ObjectRef;
use tokio::time::sleep;

use super::context::Context;
use super::evidence::PacketProof;
use super::proofs::Asked;
use crate::api::conditions::Truth;
use crate::api::names;
use crate::api::policy::{AiSecurityPolicySpec, EnforcementProof};

/// The longest pause after a run that did not end in True.
const LONGEST: Duration = Duration::from_secs(3600);

/// After what is left could not be removed.
const AGAIN: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    /// Whether packets are also sent from time to time.
    periodic: bool,
    /// What the NetworkPolicies are rendered from, as a hash: another one is another proof.
    shape: u64,
    /// The shortest time between two runs: `AiSecurityPolicy.spec.intervalSeconds`.
    interval: Duration,
    /// How long a proof counts.
    max_age: Duration,
}

/// A run that ended.
#[derive(Clone, Copy, Debug)]
struct Last {
    shape: u64,
    truth: Truth,
    /// Runs in a row that did not end in True.
    failures: u32,
}

/// How long after the last run the next is due; `None` while nothing changes.
fn due(wanted: &Wanted, last: &Last) -> Option<Duration> {
    if last.truth != Truth::True {
        let times = 2_u32.saturating_pow(last.failures.saturating_sub(1));
        let pause = wanted.interval.saturating_mul(times).min(LONGEST);
        let changed = last.shape != wanted.shape;
        return Some(if changed { wanted.interval } else { pause });
    }
    if last.shape != wanted.shape {
        return Some(wanted.interval);
    }
    // In time for another try before the proof is too old.
    wanted.periodic.then_some(wanted.max_age / 2)
}

/// Runs for ever. `image` is that of this program.
pub async fn run(ctx: Arc<Context>, image: Option<String>) {
    let (mut facts, mut kinds) = (ctx.facts.clone(), ctx.other_policies.clone());
    let mut last: Option<(Instant, Last)> = None;
    loop {
        let held = ctx.view().hold(names::PACKETS_CLIENT_NAMESPACE).is_some();
        let pause = match wanted(&ctx) {
            // Nothing is decided: what is known stays, and grows old.
            _ if held => None,
            None => {
                last = None;
                ctx.evidence.publish_packets(None);
                let stuck = leftovers(&ctx) && !run::clean_or_warn(&ctx).await;
                stuck.then_some(AGAIN)
            }
            Some(wanted) => {
                let wait = last.map_or(Some(Duration::ZERO), |(ended, last)| {
                    due(&wanted, &last).map(|due| due.saturating_sub(ended.elapsed()))
                });
                if wait == Some(Duration::ZERO) {
                    last = Some(once(&ctx, image.as_deref(), &wanted, last).await);
                    continue;
                }
                wait
            }
        };
        tokio::select! {
            () = ctx.triggers.packets.notified() => {}
            Ok(()) = facts.changed() => {}
            Ok(()) = kinds.changed() => {}
            () = sleep(pause.unwrap_or(LONGEST)) => {}
        }
    }
}

/// One run, and what is remembered of it.
async fn once(ctx: &Context, image: Option<&str>, wanted: &Wanted, last: Option<(Instant, Last)>) -> (Instant, Last) {
    let verdict = run::run(ctx, image).await;
    let truth = verdict.truth;
    tracing::info!(truth = truth.as_str(), reason = verdict.reason, message = %verdict.message, "packet canary");
    ctx.evidence.publish_packets(Some(PacketProof {
        verdict,
        at: Time(Context::moment()),
    }));
    let before = last.map_or(0, |(_, last)| last.failures);
    let last = Last {
        shape: wanted.shape,
        truth,
        failures: if truth == Truth::True {
            0
        } else {
            before.saturating_add(1)
        },
    };
    (Instant::now(), last)
}

/// What the policy asks for; `None` for no packets.
fn wanted(ctx: &Context) -> Option<Wanted> {
    let policy = ctx.policy()?;
    let encryption = ctx.caches.encryptions.get(&ObjectRef::new(names::SINGLETON));
    let asked = Asked::of(Some(&policy.spec), encryption.as_ref().map(|found| &found.spec));
    match policy.spec.network.enforcement_proof {
        EnforcementProof::None => None,
        proof @ (EnforcementProof::OnChange | EnforcementProof::Periodic) => Some(Wanted {
            periodic: proof == EnforcementProof::Periodic,
            shape: shape(ctx, &policy.spec),
            interval: Duration::from_secs(u64::try_from(policy.spec.interval_seconds).unwrap_or(60)),
            max_age: asked.max_age,
        }),
    }
}

/// What every NetworkPolicy of ours is rendered from, the nodes and addresses of the cluster, and the policies beside
/// NetworkPolicies: when one of these changes, what packets have shown may hold no more.
fn shape(ctx: &Context, policy: &AiSecurityPolicySpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&policy.network)
        .unwrap_or_default()
        .hash(&mut hasher);
    format!("{:?}", *ctx.facts.borrow()).hash(&mut hasher);
    let others = ctx.other_policies.borrow();
    others
        .unmodelled
        .iter()
        .for_each(|policy| policy.kind.hash(&mut hasher));
    format!("{:?}", others.cluster_policies()).hash(&mut hasher);
    hasher.finish()
}

/// Whether anything of an earlier run is there, as the stores show it: this asks nobody.
fn leftovers(ctx: &Context) -> bool {
    let pods = [
        (names::PACKETS_CLIENT, names::PACKETS_CLIENT_NAMESPACE),
        (names::PACKETS_SERVER, names::PACKETS_SERVER_NAMESPACE),
    ];
    pods.iter()
        .any(|(name, namespace)| ctx.caches.pods.get(&ObjectRef::new(name).within(namespace)).is_some())
        || names::PACKETS_NAMESPACES
            .iter()
            .any(|namespace| ctx.policy_named(namespace, names::PACKETS_POLICY).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        periodic: false,
        shape: 1,
        interval: Duration::from_secs(60),
        max_age: Duration::from_secs(7200),
    };

    fn after(wanted: &Wanted, shape: u64, truth: Truth, failures: u32) -> Option<u64> {
        let last = Last { shape, truth, failures };
        due(wanted, &last).map(|due| due.as_secs())
    }

    #[test]
    fn a_proof_is_renewed_when_what_it_is_about_changes_or_as_asked() {
        assert_eq!(after(&WANTED, 1, Truth::True, 0), None);
        assert_eq!(after(&WANTED, 2, Truth::True, 0), Some(60));
        let periodic = Wanted {
            periodic: true,
            ..WANTED
        };
        assert_eq!(after(&periodic, 1, Truth::True, 0), Some(3600));
        assert_eq!(after(&periodic, 2, Truth::True, 0), Some(60));
    }

    #[test]
    fn what_is_not_true_is_tried_again_and_ever_more_rarely() {
        for truth in [Truth::False, Truth::Unknown] {
            let pauses = [1, 2, 3, 7, 40].map(|failures| after(&WANTED, 1, truth, failures));
            assert_eq!(pauses, [60, 120, 240, 3600, 3600].map(Some));
            assert_eq!(after(&WANTED, 2, truth, 40), Some(60), "a change may have mended it");
        }
    }
}
