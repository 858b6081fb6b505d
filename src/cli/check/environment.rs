//! What running pods take out of whole ConfigMaps, with the caller's rights. The controller reads no ConfigMap of a workload.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde_json::Value;

use super::live::namespace_of;
use crate::admission::{ConfigMaps, Offline, Told, as_enforced, is_alive, is_too_large, workload_of};
use crate::cli::{CliError, forbidden};
use crate::compliance::Subject;
use crate::network::world::{WorkloadKey, World};

/// Everything against declared workloads, once for each. ConfigMaps that the caller may not read are named in a note.
pub(super) async fn read(
    client: &Client,
    pods: &[Value],
    world: &World,
    offline: &Offline,
    notes: &mut Vec<String>,
) -> Result<Vec<Told>, CliError> {
    let declared = |pod: &&Value| {
        let key = WorkloadKey::new(namespace_of(pod), workload_of(pod));
        is_alive(pod) && world.workloads.contains_key(&key)
    };
    let taken = |pod| ConfigMaps::taken(pod).map(move |name| (namespace_of(pod), name));
    let asked: BTreeSet<(&str, &str)> = pods.iter().filter(declared).flat_map(taken).collect();
    let mut maps = ConfigMaps::default();
    let mut unread = Vec::new();
    for (namespace, name) in asked {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(found) => {
                let data = found.and_then(|map| map.data).unwrap_or_default();
                let texts = data.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                maps.add(namespace, name, texts);
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
    for pod in pods.iter().filter(declared).filter(|pod| !is_too_large(pod)) {
        let (namespace, workload) = (namespace_of(pod), workload_of(pod));
        let home = world.namespaces.get(namespace);
        let Some((home, stage)) = home.and_then(|home| Some((home, home.stage?))) else {
            continue;
        };
        let own = BTreeSet::from([workload.to_owned()]);
        let enforced = as_enforced(namespace, &home.uid, stage, &own);
        // Of one that cannot be judged the scan says that.
        for (mut finding, refused) in maps.against(offline, pod, &enforced).unwrap_or_default() {
            finding.subject = Subject::namespaced("AiWorkload", namespace, workload);
            finding.message = format!("a running pod: {}", finding.message);
            told.entry((namespace, workload)).or_insert(Told { finding, refused });
        }
    }
    Ok(told.into_values().collect())
}
