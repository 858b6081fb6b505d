//! Pods out of objects: those that are pods, and those that an object's templates would make.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod as CorePod, PodSpec, PodTemplateSpec};
use kube::ResourceExt;

use crate::api::network::Protocol;
use crate::network::reach::concrete::Pod;

/// A pod that is there, unless it has ended: then it has no network any more. Its owner is the one that controls it.
pub(in crate::cli) fn running(pod: &CorePod) -> Option<Pod> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let references = pod.metadata.owner_references.iter().flatten();
    let owner = references.clone().find(|owner| owner.controller == Some(true));
    let owner = owner.or_else(|| references.clone().next());
    let owner = owner.map_or_else(
        || ("Pod".to_owned(), pod.name_any()),
        |owner| (owner.kind.clone(), owner.name.clone()),
    );
    let several = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    let addresses = several
        .map(|address| address.ip.as_str())
        .chain(status.and_then(|status| status.pod_ip.as_deref()))
        .filter_map(|text| text.parse::<IpAddr>().ok());
    let mut seen = described(&pod.namespace().unwrap_or_default(), owner, pod.spec.as_ref());
    seen.labels = pod.labels().clone();
    seen.addresses = addresses.collect();
    Some(seen)
}

/// A pod that a template would make.
pub(super) fn templated(namespace: &str, owner: (String, String), template: &PodTemplateSpec) -> Pod {
    let mut pod = described(namespace, owner, template.spec.as_ref());
    let metadata = template.metadata.clone().unwrap_or_default();
    pod.labels = metadata.labels.unwrap_or_default();
    pod
}

fn described(namespace: &str, owner: (String, String), spec: Option<&PodSpec>) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        owner,
        ports: spec.map(named_ports).unwrap_or_default(),
        host_network: spec.and_then(|spec| spec.host_network) == Some(true),
        ..Pod::default()
    }
}

/// The ports with a name, of containers and of sidecars (init containers that keep running; the others cannot serve).
fn named_ports(spec: &PodSpec) -> BTreeSet<(String, Protocol, u16)> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => Protocol::TCP,
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            _ => return None,
        };
        Some((port.name.clone()?, protocol, u16::try_from(port.container_port).ok()?))
    });
    named.collect()
}
