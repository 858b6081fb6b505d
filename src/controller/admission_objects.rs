//! Puts admission policies and bindings in place.
//!
//! The API server adds defaults, and another manager could add a match condition that switches a policy off without
//! touching a field of ours. So what comes back is compared with what was meant: everything meant must be there, lists
//! must be as long, and nothing else but defaults may be.

use std::collections::BTreeMap;
use std::fmt::Debug;

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::Context;
use super::error::{Class, Error};
use crate::cluster::telemetry::Kind;

/// What was last put in place, by kind and name: tells a repair from a change of ours.
pub type Stored = BTreeMap<(&'static str, String), Value>;

/// So often an object is tried when others write it at the same moment.
const TRIES: u32 = 3;
/// Fields the API server fills with defaults that change nothing we mean.
const DEFAULTED: [&str; 5] = [
    "matchPolicy",
    "namespaceSelector",
    "objectSelector",
    "scope",
    "failurePolicy",
];

/// Puts one object in place.
pub async fn place<K>(
    ctx: &Context,
    stored: &mut Stored,
    kind: &'static str,
    desired: &K,
    observed: Option<&K>,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let key = (kind, desired.name_any());
    let meant = serde_json::to_value(desired).unwrap_or_default();
    if observed.is_some_and(|observed| holds(desired, observed)) {
        stored.insert(key, meant);
        return Ok(());
    }
    if stored.get(&key) == Some(&meant) {
        ctx.metrics.drift_repaired.get_or_create(&Kind { kind }).inc();
        tracing::info!(kind, name = key.1, "put back");
    }
    let mut tries = 0;
    loop {
        let put = put(ctx, kind, desired).await;
        tries += 1;
        match put {
            // Somebody wrote between the two requests: their work is seen and judged in the next try.
            Err(error) if error.class() == Class::Conflict && tries < TRIES => {}
            put => {
                put?;
                stored.insert(key, meant);
                return Ok(());
            }
        }
    }
}

async fn put<K>(ctx: &Context, kind: &'static str, desired: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let applied = ctx.writer.apply_cluster(kind, desired).await?;
    if !holds(desired, &applied) {
        // Something a server-side apply cannot remove: the object is replaced as a whole, in one step, so that no moment
        // is without it.
        let mut whole = desired.clone();
        whole.meta_mut().resource_version = applied.resource_version();
        ctx.writer.replace_cluster(kind, &whole).await?;
    }
    Ok(())
}

/// Whether `observed` says what `desired` means, and nothing more.
pub(super) fn holds<K: Resource + Serialize>(desired: &K, observed: &K) -> bool {
    let spec = |object: &K| serde_json::to_value(object).ok().and_then(content);
    let labels = desired
        .meta()
        .labels
        .iter()
        .flatten()
        .all(|(key, value)| observed.meta().labels.as_ref().and_then(|labels| labels.get(key)) == Some(value));
    labels
        && observed.meta().finalizers.is_none()
        && observed.meta().owner_references == desired.meta().owner_references
        && matches!((spec(desired), spec(observed)), (Some(desired), Some(observed)) if covers(&desired, &observed))
}

/// What an object says: the spec of a policy, the entries of a webhook configuration but for the CA bundle, which is the
/// webhook's own to write.
fn content(mut object: Value) -> Option<Value> {
    if let Some(entries) = object.get_mut("webhooks").and_then(Value::as_array_mut) {
        let configs = entries
            .iter_mut()
            .filter_map(|entry| entry.get_mut("clientConfig")?.as_object_mut());
        configs.for_each(|config| {
            config.shift_remove("caBundle");
        });
        return object.get_mut("webhooks").map(Value::take);
    }
    object.get_mut("spec").map(Value::take)
}

fn covers(desired: &Value, observed: &Value) -> bool {
    match (desired, observed) {
        (Value::Object(desired), Value::Object(observed)) => {
            desired.iter().all(|(key, value)| match observed.get(key) {
                Some(found) => covers(value, found),
                None => is_empty(value),
            }) && observed.iter().all(|(key, value)| {
                desired.contains_key(key)
                    || is_empty(value)
                    || DEFAULTED.contains(&key.as_str()) && is_default(key, value)
            })
        }
        (Value::Array(desired), Value::Array(observed)) => {
            desired.len() == observed.len() && desired.iter().zip(observed).all(|(a, b)| covers(a, b))
        }
        _ => desired == observed,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "matchPolicy" => value == "Equivalent",
        "scope" => value == "*",
        "failurePolicy" => value == "Fail",
        _ => is_empty(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        let desired = json!({"matchConstraints": {"resourceRules": [{"resources": ["pods"]}]}, "validations": [{"expression": "true"}]});
        let observed = json!({
            "matchConstraints": {
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
                "resourceRules": [{"resources": ["pods"], "scope": "*"}],
            },
            "validations": [{"expression": "true"}], "failurePolicy": "Fail",
        });
        assert!(covers(&desired, &observed));
    }

    #[test]
    fn whatever_could_switch_a_policy_off_is_a_difference() {
        let desired = json!({"validations": [{"expression": "object.ok"}], "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]}});
        for observed in [
            json!({"validations": [{"expression": "true"}], "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]}}),
            json!({"validations": [{"expression": "object.ok"}], "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]},
                   "matchConditions": [{"name": "off", "expression": "false"}]}),
            json!({"validations": [{"expression": "object.ok"}], "matchConstraints": {"resourceRules": [{"resources": ["pods"]}],
                   "objectSelector": {"matchLabels": {"a": "b"}}}}),
            json!({"validations": [{"expression": "object.ok"}], "matchConstraints": {"resourceRules": [{"resources": ["pods"]}]},
                   "failurePolicy": "Ignore"}),
            json!({"validations": [{"expression": "object.ok"}], "matchConstraints": {"resourceRules": [{"resources": ["pods"]}],
                   "excludeResourceRules": [{"resources": ["pods"]}]}}),
            json!({"validations": []}),
        ] {
            assert!(!covers(&desired, &observed), "{observed}");
        }
    }
}
