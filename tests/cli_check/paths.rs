//! Paths between stages, flows that are cut, and chains through relays, each told with its place; and what is in order.

use std::collections::BTreeSet;

use crate::check::{INTO, NAMESPACES, OUT, PATH, POLICY, WORKLOAD, base, check, folder, json_of, lines};
use crate::command;
use serde_json::{Value, json};

#[test]
fn nothing_is_said_against_what_is_in_order() {
    let folder = folder(&[("base.yaml", &base())]);
    let said = check(folder.path(), &["-f", "."]);
    let first = said.out.lines().next();
    assert_eq!((said.code, first, said.err.as_str()), (0, Some("no findings"), ""));
    assert_eq!(said.out.lines().count(), 2, "and what is not judged: {}", said.out);
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
    assert!(said.out.contains("\n1 finding\nnote: "), "{}", said.out);
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
    let unknown = "Unknown NET-03/relay chains may lead through pods in store: the input has no such Namespace, and policies there are \
                   not known; add it, with its policies, to the input (ANSSI R12)";
    let told = lines(&unseen);
    assert_eq!((unseen.code, told.len()), (0, 1), "{unseen:?}");
    assert!(told[0].contains(unknown), "{unseen:?}");
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
