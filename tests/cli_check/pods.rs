//! `cloison check -f` on what makes pods: the door's verdict on them, before any is made.

use std::collections::BTreeSet;

use crate::check::{NAMESPACES, POLICY, WORKLOAD, base, check, folder, json_of, lines};
use crate::common::{digest, with};
use crate::{command, dice, random_pods};
use cloison::admission::{Offline, Operator, Request, Waived, generate};
use cloison::api::AiSecurityPolicy;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// A template that breaks no rule, with a change of its spec.
fn template(workload: Option<&str>, spec: Value) -> Value {
    let fine = json!({
        "serviceAccountName": "own", "automountServiceAccountToken": false,
        "containers": [{"name": "main", "image": format!("registry.example.com/train/app@{}", digest())}],
    });
    let labels = workload.map_or(json!({}), |workload| json!({"cloison.dev/workload": workload}));
    json!({"metadata": {"labels": labels}, "spec": with(fine, spec)})
}

/// An object of `train`, in YAML of one line below its kind, so that its spec is in line 4.
fn object(kind: &str, spec: Value) -> String {
    let (version, kind) = kind.split_once(' ').unwrap();
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: train}}\nspec: {spec}\n")
}

fn deployment(template: Value) -> String {
    object("apps/v1 Deployment", json!({"template": template}))
}

fn in_mode(mode: &str) -> String {
    base().replacen("cloison.dev/mode: enforce", &format!("cloison.dev/mode: {mode}"), 1)
}

const HOST_PID: &str =
    "x.yaml:4:7 spec.template: Critical WKL-01/host-pid the pod sets hostPID; remove hostPID (ANSSI R28)";
const NOT_REFUSED: &str = "note: 1 finding on pods that nothing is refused for";

#[test]
fn a_deployment_that_the_door_would_refuse_pods_of_is_told_with_its_line() {
    let bad = deployment(template(Some("road"), json!({"hostPID": true})));
    let folder = folder(&[("base.yaml", &base()), ("x.yaml", &bad)]);
    let files = ["-f", "base.yaml", "-f", "x.yaml"];
    let said = check(folder.path(), &files);
    let at = HOST_PID.replace(":4:7 ", &format!(":4:{} ", column(&bad, "{\"metadata\"")));
    assert_eq!((said.code, lines(&said)), (1, vec![at.as_str()]), "{said:?}");
    assert!(!said.out.contains(NOT_REFUSED), "{}", said.out);
    let (_, findings) = json_of(folder.path(), &files);
    let subject = json!({"kind": "Deployment", "namespace": "train", "name": "x"});
    assert_eq!(findings[0]["subject"], subject, "{findings:?}");
    let plan = command::cloison(folder.path(), &[&["plan"][..], &files].concat(), "");
    assert!(plan.code == 1 && plan.out.contains(&at), "{plan:?}");
    // The controls: one that breaks no rule, and one that is only known and not judged.
    let fine = deployment(template(Some("road"), json!({})));
    std::fs::write(folder.path().join("y.yaml"), fine).unwrap();
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "y.yaml"]);
    assert_eq!((said.code, lines(&said).len()), (0, 0), "{said:?}");
    assert!(!said.out.contains("other kinds"), "it was judged: {}", said.out);
    let said = check(folder.path(), &["-f", "base.yaml", "--with", "x.yaml"]);
    assert_eq!((said.code, lines(&said).len()), (0, 0), "{said:?}");
}

fn column(text: &str, of: &str) -> usize {
    text.lines().find_map(|line| line.find(of)).unwrap() + 1
}

#[test]
fn what_is_not_refused_is_told_and_counts_for_nothing() {
    let bad = deployment(template(Some("road"), json!({"hostPID": true})));
    for mode in ["audit", "warn", "nonsense"] {
        let folder = folder(&[("base.yaml", &in_mode(mode)), ("x.yaml", &bad)]);
        let said = check(folder.path(), &["-f", "."]);
        assert!(said.out.contains("Critical WKL-01/host-pid"), "{mode}: {said:?}");
        assert_eq!(said.code, 0, "{mode}: {said:?}");
        assert!(said.out.contains(NOT_REFUSED), "{mode}: {said:?}");
        let plan = command::cloison(folder.path(), &["plan", "-f", ".", "--as-enforced"], "");
        assert_eq!(plan.code, 1, "{mode} as enforced: {plan:?}");
    }
    // A control in mode Audit where the namespace is enforced.
    let image = json!({"containers": [{"name": "main", "image": "registry.example.com/train/app:v1"}]});
    let tagged = deployment(template(Some("road"), image));
    let folder = folder(&[("base.yaml", &base()), ("x.yaml", &tagged)]);
    let said = check(folder.path(), &["-f", "."]);
    assert!(said.out.contains("High SUP-01/digest"), "{said:?}");
    assert!(said.code == 0 && said.out.contains(NOT_REFUSED), "{said:?}");
    // The same control in mode Enforce.
    let policy = POLICY.replace("controls: [", "controls: [{id: SUP-01, mode: Enforce}, ");
    std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let said = check(
        folder.path(),
        &["-f", "base.yaml", "-f", "x.yaml", "--policy", "policy.yaml"],
    );
    assert!(said.code == 1 && said.out.contains("High SUP-01/digest"), "{said:?}");
}

#[test]
fn every_kind_that_makes_pods_is_judged_and_every_template_of_it() {
    let good = || template(Some("road"), json!({}));
    let bad = || template(Some("road"), json!({"hostPID": true}));
    let job = |template: Value| json!({"template": {"spec": {"template": template}}});
    let cases = [
        ("v1 Pod", bad()["spec"].clone(), vec![""]),
        (
            "v1 ReplicationController",
            json!({"template": bad()}),
            vec!["spec.template"],
        ),
        ("apps/v1 ReplicaSet", json!({"template": bad()}), vec!["spec.template"]),
        ("apps/v1 StatefulSet", json!({"template": bad()}), vec!["spec.template"]),
        ("apps/v1 DaemonSet", json!({"template": bad()}), vec!["spec.template"]),
        ("batch/v1 Job", json!({"template": bad()}), vec!["spec.template"]),
        (
            "batch/v1 CronJob",
            json!({"jobTemplate": {"spec": {"template": bad()}}}),
            vec!["spec.jobTemplate.spec.template"],
        ),
        (
            "jobset.x-k8s.io/v1alpha2 JobSet",
            json!({"replicatedJobs": [job(good()), job(bad())]}),
            vec!["spec.replicatedJobs[1].template.spec.template"],
        ),
        (
            "ray.io/v1 RayCluster",
            json!({"headGroupSpec": {"template": bad()}, "workerGroupSpecs": [{"template": good()}, {"template": bad()}]}),
            vec!["spec.headGroupSpec.template", "spec.workerGroupSpecs[1].template"],
        ),
        (
            "kubeflow.org/v1 PyTorchJob",
            json!({"pytorchReplicaSpecs": {"Worker": {"template": bad()}}}),
            vec!["spec.pytorchReplicaSpecs.Worker.template"],
        ),
        (
            "leaderworkerset.x-k8s.io/v1 LeaderWorkerSet",
            json!({"leaderWorkerTemplate": {"leaderTemplate": good(), "workerTemplate": bad()}}),
            vec!["spec.leaderWorkerTemplate.workerTemplate"],
        ),
    ];
    for (kind, spec, wanted) in cases {
        let text = object(kind, spec).replace(
            "namespace: train}",
            "namespace: train, labels: {cloison.dev/workload: road}}",
        );
        let folder = folder(&[("base.yaml", &base()), ("x.yaml", &text)]);
        let (code, findings) = json_of(folder.path(), &["-f", "."]);
        let said: Vec<(&str, &str)> = findings
            .iter()
            .map(|found| {
                (
                    found["rule"].as_str().unwrap(),
                    found["at"]["field"].as_str().unwrap_or_default(),
                )
            })
            .collect();
        let wanted: Vec<(&str, &str)> = wanted.iter().map(|field| ("WKL-01/host-pid", *field)).collect();
        assert_eq!((code, said), (1, wanted), "{kind}");
        assert_eq!(findings[0]["subject"]["kind"], kind.split(' ').nth(1).unwrap());
    }
}

#[test]
fn every_container_is_named_once() {
    let privileged = |name: &str| json!({"name": name, "image": "a", "securityContext": {"privileged": true}});
    let spec = json!({"containers": [privileged("one"), privileged("two")], "initContainers": [privileged("three")]});
    let folder = folder(&[
        ("base.yaml", &base()),
        ("x.yaml", &deployment(template(Some("road"), spec))),
    ]);
    let (code, findings) = json_of(folder.path(), &["-f", "."]);
    let of_rule = findings.iter().filter(|found| found["rule"] == "WKL-01/privileged");
    let said: Vec<&str> = of_rule.map(|found| found["message"].as_str().unwrap()).collect();
    let wanted = "privileged: container \"one\", container \"two\", container \"three\"";
    assert_eq!((code, said), (1, vec![wanted]));
}

#[test]
fn where_no_stage_is_known_nothing_is_judged_and_that_is_said() {
    let bad = deployment(template(None, json!({"hostPID": true})));
    let elsewhere = bad.replace("namespace: train", "namespace: store");
    let unread = bad.replace("namespace: train", "namespace: other");
    let mistyped = NAMESPACES.replacen("stage: training", "stage: trainign", 1);
    let folder = folder(&[("base.yaml", &base()), ("x.yaml", &elsewhere), ("y.yaml", &unread)]);
    // A namespace that is there and has no stage: no rule is about its pods.
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "x.yaml"]);
    assert_eq!((said.code, lines(&said).len()), (0, 0), "{said:?}");
    assert!(!said.out.contains("pods of"), "{said:?}");
    // One that is not there.
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "y.yaml"]);
    let note =
        "note: pods of 1 document not judged, because the stage of namespace \"other\" is not known; add the Namespace";
    assert_eq!((said.code, lines(&said).len()), (0, 0), "{said:?}");
    assert!(said.out.contains(note), "{said:?}");
    // One whose stage is no stage.
    std::fs::write(folder.path().join("z.yaml"), [mistyped, bad].join("---\n")).unwrap();
    let said = check(folder.path(), &["-f", "z.yaml"]);
    assert!(
        said.out.contains("NET-02/unknown-stage") && !said.out.contains("WKL-01"),
        "{said:?}"
    );
    assert!(
        said.out.contains("the stage of namespace \"train\" is not known"),
        "{said:?}"
    );
}

#[test]
fn pods_join_the_workloads_of_the_input_and_the_seal_is_no_matter() {
    let said = |template: Value, more: &str| {
        let all = [base(), more.to_owned(), deployment(template)].join("---\n");
        let folder = folder(&[("all.yaml", &all)]);
        json_of(folder.path(), &["-f", "."])
    };
    let default = WORKLOAD.replace("name: road", "name: default");
    let shared = WORKLOAD
        .replace("name: road", "name: next")
        .replace("stage: Training", "stage: Inference");
    assert_eq!(said(template(Some("road"), json!({})), &default), (0, vec![]));
    assert_eq!(said(template(None, json!({})), &default), (0, vec![]));
    for (workload, name) in [(None, "default"), (Some("old"), "old")] {
        let (code, findings) = said(template(workload, json!({})), "");
        let [found] = findings.as_slice() else {
            panic!("{findings:?}")
        };
        assert_eq!((code, &found["rule"]), (1, &json!("WKL-02/unknown")));
        assert_eq!(found["message"], json!(format!("no AiWorkload \"{name}\" in train")));
        let fix = "set spec.template.metadata.labels[\"cloison.dev/workload\"] to road, or create the AiWorkload";
        assert_eq!(
            (&found["fix"], &found["at"]["field"]),
            (&json!(fix), &json!("spec.template.metadata.labels"))
        );
    }
    // A workload that the controller would refuse has a gate that is closed, as in the list that it writes.
    let (code, findings) = said(template(Some("next"), json!({})), &shared);
    let gated = findings.iter().find(|found| found["rule"] == "WKL-02/gated");
    let found = gated.unwrap_or_else(|| panic!("{findings:?}"));
    assert_eq!(
        (code, &found["message"]),
        (1, &json!("AiWorkload \"next\" waits for NET-02"))
    );
}

#[test]
fn of_kinds_whose_pods_are_written_by_a_controller_the_label_is_judged() {
    let text = "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: x, namespace: train, labels: \
                {cloison.dev/workload: road}}\nspec: {runtimeRef: {name: torch}, trainer: {image: a}}\n";
    let folder = folder(&[("base.yaml", &base()), ("x.yaml", text)]);
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "x.yaml"]);
    let path = "spec.runtimePatches[].trainingRuntimeSpec.template.spec.replicatedJobs[].template.spec.template.metadata.labels";
    let line = format!(
        "x.yaml:4:7 {path}: High WKL-02/unknown no AiWorkload \"default\" in train; set {path}[\"cloison.dev/workload\"] to road, \
         or create the AiWorkload (ANSSI R28)"
    );
    assert_eq!((said.code, lines(&said)), (1, vec![line.as_str()]), "{said:?}");
    let note = "note: 1 document of kind TrainJob: its controller writes some of the pods; their label is judged here, the rest \
                when they are made\n";
    assert!(said.out.contains(note), "{}", said.out);
    // KServe copies the label of an InferenceService.
    let service = text
        .replace("trainer.kubeflow.org/v1alpha1", "serving.kserve.io/v1beta1")
        .replace("TrainJob", "InferenceService");
    std::fs::write(folder.path().join("x.yaml"), &service).unwrap();
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "x.yaml"]);
    assert_eq!((said.code, lines(&said).len()), (0, 0), "{said:?}");
}

#[test]
fn a_template_that_is_too_large_to_be_judged_here_is_unknown() {
    let many: Vec<Value> = (0..12_000).map(|number| json!(format!("--flag={number}"))).collect();
    let spec = json!({"hostPID": true, "containers": [{"name": "c", "args": many}]});
    let folder = folder(&[
        ("base.yaml", &base()),
        ("x.yaml", &deployment(template(Some("road"), spec))),
    ]);
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "x.yaml"]);
    assert!(
        said.out.contains("Unknown WKL-01/unjudged a template has more than"),
        "{said:?}"
    );
    assert!(
        said.code == 0 && said.out.contains("no findings, 1 unknown"),
        "{said:?}"
    );
}

#[test]
fn what_only_an_api_server_can_judge_is_named() {
    let folder = folder(&[("base.yaml", &base())]);
    for verb in ["check", "plan"] {
        let said = command::cloison(folder.path(), &[verb, "-f", "."], "");
        let notes: Vec<&str> = said
            .out
            .lines()
            .filter(|line| line.contains("not judged here"))
            .collect();
        let [note] = notes.as_slice() else { panic!("{said:?}") };
        assert!(note.starts_with("note: not judged here: cloison-"), "{note}");
        assert!(
            note.contains("cloison-namespace") && !note.contains("cloison-pod"),
            "{note}"
        );
        assert!(
            note.ends_with("depends on the caller's rights, which only the API server knows"),
            "{note}"
        );
    }
}

/// Same bytes, same verdict: two hundred pods at random as Deployments, each with a file of its own.
#[test]
fn what_is_said_of_a_template_is_what_is_said_of_its_pod() {
    let policy = POLICY.to_owned()
        + "  pods:\n    images: [{prefix: registry.example.com/train}]\n    addCapabilities: [{capability: IPC_LOCK}]\n";
    let spec = serde_saphyr::from_str::<AiSecurityPolicy>(&policy).unwrap().spec;
    let set = generate(
        &spec,
        &Operator::in_namespace("cloison-system"),
        &Waived::default(),
        Timestamp::now(),
    );
    let offline = Offline::new(&set).unwrap();
    let (mut dice, images) = (dice::Dice(0xD00E), random_pods::images());
    let folder = folder(&[
        ("base.yaml", &[NAMESPACES, &policy, WORKLOAD].join("---\n")),
        (
            "other.yaml",
            &WORKLOAD
                .replace("name: road, namespace: train", "name: face-id, namespace: serve")
                .replace("Training", "Inference"),
        ),
    ]);
    let (mut wanted, mut refused) = (BTreeSet::new(), 0);
    for number in 0..200 {
        let (namespace, stage, open) = *dice.pick(&[("train", "training", "road"), ("serve", "inference", "face-id")]);
        let pod = if dice.once_in(3) {
            template(Some(open), json!({}))
        } else {
            random_pods::random_pod(&mut dice, &images, namespace)
        };
        let home = json!({"metadata": {
            "name": namespace, "uid": "u",
            "labels": {"cloison.dev/stage": stage, "cloison.dev/mode": "enforce", "kubernetes.io/metadata.name": namespace},
            "annotations": {"cloison.dev/sealed": format!("u/{stage}"), "cloison.dev/open": open},
        }});
        let verdict = offline.judge_pod(&pod, &home, &Request::default()).unwrap();
        refused += usize::from(verdict.refused);
        let file = format!("{number}.json");
        for found in verdict.problems.iter().chain(&verdict.observed) {
            wanted.insert((file.clone(), found.rule.to_string(), found.message.clone()));
        }
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("d{number}"), "namespace": namespace},
            "spec": {"template": {"metadata": pod["metadata"], "spec": pod["spec"]}},
        });
        std::fs::write(folder.path().join(&file), object.to_string()).unwrap();
    }
    assert!(
        (60..180).contains(&refused),
        "a one-sided corpus shows little: {refused}"
    );
    let (code, findings) = json_of(folder.path(), &["-f", "."]);
    // The checks of credentials say more of them, in their own words.
    let of_checks = |rule: &str| rule.starts_with("ENC-") || rule.starts_with("IAM-");
    let said: BTreeSet<(String, String, String)> = findings
        .iter()
        .filter(|found| found["subject"]["kind"] == "Deployment" && found["assurance"] != "Unknown")
        .map(|found| {
            let file = found["at"]["file"]
                .as_str()
                .unwrap()
                .trim_start_matches("./")
                .to_owned();
            let text = |key: &str| found[key].as_str().unwrap().to_owned();
            (file, text("rule"), text("message"))
        })
        .collect();
    let of_door = |all: &BTreeSet<(String, String, String)>| -> BTreeSet<_> {
        all.iter().filter(|(_, rule, _)| !of_checks(rule)).cloned().collect()
    };
    assert_eq!((code, of_door(&said)), (1, of_door(&wanted)));
    let rules = |all: &BTreeSet<(String, String, String)>| -> BTreeSet<(String, String)> {
        all.iter().map(|(file, rule, _)| (file.clone(), rule.clone())).collect()
    };
    let lacking: Vec<_> = rules(&wanted).difference(&rules(&said)).cloned().collect();
    assert!(lacking.is_empty(), "{lacking:?}");
    let kinds: BTreeSet<&String> = wanted.iter().map(|(_, rule, _)| rule).collect();
    assert!(kinds.len() >= 20, "{kinds:?}");
}
