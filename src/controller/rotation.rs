//! Rotates the keys, in `mode: Manage`. Looks at the agents' reports, the ring and the API servers, asks
//! [`plan`], writes down what the agents are to do, and runs the sweep. What is decided is decided there; what was
//! remembered is lost with the term, and gathered anew.

mod shown;
mod sweeping;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as ClusterNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};

use self::sweeping::Sweeping;
use super::context::Context;
use super::error::{Class, Error};
use super::evidence::{Gathering, RotationSeen, Servers};
use crate::api::control_plane_report::{ControlPlaneReport, RawProof};
use crate::api::encryption::EncryptionMode;
use crate::api::encryption_status::Order;
use crate::api::key_ring::{EncryptionKeyRing, EncryptionKeyRingSpec};
use crate::api::{SecretEncryption, names};
use crate::cluster::orders;
use crate::encryption::judge::barrier;
use crate::encryption::rotation::at_rest::AtRest;
use crate::encryption::rotation::facts::{answered, newest_reading};
use crate::encryption::rotation::observation::{Node, Proof, Report, Ring, Standing, Wish};
use crate::encryption::rotation::residual::residual;
use crate::encryption::rotation::{
    Action, Blocked, Decision, Observation, Records, abandoned, claims, persistence, plaintext, plan, told,
};

/// Between two looks while something goes on.
const WORK: Duration = Duration::from_secs(2);
/// After so long without another decision a person or a clock is waited for.
const CALM: Duration = Duration::from_mins(2);
/// Between two looks otherwise: it is seen within this time that an API server came or went.
const REST: Duration = Duration::from_secs(15);
/// What was proven outlives evidence that is missing for so long: an API server that restarts.
const GRACE: Duration = Duration::from_secs(30);

/// Looks for ever, while `mode: Manage` asks for it.
pub async fn run(ctx: Arc<Context>, gathering: Gathering, servers: Arc<Servers>) {
    let mut rotation = Rotation::new(ctx, gathering, servers);
    loop {
        if rotation.due()
            && let Err(error) = rotation.pass().await
        {
            match error.class() {
                // Somebody else changed it between the look and the order.
                Class::Conflict => tracing::debug!(%error, "rotation: looking again"),
                Class::Transient => tracing::warn!(%error, "rotation: nothing is decided"),
                Class::Permanent => {
                    tracing::warn!(%error, "rotation: nothing is decided");
                    rotation.unread(error.line());
                }
            }
        }
        sleep(WORK).await;
    }
}

struct Rotation {
    ctx: Arc<Context>,
    gathering: Gathering,
    servers: Arc<Servers>,
    origin: Instant,
    records: Records,
    /// Reports by node: the version, and since when it is that one.
    reports: HashMap<String, (Option<String>, Instant)>,
    sweeping: Sweeping,
    /// As it was after our last write: the store may show it later.
    written: Option<SecretEncryption>,
    last: Option<Last>,
    /// Since when API servers have run with different files.
    diverging: Option<Instant>,
    /// What was last said of all stored values.
    at_rest: Option<AtRest>,
}

/// The look before.
struct Last {
    /// The version of `SecretEncryption` after it.
    version: Option<String>,
    at: Instant,
    decision: Decision,
    /// Since when this is the decision.
    since: Instant,
}

impl Last {
    /// Nothing is due, or nothing that happens within seconds.
    fn rests(&self) -> bool {
        let idle = self.decision.action == Action::Nothing && self.decision.blocked_by.is_empty();
        idle || self.since.elapsed() >= CALM
    }
}

/// What one look found, with what the status shows of it.
struct Look {
    seen: Observation,
    ring: EncryptionKeyRingSpec,
    /// The reading of etcd that counts.
    read: Option<RawProof>,
    /// The annotation that names keys to give up.
    abandoned: Option<String>,
    /// What agents say is wrong, by node.
    errors: Vec<(String, String)>,
}

impl Rotation {
    fn new(ctx: Arc<Context>, gathering: Gathering, servers: Arc<Servers>) -> Self {
        Self {
            ctx,
            gathering,
            servers,
            origin: Instant::now(),
            records: Records::default(),
            reports: HashMap::new(),
            sweeping: Sweeping::default(),
            written: None,
            last: None,
            diverging: None,
            at_rest: None,
        }
    }

    /// `SecretEncryption` as we know it.
    fn wanted(&self) -> Option<SecretEncryption> {
        let found = self.ctx.caches.encryptions.get(&ObjectRef::new(names::SINGLETON))?;
        let version = |it: &SecretEncryption| it.resource_version()?.parse::<u64>().ok();
        let newer = |written: &&SecretEncryption| written.uid() == found.uid() && version(written) > version(&found);
        let written = self.written.as_ref().filter(newer);
        Some(written.map_or_else(|| found.as_ref().clone(), SecretEncryption::clone))
    }

    /// Whether it is time for a look. In any other mode nothing is asked of anybody.
    fn due(&mut self) -> bool {
        let Some(wanted) = self
            .wanted()
            .filter(|wanted| wanted.spec.mode == EncryptionMode::Manage)
        else {
            if self.last.take().is_some() {
                self.records = Records::default();
                self.reports.clear();
                self.sweeping.stop();
                self.at_rest = None;
                self.ctx.metrics.encryption.clear();
                self.gathering.evidence.publish_rotation(None);
            }
            return false;
        };
        // While nothing is decided, what was ordered goes on being ordered, and no more.
        if self.ctx.view().hold("").is_some() {
            self.sweeping.stop();
            return false;
        }
        self.last
            .as_ref()
            .is_none_or(|last| !last.rests() || last.version != wanted.resource_version() || last.at.elapsed() >= REST)
    }

    async fn pass(&mut self) -> Result<(), Error> {
        let Some(wanted) = self.wanted() else { return Ok(()) };
        // It counts only if the barrier that it began under is still the same at the look that follows.
        if let Some((under, pass)) = self.sweeping.ended(&self.ctx.metrics.encryption) {
            self.records.swept(&under, pass);
        }
        let mut look = self.look(&wanted).await?;
        self.records = Records::after(&look.seen);
        look.seen.records = self.records.clone();
        let decision = plan(&look.seen);
        let order = decision.order(&look.seen);
        if look.seen.order.order.as_ref() != Some(&order) {
            tracing::info!(step = ?decision.step, action = %decision.action, number = order.number, "rotation");
            self.order(&wanted, &order).await?;
        }
        match (&decision.action, self.records.held()) {
            (Action::StartSweep, Some(held)) => self.sweeping.start(&self.gathering, held, wanted.spec.sweep),
            _ => self.sweeping.stop(),
        }
        let before = self.last.take().filter(|last| last.decision == decision);
        let now = Instant::now();
        let since = before.map_or(now, |last| last.since);
        self.last = Some(Last {
            version: self.wanted().and_then(|wanted| wanted.resource_version()),
            at: now,
            decision: decision.clone(),
            since,
        });
        let differ = claims::divergent(&look.seen);
        self.diverging = differ.as_ref().map(|_| self.diverging.unwrap_or(now));
        let diverging = self.diverging.map(|since| since.elapsed()).zip(differ);
        let decision = decision.told(since.elapsed(), &look.errors, diverging);
        let purged = wanted.annotations().get(names::PURGED_ANNOTATION);
        self.publish(&look, decision, purged.map(String::as_str));
        Ok(())
    }

    /// Who must have answered is asked last, so that who comes meanwhile is missed by the reports and not by the lists.
    async fn look(&mut self, wanted: &SecretEncryption) -> Result<Look, Error> {
        let client = || self.gathering.client.clone();
        let reports: Api<ControlPlaneReport> = Api::all(client());
        let listed = reports.list(&ListParams::default()).await;
        let reports = listed.map_err(Error::api("list ControlPlaneReports"))?.items;
        let ring: Api<EncryptionKeyRing> = Api::all(client());
        let ring = ring.get_opt(names::SINGLETON).await;
        let ring = ring.map_err(Error::api(format!("read EncryptionKeyRing {}", names::SINGLETON)))?;
        let now = Instant::now();
        let (leases, answered, unaccounted) = match self.servers.now(&self.gathering, &wanted.spec.api_servers).await {
            Ok(seen) => (seen.leases.clone(), answered(&seen), barrier(&seen).map(|(_, why)| why)),
            Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
        };
        let nodes: Api<ClusterNode> = Api::all(client());
        let listed = nodes
            .list_metadata(&ListParams::default().labels(names::CONTROL_PLANE_LABEL))
            .await;
        let nodes = listed.map_err(Error::api("list control-plane Nodes"))?.items;
        // A report counts as that of the node it is named after, and of no other; whose Node lacks the label is nobody.
        let of = |name: &str| reports.iter().find(|report| report.name_any() == name);
        self.reports.retain(|name, _| of(name).is_some());
        let each = nodes.iter().map(|node| {
            let name = node.name_any();
            let report = of(&name);
            let since = report.map(|report| {
                let version = report.resource_version();
                let entry = self
                    .reports
                    .entry(name.clone())
                    .or_insert_with(|| (version.clone(), now));
                if entry.0 != version {
                    *entry = (version, now);
                }
                entry.1
            });
            Node {
                silent_for: since.map_or(Duration::MAX, |since| since.elapsed()),
                report: report.map(|report| Report::of(&report.spec)),
                name,
            }
        });
        let nodes: Vec<Node> = each.collect();
        let reports: Vec<_> = nodes
            .iter()
            .filter_map(|node| Some((node.silent_for, &of(&node.name)?.spec)))
            .collect();
        let (newest, compacted) = newest_reading(&reports);
        let read = newest.and_then(|report| report.proof.clone());
        let error = |node: &Node| Some((node.name.clone(), of(&node.name)?.spec.error.as_ref()?.0.clone()));
        let errors = nodes.iter().filter_map(error).collect();
        let ring = ring.map_or_else(none, |ring| ring.spec);
        let known = Ring::of(&ring, &Time(Timestamp::now()));
        let request = wanted.annotations().get(names::ROTATION_ANNOTATION);
        let abandoned = wanted.annotations().get(names::ABANDONED_ANNOTATION).cloned();
        let seen = Observation {
            wish: Wish::of(
                &wanted.spec,
                request.filter(|request| request.len() <= REQUEST).cloned(),
                abandoned
                    .as_deref()
                    .map(|names| abandoned::numbers(names, &known))
                    .unwrap_or_default(),
            ),
            ring: known,
            leases,
            unaccounted,
            answered,
            order: Standing::of(wanted.status.as_ref().and_then(|status| status.order.as_ref())),
            records: self.records.clone(),
            latest_proof: read.as_ref().map(Proof::of),
            compacted,
            now: self.origin.elapsed(),
            nodes,
        };
        Ok(Look {
            seen,
            ring,
            read,
            abandoned,
            errors,
        })
    }

    /// Over the version that was looked at and no other.
    async fn order(&mut self, wanted: &SecretEncryption, order: &Order) -> Result<(), Error> {
        let written = orders::write(&self.gathering.client, wanted, order).await;
        self.written = Some(written.map_err(Error::api("order by the status of SecretEncryption default"))?);
        Ok(())
    }

    fn publish(&mut self, look: &Look, decision: Decision, purged: Option<&str>) {
        let proof = look.read.as_ref();
        let now = Time(Context::moment());
        let at_rest = AtRest::of(&look.seen, proof, &now);
        let at_rest = AtRest::settle(self.at_rest.take(), at_rest, GRACE);
        self.at_rest = Some(at_rest.clone());
        let mut claims = claims::claims(&look.seen).to_vec();
        claims.push(residual(&look.seen, &look.ring, purged, &now));
        claims.push(persistence::verdict(&look.seen));
        claims.extend(plaintext::verdict(&look.seen, &decision));
        claims.extend(abandoned::verdict(&look.seen, look.abandoned.as_deref()));
        let seen = RotationSeen {
            keys: told::keys(&look.ring, &look.seen),
            values: proof.map(|proof| proof.values.clone()).unwrap_or_default(),
            decision,
            claims,
            at_rest,
        };
        let replicas = claims::replicas_converged(&look.seen);
        shown::show(&self.ctx.metrics.encryption, &seen, replicas);
        self.gathering.evidence.publish_rotation(Some(seen));
    }

    /// Nothing can be said while what a decision needs cannot be read.
    fn unread(&mut self, why: String) {
        let at_rest = AtRest::unread(Blocked::NotRead(why.clone()).to_string(), &Time(Context::moment()));
        self.at_rest = Some(at_rest.clone());
        self.ctx.metrics.encryption.clear();
        self.gathering.evidence.publish_rotation(Some(RotationSeen {
            decision: Decision::unread(why),
            keys: Vec::new(),
            values: Vec::new(),
            claims: Vec::new(),
            at_rest,
        }));
    }
}

/// The longest request for a rotation that a key can bear.
const REQUEST: usize = 63;

/// No agent made a ring yet.
fn none() -> EncryptionKeyRingSpec {
    EncryptionKeyRingSpec {
        last_id: 0,
        keys: Vec::new(),
        members: Vec::new(),
        escrow: Vec::new(),
    }
}
