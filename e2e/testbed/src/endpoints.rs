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
use std::net::Ipv4Addr;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::processes::lock;
use crate::{Error, Etcd};

const ENDPOINTS: &str = "/registry/services/endpoints/default/kubernetes";
const ENDPOINT_SLICE: &str = "/registry/endpointslices/default/kubernetes";

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
        etcd.put(ENDPOINTS, self.endpoints(&addresses).to_string().as_bytes())
            .await?;
        etcd.put(ENDPOINT_SLICE, self.endpoint_slice(&addresses).to_string().as_bytes())
            .await
    }

    fn endpoints(&self, addresses: &[Ipv4Addr]) -> Value {
        let ips: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        let subset = json!({ "addresses": ips, "ports": [self.port()] });
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": self.metadata(
                "6f8e7a52-4b0c-4d0b-9f0e-2f3c6a0c1d01",
                &json!({ "endpointslice.kubernetes.io/skip-mirror": "true" }),
            ),
            "subsets": if addresses.is_empty() { json!([]) } else { json!([subset]) },
        })
    }

    fn endpoint_slice(&self, addresses: &[Ipv4Addr]) -> Value {
        let endpoints: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": self.metadata(
                "6f8e7a52-4b0c-4d0b-9f0e-2f3c6a0c1d02",
                &json!({ "kubernetes.io/service-name": "kubernetes" }),
            ),
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [self.port()],
        })
    }

    fn port(&self) -> Value {
        json!({ "name": "https", "port": self.port, "protocol": "TCP" })
    }

    fn metadata(&self, uid: &str, labels: &Value) -> Value {
        json!({
            "name": "kubernetes",
            "namespace": "default",
            "uid": uid,
            "creationTimestamp": self.created,
            "labels": labels,
        })
    }
}
