//! Every API server, one by one. A Service spreads connections over all of them; evidence needs to know which one
//! answered, so here each is dialled at its own address and spoken to on one connection that is never replaced in
//! silence: when it breaks, requests fail.
//!
//! Rights used. By the controller: `get`, `list` on Leases in kube-system; `list` on EndpointSlices in `default`;
//! `create` on `serviceaccounts/token` of the account it speaks for, in its own namespace.

mod pinned;
mod token;

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::api::encryption::{ApiServers, Discovery};
use crate::encryption::SeenLease;

pub use pinned::PinnedApiServer;
pub use token::AccountToken;

/// The name every API server's certificate is valid for.
const SERVER_NAME: &str = "kubernetes.default.svc";
const IDENTITY_SELECTOR: &str = "apiserver.kubernetes.io/identity=kube-apiserver";
const PEER_ADDRESS: &str = "kubernetes.io/peer-advertise-address";

/// For one request, its answer included. `/metrics` of a large API server takes seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// More of these in a listing are not API servers.
const LIMIT: u32 = 100;

/// Why an API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("{what}: {source}")]
    Connection {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Too slow.
    #[error("{0}: no answer in time")]
    Timeout(&'static str),
    /// HTTP on the connection.
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    /// The API server answered with an error, or with something else than was asked for.
    #[error("{}", words(.0))]
    Api(#[from] kube::Error),
    /// An address or a token that cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// The API server's own words where it answered: one line for people.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}

impl Error {
    /// Whether the API server answered and will not say: repeating the request changes nothing.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if [403, 404].contains(&status.code))
    }

    /// Whether the token was not accepted.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 401)
    }
}

/// Where an API server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// An address of host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Parses `host:port` and `[v6]:port`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Unusable(format!("`{text}` in spec.apiServers.endpoints is not host:port"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self::new(host, port))
    }

    /// An address out of an EndpointSlice says nothing about names, so the one that all API servers share is checked;
    /// a host name that an admin wrote has to be the certificate's own.
    fn server_name(&self) -> &str {
        let is_address = self.host.parse::<std::net::IpAddr>().is_ok();
        if is_address { SERVER_NAME } else { &self.host }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where the API servers are: what the admin listed, else the endpoints of the Service `default/kubernetes`. Sorted.
pub async fn addresses(client: &Client, spec: &ApiServers) -> Result<Vec<Address>, Error> {
    let mut found = match (spec.discovery, &spec.endpoints) {
        (Discovery::Static, Some(listed)) => listed
            .iter()
            .map(|text| Address::parse(text))
            .collect::<Result<_, _>>()?,
        _ => endpoints(client).await?,
    };
    found.sort();
    found.dedup();
    Ok(found)
}

async fn endpoints(client: &Client) -> Result<Vec<Address>, Error> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let selector = ListParams::default()
        .labels("kubernetes.io/service-name=kubernetes")
        .limit(LIMIT);
    let slices = within("endpoints of default/kubernetes", slices.list(&selector)).await?;
    let addresses_of = |slice: EndpointSlice| {
        let ports: Vec<u16> = slice
            .ports
            .into_iter()
            .flatten()
            .filter_map(|port| u16::try_from(port.port?).ok())
            .collect();
        slice
            .endpoints
            .into_iter()
            .flat_map(|endpoint| endpoint.addresses)
            .flat_map(move |host| {
                ports
                    .clone()
                    .into_iter()
                    .map(move |port| Address::new(host.clone(), port))
            })
    };
    Ok(slices.items.into_iter().flat_map(addresses_of).collect())
}

/// The identity Leases of all API servers.
pub async fn identity_leases(client: &Client) -> Result<Vec<SeenLease>, Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let selector = ListParams::default().labels(IDENTITY_SELECTOR).limit(LIMIT);
    let leases = within("identity Leases in kube-system", leases.list(&selector)).await?;
    let seen = |lease: Lease| {
        let meta = lease.metadata;
        Some(SeenLease {
            name: meta.name?,
            // Renewing a Lease is the only thing that is done to it, so its version stands for renewTime, and no clock
            // has to be read.
            renewal: meta.resource_version?,
            peer_address: meta.annotations.and_then(|mut all| all.remove(PEER_ADDRESS)),
        })
    };
    Ok(leases.items.into_iter().filter_map(seen).collect())
}

async fn within<T, E>(what: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    match timeout(REQUEST_TIMEOUT, work).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Timeout(what)),
    }
}
