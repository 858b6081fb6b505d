//! The cluster-wide pass: the policy's first creation, the admission policies, the cluster's conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::admission_objects::{self, Stored};
use super::context::Context;
use super::error::{Class, Error};
use super::evidence::admission::Expected;
use super::judge::{Hold, Proof};
use super::proofs;
use crate::admission::{Operator, PolicySet, generate};
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::api::policy::{AiSecurityPolicyStatus, StageCount};
use crate::api::stage::NamespaceStage;
use crate::api::{AiSecurityPolicy, SecretEncryption, names};
use crate::cluster::telemetry::ConditionLabels;

/// Looks again even when no event came.
const AGAIN: Duration = Duration::from_secs(60);

/// What the cluster pass hands to the canaries.
pub type InForce = watch::Sender<Option<Arc<Expected>>>;

/// Passes for ever: on every change, and after failures with growing waits.
pub async fn run(ctx: Arc<Context>, in_force: InForce, hash: watch::Sender<String>) {
    let owner = owner(&ctx).await;
    let mut stored = Stored::default();
    let mut evidence = ctx.evidence.subscribe();
    loop {
        let wait = match pass(&ctx, owner.as_ref(), &mut stored, &in_force, &hash).await {
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
            () = ctx.triggers.cluster.notified() => {}
            _ = evidence.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The chart's ClusterRole owns the admission policies, so that an uninstall removes them: policies that go on refusing
/// with nobody to mend them would lock the cluster. Without it (run by hand) they have no owner.
async fn owner(ctx: &Context) -> Option<OwnerReference> {
    let role = Api::<ClusterRole>::all(ctx.client.clone())
        .get_metadata_opt(names::CONTROLLER_ROLE)
        .await;
    let role = role
        .inspect_err(|error| tracing::warn!(%error, "the chart's ClusterRole is not readable"))
        .ok()
        .flatten()?;
    Some(OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: role.name_any(),
        uid: role.uid()?,
        ..OwnerReference::default()
    })
}

async fn pass(
    ctx: &Context,
    owner: Option<&OwnerReference>,
    stored: &mut Stored,
    in_force: &InForce,
    hash: &watch::Sender<String>,
) -> Result<(), Error> {
    let hold = ctx.view().admission_hold("");
    ctx.metrics.off.set(i64::from(!ctx.caches.off.is_empty()));
    let policy = ctx.policy();
    ctx.metrics.policy_missing.set(i64::from(policy.is_none()));
    match (&policy, &hold) {
        (None, hold) => {
            // There is no object to write conditions on.
            show(ctx, &held(hold.as_ref().unwrap_or(&Hold::PolicyMissing)));
            return match hold {
                Some(Hold::Off { .. }) => Ok(()),
                Some(Hold::PolicyMissing) | None => create_first(ctx).await,
            };
        }
        (Some(policy), Some(_)) => {
            in_force.send_replace(None);
            return report(ctx, policy, None, hold.as_ref()).await;
        }
        (Some(_), None) => {}
    }
    let Some(policy) = policy else { return Ok(()) };
    let operator = Operator {
        user: ctx.user.clone(),
        namespace: ctx.namespace.clone(),
    };
    let set = generate(&policy.spec, &operator, Context::now());
    place(ctx, owner, stored, &set).await?;
    let expected = Arc::new(Expected::new(&set, &policy.spec, Context::now()));
    hash.send_if_modified(|hash| {
        let changed = *hash != set.hash;
        hash.clone_from(&set.hash);
        changed
    });
    in_force.send_if_modified(|known| {
        let changed = known.as_ref() != Some(&expected);
        *known = Some(expected);
        changed
    });
    report(ctx, &policy, Some(&set), None).await
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
    match api
        .create(
            &PostParams {
                field_manager: Some(names::FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            },
            &empty,
        )
        .await
    {
        Ok(_) => {
            tracing::info!("created AiSecurityPolicy `default`: mode Audit, nothing is refused");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Error::api("create AiSecurityPolicy default")(error)),
    }
}

/// Applies what differs, and removes policies of ours that this version no longer generates.
async fn place(
    ctx: &Context,
    owner: Option<&OwnerReference>,
    stored: &mut Stored,
    set: &PolicySet,
) -> Result<(), Error> {
    let observed: BTreeMap<String, Arc<ValidatingAdmissionPolicy>> = ctx
        .caches
        .admission_policies
        .state()
        .into_iter()
        .map(|p| (p.name_any(), p))
        .collect();
    for policy in &set.policies {
        let mut policy = policy.clone();
        policy.metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
        let present = observed.get(&policy.name_any()).map(AsRef::as_ref);
        admission_objects::place(ctx, stored, "ValidatingAdmissionPolicy", &policy, present).await?;
    }
    let bound: BTreeMap<String, Arc<ValidatingAdmissionPolicyBinding>> = ctx
        .caches
        .admission_bindings
        .state()
        .into_iter()
        .map(|b| (b.name_any(), b))
        .collect();
    for binding in &set.bindings {
        let mut binding = binding.clone();
        binding.metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
        let present = bound.get(&binding.name_any()).map(AsRef::as_ref);
        admission_objects::place(ctx, stored, "ValidatingAdmissionPolicyBinding", &binding, present).await?;
    }
    let wanted: BTreeSet<String> = set.bindings.iter().map(ResourceExt::name_any).collect();
    for name in bound.keys().filter(|name| !wanted.contains(*name)) {
        ctx.writer
            .delete_cluster::<ValidatingAdmissionPolicyBinding>("ValidatingAdmissionPolicyBinding", name)
            .await?;
    }
    let wanted: BTreeSet<String> = set.policies.iter().map(ResourceExt::name_any).collect();
    for name in observed.keys().filter(|name| !wanted.contains(*name)) {
        ctx.writer
            .delete_cluster::<ValidatingAdmissionPolicy>("ValidatingAdmissionPolicy", name)
            .await?;
    }
    Ok(())
}

/// The cluster's conditions, on the policy and, for encryption, on `SecretEncryption` where there is one.
async fn report(
    ctx: &Context,
    policy: &AiSecurityPolicy,
    set: Option<&PolicySet>,
    hold: Option<&Hold>,
) -> Result<(), Error> {
    let evidence = ctx.evidence.snapshot();
    let now = Time(Context::now());
    let max_age = proofs::max_age(&policy.spec);
    let admission = proofs::admission(&evidence);
    let encryption = proofs::encryption(&evidence, &Time(Context::moment()), max_age);
    let verdicts = match hold {
        Some(hold) => held(hold),
        None => judge(admission.as_ref(), encryption.as_ref()),
    };
    show(ctx, &verdicts);
    let number = |policy: &AiSecurityPolicy| {
        policy
            .resource_version()
            .and_then(|v| v.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let known = ctx
        .written_policy
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let present = match known {
        Some((written, status)) if written > number(policy) => status,
        _ => policy.status.clone().unwrap_or_default(),
    };
    let status = AiSecurityPolicyStatus {
        observed_generation: policy.metadata.generation,
        conditions: conditions::conditions(&present.conditions, &verdicts, policy.metadata.generation, &now),
        policy_hash: set.map(|set| set.hash.clone()).or(present.policy_hash.clone()),
        counts: counts(ctx),
        unmodelled_policy_kinds: kinds(ctx),
    };
    if status != present {
        let api = Api::<AiSecurityPolicy>::all(ctx.client.clone());
        let written = ctx
            .writer
            .apply_status(&api, "AiSecurityPolicy", names::SINGLETON, &status)
            .await?;
        *ctx.written_policy.lock().unwrap_or_else(PoisonError::into_inner) = Some((number(&written), status));
    }
    for encryption in ctx.caches.encryptions.state() {
        let present = encryption.status.clone().unwrap_or_default();
        let generation = encryption.metadata.generation;
        let status =
            proofs::encryption_status(&evidence, &present, generation, max_age, &now, &Time(Context::moment()));
        if status != present {
            let api = Api::<SecretEncryption>::all(ctx.client.clone());
            ctx.writer
                .apply_status(&api, "SecretEncryption", &encryption.name_any(), &status)
                .await?;
        }
    }
    Ok(())
}

/// The cluster's conditions as metrics.
fn show(ctx: &Context, verdicts: &[Verdict]) {
    for verdict in verdicts {
        for truth in [Truth::True, Truth::False, Truth::Unknown] {
            let labels = ConditionLabels {
                condition: verdict.kind,
                status: truth.as_str(),
            };
            let gauge = ctx.metrics.conditions.get_or_create(&labels);
            gauge.set(i64::from(verdict.truth == truth));
        }
    }
}

fn held(hold: &Hold) -> Vec<Verdict> {
    let (reason, message) = match hold {
        Hold::Off { reason } => ("Off", format!("switched off: {reason}; `cloison on` resumes")),
        Hold::PolicyMissing => ("PolicyMissing", "nothing is written and nothing is loosened".to_owned()),
    };
    [
        types::ADMISSION_ENFORCED,
        types::ENFORCEMENT_VERIFIED,
        types::SECRETS_ENCRYPTED,
        types::POLICY_CURRENT,
        types::READY,
    ]
    .into_iter()
    .map(|kind| Verdict::new(kind, Truth::Unknown, reason, message.clone()))
    .collect()
}

/// The cluster's verdicts. Ready says that the generated policies are stored; that they refuse is `AdmissionEnforced`.
fn judge(admission: Option<&Proof>, encryption: Option<&Proof>) -> Vec<Verdict> {
    let from = |kind, proof: Option<&Proof>| match proof {
        Some(proof) => Verdict::new(kind, proof.truth, proof.reason, proof.message.clone()),
        None => Verdict::new(kind, Truth::Unknown, "NotProbed", "no proof was gathered yet"),
    };
    vec![
        from(types::ADMISSION_ENFORCED, admission),
        Verdict::new(
            types::ENFORCEMENT_VERIFIED,
            Truth::Unknown,
            "NotProbed",
            "no packet was sent",
        ),
        from(types::SECRETS_ENCRYPTED, encryption),
        Verdict::new(types::POLICY_CURRENT, Truth::True, "Current", "this policy is in force"),
        Verdict::new(
            types::READY,
            Truth::True,
            "Reconciled",
            "the generated admission policies are stored",
        ),
    ]
}

fn counts(ctx: &Context) -> Vec<StageCount> {
    let world = ctx.world();
    let mut counts: BTreeMap<_, (i32, i32)> = BTreeMap::new();
    for namespace in world.namespaces.values() {
        let Some(stage) = namespace.stage else { continue };
        let count = counts.entry((stage, namespace.mode)).or_default();
        count.0 += 1;
        count.1 += i32::try_from(world.workloads_in(&namespace.name).count()).unwrap_or(i32::MAX);
    }
    let count = |((stage, mode), (namespaces, workloads)): ((NamespaceStage, _), _)| StageCount {
        stage,
        mode,
        namespaces,
        workloads,
    };
    counts.into_iter().map(count).collect()
}

fn kinds(ctx: &Context) -> Vec<crate::api::text::Line> {
    let kinds: BTreeSet<String> = ctx
        .unmodelled
        .borrow()
        .iter()
        .map(|policy| policy.kind.clone())
        .collect();
    kinds.iter().map(|kind| kind.as_str().into()).collect()
}
