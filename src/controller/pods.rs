//! Pods as the controller keeps them: who they are, their interfaces, and what they do with Secrets. Of tens of thousands
//! nothing else is remembered.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod as CorePod;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::caches;
use crate::api::names;
use crate::compliance::checks::pod::{self, PodFacts};
use crate::network::interfaces::Interfaces;

/// A pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Whole")]
pub struct Pod {
    metadata: ObjectMeta,
    /// Beside the pod network.
    pub interfaces: Interfaces,
    /// What it does with Secrets; pods of one template share it.
    pub facts: Arc<PodFacts>,
    /// It has ended, and has no network any more.
    pub ended: bool,
}

impl Pod {
    /// The workload it belongs to, by the rule of the label.
    pub fn workload(&self) -> &str {
        let labels = self.metadata.labels.as_ref();
        let label = labels.and_then(|labels| labels.get(names::WORKLOAD_LABEL));
        label.map_or(names::DEFAULT_WORKLOAD, String::as_str)
    }

    /// What tells that the rules for pods would judge it otherwise than before. The generation follows the spec.
    pub fn judged(&self) -> (Option<&str>, Option<i64>, &str, bool) {
        let metadata = &self.metadata;
        (
            metadata.uid.as_deref(),
            metadata.generation,
            self.workload(),
            self.ended,
        )
    }

    /// What the condition `InterfacesCovered` of its workload depends on.
    pub fn network(&self) -> (&str, bool, &Interfaces) {
        (self.workload(), self.ended, &self.interfaces)
    }
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(dt: &()) -> Cow<'_, str> {
        CorePod::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        CorePod::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        CorePod::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        CorePod::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is read of it, as the API spells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    resource_claims: Vec<Claim>,
    #[serde(default)]
    containers: Vec<Container>,
    #[serde(default)]
    init_containers: Vec<Container>,
    #[serde(default)]
    ephemeral_containers: Vec<Container>,
    service_account_name: Option<String>,
    automount_service_account_token: Option<bool>,
    volumes: Option<Vec<pod::Volume>>,
}

#[derive(Deserialize)]
struct Claim {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    resources: Resources,
    #[serde(default)]
    name: String,
    env: Option<Vec<pod::Variable>>,
    env_from: Option<Vec<pod::EnvFrom>>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
}

impl Container {
    /// What it asks for, and what of it has to do with Secrets.
    fn split(self) -> (Resources, pod::Container) {
        let of_secrets = pod::Container {
            name: self.name,
            env: self.env,
            env_from: self.env_from,
            command: self.command,
            args: self.args,
        };
        (self.resources, of_secrets)
    }
}

fn split(containers: Vec<Container>) -> (Vec<Resources>, Vec<pod::Container>) {
    containers.into_iter().map(Container::split).unzip()
}

#[derive(Default, Deserialize)]
struct Resources {
    #[serde(default)]
    limits: BTreeMap<String, Value>,
    #[serde(default)]
    requests: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl From<Whole> for Pod {
    fn from(whole: Whole) -> Self {
        let Whole { metadata, spec, status } = whole;
        let (running, containers) = split(spec.containers);
        let (first, init_containers) = split(spec.init_containers);
        let (_, ephemeral_containers) = split(spec.ephemeral_containers);
        let facts = PodFacts::from(pod::Spec {
            service_account_name: spec.service_account_name,
            automount_service_account_token: spec.automount_service_account_token,
            containers: Some(containers),
            init_containers: Some(init_containers),
            ephemeral_containers: Some(ephemeral_containers),
            volumes: spec.volumes,
        });
        let facts = facts.of_running(metadata.name.as_deref().unwrap_or_default());
        let asked = running.into_iter().chain(first);
        let asked = asked.flat_map(|Resources { limits, requests }| limits.into_keys().chain(requests.into_keys()));
        // Those with a domain are extended; cpu, memory and the like have none.
        let resources: BTreeSet<String> = asked.filter(|name| name.contains('/')).collect();
        let interfaces = Interfaces {
            host_network: spec.host_network,
            resources,
            attachments: BTreeSet::new(),
            claims: spec.resource_claims.into_iter().map(|claim| claim.name).collect(),
        };
        let home = metadata.namespace.as_deref().unwrap_or_default();
        let interfaces = match &metadata.annotations {
            Some(annotations) => interfaces.annotated(home, annotations),
            None => interfaces,
        };
        Self {
            interfaces,
            facts: Arc::new(facts),
            ended: matches!(status.phase.as_str(), "Succeeded" | "Failed"),
            metadata,
        }
    }
}

/// Drops what no decision looks at.
pub fn prune(pod: &mut Pod) {
    caches::only_labels(pod, |key| key == names::WORKLOAD_LABEL);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_pod_its_workload_and_its_interfaces_are_kept() {
        let mut pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "resourceVersion": "7", "labels": {names::WORKLOAD_LABEL: "road", "app": "x"},
                         "annotations": {"k8s.v1.cni.cncf.io/networks": "fast", "other": "y"}},
            "spec": {"hostNetwork": true, "resourceClaims": [{"name": "nic", "resourceClaimName": "c"}],
                     "containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1", "rdma/hca": 1}}}],
                     "initContainers": [{"name": "b", "resources": {"requests": {"example.com/nic": "1", "memory": "1Gi"}}}]},
            "status": {"phase": "Running"},
        }))
        .unwrap();
        prune(&mut pod);
        assert_eq!((pod.workload(), pod.ended), ("road", false));
        let Interfaces {
            host_network,
            resources,
            attachments,
            claims,
        } = pod.interfaces.clone();
        assert!(host_network);
        assert_eq!(resources, ["example.com/nic", "rdma/hca"].map(str::to_owned).into());
        assert_eq!(attachments, ["ns/fast".to_owned()].into());
        assert_eq!(claims, ["nic".to_owned()].into());
        assert_eq!(pod.metadata.labels.as_ref().map(BTreeMap::len), Some(1));
        assert!(pod.metadata.annotations.is_none());
    }

    #[test]
    fn a_claim_that_is_made_with_a_pod_is_known_by_its_name() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "train-0", "namespace": "ns"},
            "spec": {"containers": [], "volumes": [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]},
        }))
        .unwrap();
        let claim = pod::VolumeUse::Claim("train-0-scratch".to_owned());
        assert_eq!(pod.facts.volumes, [("volumes[0]".to_owned(), claim)]);
    }

    #[test]
    fn a_pod_that_says_nothing_is_plain_and_of_the_default_workload() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        assert!(pod.interfaces.are_plain() && !pod.ended);
        assert_eq!(pod.workload(), "default");
        let ended: Pod = serde_json::from_value(json!({"metadata": {}, "status": {"phase": "Failed"}})).unwrap();
        assert!(ended.ended);
    }
}
