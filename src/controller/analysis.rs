//! Keeps the analysis of all policies fresh: one loop, whatever the number of workloads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use tokio::sync::watch;

use super::context::Context;
use super::judge::Proof;
use super::triggers::Index;
use crate::api::conditions::Truth;
use crate::api::stage::Mode;
use crate::network::reach::{self, Analysis, Isolation};
use crate::network::{policies, world::World};

/// Changes come in bursts: one analysis answers for all that arrive in this time.
const GATHER: Duration = Duration::from_millis(20);

/// An analysis and what it has seen.
#[derive(Debug, Default)]
pub struct Analysed {
    analysis: Option<Analysis>,
    /// The resource version of each policy it has seen, by namespace and name.
    seen: HashMap<(String, String), String>,
}

impl Analysed {
    /// Whether the analysis has seen this very version of a policy.
    pub fn has_seen(&self, policy: &NetworkPolicy) -> bool {
        let key = (policy.namespace().unwrap_or_default(), policy.name_any());
        self.seen.get(&key).map(String::as_str) == policy.metadata.resource_version.as_deref()
    }

    /// The word on a namespace; `None` when it was not analysed.
    pub fn proof(&self, namespace: &str) -> Option<Proof> {
        let isolation = self.analysis.as_ref()?.namespaces.get(namespace)?;
        Some(match isolation {
            Isolation::Isolated => Proof {
                truth: Truth::True,
                reason: "Isolated",
                message: "no policy set in force opens a path to another stage, for any pod that could exist"
                    .to_owned(),
            },
            Isolation::Unknown { reason, message } => Proof {
                truth: Truth::Unknown,
                reason,
                message: message.clone(),
            },
            Isolation::PathExists(witness) => Proof {
                truth: Truth::False,
                reason: "PathExists",
                message: witness.to_string(),
            },
        })
    }
}

/// Analyses whenever something changed, for ever.
pub async fn run(ctx: Arc<Context>, index: Index, publish: watch::Sender<Arc<Analysed>>) {
    loop {
        ctx.triggers.analysis.notified().await;
        tokio::time::sleep(GATHER).await;
        let touched = ctx.triggers.take_touched();
        let world = ctx.world();
        let observed = ctx.caches.network_policies.state();
        let unmodelled = ctx.unmodelled.borrow().clone();
        // Pure and busy: not on a thread that also carries requests.
        let analysed = tokio::task::spawn_blocking(move || analyse(&world, &observed, &unmodelled)).await;
        let analysed = match analysed {
            Ok(analysed) => Arc::new(analysed),
            Err(error) => {
                tracing::error!(%error, "the analysis failed; the last verdicts stay and grow old");
                continue;
            }
        };
        let before = publish.send_replace(analysed.clone());
        let namespaces = analysed.analysis.iter().flat_map(|analysis| analysis.namespaces.keys());
        for namespace in namespaces {
            if touched.contains(namespace) || before.proof(namespace) != analysed.proof(namespace) {
                ctx.triggers.workloads_in(&index, namespace);
            }
        }
    }
}

/// One analysis. Where nothing is written yet, in audit and warn, what enforce would write is judged with the rest.
fn analyse(world: &World, observed: &[Arc<NetworkPolicy>], unmodelled: &[reach::UnmodelledPolicy]) -> Analysed {
    let seen = observed
        .iter()
        .map(|policy| {
            let key = (policy.namespace().unwrap_or_default(), policy.name_any());
            (key, policy.metadata.resource_version.clone().unwrap_or_default())
        })
        .collect();
    let mut all: BTreeMap<(String, String), NetworkPolicy> = observed
        .iter()
        .map(|policy| {
            (
                (policy.namespace().unwrap_or_default(), policy.name_any()),
                policy.as_ref().clone(),
            )
        })
        .collect();
    for namespace in world
        .namespaces
        .values()
        .filter(|ns| ns.stage.is_some() && ns.mode != Mode::Enforce)
    {
        for policy in policies::namespace(world, &namespace.name) {
            all.insert((namespace.name.clone(), policy.name_any()), policy);
        }
    }
    let all: Vec<NetworkPolicy> = all.into_values().collect();
    Analysed {
        analysis: Some(reach::analyse(world, &all, unmodelled)),
        seen,
    }
}
