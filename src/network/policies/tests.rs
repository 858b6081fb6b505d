use super::*;
use crate::api::stage::NamespaceStage::{Inference, Shared, Training};
use crate::api::workload::Runtime::{Generic, Trainer, VLLM};
use crate::network::testkit::{End, packets, world};

fn names_of(policies: &[NetworkPolicy]) -> Vec<&str> {
    policies
        .iter()
        .filter_map(|policy| policy.metadata.name.as_deref())
        .collect()
}

fn yaml(policy: &NetworkPolicy) -> String {
    serde_saphyr::to_string(policy).unwrap()
}

/// Two stages, a shared namespace, a workload in each that uses it.
fn small() -> World {
    let mut world = world();
    world
        .stage("vision-train", Training)
        .stage("vision-infer", Inference)
        .stage("mlops", Shared)
        .plain("gateway", "")
        .policy(
            "
services:
- {name: mlflow, to: {namespace: mlops, podLabels: {app: mlflow}}, ports: [{port: 5000}]}
- {name: unused, to: {namespace: mlops}, ports: [{port: 1}]}
sources:
- {name: edge, kind: Gateway, from: {namespace: gateway, podLabels: {app: envoy}}}",
        )
        .workload(
            "vision-train",
            "road-train",
            Trainer,
            "connectTo: [{service: mlflow}, {service: kubernetes-api}, {cidr: 203.0.113.0/24, ports: [{port: 443}]}]",
        )
        .workload("vision-train", "default", Generic, "connectTo: [{service: mlflow}]")
        .workload("vision-infer", "road-det", VLLM, "acceptFrom: [{source: edge}]");
    world
}

#[test]
fn the_deny_selects_every_pod_in_both_directions() {
    insta::assert_snapshot!(yaml(&deny("vision-train", Training)), @r"
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      labels:
        app.kubernetes.io/managed-by: cloison
        app.kubernetes.io/part-of: cloison
      name: cloison-ns-deny
      namespace: vision-train
    spec:
      egress: []
      ingress: []
      podSelector: {}
      policyTypes:
      - Ingress
      - Egress
    ");
}

#[test]
fn a_workload_gets_what_it_declared_and_nothing_else() {
    let world = small();
    let policy = workload(&world, &WorkloadKey::new("vision-train", "road-train")).unwrap();
    insta::assert_snapshot!(yaml(&policy), @r"
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      labels:
        app.kubernetes.io/managed-by: cloison
        app.kubernetes.io/part-of: cloison
      name: cloison-wl-road-train
      namespace: vision-train
    spec:
      egress:
      - ports: []
        to:
        - podSelector:
            matchLabels:
              cloison.dev/workload: road-train
      - ports:
        - port: 53
          protocol: TCP
        - port: 53
          protocol: UDP
        to:
        - namespaceSelector:
            matchExpressions:
            - key: kubernetes.io/metadata.name
              operator: In
              values:
              - kube-system
          podSelector:
            matchLabels:
              k8s-app: kube-dns
      - ports:
        - port: 53
          protocol: TCP
        - port: 53
          protocol: UDP
        to:
        - ipBlock:
            cidr: 10.96.0.10/32
            except: []
      - ports:
        - port: 443
          protocol: TCP
        to:
        - ipBlock:
            cidr: 203.0.113.0/24
            except: []
      - ports:
        - port: 443
          protocol: TCP
        to:
        - ipBlock:
            cidr: 10.96.0.1/32
            except: []
      - ports:
        - port: 6443
          protocol: TCP
        to:
        - ipBlock:
            cidr: 192.168.7.2/32
            except: []
      - ports:
        - port: 5000
          protocol: TCP
        to:
        - namespaceSelector:
            matchExpressions:
            - key: kubernetes.io/metadata.name
              operator: In
              values:
              - mlops
          podSelector:
            matchLabels:
              app: mlflow
      ingress:
      - from:
        - podSelector:
            matchLabels:
              cloison.dev/workload: road-train
        ports: []
      podSelector:
        matchLabels:
          cloison.dev/workload: road-train
      policyTypes:
      - Ingress
      - Egress
    ");
}

#[test]
fn the_workload_default_is_the_pods_without_the_label() {
    let world = small();
    let policy = workload(&world, &WorkloadKey::new("vision-train", "default")).unwrap();
    let spec = policy.spec.unwrap();
    let selector = spec.pod_selector.unwrap();
    assert_eq!(selector.match_labels, None);
    let requirement = &selector.match_expressions.unwrap()[0];
    assert_eq!(
        (requirement.key.as_str(), requirement.operator.as_str()),
        ("cloison.dev/workload", "DoesNotExist")
    );
}

#[test]
fn a_shared_namespace_lets_in_the_users_of_its_services_only() {
    let world = small();
    let policies = namespace(&world, "mlops");
    assert_eq!(names_of(&policies), ["cloison-ns-deny", "cloison-svc-mlflow"]);
    let deny = policies[0].spec.as_ref().unwrap();
    assert_eq!(
        deny.policy_types,
        Some(vec!["Ingress".to_owned()]),
        "services connect to the world outside"
    );
    insta::assert_snapshot!(yaml(&policies[1]), @r"
    apiVersion: networking.k8s.io/v1
    kind: NetworkPolicy
    metadata:
      labels:
        app.kubernetes.io/managed-by: cloison
        app.kubernetes.io/part-of: cloison
      name: cloison-svc-mlflow
      namespace: mlops
    spec:
      egress: []
      ingress:
      - from:
        - namespaceSelector:
            matchExpressions:
            - key: kubernetes.io/metadata.name
              operator: In
              values:
              - vision-train
          podSelector:
            matchExpressions:
            - key: cloison.dev/workload
              operator: DoesNotExist
        - namespaceSelector:
            matchExpressions:
            - key: kubernetes.io/metadata.name
              operator: In
              values:
              - vision-train
          podSelector:
            matchLabels:
              cloison.dev/workload: road-train
        ports:
        - port: 5000
          protocol: TCP
      podSelector:
        matchLabels:
          app: mlflow
      policyTypes:
      - Ingress
    ");
}

#[test]
fn a_namespace_without_a_stage_or_unknown_gets_nothing() {
    let world = small();
    assert_eq!(namespace(&world, "gateway"), []);
    assert_eq!(namespace(&world, "nowhere"), []);
}

#[test]
fn all_namespaces_at_once_are_each_by_itself() {
    let world = small();
    let one_by_one: Vec<NetworkPolicy> = world
        .namespaces
        .keys()
        .flat_map(|name| namespace(&world, name))
        .collect();
    assert_eq!(all(&world), one_by_one);
}

#[test]
fn odd_workload_names_collide_with_nothing() {
    let mut world = small();
    for name in [
        "deny",
        "ns-deny",
        "default-deny",
        "dns",
        "svc-mlflow",
        "wl-deny",
        &"x".repeat(63),
    ] {
        world.workload("vision-train", name, Generic, "");
    }
    let policies = namespace(&world, "vision-train");
    let mut names = names_of(&policies);
    assert_eq!(names.len(), 10);
    assert!(names.is_sorted());
    names.dedup();
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| name.len() <= 253));
    assert_eq!(names.iter().filter(|name| **name == names::DENY_POLICY).count(), 1);
}

#[test]
fn a_service_with_many_users_is_split_and_its_parts_collide_with_no_other_service() {
    let mut world = small();
    world.policy(
        "
services:
- {name: a, to: {namespace: mlops, podLabels: {app: a}}, ports: [{port: 1}]}
- {name: a-2, to: {namespace: mlops, podLabels: {app: b}}, ports: [{port: 2}]}",
    );
    world.workloads.clear();
    for index in 0..801 {
        world.workload(
            "vision-train",
            &format!("w{index}"),
            Generic,
            "connectTo: [{service: a}, {service: a-2}]",
        );
    }
    let policies = namespace(&world, "mlops");
    assert_eq!(
        names_of(&policies),
        [
            "cloison-ns-deny",
            "cloison-svc-a",
            "cloison-svc-a-2",
            "cloison-svc-a-2.2",
            "cloison-svc-a-2.3",
            "cloison-svc-a.2",
            "cloison-svc-a.3",
        ]
    );
    let peers = |policy: &NetworkPolicy| {
        let ingress = policy.spec.as_ref().and_then(|spec| spec.ingress.clone()).unwrap();
        ingress.first().and_then(|rule| rule.from.as_ref()).map_or(0, Vec::len)
    };
    assert_eq!(
        policies.iter().map(peers).collect::<Vec<_>>(),
        [0, 400, 400, 400, 1, 400, 1]
    );
}

#[test]
fn the_order_of_writing_changes_no_byte() {
    let mut world = small();
    let network = |entries: &str| format!("connectTo: [{entries}]");
    let (a, b) = ("{service: mlflow}", "{service: kubernetes-api}");
    world.workload("vision-train", "w", Generic, &network(&format!("{a}, {b}")));
    let first = all(&world);
    world.workload("vision-train", "w", Generic, &network(&format!("{b}, {a}, {a}")));
    assert_eq!(all(&world), first);
}

#[test]
fn withdrawing_keeps_the_selector_and_lets_nothing_through() {
    let world = small();
    let policy = workload(&world, &WorkloadKey::new("vision-train", "road-train")).unwrap();
    let emptied = emptied(&policy);
    let (before, after) = (policy.spec.unwrap(), emptied.spec.unwrap());
    assert_eq!(
        (before.pod_selector, before.policy_types),
        (after.pod_selector, after.policy_types)
    );
    assert_eq!((after.ingress, after.egress), (Some(Vec::new()), Some(Vec::new())));
    assert_eq!(policy.metadata, emptied.metadata);
}

#[test]
fn dns_goes_to_the_servers_and_not_to_port_53_anywhere() {
    let world = small();
    let policies = all(&world);
    let packets = packets(&world, &policies);
    let from = End::pod("vision-train", "cloison.dev/workload=road-train");
    let server = End::pod("kube-system", "k8s-app=kube-dns");
    assert!(packets.pass(&from, &server, "UDP", 53) && packets.pass(&from, &server, "TCP", 53));
    assert!(!packets.pass(&from, &server, "TCP", 9153));
    assert!(packets.pass(&from, &End::address("10.96.0.10"), "UDP", 53));
    for other in [
        End::pod("kube-system", "k8s-app=other"),
        End::pod("vision-infer", "k8s-app=kube-dns"),
        End::pod("gateway", ""),
        End::address("10.96.0.11"),
        End::address("8.8.8.8"),
    ] {
        assert!(!packets.pass(&from, &other, "UDP", 53), "{other:?}");
    }
}

#[test]
fn a_refused_workload_is_left_to_the_deny() {
    let mut world = small();
    let key = WorkloadKey::new("vision-train", "road-train");
    world.workloads.get_mut(&key).unwrap().stage = crate::api::Stage::Inference;
    assert_eq!(workload(&world, &key), None);
    assert_eq!(
        names_of(&namespace(&world, "vision-train")),
        ["cloison-ns-deny", "cloison-wl-default"]
    );
}
