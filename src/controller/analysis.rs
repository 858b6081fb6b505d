//! Keeps the analysis of all policies fresh: one loop, whatever the number of workloads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::task::JoinError;

use super::context::Context;
use super::judge::Proof;
use super::triggers::Index;
use crate::api::conditions::Truth;
use crate::cluster::telemetry::{Metrics, Status};
use crate::compliance::Finding;
use crate::network::reach::{self, Analysis, Isolation};
use crate::network::verdict::Standing;
use crate::network::waivers;
use crate::network::world::World;

/// Changes come in bursts: one analysis answers for all that arrive in this time.
const GATHER: Duration = Duration::from_millis(20);

/// An analysis and what it has seen.
#[derive(Debug, Default)]
pub struct Analysed {
    analysis: Option<Analysis>,
    /// The Waivers that open a flow into or out of a namespace, each with its end.
    waived: BTreeMap<String, Vec<String>>,
    seen: Seen,
}

/// The resource version of each policy, by namespace and name.
type Seen = HashMap<(String, String), String>;

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
                message: format!(
                    "no policy set in force opens a path to another stage, for any pod that could exist{}",
                    self.but_waivers(namespace)
                ),
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

    /// What the verdict takes as permitted.
    fn but_waivers(&self, namespace: &str) -> String {
        let waived = self.waived.get(namespace);
        waived.map_or_else(String::new, |waived| {
            format!(", but what is permitted by {}", waived.join(", "))
        })
    }

    /// What is worth mending in a namespace although it is no path to a pod.
    pub fn findings(&self, namespace: &str) -> &[Finding] {
        let found = self
            .analysis
            .as_ref()
            .and_then(|analysis| analysis.findings.get(namespace));
        found.map(Vec::as_slice).unwrap_or_default()
    }
}

/// Analyses whenever something changed, for ever.
pub async fn run(ctx: Arc<Context>, index: Index, publish: watch::Sender<Arc<Analysed>>) {
    let mut standing = None;
    loop {
        ctx.triggers.analysis.notified().await;
        tokio::time::sleep(GATHER).await;
        let touched = ctx.triggers.take_touched();
        let world = ctx.world();
        let observed = ctx.caches.network_policies.state();
        let unmodelled = ctx.other_policies.borrow().unmodelled.clone();
        let (known, before) = (standing.take(), publish.borrow().clone());
        // Pure and busy: not on a thread that also carries requests.
        let work = move || analyse(known, &before, &world, &observed, &unmodelled);
        let analysed = settled(tokio::task::spawn_blocking(work).await, &mut standing);
        let analysed = Arc::new(analysed);
        let before = publish.send_replace(analysed.clone());
        count(&ctx.metrics, &analysed);
        for namespace in news(&before, &analysed, &touched) {
            ctx.triggers.workloads_in(&index, &namespace);
            // Where no workload is there to say it, the Namespace does.
            if before.proof(&namespace) != analysed.proof(&namespace) {
                ctx.triggers.namespace(&namespace);
            }
        }
    }
}

/// What is published. One that failed knows nothing: verdicts of an earlier one would stay True whatever happens since.
fn settled(done: Result<(Standing, Analysed), JoinError>, standing: &mut Option<Standing>) -> Analysed {
    match done {
        Ok((known, analysed)) => {
            *standing = Some(known);
            analysed
        }
        Err(error) => {
            tracing::error!(%error, "the analysis failed: nothing is known of the policies until the next change");
            Analysed::default()
        }
    }
}

/// The namespaces whose workloads have something new to say.
fn news(before: &Analysed, now: &Analysed, touched: &BTreeSet<String>) -> BTreeSet<String> {
    let known = [before, now].map(|analysed| analysed.analysis.iter().flat_map(|a| a.namespaces.keys()));
    let namespaces: BTreeSet<&String> = known.into_iter().flatten().collect();
    let told = |name: &String| {
        touched.contains(name) || before.proof(name) != now.proof(name) || before.findings(name) != now.findings(name)
    };
    namespaces.into_iter().filter(|name| told(name)).cloned().collect()
}

/// How many namespaces have which verdict.
fn count(metrics: &Metrics, analysed: &Analysed) {
    let namespaces = analysed.analysis.iter().flat_map(|analysis| analysis.namespaces.keys());
    let proofs: Vec<Truth> = namespaces
        .filter_map(|name| Some(analysed.proof(name)?.truth))
        .collect();
    for truth in [Truth::True, Truth::False, Truth::Unknown] {
        let number = proofs.iter().filter(|found| **found == truth).count();
        let labels = Status { status: truth.as_str() };
        let gauge = metrics.policies_isolate.get_or_create(&labels);
        gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// One analysis of all policies; of what changed, where that were NetworkPolicies alone. `before` is the one that `known`
/// comes from.
fn analyse(
    known: Option<Standing>,
    before: &Analysed,
    world: &World,
    observed: &[Arc<NetworkPolicy>],
    unmodelled: &[reach::UnmodelledPolicy],
) -> (Standing, Analysed) {
    let seen = observed
        .iter()
        .map(|policy| {
            let key = (policy.namespace().unwrap_or_default(), policy.name_any());
            (key, policy.metadata.resource_version.clone().unwrap_or_default())
        })
        .collect();
    let standing = match known.filter(|known| known.is_of(world, unmodelled)) {
        Some(mut known) => {
            known.follow(observed, &changed(&before.seen, &seen));
            known
        }
        None => Standing::new(world.clone(), observed, unmodelled.to_vec()),
    };
    let analysis = Some(standing.verdicts().clone());
    let waived = waived(world);
    let analysed = Analysed { analysis, waived, seen };
    (standing, analysed)
}

/// The namespaces in which policies are new, changed or gone.
fn changed(before: &Seen, now: &Seen) -> BTreeSet<String> {
    let new = now.iter().filter(|(key, version)| before.get(*key) != Some(*version));
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    new.map(|(key, _)| key)
        .chain(gone)
        .map(|(namespace, _)| namespace.clone())
        .collect()
}

fn waived(world: &World) -> BTreeMap<String, Vec<String>> {
    let of = |name: &String| (name.clone(), waivers::about(world, name));
    let named = world.namespaces.keys().map(of);
    named.filter(|(_, waivers)| !waivers.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::stage::{Mode, NamespaceStage};
    use crate::api::workload::Runtime;
    use crate::network::{policies, testkit};

    /// Enforced `train` with a policy of its tenant that lets inference in; `serve` in audit, without a deny.
    fn mixed() -> (World, Vec<Arc<NetworkPolicy>>) {
        let mut world = testkit::world();
        world
            .stage("train", NamespaceStage::Training)
            .stage("serve", NamespaceStage::Inference)
            .workload("train", "road", Runtime::Generic, "")
            .workload("serve", "model", Runtime::Generic, "");
        let inference = "{podSelector: {}, policyTypes: [Ingress], \
                         ingress: [{from: [{namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}}]}]}";
        let mut observed = policies::namespace(&world, "train");
        observed.push(testkit::policy("train", "tenants", inference));
        if let Some(serve) = world.namespaces.get_mut("serve") {
            serve.mode = Mode::Audit;
        }
        (world, observed.into_iter().map(Arc::new).collect())
    }

    fn first(world: &World, observed: &[Arc<NetworkPolicy>]) -> Analysed {
        analyse(None, &Analysed::default(), world, observed, &[]).1
    }

    fn truth(analysed: &Analysed, namespace: &str) -> Option<Truth> {
        analysed.proof(namespace).map(|proof| proof.truth)
    }

    #[test]
    fn an_enforced_namespace_is_judged_by_what_is_stored_alone() {
        let (mut world, observed) = mixed();
        let analysed = first(&world, &observed);
        assert_eq!(truth(&analysed, "train"), Some(Truth::False), "serve is open today");
        assert_eq!(truth(&analysed, "serve"), Some(Truth::True), "and would not be");
        if let Some(train) = world.namespaces.get_mut("train") {
            train.mode = Mode::Warn;
        }
        let analysed = first(&world, &observed);
        assert_eq!(truth(&analysed, "train"), Some(Truth::True), "both as they would be");
    }

    #[test]
    fn findings_are_taken_from_the_analysis_that_judges_the_namespace() {
        let (world, mut observed) = mixed();
        let out = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}";
        for namespace in ["train", "serve"] {
            observed.push(Arc::new(testkit::policy(namespace, "out", out)));
        }
        let analysed = first(&world, &observed);
        for namespace in ["train", "serve"] {
            assert_eq!(analysed.findings(namespace).len(), 1, "{namespace}");
        }
    }

    #[tokio::test]
    async fn an_analysis_that_failed_takes_its_verdicts_back() {
        let (world, observed) = mixed();
        let before = first(&world, &observed);
        let failed = tokio::task::spawn_blocking(|| unreachable!("it fails")).await;
        let mut standing = None;
        let now = settled(failed, &mut standing);
        assert!(standing.is_none(), "the next one starts anew");
        assert_eq!(truth(&now, "serve"), None);
        let told = news(&before, &now, &BTreeSet::new());
        assert!(told.contains("train") && told.contains("serve"), "{told:?}");
    }

    #[test]
    fn what_changes_is_followed_and_another_world_is_judged_anew() {
        let (mut world, mut observed) = mixed();
        let versioned = |policy: &Arc<NetworkPolicy>, version: &str| {
            let mut policy = policy.as_ref().clone();
            policy.metadata.resource_version = Some(version.to_owned());
            Arc::new(policy)
        };
        let (mut standing, mut analysed) = analyse(None, &Analysed::default(), &world, &observed, &[]);
        assert_eq!(truth(&analysed, "train"), Some(Truth::False));
        // The tenant's policy is deleted, there again and emptied; then the world changes.
        let tenants = observed.pop().unwrap_or_default();
        let mut empty = versioned(&tenants, "3");
        if let Some(spec) = &mut Arc::make_mut(&mut empty).spec {
            spec.ingress = None;
        }
        for (policy, wanted) in [
            (None, Truth::True),
            (Some(versioned(&tenants, "2")), Truth::False),
            (Some(empty), Truth::True),
        ] {
            let now: Vec<Arc<NetworkPolicy>> = observed.iter().cloned().chain(policy).collect();
            (standing, analysed) = analyse(Some(standing), &analysed, &world, &now, &[]);
            assert_eq!(truth(&analysed, "train"), Some(wanted), "{wanted:?}");
        }
        observed.push(versioned(&tenants, "4"));
        if let Some(train) = world.namespaces.get_mut("train") {
            train.mode = Mode::Warn;
        }
        let (_, analysed) = analyse(Some(standing), &analysed, &world, &observed, &[]);
        assert_eq!(truth(&analysed, "train"), Some(Truth::True), "both as they would be");
    }
}
