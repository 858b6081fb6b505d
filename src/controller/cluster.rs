//! The cluster-wide pass: the policy's first creation, the admission policies, then what is said of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::core::{DynamicObject, ObjectMeta};
use kube::discovery::ApiResource;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::admission_objects::{self, Stored};
use super::cluster_denies;
use super::cluster_status::{self, Found};
use super::context::Context;
use super::error::{Class, Error};
use super::evidence::admission::Expected;
use super::judge::Hold;
use super::webhook;
use crate::admission::{Operator, PolicySet, Waived, generate};
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::{AiSecurityPolicy, names};

/// Looks again even when no event came.
const AGAIN: Duration = Duration::from_secs(60);

/// Changes come in bursts: a thousand new workloads are counted a few times, not a thousand times.
const GATHER: Duration = Duration::from_millis(250);

/// What the cluster pass hands to the canaries.
pub type InForce = watch::Sender<Option<Arc<Expected>>>;

/// Who owns the admission policies.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// The chart's ClusterRole.
    Role(OwnerReference),
    /// There is no chart: run by hand.
    Nobody,
}

/// What one pass leaves to the next.
struct Passes {
    /// `None` until it could be read.
    owner: Option<Owner>,
    stored: Stored,
    denies: cluster_denies::Meant,
    in_force: InForce,
    hash: watch::Sender<String>,
}

/// Passes for ever: on every change, and after failures with growing waits.
pub async fn run(ctx: Arc<Context>, in_force: InForce, hash: watch::Sender<String>) {
    let mut passes = Passes {
        owner: None,
        stored: Stored::default(),
        denies: cluster_denies::Meant::default(),
        in_force,
        hash,
    };
    let mut evidence = ctx.evidence.subscribe();
    loop {
        let wait = match pass(&ctx, &mut passes).await {
            Ok(()) => {
                ctx.backoff.succeeded(&"cluster".to_owned());
                AGAIN
            }
            Err(error) => {
                let wait = ctx.backoff.failed("cluster".to_owned(), error.class());
                tracing::warn!(%error, reason = error.reason(), ?wait, "cluster pass failed");
                if error.class() == Class::Conflict {
                    Duration::from_millis(100)
                } else {
                    wait
                }
            }
        };
        tokio::select! {
            () = ctx.triggers.cluster.notified() => tokio::time::sleep(GATHER).await,
            _ = evidence.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The chart's ClusterRole owns the admission policies, so that an uninstall removes them: policies that go on refusing
/// with nobody to mend them would lock the cluster. Only a role that is not there means nobody: an answer that is missing
/// must not take the owner off policies that have one.
async fn owner(ctx: &Context) -> Result<Owner, Error> {
    let role = Api::<ClusterRole>::all(ctx.client.clone())
        .get_metadata_opt(names::CONTROLLER_ROLE)
        .await
        .map_err(Error::api(format!("read ClusterRole {}", names::CONTROLLER_ROLE)))?;
    let reference = role.and_then(|role| {
        Some(OwnerReference {
            api_version: ClusterRole::api_version(&()).into_owned(),
            kind: ClusterRole::kind(&()).into_owned(),
            name: role.name_any(),
            uid: role.uid()?,
            ..OwnerReference::default()
        })
    });
    Ok(reference.map_or(Owner::Nobody, Owner::Role))
}

async fn pass(ctx: &Context, passes: &mut Passes) -> Result<(), Error> {
    let hold = ctx.view().admission_hold("");
    ctx.metrics.off.set(i64::from(!ctx.caches.off.is_empty()));
    let policy = ctx.policy();
    ctx.metrics.policy_missing.set(i64::from(policy.is_none()));
    let Some(policy) = policy else {
        let hold = hold.unwrap_or(Hold::PolicyMissing);
        let created = match hold {
            Hold::Off { .. } => Ok(()),
            Hold::PolicyMissing => create_first(ctx).await,
        };
        return created.and(cluster_status::report(ctx, None, &Found::Held(&hold)).await);
    };
    if let Some(hold) = hold {
        passes.in_force.send_replace(None);
        return cluster_status::report(ctx, Some(&policy), &Found::Held(&hold)).await;
    }
    let now = Context::moment();
    let kept_by_cel = webhook::kept_by_cel(ctx, &policy.spec);
    let set = policies(ctx, &kept_by_cel, now);
    let failures = place(ctx, passes, &set).await;
    if let Some(hold) = ctx.view().admission_hold("") {
        passes.in_force.send_replace(None);
        return cluster_status::report(ctx, Some(&policy), &Found::Held(&hold)).await;
    }
    let expected = Arc::new(Expected::new(&set, &kept_by_cel, now));
    passes.hash.send_if_modified(|hash| {
        let changed = *hash != set.hash;
        hash.clone_from(&set.hash);
        changed
    });
    passes.in_force.send_if_modified(|known| {
        let changed = known.as_ref() != Some(&expected);
        *known = Some(expected);
        changed
    });
    let webhook = webhook::place(ctx, &policy.spec, &operator(ctx), passes.owner.as_ref()).await;
    let denies = cluster_denies::place(ctx, &mut passes.denies).await;
    // Whatever could not be written, the conditions say so: they must not go on telling of better days.
    let found = Found::Placed {
        set: &set,
        failures: &failures,
        denies: denies.verdict.as_ref(),
    };
    let reported = cluster_status::report(ctx, Some(&policy), &found).await;
    match failures.into_iter().chain(webhook.err()).chain(denies.failures).next() {
        Some(failure) => Err(failure),
        None => reported,
    }
}

/// The admission policies as they are to be at `now`.
pub fn policies(ctx: &Context, kept_by_cel: &AiSecurityPolicySpec, now: Timestamp) -> PolicySet {
    generate(kept_by_cel, &operator(ctx), &waived(ctx, kept_by_cel, now), now)
}

fn operator(ctx: &Context) -> Operator {
    Operator {
        user: ctx.user.clone(),
        namespace: ctx.namespace.clone(),
    }
}

/// The Waivers that the admission policies know at `now`.
pub fn waived(ctx: &Context, policy: &AiSecurityPolicySpec, now: Timestamp) -> Waived {
    let all = ctx.caches.waivers.state();
    Waived::new(all.iter().map(AsRef::as_ref), policy, now)
}

/// Creates the empty policy at the very first start. A policy that was there once and is gone means *hold*: our admission
/// policies or a seal show that it was.
async fn create_first(ctx: &Context) -> Result<(), Error> {
    let sealed = |ns: &k8s_openapi::api::core::v1::Namespace| ns.annotations().contains_key(names::SEALED_ANNOTATION);
    let known_before = !ctx.caches.admission_policies.is_empty() || ctx.caches.namespaces.find(sealed).is_some();
    if known_before {
        tracing::warn!(
            "AiSecurityPolicy `default` is gone: nothing is written and nothing is loosened until it is back"
        );
        return Ok(());
    }
    // Untyped: an object that is there and that our types cannot read must not be mistaken for none.
    let kind = ApiResource::erase::<AiSecurityPolicy>(&());
    let api: Api<DynamicObject> = Api::all_with(ctx.client.clone(), &kind);
    let empty: DynamicObject = DynamicObject::new(names::SINGLETON, &kind).data(json!({ "spec": {} }));
    match ctx.writer.create(&api, "AiSecurityPolicy", &empty).await {
        Ok(_) => {
            tracing::info!("created AiSecurityPolicy `default`: mode Audit, nothing is refused");
            Ok(())
        }
        Err(error) if error.class() == Class::Conflict => Ok(()),
        Err(error) => Err(error),
    }
}

/// Applies what differs, and removes policies of ours that this version no longer generates. One object that cannot be
/// written stops no other; the failures are handed back. It stops as soon as the button is pressed: who pressed it deletes
/// the bindings, and a pass under way would bring them back.
async fn place(ctx: &Context, passes: &mut Passes, set: &PolicySet) -> Vec<Error> {
    let mut failures = Vec::new();
    let observed: BTreeMap<String, Arc<ValidatingAdmissionPolicy>> = ctx
        .caches
        .admission_policies
        .state()
        .into_iter()
        .map(|p| (p.name_any(), p))
        .collect();
    let bound: BTreeMap<String, Arc<ValidatingAdmissionPolicyBinding>> = ctx
        .caches
        .admission_bindings
        .state()
        .into_iter()
        .map(|b| (b.name_any(), b))
        .collect();
    // What is missing may have gone with its owner; if another took the owner's name, the known uid would have the garbage
    // collector take the next one too.
    let missing = set
        .policies
        .iter()
        .any(|policy| !observed.contains_key(&policy.name_any()))
        || set
            .bindings
            .iter()
            .any(|binding| !bound.contains_key(&binding.name_any()))
        || ctx.webhook && ctx.caches.webhooks.is_empty();
    if passes.owner.is_none() || missing {
        match owner(ctx).await {
            Ok(found) => passes.owner = Some(found),
            Err(error) => failures.push(error),
        }
    }
    let held = || ctx.view().admission_hold("").is_some();
    let (owner, stored) = (passes.owner.as_ref(), &mut passes.stored);
    for policy in &set.policies {
        if held() {
            return failures;
        }
        let present = observed.get(&policy.name_any()).map(AsRef::as_ref);
        let mut policy = policy.clone();
        own(&mut policy.metadata, owner, present.map(|present| &present.metadata));
        let placed = admission_objects::place(ctx, stored, "ValidatingAdmissionPolicy", &policy, present).await;
        failures.extend(placed.err());
    }
    for binding in &set.bindings {
        if held() {
            return failures;
        }
        let present = bound.get(&binding.name_any()).map(AsRef::as_ref);
        let mut binding = binding.clone();
        own(&mut binding.metadata, owner, present.map(|present| &present.metadata));
        let placed = admission_objects::place(ctx, stored, "ValidatingAdmissionPolicyBinding", &binding, present).await;
        failures.extend(placed.err());
    }
    if held() {
        return failures;
    }
    let wanted: BTreeSet<String> = set.bindings.iter().map(ResourceExt::name_any).collect();
    for name in bound.keys().filter(|name| !wanted.contains(*name)) {
        let kind = "ValidatingAdmissionPolicyBinding";
        let deleted = ctx
            .writer
            .delete_cluster::<ValidatingAdmissionPolicyBinding>(kind, name);
        failures.extend(deleted.await.err());
    }
    let wanted: BTreeSet<String> = set.policies.iter().map(ResourceExt::name_any).collect();
    for name in observed.keys().filter(|name| !wanted.contains(*name)) {
        let kind = "ValidatingAdmissionPolicy";
        let deleted = ctx.writer.delete_cluster::<ValidatingAdmissionPolicy>(kind, name);
        failures.extend(deleted.await.err());
    }
    failures
}

/// Names the owner; while nobody knows who it is, the one that is there stays.
pub(super) fn own(desired: &mut ObjectMeta, owner: Option<&Owner>, present: Option<&ObjectMeta>) {
    desired.owner_references = match owner {
        Some(Owner::Role(reference)) => Some(vec![reference.clone()]),
        Some(Owner::Nobody) => None,
        None => present.and_then(|present| present.owner_references.clone()),
    };
}
