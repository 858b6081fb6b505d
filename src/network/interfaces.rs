//! Interfaces of pods that no network policy sees: the node's own network, secondary networks, RDMA and other devices. They
//! are named, and never counted as isolated.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::api::conditions::{Truth, Verdict, types};
use crate::api::policy::DedicatedInterface;
use crate::api::stage::Stage;

/// Secondary networks by Multus: names after commas, or a list in JSON.
const MULTUS_NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Another network than the cluster's, by Multus.
const MULTUS_DEFAULT: &str = "v1.multus-cni.io/default-network";
/// Secondary networks of GKE.
pub const GKE_INTERFACES: &str = "networking.gke.io/interfaces";
/// Annotations that name networks.
pub const ANNOTATIONS: [&str; 3] = [MULTUS_NETWORKS, MULTUS_DEFAULT, GKE_INTERFACES];

/// Extended resources that are network devices, by how their names begin.
const DEVICES: [&str; 5] = [
    "rdma/",
    "vpc.amazonaws.com/efa",
    "networking.gke.io.networks/",
    "nvidia.com/hostdev",
    "mellanox.com/",
];

/// What of a pod may be an interface beside the pod network.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interfaces {
    /// It shares its node's network.
    pub host_network: bool,
    /// Extended resources that its containers ask for.
    pub resources: BTreeSet<String>,
    /// Attached networks, `namespace/name`, or what an annotation says that cannot be read.
    pub attachments: BTreeSet<String>,
    /// Claims of devices: what they are is not known here.
    pub claims: BTreeSet<String>,
}

impl Interfaces {
    /// Adds what the annotations of a pod in `namespace` say.
    #[must_use]
    pub fn annotated(mut self, namespace: &str, annotations: &BTreeMap<String, String>) -> Self {
        for key in ANNOTATIONS {
            let said = annotations.get(key).map(|value| value.trim()).unwrap_or_default();
            if !said.is_empty() {
                self.attachments.extend(attachments(namespace, key, said));
            }
        }
        self
    }

    /// Whether it has the pod network alone.
    pub fn are_plain(&self) -> bool {
        let Self {
            host_network,
            resources,
            attachments,
            claims,
        } = self;
        !host_network && resources.is_empty() && attachments.is_empty() && claims.is_empty()
    }
}

/// One element of the annotation in JSON.
#[derive(Deserialize)]
struct Element {
    name: Option<String>,
    network: Option<String>,
    namespace: Option<String>,
}

fn attachments(home: &str, key: &str, said: &str) -> Vec<String> {
    if said.starts_with('[') {
        let Ok(list) = serde_json::from_str::<Vec<Element>>(said) else {
            return vec![format!("annotation {key}, which cannot be read")];
        };
        let named = |element: Element| {
            // GKE lists the pod network among the others.
            let name = element
                .network
                .or(element.name)
                .unwrap_or_else(|| "without a name".to_owned());
            let pod_network = key == GKE_INTERFACES && name == "default";
            (!pod_network).then(|| format!("{}/{name}", element.namespace.as_deref().unwrap_or(home)))
        };
        return list.into_iter().filter_map(named).collect();
    }
    let named = |word: &str| {
        let network = word.split('@').next().unwrap_or(word).trim();
        let inside = !network.contains('/');
        (!network.is_empty()).then(|| {
            if inside {
                format!("{home}/{network}")
            } else {
                network.to_owned()
            }
        })
    };
    said.split(',').filter_map(named).collect()
}

/// The condition `InterfacesCovered` of a workload of `stage`. `pods` are those that run, by name.
pub fn judge<'p>(
    pods: impl IntoIterator<Item = (&'p str, &'p Interfaces)>,
    dedicated: &[DedicatedInterface],
    stage: Stage,
) -> Verdict {
    let kind = types::INTERFACES_COVERED;
    let (mut escapes, mut unknown, mut covered) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (pod, interfaces) in pods {
        if interfaces.host_network {
            escapes.insert(format!("the network of its node ({pod})"));
        }
        let resources = interfaces.resources.iter().map(|name| ("resource", name));
        for (what, name) in resources.chain(interfaces.attachments.iter().map(|name| ("network", name))) {
            let listed = dedicated.iter().find(|entry| {
                let names = [&entry.resource_name, &entry.network_attachment];
                names.into_iter().flatten().any(|listed| listed.0 == *name)
            });
            match listed {
                Some(entry) if entry.stages.contains(&stage) => {
                    covered.insert(format!("{what} {name}"));
                }
                Some(_) => {
                    escapes.insert(format!("{what} {name}, which is another stage's ({pod})"));
                }
                None if what == "network" || DEVICES.iter().any(|device| name.starts_with(device)) => {
                    escapes.insert(format!("{what} {name} ({pod})"));
                }
                None => {}
            }
        }
        unknown.extend(interfaces.claims.iter().map(|claim| format!("claim {claim} ({pod})")));
    }
    let list = |set: BTreeSet<String>| set.into_iter().take(5).collect::<Vec<_>>().join(", ");
    if !escapes.is_empty() {
        let message = format!(
            "no network policy sees {}; remove it, or ask the admin to declare it in network.dedicatedInterfaces",
            list(escapes)
        );
        return Verdict::new(kind, Truth::False, "Undeclared", message);
    }
    if !unknown.is_empty() {
        let message = format!(
            "whether a claimed device is a network interface is not known: {}",
            list(unknown)
        );
        return Verdict::new(kind, Truth::Unknown, "ResourceClaims", message);
    }
    if covered.is_empty() {
        let message = "no running pod has an interface beside the pod network";
        return Verdict::new(kind, Truth::True, "PodNetworkOnly", message);
    }
    let message = format!("declared to be this stage's alone, and not verified: {}", list(covered));
    Verdict::new(kind, Truth::True, "Dedicated", message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::*;

    fn fabric() -> Vec<DedicatedInterface> {
        serde_json::from_value(serde_json::json!([
            {"name": "ib", "resourceName": "rdma/hca_shared_devices_a", "stages": ["Training"]},
            {"name": "storage", "networkAttachment": "fabric/storage", "stages": ["Training", "Inference"]},
            {"name": "nic", "resourceName": "example.com/nic", "stages": ["Inference"]},
        ]))
        .unwrap()
    }

    fn annotated(key: &str, value: &str) -> Interfaces {
        let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Interfaces::default().annotated("home", &annotations)
    }

    fn asking(resources: &[&str]) -> Interfaces {
        Interfaces {
            resources: resources.iter().map(|&name| name.to_owned()).collect(),
            ..Interfaces::default()
        }
    }

    fn said(pods: &[Interfaces], stage: Stage) -> (Truth, &'static str, String) {
        let verdict = judge(pods.iter().map(|pod| ("p-1", pod)), &fabric(), stage);
        (verdict.truth, verdict.reason, verdict.message)
    }

    #[test]
    fn annotations_name_networks_in_two_forms() {
        let names = |interfaces: Interfaces| interfaces.attachments.into_iter().collect::<Vec<_>>();
        assert_eq!(
            names(annotated(MULTUS_NETWORKS, " storage, fabric/fast@net1 ,")),
            ["fabric/fast", "home/storage"]
        );
        let json = r#"[{"name": "storage", "namespace": "fabric", "ips": ["10.1.2.3"]}, {"name": "fast"}]"#;
        assert_eq!(names(annotated(MULTUS_NETWORKS, json)), ["fabric/storage", "home/fast"]);
        assert_eq!(
            names(annotated(MULTUS_DEFAULT, "kube-system/other")),
            ["kube-system/other"]
        );
        let gke = r#"[{"interfaceName": "eth0", "network": "default"}, {"interfaceName": "eth1", "network": "blue"}]"#;
        assert_eq!(names(annotated(GKE_INTERFACES, gke)), ["home/blue"]);
        let odd = names(annotated(MULTUS_NETWORKS, "[{]"));
        assert!(odd[0].contains("cannot be read"), "{odd:?}");
        assert!(annotated(MULTUS_NETWORKS, " ").are_plain() && annotated("other", "x").are_plain());
    }

    #[test]
    fn what_no_policy_sees_is_named() {
        let host = Interfaces {
            host_network: true,
            ..Interfaces::default()
        };
        for (pod, names) in [
            (host, "the network of its node (p-1)"),
            (asking(&["rdma/other"]), "resource rdma/other (p-1)"),
            (asking(&["vpc.amazonaws.com/efa"]), "resource vpc.amazonaws.com/efa"),
            (annotated(MULTUS_NETWORKS, "fast"), "network home/fast (p-1)"),
            (
                asking(&["example.com/nic"]),
                "resource example.com/nic, which is another stage's",
            ),
        ] {
            let (truth, reason, message) = said(&[Interfaces::default(), pod], Stage::Training);
            assert_eq!((truth, reason), (Truth::False, "Undeclared"), "{names}");
            assert!(
                message.contains(names) && message.contains("network.dedicatedInterfaces"),
                "{message}"
            );
        }
    }

    #[test]
    fn what_is_declared_for_the_stage_is_covered_and_called_declared() {
        let pods = [
            asking(&["nvidia.com/gpu", "rdma/hca_shared_devices_a"]),
            annotated(MULTUS_NETWORKS, "fabric/storage"),
        ];
        let (truth, reason, message) = said(&pods, Stage::Training);
        assert_eq!((truth, reason), (Truth::True, "Dedicated"));
        assert!(
            message.contains("not verified") && message.contains("rdma/hca_shared_devices_a"),
            "{message}"
        );
        let (truth, ..) = said(&pods, Stage::Inference);
        assert_eq!(truth, Truth::False, "the fabric is training's alone");
    }

    #[test]
    fn a_claim_may_be_anything_and_a_gpu_is_no_interface() {
        let claim = Interfaces {
            claims: ["nic".to_owned()].into(),
            ..asking(&["nvidia.com/gpu"])
        };
        let (truth, reason, message) = said(std::slice::from_ref(&claim), Stage::Training);
        assert_eq!((truth, reason), (Truth::Unknown, "ResourceClaims"), "{message}");
        let (truth, ..) = said(&[claim, asking(&["rdma/x"])], Stage::Training);
        assert_eq!(truth, Truth::False, "what is known to escape is told first");
        assert_eq!(
            said(&[asking(&["nvidia.com/gpu"])], Stage::Training).1,
            "PodNetworkOnly"
        );
        assert_eq!(said(&[], Stage::Training).1, "PodNetworkOnly");
    }
}
