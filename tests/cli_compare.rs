//! `cloison plan BEFORE AFTER`: what opens and what closes between two sets of manifests.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/command.rs"]
mod command;

use command::Said;

/// Both stages, an AiSecurityPolicy, and a pod in each stage.
const BASE: &str = "\
apiVersion: cloison.dev/v1alpha1
kind: AiSecurityPolicy
metadata: {name: default}
spec: {network: {clusterCIDRs: [10.0.0.0/8], apiServer: {cidrs: [10.96.0.1/32]}, dns: {servers: [{cidrs: [10.96.0.10/32]}]}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: train, labels: {cloison.dev/stage: training, cloison.dev/mode: enforce}}
---
apiVersion: v1
kind: Namespace
metadata: {name: serve, labels: {cloison.dev/stage: inference, cloison.dev/mode: enforce}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: fit, namespace: train}
spec: {template: {metadata: {labels: {app: fit}}, spec: {containers: [{name: c}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: model, namespace: serve}
spec: {template: {metadata: {labels: {app: model}}, spec: {containers: [{name: c}]}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-training, namespace: serve}
spec:
  podSelector: {}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {cloison.dev/stage: training}}}]
    ports: [{port: 80, endPort: 90}]
";

fn out(name: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: train}}\nspec:\n  \
         podSelector: {{}}\n  policyTypes: [Egress]\n  egress:\n{rules}"
    )
}

const TO_SERVE: &str = "  - to: [{namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}}]\n    ports: [{port: 85, endPort: 99}]\n";

fn compare(before: &str, after: &str) -> Said {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("old/all.yaml", before), ("new/all.yaml", after)] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    command::cloison(folder.path(), &["plan", "old", "new"], "")
}

/// Whether a line says that something opens.
fn opens(said: &Said) -> bool {
    said.out.lines().any(|line| line.starts_with("opens"))
}

#[test]
fn nothing_changes_between_a_set_and_itself() {
    let said = compare(BASE, BASE);
    let nothing = "no connection opens or closes\n\nno forbidden path opens or closes\n";
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, nothing, ""));
    // The same again in other words is nothing either.
    let split = BASE.replace(
        "[{port: 80, endPort: 90}]",
        "[{port: 80, endPort: 84}, {port: 85, endPort: 90}]",
    );
    assert_eq!(compare(BASE, &split).out, nothing);
}

#[test]
fn a_forbidden_path_that_opens_is_told_with_its_rule_and_fails() {
    let open = BASE.to_owned() + &out("leak", TO_SERVE);
    let said = compare(BASE, &open);
    let line = "opens new/all.yaml:40:10 spec.egress[0].to[0]: Critical NET-03/path a pod in train with labels {} can reach a pod in \
                serve with labels {} on TCP 85-90: allowed by train/leak new/all.yaml:40:10 spec.egress[0].to[0] and \
                serve/from-training new/all.yaml:30:12 spec.ingress[0].from[0]; remove the policy that opens the path, or ask for a \
                Waiver with a flow (ANSSI R12)";
    let lines: Vec<&str> = said.out.lines().collect();
    let wanted = [
        "CONNECTION   FROM             TO                        PORTS",
        "opens        train/fit[Job]   serve/model[Deployment]   TCP 85-90",
        "",
        line,
    ];
    assert_eq!((said.code, lines.as_slice()), (1, wanted.as_slice()), "{said:?}");
    // The other way round it closes, which nothing is against.
    let said = compare(&open, BASE);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        (said.code, lines[1]),
        (0, "closes       train/fit[Job]   serve/model[Deployment]   TCP 85-90"),
        "{said:?}"
    );
    let fix = "; remove the policy that opens the path, or ask for a Waiver with a flow";
    let closes = line
        .replacen("opens", "closes", 1)
        .replace("new/", "old/")
        .replace(fix, "");
    assert_eq!(lines[3], closes);
}

#[test]
fn a_hole_that_is_narrowed_opens_nothing_and_one_that_is_widened_does() {
    let hole = |first: &str| BASE.to_owned() + &out("leak", &TO_SERVE.replace("port: 85", first));
    let said = compare(&hole("port: 85"), &hole("port: 88"));
    assert_eq!((said.code, opens(&said)), (0, false), "{}", said.out);
    assert!(
        said.out
            .contains("closes       train/fit[Job]   serve/model[Deployment]   TCP 85-87\n"),
        "{}",
        said.out
    );
    let said = compare(&hole("port: 88"), &hole("port: 85"));
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(
        said.out.contains(" on TCP 85-87: allowed by train/leak "),
        "{}",
        said.out
    );
}

#[test]
fn addresses_are_told_apart_alike_in_both_sets() {
    let block = |cidr: &str| {
        let rule = format!("  - to: [{{ipBlock: {{cidr: {cidr}}}}}]\n    ports: [{{port: 443}}]\n");
        BASE.to_owned() + &out("block", &rule)
    };
    let said = compare(&block("192.0.2.0/25"), &block("192.0.2.0/24"));
    let rows: Vec<&str> = said.out.lines().take_while(|line| !line.is_empty()).collect();
    let opens = "opens        train/fit[Job]   192.0.2.128-192.0.2.255   TCP 443";
    assert_eq!(
        (said.code, rows.as_slice()),
        (0, [rows[0], opens].as_slice()),
        "{said:?}"
    );
    // A range that another cut in two is one again.
    let two = block("192.0.2.0/25").replace(
        "[{ipBlock: {cidr: 192.0.2.0/25}}]",
        "[{ipBlock: {cidr: 192.0.2.0/25}}, {ipBlock: {cidr: 192.0.2.128/25}}]",
    );
    assert!(
        compare(&two, &block("192.0.2.0/24"))
            .out
            .starts_with("no connection opens or closes\n")
    );
    // What CNIs disagree about may open, and fails nothing.
    let said = compare(BASE, &block("10.9.0.0/16"));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out
            .contains("\nmay open: whether a pod in train can reach a pod in "),
        "{}",
        said.out
    );
}

#[test]
fn a_namespace_that_loses_its_stage_opens() {
    let moved = BASE.replace("cloison.dev/stage: inference", "cloison.dev/stage: training");
    let open = out(
        "leak",
        &TO_SERVE.replace("cloison.dev/stage: inference", "kubernetes.io/metadata.name: serve"),
    );
    // Of the same stage nothing between the two was forbidden; then one of them becomes another stage.
    let said = compare(&(moved + &open), &(BASE.to_owned() + &open));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out
            .starts_with("no connection opens or closes\n\nopens new/all.yaml:"),
        "{}",
        said.out
    );
}

#[test]
fn nothing_is_compared_where_something_cannot_be_read() {
    let said = compare(BASE, &BASE.replace("endPort: 90", "endPort: 9"));
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    assert!(
        said.err.starts_with(
            "new/all.yaml:28:3 spec: NetworkPolicy serve/from-training cannot be read: the range 80-9 ends before"
        ),
        "{}",
        said.err
    );
    let folder = tempfile::tempdir().unwrap();
    let one = command::cloison(folder.path(), &["plan", "old"], "");
    assert_eq!((one.code, one.out.as_str()), (2, ""), "two sets, or none: {one:?}");
}
