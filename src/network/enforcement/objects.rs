//! What the packet canary is made of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, Pod, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    ResourceRequirements, SeccompProfile, SecurityContext, WeightedPodAffinityTerm,
};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{ALLOWED, WITHOUT_EGRESS, WITHOUT_INGRESS};
use crate::api::names;
use crate::api::network::Protocol;
use crate::network::flows::Peer;
use crate::network::policies::{Direction, object, peer, ports, selecting};
use crate::network::ports::PortSet;

/// What a pod that was forgotten ends after, whoever forgot it: seconds.
const LIFETIME: i64 = 300;
/// Where the kubelet finds a container's last word.
const LAST_WORD: &str = "/dev/termination-log";
/// On both pods, so that they keep away from each other.
const LABEL: (&str, &str) = ("app.kubernetes.io/component", "packets");

/// The policies of both namespaces, rendered as those of workloads are.
pub fn policies() -> [NetworkPolicy; 2] {
    let end = |namespace: &str| {
        peer(&Peer::Pods {
            namespace: namespace.to_owned(),
            labels: BTreeMap::new(),
        })
    };
    let open = |numbers: [u16; 2]| Some(ports(&PortSet::single(numbers.map(|port| (Protocol::TCP, port)))));
    let both = [Direction::Ingress, Direction::Egress];
    let policy = |namespace: &str, ingress, egress| {
        let (name, everyone) = (names::PACKETS_POLICY.to_owned(), selecting([]));
        object(namespace, name, everyone, &both, ingress, egress)
    };
    let out = NetworkPolicyEgressRule {
        to: Some(vec![end(names::PACKETS_SERVER_NAMESPACE)]),
        ports: open([ALLOWED, WITHOUT_INGRESS]),
    };
    let into = NetworkPolicyIngressRule {
        from: Some(vec![end(names::PACKETS_CLIENT_NAMESPACE)]),
        ports: open([ALLOWED, WITHOUT_EGRESS]),
    };
    [
        policy(names::PACKETS_CLIENT_NAMESPACE, Vec::new(), vec![out]),
        policy(names::PACKETS_SERVER_NAMESPACE, vec![into], Vec::new()),
    ]
}

/// The pod that answers. `image` holds this program.
pub fn server(image: &str) -> Pod {
    pod(
        names::PACKETS_SERVER_NAMESPACE,
        names::PACKETS_SERVER,
        image,
        &["serve"],
    )
}

/// The pod that asks the server at its `addresses`.
pub fn client(image: &str, addresses: &[IpAddr]) -> Pod {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let mut words = vec!["try", "--answer", LAST_WORD];
    words.extend(addresses.iter().map(String::as_str));
    pod(names::PACKETS_CLIENT_NAMESPACE, names::PACKETS_CLIENT, image, &words)
}

/// One that Pod Security's level *restricted* admits, with no token and hardly any resources.
fn pod(namespace: &str, name: &str, image: &str, words: &[&str]) -> Pod {
    // Not the label of what the operator manages: the kubelet and the scheduler write to these.
    let labels = [(names::PART_OF_LABEL, names::CLOISON), LABEL];
    let quantity = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.to_owned()));
    let container = Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        args: Some(
            ["canary-probe"]
                .iter()
                .chain(words)
                .map(|word| (*word).to_owned())
                .collect(),
        ),
        termination_message_path: Some(LAST_WORD.to_owned()),
        // What it says on failure.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        resources: Some(ResourceRequirements {
            requests: Some([quantity("cpu", "10m"), quantity("memory", "16Mi")].into()),
            limits: Some([quantity("memory", "64Mi")].into()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![container],
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(LIFETIME),
            termination_grace_period_seconds: Some(1),
            service_account_name: Some(names::PACKETS_ACCOUNT.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            node_selector: Some([("kubernetes.io/os".to_owned(), "linux".to_owned())].into()),
            affinity: Some(apart()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// On two nodes where there are two: then the plugin is seen at work on both.
fn apart() -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some([(LABEL.0.to_owned(), LABEL.1.to_owned())].into()),
            ..LabelSelector::default()
        }),
        namespaces: Some(names::PACKETS_NAMESPACES.map(str::to_owned).into()),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
