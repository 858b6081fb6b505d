//! What pods that run share with those of another stage, by the functions of the controller.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::live::namespace_of;
use crate::admission::{is_alive, overrides, workload_of};
use crate::api::AiWorkload;
use crate::cli::{CliError, forbidden};
use crate::cluster::allocations;
use crate::compliance::Finding;
use crate::compliance::checks::pod::PodFacts;
use crate::compliance::checks::sharing::{self, Holder};
use crate::compliance::checks::volumes::{Claim, Storage, Volume};
use crate::network::world::{WorkloadKey, World};

/// Everything against declared workloads. What the caller may not list is said in a note.
pub(super) async fn read(
    client: &Client,
    pods: &[Value],
    workloads: &[AiWorkload],
    world: &World,
    notes: &mut Vec<String>,
) -> Result<Vec<Finding>, CliError> {
    let declared = workloads.iter().map(|workload| {
        let key = WorkloadKey::new(workload.namespace().unwrap_or_default(), workload.name_any());
        (key, workload.spec.data.classification)
    });
    let declared: BTreeMap<_, _> = declared.collect();
    let mut by_uid = BTreeMap::new();
    let mut mounted = Vec::new();
    let mut ask_for_devices = false;
    for pod in pods {
        let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let key = WorkloadKey::new(namespace_of(pod), workload_of(pod));
        let Some(stage) = world.stage_of(&key.namespace).filter(|_| is_alive(pod)) else {
            continue;
        };
        let holder = Holder {
            classification: declared.get(&key).copied(),
            namespace: key.namespace,
            workload: key.name,
            stage,
            claim: String::new(),
        };
        let facts = PodFacts::deserialize(&pod["spec"]).unwrap_or_default();
        let facts = facts.of_running(text("/metadata/name"));
        mounted.extend(facts.claims().map(|claim| with(&holder, claim)));
        ask_for_devices |= pod.pointer("/spec/resourceClaims").is_some();
        by_uid.insert(text("/metadata/uid").to_owned(), holder);
    }
    let overrides = overrides(&world.policy, Timestamp::now());
    let mut findings = Vec::new();
    if !mounted.is_empty() {
        let claims = list::<Claim>(client, "PersistentVolumeClaims", notes).await?;
        let volumes = list::<Volume>(client, "PersistentVolumes", notes).await?;
        let storage = Storage::new([], claims, volumes);
        findings.extend(sharing::volumes(mounted, &storage, &overrides));
    }
    if ask_for_devices {
        let allocations = or_note(allocations::list(client).await, "ResourceClaims", notes)?;
        let given = allocations.iter().flat_map(|allocation| {
            let holders = allocation.pods.values().filter_map(|uid| by_uid.get(uid));
            holders.map(|holder| (with(holder, &allocation.claim), allocation.devices.clone()))
        });
        findings.extend(sharing::devices(given, &overrides));
    }
    findings.retain(|finding| {
        let namespace = finding.subject.namespace.clone().unwrap_or_default();
        declared.contains_key(&WorkloadKey::new(namespace, finding.subject.name.clone()))
    });
    Ok(findings)
}

fn with(holder: &Holder, claim: &str) -> Holder {
    Holder {
        claim: claim.to_owned(),
        ..holder.clone()
    }
}

async fn list<K>(client: &Client, kinds: &str, notes: &mut Vec<String>) -> Result<Vec<Arc<K>>, CliError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let listed = Api::<K>::all(client.clone()).list(&ListParams::default()).await;
    let listed = or_note(listed.map(|list| list.items), kinds, notes)?;
    Ok(listed.into_iter().map(Arc::new).collect())
}

fn or_note<T>(listed: Result<Vec<T>, kube::Error>, kinds: &str, notes: &mut Vec<String>) -> Result<Vec<T>, CliError> {
    match listed {
        Ok(listed) => Ok(listed),
        Err(error) if forbidden(&error) => {
            notes.push(format!(
                "you may not list {kinds}: whether pods of two stages share what they lead to is not judged"
            ));
            Ok(Vec::new())
        }
        Err(error) => Err(CliError::api(format!("list {kinds}"))(error)),
    }
}
