//! What can be told from running pods: how many would be refused and why, and what a namespace without a stage looks
//! like. Pure: pods as `kubectl get -o json` prints them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::admission::{Offline, OfflineError};
use crate::api::names;
use crate::api::stage::NamespaceStage;
use crate::compliance::RuleId;

/// What the door would say to the pods of a namespace.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Pods with at least one problem.
    pub pods: usize,
    /// By rule: an example of the message, and the pods.
    pub rules: BTreeMap<RuleId, (String, BTreeSet<String>)>,
    /// The same of rules in mode Audit, which refuse nothing.
    pub observed: BTreeMap<RuleId, (String, BTreeSet<String>)>,
}

/// Judges pods as if each were created now.
pub(super) fn judge(offline: &Offline, pods: &[Value], namespace: &Value) -> Result<Refused, OfflineError> {
    let mut refused = Refused::default();
    for pod in pods {
        let verdict = offline.judge_running(pod, namespace)?;
        refused.pods += usize::from(verdict.refused);
        let problems = verdict.problems.into_iter().filter(|_| verdict.refused);
        for (findings, by_rule) in [
            (problems.collect::<Vec<_>>(), &mut refused.rules),
            (verdict.observed, &mut refused.observed),
        ] {
            for found in findings {
                let entry = by_rule
                    .entry(found.rule)
                    .or_insert_with(|| (found.message, BTreeSet::new()));
                entry.1.insert(name(pod).to_owned());
            }
        }
    }
    Ok(refused)
}

/// The name of a pod.
fn name(pod: &Value) -> &str {
    pod.pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a pod names no workload, so that it joins `default`.
pub(super) fn joins_default(pod: &Value) -> bool {
    pod.pointer("/metadata/labels")
        .and_then(|labels| labels.get(names::WORKLOAD_LABEL))
        .is_none()
}

/// Ports on which models are served: vLLM and Ray Serve, Triton, KServe and Knative.
const SERVING: [i64; 6] = [8000, 8001, 8012, 8013, 8112, 9081];

/// A guess, and it must be called one: accelerators without serving ports are training, serving ports are inference.
pub(super) fn looks_like(pods: &[Value]) -> Option<NamespaceStage> {
    let (mut training, mut inference) = (0_usize, 0_usize);
    for pod in pods {
        let serves = containers(pod).any(|container| {
            let ports = container.get("ports").and_then(Value::as_array);
            let mut numbers = ports
                .into_iter()
                .flatten()
                .filter_map(|port| port.get("containerPort")?.as_i64());
            numbers.any(|number| SERVING.contains(&number))
        });
        let accelerated = containers(pod).any(wants_accelerator);
        let forever = pod
            .pointer("/spec/restartPolicy")
            .and_then(Value::as_str)
            .unwrap_or("Always")
            == "Always";
        if serves && forever {
            inference += 1;
        } else if accelerated {
            training += 1;
        }
    }
    match (training, inference) {
        (0, 0) => None,
        (training, inference) if training > inference => Some(NamespaceStage::Training),
        _ => Some(NamespaceStage::Inference),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.pointer("/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Extended resources of accelerators: `nvidia.com/gpu`, `nvidia.com/mig-1g.5gb`, `google.com/tpu`, `habana.ai/gaudi`.
fn wants_accelerator(container: &Value) -> bool {
    let lists = ["/resources/limits", "/resources/requests"];
    let keys = lists
        .iter()
        .filter_map(|list| container.pointer(list)?.as_object())
        .flat_map(|map| map.keys());
    let mut words = keys.filter_map(|key| key.split_once('/').map(|(_, word)| word));
    words.any(|word| {
        ["gpu", "mig", "tpu", "gaudi", "neuron", "npu"]
            .iter()
            .any(|known| word.starts_with(known))
    })
}

/// Labels that the products put on their own pods.
const RUNTIMES: [(&str, &str); 6] = [
    ("ray.io/cluster", "Ray"),
    ("serving.kserve.io/inferenceservice", "KServe"),
    ("notebook-name", "Notebook"),
    ("jobset.sigs.k8s.io/jobset-name", "Trainer"),
    ("training.kubeflow.org/job-name", "PyTorch"),
    ("mpi-job-name", "MPI"),
];

/// The runtime, by the labels that a product puts on its pods; another guess.
pub(super) fn runtime(pods: &[Value]) -> Option<&'static str> {
    let labelled = |key: &str| {
        let mut labels = pods.iter().filter_map(|pod| pod.pointer("/metadata/labels"));
        labels.any(|labels| labels.get(key).is_some())
    };
    RUNTIMES
        .iter()
        .find(|(label, _)| labelled(label))
        .map(|(_, name)| *name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::admission::{Operator, Waived, as_enforced, generate};
    use crate::api::stage::Mode;

    /// What a plan shows is what would be refused once the namespace is enforced, and nothing about the seal and the list
    /// of workloads that are not there yet.
    #[test]
    fn pods_are_judged_as_if_their_namespace_were_enforced() {
        let policy = serde_json::from_value(json!({})).unwrap();
        let set = generate(
            &policy,
            &Operator::in_namespace("cloison-system"),
            &Waived::default(),
            Timestamp::UNIX_EPOCH,
        );
        let offline = Offline::new(&set).unwrap();
        let pod = |workload: Option<&str>| {
            json!({
                "metadata": {"name": "p", "labels": {names::WORKLOAD_LABEL: workload}},
                "spec": {"nodeName": "n-1", "hostIPC": true, "containers": [{"name": "c", "image": "x"}]},
            })
        };
        let listed = BTreeSet::from(["road".to_owned()]);
        let enforced = as_enforced("n", "u", NamespaceStage::Training, &listed);
        let rules = |workload: Option<&str>| {
            let refused = judge(&offline, &[pod(workload)], &enforced).unwrap();
            assert_eq!(refused.pods, 1);
            refused.rules.keys().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            rules(None),
            ["WKL-01/host-ipc", "WKL-02/unknown"],
            "nobody declared `default`"
        );
        assert_eq!(rules(Some("road")), ["WKL-01/host-ipc"]);
        assert_eq!(rules(Some("other")), ["WKL-01/host-ipc", "WKL-02/unknown"]);
        // The control: in mode Audit, where the namespace is today, the same pod is let through.
        let mut audit = enforced.clone();
        audit["metadata"]["labels"][names::MODE_LABEL] = json!(Mode::Audit.label());
        assert_eq!(judge(&offline, &[pod(None)], &audit).unwrap().pods, 0);
    }

    fn pod(container: &Value, restart: &str) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": restart, "containers": [container]}})
    }

    #[test]
    fn a_guess_needs_an_accelerator_or_a_serving_port() {
        let gpu = json!({"resources": {"limits": {"nvidia.com/gpu": "8"}}});
        let serving = json!({"ports": [{"containerPort": 8000}], "resources": {"limits": {"nvidia.com/gpu": 1}}});
        let web = json!({"ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": 1}}});
        assert_eq!(looks_like(&[pod(&gpu, "Never")]), Some(NamespaceStage::Training));
        assert_eq!(looks_like(&[pod(&serving, "Always")]), Some(NamespaceStage::Inference));
        assert_eq!(looks_like(&[pod(&serving, "Never")]), Some(NamespaceStage::Training));
        assert_eq!(looks_like(&[pod(&web, "Always")]), None);
    }
}
