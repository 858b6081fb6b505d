//! ClusterNetworkPolicies in manifests: `connectivity`, `explain` and `plan` count them, and say what they cannot know.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/command.rs"]
mod command;

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: b}
spec: {containers: [{name: c}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: wall}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: b}}}
  ingress:
  - action: Deny
    from: [{namespaces: {}}]
    protocols: [{tcp: {destinationPort: {range: {start: 1, end: 5431}}}}]
";

/// Code, output and what was said beside it.
fn run(manifests: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), manifests).unwrap();
    let said = command::cloison(folder.path(), arguments, "");
    (said.code, said.out, said.err)
}

fn explain(manifests: &str, port: &str) -> (i32, String, String) {
    let ends = ["--from", "a/web", "--to", "b/db", "--port", port];
    run(manifests, &[&["explain", "-f", "all.yaml"][..], &ends].concat())
}

#[test]
fn a_deny_of_the_cluster_counts_and_is_named_with_its_file_and_line() {
    let (code, out, err) = run(PODS, &["connectivity", "-f", "all.yaml"]);
    assert_eq!((code, err.contains("Unknown")), (0, false), "{err}");
    let row = out
        .lines()
        .find(|line| line.starts_with("a/web[Pod]") && line.contains("b/db[Pod]"));
    assert!(
        row.is_some_and(|row| row.contains("TCP 5432-65535, UDP 1-65535")),
        "{out}"
    );

    let (code, out, _) = explain(PODS, "80");
    assert_eq!(code, 1);
    let wanted = "not allowed by ClusterNetworkPolicy wall all.yaml:20:12 spec.ingress[0].from[0], in tier Admin";
    assert!(out.contains(wanted), "{out}");
    let (code, out, _) = explain(PODS, "5432");
    assert_eq!(code, 0, "{out}");
}

#[test]
fn what_cannot_be_known_is_said_and_not_claimed() {
    let other = "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: door}\n\
                 spec: {tier: Admin, priority: 10, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]}\n";
    let both = format!("{PODS}{other}");
    let why =
        "the order of ClusterNetworkPolicy door ingress[0].from[0] and ClusterNetworkPolicy wall ingress[0].from[0]";
    let (code, out, err) = run(&both, &["connectivity", "-f", "all.yaml"]);
    assert_eq!(code, 0);
    let row = out
        .lines()
        .find(|line| line.starts_with("a/web[Pod]") && line.contains("b/db[Pod]"));
    assert!(row.is_some_and(|row| row.contains("TCP 5432-65535")), "{out}");
    let wanted = format!("Unknown: a/web[Pod] -> b/db[Pod] on TCP 1-5431 depends on {why}");
    assert!(err.contains(&wanted), "{err}");
    let (code, out, _) = explain(&both, "80");
    assert_eq!(code, 1);
    assert!(
        out.contains("unknown, counted as not allowed") && out.contains(why),
        "{out}"
    );
    // The other meaning counts what may be allowed.
    let (_, out, _) = run(&both, &["connectivity", "-f", "all.yaml", "--ip-block", "pods"]);
    let row = out
        .lines()
        .find(|line| line.starts_with("a/web[Pod]") && line.contains("b/db[Pod]"));
    assert!(row.is_some_and(|row| row.contains("all ports")), "{out}");
}

#[test]
fn nothing_is_said_of_a_policy_that_cannot_be_read() {
    for (was, becomes, wanted) in [
        ("from: [{namespaces: {}}]", "from: [{namespace: {}}]", "all.yaml:20:"),
        (
            "from: [{namespaces: {}}]",
            "from: [{}]",
            "ClusterNetworkPolicy wall cannot be read: spec.ingress[0].from[0]: exactly one of namespaces and pods must be set",
        ),
        ("action: Deny", "action: Allow", "all.yaml:19:"),
        (
            "policy.networking.k8s.io/v1alpha2",
            "policy.networking.k8s.io/v1beta9",
            "policy.networking.k8s.io/v1beta9 ClusterNetworkPolicy is not modelled; write it as policy.networking.k8s.io/v1alpha2",
        ),
    ] {
        assert!(PODS.contains(was), "{was}");
        let (code, out, err) = run(&PODS.replace(was, becomes), &["connectivity", "-f", "all.yaml"]);
        assert_eq!((code, out.as_str()), (2, ""), "{becomes}");
        assert!(err.contains(wanted), "{becomes}: {err}");
    }
    // Kinds of the same name and of other groups are other kinds.
    let aws = PODS.replace("policy.networking.k8s.io/v1alpha2", "networking.k8s.aws/v1alpha1");
    let (code, out, _) = run(&aws, &["connectivity", "-f", "all.yaml"]);
    assert_eq!(code, 0);
    assert!(out.contains("all ports"), "{out}");
}

#[test]
fn a_plan_says_where_a_policy_of_the_cluster_leaves_a_path() {
    let manifests = "\
apiVersion: v1
kind: Namespace
metadata: {name: train, labels: {cloison.dev/stage: training, cloison.dev/mode: enforce}}
---
apiVersion: v1
kind: Namespace
metadata: {name: serve, labels: {cloison.dev/stage: inference, cloison.dev/mode: enforce}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: open}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchExpressions: [{key: cloison.dev/stage, operator: Exists}]}}
  ingress: [{action: Accept, from: [{namespaces: {}}]}]
  egress: [{action: Accept, to: [{namespaces: {}}]}]
";
    let (code, out, err) = run(manifests, &["plan", "-f", "all.yaml"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("NET-03/path") && out.contains("ClusterNetworkPolicy open"),
        "{out}{err}"
    );
}
