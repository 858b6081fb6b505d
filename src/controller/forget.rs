//! Forgets what was remembered of objects that are gone: nothing in memory grows with all that ever was.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::ResourceExt;

use super::context::{Context, key_of};
use crate::api::names;
use crate::network::world::WorkloadKey;

/// Between two looks. They cost no request.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks for ever.
pub async fn run(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        sweep(&ctx);
    }
}

fn sweep(ctx: &Context) {
    let mut living = Living {
        namespaces: ctx.caches.namespaces.state().iter().map(|ns| ns.name_any()).collect(),
        workloads: ctx.caches.workloads.state().iter().filter_map(|w| key_of(w)).collect(),
    };
    {
        // The flows of these are open still.
        let withdrawals = ctx.withdrawals.lock().unwrap_or_else(PoisonError::into_inner);
        living.workloads.extend(withdrawals.vanished().filter_map(key_of));
    }
    ctx.backoff.retain(|key| living.pass(key));
    ctx.patience.retain(|key| living.workloads.contains(key));
    ctx.forget_meant(|namespace, policy| living.policy(namespace, policy));
    let mut said = ctx.said.lock().unwrap_or_else(PoisonError::into_inner);
    said.retain(|key, _| {
        key.split('/')
            .next()
            .is_some_and(|namespace| living.namespace(namespace))
    });
    drop(said);
    let mut unsealed = ctx.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    unsealed.retain(|namespace, _| living.namespace(namespace));
    drop(unsealed);
    let mut written = ctx.written.lock().unwrap_or_else(PoisonError::into_inner);
    written.retain(|workload, _| living.workload(workload.namespace.as_deref().unwrap_or_default(), &workload.name));
}

/// What is there.
struct Living {
    namespaces: HashSet<String>,
    workloads: HashSet<WorkloadKey>,
}

impl Living {
    fn namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    fn workload(&self, namespace: &str, name: &str) -> bool {
        self.workloads.contains(&WorkloadKey::new(namespace, name))
    }

    /// A NetworkPolicy of ours: with its workload, or with its namespace.
    fn policy(&self, namespace: &str, policy: &str) -> bool {
        match policy.strip_prefix(names::WORKLOAD_POLICY_PREFIX) {
            Some(workload) => self.workload(namespace, workload),
            None => self.namespace(namespace),
        }
    }

    /// A key of the waits after failures: kind, namespace and name, or a word of a loop.
    fn pass(&self, key: &str) -> bool {
        let parts: Vec<&str> = key.split('/').collect();
        match parts[..] {
            ["AiWorkload", namespace, name] => self.workload(namespace, name),
            ["Namespace", _, name] => self.namespace(name),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_remembered() {
        let living = Living {
            namespaces: HashSet::from(["train".to_owned()]),
            workloads: HashSet::from([WorkloadKey::new("train", "road")]),
        };
        for (key, kept) in [
            ("AiWorkload/train/road", true),
            ("AiWorkload/train/gone", false),
            ("AiWorkload/gone/road", false),
            ("Namespace//train", true),
            ("Namespace//gone", false),
            ("cluster", true),
        ] {
            assert_eq!(living.pass(key), kept, "{key}");
        }
        for (namespace, policy, kept) in [
            ("train", "cloison-wl-road", true),
            ("train", "cloison-wl-gone", false),
            ("train", names::DENY_POLICY, true),
            ("gone", names::DENY_POLICY, false),
        ] {
            assert_eq!(living.policy(namespace, policy), kept, "{namespace}/{policy}");
        }
    }
}
