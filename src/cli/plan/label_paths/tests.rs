//! One manifest of each kind, without the label and with it.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::cli::manifests::Manifests;

const POD: &str = "{metadata: {annotations: {a: b}}, spec: {containers: [{name: c}]}}";

/// Kind, the manifest below its metadata, and the paths of the labels of each group of pods. `POD` stands for a template.
/// Paths that end in `*` are of pods of which only the label is written.
const TABLE: &[(&str, &str, &[&str])] = &[
    ("v1 Pod", "spec: {containers: [{name: c}]}", &["metadata.labels"]),
    (
        "v1 ReplicationController",
        "spec: {template: POD}",
        &["spec.template.metadata.labels"],
    ),
    (
        "apps/v1 Deployment",
        "spec: {template: POD}",
        &["spec.template.metadata.labels"],
    ),
    (
        "apps/v1 ReplicaSet",
        "spec: {template: POD}",
        &["spec.template.metadata.labels"],
    ),
    (
        "apps/v1 StatefulSet",
        "spec: {template: POD, volumeClaimTemplates: [{metadata: {name: d}}]}",
        &["spec.template.metadata.labels"],
    ),
    (
        "apps/v1 DaemonSet",
        "spec: {template: POD}",
        &["spec.template.metadata.labels"],
    ),
    (
        "batch/v1 Job",
        "spec: {template: POD}",
        &["spec.template.metadata.labels"],
    ),
    (
        "batch/v1 CronJob",
        "spec: {jobTemplate: {spec: {template: POD}}}",
        &["spec.jobTemplate.spec.template.metadata.labels"],
    ),
    (
        "jobset.x-k8s.io/v1alpha2 JobSet",
        "spec: {replicatedJobs: [{template: {spec: {template: POD}}}, {template: {spec: {template: POD}}}]}",
        &[
            "spec.replicatedJobs[0].template.spec.template.metadata.labels",
            "spec.replicatedJobs[1].template.spec.template.metadata.labels",
        ],
    ),
    (
        "leaderworkerset.x-k8s.io/v1 LeaderWorkerSet",
        "spec: {leaderWorkerTemplate: {leaderTemplate: POD, workerTemplate: POD}}",
        &[
            "spec.leaderWorkerTemplate.leaderTemplate.metadata.labels",
            "spec.leaderWorkerTemplate.workerTemplate.metadata.labels",
        ],
    ),
    (
        "ray.io/v1 RayCluster",
        "spec: {headGroupSpec: {template: POD}, workerGroupSpecs: [{template: POD}]}",
        &[
            "spec.headGroupSpec.template.metadata.labels",
            "spec.workerGroupSpecs[0].template.metadata.labels",
        ],
    ),
    (
        "ray.io/v1 RayJob",
        "spec: {rayClusterSpec: {headGroupSpec: {template: POD}}}",
        &[
            "spec.rayClusterSpec.headGroupSpec.template.metadata.labels",
            "spec.submitterPodTemplate.metadata.labels*",
        ],
    ),
    (
        "ray.io/v1 RayJob",
        "spec: {rayClusterSpec: {headGroupSpec: {template: POD}}, submitterPodTemplate: POD}",
        &[
            "spec.rayClusterSpec.headGroupSpec.template.metadata.labels",
            "spec.submitterPodTemplate.metadata.labels",
        ],
    ),
    (
        "ray.io/v1 RayJob",
        "spec: {submissionMode: SidecarMode, rayClusterSpec: {headGroupSpec: {template: POD}}}",
        &["spec.rayClusterSpec.headGroupSpec.template.metadata.labels"],
    ),
    (
        "kubeflow.org/v1 PyTorchJob",
        "spec: {pytorchReplicaSpecs: {Master: {template: POD}, Worker: {template: POD}}}",
        &[
            "spec.pytorchReplicaSpecs.Master.template.metadata.labels",
            "spec.pytorchReplicaSpecs.Worker.template.metadata.labels",
        ],
    ),
    (
        "trainer.kubeflow.org/v1alpha1 TrainJob",
        "spec: {runtimeRef: {name: torch}}",
        &[
            "spec.runtimePatches[].trainingRuntimeSpec.template.spec.replicatedJobs[].template.spec.template.metadata.labels*",
        ],
    ),
    (
        "trainer.kubeflow.org/v1alpha1 TrainJob",
        "spec: {runtimePatches: [{trainingRuntimeSpec: {template: {spec: {replicatedJobs: [{name: node, template: {spec: \
         {template: POD}}}]}}}}]}",
        &[
            "spec.runtimePatches[0].trainingRuntimeSpec.template.spec.replicatedJobs[0].template.spec.template.metadata.labels*",
        ],
    ),
    (
        "kubeflow.org/v1 Notebook",
        "spec: {template: POD}",
        &["metadata.labels"],
    ),
    (
        "serving.kserve.io/v1beta1 InferenceService",
        "spec: {predictor: {model: {}}}",
        &["metadata.labels*"],
    ),
    (
        "serving.kserve.io/v1alpha1 LLMInferenceService",
        "spec: {prefill: {}, router: {scheduler: {}}}",
        &["spec.labels*", "spec.prefill.labels*", "spec.router.scheduler.labels*"],
    ),
    (
        "serving.kserve.io/v1alpha1 LLMInferenceService",
        "spec: {replicas: 1}",
        &["spec.labels*"],
    ),
    ("batch/v1 Job", "spec: {template: {spec: {}}}", &[]),
];

fn document(kind: &str, body: &str) -> Document {
    let Some((version, kind)) = kind.split_once(' ') else {
        panic!("{kind}")
    };
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: n}}\n{}\n",
        body.replace("POD", POD)
    );
    let mut manifests = Manifests::default();
    manifests.add("a.yaml", &text);
    let Some(document) = manifests.documents.pop() else {
        panic!("{:?}", manifests.problems)
    };
    document
}

/// The document with the label at a path; lists without a number get an item.
fn labelled(document: &Document, path: &str) -> Document {
    let mut root = document.root.json();
    let mut at = &mut root;
    for step in path.split(['.', '[']) {
        at = match step.strip_suffix(']') {
            None => &mut at[step],
            Some(index) => {
                if at.is_null() {
                    *at = json!([{}]);
                }
                &mut at[index.parse::<usize>().unwrap_or_default()]
            }
        };
    }
    at[names::WORKLOAD_LABEL] = json!("road");
    let mut manifests = Manifests::default();
    manifests.add("a.json", &root.to_string());
    let Some(document) = manifests.documents.pop() else {
        panic!("{:?}", manifests.problems)
    };
    document
}

fn labels(places: &[Place<'_>]) -> Vec<Value> {
    let of_pod = |place: &Place<'_>| place.pod("n", "x")["metadata"]["labels"][names::WORKLOAD_LABEL].clone();
    places.iter().map(of_pod).collect()
}

#[test]
fn every_kind_has_its_paths() {
    for (kind, body, paths) in TABLE {
        let document = document(kind, body);
        let found = places(&document);
        let said: Vec<String> = found
            .iter()
            .map(|place| format!("{}{}", place.labels, if place.is_label_alone() { "*" } else { "" }))
            .collect();
        assert_eq!(said, *paths, "{kind} {body}");
        assert!(labels(&found).iter().all(Value::is_null), "{kind}");
    }
}

#[test]
fn the_label_at_a_path_is_the_label_of_its_pods() {
    for (kind, body, paths) in TABLE {
        let bare = document(kind, body);
        for (index, path) in paths.iter().enumerate() {
            let with = labelled(&bare, path.trim_end_matches('*'));
            let found = places(&with);
            let submitter = path.starts_with(SUBMITTER) && path.ends_with('*');
            let said = labels(&found);
            for (other, said) in said.iter().enumerate() {
                // A template of the submitter without containers is none, and KubeRay would say so.
                let wanted = if other == index && !submitter {
                    json!("road")
                } else {
                    Value::Null
                };
                assert_eq!(said, &wanted, "{kind} {path}");
            }
            assert!(submitter || said.len() == paths.len(), "{kind} {path}");
        }
    }
}

#[test]
fn a_pod_is_what_its_template_says() {
    let document = document("batch/v1 CronJob", "spec: {jobTemplate: {spec: {template: POD}}}");
    let found = places(&document);
    let [place] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(place.path(), "spec.jobTemplate.spec.template");
    let wanted = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "namespace": "n", "labels": null, "annotations": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}]},
    });
    assert_eq!(place.pod("n", "x"), wanted);
}
