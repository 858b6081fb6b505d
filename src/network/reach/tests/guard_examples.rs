//! The guard by example: what is told of one change, and in which words.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::traps::{self, with};
use crate::api::names;
use crate::api::stage::NamespaceStage::Inference;
use crate::network::policies;
use crate::network::reach::guard::{Change, Opened, Set, opened, opens_half, would_open};
use crate::network::testkit::{labels, policy};
use crate::network::world::World;

const HOLE: &str = "{podSelector: {matchLabels: {app: leak}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector:
    {matchLabels: {kubernetes.io/metadata.name: vision-infer}}}], ports: [{port: 80, endPort: 90}]}]}";

/// What a policy opens in a set that has a hole already.
fn changed(now: &[(&str, &str, &str)], change: &NetworkPolicy) -> String {
    let world = traps::cluster();
    let all = with(&world, now);
    told(&world, &all, Change::Apply(change))
}

fn told(world: &World, all: &[NetworkPolicy], change: Change<'_>) -> String {
    let set = Set {
        world,
        policies: all,
        unmodelled: &[],
    };
    match would_open(set, change) {
        None => "nothing".to_owned(),
        Some(Opened::Path(witness)) => witness.to_string(),
        Some(Opened::Perhaps { reason, .. }) => reason.to_owned(),
    }
}

#[test]
fn a_hole_may_be_narrowed_and_not_widened() {
    let now = [traps::OPEN_INGRESS, ("vision-train", "hole", HOLE)];
    let hole = |name: &str, was: &str, becomes: &str| policy("vision-train", name, &HOLE.replace(was, becomes));
    assert_eq!(changed(&now, &hole("hole", "endPort: 90", "endPort: 81")), "nothing");
    assert_eq!(
        changed(&now, &hole("hole", "app: leak", "app: leak, tier: x")),
        "nothing"
    );
    assert_eq!(
        changed(&now, &hole("second", "", "")),
        "nothing",
        "the same again is nothing new"
    );
    insta::assert_snapshot!(changed(&now, &hole("second", "endPort: 90", "endPort: 91")), @"a pod in vision-train with labels {app: leak} can reach a pod in vision-infer with labels {} on TCP 91: allowed by vision-train/second egress[0].to[0] and vision-infer/open ingress[0]");
    insta::assert_snapshot!(changed(&now, &hole("second", "app: leak", "tier: x")), @"a pod in vision-train with labels {tier: x} can reach a pod in vision-infer with labels {} on TCP 80-90: allowed by vision-train/second egress[0].to[0] and vision-infer/open ingress[0]");
    // What two rules opened together is not new in one.
    let split = [
        traps::OPEN_INGRESS,
        ("vision-train", "low", &HOLE.replace("endPort: 90", "endPort: 84")),
        ("vision-train", "high", &HOLE.replace("port: 80", "port: 85")),
    ];
    assert_eq!(changed(&split, &hole("whole", "", "")), "nothing");
    assert!(changed(&split, &hole("whole", "endPort: 90", "endPort: 95")).contains("on TCP 91-95"));
}

#[test]
fn the_second_half_opens_and_the_first_does_not() {
    let hole = policy("vision-train", "hole", HOLE);
    assert_eq!(changed(&[], &hole), "nothing", "the other end is closed");
    assert!(changed(&[traps::OPEN_INGRESS], &hole).starts_with("a pod in vision-train with labels {app: leak}"));
    let (namespace, name, spec) = traps::OPEN_INGRESS;
    let open = policy(namespace, name, spec);
    assert!(changed(&[("vision-train", "hole", HOLE)], &open).contains("can reach a pod in vision-infer"));
}

#[test]
fn taking_a_deny_away_opens() {
    let world = traps::cluster();
    let all = policies::all(&world);
    let delete = |name| Change::Delete {
        namespace: "vision-infer",
        name,
    };
    insta::assert_snapshot!(told(&world, &all, delete(names::DENY_POLICY)), @"a pod in vision-infer with labels {} can reach a pod in kube-system with labels {} on TCP 1-65535: allowed by vision-infer by default (no policy isolates the pod) and kube-system by default (no policy isolates the pod)");
    assert_eq!(
        told(&world, &all, delete("cloison-wl-w")),
        "nothing",
        "the deny is still there"
    );
    assert_eq!(told(&world, &all, delete("nobody")), "nothing");
}

#[test]
fn a_label_opens_what_a_selector_reads() {
    let world = traps::cluster();
    let from_team = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a, purpose: b}}}]}]}";
    let stages = "{podSelector: {}, policyTypes: [Ingress, Egress],
        ingress: [{from: [{namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}}]}],
        egress: [{to: [{namespaceSelector: {matchLabels: {cloison.dev/stage: inference}}}]}]}";
    let all = with(
        &world,
        &[("vision-infer", "team", from_team), ("vision-infer", "own", stages)],
    );
    let label = |namespace, text: &str| {
        let labels = labels(text);
        told(
            &world,
            &all,
            Change::Label {
                namespace,
                labels: &labels,
            },
        )
    };
    assert!(
        label("portal", "team=a purpose=b")
            .starts_with("a pod in portal with labels {} can reach a pod in vision-infer")
    );
    assert_eq!(label("portal", "team=a"), "nothing", "half of the labels");
    // That a namespace with these labels might be created was a path before: it is no news that one is.
    assert_eq!(label("new", "team=a purpose=b"), "nothing");
    assert_eq!(label("new", ""), "nothing");
    // The training namespace was never open to it, and its egress is closed all the same.
    assert_eq!(
        label("vision-train", "cloison.dev/stage=training team=a purpose=b"),
        "nothing"
    );
    // A stage turns a flow within a stage into one between two.
    let mut two = traps::cluster();
    two.stage("vision-more", Inference);
    let both = "{podSelector: {}, policyTypes: [Ingress, Egress],
        ingress: [{from: [{namespaceSelector: &both {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In,
            values: [vision-infer, vision-more]}]}}]}],
        egress: [{to: [{namespaceSelector: *both}]}]}";
    let all = with(&two, &[("vision-infer", "own", both), ("vision-more", "own", both)]);
    let moved = labels("cloison.dev/stage=evaluation");
    let change = Change::Label {
        namespace: "vision-more",
        labels: &moved,
    };
    let found = told(&two, &all, change);
    assert!(
        found.starts_with("a pod in vision-more with labels {} can reach a pod in vision-infer"),
        "{found}"
    );
    // And the first stage of a namespace is judged with its deny.
    let first = labels("cloison.dev/stage=training");
    let change = Change::Label {
        namespace: "portal",
        labels: &first,
    };
    assert_eq!(told(&world, &policies::all(&world), change), "nothing");
}

#[test]
fn a_possible_path_is_told_as_one_and_only_once() {
    let block = |cidr: &str| {
        let spec =
            format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}");
        policy("vision-train", "block", &spec)
    };
    assert_eq!(changed(&[], &block("10.244.0.0/16")), "CniDependent");
    assert_eq!(changed(&[], &block("203.0.113.0/24")), "nothing");
    let world = traps::cluster();
    let mut all = policies::all(&world);
    all.push(block("10.244.0.0/16"));
    let apply = |cidr: &str| told(&world, &all, Change::Apply(&block(cidr)));
    assert_eq!(apply("10.244.3.0/24"), "nothing", "narrower than what was open before");
    assert_eq!(apply("10.96.0.0/16"), "CniDependent", "elsewhere");
    let unreadable = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: nonsense}}]}]}";
    assert_eq!(
        changed(&[], &policy("vision-train", "bad", unreadable)),
        "UnreadablePolicy"
    );
}

#[test]
fn half_a_path_is_named_with_its_rule() {
    let world = traps::cluster();
    let half = |namespace: &str, spec: &str| {
        let found = opens_half(&world, &policy(namespace, "own", spec));
        found.map_or_else(|| "none".to_owned(), |half| half.to_string())
    };
    let egress = |peer: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}]}}]}}");
    insta::assert_snapshot!(half("vision-train", HOLE), @"vision-train/own egress[0].to[0] lets pods of vision-train reach pods in vision-infer, which is of stage inference");
    insta::assert_snapshot!(half("vision-infer", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}, {}]}"), @"vision-infer/own ingress[1] lets pods in kube-system reach pods of vision-infer");
    insta::assert_snapshot!(half("vision-train", &egress("{namespaceSelector: {matchLabels: {team: x}}}")), @"vision-train/own egress[0].to[0] lets pods of vision-train reach pods in a namespace created later with labels {team: x}");
    insta::assert_snapshot!(half("vision-train", &egress("{ipBlock: {cidr: 10.244.0.0/16}}")), @"vision-train/own egress[0].to[0] lets pods of vision-train reach addresses that may be those of pods in kube-system");
    insta::assert_snapshot!(half("vision-train", &egress("{ipBlock: {cidr: nonsense}}")), @r#"vision-train/own cannot be read: "nonsense" is not a network"#);
    insta::assert_snapshot!(half("nowhere", "{podSelector: {}}"), @r#"nowhere/own is in namespace "nowhere", of which nothing is known"#);
    for fine in [
        egress("{podSelector: {matchLabels: {app: x}}}"),
        egress("{ipBlock: {cidr: 203.0.113.0/24}}"),
        egress("{namespaceSelector: {matchLabels: {cloison.dev/stage: training}}}"),
        "{podSelector: {}, policyTypes: [Ingress, Egress]}".to_owned(),
    ] {
        assert_eq!(half("vision-train", &fine), "none", "{fine}");
    }
    assert_eq!(half("mlops", "{podSelector: {}, ingress: [{}]}"), "none");
}

#[test]
fn every_two_rules_that_make_a_path_are_told() {
    let world = traps::cluster();
    let second = HOLE.replace("app: leak", "app: other");
    let holes = [("vision-train", "hole", HOLE), ("vision-train", "second", &second)];
    let (before, now) = (
        with(&world, &holes),
        with(&world, &[holes.as_slice(), &[traps::OPEN_INGRESS]].concat()),
    );
    let set = |policies| Set {
        world: &world,
        policies,
        unmodelled: &[],
    };
    let all = opened(set(&before), set(&now));
    let rules: Vec<String> = all
        .iter()
        .map(|opened| match opened {
            Opened::Path(witness) => format!("{} + {}", witness.egress, witness.ingress),
            Opened::Perhaps { reason, .. } => (*reason).to_owned(),
        })
        .collect();
    // The hole in the inference stage leads in from everywhere.
    for hole in ["hole", "second"] {
        let wanted = format!("vision-train/{hole} egress[0].to[0] + vision-infer/open ingress[0]");
        assert!(rules.contains(&wanted), "{rules:#?}");
    }
    assert_eq!(opened(set(&now), set(&before)), [], "closing opens nothing");
    assert_eq!(opened(set(&now), set(&now)), []);
}
