//! What `cloison plan -f` reads: whatever is no object, or would be refused by the API server, is told with its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/command.rs"]
mod command;

use std::path::Path;

/// Exit code, standard output, standard error.
fn plan(arguments: &[&str], input: &str) -> (i32, String, String) {
    let said = command::cloison(Path::new("."), &[&["plan"], arguments].concat(), input);
    (said.code, said.out, said.err)
}

fn says(input: &str, lines: &[&str]) {
    let (code, _, err) = plan(&["-f", "-"], input);
    assert_eq!(err.lines().collect::<Vec<_>>(), lines, "{input}");
    assert_eq!(code, 2, "{input}");
}

const WORKLOAD: &str = "apiVersion: cloison.dev/v1alpha1\nkind: AiWorkload\nmetadata: {name: road, namespace: train}\nspec:\n  \
                        stage: Training\n  owner: team@ville.example\n  purpose: Detect road defects\n";

#[test]
fn what_is_no_object_is_told() {
    let fine = plan(&["-f", "-"], WORKLOAD);
    assert_eq!(
        (fine.0, fine.2.as_str()),
        (0, ""),
        "the control: nothing else is wrong with it"
    );
    says(
        &WORKLOAD.replace("kind:", "Kind:"),
        &["-:2:7: this is no object without `kind`: `Kind` is unknown; did you mean \"kind\"?"],
    );
    says(
        &WORKLOAD.replace("apiVersion:", "apiVesion:"),
        &["-:1:12: this is no object without `apiVersion`: `apiVesion` is unknown; did you mean \"apiVersion\"?"],
    );
    says("kind: Service\n", &["-:1:1: this is no object without `apiVersion`"]);
    says(
        "replicas: 2\n",
        &["-:1:1: this is no object without `apiVersion` and `kind`"],
    );
    says(
        "# a comment\n---\n- a\n",
        &["-:3:1: this is no object: it must be a map with `apiVersion` and `kind`"],
    );
    says(
        "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n",
        &["-:4:3: this is no object without `apiVersion`"],
    );
}

#[test]
fn objects_of_other_groups_are_passed_over_and_counted() {
    let others = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspce: {}\n---\nnull\n---\napiVersion: batch/v1\nkind: Job\n";
    let (code, out, err) = plan(&["-f", "-"], others);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains("note: 2 documents of other kinds not judged here: 1 Deployment, 1 Job;"),
        "{out}"
    );
}

#[test]
fn a_misspelt_field_of_the_root_is_told() {
    let policy =
        "apiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {name: default}\nspce: {mode: Enforce}\n";
    says(policy, &["-:4:7 spce: unknown field `spce`; did you mean \"spec\"?"]);
    says(
        &WORKLOAD.replace("spec:", "spec:\n  purposes: x"),
        &["-:5:13 spec.purposes: unknown field `purposes`; did you mean \"purpose\"?"],
    );
}

#[test]
fn nothing_at_all_is_no_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, _, err) = plan(&["-f", path], "");
    let says = "there is no object in it; name files, or folders with .yaml, .yml or .json files\n";
    assert_eq!((code, err), (2, format!("{path}: {says}")));
    assert_eq!(plan(&["-f", "-"], "# nothing\n").2, format!("-: {says}"));
    let (code, _, err) = plan(&["-f", path, "-f", "-"], WORKLOAD);
    assert_eq!((code, err.as_str()), (0, ""), "an empty folder beside something");
}

#[test]
fn every_bound_and_rule_is_told_with_its_place() {
    let input = WORKLOAD.replace(
        "  purpose: Detect road defects\n",
        "  purpose: short\n  retention: {logsDays: 0}\n  uses: [A, A]\n  network:\n    connectTo:\n    - {cidr: 192.0.2.0/24, ports: []}\n",
    );
    says(
        &input,
        &[
            "-:7:12 spec.purpose: Invalid value: \"short\": should be at least 10 chars long, has 5",
            "-:8:25 spec.retention.logsDays: Invalid value: 0: should be greater than or equal to 1",
            "-:9:13 spec.uses[1]: Duplicate value: \"A\"",
            "-:12:35 spec.network.connectTo[0].ports: Invalid value: 0: should have at least 1 items",
        ],
    );
    says(
        &format!("{WORKLOAD}  network:\n    connectTo:\n    - {{cidr: 192.0.2.1/24, ports: [{{port: 443}}]}}\n"),
        &[
            "-:10:14 spec.network.connectTo[0].cidr: NET-04/cidr must be a network without host bits, such as \
           10.20.0.0/16; write one such as 10.20.0.0/16 (ANSSI R26)",
        ],
    );
}

#[test]
fn defaults_are_there_when_rules_ask() {
    // `self.discovery` and `self.retention` are there by default alone; so is `escrow` inside a spec that is not given.
    let encryption = "apiVersion: cloison.dev/v1alpha1\nkind: SecretEncryption\nmetadata: {name: default}\n";
    for spec in [
        "",
        "spec: {apiServers: {}}\n",
        "spec: {retiredKeys: {}}\n",
        "spec: {rotation: null}\n",
    ] {
        let (code, _, err) = plan(&["-f", "-"], &format!("{encryption}{spec}"));
        assert_eq!((code, err.as_str()), (0, ""), "{spec}");
    }
    says(
        &format!("{encryption}spec: {{mode: Manage}}\n"),
        &[
            "-:4:7 spec: ENC-01/escrow `mode: Manage` needs an entry in `escrow.recipients`, or `escrow.requirement: Waived`; \
           write the public key as age-keygen printed it (ANSSI R7)",
        ],
    );
}

#[test]
fn a_broken_policy_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    let text =
        "apiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {name: default}\nspec: {mode: Enforced}\n";
    std::fs::write(&policy, text).unwrap();
    let policy = policy.to_str().unwrap();
    let (code, out, err) = plan(&["-f", "-", "--policy", policy], WORKLOAD);
    assert_eq!((code, out.as_str()), (2, ""));
    let lines: Vec<&str> = err.lines().collect();
    let at = format!(
        "{policy}:4:14 spec.mode: Unsupported value: \"Enforced\"; supported: \"Audit\", \"Warn\", \"Enforce\""
    );
    assert_eq!(lines[0], at, "{err}");
    assert!(lines[1].ends_with("holds no readable AiSecurityPolicy"), "{err}");
}
