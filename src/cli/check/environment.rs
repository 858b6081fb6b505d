//! What running pods take out of whole ConfigMaps, with the caller's rights. The controller reads no ConfigMap of a workload.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, Client, ResourceExt};

use crate::admission::{ConfigMaps, Offline, Told, as_enforced, is_alive, is_too_large, workload_of};
use crate::cli::{CliError, forbidden};
use crate::compliance::Subject;
use crate::network::world::{WorkloadKey, World};

/// Everything against declared workloads, once for each. ConfigMaps that the caller may not read are named in a note.
pub(super) async fn read(
    client: &Client,
    pods: &[Pod],
    world: &World,
    offline: &Offline,
    notes: &mut Vec<String>,
) -> Result<Vec<Told>, CliError> {
    let staged = |pod: &&Pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        world.stage_of(namespace).is_some()
    };
    let mut maps = ConfigMaps::default();
    let mut unread = Vec::new();
    let asked: BTreeSet<(String, &str)> = pods.iter().filter(staged).flat_map(taken).collect();
    for (namespace, name) in asked {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        match api.get_opt(name).await {
            Ok(found) => {
                let data = found.and_then(|map| map.data).unwrap_or_default();
                let texts = data.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                maps.add(&namespace, name, texts);
            }
            Err(error) if forbidden(&error) => unread.push(format!("{namespace}/{name}")),
            Err(error) => return Err(CliError::api(format!("get ConfigMap {namespace}/{name}"))(error)),
        }
    }
    if !unread.is_empty() {
        notes.push(format!(
            "you may not read ConfigMaps {}: whether pods take accelerators by variables out of them is not judged",
            unread.join(", ")
        ));
    }
    let mut told = BTreeMap::new();
    for pod in pods.iter().filter(staged) {
        let namespace = pod.namespace().unwrap_or_default();
        let pod = serde_json::to_value(pod).unwrap_or_default();
        let key = WorkloadKey::new(namespace, workload_of(&pod));
        let home = world
            .namespaces
            .get(&key.namespace)
            .and_then(|home| Some((home, home.stage?)));
        let Some((home, stage)) = home.filter(|_| is_alive(&pod) && world.workloads.contains_key(&key)) else {
            continue;
        };
        if is_too_large(&pod) {
            continue;
        }
        let own = BTreeSet::from([key.name.clone()]);
        let enforced = as_enforced(&home.name, &home.uid, stage, &own);
        // Of one that cannot be judged the scan says that.
        for (mut finding, refused) in maps.against(offline, &pod, &enforced).unwrap_or_default() {
            finding.subject = Subject::namespaced("AiWorkload", key.namespace.as_str(), key.name.as_str());
            finding.message = format!("a running pod: {}", finding.message);
            told.entry(key.clone()).or_insert(Told { finding, refused });
        }
    }
    Ok(told.into_values().collect())
}

/// The ConfigMaps that a pod takes whole, by namespace and name.
fn taken(pod: &Pod) -> impl Iterator<Item = (String, &str)> {
    let namespace = pod.namespace().unwrap_or_default();
    let spec = pod.spec.iter();
    let lasting = spec
        .clone()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let debugging = spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let sources = lasting
        .flat_map(|container| container.env_from.iter().flatten())
        .chain(debugging.flat_map(|container| container.env_from.iter().flatten()));
    sources.filter_map(move |source| Some((namespace.clone(), source.config_map_ref.as_ref()?.name.as_str())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_container_of_a_pod_may_take_a_config_map() {
        let from = |name: &str| json!([{"name": "c", "image": "x", "envFrom": [{"configMapRef": {"name": name}}, {"secretRef": {"name": "s"}}]}]);
        let pod = json!({"metadata": {"namespace": "train"}, "spec": {
            "containers": from("one"), "initContainers": from("two"), "ephemeralContainers": from("three")}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let names: Vec<&str> = taken(&pod).map(|(_, name)| name).collect();
        assert_eq!(names, ["one", "two", "three"]);
    }
}
