//! The denies between stages as ClusterNetworkPolicies: what no NetworkPolicy of anybody can undo, where the cluster
//! serves the kind and the organisation asks for it.
//!
//! One policy for each stage, in tier Admin, in both directions, by the label of the stage. That label is the stage: only
//! an admin sets it, and a namespace that gets it is behind the wall at once, without a list that has to follow. As with
//! NetworkPolicies, only namespaces in mode enforce are cut off; the other end may be in any mode.

mod exceptions;

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::api::names;
use crate::api::policy::ClusterDeny;
use crate::api::stage::{Mode, NamespaceStage};

pub(super) use self::exceptions::lets_through;
use super::cluster_policy::{Action, EgressPeer, EgressRule, IngressRule, Spec, Subject, Tier};
use super::world::World;

/// Where our priorities start: an admin has room for rules of their own before and after.
const FIRST_PRIORITY: i32 = 100;
/// The last priority there is.
const LAST_PRIORITY: i32 = 1000;

/// The stages that are kept apart.
const STAGES: [NamespaceStage; 3] = [
    NamespaceStage::Training,
    NamespaceStage::Evaluation,
    NamespaceStage::Inference,
];

/// The name of a stage's policy: one of [`names::STAGE_POLICIES`].
fn name(stage: NamespaceStage) -> String {
    format!("{}{stage}", names::STAGE_POLICY_PREFIX)
}

/// The policies, by name; none unless the organisation asks for them. No priority of ours is anybody else's: between
/// equal ones no order is promised.
pub fn render(world: &World) -> Vec<(String, Spec)> {
    if world.policy.network.cluster_deny == ClusterDeny::None {
        return Vec::new();
    }
    let ours = |name: &str| names::STAGE_POLICIES.contains(&name);
    let others = world.cluster_policies.iter().filter(|policy| !ours(&policy.name));
    let taken: BTreeSet<i32> = others
        .filter_map(|policy| policy.spec.as_ref().ok())
        .filter(|spec| spec.tier == Tier::Admin)
        .map(|spec| spec.priority)
        .collect();
    let free = (FIRST_PRIORITY..=LAST_PRIORITY).filter(|priority| !taken.contains(priority));
    STAGES
        .into_iter()
        .zip(free)
        .map(|(stage, priority)| {
            let mut spec = denies(stage, priority, world.policy.mode);
            exceptions::put_first(&mut spec, world, stage);
            (name(stage), spec)
        })
        .collect()
}

fn denies(stage: NamespaceStage, priority: i32, default_mode: Mode) -> Spec {
    let others: Vec<&str> = STAGES
        .into_iter()
        .filter(|other| *other != stage)
        .map(NamespaceStage::as_str)
        .collect();
    let others = selector(&[(names::STAGE_LABEL, "In", &others)]);
    let enforced = match default_mode {
        // A mode that nobody knows is the default one.
        Mode::Enforce => (
            names::MODE_LABEL,
            "NotIn",
            &[Mode::Audit.label(), Mode::Warn.label()][..],
        ),
        Mode::Audit | Mode::Warn => (names::MODE_LABEL, "In", &[Mode::Enforce.label()][..]),
    };
    Spec {
        tier: Tier::Admin,
        priority,
        subject: Subject {
            namespaces: Some(selector(&[(names::STAGE_LABEL, "In", &[stage.as_str()]), enforced])),
            pods: None,
        },
        ingress: vec![IngressRule {
            name: Some("from-other-stages".to_owned()),
            action: Action::Deny,
            from: vec![Subject {
                namespaces: Some(others.clone()),
                pods: None,
            }],
            protocols: None,
        }],
        egress: vec![EgressRule {
            name: Some("to-other-stages".to_owned()),
            action: Action::Deny,
            to: vec![EgressPeer {
                namespaces: Some(others),
                ..EgressPeer::default()
            }],
            protocols: None,
        }],
    }
}

fn selector(requirements: &[(&str, &str, &[&str])]) -> LabelSelector {
    let one = |(key, operator, values): &(&str, &str, &[&str])| LabelSelectorRequirement {
        key: (*key).to_owned(),
        operator: (*operator).to_owned(),
        values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
    };
    LabelSelector {
        match_labels: None,
        match_expressions: Some(requirements.iter().map(one).collect()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::networking::v1::NetworkPolicy;

    use crate::api::network::{Port, Protocol};
    use crate::api::stage::NamespaceStage;
    use crate::api::workload::Runtime;
    use crate::network::cluster_policy::ClusterNetworkPolicy;
    use crate::network::policies;
    use crate::network::ports::PortSet;
    use crate::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot};
    use crate::network::reach::explain::Asked;
    use crate::network::reach::{Isolation, analyse};
    use crate::network::testkit::{policy, world};
    use crate::network::waivers::FlowWaiver;
    use crate::network::world::{Namespace, WorkloadKey};

    use super::*;

    /// Two stages with a hole that tenants opened at both ends.
    fn holed(wanted: &str) -> (World, Vec<NetworkPolicy>) {
        let mut world = world();
        world
            .stage("train", NamespaceStage::Training)
            .stage("serve", NamespaceStage::Inference)
            .policy(&format!("{{clusterDeny: {wanted}}}"))
            .workload("train", "w", Runtime::Generic, "")
            .workload("serve", "w", Runtime::Generic, "");
        let mut all = policies::all(&world);
        let everything = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: \
            {matchLabels: {kubernetes.io/metadata.name: train}}}]}], egress: [{to: [{namespaceSelector: {matchLabels: \
            {kubernetes.io/metadata.name: serve}}}]}]}";
        all.push(policy("train", "hole", everything));
        all.push(policy("serve", "hole", everything));
        (world, all)
    }

    fn in_force(world: &mut World) {
        let rendered = render(world).into_iter();
        let read = |(name, spec)| ClusterNetworkPolicy::read(name, serde_json::to_value::<Spec>(spec).unwrap());
        world.cluster_policies.extend(rendered.map(read));
    }

    /// A mode as the namespace's label says it.
    fn mode(world: &mut World, namespace: &str, mode: Mode) {
        let facts = world.namespaces.get_mut(namespace).unwrap();
        facts.mode = mode;
        facts
            .labels
            .insert(names::MODE_LABEL.to_owned(), mode.label().to_owned());
    }

    #[test]
    fn what_is_rendered_closes_what_tenants_open() {
        let (mut world, all) = holed("None");
        in_force(&mut world);
        let open = analyse(&world, &all, &[]);
        assert!(matches!(open.namespaces["serve"], Isolation::PathExists(_)));
        for wanted in ["Auto", "ClusterNetworkPolicy"] {
            let (mut world, all) = holed(wanted);
            for namespace in ["train", "serve"] {
                mode(&mut world, namespace, Mode::Enforce);
            }
            in_force(&mut world);
            let closed = analyse(&world, &all, &[]);
            for namespace in ["train", "serve"] {
                assert_eq!(
                    closed.namespaces[namespace],
                    Isolation::Isolated,
                    "{wanted} {namespace}"
                );
            }
        }
    }

    /// For each name a Waiver from `train/NAME` to `serve/NAME`.
    fn waived(names: &[&str]) -> BTreeMap<String, FlowWaiver> {
        let waiver = |name: &&str| FlowWaiver {
            from: WorkloadKey::new("train", *name),
            to: WorkloadKey::new("serve", *name),
            ports: PortSet::written(&[Port {
                port: 8000,
                end_port: Some(8010),
                protocol: None,
            }])
            .unwrap(),
            until: "2030-01-01T00:00:00Z".parse().unwrap(),
            closed: None,
        };
        names.iter().map(|name| ((*name).to_owned(), waiver(name))).collect()
    }

    /// Whether a TCP connection from a pod of a workload to one of another gets through: `(namespace, workload)`.
    fn passes(world: &World, stored: &[NetworkPolicy], from: (&str, &str), to: (&str, &str), port: u16) -> bool {
        let pod = |(namespace, workload): (&str, &str)| Pod {
            namespace: namespace.to_owned(),
            labels: [(names::WORKLOAD_LABEL.to_owned(), workload.to_owned())].into(),
            ..Pod::default()
        };
        let labels = |(name, found): (&String, &Namespace)| (name.clone(), found.labels.clone());
        let snapshot = Snapshot {
            namespaces: world.namespaces.iter().map(labels).collect(),
            pods: vec![pod(from), pod(to)],
            policies: stored.to_vec(),
            cluster_policies: world.cluster_policies.clone(),
        };
        let read = Connectivity::read(&snapshot, Blocks::External).unwrap();
        let asked = |index: usize| Asked::Pod(&snapshot.pods[index]);
        read.explain(asked(0), asked(1), Protocol::TCP, port).allows()
    }

    #[test]
    fn behind_the_exceptions_of_two_waivers_their_ends_are_apart() {
        let (mut world, _) = holed("Auto");
        world.waivers = waived(&["a", "b"]);
        for name in ["a", "b"] {
            let other = |namespace: &str| {
                format!("[{{workload: {{name: {name}, namespace: {namespace}}}, ports: [{{port: 8005}}]}}]")
            };
            let (out, into) = (
                format!("connectTo: {}", other("serve")),
                format!("acceptFrom: {}", other("train")),
            );
            world
                .workload("train", name, Runtime::Generic, &out)
                .workload("serve", name, Runtime::Generic, &into);
        }
        for namespace in ["train", "serve"] {
            mode(&mut world, namespace, Mode::Enforce);
        }
        in_force(&mut world);
        let stored = policies::all(&world);
        for (from, to) in [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")] {
            let open = |stored: &[NetworkPolicy]| passes(&world, stored, ("train", from), ("serve", to), 8005);
            assert!(open(&[]), "the denies alone pass {from} to {to}");
            assert_eq!(open(&stored), from == to, "{from} to {to}");
        }
        let verdicts = analyse(&world, &stored, &[]).namespaces;
        for namespace in ["train", "serve"] {
            assert_eq!(verdicts[namespace], Isolation::Isolated, "{namespace}");
        }
    }

    #[test]
    fn a_waiver_passes_the_denies_for_its_flow_and_ports_and_for_nothing_else() {
        let (mut world, _) = holed("Auto");
        world.waivers = waived(&["w"]);
        for namespace in ["train", "serve"] {
            mode(&mut world, namespace, Mode::Enforce);
        }
        in_force(&mut world);
        // No NetworkPolicy is there: what the denies let through shows.
        let open = |from, to, port| passes(&world, &[], from, to, port);
        assert!(open(("train", "w"), ("serve", "w"), 8005), "waived");
        assert!(!open(("train", "w"), ("serve", "w"), 8011), "another port");
        assert!(!open(("train", "x"), ("serve", "w"), 8005), "another source");
        assert!(!open(("train", "w"), ("serve", "x"), 8005), "another target");
        assert!(!open(("serve", "w"), ("train", "w"), 8005), "the way back");
    }

    #[test]
    fn beyond_what_the_kind_takes_a_waiver_is_closed_and_says_so() {
        let (mut world, _) = holed("Auto");
        let names: Vec<String> = (0..30).map(|number| format!("w{number:02}")).collect();
        world.waivers = waived(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (_, spec) in render(&world) {
            assert!(spec.ingress.len() <= 25 && spec.egress.len() <= 25, "upstream's bound");
        }
        in_force(&mut world);
        let open = |name: &str| lets_through(&world, &world.waivers[name]);
        assert_eq!(open("w23"), Ok(()));
        assert!(
            open("w24").unwrap_err().contains("at most 24 Waivers"),
            "{:?}",
            open("w24")
        );
    }

    #[test]
    fn the_names_are_those_that_the_role_names() {
        assert_eq!(STAGES.map(name), names::STAGE_POLICIES.map(str::to_owned));
    }

    #[test]
    fn only_enforced_namespaces_are_cut_off() {
        // Either end in enforce is enough; none is not.
        for (train, serve, closed) in [
            (Mode::Enforce, Mode::Audit, true),
            (Mode::Warn, Mode::Enforce, true),
            (Mode::Audit, Mode::Warn, false),
        ] {
            let (mut world, all) = holed("Auto");
            mode(&mut world, "train", train);
            mode(&mut world, "serve", serve);
            in_force(&mut world);
            let verdict = analyse(&world, &all, &[]);
            let isolated = verdict.namespaces["serve"] == Isolation::Isolated;
            assert_eq!(isolated, closed, "{train} {serve}");
        }
    }

    #[test]
    fn a_priority_that_somebody_has_is_left_to_them() {
        let (mut world, _) = holed("Auto");
        let accept = "{tier: Admin, priority: 101, subject: {namespaces: {}}}";
        let baseline = accept.replace("Admin", "Baseline").replace("101", "100");
        for (name, spec) in [("theirs", accept), ("last", baseline.as_str())] {
            let spec = serde_saphyr::from_str::<serde_json::Value>(spec).unwrap();
            world.cluster_policies.push(ClusterNetworkPolicy::read(name, spec));
        }
        let priorities = |world: &World| render(world).iter().map(|(_, spec)| spec.priority).collect::<Vec<_>>();
        assert_eq!(priorities(&world), [100, 102, 103]);
        // Its own do not push it about.
        in_force(&mut world);
        assert_eq!(priorities(&world), [100, 102, 103]);
    }
}
