//! The traps of NetworkPolicy, one by one (`reference/network.md` §1), and what the verdict says in each.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::stage::NamespaceStage::{Evaluation, Inference, Shared, Training};
use crate::api::workload::Runtime::{Generic, VLLM};
use crate::network::policies;
use crate::network::reach::{Analysis, Isolation, UnmodelledPolicy, analyse};
use crate::network::testkit::{policy, world};
use crate::network::world::World;

fn cluster() -> World {
    let mut world = world();
    world
        .stage("vision-train", Training)
        .stage("vision-infer", Inference)
        .stage("mlops", Shared)
        .plain("portal", "team=web")
        .policy(
            "
services:
- {name: mlflow, to: {namespace: mlops, podLabels: {app: mlflow}}, ports: [{port: 5000}]}
sources:
- {name: edge, kind: Gateway, from: {namespace: portal, podLabels: {app: envoy}}}",
        )
        .workload(
            "vision-train",
            "w",
            Generic,
            "connectTo: [{service: mlflow}, {service: kubernetes-api}]",
        )
        .workload("vision-infer", "w", VLLM, "acceptFrom: [{source: edge}]");
    world
}

/// Our own policies and these: (namespace, name, spec).
fn with(world: &World, others: &[(&str, &str, &str)]) -> Vec<NetworkPolicy> {
    let mut all = policies::all(world);
    all.extend(
        others
            .iter()
            .map(|(namespace, name, spec)| policy(namespace, name, spec)),
    );
    all
}

fn verdicts(others: &[(&str, &str, &str)]) -> Analysis {
    let world = cluster();
    analyse(&world, &with(&world, others), &[])
}

fn said(analysis: &Analysis, namespace: &str) -> String {
    match &analysis.namespaces[namespace] {
        Isolation::Isolated => "isolated".to_owned(),
        Isolation::Unknown { reason, message } => format!("{reason}: {message}"),
        Isolation::PathExists(witness) => witness.to_string(),
    }
}

fn training(spec: &str) -> String {
    said(&verdicts(&[("vision-train", "other", spec)]), "vision-train")
}

fn inference(spec: &str) -> String {
    said(&verdicts(&[("vision-infer", "other", spec)]), "vision-infer")
}

const OPEN_INGRESS: (&str, &str, &str) = ("vision-infer", "open", "{podSelector: {}, ingress: [{}]}");

#[test]
fn what_we_render_isolates() {
    let analysis = verdicts(&[]);
    assert_eq!(
        analysis.namespaces.keys().collect::<Vec<_>>(),
        ["vision-infer", "vision-train"]
    );
    assert!(
        analysis
            .namespaces
            .values()
            .all(|verdict| *verdict == Isolation::Isolated),
        "{analysis:?}"
    );
    assert!(analysis.findings.is_empty());
}

#[test]
fn a_hostile_policy_is_found_before_any_pod_exists() {
    let hostile = (
        "vision-train",
        "hostile",
        "{podSelector: {matchLabels: {app: x}}, policyTypes: [Egress],
          egress: [{to: [{namespaceSelector: {matchExpressions:
            [{key: cloison.dev/stage, operator: NotIn, values: [training]}]}}]}]}",
    );
    let open = (
        "vision-infer",
        "open",
        "{podSelector: {matchLabels: {role: api}}, ingress: [{from: [{namespaceSelector: {}}], ports: [{port: 8000}]}]}",
    );
    let analysis = verdicts(&[hostile, open]);
    // Without the far half: still a path, to where nothing isolates.
    insta::assert_snapshot!(said(&verdicts(&[hostile]), "vision-train"), @"a pod in vision-train with labels {app: x} can reach a pod in kube-system with labels {} on TCP 1-65535: allowed by vision-train/hostile egress[0].to[0] and kube-system by default (no policy isolates the pod)");
    insta::assert_snapshot!(said(&analysis, "vision-infer"), @"a pod in vision-train with labels {app: x} can reach a pod in vision-infer with labels {role: api} on TCP 8000: allowed by vision-train/hostile egress[0].to[0] and vision-infer/open ingress[0].from[0]");
    let world = cluster();
    let mut only_stages = world.clone();
    only_stages.namespaces.retain(|_, namespace| namespace.stage.is_some());
    let analysis = analyse(&only_stages, &with(&only_stages, &[hostile, open]), &[]);
    insta::assert_snapshot!(said(&analysis, "vision-train"), @"a pod in vision-train with labels {app: x} can reach a pod in vision-infer with labels {role: api} on TCP 8000: allowed by vision-train/hostile egress[0].to[0] and vision-infer/open ingress[0].from[0]");
}

#[test]
fn one_half_of_a_path_between_stages_is_no_path() {
    let to_inference = "{podSelector: {}, policyTypes: [Egress],
        egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: vision-infer}}}]}]}";
    assert_eq!(training(to_inference), "isolated");
    let both = verdicts(&[("vision-train", "other", to_inference), OPEN_INGRESS]);
    assert!(
        said(&both, "vision-train").starts_with("a pod in vision-train with labels {} can reach a pod in vision-infer")
    );
}

#[test]
fn ports_must_meet() {
    let half = |port: &str| {
        format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{port}],
              to: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: vision-infer}}}}}}]}}]}}"
        )
    };
    let open = |port: &str| {
        format!(
            "{{podSelector: {{}}, ingress: [{{ports: [{port}],
              from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: vision-train}}}}}}]}}]}}"
        )
    };
    for (egress, ingress, ports) in [
        ("{port: 80}", "{port: 81}", None),
        ("{port: 80, protocol: UDP}", "{port: 80}", None),
        ("{port: 80, endPort: 90}", "{port: 90, endPort: 99}", Some("TCP 90")),
        ("{port: http}", "{port: 90}", Some("TCP 90")),
        ("{port: http}", "{port: metrics}", Some("TCP 1-65535")),
        ("{port: http, protocol: SCTP}", "{port: 90}", None),
        ("{protocol: UDP}", "{port: 53, protocol: UDP}", Some("UDP 53")),
    ] {
        let (egress, ingress) = (half(egress), open(ingress));
        let analysis = verdicts(&[("vision-train", "a", &egress), ("vision-infer", "b", &ingress)]);
        match ports {
            None => assert_eq!(said(&analysis, "vision-train"), "isolated", "{egress} {ingress}"),
            Some(ports) => assert!(said(&analysis, "vision-train").contains(&format!(" on {ports}: "))),
        }
    }
}

#[test]
fn missing_and_empty_peers_are_everyone_and_no_rule_is_no_one() {
    for open in [
        "ingress: [{}]",
        "ingress: [{from: []}]",
        "ingress: [{ports: [{port: 80}]}]",
        "egress: [{}], policyTypes: [Egress]",
    ] {
        let said = inference(&format!("{{podSelector: {{}}, {open}}}"));
        assert!(said.starts_with("a pod in "), "{open}: {said}");
    }
    for closed in [
        "ingress: []",
        "policyTypes: [Ingress]",
        "egress: [], policyTypes: [Ingress, Egress]",
    ] {
        assert_eq!(
            inference(&format!("{{podSelector: {{}}, {closed}}}")),
            "isolated",
            "{closed}"
        );
    }
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_where_there_are_rules() {
    let world = cluster();
    let bare = |spec: &str| {
        let mut all = policies::all(&world);
        let deny = |policy: &NetworkPolicy| policy.metadata.name.as_deref() == Some("cloison-ns-deny");
        all.retain(|policy| policy.metadata.namespace.as_deref() != Some("vision-train") || !deny(policy));
        all.push(policy("vision-train", "deny", spec));
        said(&analyse(&world, &all, &[]), "vision-train")
    };
    assert_eq!(bare("{podSelector: {}, policyTypes: [Ingress, Egress]}"), "isolated");
    // No types and no egress rules: egress is open.
    assert!(bare("{podSelector: {}}").contains("vision-train by default"));
    assert!(bare("{podSelector: {}, policyTypes: [Egress]}").contains("vision-train by default"));
    // No types and an egress rule: both are isolated.
    let own = "{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}";
    assert_eq!(bare(own), "isolated");
    // A rule in a direction that the types leave out is no rule.
    assert_eq!(
        bare("{podSelector: {}, policyTypes: [Ingress, Egress], egress: []}"),
        "isolated"
    );
    let unused = "{podSelector: {}, policyTypes: [Ingress], egress: [{}]}";
    assert_eq!(inference(unused), "isolated");
}

#[test]
fn without_the_deny_a_namespace_is_not_isolated_by_default() {
    let world = cluster();
    let mut all = policies::all(&world);
    all.retain(|policy| {
        policy.metadata.name.as_deref() != Some("cloison-ns-deny")
            || policy.metadata.namespace.as_deref() != Some("vision-train")
    });
    let analysis = analyse(&world, &all, &[]);
    insta::assert_snapshot!(said(&analysis, "vision-train"), @"a pod in vision-train with labels {} can reach a pod in kube-system with labels {} on TCP 1-65535: allowed by vision-train by default (no policy isolates the pod) and kube-system by default (no policy isolates the pod)");
    assert_eq!(said(&analysis, "vision-infer"), "isolated");
    // Would-be mode: the deny is in the set.
    all.push(policies::deny("vision-train", Training));
    assert_eq!(said(&analyse(&world, &all, &[]), "vision-train"), "isolated");
}

#[test]
fn two_policies_that_leave_no_pod_out_isolate_as_well_as_one() {
    let world = cluster();
    let mut all = policies::all(&world);
    all.retain(|policy| {
        policy.metadata.name.as_deref() != Some("cloison-ns-deny")
            || policy.metadata.namespace.as_deref() != Some("vision-train")
    });
    let part = |operator: &str| {
        format!(
            "{{podSelector: {{matchExpressions: [{{key: a, operator: {operator}, values: [x]}}]}},
              policyTypes: [Ingress, Egress]}}"
        )
    };
    all.push(policy("vision-train", "one", &part("In")));
    assert!(said(&analyse(&world, &all, &[]), "vision-train").starts_with("a pod in"));
    all.push(policy("vision-train", "two", &part("NotIn")));
    assert_eq!(said(&analyse(&world, &all, &[]), "vision-train"), "isolated");
}

#[test]
fn not_in_matches_what_lacks_the_key() {
    let not_in = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions:
        [{key: team, operator: NotIn, values: [web]}]}}]}]}";
    // kube-system has no `team`.
    assert!(inference(not_in).starts_with("a pod in kube-system with labels {} can reach a pod in vision-infer"));
}

#[test]
fn a_forged_namespace_name_is_not_believed() {
    let mut world = cluster();
    let portal = world.namespaces.get_mut("portal").unwrap();
    portal
        .labels
        .insert("kubernetes.io/metadata.name".to_owned(), "vision-train".to_owned());
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels:
        {kubernetes.io/metadata.name: portal}}}]}]}";
    let analysis = analyse(&world, &with(&world, &[("vision-infer", "other", spec)]), &[]);
    assert!(said(&analysis, "vision-infer").starts_with("a pod in portal"));
}

#[test]
fn a_namespace_that_somebody_may_create_counts() {
    let wanted = "{podSelector: {matchLabels: {app: api}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}},
        namespaceSelector: {matchExpressions: [{key: purpose, operator: In, values: [demo]}]}}]}]}";
    insta::assert_snapshot!(inference(wanted), @"a pod in a namespace created later with labels {purpose: demo}, itself with labels {app: web} can reach a pod in vision-infer with labels {app: api} on TCP 1-65535: allowed by the new namespace by default (it has no policy) and vision-infer/other ingress[0].from[0]");
    let by_name = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels:
        {kubernetes.io/metadata.name: ghost}}}]}]}";
    insta::assert_snapshot!(training(by_name), @"a pod in vision-train with labels {} can reach a pod in a namespace created later with labels {kubernetes.io/metadata.name: ghost}, itself with labels {} on TCP 1-65535: allowed by vision-train/other egress[0].to[0] and the new namespace by default (it has no policy)");
    // Only an admin gives a stage, and a namespace has a name.
    for never in [
        "{key: cloison.dev/stage, operator: Exists}",
        "{key: kubernetes.io/metadata.name, operator: DoesNotExist}",
        "{key: kubernetes.io/metadata.name, operator: In, values: [vision-infer]}",
    ] {
        let spec = format!(
            "{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {{matchExpressions: [{never}]}},
               podSelector: {{matchLabels: {{a: b}}}}}}]}}]}}"
        );
        let mut world = cluster();
        world.namespaces.retain(|name, _| name != "mlops");
        let analysis = analyse(&world, &with(&world, &[("vision-infer", "other", &spec)]), &[]);
        assert_eq!(said(&analysis, "vision-infer"), "isolated", "{never}");
    }
}

#[test]
fn a_shared_namespace_is_reached_through_the_catalogue_only() {
    let to_mlops = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector:
        {matchLabels: {kubernetes.io/metadata.name: mlops}}}]}]}";
    // Its own deny lets in only those that declare the service.
    assert_eq!(training(to_mlops), "isolated");
    let open = ("mlops", "open", "{podSelector: {}, ingress: [{}]}");
    let analysis = verdicts(&[("vision-train", "other", to_mlops), open]);
    assert!(said(&analysis, "vision-train").contains("a pod in mlops"));
    // What its owners open does not matter while the stage lets out only what it declared.
    assert_eq!(said(&verdicts(&[open]), "vision-train"), "isolated");
}

#[test]
fn nothing_comes_into_a_stage_from_a_shared_namespace() {
    let from_mlops = "{podSelector: {}, ingress: [{from: [{namespaceSelector:
        {matchLabels: {kubernetes.io/metadata.name: mlops}}}], ports: [{port: 8000}]}]}";
    assert!(inference(from_mlops).starts_with("a pod in mlops with labels {} can reach a pod in vision-infer"));
}

#[test]
fn less_than_what_the_policy_permits_is_permitted() {
    let edge = "{podSelector: {matchLabels: {cloison.dev/workload: w, app: api}}, ingress: [{ports: [{port: 8000}],
        from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: portal}},
                podSelector: {matchLabels: {app: envoy, tier: front}}}]}]}";
    assert_eq!(inference(edge), "isolated");
    for (was, becomes) in [
        ("port: 8000", "port: 8001"),
        ("app: envoy", "app: other"),
        ("workload: w", "workload: v"),
    ] {
        let more = edge.replace(was, becomes);
        assert!(inference(&more).starts_with("a pod in portal"), "{more}");
    }
    let dns = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}],
        to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}},
              podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}";
    assert_eq!(
        training(dns),
        "isolated",
        "a chart that asks the cluster's DNS does no harm"
    );
    let anywhere = "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}],
        to: [{namespaceSelector: {}}]}]}";
    assert!(
        training(anywhere).contains(" on UDP 53: "),
        "port 53 anywhere is a path"
    );
}

#[test]
fn a_stale_policy_of_ours_is_judged_like_any_other() {
    let mut before = cluster();
    before.workload(
        "vision-infer",
        "w",
        VLLM,
        "acceptFrom: [{source: edge, ports: [{port: 1, endPort: 9}]}]",
    );
    let stale = policies::all(&before);
    let analysis = analyse(&cluster(), &stale, &[]);
    assert!(said(&analysis, "vision-infer").contains("on TCP 1-9: allowed by portal by default"));
    // One that opens less than it should is no path.
    let mut fewer = cluster();
    fewer.workload("vision-infer", "w", VLLM, "");
    assert_eq!(
        said(&analyse(&cluster(), &policies::all(&fewer), &[]), "vision-infer"),
        "isolated"
    );
}

#[test]
fn an_ip_block_is_outside_or_nobody_knows() {
    let to = |cidr: &str| {
        format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {cidr}}}], ports: [{{port: 443}}]}}]}}"
        )
    };
    let outside = verdicts(&[("vision-train", "other", &to("{cidr: 203.0.113.0/24}"))]);
    assert_eq!(said(&outside, "vision-train"), "isolated");
    let findings: Vec<String> = outside.findings["vision-train"]
        .iter()
        .map(|finding| finding.rule.to_string())
        .collect();
    assert_eq!(findings, ["NET-09/widening"]);
    insta::assert_snapshot!(training(&to("{cidr: 10.244.0.0/16}")), @"CniDependent: whether a pod in vision-train can reach a pod in kube-system depends on vision-train/other egress[0].to[0]: its ipBlock meets the cluster's ranges, and CNIs disagree whether that matches pods");
    assert!(training(&to("{cidr: 0.0.0.0/0}")).starts_with("CniDependent"));
    let excepted = to("{cidr: 0.0.0.0/0, except: [10.244.0.0/16, 10.96.0.0/12, 192.168.7.0/24]}");
    assert_eq!(training(&excepted), "isolated");
    assert_eq!(
        training(&to("{cidr: 10.96.0.1/32}")),
        "isolated",
        "an API server is known to be no pod"
    );
    let mut world = cluster();
    world.cluster.ranges = None;
    let all = with(&world, &[("vision-train", "other", &to("{cidr: 203.0.113.0/24}"))]);
    insta::assert_snapshot!(said(&analyse(&world, &all, &[]), "vision-train"), @"CniDependent: whether a pod in vision-train can reach a pod in kube-system depends on vision-train/other egress[0].to[0]: its ipBlock may be one of pods, because the cluster's ranges are not known (spec.network.clusterCIDRs of the AiSecurityPolicy)");
    // Our own: the API servers and the DNS addresses are known.
    assert_eq!(
        said(&analyse(&world, &policies::all(&world), &[]), "vision-train"),
        "isolated"
    );
    world.workload(
        "vision-train",
        "v",
        Generic,
        "connectTo: [{cidr: 203.0.113.0/24, ports: [{port: 443}]}]",
    );
    assert!(said(&analyse(&world, &policies::all(&world), &[]), "vision-train").starts_with("CniDependent"));
}

#[test]
fn addresses_that_the_admin_named_are_permitted_but_two_of_them_may_join_two_stages() {
    let mut world = cluster();
    world
        .policy(
            "
services: [{name: nodes, to: {cidrs: [10.244.0.0/24]}, ports: [{port: 80}]}]
sources: [{name: ingress, kind: Gateway, from: {cidrs: [10.244.1.0/24]}, ports: [{port: 80}]}]",
        )
        .workload("vision-train", "w", Generic, "connectTo: [{service: nodes}]")
        .workload("vision-infer", "w", VLLM, "");
    assert_eq!(
        said(&analyse(&world, &policies::all(&world), &[]), "vision-train"),
        "isolated"
    );
    world.workload("vision-infer", "w", VLLM, "acceptFrom: [{source: ingress}]");
    let analysis = analyse(&world, &policies::all(&world), &[]);
    for namespace in ["vision-train", "vision-infer"] {
        assert!(said(&analysis, namespace).starts_with("CniDependent: whether a pod in vision-train can reach"));
    }
}

#[test]
fn a_certain_path_wins_over_a_possible_one() {
    let maybe = (
        "vision-train",
        "a",
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.0.0/16}}]}]}",
    );
    let certain = (
        "vision-train",
        "b",
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {team: web}}}]}]}",
    );
    assert!(
        said(&verdicts(&[maybe, certain]), "vision-train")
            .starts_with("a pod in vision-train with labels {} can reach")
    );
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_isolated() {
    let broken = |part: &str| format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{part}]}}]}}");
    for part in [
        "{}",
        "{ipBlock: {cidr: 10.0.0.0/33}}",
        "{ipBlock: {cidr: 010.0.0.0/8}}",
        "{ipBlock: {cidr: 203.0.113.0/24, except: [10.0.0.0/8]}}",
        "{ipBlock: {cidr: 203.0.113.0/24}, podSelector: {}}",
        "{podSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}",
        "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
    ] {
        assert!(training(&broken(part)).starts_with("UnreadablePolicy: "), "{part}");
    }
    for spec in [
        "{podSelector: {}, policyTypes: [Sideways]}",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 70000}]}]}",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{protocol: ICMP}]}]}",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{endPort: 9}]}]}",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 9, endPort: 8}]}]}",
    ] {
        assert!(training(spec).starts_with("UnreadablePolicy: "), "{spec}");
    }
    // Far away, it matters only to who has a half that leads there.
    let far = verdicts(&[("portal", "other", "{podSelector: {}, policyTypes: [Sideways]}")]);
    assert_eq!(said(&far, "vision-train"), "isolated");
}

#[test]
fn kinds_that_are_not_modelled_are_unknown_where_they_can_matter() {
    let world = cluster();
    let all = policies::all(&world);
    let unmodelled = |namespace: Option<&str>| {
        let other = UnmodelledPolicy {
            namespace: namespace.map(str::to_owned),
            kind: "CiliumNetworkPolicy".to_owned(),
        };
        analyse(&world, &all, &[other])
    };
    let here = unmodelled(Some("vision-train"));
    insta::assert_snapshot!(said(&here, "vision-train"), @"UnmodelledPolicy: whether a pod in vision-train can reach a pod in kube-system depends on CiliumNetworkPolicy in vision-train, which the analysis does not model");
    assert_eq!(said(&here, "vision-infer"), "isolated");
    assert_eq!(said(&unmodelled(Some("portal")), "vision-infer"), "isolated");
    let everywhere = unmodelled(None);
    for namespace in ["vision-train", "vision-infer"] {
        assert!(said(&everywhere, namespace).starts_with("UnmodelledPolicy: "));
    }
}

#[test]
fn a_selector_that_contradicts_itself_opens_nothing() {
    let never = "{matchLabels: {a: x}, matchExpressions: [{key: a, operator: DoesNotExist}]}";
    assert_eq!(
        inference(&format!("{{podSelector: {never}, ingress: [{{}}]}}")),
        "isolated"
    );
    let from =
        format!("{{podSelector: {{}}, ingress: [{{from: [{{namespaceSelector: {{}}, podSelector: {never}}}]}}]}}");
    assert_eq!(inference(&from), "isolated");
}

#[test]
fn the_same_stage_is_no_other_stage_and_evaluation_is_one() {
    let mut world = cluster();
    world.stage("nlp-train", Training).stage("vision-eval", Evaluation);
    let to = |stage: &str| {
        format!(
            "{{podSelector: {{}}, policyTypes: [Ingress, Egress],
              egress: [{{to: [{{namespaceSelector: {{matchLabels: {{cloison.dev/stage: {stage}}}}}}}]}}],
              ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{cloison.dev/stage: {stage}}}}}}}]}}]}}"
        )
    };
    let both = |stage: &str, other: &str, back: &str| {
        let specs = [("vision-train", "a", to(stage)), (other, "b", to(back))];
        let specs: Vec<(&str, &str, &str)> = specs
            .iter()
            .map(|(ns, name, spec)| (*ns, *name, spec.as_str()))
            .collect();
        said(&analyse(&world, &with(&world, &specs), &[]), "vision-train")
    };
    assert_eq!(both("training", "nlp-train", "training"), "isolated");
    assert!(both("evaluation", "vision-eval", "training").contains("a pod in vision-eval"));
}

#[test]
fn the_order_of_policies_changes_no_verdict() {
    let world = cluster();
    let mut all = with(
        &world,
        &[
            OPEN_INGRESS,
            (
                "vision-train",
                "out",
                "{podSelector: {}, policyTypes: [Egress], egress: [{}]}",
            ),
        ],
    );
    let first = analyse(&world, &all, &[]);
    all.reverse();
    assert_eq!(analyse(&world, &all, &[]), first);
    all.rotate_left(3);
    assert_eq!(analyse(&world, &all, &[]), first);
}
