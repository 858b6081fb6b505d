//! ClusterNetworkPolicies, case by case: what each word of the API does to a verdict, and what is not claimed.

use serde_json::{Value, json};

use super::traps::{cluster, said, with};
use crate::api::network::Protocol;
use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot};
use crate::network::reach::explain::{Asked, OfCluster};
use crate::network::reach::{Analysis, analyse};
use crate::network::testkit::{labels, policy};

/// Both halves of a hole between the stages, as tenants would open it.
const OUT: (&str, &str, &str) = (
    "vision-train",
    "out",
    "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector:
        {matchLabels: {kubernetes.io/metadata.name: vision-infer}}}]}]}",
);
const IN: (&str, &str, &str) = (
    "vision-infer",
    "in",
    "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: vision-train}}}]}]}",
);

fn yaml(spec: &str) -> Value {
    serde_saphyr::from_str(spec).unwrap()
}

fn judged(policies: &[(&str, &str, &str)], of_cluster: &[(&str, &str)]) -> Analysis {
    let mut world = cluster();
    let read = |(name, spec): &(&str, &str)| ClusterNetworkPolicy::read(*name, yaml(spec));
    world.cluster_policies = of_cluster.iter().map(read).collect();
    analyse(&world, &with(&world, policies), &[])
}

/// The word on the inference namespace, with the hole and these policies.
fn through_the_hole(of_cluster: &[(&str, &str)]) -> String {
    said(&judged(&[OUT, IN], of_cluster), "vision-infer")
}

const DENY_TRAINING: &str =
    "{tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}},
    ingress: [{action: Deny, from: [{namespaces: {matchLabels: {cloison.dev/stage: training}}}]}]}";

#[test]
fn a_deny_between_stages_closes_what_tenants_open() {
    assert!(through_the_hole(&[]).starts_with("a pod in vision-train"));
    assert_eq!(through_the_hole(&[("wall", DENY_TRAINING)]), "isolated");
    // Only the direction it is written for, only its pods, only its ports.
    for (was, becomes) in [
        ("ingress: [{action: Deny, from", "egress: [{action: Deny, to"),
        ("tier: Admin", "tier: Baseline"),
        (
            "action: Deny,",
            "action: Deny, protocols: [{tcp: {destinationPort: {number: 80}}}],",
        ),
        (
            "subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}}",
            "subject: {pods: {podSelector: {matchLabels: {app: api}}}}",
        ),
        (
            "from: [{namespaces: {matchLabels: {cloison.dev/stage: training}}}]",
            "from: [{pods: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: Exists}]}}}]",
        ),
    ] {
        assert!(DENY_TRAINING.contains(was), "{was}");
        let other = DENY_TRAINING.replace(was, becomes);
        let said = through_the_hole(&[("wall", &other)]);
        assert!(said.starts_with("a pod in vision-train"), "{becomes}: {said}");
    }
}

#[test]
fn a_witness_gets_round_every_deny() {
    let spec = "{tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}},
        ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}}]},
                  {action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 1, end: 8000}}}}]},
                  {action: Deny, from: [{pods: {podSelector: {matchLabels: {app: x}}}}]}]}";
    insta::assert_snapshot!(through_the_hole(&[("wall", spec)]), @"a pod in vision-train with labels {app: x1} can reach a pod in vision-infer with labels {} on TCP 8001-65535: allowed by vision-train/out egress[0].to[0] and vision-infer/in ingress[0].from[0]");
}

#[test]
fn a_deny_of_one_port_leaves_what_is_beside_it() {
    let udp = OUT.2.replace("}}]}]}", "}}], ports: [{protocol: UDP}]}]}");
    assert_ne!(udp, OUT.2);
    let dns = "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{namespaces: {}}],
        protocols: [{udp: {destinationPort: {number: 53}}}]}]}";
    let said = said(&judged(&[(OUT.0, OUT.1, &udp), IN], &[("dns", dns)]), "vision-infer");
    assert!(said.contains("on UDP 1-52:"), "{said}");
}

#[test]
fn an_accept_opens_what_network_policies_close() {
    let open = "{tier: Admin, priority: 0, subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}},
        ingress: [{action: Accept, from: [{namespaces: {matchLabels: {cloison.dev/stage: training}}}]}]}";
    // One half alone is no path: the training namespace lets nothing out.
    assert_eq!(said(&judged(&[], &[("open", open)]), "vision-infer"), "isolated");
    insta::assert_snapshot!(said(&judged(&[OUT], &[("open", open)]), "vision-infer"), @"a pod in vision-train with labels {} can reach a pod in vision-infer with labels {} on TCP 1-65535: allowed by vision-train/out egress[0].to[0] and ClusterNetworkPolicy open ingress[0].from[0]");
    // A Pass before it leaves it to the NetworkPolicies; a Deny behind it does not matter.
    let passed = open.replace("ingress: [", "ingress: [{action: Pass, from: [{namespaces: {}}]}, ");
    assert_eq!(said(&judged(&[OUT], &[("open", &passed)]), "vision-infer"), "isolated");
    let all = [("open", open), ("wall", DENY_TRAINING)];
    assert!(said(&judged(&[OUT], &all), "vision-infer").contains("ClusterNetworkPolicy open ingress[0].from[0]"));
}

#[test]
fn a_pass_above_a_deny_leaves_it_to_the_network_policies() {
    let exception = "{tier: Admin, priority: 5, subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}},
        ingress: [{action: Pass, from: [{pods: {podSelector: {matchLabels: {app: eval}}}}]}]}";
    let all = [("exception", exception), ("wall", DENY_TRAINING)];
    insta::assert_snapshot!(through_the_hole(&all), @"a pod in vision-train with labels {app: eval} can reach a pod in vision-infer with labels {} on TCP 1-65535: allowed by vision-train/out egress[0].to[0] and vision-infer/in ingress[0].from[0]");
    assert_eq!(said(&judged(&[OUT], &all), "vision-infer"), "isolated");
}

#[test]
fn between_equal_priorities_nothing_is_claimed() {
    let exception = "{tier: Admin, priority: 10, subject: {namespaces: {matchLabels: {cloison.dev/stage: inference}}},
        ingress: [{action: Pass, from: [{namespaces: {matchLabels: {cloison.dev/stage: training}}}]}]}";
    let all = [("exception", exception), ("wall", DENY_TRAINING)];
    insta::assert_snapshot!(through_the_hole(&all), @"OrderUnspecified: whether a pod in vision-train can reach a pod in vision-infer depends on the order of ClusterNetworkPolicy exception ingress[0].from[0] and ClusterNetworkPolicy wall ingress[0].from[0], which is not specified: both have priority 10 in tier Admin");
    // What agrees is settled, whatever the order.
    let same = [("other", DENY_TRAINING), ("wall", DENY_TRAINING)];
    assert_eq!(through_the_hole(&same), "isolated");
}

#[test]
fn a_baseline_counts_only_where_no_network_policy_selects_the_pod() {
    let baseline = "{tier: Baseline, priority: 10, subject: {namespaces: {}},
        ingress: [{action: Deny, from: [{namespaces: {}}]}], egress: [{action: Deny, to: [{namespaces: {}}]}]}";
    let mut world = cluster();
    world.cluster_policies = vec![ClusterNetworkPolicy::read("base", yaml(baseline))];
    let out = policy("vision-train", "out", OUT.2);
    // Nothing isolates the inference pods: the baseline does.
    let bare = vec![out.clone()];
    let verdict = analyse(&world, &bare, &[]);
    assert_eq!(said(&verdict, "vision-infer"), "isolated");
    // Selected for egress alone: implementations disagree.
    let elsewhere = policy("vision-infer", "egress", "{podSelector: {}, policyTypes: [Egress]}");
    let verdict = analyse(&world, &[out, elsewhere], &[]);
    insta::assert_snapshot!(said(&verdict, "vision-infer"), @"CniDependent: whether a pod in vision-train can reach a pod in vision-infer depends on ClusterNetworkPolicy base ingress[0].from[0]: not every implementation asks the Baseline tier about a pod that a NetworkPolicy selects in the other direction only");
}

#[test]
fn networks_match_pods_by_their_addresses() {
    let deny = |networks: &str| {
        format!(
            "{{tier: Admin, priority: 10, subject: {{namespaces: {{matchLabels: {{cloison.dev/stage: training}}}}}},
              egress: [{{action: Deny, to: [{{networks: [{networks}]}}]}}]}}"
        )
    };
    // Every pod of the cluster has an address in its ranges.
    assert_eq!(through_the_hole(&[("all", &deny("0.0.0.0/0"))]), "isolated");
    assert_eq!(
        through_the_hole(&[("ranges", &deny("10.0.0.0/8, 192.168.7.0/24"))]),
        "isolated"
    );
    assert!(through_the_hole(&[("outside", &deny("203.0.113.0/24"))]).starts_with("a pod in vision-train"));
    insta::assert_snapshot!(through_the_hole(&[("some", &deny("10.244.3.0/24"))]), @"AddressDependent: whether a pod in vision-train can reach a pod in vision-infer depends on ClusterNetworkPolicy some egress[0].to[0], whose networks match a pod or not by the address it gets");
}

#[test]
fn what_is_not_modelled_is_named() {
    let all = "{tier: Admin, priority: 10, subject: {namespaces: {}}, egress: [{action: ACTION, to: [{FIELD}]}]}";
    for field in ["nodes: {}", "domainNames: ['*.example.com']"] {
        for action in ["Deny", "Accept", "Pass"] {
            let spec = all.replace("ACTION", action).replace("FIELD", field);
            let said = match action {
                "Deny" => through_the_hole(&[("odd", &spec)]),
                "Accept" => said(&judged(&[IN], &[("odd", &spec)]), "vision-infer"),
                // It changes nothing where the next tier decides alike.
                _ => {
                    assert!(through_the_hole(&[("odd", &spec)]).starts_with("a pod in vision-train"));
                    continue;
                }
            };
            let name = field.split(':').next().unwrap();
            let wanted = format!("ClusterNetworkPolicy odd egress[0].to[0], whose {name} the analysis does not model");
            assert!(said.starts_with("UnmodelledPolicy") && said.contains(&wanted), "{said}");
        }
    }
}

#[test]
fn a_policy_that_cannot_be_read_may_do_anything() {
    for (spec, why) in [
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{}]}]}",
            "spec.ingress[0].from[0]: exactly one of namespaces and pods must be set",
        ),
        (
            "{tier: Admin, priority: 1, subject: {}}",
            "spec.subject: exactly one of namespaces and pods must be set",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: []}]}",
            "spec.egress[0].to: at least one entry is needed",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [10.0.0.0]}]}]}",
            "spec.egress[0].to[0]: \"10.0.0.0\" is not a network",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{networks: [], nodes: {}}]}]}",
            "spec.egress[0].to[0]: exactly one of namespaces, pods, networks, nodes and domainNames must be set",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{}]}]}",
            "spec.ingress[0].protocols[0]: exactly one of tcp, udp, sctp and destinationNamedPort must be set",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {}}]}]}",
            "spec.ingress[0].protocols[0]: exactly one of destinationPort.number and destinationPort.range must be set",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]}]}",
            "spec.ingress[0].protocols[0]: 0 is not a port",
        ),
        (
            "{tier: Admin, priority: 1001, subject: {namespaces: {}}}",
            "spec.priority: 1001 is not a priority from 0 to 1000",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {matchLabel: {a: b}}}}",
            "spec: unknown field `matchLabel`",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], icmp: {}}]}",
            "spec: unknown field `icmp`",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Allow, from: [{namespaces: {}}]}]}",
            "spec: unknown variant `Allow`",
        ),
        (
            "{tier: Security, priority: 1, subject: {namespaces: {}}}",
            "spec: unknown variant `Security`",
        ),
        (
            "{tier: Admin, priority: 1, subject: {namespaces: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}}",
            "spec.subject: operator \"Like\" is unknown",
        ),
    ] {
        // It may deny what others open, and open what others deny.
        for holes in [&[OUT, IN][..], &[]] {
            let said = said(&judged(holes, &[("odd", spec)]), "vision-infer");
            let wanted = format!("ClusterNetworkPolicy odd, which cannot be read: {why}");
            assert!(
                said.starts_with("UnreadablePolicy") && said.contains(&wanted),
                "{spec}: {said}"
            );
        }
        let snapshot = Snapshot {
            cluster_policies: vec![ClusterNetworkPolicy::read("odd", yaml(spec))],
            ..Snapshot::default()
        };
        let unreadable = Connectivity::read(&snapshot, Blocks::External).unwrap_err();
        let said = unreadable[0].to_string();
        assert!(
            said.starts_with(&format!("ClusterNetworkPolicy odd cannot be read: {why}")),
            "{said}"
        );
    }
}

#[test]
fn a_namespace_created_later_meets_the_tiers_too() {
    let later = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions:
        [{key: team, operator: In, values: [a, b]}]}}]}]}";
    let into = ("vision-infer", "later", later);
    let deny = |team: &str| {
        format!(
            "{{tier: Admin, priority: 1, subject: {{namespaces: {{matchLabels: {{cloison.dev/stage: inference}}}}}},
              ingress: [{{action: Deny, from: [{{namespaces: {team}}}]}}]}}"
        )
    };
    insta::assert_snapshot!(said(&judged(&[into], &[("some", &deny("{matchLabels: {team: a}}"))]), "vision-infer"), @"a pod in a namespace created later with labels {team: b}, itself with labels {} can reach a pod in vision-infer with labels {} on TCP 1-65535: allowed by the new namespace by default (it has no policy) and vision-infer/later ingress[0].from[0]");
    let both = "{matchExpressions: [{key: team, operator: Exists}]}";
    assert_eq!(
        said(&judged(&[into], &[("all", &deny(both))]), "vision-infer"),
        "isolated"
    );
    // Its own end may be closed as well, but for those that an Accept lets out before.
    let closed = "{tier: Admin, priority: 2, subject: {namespaces: {matchExpressions: [{key: cloison.dev/stage, operator: DoesNotExist}]}},
        egress: [{action: Deny, to: [{namespaces: {matchLabels: {cloison.dev/stage: inference}}}]}]}";
    assert_eq!(
        said(&judged(&[into], &[("closed", closed)]), "vision-infer"),
        "isolated"
    );
    let team = "{tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {team: b}}},
        egress: [{action: Accept, to: [{namespaces: {}}]}]}";
    insta::assert_snapshot!(said(&judged(&[into], &[("team", team), ("closed", closed)]), "vision-infer"), @"a pod in a namespace created later with labels {team: b}, itself with labels {} can reach a pod in vision-infer with labels {} on TCP 1-65535: allowed by ClusterNetworkPolicy team egress[0].to[0] and vision-infer/later ingress[0].from[0]");
}

#[test]
fn a_name_that_no_namespace_has_yet_is_free_for_one_created_later() {
    let accept = |name: &str| {
        let accept = format!(
            "{{tier: Admin, priority: 1, subject: {{namespaces: {{matchLabels: {{cloison.dev/stage: inference}}}}}},
              ingress: [{{action: Accept, from: [{{namespaces: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}}}]}}]}}"
        );
        said(&judged(&[], &[("wide", &accept)]), "vision-infer")
    };
    let free = accept("nobodys");
    assert!(
        free.starts_with("a pod in a namespace created later with labels {kubernetes.io/metadata.name: nobodys}"),
        "{free}"
    );
    // The stage of a namespace that is there stays what it is: this one's own deny closes its end.
    assert_eq!(accept("vision-train"), "isolated");
}

#[test]
fn beyond_its_budget_the_search_says_so() {
    // A formula in disguise: every pod either matches a Deny or takes more steps to find than there are.
    let mut rules = Vec::new();
    for one in 0..12 {
        for two in 0..12 {
            let expressions = |value: &str| {
                json!([{"key": format!("k{one}"), "operator": "In", "values": [value]},
                       {"key": format!("l{two}"), "operator": "NotIn", "values": [value]}])
            };
            let peer = |value: &str| json!({"pods": {"podSelector": {"matchExpressions": expressions(value)}}});
            rules.push(json!({"action": "Deny", "from": [peer("x"), peer("y"), peer("z")]}));
        }
    }
    rules.push(
        json!({"action": "Deny", "from": [{"pods": {"podSelector": {"matchExpressions":
        (0..12).map(|key| json!({"key": format!("k{key}"), "operator": "Exists"})).collect::<Vec<_>>()}}}]}),
    );
    let specs: Vec<Value> = rules
        .chunks(25)
        .enumerate()
        .map(|(index, rules)| json!({"tier": "Admin", "priority": index, "subject": {"namespaces": {}}, "ingress": rules}))
        .collect();
    let mut world = cluster();
    let read = |(index, spec): (usize, &Value)| ClusterNetworkPolicy::read(format!("p{index}"), spec.clone());
    world.cluster_policies = specs.iter().enumerate().map(read).collect();
    let analysis = analyse(&world, &with(&world, &[OUT, IN]), &[]);
    let said = said(&analysis, "vision-infer");
    assert!(said.starts_with("TooComplex") || said.starts_with("a pod in"), "{said}");
}

#[test]
fn explain_names_the_rule_of_the_tier_that_decides() {
    let pod = |namespace: &str, text: &str| Pod {
        namespace: namespace.to_owned(),
        owner: ("Pod".to_owned(), "p".to_owned()),
        labels: labels(text),
        ..Pod::default()
    };
    let specs = [
        ("wall", "{tier: Admin, priority: 10, subject: {namespaces: {}}, ingress: [
            {action: Pass, from: [{pods: {podSelector: {matchLabels: {app: ok}}}}]},
            {action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}"),
        ("base", "{tier: Baseline, priority: 10, subject: {namespaces: {}}, ingress: [
            {action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 81}}}]}]}"),
        ("tie", "{tier: Baseline, priority: 10, subject: {namespaces: {}}, ingress: [
            {action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {range: {start: 81, end: 82}}}}]}]}"),
    ];
    let snapshot = Snapshot {
        pods: vec![pod("a", "app=ok"), pod("a", "app=no"), pod("b", "")],
        cluster_policies: specs
            .iter()
            .map(|(name, spec)| ClusterNetworkPolicy::read(*name, yaml(spec)))
            .collect(),
        ..Snapshot::default()
    };
    let read = Connectivity::read(&snapshot, Blocks::External).unwrap();
    let said = |from: usize, port: u16| {
        let ends = (Asked::Pod(&snapshot.pods[from]), Asked::Pod(&snapshot.pods[2]));
        let answer = read.explain(ends.0, ends.1, Protocol::TCP, port);
        let half = answer.ingress.clone().unwrap();
        let text = match half.of_cluster {
            None => "left to NetworkPolicies".to_owned(),
            Some(OfCluster::Decided {
                action,
                tier,
                policy,
                field,
            }) => format!("{tier:?} {action:?}: {policy} {field}"),
            Some(OfCluster::Unknown { causes, .. }) => format!("unknown: {}", causes.join("; ")),
        };
        (answer.allows(), text)
    };
    assert_eq!(
        said(1, 80),
        (
            false,
            "Admin Deny: ClusterNetworkPolicy wall ingress[1].from[0]".to_owned()
        )
    );
    assert_eq!(said(0, 80), (true, "left to NetworkPolicies".to_owned()));
    assert_eq!(
        said(1, 82),
        (
            true,
            "Baseline Accept: ClusterNetworkPolicy tie ingress[0].from[0]".to_owned()
        )
    );
    let tie = "unknown: the order of ClusterNetworkPolicy base ingress[0].from[0] and ClusterNetworkPolicy tie \
               ingress[0].from[0], which is not specified: both have priority 10 in tier Baseline";
    assert_eq!(said(0, 81), (false, tie.to_owned()));
    assert_eq!(read.unsettled().len(), 1, "{:?}", read.unsettled());
}
