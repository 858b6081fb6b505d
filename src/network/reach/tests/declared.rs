//! A second opinion on the renderer: whether the declarations allow one connection.

use crate::api::names;
use crate::api::network::{CatalogueService, Port, Source, SourceKind, WorkloadRef};
use crate::api::stage::NamespaceStage;
use crate::network::presets::preset;
use crate::network::testkit::{End, Labels, Pod};
use crate::network::world::{Workload, WorkloadKey, World};

/// What the declarations say, read plainly: one connection, yes or no.
pub(super) fn declared(world: &World, from: &End, to: &End, probe: (&str, u16)) -> bool {
    let (client, server) = (member(world, from), member(world, to));
    if let (Some(client), Some(server)) = (client, server) {
        return client.key == server.key || between(client, server, probe);
    }
    if staged(world, from) && staged(world, to) {
        return false;
    }
    match (client, server) {
        (Some(client), None) => {
            let services = world.services().iter().filter(|entry| uses(client, entry));
            dns(to, probe)
                || api(client, to, probe)
                || outside(client, to, probe)
                || services
                    .into_iter()
                    .any(|entry| listed(&entry.ports, probe) && is_service(entry, to))
        }
        (None, Some(server)) => {
            let sources = world.sources().iter().filter(|entry| takes(server, entry));
            comes_in(server, from, probe)
                || sources
                    .into_iter()
                    .any(|entry| is_source(world, entry, from) && source_ports(server, entry, probe))
        }
        _ => false,
    }
}

pub(super) fn staged(world: &World, end: &End) -> bool {
    let End::Pod(Pod { namespace, .. }) = end else {
        return false;
    };
    world
        .stage_of(namespace)
        .and_then(NamespaceStage::workload_stage)
        .is_some()
}

fn member<'w>(world: &'w World, end: &End) -> Option<&'w Workload> {
    let End::Pod(Pod { namespace, labels, .. }) = end else {
        return None;
    };
    let name = labels
        .get(names::WORKLOAD_LABEL)
        .map_or(names::DEFAULT_WORKLOAD, String::as_str);
    world.workloads.get(&WorkloadKey::new(namespace, name))
}

fn listed(ports: &[Port], (protocol, port): (&str, u16)) -> bool {
    ports.iter().any(|written| {
        written.protocol.unwrap_or_default().as_str() == protocol
            && (written.port..=written.end_port.unwrap_or(written.port)).contains(&i32::from(port))
    })
}

fn serving(server: &Workload) -> &'static [u16] {
    preset(server.runtime).serving
}

fn between(client: &Workload, server: &Workload, probe: (&str, u16)) -> bool {
    if client.stage != server.stage {
        return false;
    }
    let means = |at: &Workload, other: &Workload, reference: &Option<WorkloadRef>| {
        reference.as_ref().is_some_and(|reference| {
            let namespace = reference.namespace.as_deref().unwrap_or(&at.key.namespace);
            (namespace, &*reference.name) == (other.key.namespace.as_str(), other.key.name.as_str())
        })
    };
    let (to, from) = (client.network.clone().unwrap(), server.network.clone().unwrap());
    let to: Vec<_> = to
        .connect_to
        .into_iter()
        .flatten()
        .filter(|entry| means(client, server, &entry.workload))
        .collect();
    let from: Vec<_> = from
        .accept_from
        .into_iter()
        .flatten()
        .filter(|entry| means(server, client, &entry.workload))
        .collect();
    let nobody_names_a_port = to.iter().any(|entry| entry.ports.is_none())
        && from.iter().any(|entry| entry.ports.is_none())
        && serving(server).is_empty();
    let asked = to
        .iter()
        .any(|entry| entry.ports.as_ref().is_none_or(|ports| listed(ports, probe)));
    let accepted = from.iter().any(|entry| match &entry.ports {
        Some(ports) => listed(ports, probe),
        None if serving(server).is_empty() => true,
        None => probe.0 == "TCP" && serving(server).contains(&probe.1),
    });
    asked && accepted && !nobody_names_a_port
}

fn uses(client: &Workload, entry: &CatalogueService) -> bool {
    let network = client.network.clone().unwrap();
    let mut written = network
        .connect_to
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.service);
    let for_us = entry
        .stages
        .as_ref()
        .is_none_or(|stages| stages.contains(&client.stage));
    for_us && (entry.automatic == Some(true) || written.any(|name| name == entry.name))
}

fn is_service(entry: &CatalogueService, end: &End) -> bool {
    match end {
        End::Pod(Pod { namespace, labels, .. }) => {
            entry.to.namespace.as_deref() == Some(namespace) && has(labels, entry.to.pod_labels.as_ref())
        }
        End::Address(address) => within(entry.to.cidrs.as_deref(), address),
    }
}

fn is_source(world: &World, entry: &Source, end: &End) -> bool {
    match end {
        End::Pod(Pod { namespace, labels, .. }) => {
            entry.from.namespace.as_deref() == Some(namespace) && has(labels, entry.from.pod_labels.as_ref())
        }
        End::Address(address) => {
            let nodes = entry.from.nodes.as_ref().map(|_| &world.cluster.nodes);
            within(entry.from.cidrs.as_deref(), address)
                || nodes.into_iter().flatten().any(|node| node.contains(address))
        }
    }
}

fn has(labels: &Labels, wanted: Option<&crate::api::network::PodLabels>) -> bool {
    let mut wanted = wanted.into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key).is_some_and(|found| **found == **value))
}

fn within(cidrs: Option<&[crate::api::text::Cidr]>, address: &std::net::IpAddr) -> bool {
    let mut networks = cidrs
        .unwrap_or_default()
        .iter()
        .filter_map(crate::api::text::Cidr::network);
    networks.any(|network| network.contains(address))
}

fn dns(to: &End, (_, port): (&str, u16)) -> bool {
    port == 53 && (*to == End::pod("kube-system", "k8s-app=kube-dns") || *to == End::address("10.96.0.10"))
}

fn api(client: &Workload, to: &End, probe: (&str, u16)) -> bool {
    let network = client.network.clone().unwrap();
    let mut written = network
        .connect_to
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.service);
    let there = (*to == End::address("192.168.7.2") && probe == ("TCP", 6443))
        || (*to == End::address("10.96.0.1") && probe == ("TCP", 443));
    there && written.any(|name| &*name == "kubernetes-api")
}

/// Of the networks that are written here, these two may be.
const FINE: [&str; 2] = ["203.0.113.0/24", "198.51.100.0/25"];

fn outside(client: &Workload, to: &End, probe: (&str, u16)) -> bool {
    let End::Address(address) = to else { return false };
    let network = client.network.clone().unwrap();
    let mut entries = network.connect_to.into_iter().flatten();
    entries.any(|entry| {
        let cidr = entry.cidr.filter(|cidr| FINE.contains(&cidr.0.as_str()));
        cidr.is_some_and(|cidr| within(Some(&[cidr]), address)) && listed(&entry.ports.unwrap_or_default(), probe)
    })
}

fn comes_in(server: &Workload, from: &End, probe: (&str, u16)) -> bool {
    let End::Address(address) = from else { return false };
    let entries: Vec<_> = server
        .network
        .clone()
        .unwrap()
        .accept_from
        .into_iter()
        .flatten()
        .collect();
    entries.iter().any(|entry| {
        let Some(cidr) = entry.cidr.clone().filter(|cidr| FINE.contains(&cidr.0.as_str())) else {
            return false;
        };
        // One entry without ports: the runtime's, for the whole flow.
        let mut same = entries.iter().filter(|other| other.cidr == entry.cidr);
        let ports = if same.any(|other| other.ports.is_none()) {
            probe.0 == "TCP" && serving(server).contains(&probe.1)
        } else {
            listed(entry.ports.as_deref().unwrap_or_default(), probe)
        };
        within(Some(&[cidr]), address) && ports
    })
}

fn takes(server: &Workload, entry: &Source) -> bool {
    let network = server.network.clone().unwrap();
    let mut written = network
        .accept_from
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.source);
    let for_us = entry
        .stages
        .as_ref()
        .is_none_or(|stages| stages.contains(&server.stage));
    for_us && (entry.automatic == Some(true) || written.any(|name| name == entry.name))
}

fn source_ports(server: &Workload, source: &Source, probe: (&str, u16)) -> bool {
    let network = server.network.clone().unwrap();
    let entries: Vec<_> = network
        .accept_from
        .into_iter()
        .flatten()
        .filter(|e| e.source.as_ref() == Some(&source.name))
        .collect();
    let limit = source.ports.as_ref().is_none_or(|ports| listed(ports, probe));
    let known = preset(server.runtime);
    let default = match source.kind {
        SourceKind::Gateway => known.serving,
        SourceKind::Scraper => known.metrics,
        SourceKind::Controller => known.controller,
    };
    let of_kind = match (&network.metrics_ports, source.kind) {
        (Some(ports), SourceKind::Scraper) => limit && ports.contains(&i32::from(probe.1)) && probe.0 == "TCP",
        _ if source.ports.is_some() => limit,
        _ => probe.0 == "TCP" && default.contains(&probe.1),
    };
    if !entries.is_empty() && entries.iter().all(|entry| entry.ports.is_some()) {
        return limit
            && entries
                .iter()
                .any(|entry| listed(entry.ports.as_deref().unwrap_or_default(), probe));
    }
    of_kind
}
