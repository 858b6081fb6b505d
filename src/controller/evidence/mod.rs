//! Evidence about the cluster, gathered by one loop per leg and read by everybody.
//!
//! Rules for the role generator. The controller: `list` on `leases` (coordination.k8s.io) in `kube-system`; `list` on
//! `endpointslices` (discovery.k8s.io) in `default`; `create` on `serviceaccounts/token` with resourceNames
//! `[cloison-canary]` in its own namespace. The account `cloison-canary`: `get` on the URL `/metrics`; `create` and
//! `patch` on `secrets` with resourceNames `[cloison-encryption-canary]` in the operator's namespace (a PATCH that
//! creates is authorized for `create` with the object's name, so no right on other Secrets and no Secret in the chart is
//! needed); and for the admission canaries what `admission` says they target, all of it dry-run. For `reads` the controller
//! also lends the account `cloison-sweeper` a role while it runs: see [`cluster::sweep`](crate::cluster::sweep).

pub mod admission;
pub mod encryption;
mod fleet;
pub mod reads;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Client, Config};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::api::conditions::Truth;
use crate::api::control_plane_report::KeyValues;
use crate::api::encryption_status::KeyStatus;
use crate::cluster::telemetry::Kind;
use crate::encryption::EncryptionProof;
use crate::encryption::rotation::Decision;
use crate::network::enforcement;
use admission::Expected;
use encryption::EncryptionSettings;
use reads::ReadsProof;

pub use fleet::Servers;

/// What every loop needs.
#[derive(Clone)]
pub struct Gathering {
    /// The controller's own connection.
    pub client: Client,
    /// Where the cluster's authority is found. Its credentials are not used.
    pub config: Config,
    /// The operator's namespace: the canary account and the canary Secret are there.
    pub namespace: String,
    /// Where findings go.
    pub evidence: Arc<Evidence>,
}

/// Runs the loops over the same connections. Never ends; drop it to stop, for instance when leadership is lost.
pub async fn run(
    gathering: Gathering,
    servers: Arc<Servers>,
    settings: watch::Receiver<EncryptionSettings>,
    expected: watch::Receiver<Option<Arc<Expected>>>,
) {
    let fleet = servers.fleet();
    tokio::join!(
        encryption::observe(&gathering, fleet, settings.clone()),
        reads::observe(&gathering, fleet, settings),
        admission::observe(&gathering, fleet, expected),
    );
}

/// Whether the generated policies refuse what they must, on every API server.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionProof {
    /// Whether all canaries were answered as they must be.
    pub truth: Truth,
    /// A CamelCase word.
    pub reason: &'static str,
    /// For people: one line.
    pub message: String,
    /// The hash of the policies that were seen.
    pub policy_hash: String,
    /// When this was last found to hold.
    pub at: Time,
}

impl AdmissionProof {
    fn says_the_same(&self, other: &Self) -> bool {
        let Self {
            truth,
            reason,
            message,
            policy_hash,
            at: _,
        } = other;
        (self.truth, self.reason) == (*truth, *reason) && (&self.message, &self.policy_hash) == (message, policy_hash)
    }
}

/// What the packet canary has shown of the network plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketProof {
    /// The verdict of its last run.
    pub verdict: enforcement::Verdict,
    /// When that run ended.
    pub at: Time,
}

/// Where the rotation of keys stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RotationSeen {
    /// What is done next, and what is in the way.
    pub decision: Decision,
    /// The keys of the ring.
    pub keys: Vec<KeyStatus>,
    /// Values per resource and key, at the last reading of etcd.
    pub values: Vec<KeyValues>,
}

/// All evidence at one moment. `None` until a first look.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Are new Secrets encrypted?
    pub encryption: Option<EncryptionProof>,
    /// Are stored Secrets encrypted? `None` also while nobody asks for reads.
    pub reads: Option<ReadsProof>,
    /// Do the policies refuse?
    pub admission: Option<AdmissionProof>,
    /// How do the keys rotate? `None` while nobody asks for it.
    pub rotation: Option<RotationSeen>,
    /// Does the network plugin enforce? `None` also while nobody asks for packets.
    pub packets: Option<PacketProof>,
}

/// The store of evidence: many readers, one writer per leg.
#[derive(Debug)]
pub struct Evidence {
    snapshot: watch::Sender<Snapshot>,
    proof_time: ProofTime,
}

/// When each leg last proved or disproved something, as a metric.
pub type ProofTime = Family<Kind, Gauge<f64, AtomicU64>>;

impl Default for Evidence {
    fn default() -> Self {
        Self::new()
    }
}

impl Evidence {
    /// An empty store.
    pub fn new() -> Self {
        Self::shown_by(ProofTime::default())
    }

    /// An empty store that shows the times of proofs.
    pub fn shown_by(proof_time: ProofTime) -> Self {
        Self {
            snapshot: watch::Sender::new(Snapshot::default()),
            proof_time,
        }
    }

    /// Unknown proves nothing, so it is no newer proof.
    fn show(&self, leg: &'static str, truth: Truth, at: &Time) {
        if truth != Truth::Unknown {
            let seconds = Duration::from_secs(u64::try_from(at.0.as_second()).unwrap_or_default());
            let gauge = self.proof_time.get_or_create(&Kind { kind: leg });
            gauge.set(seconds.as_secs_f64());
        }
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Wakes whenever a proof says something else. A proof that was merely found to hold again is stored with its new
    /// time and wakes nobody: ten thousand workloads would be reconciled every few seconds.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.subscribe()
    }

    /// Stores a proof about Secrets.
    pub fn publish_encryption(&self, proof: EncryptionProof) {
        self.show("encryption", proof.truth, &proof.at);
        self.snapshot.send_if_modified(|snapshot| {
            let same = snapshot
                .encryption
                .as_ref()
                .is_some_and(|known| known.says_the_same(&proof));
            snapshot.encryption = Some(proof);
            !same
        });
    }

    /// Stores what reading has shown; `None` when nobody asks for it any more.
    pub fn publish_reads(&self, proof: Option<ReadsProof>) {
        if let Some(proof) = &proof {
            self.show("reads", proof.reads.truth, &proof.at);
        }
        self.snapshot.send_if_modified(|snapshot| {
            let said =
                |proof: &Option<ReadsProof>| proof.as_ref().map(|proof| (proof.reads.clone(), proof.shape.clone()));
            let same = said(&snapshot.reads) == said(&proof);
            snapshot.reads = proof;
            !same
        });
    }

    /// Stores where the rotation stands; `None` when nobody asks for it any more. Counts alone wake nobody.
    pub fn publish_rotation(&self, seen: Option<RotationSeen>) {
        self.snapshot.send_if_modified(|snapshot| {
            let said = |seen: &Option<RotationSeen>| {
                let states = |seen: &RotationSeen| seen.keys.iter().map(|key| (key.id, key.state)).collect::<Vec<_>>();
                seen.as_ref().map(|seen| (seen.decision.clone(), states(seen)))
            };
            let same = said(&snapshot.rotation) == said(&seen);
            snapshot.rotation = seen;
            !same
        });
    }

    /// Stores a proof about admission.
    pub fn publish_admission(&self, proof: AdmissionProof) {
        self.show("admission", proof.truth, &proof.at);
        self.snapshot.send_if_modified(|snapshot| {
            let same = snapshot
                .admission
                .as_ref()
                .is_some_and(|known| known.says_the_same(&proof));
            snapshot.admission = Some(proof);
            !same
        });
    }

    /// Stores what packets have shown; `None` when nobody asks for it any more.
    pub fn publish_packets(&self, proof: Option<PacketProof>) {
        if let Some(proof) = &proof {
            self.show("packets", proof.verdict.truth, &proof.at);
        }
        self.snapshot.send_if_modified(|snapshot| {
            let verdict = |proof: &Option<PacketProof>| proof.as_ref().map(|proof| proof.verdict.clone());
            let same = verdict(&snapshot.packets) == verdict(&proof);
            snapshot.packets = proof;
            !same
        });
    }
}
