//! The command line without a cluster: what it reads, what it says, and with which exit code it ends.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/command.rs"]
mod command;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cloison::admission::{Operator, Waived, generate};
use cloison::api::names;
use command::Said;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cli");

/// Runs in the folder of the fixtures.
fn cloison(arguments: &[&str], input: &str) -> Said {
    command::cloison(Path::new(FIXTURES), arguments, input)
}

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new(FIXTURES).join(name)).unwrap()
}

/// The whole city as one text.
fn city() -> [String; 3] {
    ["city/1-namespaces.yaml", "city/2-policy.yaml", "city/3-workloads.yaml"].map(fixture)
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

macro_rules! golden {
    ($name:literal, $said:expr) => {
        let said = $said;
        let text = format!("exit {}\n--- stdout\n{}--- stderr\n{}", said.code, said.out, said.err);
        insta::with_settings!({snapshot_path => "fixtures/cli", prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, text);
        });
    };
}

#[test]
fn a_plan_shows_objects_flows_and_what_was_assumed() {
    golden!("plan-city", cloison(&["plan", "-f", "city"], ""));
}

#[test]
fn a_plan_as_yaml_is_what_would_be_applied() {
    golden!("plan-city-yaml", cloison(&["plan", "-f", "city", "-o", "yaml"], ""));
}

#[test]
fn findings_name_file_line_field_message_and_fix() {
    golden!("plan-findings", cloison(&["plan", "-f", "findings.yaml"], ""));
}

#[test]
fn an_unreadable_document_names_file_line_and_field_and_the_rest_goes_on() {
    let said = cloison(&["plan", "-f", "broken.yaml"], "");
    assert!(said.out.contains("cloison-wl-whole"), "{}", said.out);
    golden!("plan-broken", said);
}

#[test]
fn a_folder_a_list_of_files_standard_input_a_list_and_json_are_read_alike() {
    let folder = cloison(&["plan", "-f", "city", "-o", "yaml"], "");
    assert_eq!(folder.code, 0, "{}", folder.err);
    assert!(folder.out.contains("name: cloison-wl-road\n"), "{}", folder.out);
    let files = [
        "plan",
        "-o",
        "yaml",
        "-f",
        "city/3-workloads.yaml",
        "-f",
        "city/1-namespaces.yaml",
        "-f",
        "city/2-policy.yaml",
    ];
    assert_eq!(cloison(&files, ""), folder, "the order of files is of no account");
    let input = ["plan", "-o", "yaml", "-f", "-"];
    assert_eq!(cloison(&input, &city().join("---\n")), folder);
    let items: Vec<Value> = city().iter().rev().flat_map(|text| documents(text)).rev().collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    assert_eq!(cloison(&input, &list.to_string()), folder);
    assert_eq!(cloison(&input, &serde_saphyr::to_string(&list).unwrap()), folder);
}

#[test]
fn the_yaml_is_sorted_and_the_same_every_time() {
    let arguments = ["plan", "-f", "city", "-o", "yaml", "--admission"];
    let first = cloison(&arguments, "");
    assert_eq!(cloison(&arguments, ""), first);
    let place = |object: &Value| {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        (text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
    };
    let places: Vec<_> = documents(&first.out).iter().map(place).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    let kinds: BTreeSet<&str> = places.iter().map(|(kind, ..)| kind.as_str()).collect();
    let expected = [
        "NetworkPolicy",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    assert_eq!(kinds, BTreeSet::from(expected));
}

#[test]
fn the_admission_policies_are_those_of_the_controller() {
    let said = cloison(&["plan", "-f", "city/2-policy.yaml", "-o", "yaml", "--admission"], "");
    let spec = serde_json::from_value(documents(&fixture("city/2-policy.yaml"))[0]["spec"].clone()).unwrap();
    let set = generate(
        &spec,
        &Operator::in_namespace(names::DEFAULT_NAMESPACE),
        &Waived::default(),
        Timestamp::UNIX_EPOCH,
    );
    let policies = set.policies.iter().map(|policy| serde_json::to_value(policy).unwrap());
    let bindings = set
        .bindings
        .iter()
        .map(|binding| serde_json::to_value(binding).unwrap());
    assert_eq!(documents(&said.out), policies.chain(bindings).collect::<Vec<_>>());
    let elsewhere = [
        "plan",
        "-f",
        "city/2-policy.yaml",
        "-o",
        "yaml",
        "--admission",
        "--operator-namespace",
        "walls",
    ];
    assert!(
        cloison(&elsewhere, "")
            .out
            .contains("system:serviceaccount:walls:cloison-controller")
    );
}

#[test]
fn a_policy_without_a_spec_is_all_defaults() {
    let workload = fixture("findings.yaml").split("---\n").next().unwrap().to_owned();
    let with = |policy: &str| {
        let input = format!(
            "{workload}---\napiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {{name: default}}\n{policy}"
        );
        cloison(&["plan", "-f", "-", "--admission", "-o", "yaml"], &input)
    };
    let empty = with("spec: {}\n");
    assert_eq!(empty.code, 0, "{}", empty.err);
    assert_eq!(with(""), empty);
    assert_eq!(with("spec:\n"), empty);
    assert!(!empty.err.contains("judged by the defaults"), "{}", empty.err);
    let none = cloison(&["plan", "-f", "-", "--admission", "-o", "yaml"], &workload);
    assert_eq!(none.out, empty.out, "no policy at all is judged the same");
    assert!(none.err.contains("judged by the defaults"), "{}", none.err);
}

#[test]
fn in_audit_nothing_is_written_unless_one_asks_what_enforce_would() {
    let [namespaces, policy, workloads] = city();
    let audit = namespaces.replace("enforce", "audit");
    let input = [audit, policy, workloads].join("---\n");
    let said = cloison(&["plan", "-f", "-", "-o", "yaml"], &input);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    assert!(said.err.contains("6 NetworkPolicy objects left out"), "{}", said.err);
    let table = cloison(&["plan", "-f", "-"], &input).out;
    assert!(table.contains("not in mode Audit") && !table.contains("yes"), "{table}");
    let enforced = cloison(&["plan", "-f", "-", "-o", "yaml", "--as-enforced"], &input);
    assert_eq!(enforced.out, cloison(&["plan", "-f", "city", "-o", "yaml"], "").out);
}

#[test]
fn a_namespace_that_is_not_there_is_assumed_and_said() {
    let said = cloison(
        &["plan", "-f", "city/3-workloads.yaml", "--policy", "city/2-policy.yaml"],
        "",
    );
    for note in [
        "note: namespace vision-infer is not in the input: assumed to be of stage inference, as AiWorkload \
         vision-infer/road-det is, in mode Audit",
        "note: namespace annotation is not in the input: assumed to be of stage training",
        "note: namespace mlops is not in the input: assumed to have no stage; service mlflow of the policy is there",
    ] {
        assert!(said.out.contains(note), "{note}\n{}", said.out);
    }
    assert_eq!(said.code, 0, "what is not there is no finding: {}", said.out);
}

#[test]
fn the_policy_of_the_flag_wins_and_that_is_said() {
    let said = cloison(
        &["plan", "-f", "city", "--policy", "-"],
        "apiVersion: cloison.dev/v1alpha1\nkind: AiSecurityPolicy\nmetadata: {name: default}\n",
    );
    assert_eq!(said.code, 1, "mlflow is unknown to it");
    assert!(said.out.contains("NET-04/unknown-service"), "{}", said.out);
    assert!(
        said.out
            .contains("AiSecurityPolicy at city/2-policy.yaml:1:1 is set aside for --policy"),
        "{}",
        said.out
    );
    let none = cloison(&["plan", "-f", "city", "--policy", "city/3-workloads.yaml"], "");
    assert_eq!(none.code, 2);
    assert!(none.err.contains("holds no readable AiSecurityPolicy"), "{}", none.err);
}

#[test]
fn only_findings_of_medium_or_worse_fail_and_what_cannot_be_read_fails_harder() {
    let info = city().join("---\n");
    assert_eq!(
        cloison(&["plan", "-f", "-"], &info).code,
        0,
        "AwaitingPeer is no failure"
    );
    assert_eq!(cloison(&["plan", "-f", "findings.yaml"], "").code, 1);
    assert_eq!(
        cloison(&["plan", "-f", "findings.yaml", "-f", "broken.yaml"], "").code,
        2
    );
    let absent = cloison(&["plan", "-f", "absent.yaml", "-f", "city"], "");
    assert_eq!(absent.code, 2);
    assert!(absent.err.starts_with("absent.yaml: No such file"), "{}", absent.err);
    assert!(
        absent.out.contains("cloison-wl-road"),
        "the rest goes on: {}",
        absent.out
    );
}

#[test]
fn wrong_usage_ends_with_two() {
    for arguments in [
        &["plan"][..],
        &["plan", "-A", "-f", "x"],
        &["nothing"],
        &["off"],
        &["controls", "NET-99"],
        &["why", "job"],
    ] {
        let said = cloison(arguments, "");
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?} {said:?}");
        assert!(!said.err.is_empty());
    }
    let no_cluster = cloison(&["status"], "");
    assert_eq!(no_cluster.code, 2, "{no_cluster:?}");
}

#[test]
fn a_control_is_shown_in_full_with_its_rules() {
    golden!("control-net-05", cloison(&["controls", "NET-05"], ""));
    let all: Value = serde_json::from_str(&cloison(&["controls", "-o", "json"], "").out).unwrap();
    let ids: Vec<&str> = all["controls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].as_str().unwrap())
        .collect();
    let catalogue = cloison::compliance::Catalogue::builtin();
    let known: Vec<String> = catalogue
        .controls()
        .iter()
        .map(|control| control.id.to_string())
        .collect();
    assert_eq!(ids, known);
    let table = cloison(&["controls"], "").out;
    assert!(known.iter().all(|id| table.contains(id.as_str())));
    let of_rule = cloison(&["controls", "WKL-01/host-ipc", "-o", "yaml"], "");
    assert_eq!(documents(&of_rule.out)[0]["id"], "WKL-01");
}

#[test]
fn what_others_wrote_cannot_rewrite_the_screen() {
    let name = "{name: \"a\\e[2Jb\", labels: {cloison.dev/stage: training}}";
    let input = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name}\n---\napiVersion: cloison.dev/v1alpha1\nkind: AiWorkload\n\
         metadata: {name}\nspec: {{stage: \"\\e[2J\"}}\n"
    );
    let said = cloison(&["plan", "-f", "-"], &input);
    assert!(said.out.contains("a [2Jb"), "{}", said.out);
    assert!(said.err.contains("Unsupported value"), "{}", said.err);
    let escapes = said
        .out
        .chars()
        .chain(said.err.chars())
        .filter(|c| c.is_control() && *c != '\n');
    assert_eq!(escapes.count(), 0, "{said:?}");
}

#[test]
fn a_pipe_that_closes_early_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloison"))
        .arg("crds")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // More than a pipe holds is on its way, and nobody reads it.
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn as_a_plugin_of_kubectl_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-cloison");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cloison"), &plugin).unwrap();
    let help = |program: &Path| {
        let output = Command::new(program).args(["plan", "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        help(&plugin).contains("Usage: kubectl cloison plan"),
        "{}",
        help(&plugin)
    );
    assert!(help(Path::new(env!("CARGO_BIN_EXE_cloison"))).contains("Usage: cloison plan"));
    let script = cloison(&["completions", "bash"], "");
    assert!(script.code == 0 && script.out.contains("_cloison()"), "{}", script.err);
}
