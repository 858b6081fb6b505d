//! Gathers the evidence about the encryption of Secrets. In a converged cluster a pass is one listing of Leases and one
//! scrape of `/metrics` per API server, at most one request every two seconds, and writes nothing; the canary Secret is
//! written through an API server only when its process or its configuration is new.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use super::Gathering;
use super::fleet::{Fleet, Held};
use super::reads::ReadSettings;
use crate::api::encryption::{ApiServers, Attestation, Proof, SecretEncryptionSpec};
use crate::api::names;
use crate::cluster::api_servers::{Error, PinnedApiServer};
use crate::encryption::{Canary, EncryptionProof, Observation, Reading, Write, judge};

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
    /// Whether the canary Secret may be written.
    pub writes: bool,
    /// Whether, and how, stored Secrets are read too.
    pub reads: Option<ReadSettings>,
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
            writes: true,
            reads: (spec.proof == Proof::Reads).then(|| ReadSettings {
                rate: u32::try_from(spec.sweep.max_requests_per_second).unwrap_or(1),
                max_age: Duration::from_hours(u64::try_from(spec.proof_max_age_hours).unwrap_or(1)),
            }),
        }
    }
}

/// Looks when it is asked to, for whoever wants the proof now.
pub struct Observer {
    gathering: Gathering,
    settings: EncryptionSettings,
    fleet: Fleet,
}

impl Observer {
    /// Nothing was looked at yet.
    pub fn new(gathering: Gathering, settings: EncryptionSettings) -> Self {
        Self {
            gathering,
            settings,
            fleet: Fleet::new(),
        }
    }

    /// One look at every API server, with a canary Secret where its state was not tried by this observer yet.
    pub async fn look(&mut self) -> Result<Observation, Error> {
        match timeout(PASS_TIMEOUT, try_look(&self.gathering, &mut self.fleet, &self.settings)).await {
            Ok(seen) => seen,
            Err(_) => Err(Error::Timeout("a look at all API servers")),
        }
    }
}

/// Looks again and again, and publishes what it finds. Never ends; drop it to stop, for instance when leadership is
/// lost. A change of the settings starts a pass at once.
pub async fn run(gathering: Gathering, settings: watch::Receiver<EncryptionSettings>) {
    observe(&gathering, &Mutex::new(Fleet::new()), settings).await;
}

/// [`run`], with a fleet that others use too.
pub(super) async fn observe(
    gathering: &Gathering,
    fleet: &Mutex<Fleet>,
    mut settings: watch::Receiver<EncryptionSettings>,
) {
    loop {
        let now = settings.borrow_and_update().clone();
        let (proof, pause) = {
            let mut fleet = fleet.lock().await;
            (look(gathering, &mut fleet, &now).await, pause(&fleet, &now))
        };
        let known = gathering.evidence.snapshot().encryption;
        let proof = EncryptionProof::settle(known, proof, now.grace);
        tracing::debug!(
            truth = proof.truth.as_str(),
            reason = proof.reason,
            "encryption of Secrets"
        );
        gathering.evidence.publish_encryption(proof);
        tokio::select! {
            () = sleep(pause) => {}
            // An error says that the sender is gone: the last settings hold.
            Ok(()) = settings.changed() => {}
        }
    }
}

/// Long enough that reads stay rare, however many API servers there are.
fn pause(fleet: &Fleet, settings: &EncryptionSettings) -> Duration {
    let requests = u32::try_from(fleet.connections.len())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    settings.interval.max(settings.pace.saturating_mul(requests))
}

async fn look(gathering: &Gathering, fleet: &mut Fleet, settings: &EncryptionSettings) -> EncryptionProof {
    let seen = timeout(PASS_TIMEOUT, try_look(gathering, fleet, settings)).await;
    let now = Time(Timestamp::now());
    match seen {
        Ok(Ok(observation)) => judge(&observation, &now),
        Ok(Err(error)) => EncryptionProof::unreadable(error.to_string(), &now),
        Err(_) => EncryptionProof::unreadable("the API servers took too long to answer", &now),
    }
}

async fn try_look(
    gathering: &Gathering,
    fleet: &mut Fleet,
    settings: &EncryptionSettings,
) -> Result<Observation, Error> {
    fleet.look(gathering, &settings.api_servers).await?;
    let observation = fleet.observation(settings.attestation.as_ref());
    if settings.writes && observation.may_write() && write_canaries(gathering, fleet).await {
        fleet.list_leases(gathering).await?;
        return Ok(fleet.observation(settings.attestation.as_ref()));
    }
    Ok(observation)
}

/// Writes the canary Secret through every API server whose present state was not tried yet. One after the other: each
/// write is to be the only one of ours between its two scrapes.
async fn write_canaries(gathering: &Gathering, fleet: &mut Fleet) -> bool {
    let mut tried = false;
    for index in 0..fleet.connections.len() {
        let now = fleet.now();
        let Some(Held { server, reading }) = fleet.connections.get_mut(index) else {
            break;
        };
        let Reading::Seen(before) = &*reading else { continue };
        if !fleet.memory.due(before, now) {
            continue;
        }
        tried = true;
        let write = match write_canary(server, &gathering.namespace).await {
            Ok(()) => Write::Done,
            Err(error) => Write::Refused(error.to_string()),
        };
        let after = server.read().await;
        if let Reading::Seen(after) = &after {
            let canary = Canary {
                before: before.clone(),
                write,
                after: after.clone(),
            };
            fleet.memory.record(canary, now);
        }
        *reading = after;
    }
    tried
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
