use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;
use crate::api::stage::NamespaceStage::{Shared, Training};
use crate::api::workload::Runtime::Generic;
use crate::network::policies;
use crate::network::testkit::{labels, world};
use crate::network::world::WorkloadKey;

fn wanted() -> NetworkPolicy {
    let mut world = world();
    world
        .stage("train", Training)
        .stage("mlops", Shared)
        .policy("services: [{name: mlflow, to: {namespace: mlops}, ports: [{port: 5000}]}]")
        .workload(
            "train",
            "w",
            Generic,
            "connectTo: [{service: mlflow}, {cidr: 203.0.113.0/24, ports: [{port: 53, protocol: UDP}]}]",
        );
    policies::workload(&world, &WorkloadKey::new("train", "w")).unwrap()
}

/// What the API server makes of it: empty lists are gone.
fn stored(policy: &NetworkPolicy) -> NetworkPolicy {
    let mut stored = policy.clone();
    let spec = stored.spec.as_mut().unwrap();
    for rule in spec.ingress.iter_mut().flatten() {
        rule.ports = rule.ports.take().filter(|ports| !ports.is_empty());
    }
    for rule in spec.egress.iter_mut().flatten() {
        rule.ports = rule.ports.take().filter(|ports| !ports.is_empty());
        for block in rule.to.iter_mut().flatten().filter_map(|peer| peer.ip_block.as_mut()) {
            block.except = block.except.take().filter(|except| !except.is_empty());
        }
    }
    spec.ingress = spec.ingress.take().filter(|rules| !rules.is_empty());
    spec.egress = spec.egress.take().filter(|rules| !rules.is_empty());
    stored
}

fn changed(change: impl FnOnce(&mut NetworkPolicy)) -> Drift {
    let desired = wanted();
    let mut observed = stored(&desired);
    change(&mut observed);
    compare(&desired, Some(&observed))
}

fn differs(fields: &[&str]) -> Drift {
    Drift::Differs(fields.iter().map(|field| (*field).to_owned()).collect())
}

#[test]
fn what_the_api_server_drops_or_fills_in_is_no_drift() {
    assert_eq!(changed(|_| {}), Drift::Same);
    let deny = policies::deny("train", Training);
    assert_ne!(stored(&deny).spec, deny.spec, "`ingress: []` is dropped on the way");
    assert_eq!(compare(&deny, Some(&stored(&deny))), Drift::Same);
    let emptied = policies::emptied(&wanted());
    assert_eq!(compare(&emptied, Some(&stored(&emptied))), Drift::Same);
    // A protocol that nobody wrote is TCP.
    let mut plain = wanted();
    plain.spec.as_mut().unwrap().egress.as_mut().unwrap()[1]
        .ports
        .as_mut()
        .unwrap()[0]
        .protocol = None;
    assert_eq!(compare(&plain, Some(&stored(&wanted()))), Drift::Same);
    assert_eq!(
        changed(|observed| {
            let types = &mut observed.spec.as_mut().unwrap().policy_types;
            *types = Some(vec!["Egress".to_owned(), "Ingress".to_owned()]);
        }),
        Drift::Same
    );
}

#[test]
fn a_missing_object_is_missing() {
    assert_eq!(compare(&wanted(), None), Drift::Missing);
}

type Change = fn(&mut NetworkPolicySpec);

#[test]
fn every_changed_field_is_named() {
    let spec = |observed: &mut NetworkPolicy| observed.spec.clone().unwrap();
    let cases: [(Drift, Change); 9] = [
        (differs(&["spec.podSelector"]), |spec| spec.pod_selector = None),
        (differs(&["spec.policyTypes"]), |spec| {
            spec.policy_types = Some(vec!["Ingress".to_owned()]);
        }),
        (differs(&["spec.ingress"]), |spec| spec.ingress = None),
        (differs(&["spec.ingress[0].from"]), |spec| {
            spec.ingress.as_mut().unwrap()[0].from = None;
        }),
        (differs(&["spec.egress[1].to[0]"]), |spec| {
            spec.egress.as_mut().unwrap()[1].to.as_mut().unwrap()[0].pod_selector = None;
        }),
        (differs(&["spec.egress[1].to[0]"]), |spec| {
            spec.egress.as_mut().unwrap()[1].to.as_mut().unwrap()[0].namespace_selector =
                Some(LabelSelector::default());
        }),
        (differs(&["spec.egress[3].to[0]"]), |spec| {
            let block = spec.egress.as_mut().unwrap()[3].to.as_mut().unwrap()[0]
                .ip_block
                .as_mut();
            block.unwrap().cidr = "0.0.0.0/0".to_owned();
        }),
        (differs(&["spec.egress[3].ports[0]"]), |spec| {
            spec.egress.as_mut().unwrap()[3].ports.as_mut().unwrap()[0].protocol = Some("TCP".to_owned());
        }),
        (differs(&["spec.egress[3].ports[0]", "spec.egress[4].ports"]), |spec| {
            spec.egress.as_mut().unwrap()[3].ports.as_mut().unwrap()[0].end_port = Some(60);
            spec.egress.as_mut().unwrap()[4]
                .ports
                .as_mut()
                .unwrap()
                .push(NetworkPolicyPort {
                    port: Some(IntOrString::Int(1)),
                    ..NetworkPolicyPort::default()
                });
        }),
    ];
    for (expected, change) in cases {
        let found = changed(|observed| {
            let mut new = spec(observed);
            change(&mut new);
            observed.spec = Some(new);
        });
        assert_eq!(found, expected);
    }
}

#[test]
fn labels_of_ours_are_repaired_and_others_are_let_be() {
    assert_eq!(
        changed(|observed| {
            let labels = observed.metadata.labels.as_mut().unwrap();
            labels.insert(names::PART_OF_LABEL.to_owned(), "other".to_owned());
        }),
        differs(&["metadata.labels[app.kubernetes.io/part-of]"])
    );
    assert_eq!(
        changed(|observed| {
            observed.metadata.labels.as_mut().unwrap().extend(labels("team=x"));
            observed.metadata.annotations = Some(labels("argocd.argoproj.io/tracking-id=x"));
        }),
        Drift::Same
    );
}

#[test]
fn what_an_apply_cannot_take_off_is_said_and_not_applied_again_and_again() {
    let touched = |field: &str| Drift::Touched(vec![field.to_owned()]);
    assert_eq!(
        changed(|observed| observed.metadata.finalizers = Some(vec!["example.com/hold".to_owned()])),
        touched("metadata.finalizers[example.com/hold]")
    );
    assert_eq!(
        changed(|observed| {
            observed.metadata.owner_references = Some(vec![OwnerReference {
                kind: "ConfigMap".to_owned(),
                name: "bait".to_owned(),
                uid: "1".to_owned(),
                ..OwnerReference::default()
            }]);
        }),
        touched("metadata.ownerReferences[ConfigMap bait]")
    );
    assert_eq!(
        changed(|observed| observed.metadata.annotations = Some(labels("k8s.ovn.org/acl-stateless=true"))),
        touched("metadata.annotations[k8s.ovn.org/acl-stateless]")
    );
    assert_eq!(
        changed(|observed| observed.metadata.finalizers = Some(vec!["networking.k8s.aws/resources".to_owned()])),
        Drift::Same,
        "EKS puts it on every policy it programs"
    );
    assert_eq!(
        changed(|observed| {
            observed.metadata.finalizers = Some(vec!["x".to_owned()]);
            observed.spec.as_mut().unwrap().ingress = None;
        }),
        differs(&["spec.ingress", "metadata.finalizers[x]"])
    );
}

#[test]
fn an_object_of_somebody_else_under_our_name_is_left_alone() {
    assert!(matches!(
        changed(|observed| observed.metadata.labels = None),
        Drift::Foreign { .. }
    ));
    assert!(matches!(
        changed(|observed| observed.metadata.labels = Some(labels("app.kubernetes.io/managed-by=Helm"))),
        Drift::Foreign { .. }
    ));
    // Ours, and somebody took the labels off: repaired.
    assert_eq!(
        changed(|observed| {
            observed.metadata.labels = None;
            observed.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
                manager: Some(names::FIELD_MANAGER.to_owned()),
                ..ManagedFieldsEntry::default()
            }]);
        }),
        differs(&[
            "metadata.labels[app.kubernetes.io/managed-by]",
            "metadata.labels[app.kubernetes.io/part-of]"
        ])
    );
}
