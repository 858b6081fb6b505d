//! Gathers the evidence about the encryption of Secrets. In a converged cluster a pass is one listing of Leases and one
//! scrape of `/metrics` per API server, at most one request every two seconds, and writes nothing; the canary Secret is
//! written through an API server only when its process or its configuration is new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Gathering;
use crate::api::encryption::{ApiServers, Attestation, SecretEncryptionSpec};
use crate::api::names;
use crate::cluster::api_servers::{self, Address, CanaryToken, Error, PinnedApiServer};
use crate::encryption::{Canary, EncryptionProof, Leases, Memory, Observation, Reading, Write, judge};

/// Endpoints are listed again after this even if every API server is accounted for.
const ENDPOINTS_INTERVAL: Duration = Duration::from_secs(30);
/// Behind a load balancer an address is dialled so often more in one pass, to meet the replica that is missing.
const EXTRA_DIALS: usize = 3;
/// For a whole pass: a deadline above all the others.
const PASS_TIMEOUT: Duration = Duration::from_mins(2);

/// How to look, out of `SecretEncryption`.
#[derive(Clone, Debug, PartialEq)]
pub struct EncryptionSettings {
    /// Where the API servers are.
    pub api_servers: ApiServers,
    /// A person's word, for control planes that hide the evidence.
    pub attestation: Option<Attestation>,
    /// The shortest pause between two passes.
    pub interval: Duration,
    /// The shortest time per request, on average: the idle program stays under one read a second, all loops together.
    pub pace: Duration,
    /// How long a proof outlives evidence that is missing.
    pub grace: Duration,
}

impl Default for EncryptionSettings {
    fn default() -> Self {
        Self::from(&SecretEncryptionSpec::default())
    }
}

impl From<&SecretEncryptionSpec> for EncryptionSettings {
    fn from(spec: &SecretEncryptionSpec) -> Self {
        Self {
            api_servers: spec.api_servers.clone(),
            attestation: spec.attestation.clone(),
            interval: Duration::from_secs(5),
            pace: Duration::from_secs(2),
            grace: Duration::from_secs(30),
        }
    }
}

/// Looks again and again, and publishes what it finds. Never ends; drop it to stop, for instance when leadership is
/// lost. A change of the settings starts a pass at once.
pub async fn run(gathering: Gathering, mut settings: watch::Receiver<EncryptionSettings>) {
    let mut observer = Observer::new(&gathering);
    loop {
        let now = settings.borrow_and_update().clone();
        let proof = observer.pass(&now).await;
        let known = gathering.evidence.snapshot().encryption;
        let proof = EncryptionProof::settle(known, proof, now.grace);
        tracing::debug!(
            truth = proof.truth.as_str(),
            reason = proof.reason,
            "encryption of Secrets"
        );
        gathering.evidence.publish_encryption(proof);
        tokio::select! {
            () = sleep(observer.pause(&now)) => {}
            // An error says that the sender is gone: the last settings hold.
            Ok(()) = settings.changed() => {}
        }
    }
}

/// One looker, with its connections and its memory.
struct Observer<'a> {
    gathering: &'a Gathering,
    token: Arc<CanaryToken>,
    origin: Instant,
    leases: Leases,
    memory: Memory,
    /// Where the API servers are, as of when, and by which settings.
    addresses: Vec<Address>,
    listed: Option<(Instant, ApiServers)>,
    connections: Vec<Held>,
    /// Addresses that did not answer in this pass, and why.
    silent: BTreeMap<Address, String>,
}

/// A connection and what it last showed.
struct Held {
    server: PinnedApiServer,
    reading: Reading,
}

impl<'a> Observer<'a> {
    fn new(gathering: &'a Gathering) -> Self {
        Self {
            gathering,
            token: Arc::default(),
            origin: Instant::now(),
            leases: Leases::default(),
            memory: Memory::default(),
            addresses: Vec::new(),
            listed: None,
            connections: Vec::new(),
            silent: BTreeMap::new(),
        }
    }

    /// Long enough that reads stay rare, however many API servers there are.
    fn pause(&self, settings: &EncryptionSettings) -> Duration {
        let requests = u32::try_from(self.connections.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        settings.interval.max(settings.pace.saturating_mul(requests))
    }

    async fn pass(&mut self, settings: &EncryptionSettings) -> EncryptionProof {
        let observed = timeout(PASS_TIMEOUT, self.observe(settings)).await;
        let now = Time(Timestamp::now());
        match observed {
            Ok(Ok(observation)) => judge(&observation, &now),
            Ok(Err(error)) => EncryptionProof::unreadable(error.to_string(), &now),
            Err(_) => EncryptionProof::unreadable("the API servers took too long to answer", &now),
        }
    }

    /// Leases are listed last, so that a replica that joins meanwhile is missed by the scrapes and not by the list.
    async fn observe(&mut self, settings: &EncryptionSettings) -> Result<Observation, Error> {
        let Gathering { client, namespace, .. } = self.gathering;
        self.token.refresh(client, namespace).await?;
        self.scrape().await;
        let mut observation = self.list_leases(settings).await?;
        if !observation.accounted() || self.addresses_are_old(settings) {
            self.list_addresses(settings).await?;
            self.dial_missing().await;
            self.dial_again(&observation).await;
            observation = self.list_leases(settings).await?;
        }
        if observation.may_write() && self.write_canaries().await {
            observation = self.list_leases(settings).await?;
        }
        Ok(observation)
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
            self.token.forget();
            false
        });
    }

    /// Lists the Leases, and puts everything that is known now together.
    async fn list_leases(&mut self, settings: &EncryptionSettings) -> Result<Observation, Error> {
        let listed = api_servers::identity_leases(&self.gathering.client).await?;
        let now = self.origin.elapsed();
        self.leases.observe(now, listed);
        for held in &self.connections {
            if let Reading::Seen(scrape) = &held.reading {
                self.memory.note(scrape, now);
            }
        }
        let answered = self.connections.iter().map(|held| {
            let address = held.server.address().to_string();
            self.memory.replica(&address, held.reading.clone())
        });
        let silent = self
            .silent
            .iter()
            .map(|(address, why)| self.memory.replica(&address.to_string(), Reading::Failed(why.clone())));
        Ok(Observation {
            leases: self.leases.fresh(now),
            replicas: answered.chain(silent).collect(),
            attestation: settings.attestation.clone(),
        })
    }

    fn addresses_are_old(&self, settings: &EncryptionSettings) -> bool {
        match &self.listed {
            Some((at, by)) => at.elapsed() > ENDPOINTS_INTERVAL || *by != settings.api_servers,
            None => true,
        }
    }

    async fn list_addresses(&mut self, settings: &EncryptionSettings) -> Result<(), Error> {
        self.addresses = api_servers::addresses(&self.gathering.client, &settings.api_servers).await?;
        self.listed = Some((Instant::now(), settings.api_servers.clone()));
        self.connections
            .retain(|held| self.addresses.contains(held.server.address()));
        self.silent.retain(|address, _| self.addresses.contains(address));
        Ok(())
    }

    async fn dial_missing(&mut self) {
        let held: BTreeSet<&Address> = self.connections.iter().map(|held| held.server.address()).collect();
        let missing: Vec<Address> = self
            .addresses
            .iter()
            .filter(|address| !held.contains(address))
            .cloned()
            .collect();
        for (address, dialled) in join_all(missing.into_iter().map(|address| self.dial(address))).await {
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
    async fn dial_again(&mut self, observation: &Observation) {
        if self.addresses.len() >= observation.leases.len() {
            return;
        }
        for _ in 0..EXTRA_DIALS {
            let again = self.addresses.iter().cloned().map(|address| self.dial(address));
            for (_, dialled) in join_all(again).await {
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

    async fn dial(&self, address: Address) -> (Address, Result<Held, String>) {
        let connected = PinnedApiServer::connect(&self.gathering.config, address.clone(), self.token.clone()).await;
        let held = match connected {
            Err(error) => Err(error.to_string()),
            Ok(server) => match server.read().await {
                Reading::Failed(why) => Err(why),
                reading => Ok(Held { server, reading }),
            },
        };
        (address, held)
    }

    /// Writes the canary Secret through every API server whose present state was not tried yet. One after the other:
    /// each write is to be the only one of ours between its two scrapes.
    async fn write_canaries(&mut self) -> bool {
        let mut tried = false;
        for held in &mut self.connections {
            let Reading::Seen(before) = &held.reading else { continue };
            if !self.memory.due(before, self.origin.elapsed()) {
                continue;
            }
            tried = true;
            let write = match write_canary(&held.server, &self.gathering.namespace).await {
                Ok(()) => Write::Done,
                Err(error) => Write::Refused(error.to_string()),
            };
            let after = held.server.read().await;
            if let Reading::Seen(after) = &after {
                let canary = Canary {
                    before: before.clone(),
                    write,
                    after: after.clone(),
                };
                self.memory.record(canary, self.origin.elapsed());
            }
            held.reading = after;
        }
        tried
    }
}

/// Applies the canary Secret with a content that it never had: an unchanged object is not written to etcd. Only its
/// metadata comes back. It does not carry the label `managed-by`, or our own policy would refuse the canary account.
async fn write_canary(server: &PinnedApiServer, namespace: &str) -> Result<(), Error> {
    let nonce = Timestamp::now().as_nanosecond().to_string();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(names::CANARY_SECRET.to_owned()),
            labels: Some(BTreeMap::from([(
                names::PART_OF_LABEL.to_owned(),
                names::CLOISON.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("nonce".to_owned(), ByteString(nonce.into_bytes()))])),
        ..Secret::default()
    };
    let parameters = PatchParams::apply(names::CANARY_ACCOUNT).force();
    server
        .ask("canary Secret", async |client| {
            let secrets: Api<Secret> = Api::namespaced(client, namespace);
            secrets
                .patch_metadata(names::CANARY_SECRET, &parameters, &Patch::Apply(&secret))
                .await
        })
        .await?;
    Ok(())
}
