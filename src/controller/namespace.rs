//! One pass over one stage namespace: the deny, the seal, catalogue services, the list of workloads that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;

use super::context::{Context, key_of};
use super::error::{Class, Error};
use super::open;
use super::place::{self, Placed};
use super::report;
use super::writer::Scope;
use crate::api::conditions::Truth;
use crate::api::stage::{Mode, NamespaceStage};
use crate::api::{AiWorkload, names};
use crate::network::policies;
use crate::network::world::{WorkloadKey, World};

/// The reason of the event about a forbidden path, as of the condition.
const PATH_EXISTS: &str = "PathExists";
/// Looks again even when no event came: a safety net, not the way changes are noticed.
const AGAIN: Duration = Duration::from_secs(600);
/// Looks again after a write: longer than a write is awaited in the store.
const SOON: Duration = Duration::from_secs(3);

/// One pass.
pub async fn reconcile(namespace: Arc<Namespace>, ctx: Arc<Context>) -> Result<Action, Error> {
    let result = pass(&ctx, &namespace).await;
    if let Err(error) = &result
        && error.class() == Class::Permanent
    {
        let fix = match error.reason() {
            "Forbidden" | "Unauthorized" => {
                "give the controller back what the chart grants it (helm upgrade), or mend the policy that refuses it"
            }
            _ => "mend what the API server names; it is tried again",
        };
        let why = format!(
            "namespace {} cannot be sealed: {}; {fix}",
            namespace.name_any(),
            error.line()
        );
        unsealed(&ctx, &namespace, Some((error.reason(), why)));
    }
    result
}

/// Remembers what keeps a namespace from being sealed. Its workloads wait for the seal, and say so.
fn unsealed(ctx: &Context, namespace: &Namespace, why: Option<(&'static str, String)>) {
    let name = namespace.name_any();
    {
        let mut known = ctx.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&name) == why.as_ref() {
            return;
        }
        match why {
            Some(why) => known.insert(name.clone(), why),
            None => known.remove(&name),
        };
    }
    let here = |workload: &AiWorkload| workload.metadata.namespace.as_deref() == Some(&name);
    for workload in ctx.caches.workloads.state_filter(here) {
        ctx.triggers.workload(ObjectRef::from_obj(workload.as_ref()));
    }
}

/// Deny before seal, seal before anything is allowed.
async fn pass(ctx: &Context, namespace: &Namespace) -> Result<Action, Error> {
    let name = namespace.name_any();
    let view = ctx.view();
    if view.hold(&name).is_some() || namespace.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let world = &view.world;
    let Some(facts) = world.namespaces.get(&name) else {
        return Ok(Action::await_change());
    };
    let said = namespace.labels().get(names::STAGE_LABEL);
    match (facts.stage, said) {
        (None, Some(unknown)) => {
            let message = format!(
                "NET-02/stage-label the label {} is {unknown:?}; use training, evaluation, inference or shared. Nothing was \
                 changed: what is in place stays",
                names::STAGE_LABEL
            );
            report::say(ctx, namespace, EventType::Warning, "UnknownStage", message).await;
            Ok(Action::await_change())
        }
        // The policies there are the packet canary's, and go with it.
        (None, None) if names::PACKETS_NAMESPACES.contains(&&*name) => Ok(Action::await_change()),
        (None, None) if holds_ours(ctx, namespace) => leave(ctx, namespace).await,
        (None, None) => Ok(Action::await_change()),
        (Some(stage), _) if facts.mode != Mode::Enforce => {
            if stage != NamespaceStage::Shared {
                report::orphan_pods(ctx, namespace, world).await;
            }
            Ok(Action::requeue(AGAIN))
        }
        (Some(stage), _) => enforce(ctx, namespace, world, stage).await,
    }
}

async fn enforce(ctx: &Context, namespace: &Namespace, world: &World, stage: NamespaceStage) -> Result<Action, Error> {
    let scope = Scope::of_namespace(namespace);
    let observed = ctx.policies_in(scope.namespace());
    let deny = policies::deny(scope.namespace(), stage);
    let sealed_before = namespace.annotations().contains_key(names::SEALED_ANNOTATION);
    let denied = place::policy(ctx, &scope, &deny, sealed_before).await?;
    let mut written = denied == Placed::Now;
    if let Placed::Foreign(why) = denied {
        let message = format!(
            "NET-09/foreign-object NetworkPolicy {} is not ours ({why}); it was left alone and the namespace is not sealed. \
             Rename or delete it",
            names::DENY_POLICY
        );
        unsealed(ctx, namespace, Some(("ForeignObject", message.clone())));
        report::say(ctx, namespace, EventType::Warning, "ForeignObject", message).await;
        return Ok(Action::requeue(AGAIN));
    }
    let mut failed = None;
    for service in services(world, scope.namespace()) {
        match place::policy(ctx, &scope, &service, sealed_before).await {
            Ok(Placed::Already) => {}
            Ok(Placed::Now) => written = true,
            // One that the API server refuses does not keep the others from being placed.
            Err(error) => {
                failed.get_or_insert(error);
            }
            Ok(Placed::Foreign(why)) => {
                let message = format!(
                    "NET-09/foreign-object NetworkPolicy {} is not ours ({why}); it was left alone",
                    service.name_any()
                );
                report::say(ctx, namespace, EventType::Warning, "ForeignObject", message).await;
            }
        }
    }
    withdraw_services(ctx, &scope, world, &observed).await?;
    written |= annotate(ctx, namespace, world, &observed, stage).await?;
    unsealed(ctx, namespace, None);
    if stage != NamespaceStage::Shared {
        report::orphan_pods(ctx, namespace, world).await;
        if sealed_before {
            path(ctx, namespace, world, &observed).await;
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    // The watch sets this off again when it shows what was written; this is for the write that it never shows.
    Ok(Action::requeue(if written { SOON } else { AGAIN }))
}

/// Says that a path leads in or out, where there is no workload whose conditions do. Before the seal every namespace is
/// open, and so it is until the analysis has seen the deny: that is no news.
async fn path(ctx: &Context, namespace: &Namespace, world: &World, observed: &BTreeMap<String, Arc<NetworkPolicy>>) {
    let name = namespace.name_any();
    let proof = {
        let analysed = ctx.analysed.borrow();
        let deny = observed.get(names::DENY_POLICY);
        let proof = deny
            .filter(|deny| analysed.has_seen(deny))
            .and_then(|_| analysed.proof(&name));
        proof.filter(|proof| proof.truth == Truth::False)
    };
    match proof.filter(|_| world.workloads_in(&name).next().is_none()) {
        Some(proof) => report::say(ctx, namespace, EventType::Warning, PATH_EXISTS, proof.message).await,
        None => report::unsay(ctx, &name, PATH_EXISTS),
    }
}

/// Writes the seal and the list of workloads, where they are not what they should be; whether that is under way.
async fn annotate(
    ctx: &Context,
    namespace: &Namespace,
    world: &World,
    observed: &BTreeMap<String, Arc<NetworkPolicy>>,
    stage: NamespaceStage,
) -> Result<bool, Error> {
    if ctx.triggers.in_flight(namespace) {
        return Ok(true);
    }
    let shown = || ctx.caches.namespaces.get(&ObjectRef::from_obj(namespace));
    let Some(namespace) = shown() else { return Ok(false) };
    let staged = stage != NamespaceStage::Shared;
    let wanted_seal = staged.then(|| format!("{}/{stage}", namespace.uid().unwrap_or_default()));
    let wanted_open = staged.then(|| open_list(&namespace, world, observed));
    let has = |key: &str| namespace.annotations().get(key);
    if has(names::SEALED_ANNOTATION) == wanted_seal.as_ref() && has(names::OPEN_ANNOTATION) == wanted_open.as_ref() {
        return Ok(false);
    }
    let written = ctx
        .writer
        .annotate_namespace(&namespace, wanted_seal.as_deref(), wanted_open.as_deref())
        .await?;
    ctx.triggers.wrote(&written, shown().as_deref());
    Ok(true)
}

/// The list of the workloads that exist here. A name leaves it only when its withdrawal was carried out: absence never
/// cuts.
fn open_list(namespace: &Namespace, world: &World, observed: &BTreeMap<String, Arc<NetworkPolicy>>) -> String {
    let here = namespace.name_any();
    let mut entries = open::wanted(world, &here, |policy| observed.contains_key(policy));
    if here == names::CANARY_NAMESPACE {
        // The canaries' positive control is a pod that would be admitted; it is only ever asked for in a dry run.
        entries.entry(names::DEFAULT_WORKLOAD.to_owned()).or_default();
    }
    let present = open::read(annotation(namespace, names::OPEN_ANNOTATION));
    for (name, gates) in &present {
        let key = WorkloadKey::new(&here, name);
        let placed = observed.contains_key(&policies::workload_policy_name(name));
        if !entries.contains_key(name) && (placed || world.workloads.contains_key(&key)) {
            entries.insert(name.clone(), gates.clone());
        }
    }
    open::write(&entries, &present)
}

/// An annotation; empty without one.
fn annotation<'n>(namespace: &'n Namespace, key: &str) -> &'n str {
    namespace.annotations().get(key).map(String::as_str).unwrap_or_default()
}

/// What the catalogue wants in a shared namespace.
fn services(world: &World, namespace: &str) -> Vec<NetworkPolicy> {
    let service = |policy: &NetworkPolicy| policy.name_any().starts_with(names::SERVICE_POLICY_PREFIX);
    policies::namespace(world, namespace)
        .into_iter()
        .filter(service)
        .collect()
}

/// Service policies of ours that the catalogue no longer holds: the catalogue said so, so they go at once. Taking an
/// allow away loosens nothing.
async fn withdraw_services(
    ctx: &Context,
    scope: &Scope,
    world: &World,
    observed: &BTreeMap<String, Arc<NetworkPolicy>>,
) -> Result<(), Error> {
    let wanted: BTreeSet<String> = services(world, scope.namespace())
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    for (name, policy) in observed {
        if name.starts_with(names::SERVICE_POLICY_PREFIX) && !wanted.contains(name) {
            place::withdraw(ctx, scope, policy).await?;
        }
    }
    Ok(())
}

/// Whether anything of ours is left in a namespace without a stage. A shared namespace never had a seal.
fn holds_ours(ctx: &Context, namespace: &Namespace) -> bool {
    namespace.annotations().contains_key(names::SEALED_ANNOTATION)
        || ctx
            .policies_in(&namespace.name_any())
            .values()
            .any(|policy| place::is_ours(policy))
}

/// The admin took the stage away: deny first, then the allows, then the annotations. The reverse order is an outage.
async fn leave(ctx: &Context, namespace: &Namespace) -> Result<Action, Error> {
    let scope = Scope::of_namespace(namespace);
    let observed = ctx.policies_in(scope.namespace());
    let ours = |policy: &&Arc<NetworkPolicy>| place::is_ours(policy);
    if let Some(deny) = observed.get(names::DENY_POLICY).filter(ours) {
        if deny.metadata.deletion_timestamp.is_none() {
            ctx.writer.delete_network_policy(&scope, deny).await?;
        }
        // A dataplane's finalizer keeps it in force for a while. The watch sets this off again when it is gone; a shared
        // namespace may have nothing else to take away.
        let more = observed.values().filter(ours).count() > 1;
        if more || namespace.annotations().contains_key(names::SEALED_ANNOTATION) {
            return Ok(Action::requeue(SOON));
        }
    }
    for policy in observed.values().filter(ours) {
        ctx.writer.delete_network_policy(&scope, policy).await?;
    }
    ctx.writer.annotate_namespace(namespace, None, None).await?;
    let message = "the stage label was removed: the deny, the allows and the seal are gone, in this order".to_owned();
    report::say(ctx, namespace, EventType::Normal, "Left", message).await;
    Ok(Action::await_change())
}

/// Carries out the withdrawal of one deleted workload: its flows are emptied, then the policy is deleted. The deny stays.
pub async fn withdraw_workload(ctx: &Context, key: &WorkloadKey) -> Result<(), Error> {
    let back = ctx
        .caches
        .workloads
        .find(|workload| key_of(workload).as_ref() == Some(key))
        .is_some();
    if back
        || ctx
            .world()
            .namespaces
            .get(&key.namespace)
            .is_none_or(|namespace| namespace.terminating)
    {
        return Ok(());
    }
    let name = policies::workload_policy_name(&key.name);
    let Some(policy) = ctx
        .policy_named(&key.namespace, &name)
        .filter(|policy| place::is_ours(policy))
    else {
        return Ok(());
    };
    let Some(scope) = Scope::of(policy.as_ref()) else {
        return Ok(());
    };
    place::withdraw(ctx, &scope, &policy).await
}
