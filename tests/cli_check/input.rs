//! What `cloison check` is given: what is read beside, what it cannot see, what it cannot read, and very much of it.

use std::fmt::Write as _;

use crate::check::{INTO, OUT, PATH, POLICY, WORKLOAD, base, check, folder, json_of, lines};

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
                {labels: {app: agent, cloison.dev/workload: road}}\n    spec: {hostNetwork: true, serviceAccountName: agent, automountServiceAccountToken: false, containers: [{name: c}]}\n";
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
    let found = lines(&said);
    // What the door would refuse is told beside it, and is all that counts.
    let refused = "node.yaml:6:5 spec.template: Critical WKL-01/host-network the pod sets hostNetwork; remove hostNetwork (ANSSI R28)";
    assert!(said.code == 1 && found.contains(&refused), "{said:?}");
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
    assert!(said.out.contains("\n1 finding, 4 unknown\n"), "{}", said.out);
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
