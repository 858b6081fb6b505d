//! Puts the denies between stages in place as ClusterNetworkPolicies, repairs them and takes them away again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::{DynamicObject, TypeMeta};
use serde_json::{Value, json};

use super::context::Context;
use super::error::Error;
use crate::api::conditions::{Truth, Verdict, types};
use crate::api::names;
use crate::api::policy::ClusterDeny;
use crate::cluster::cluster_policies;
use crate::cluster::telemetry::Kind;
use crate::network::cluster_deny;
use crate::network::cluster_policy::{GROUP, KIND, Spec, VERSION};
use crate::network::drift::is_ours;

/// Longest that a write is awaited in what was read.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// What one pass leaves to the next.
#[derive(Default)]
pub struct Meant {
    /// What was last put in place, by name: tells a repair from a change of ours.
    specs: BTreeMap<String, Spec>,
    /// The last write, and what had been read before it.
    written: Option<(Instant, Vec<Arc<DynamicObject>>)>,
}

/// What became of them.
pub struct Placed {
    /// `None` unless somebody asked for them.
    pub verdict: Option<Verdict>,
    /// What could not be written.
    pub failures: Vec<Error>,
}

/// Applies what differs, and deletes what is not wanted any more. An object of somebody else under a name of ours is left
/// alone and told.
pub async fn place(ctx: &Context, meant: &mut Meant) -> Placed {
    let world = ctx.world();
    let wanted = cluster_deny::render(&world);
    let asked = world.policy.network.cluster_deny;
    let Some(stored) = ctx.other_policies.borrow().of_cluster.clone() else {
        return Placed {
            verdict: not_served(asked),
            failures: Vec::new(),
        };
    };
    // The next look, which is under way, sets off the next pass.
    let unseen = |(at, before): &(Instant, Vec<_>)| at.elapsed() < IN_FLIGHT && *before == stored;
    let in_flight = meant.written.as_ref().is_some_and(unseen);
    let read = stored.clone();
    let stored: BTreeMap<String, Arc<DynamicObject>> =
        stored.into_iter().map(|policy| (policy.name_any(), policy)).collect();
    let (mut failures, mut foreign) = (Vec::new(), Vec::new());
    for (name, spec) in &wanted {
        match stored.get(name) {
            Some(found) if !is_ours(&found.metadata) => {
                foreign.push(name.as_str());
                continue;
            }
            Some(found) if holds(spec, found) => {
                meant.specs.insert(name.clone(), spec.clone());
                continue;
            }
            _ => {}
        }
        let again = meant.specs.get(name) == Some(spec);
        if again && in_flight {
            continue;
        }
        if again {
            ctx.metrics.drift_repaired.get_or_create(&Kind { kind: KIND }).inc();
            tracing::info!(kind = KIND, name, "put back");
        }
        match put(ctx, name, spec).await {
            Ok(()) => {
                meant.specs.insert(name.clone(), spec.clone());
                meant.written = Some((Instant::now(), read.clone()));
            }
            Err(error) => failures.push(error),
        }
    }
    let kept: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    for (name, found) in &stored {
        let ours = names::STAGE_POLICIES.contains(&name.as_str()) && is_ours(&found.metadata);
        if ours && !kept.contains(name.as_str()) {
            meant.specs.remove(name);
            failures.extend(ctx.writer.delete_cluster_policy(name).await.err());
        }
    }
    let verdict = (asked != ClusterDeny::None).then(|| verdict(&wanted, &foreign, &failures));
    Placed { verdict, failures }
}

fn not_served(asked: ClusterDeny) -> Option<Verdict> {
    let kind = types::CLUSTER_DENY_PLACED;
    let what = format!("{KIND} of {GROUP}/{VERSION}");
    match asked {
        ClusterDeny::None => None,
        ClusterDeny::Auto => Some(Verdict::new(
            kind,
            Truth::False,
            "NotServed",
            format!("this cluster does not serve {what}: NetworkPolicies alone keep the stages apart"),
        )),
        ClusterDeny::ClusterNetworkPolicy => Some(Verdict::new(
            kind,
            Truth::False,
            "SupportedButNotServed",
            format!(
                "spec.network.clusterDeny asks for {what}, which this cluster does not serve: install its definition and a \
                 network plugin that enforces it, or set clusterDeny to None"
            ),
        )),
    }
}

fn verdict(wanted: &[(String, Spec)], foreign: &[&str], failures: &[Error]) -> Verdict {
    let kind = types::CLUSTER_DENY_PLACED;
    if let Some(name) = foreign.first() {
        return Verdict::new(
            kind,
            Truth::False,
            "ForeignObject",
            format!("NET-09/foreign-object {KIND} {name} is not ours; it was left alone. Rename or delete it"),
        );
    }
    if let Some(first) = failures.first() {
        return Verdict::new(kind, Truth::False, first.reason(), first.line());
    }
    let names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    Verdict::new(
        kind,
        Truth::True,
        "Placed",
        format!(
            "stored: {}; whether the network plugin enforces the kind is not shown by that",
            names.join(", ")
        ),
    )
}

async fn put(ctx: &Context, name: &str, spec: &Spec) -> Result<(), Error> {
    let wanted = object(name, spec);
    let applied = ctx.writer.apply_cluster_policy(&wanted).await?;
    if !holds(spec, &applied) {
        // Something a server-side apply cannot remove: the object is replaced as a whole, in one step, so that no moment
        // is without it.
        let mut whole = wanted;
        whole.metadata.resource_version = applied.resource_version();
        ctx.writer.replace_cluster_policy(&whole).await?;
    }
    Ok(())
}

fn object(name: &str, spec: &Spec) -> DynamicObject {
    let labels = [names::PART_OF_LABEL, names::MANAGED_BY_LABEL].map(|key| (key.to_owned(), names::CLOISON.to_owned()));
    let resource = cluster_policies::resource();
    DynamicObject {
        types: Some(TypeMeta {
            api_version: resource.api_version,
            kind: resource.kind,
        }),
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        data: json!({ "spec": spec }),
    }
}

/// Whether an object says what is wanted, and nothing makes it vanish.
fn holds(spec: &Spec, found: &DynamicObject) -> bool {
    let said = found
        .data
        .get("spec")
        .map(|said: &Value| serde_json::from_value::<Spec>(said.clone()));
    let labels = found.labels();
    let labelled = |key: &str| labels.get(key).is_some_and(|value| value == names::CLOISON);
    matches!(said, Some(Ok(said)) if said == *spec)
        && labelled(names::PART_OF_LABEL)
        && labelled(names::MANAGED_BY_LABEL)
        && found.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
        && found.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
}
