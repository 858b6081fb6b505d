//! What manifests do with Secrets, and who may read them.

use std::collections::BTreeSet;

use crate::check::{base, check, folder, json_of};
use serde_json::Value;

/// Two workloads that take credentials as they should not, a ConfigMap, and rights from training to inference.
fn uses(token: &str) -> String {
    let pod = format!(
        "    spec:\n      serviceAccountName: own\n      automountServiceAccountToken: false\n      initContainers:\n      - name: \
         first\n        envFrom:\n        - secretRef: {{name: s}}\n      containers:\n      - name: main\n        args: \
         [--token={token}]\n"
    );
    let job = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: fit, namespace: train}}\nspec:\n  template:\n    metadata: {{labels: \
         {{cloison.dev/workload: road}}}}\n{pod}"
    );
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: train}}\ndata:\n  .env: |\n    A=1\n    \
         KEY={token}\n"
    );
    let rights = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: serve}\nrules: \
                  [{apiGroups: [''], resources: [secrets], verbs: [get]}]\n---\napiVersion: \
                  rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: reader, namespace: serve}\nroleRef: {apiGroup: \
                  rbac.authorization.k8s.io, kind: Role, name: reader}\nsubjects: [{kind: ServiceAccount, namespace: train, name: \
                  own}]\n";
    [job.as_str(), &map, rights].join("---\n")
}

#[test]
fn what_manifests_do_with_secrets_is_told_by_place_and_never_by_value() {
    // One that never was, and is in no file.
    let token = format!("ghp_{}", "abcdefghijklmnopqrstuvwxyz0123456789");
    let folder = folder(&[("base.yaml", &base()), ("uses.yaml", &uses(&token))]);
    let files = ["-f", "base.yaml", "-f", "uses.yaml"];
    let (code, findings) = json_of(folder.path(), &files);
    let told = |findings: &[Value]| -> BTreeSet<String> {
        let told = findings.iter().map(|finding| {
            let field = finding["at"]["field"].as_str().unwrap_or_default();
            format!(
                "{} {} {field}",
                finding["rule"].as_str().unwrap(),
                finding["at"]["line"]
            )
        });
        told.collect()
    };
    let wanted = [
        "ENC-04/config-map 23 data..env",
        "ENC-04/env-from 13 spec.template.spec.initContainers[0].envFrom[0]",
        "ENC-04/literal 16 spec.template.spec.containers[0].args[0]",
        "IAM-07/secret-path 34 roleRef",
    ];
    assert_eq!((code, told(&findings)), (1, wanted.map(str::to_owned).into()));
    let said = check(folder.path(), &files);
    assert!(
        said.out.contains("key \".env\", line 2 of its value: a GitHub token"),
        "{said:?}"
    );
    assert!(
        !format!("{said:?}{findings:?}").contains(&token[4..]),
        "the value is told"
    );

    // What the policy only reports stops nobody; what it switched off is not told.
    let without = uses("none");
    std::fs::write(folder.path().join("uses.yaml"), &without).unwrap();
    let (code, findings) = json_of(folder.path(), &files);
    assert_eq!(
        (code, told(&findings)),
        (0, [wanted[1], wanted[3]].map(str::to_owned).into())
    );
    let off = "controls: [{id: ENC-04, mode: Disabled, reason: for a test of modes}, {id: IAM-07, mode: Disabled, reason: for a \
               test of modes}, ";
    std::fs::write(folder.path().join("base.yaml"), base().replace("controls: [", off)).unwrap();
    std::fs::write(folder.path().join("uses.yaml"), uses(&token)).unwrap();
    let (code, findings) = json_of(folder.path(), &files);
    assert_eq!((code, told(&findings)), (0, BTreeSet::new()), "{findings:?}");
}

/// Of roles that manifests bind, those of Kubernetes itself are known, and others are not taken for harmless.
#[test]
fn a_role_that_is_not_in_the_input_is_known_or_told_as_unknown() {
    let bind = |name: &str, role: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: serve}}\nroleRef: \
             {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\nsubjects: [{{kind: ServiceAccount, namespace: \
             train, name: own}}]\n"
        )
    };
    let told = |folder: &std::path::Path, files: &[&str]| -> Vec<String> {
        let (code, findings) = json_of(folder, files);
        assert_eq!(code, 0, "{findings:?}");
        let paths = findings
            .iter()
            .filter(|finding| finding["rule"] == "IAM-07/secret-path");
        let word = |finding: &Value| {
            let place = format!("{}:{}", finding["at"]["file"], finding["at"]["line"]).replace('"', "");
            format!("{place} {} {}", finding["assurance"], finding["message"]).replace('"', "")
        };
        paths.map(word).collect()
    };
    let known = folder(&[("base.yaml", &base()), ("own.yaml", &bind("ci", "edit"))]);
    let found = told(known.path(), &["-f", "base.yaml", "-f", "own.yaml"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("own.yaml:4 Observed"), "{found:?}");
    assert!(
        found[0].contains("get secrets in serve (RoleBinding serve/ci)"),
        "{found:?}"
    );

    let unknown = folder(&[("base.yaml", &base()), ("own.yaml", &bind("ci", "ours"))]);
    let found = told(unknown.path(), &["-f", "base.yaml", "-f", "own.yaml"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("own.yaml:4 Unknown RoleBinding serve/ci gives accounts of training"),
        "{found:?}"
    );
    let harmless = folder(&[("base.yaml", &base()), ("own.yaml", &bind("ci", "view"))]);
    assert_eq!(told(harmless.path(), &["-f", "base.yaml", "-f", "own.yaml"]), [""; 0]);

    // What is there already is for its own manifests to say.
    let beside = folder(&[("base.yaml", &base()), ("own.yaml", &bind("ci", "view"))]);
    std::fs::write(
        beside.path().join("there.yaml"),
        [base(), bind("old", "edit")].join("---\n"),
    )
    .unwrap();
    let found = told(beside.path(), &["-f", "own.yaml", "--with", "there.yaml"]);
    assert_eq!(found, [""; 0]);
    std::fs::write(beside.path().join("own.yaml"), bind("ci", "edit")).unwrap();
    std::fs::write(beside.path().join("there.yaml"), base()).unwrap();
    let found = told(beside.path(), &["-f", "own.yaml", "--with", "there.yaml"]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_secret_that_may_change_is_told_where_the_workload_asks_that_it_cannot() {
    let asking = base().replace(
        "stage: Training",
        "stage: Training\n  secrets: {immutability: Required}",
    );
    let secret = |immutable: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: train}}\n{immutable}stringData: {{k: canary-value}}\n"
        )
    };
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: train, labels: {cloison.dev/workload: road}}\nspec:\n  \
               serviceAccountName: own\n  automountServiceAccountToken: false\n  containers: [{name: main, image: i}]\n  volumes: \
               [{name: v, secret: {secretName: s}}]\n";
    for (immutable, wanted) in [("", 1), ("immutable: false\n", 1), ("immutable: true\n", 0)] {
        let all = [
            asking.as_str(),
            &secret(immutable),
            pod,
            &pod.replace("name: p,", "name: q,"),
        ]
        .join("---\n");
        let folder = folder(&[("all.yaml", &all)]);
        let (_, findings) = json_of(folder.path(), &["-f", "all.yaml"]);
        let told = findings.iter().filter(|finding| finding["rule"] == "ENC-06/immutable");
        assert_eq!(told.count(), wanted, "{immutable:?}: {findings:?}");
        assert!(!format!("{findings:?}").contains("canary-value"));
    }
}
