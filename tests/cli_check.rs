//! `cloison check` on manifests, as a pipeline runs it before the merge.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/command.rs"]
mod command;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use command::Said;
use serde_json::{Value, json};

const POLICY: &str = "\
apiVersion: cloison.dev/v1alpha1
kind: AiSecurityPolicy
metadata: {name: default}
spec:
  # What is refused at the door is told by no analysis.
  controls: [{id: NET-10, mode: Audit, reason: paths are looked for}]
  network:
    clusterCIDRs: [10.0.0.0/8]
    apiServer: {cidrs: [10.96.0.1/32]}
    dns: {servers: [{namespace: kube-system, podLabels: {k8s-app: kube-dns}}]}
    services:
    - {name: store, to: {namespace: store, podLabels: {app: minio}}, ports: [{port: 9000}]}
";

const NAMESPACES: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: train, labels: {cloison.dev/stage: training, cloison.dev/mode: enforce}}
---
apiVersion: v1
kind: Namespace
metadata: {name: serve, labels: {cloison.dev/stage: inference, cloison.dev/mode: enforce}}
---
apiVersion: v1
kind: Namespace
metadata: {name: store}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system}
";

const WORKLOAD: &str = "\
apiVersion: cloison.dev/v1alpha1
kind: AiWorkload
metadata: {name: road, namespace: train}
spec:
  stage: Training
  owner: team@ville.example
  purpose: Detect road defects
  network:
    connectTo:
    - service: store
";

/// What lets pods out of the training stage.
const OUT: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: train}
spec:
  podSelector: {matchLabels: {app: leak}}
  policyTypes: [Egress]
  egress:
  - to:
    - namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}
    ports: [{port: 8080}]
";

/// What lets them into the inference stage.
const INTO: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: into, namespace: serve}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {cloison.dev/stage: training}}
";

/// A folder of files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn check(folder: &Path, arguments: &[&str]) -> Said {
    command::cloison(folder, &[&["check"], arguments].concat(), "")
}

fn json_of(folder: &Path, arguments: &[&str]) -> (i32, Vec<Value>) {
    let said = check(folder, &[arguments, &["-o", "json"]].concat());
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    (said.code, report["findings"].as_array().unwrap().clone())
}

/// The lines of findings, without the last, which counts them, and the notes.
fn lines(said: &Said) -> Vec<&str> {
    let lines: Vec<&str> = said.out.lines().filter(|line| !line.starts_with("note: ")).collect();
    lines.split_last().unwrap().1.to_vec()
}

fn base() -> String {
    [NAMESPACES, POLICY, WORKLOAD].join("---\n")
}

const PATH: &str = "out.yaml:9:7 spec.egress[0].to[0]: Critical NET-03/path a pod in train with labels {app: leak} can reach a pod in \
                    serve with labels {} on TCP 8080: allowed by train/out out.yaml:9:7 spec.egress[0].to[0] and serve/into \
                    into.yaml:9:7 spec.ingress[0].from[0]; remove the policy that opens the path, or ask for a Waiver with a flow \
                    (ANSSI R12)";

#[test]
fn nothing_is_said_against_what_is_in_order() {
    let folder = folder(&[("base.yaml", &base())]);
    let said = check(folder.path(), &["-f", "."]);
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (0, "no findings\n", "")
    );
    // One half alone leads nowhere.
    std::fs::write(folder.path().join("out.yaml"), OUT).unwrap();
    assert_eq!(check(folder.path(), &["-f", "."]).code, 0);
}

#[test]
fn a_path_is_told_with_file_and_line_of_both_rules() {
    let folder = folder(&[("base.yaml", &base()), ("out.yaml", OUT), ("into.yaml", INTO)]);
    let files = ["-f", "base.yaml", "-f", "out.yaml", "-f", "into.yaml"];
    let said = check(folder.path(), &files);
    assert_eq!((said.code, lines(&said)), (1, vec![PATH]), "{said:?}");
    assert!(said.out.ends_with("\n1 finding\n"), "{}", said.out);
    let (code, findings) = json_of(folder.path(), &files);
    let wanted = json!([{
        "control": "NET-03", "rule": "NET-03/path", "severity": "Critical", "assurance": "Observed",
        "subject": {"kind": "NetworkPolicy", "namespace": "train", "name": "out"},
        "at": {"file": "out.yaml", "line": 9, "column": 7, "field": "spec.egress[0].to[0]"},
        "message": "a pod in train with labels {app: leak} can reach a pod in serve with labels {} on TCP 8080: allowed by \
                    train/out out.yaml:9:7 spec.egress[0].to[0] and serve/into into.yaml:9:7 spec.ingress[0].from[0]",
        "fix": "remove the policy that opens the path, or ask for a Waiver with a flow",
    }]);
    assert_eq!((code, Value::from(findings)), (1, wanted));
    // Of several documents on standard input the lines are those of the whole text.
    let text = [base(), OUT.to_owned(), INTO.to_owned()].join("---\n");
    let said = command::cloison(folder.path(), &["check", "-f", "-"], &text);
    let line = text
        .lines()
        .position(|line| line.contains("stage: inference}}") && line.contains("- namespaceSelector"));
    assert!(
        said.out.starts_with(&format!("-:{}:7 spec.egress", line.unwrap() + 1)),
        "{}",
        said.out
    );
}

#[test]
fn every_path_is_told_once_and_not_only_the_first() {
    let second = OUT
        .replace("name: out", "name: second")
        .replace("app: leak", "app: other");
    let folder = folder(&[(
        "all.yaml",
        &[base(), OUT.to_owned(), second, INTO.to_owned()].join("---\n"),
    )]);
    let (_, findings) = json_of(folder.path(), &["-f", "all.yaml"]);
    let policies: Vec<&str> = findings
        .iter()
        .map(|finding| finding["subject"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(policies, ["out", "second"], "{findings:#?}");
}

/// An allow that somebody wrote for the sake of one caller isolates its pods from all others.
#[test]
fn a_declared_flow_that_is_cut_by_accident_is_told() {
    let minio = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: minio, namespace: store}\nspec:\n  template:\n    metadata: \
                 {labels: {app: minio}}\n    spec: {containers: [{name: c}]}\n";
    let scrape = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: scrape, namespace: store}\nspec:\n  \
                  podSelector: {matchLabels: {app: minio}}\n  ingress:\n  - from: [{namespaceSelector: {matchLabels: {team: \
                  monitoring}}}]\n";
    let folder = folder(&[("base.yaml", &base()), ("minio.yaml", minio), ("scrape.yaml", scrape)]);
    let said = check(folder.path(), &["-f", "."]);
    let cut = "./scrape.yaml:5:16 spec.podSelector: High NET-04/cut service store is declared and does not pass on TCP 9000, \
               train/road[AiWorkload] -> store/minio[Deployment]: not let in by store/scrape ./scrape.yaml:5:16 \
               spec.podSelector; add a rule for the flow to the policy that isolates, or delete that policy (ANSSI R26)";
    assert_eq!((said.code, lines(&said)), (1, vec![cut]), "{said:?}");
    // One that lets the stage in, on this port, is none.
    let mended = scrape.replace("team: monitoring", "cloison.dev/stage: training");
    std::fs::write(folder.path().join("scrape.yaml"), mended).unwrap();
    let mended = check(folder.path(), &["-f", "."]);
    assert_eq!(
        (mended.code, mended.out.lines().next()),
        (0, Some("no findings")),
        "{mended:?}"
    );
}

#[test]
fn refusals_of_workloads_are_those_of_a_plan() {
    let wrong = WORKLOAD.replace("service: store", "service: stroe") + "  uses: [SocialScoring]\n";
    let folder = folder(&[("all.yaml", &[NAMESPACES, POLICY, &wrong].join("---\n"))]);
    let said = check(folder.path(), &["-f", "all.yaml"]);
    let plan = command::cloison(folder.path(), &["plan", "-f", "all.yaml"], "");
    assert_eq!((said.code, plan.code), (1, 1));
    let found = lines(&said);
    assert_eq!(found.len(), 2, "{said:?}");
    for line in found {
        assert!(
            line.starts_with("all.yaml:") && plan.out.contains(line),
            "{line}\n{}",
            plan.out
        );
    }
}

/// What is beside the folder makes its half of a path one, and answers for itself.
#[test]
fn what_is_read_beside_the_folder_is_known_and_not_judged() {
    let relay = OUT.replace("name: out", "name: old").replace("8080", "9090");
    let wrong = WORKLOAD
        .replace("name: road", "name: old")
        .replace("service: store", "service: nothing");
    let cluster = [base(), INTO.to_owned(), relay, wrong].join("---\n");
    let folder = folder(&[
        ("out.yaml", OUT),
        ("cluster/all.yaml", &cluster),
        ("policy.yaml", POLICY),
    ]);
    let alone = check(folder.path(), &["-f", "out.yaml", "--policy", "policy.yaml"]);
    let unseen = "out.yaml:3:34 metadata.namespace: Unknown NET-03/unseen namespace \"train\" is not in the input: of what stage it \
                  is, and so what this policy opens, is not known; add the Namespace to the input, or name where it is with \
                  --with (ANSSI R12)";
    assert_eq!((alone.code, lines(&alone)), (0, vec![unseen]), "{alone:?}");
    let with = check(folder.path(), &["-f", "out.yaml", "--with", "cluster"]);
    let path = PATH.replace("into.yaml:9:7", "cluster/all.yaml:49:7");
    assert_eq!((with.code, lines(&with)), (1, vec![path.as_str()]), "{with:?}");
    // The control: judged itself, the cluster has a path and a workload that is wrong.
    let all = check(folder.path(), &["-f", "cluster"]);
    assert!(
        all.out.contains("train/old cluster/all.yaml") && all.out.contains("NET-04/unknown-service"),
        "{all:?}"
    );
    // The folder's word counts where both hold an object.
    std::fs::write(folder.path().join("into.yaml"), INTO.replace("training", "evaluation")).unwrap();
    let mended = check(
        folder.path(),
        &["-f", "out.yaml", "-f", "into.yaml", "--with", "cluster"],
    );
    assert_eq!(
        (mended.code, mended.out.lines().next()),
        (0, Some("no findings")),
        "{mended:?}"
    );
}

#[test]
fn what_cannot_be_seen_is_unknown_and_never_fine() {
    let cilium =
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: l7, namespace: serve}\nspec: {}\n";
    let node = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: agent, namespace: train}\nspec:\n  template:\n    metadata: \
                {labels: {app: agent}}\n    spec: {hostNetwork: true, containers: [{name: c}]}\n";
    let block = OUT.replace(
        "namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}",
        "ipBlock: {cidr: 10.1.0.0/16}",
    );
    let folder = folder(&[
        ("all.yaml", &base()),
        ("cilium.yaml", cilium),
        ("node.yaml", node),
        ("block.yaml", &block),
    ]);
    let said = check(
        folder.path(),
        &[
            "-f",
            "all.yaml",
            "-f",
            "cilium.yaml",
            "-f",
            "node.yaml",
            "-f",
            "block.yaml",
        ],
    );
    assert_eq!(said.code, 0, "unknown is no finding: {said:?}");
    let found = lines(&said);
    for wanted in [
        "cilium.yaml:2:7 kind: Unknown NET-03/unmodelled CiliumNetworkPolicy.cilium.io is not modelled: what it opens or closes is \
         not known; restate the policy as a NetworkPolicy, or accept Unknown (ANSSI R12)",
        "node.yaml:1:1: Unknown NET-03/unseen its pods are on the network of their node, which no NetworkPolicy isolates: what \
         they reach is not known; remove hostNetwork (ANSSI R12)",
    ] {
        assert!(found.contains(&wanted), "{wanted}\n{}", said.out);
    }
    for starts in [
        "all.yaml:5:1: Unknown NET-03/unmodelled whether a pod in ",
        "all.yaml:1:1: Unknown NET-03/cni-dependent whether a pod in train ",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(starts)),
            "{starts}\n{}",
            said.out
        );
    }
    assert!(said.out.contains("\nno findings, 4 unknown\n"), "{}", said.out);
}

#[test]
fn every_document_is_judged_and_none_is_dropped() {
    let policy = |name: &str, rule: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: train}}\nspec:\n  podSelector: {{}}\n  {rule}\n"
        )
    };
    let bad = [
        policy("typo", "egres: []"),
        policy("deep", "ingress: [{from: [{podSelector: {matchLabel: {a: b}}}]}]"),
        "kind: [\n".to_owned(),
        policy(
            "family",
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/64']}}]}]",
        ),
        policy("nothing", "egress: [{to: [{}]}]"),
        policy("port", "egress: [{ports: [{port: 70000}]}]"),
        policy("twice", "policyTypes: [Ingress]"),
        policy("twice", "policyTypes: [Egress]"),
    ];
    let folder = folder(&[
        ("base.yaml", &base()),
        ("out.yaml", OUT),
        ("into.yaml", INTO),
        ("bad.yaml", &bad.join("---\n")),
    ]);
    let said = check(
        folder.path(),
        &["-f", "bad.yaml", "-f", "base.yaml", "-f", "out.yaml", "-f", "into.yaml"],
    );
    assert_eq!(said.code, 2, "{said:?}");
    let wanted = [
        "bad.yaml:6:10 spec.egres: unknown field `egres`",
        "bad.yaml:13:48 spec.ingress[0].from[0].podSelector.matchLabel: unknown field `matchLabel`",
        "bad.yaml:15:7: unclosed bracket",
        "bad.yaml:21:3 spec: NetworkPolicy train/family cannot be read: \"fd00::/64\" is not inside \"10.0.0.0/8\"",
        "bad.yaml:28:3 spec: NetworkPolicy train/nothing cannot be read: a peer is an ipBlock, or selectors, and not nothing",
        "bad.yaml:35:3 spec: NetworkPolicy train/port cannot be read: 70000 is not a port",
        "bad.yaml:47:18 metadata.name: NetworkPolicy twice was already read from bad.yaml:38:1",
    ];
    let told: Vec<&str> = said.err.lines().collect();
    assert_eq!(told.len(), wanted.len(), "{}", said.err);
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.starts_with(wanted), "{wanted}\n{}", said.err);
    }
    assert!(said.out.contains(PATH), "the rest is judged: {}", said.out);
    assert!(said.out.contains("not readable"), "{}", said.out);
}

/// Bounded, and every rule counts: the hole is the last of them.
#[test]
fn ten_thousand_rules_in_one_policy_are_all_looked_at() {
    let mut many = OUT.replace("name: out", "name: many");
    for port in 1..=9_999 {
        writeln!(
            many,
            "  - to: [{{podSelector: {{matchLabels: {{app: a{port}}}}}, namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: \
             train}}}}}}]\n    ports: [{{port: {port}}}]"
        )
        .unwrap();
    }
    let hole = "  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: serve}}}]\n    ports: [{port: 10000}]\n";
    let first =
        "  - to:\n    - namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}\n    ports: [{port: 8080}]\n";
    let many = many.replace(first, "") + hole;
    let folder = folder(&[("base.yaml", &base()), ("into.yaml", INTO), ("many.yaml", &many)]);
    let (code, findings) = json_of(folder.path(), &["-f", "."]);
    // The door's own expressions are evaluated for policies of a size that people write.
    let said: Vec<(&str, Option<&str>)> = findings
        .iter()
        .map(|finding| (finding["rule"].as_str().unwrap(), finding["at"]["field"].as_str()))
        .collect();
    let path = ("NET-03/path", Some("spec.egress[9999].to[0]"));
    assert_eq!((code, said), (1, vec![path, ("NET-10/unjudged", None)]));
    // And all of them against some hundreds at the other end.
    let mut other = INTO.replace("name: into", "name: many");
    for port in 1..=300 {
        writeln!(
            other,
            "  - from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: train}}}}}}]\n    ports: [{{port: {}}}]",
            port + 20_000
        )
        .unwrap();
    }
    let out = many.replace(
        "kubernetes.io/metadata.name: train",
        "kubernetes.io/metadata.name: serve",
    );
    let other = other.replace(
        "    - namespaceSelector: {matchLabels: {cloison.dev/stage: training}}\n",
        "    - podSelector: {}\n",
    );
    std::fs::write(folder.path().join("into.yaml"), other).unwrap();
    std::fs::write(folder.path().join("many.yaml"), out).unwrap();
    let (code, findings) = json_of(folder.path(), &["-f", "."]);
    let paths = findings.iter().filter(|finding| finding["rule"] != "NET-10/unjudged");
    assert_eq!((code, paths.count()), (0, 0), "no port in common: {findings:?}");
}

/// What a pipeline is told is what the controller would say of the same objects.
#[test]
fn the_verdict_is_that_of_the_controller() {
    use cloison::api::policy::AiSecurityPolicySpec;
    use cloison::controller::{facts_of, workload_facts};
    use cloison::network::reach::Isolation;
    use cloison::network::world::World;
    use cloison::network::{policies, verdict};

    let audit = NAMESPACES.replacen("cloison.dev/mode: enforce", "cloison.dev/mode: audit", 1);
    let only_train = [POLICY, WORKLOAD, OUT, INTO].map(str::to_owned).to_vec();
    let wide = INTO.replace(
        "namespaceSelector: {matchLabels: {cloison.dev/stage: training}}",
        "namespaceSelector: {}",
    );
    let block = OUT.replace(
        "namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}",
        "ipBlock: {cidr: 10.1.0.0/16}",
    );
    let cases: Vec<Vec<String>> = vec![
        vec![NAMESPACES.to_owned(), POLICY.to_owned(), WORKLOAD.to_owned()],
        [vec![NAMESPACES.to_owned()], only_train.clone()].concat(),
        [vec![audit.clone()], only_train].concat(),
        vec![NAMESPACES.to_owned(), POLICY.to_owned(), wide],
        vec![audit, POLICY.to_owned(), OUT.to_owned()],
        vec![NAMESPACES.to_owned(), POLICY.to_owned(), block],
    ];
    let mut seen = BTreeSet::new();
    for case in cases {
        let text = case.join("---\n");
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let of = |kind: &'static str| objects.iter().filter(move |object| object["kind"] == kind).cloned();
        let spec: AiSecurityPolicySpec =
            serde_json::from_value(of("AiSecurityPolicy").next().unwrap()["spec"].clone()).unwrap();
        let mut world = World::default();
        for namespace in of("Namespace") {
            let facts = facts_of(&serde_json::from_value(namespace).unwrap(), &spec);
            world.namespaces.insert(facts.name.clone(), facts);
        }
        for workload in of("AiWorkload") {
            let facts = workload_facts(&serde_json::from_value(workload).unwrap()).unwrap();
            world.workloads.insert(facts.key.clone(), facts);
        }
        world.policy = std::sync::Arc::new(spec);
        // What is stored once the operator has done its work.
        let enforced = |namespace: &str| world.namespaces[namespace].mode == cloison::api::stage::Mode::Enforce;
        let mut stored: Vec<k8s_openapi::api::networking::v1::NetworkPolicy> = of("NetworkPolicy")
            .map(|policy| serde_json::from_value(policy).unwrap())
            .collect();
        let ours = policies::all(&world).into_iter();
        stored.extend(ours.filter(|policy| enforced(policy.metadata.namespace.as_deref().unwrap())));
        let analysis = verdict::of(&world, &stored, &[]);

        let folder = folder(&[("all.yaml", &text)]);
        let (_, findings) = json_of(folder.path(), &["-f", "all.yaml"]);
        let told = |rule: &str| findings.iter().any(|finding| finding["rule"] == rule);
        let verdicts: Vec<&Isolation> = analysis.namespaces.values().collect();
        let open = verdicts
            .iter()
            .any(|verdict| matches!(verdict, Isolation::PathExists(_)));
        let unknown = verdicts
            .iter()
            .any(|verdict| matches!(verdict, Isolation::Unknown { .. }));
        assert_eq!(
            (told("NET-03/path"), told("NET-03/cni-dependent")),
            (open, unknown),
            "{text}\n{findings:#?}"
        );
        // The very witness of the verdict is among the paths.
        for verdict in verdicts {
            if let Isolation::PathExists(witness) = verdict {
                let start = witness.to_string();
                let start = start.split(": allowed by ").next().unwrap();
                let said = findings
                    .iter()
                    .any(|finding| finding["message"].as_str().unwrap().starts_with(start));
                assert!(said, "{start}\n{findings:#?}");
            }
        }
        seen.insert((open, unknown));
    }
    assert_eq!(
        seen,
        BTreeSet::from([(false, false), (true, false), (false, true)]),
        "the cases are of every kind"
    );
}

/// A chain of permitted connections is told and, by the catalogue's mode, against nothing.
#[test]
fn a_relay_between_two_stages_is_reported_and_enforced_only_on_demand() {
    let policy = POLICY.to_owned()
        + "    sources:\n    - {name: edge, kind: Gateway, from: {namespace: store}, ports: [{port: 8000}]}\n";
    let model = WORKLOAD
        .replace("name: road, namespace: train", "name: model, namespace: serve")
        .replace("stage: Training", "stage: Inference")
        .replace("connectTo:\n    - service: store", "acceptFrom:\n    - source: edge");
    let folder = folder(&[("all.yaml", &[NAMESPACES, &policy, WORKLOAD, &model].join("---\n"))]);
    let said = check(folder.path(), &["-f", "."]);
    let chain = "./all.yaml:5:1: High NET-03/relay a pod in train with labels {cloison.dev/workload: road} can reach a \
                 pod in serve with labels {cloison.dev/workload: model} through a relay: to a pod in store with labels {app: minio} \
                 (catalogue service store) on TCP 9000, allowed by train/cloison-wl-road egress[2].to[0] and store by default (no \
                 policy isolates the pod); from there on TCP 8000, allowed by store by default (no policy isolates the pod) and \
                 serve/cloison-wl-model ingress[1].from[0]; split the relay, or restrict who reaches it (ANSSI R12)";
    assert_eq!((said.code, lines(&said)), (0, vec![chain]), "{said:?}");
    // What only the policy names may have policies that nobody sees here.
    let store = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: store}\n";
    let unseen = [NAMESPACES, &policy, WORKLOAD, &model].join("---\n").replace(store, "");
    std::fs::write(folder.path().join("all.yaml"), unseen).unwrap();
    let unseen = check(folder.path(), &["-f", "."]);
    assert_eq!(
        (unseen.code, unseen.out.lines().next()),
        (0, Some("no findings")),
        "{unseen:?}"
    );
    assert!(
        unseen.out.contains("note: namespace store is not in the input"),
        "{unseen:?}"
    );
    std::fs::write(
        folder.path().join("all.yaml"),
        [NAMESPACES, &policy, WORKLOAD, &model].join("---\n"),
    )
    .unwrap();
    // Beside what is judged, it is for others to hear.
    std::fs::create_dir(folder.path().join("cluster")).unwrap();
    std::fs::rename(folder.path().join("all.yaml"), folder.path().join("cluster/all.yaml")).unwrap();
    std::fs::write(
        folder.path().join("own.yaml"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: own}\n",
    )
    .unwrap();
    let beside = check(folder.path(), &["-f", "own.yaml", "--with", "cluster"]);
    assert_eq!(
        (beside.code, beside.out.lines().next()),
        (0, Some("no findings")),
        "{beside:?}"
    );
    // An organisation may enforce it.
    let strict = policy.replace("controls: [", "controls: [{id: NET-03, mode: Enforce}, ");
    let all = [NAMESPACES, &strict, WORKLOAD, &model].join("---\n");
    std::fs::write(folder.path().join("cluster/all.yaml"), all).unwrap();
    let enforced = check(folder.path(), &["-f", "cluster"]);
    assert_eq!((enforced.code, lines(&enforced).len()), (1, 1), "{enforced:?}");
    // A policy on the relay's namespace closes the chain.
    let closed = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed, namespace: store}\nspec: \
                  {podSelector: {matchLabels: {app: minio}}, policyTypes: [Egress]}\n";
    std::fs::write(folder.path().join("cluster/closed.yaml"), closed).unwrap();
    let split = check(folder.path(), &["-f", "cluster"]);
    // What is left goes round it: the DNS server and another pod of that namespace.
    assert!(!split.out.contains("(catalogue service store)"), "{split:?}");
    assert!(
        split
            .out
            .contains("through 2 relays: to a pod in kube-system with labels {k8s-app: kube-dns} (DNS)"),
        "{split:?}"
    );
}
