//! What is forbidden, what the organisation permits, and what nobody can know: the verdicts beyond the words of
//! NetworkPolicy itself.

use crate::api::stage::NamespaceStage::{Evaluation, Training};
use crate::api::workload::Runtime::{Generic, VLLM};
use crate::network::policies;
use crate::network::reach::{UnmodelledPolicy, analyse};

use super::traps::{cluster, inference, said, training, verdicts, with};

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
