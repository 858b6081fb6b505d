//! The `kubernetes` Endpoints and EndpointSlice, by which clients discover the replicas.
//!
//! The API servers' own lease reconciler cannot write them here: its Endpoints go through validation,
//! which refuses loopback addresses ("may not be in the loopback range"), and so do ours through the API.
//! Any other address would need changes to the machine's network, and root. So the API servers run with
//! `--endpoint-reconciler-type=none`, and the control plane writes the two objects into etcd, where nothing
//! validates; reading and watching them through the API works as ever.
//!
//! As with the lease reconciler, an orderly stop removes an address and a crash leaves it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::processes::lock;
use crate::{Error, Etcd};

/// The endpoints of the API servers.
#[derive(Debug)]
pub(crate) struct Endpoints {
    addresses: Mutex<BTreeSet<Ipv4Addr>>,
    /// The same for all replicas, as in a real cluster; an EndpointSlice has one list of ports.
    port: u16,
    created: Time,
}

impl Endpoints {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            addresses: Mutex::new(BTreeSet::new()),
            port,
            created: Time(Timestamp::now()),
        }
    }

    /// Takes effect with the next [`Endpoints::publish`].
    pub(crate) fn add(&self, address: Ipv4Addr) {
        lock(&self.addresses).insert(address);
    }

    /// Takes effect with the next [`Endpoints::publish`].
    pub(crate) fn remove(&self, address: Ipv4Addr) {
        lock(&self.addresses).remove(&address);
    }

    pub(crate) async fn publish(&self, etcd: &Etcd) -> Result<(), Error> {
        let addresses: Vec<Ipv4Addr> = lock(&self.addresses).iter().copied().collect();
        let port = [json!({ "name": "https", "port": self.port, "protocol": "TCP" })];
        publish(etcd, ("default", "kubernetes"), &addresses, &port, &self.created).await
    }
}

/// Deprecated, but the API servers of a real cluster still write it, and those before 1.34 find webhooks by it.
fn endpoints((namespace, service): (&str, &str), addresses: &[Ipv4Addr], ports: &[Value], created: &Time) -> Value {
    let ips: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
    let subset = json!({ "addresses": ips, "ports": ports });
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": service,
            "namespace": namespace,
            "uid": "6f8e7a52-4b0c-4d0b-9f0e-2f3c6a0c1d01",
            "creationTimestamp": created,
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": if addresses.is_empty() { json!([]) } else { json!([subset]) },
    })
}

/// Leads the named ports of a Service to one address; see [`crate::ControlPlane::route_service`].
pub(crate) async fn route(
    etcd: &Etcd,
    namespace: &str,
    service: &str,
    port_names: Vec<String>,
    to: SocketAddrV4,
) -> Result<(), Error> {
    let ports: Vec<Value> = port_names
        .into_iter()
        .map(|name| json!({ "name": name, "port": to.port(), "protocol": "TCP" }))
        .collect();
    let created = Time(Timestamp::now());
    publish(etcd, (namespace, service), &[*to.ip()], &ports, &created).await
}

/// Writes both objects of a Service.
async fn publish(
    etcd: &Etcd,
    service: (&str, &str),
    addresses: &[Ipv4Addr],
    ports: &[Value],
    created: &Time,
) -> Result<(), Error> {
    let (namespace, name) = service;
    let old = endpoints(service, addresses, ports, created);
    put(etcd, &format!("services/endpoints/{namespace}/{name}"), &old).await?;
    let slice = endpoint_slice(service, addresses, ports, created);
    put(etcd, &format!("endpointslices/{namespace}/{name}"), &slice).await
}

fn endpoint_slice(
    (namespace, service): (&str, &str),
    addresses: &[Ipv4Addr],
    ports: &[Value],
    created: &Time,
) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": namespace,
            // Nothing looks at it, but an object without one is none.
            "uid": "6f8e7a52-4b0c-4d0b-9f0e-2f3c6a0c1d02",
            "creationTimestamp": created,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    })
}

async fn put(etcd: &Etcd, key: &str, object: &Value) -> Result<(), Error> {
    etcd.put(&format!("/registry/{key}"), object.to_string().as_bytes())
        .await
}
