//! The API servers as they are now: who is alive, one connection to each, and what each shows of itself. Both loops use
//! one fleet, so that a replica is dialled, scraped and counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::Gathering;
use crate::api::encryption::{ApiServers, Attestation};
use crate::api::names;
use crate::cluster::api_servers::{self, AccountToken, Address, Error, PinnedApiServer};
use crate::encryption::{FreshLease, Leases, Memory, Observation, Reading};

/// Endpoints are listed again after this even if every API server is accounted for.
const ENDPOINTS_INTERVAL: Duration = Duration::from_secs(30);
/// Behind a load balancer an address is dialled so often more in one pass, to meet the replica that is missing.
const EXTRA_DIALS: usize = 3;
/// For one look at everybody, other loops' turns included.
const LOOK: Duration = Duration::from_mins(2);

/// A connection and what it last showed.
pub(super) struct Held {
    pub server: PinnedApiServer,
    pub reading: Reading,
}

/// All API servers, and the memory of what canaries showed of them.
pub(super) struct Fleet {
    token: Arc<AccountToken>,
    origin: Instant,
    tracker: Leases,
    leases: Vec<FreshLease>,
    /// When they were listed last.
    counted: Option<Instant>,
    /// Where the API servers are, as of when, and by which settings.
    addresses: Vec<Address>,
    listed: Option<(Instant, ApiServers)>,
    pub connections: Vec<Held>,
    /// Addresses that did not answer in the last pass, and why.
    silent: BTreeMap<Address, String>,
    pub memory: Memory,
    members: watch::Sender<BTreeSet<String>>,
}

/// The one fleet of a process, which its loops share.
pub struct Servers(Mutex<Fleet>);

impl Default for Servers {
    fn default() -> Self {
        Self(Mutex::new(Fleet::new()))
    }
}

impl Servers {
    pub(super) fn fleet(&self) -> &Mutex<Fleet> {
        &self.0
    }

    /// Who there is at this moment.
    pub async fn now(&self, gathering: &Gathering, spec: &ApiServers) -> Result<Observation, Error> {
        let looked = async {
            let mut fleet = self.0.lock().await;
            fleet.look(gathering, spec).await?;
            Ok(fleet.observation(None))
        };
        timeout(LOOK, looked)
            .await
            .unwrap_or(Err(Error::Timeout("a look at all API servers")))
    }
}

impl Fleet {
    pub fn new() -> Self {
        Self {
            token: Arc::new(AccountToken::of(names::CANARY_ACCOUNT)),
            origin: Instant::now(),
            tracker: Leases::default(),
            leases: Vec::new(),
            counted: None,
            addresses: Vec::new(),
            listed: None,
            connections: Vec::new(),
            silent: BTreeMap::new(),
            memory: Memory::default(),
            members: watch::Sender::default(),
        }
    }

    /// A monotonic clock.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// How long ago it was seen which API servers there are; `None` before the first time.
    pub fn leases_age(&self) -> Option<Duration> {
        self.counted.map(|at| at.elapsed())
    }

    /// Wakes when an API server joined, left or restarted.
    pub fn members(&self) -> watch::Receiver<BTreeSet<String>> {
        self.members.subscribe()
    }

    /// Looks at everybody, with one scrape for each and one listing of Leases if nothing changed. Leases are listed last,
    /// so that a replica that joins meanwhile is missed by the scrapes and not by the list.
    pub async fn look(&mut self, gathering: &Gathering, spec: &ApiServers) -> Result<(), Error> {
        self.token.refresh(&gathering.client, &gathering.namespace).await?;
        self.scrape().await;
        self.list_leases(gathering).await?;
        let old = match &self.listed {
            Some((at, by)) => at.elapsed() > ENDPOINTS_INTERVAL || by != spec,
            None => true,
        };
        if old || !self.observation(None).accounted() {
            self.list_addresses(gathering, spec).await?;
            self.dial_missing(gathering).await;
            self.dial_again(gathering).await;
            self.list_leases(gathering).await?;
        }
        self.members.send_if_modified(|known| {
            let now = Self::states(&self.connections);
            let changed = *known != now;
            *known = now;
            changed
        });
        Ok(())
    }

    /// Everything that is known now, put together.
    pub fn observation(&self, attestation: Option<&Attestation>) -> Observation {
        let answered = self.connections.iter().map(|held| {
            let address = held.server.address().to_string();
            self.memory.replica(&address, held.reading.clone())
        });
        let silent = self
            .silent
            .iter()
            .map(|(address, why)| self.memory.replica(&address.to_string(), Reading::Failed(why.clone())));
        Observation {
            leases: self.leases.clone(),
            replicas: answered.chain(silent).collect(),
            attestation: attestation.cloned(),
        }
    }

    pub async fn list_leases(&mut self, gathering: &Gathering) -> Result<(), Error> {
        let listed = api_servers::identity_leases(&gathering.client).await?;
        let now = self.now();
        self.tracker.observe(now, listed);
        self.leases = self.tracker.fresh(now);
        self.counted = Some(Instant::now());
        for held in &self.connections {
            if let Reading::Seen(scrape) = &held.reading {
                self.memory.note(scrape, now);
            }
        }
        Ok(())
    }

    fn states(connections: &[Held]) -> BTreeSet<String> {
        let state = |held: &Held| match &held.reading {
            Reading::Seen(scrape) => format!("{} {:?}", held.server.address(), scrape.started),
            Reading::Hidden(_) | Reading::Failed(_) => held.server.address().to_string(),
        };
        connections.iter().map(state).collect()
    }

    async fn scrape(&mut self) {
        self.silent.clear();
        let readings = join_all(self.connections.iter().map(|held| held.server.read())).await;
        for (held, reading) in self.connections.iter_mut().zip(readings) {
            held.reading = reading;
        }
        // A broken connection is never used again; its address is dialled anew in the same pass.
        self.connections.retain(|held| {
            let Reading::Failed(why) = &held.reading else {
                return true;
            };
            self.silent.insert(held.server.address().clone(), why.clone());
            // Perhaps the token was not accepted. The next pass mints one.
            self.token.forget();
            false
        });
    }

    async fn list_addresses(&mut self, gathering: &Gathering, spec: &ApiServers) -> Result<(), Error> {
        self.addresses = api_servers::addresses(&gathering.client, spec).await?;
        self.listed = Some((Instant::now(), spec.clone()));
        self.connections
            .retain(|held| self.addresses.contains(held.server.address()));
        self.silent.retain(|address, _| self.addresses.contains(address));
        Ok(())
    }

    async fn dial_missing(&mut self, gathering: &Gathering) {
        self.token.refresh(&gathering.client, &gathering.namespace).await.ok();
        let held: BTreeSet<&Address> = self.connections.iter().map(|held| held.server.address()).collect();
        let missing = self.addresses.iter().filter(|address| !held.contains(address)).cloned();
        let dialled = join_all(missing.map(|address| self.dial(gathering, address))).await;
        for (address, dialled) in dialled {
            match dialled {
                Ok(held) => {
                    self.silent.remove(&address);
                    self.connections.push(held);
                }
                Err(why) => {
                    self.silent.insert(address, why);
                }
            }
        }
    }

    /// Behind a load balancer another connection may lead to another replica. What is found is held, so this is rare.
    async fn dial_again(&mut self, gathering: &Gathering) {
        for _ in 0..EXTRA_DIALS {
            if self.addresses.len() >= self.leases.len() || self.observation(None).accounted() {
                return;
            }
            let again = self.addresses.iter().cloned();
            let dialled = join_all(again.map(|address| self.dial(gathering, address))).await;
            for (_, dialled) in dialled {
                let Ok(held) = dialled else { continue };
                let Reading::Seen(new) = &held.reading else { continue };
                let known = self.connections.iter().any(|other| match &other.reading {
                    Reading::Seen(scrape) => scrape.state() == new.state(),
                    Reading::Hidden(_) | Reading::Failed(_) => false,
                });
                if !known {
                    self.connections.push(held);
                }
            }
        }
    }

    async fn dial(&self, gathering: &Gathering, address: Address) -> (Address, Result<Held, String>) {
        let connected = PinnedApiServer::connect(&gathering.config, address.clone(), self.token.clone()).await;
        let held = match connected {
            Err(error) => Err(error.to_string()),
            Ok(server) => match server.read().await {
                Reading::Failed(why) => Err(why),
                reading => Ok(Held { server, reading }),
            },
        };
        (address, held)
    }
}
