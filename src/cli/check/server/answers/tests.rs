//! Manifests, and what an API server could answer about them.

use serde_json::json;

use super::*;
use crate::cli::dry_run::refusal;
use crate::cli::plan::{self, Sources};

const BASE: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: train, labels: {cloison.dev/stage: training, cloison.dev/mode: enforce}}
---
apiVersion: cloison.dev/v1alpha1
kind: AiWorkload
metadata: {name: default, namespace: train}
spec: {stage: Training, owner: team@ville.example, purpose: Detect road defects}
---
";

const JOB: &str = "\
apiVersion: batch/v1
kind: Job
metadata: {name: road, namespace: train}
spec:
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: own
      automountServiceAccountToken: false
      volumes: [{name: data, emptyDir: {medium: Memory}}]
      containers: [{name: main, image: r.example/a@sha256:0000000000000000000000000000000000000000000000000000000000000000}]
";

/// What is said of manifests for an answer to each of their pods, made of the pod that was sent.
fn said(manifests: &str, answer: impl Fn(&Value) -> Answer) -> (Told, Vec<Finding>) {
    said_in(BASE, manifests, answer)
}

fn said_in(base: &str, manifests: &str, answer: impl Fn(&Value) -> Answer) -> (Told, Vec<Finding>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yaml");
    std::fs::write(&file, format!("{base}{manifests}")).unwrap();
    let sources = Sources {
        files: &[file],
        home: None,
        policy: None,
        beside: &[],
    };
    let input = sources.read().unwrap();
    let plan = plan::judge(&input, "cloison-system", false).unwrap();
    let returned = Returned::new(&input, &plan.world, plan.admission.as_ref().unwrap()).unwrap();
    let trials = plan::trials(&input.makers);
    let answers: Vec<_> = trials.iter().map(|trial| trial.pod.as_ref().map(&answer)).collect();
    let refused = plan.findings.iter().filter(|it| !plan.reported.contains(*it));
    let known: Vec<Finding> = refused.cloned().collect();
    (told(trials.iter().zip(&answers), &returned, &known), plan.findings)
}

/// The pod with another container in front, as an injector puts it there.
fn with_sidecar(pod: &Value, container: Value) -> Answer {
    let mut pod = pod.clone();
    pod["spec"]["containers"].as_array_mut().unwrap().insert(0, container);
    Answer::Admitted(pod)
}

fn messages(told: &Told) -> Vec<String> {
    let of = |finding: &Finding| format!("{} {}", finding.rule, finding.message);
    told.findings.iter().map(of).collect()
}

#[test]
fn a_pod_that_comes_back_as_it_was_says_nothing_new() {
    let (told, known) = said(JOB, |pod| Answer::Admitted(pod.clone()));
    assert!(messages(&told).is_empty() && told.problems.is_empty(), "{told:?}");
    assert!(known.iter().all(|found| found.subject.kind != "Job"), "{known:?}");
    assert!(told.notes[0].starts_with("1 pod came back"), "{told:?}");
}

#[test]
fn what_was_added_is_told_once_and_at_the_template() {
    let own = JOB.replace(
        "a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "a:1",
    );
    let sidecar = json!({"name": "proxy", "image": "mesh:1", "securityContext": {"privileged": true},
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "mesh", "key": "k"}}}]});
    let (told, known) = said(&own, |pod| with_sidecar(pod, sidecar.clone()));
    assert!(
        known.iter().any(|found| found.rule.to_string() == "SUP-01/digest"),
        "{known:?}"
    );
    let mut said = messages(&told);
    said.sort();
    assert_eq!(
        said,
        [
            format!("ENC-04/reference container \"proxy\" takes variable \"KEY\" from Secret \"mesh\"{ADDED}"),
            format!("SUP-01/digest no digest: container \"proxy\" uses \"mesh:1\"{ADDED}"),
            format!("WKL-01/privileged privileged: container \"proxy\"{ADDED}"),
        ]
    );
    for finding in &told.findings {
        let at = finding.at.as_ref().unwrap();
        assert_eq!(
            (at.line, at.field.as_deref()),
            (Some(15), Some("spec.template")),
            "{finding:?}"
        );
        assert_eq!(finding.subject.to_string(), "Job train/road");
    }
}

#[test]
fn the_token_that_the_api_server_is_known_to_add_is_told_of_the_file_alone() {
    let with = |word: &str| {
        let own = JOB.replace("automountServiceAccountToken: false", word);
        let volume = json!({"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}}]}});
        let (told, _) = said(&own, |pod| {
            let mut pod = pod.clone();
            pod["spec"]["volumes"].as_array_mut().unwrap().push(volume.clone());
            Answer::Admitted(pod)
        });
        messages(&told)
    };
    assert!(with("automountServiceAccountToken: true").is_empty());
    // Here the file leaves it open.
    let said = with("hostname: a");
    assert!(said.len() == 1 && said[0].starts_with("IAM-01/token "), "{said:?}");
}

#[test]
fn a_refusal_of_ours_is_a_finding_where_the_file_has_none() {
    let refuse = |message: &str| Answer::Refused(refusal::parse(&format!("[cloison 1a2b3c4d] {message}")).unwrap());
    let (told, _) = said(JOB, |_| {
        refuse("WKL-01/privileged privileged: container \"proxy\"; do not")
    });
    assert_eq!(
        messages(&told),
        [format!("WKL-01/privileged privileged: container \"proxy\"{ADDED}")]
    );
    let (told, _) = said(JOB, |_| {
        refuse("SUP-01/registry not from a listed registry: container \"main\" uses \"a\"")
    });
    assert!(messages(&told)[0].ends_with(REFUSED), "{told:?}");

    let own = JOB.replace("restartPolicy: Never", "hostIPC: true");
    let (told, _) = said(&own, |_| {
        refuse("WKL-01/host-ipc the pod sets hostIPC; remove it; +2 more: kubectl cloison why")
    });
    assert!(
        told.findings.is_empty() && told.notes[0].contains("had no room for more"),
        "{told:?}"
    );

    // What is only so until the manifests are applied is no finding.
    let (told, _) = said(JOB, |_| refuse("WKL-02/unknown no AiWorkload \"default\" in train"));
    assert!(
        told.findings.is_empty() && told.notes[0].contains("once the manifests are applied"),
        "{told:?}"
    );
}

#[test]
fn a_refusal_of_others_is_a_problem_and_what_is_not_there_yet_is_none() {
    let other = |cause| {
        let message = "words".to_owned();
        move |_: &Value| {
            Answer::RefusedByOther(Other {
                cause,
                message: message.clone(),
            })
        }
    };
    let (told, _) = said(JOB, other(Cause::Rule));
    let line = told.problems[0].to_string();
    assert!(
        line.ends_with("all.yaml:15:5 spec.template: the API server would refuse its pods, and not by Cloison: words"),
        "{line}"
    );
    for cause in [Cause::NoNamespace, Cause::NoAccount] {
        let (told, _) = said(JOB, other(cause));
        assert!(
            told.problems.is_empty() && told.notes[0].contains("Job train/road is not known"),
            "{told:?}"
        );
    }
    let jobset = JOB
        .replace("batch/v1", "jobset.x-k8s.io/v1alpha2")
        .replace("kind: Job", "kind: JobSet");
    assert_eq!(said(JOB, other(Cause::Invalid)).0.problems.len(), 1);
    assert!(said(&jobset, other(Cause::Invalid)).0.problems.is_empty());
}

#[test]
fn one_note_for_a_cause_names_five_objects() {
    let many: Vec<String> = (0..7)
        .map(|index| JOB.replace("road", &format!("road-{index}")))
        .collect();
    let (told, _) = said(&many.join("---\n"), |_| Answer::Unknown(Silence::MayNotCreate));
    assert_eq!(
        told.notes,
        [
            "what the API server makes of pods of Job train/road-0, Job train/road-1, Job train/road-2, Job train/road-3, \
          Job train/road-4, 2 more is not known: you may not create pods in namespace \"train\"; run it as somebody who may"
        ]
    );
}

/// In the file the namespace only reports; in the cluster it is enforced.
#[test]
fn what_the_file_only_reports_and_the_api_server_refuses_is_told() {
    let audit = BASE.replace(", cloison.dev/mode: enforce", "");
    let job = JOB.replace("restartPolicy: Never", "restartPolicy: Never\n      hostIPC: true");
    let words = "denied request: [cloison 1a2b3c4d] WKL-01/host-ipc the pod sets hostIPC; remove hostIPC (ANSSI R28)";
    let refuses = |_: &Value| Answer::Refused(refusal::parse(words).unwrap());
    let (told, known) = said_in(&audit, &job, refuses);
    assert!(
        known.iter().any(|it| it.rule.to_string() == "WKL-01/host-ipc"),
        "{known:?}"
    );
    let [one] = &messages(&told)[..] else {
        panic!("{told:?}")
    };
    assert!(
        one.starts_with("WKL-01/host-ipc") && one.contains("refused by the API server now"),
        "{one}"
    );
    assert!(told.reported.is_empty(), "{told:?}");
    // The control: where the file says that it is refused, it is told there.
    let (told, _) = said(&job, refuses);
    assert!(messages(&told).is_empty(), "{told:?}");
}

#[test]
fn a_refusal_without_a_reason_is_no_silence() {
    let words = "denied request: [cloison 1a2b3c4d] cloison-pod refused this request";
    let (told, _) = said(JOB, |_| Answer::Refused(refusal::parse(words).unwrap()));
    let [problem] = &told.problems[..] else {
        panic!("{told:?}")
    };
    assert!(problem.message.contains("does not say why"), "{problem:?}");
}
