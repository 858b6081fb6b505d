//! `cloison check -f --fix`: what it prints is put into the manifest, and the manifest is checked again.

use std::collections::BTreeSet;

use crate::check::{WORKLOAD, base, check, folder, json_of};

const BAD: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: x, namespace: train}
spec:
  template:
    metadata:
      name: x
    spec:
      hostPID: true
      hostIPC: true
      serviceAccountName: own
      automountServiceAccountToken: true
      containers:
      - {name: c, image: a}
";

/// The text with every proposal applied, from the last line up.
fn mended(text: &str, out: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut edits: Vec<(usize, Vec<&str>)> = Vec::new();
    for line in out.lines() {
        if let Some(rest) = line.strip_prefix("fix: x.yaml:") {
            let number = rest.split([' ', ':']).next().unwrap().parse().unwrap();
            edits.push((number, Vec::new()));
        } else if line.starts_with(['+', '-']) {
            edits.last_mut().unwrap().1.push(line);
        }
    }
    edits.sort();
    for (number, edit) in edits.into_iter().rev() {
        let added: Vec<String> = edit
            .iter()
            .filter_map(|line| line.strip_prefix('+'))
            .map(str::to_owned)
            .collect();
        let gone: Vec<&str> = edit.iter().filter_map(|line| line.strip_prefix('-')).collect();
        let at = number - 1;
        assert!(gone.iter().all(|line| lines[at] == *line), "{gone:?} {}", lines[at]);
        lines.splice(at..at + gone.len(), added);
    }
    lines.join("\n") + "\n"
}

fn rules(folder: &std::path::Path) -> BTreeSet<String> {
    let (_, findings) = json_of(folder, &["-f", "base.yaml", "-f", "x.yaml"]);
    findings
        .iter()
        .map(|found| found["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_is_proposed_mends_the_finding_and_brings_no_new_one() {
    let folder = folder(&[("base.yaml", &base()), ("x.yaml", BAD)]);
    let files = ["-f", "base.yaml", "-f", "x.yaml"];
    let (plain, fixed) = (
        check(folder.path(), &files),
        check(folder.path(), &[&files[..], &["--fix"]].concat()),
    );
    assert_eq!(plain.code, fixed.code, "{fixed:?}");
    let before = rules(folder.path());
    std::fs::write(folder.path().join("x.yaml"), mended(BAD, &fixed.out)).unwrap();
    let after = rules(folder.path());
    for rule in ["WKL-01/host-pid", "WKL-01/host-ipc", "WKL-02/unknown", "IAM-01/token"] {
        assert!(
            before.contains(rule) && !after.contains(rule),
            "{rule}: {fixed:?} {after:?}"
        );
    }
    assert!(after.is_subset(&before), "{after:?}");
    assert!(
        fixed.out.contains("SUP-01/digest needs a decision of yours"),
        "{fixed:?}"
    );
}

/// Kinds, and what is above the pod template or whatever gives the pods their labels.
const KINDS: [(&str, &str); 4] = [
    ("batch/v1 CronJob", "spec/jobTemplate/spec/template"),
    ("ray.io/v1 RayCluster", "spec/headGroupSpec/template"),
    ("kubeflow.org/v1 PyTorchJob", "spec/pytorchReplicaSpecs/Worker/template"),
    ("serving.kserve.io/v1beta1 InferenceService", "spec/predictor"),
];

#[test]
fn the_label_is_put_where_the_pods_of_each_kind_take_it_from() {
    for (kind, path) in KINDS {
        let (version, kind) = kind.split_once(' ').unwrap();
        let mut text = format!("apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: x\n  namespace: train\n");
        let mut depth = 0;
        for step in path.split('/').filter(|step| !step.is_empty()) {
            text.push_str(&[&" ".repeat(depth), step, ":\n"].concat());
            depth += 2;
        }
        let spec = ["spec:", "  containers:", "  - name: c", "    image: a"];
        for line in spec {
            text.push_str(&[&" ".repeat(depth), line, "\n"].concat());
        }
        let folder = folder(&[("base.yaml", &base()), ("x.yaml", &text)]);
        let files = ["-f", "base.yaml", "-f", "x.yaml", "--fix"];
        let fixed = check(folder.path(), &files);
        let before = rules(folder.path());
        assert!(before.contains("WKL-02/unknown"), "{kind}: {fixed:?}");
        std::fs::write(folder.path().join("x.yaml"), mended(&text, &fixed.out)).unwrap();
        let after = rules(folder.path());
        assert!(
            !after.contains("WKL-02/unknown") && after.is_subset(&before),
            "{kind}: {fixed:?} {after:?}"
        );
    }
}

#[test]
fn which_of_two_workloads_is_never_guessed() {
    let second = WORKLOAD.replace("name: road", "name: rail");
    let folder = folder(&[("base.yaml", &[base(), second].join("---\n")), ("x.yaml", BAD)]);
    let said = check(folder.path(), &["-f", "base.yaml", "-f", "x.yaml", "--fix"]);
    assert!(
        said.out.contains("WKL-02/unknown needs a decision of yours"),
        "{said:?}"
    );
}

#[test]
fn it_is_for_people_and_for_manifests() {
    let folder = folder(&[("base.yaml", &base())]);
    let said = check(folder.path(), &["-f", ".", "--fix", "-o", "json"]);
    assert!(said.code == 2 && said.err.contains("-o table"), "{said:?}");
    assert_eq!(check(folder.path(), &["--fix"]).code, 2);
}
