//! One look at the node: observe, change the ring, keep it, put the file in place, read etcd, report.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};

use super::counts::Counts;
use super::directory::{Directory, DirectoryError};
use super::metrics::Metrics;
use super::node::{self, FILE, LAST_GOOD, RING};
use super::proof::{Occasion, Prover};
use super::sealing::{new_material, seal};
use super::{etcd::EtcdError, scrape};
use crate::api::control_plane_report::{ControlPlaneReport, ControlPlaneReportSpec};
use crate::api::encryption::{EncryptionMode, SecretEncryption};
use crate::api::encryption_status::Order;
use crate::api::key_ring::{EncryptionKeyRing, EncryptionKeyRingSpec};
use crate::api::names::{ABANDONED_ANNOTATION, ADOPT_ANNOTATION, SINGLETON};
use crate::api::text::ObjectName;
use crate::encryption::Scrape;
use crate::encryption::config::{hash, render};
use crate::encryption::duties::{self, Asked, Current, Hold, Local, Witness, report};
use crate::encryption::ring::{Act, Change, Identity, Opened, Refusal, living, open, succeeds};

/// Who writes the report.
const FIELD_MANAGER: &str = "cloison-agent";
/// While the encryption is managed, a report that says nothing new is written so often: one that does not change is of an
/// agent that is gone. `Observe` costs no such write.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// What ends a pass early, or is told in the report.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error(transparent)]
    Ring(#[from] Refusal),
    #[error(transparent)]
    File(#[from] Hold),
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    #[error("{what}: {source}")]
    Api {
        what: &'static str,
        #[source]
        source: kube::Error,
    },
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

fn api(what: &'static str) -> impl FnOnce(kube::Error) -> PassError {
    move |source| PassError::Api { what, source }
}

/// The agent of one node.
pub(super) struct Agent {
    pub node: ObjectName,
    /// To any API server.
    pub client: Client,
    /// To the one of this node.
    pub own: Client,
    pub directory: Directory,
    pub identity: Identity,
    pub counts: Counts,
    pub prover: Prover,
    pub manifest: PathBuf,
    pub port: u16,
    pub metrics: Metrics,
    /// What was reported last, and when.
    pub reported: Option<(ControlPlaneReportSpec, Instant)>,
}

/// What is asked of the agents.
struct Orders {
    wanted: SecretEncryption,
    order: Order,
    ring: Option<EncryptionKeyRing>,
}

impl Orders {
    /// The revision that the API server gives `SecretEncryption`. It is not there before somebody wrote it.
    fn anchor(&self) -> Option<i64> {
        self.wanted.resource_version()?.parse().ok()
    }
}

impl Agent {
    /// One pass. What goes wrong on the way is in the report; `Err` is that not even that could be written.
    pub async fn pass(&mut self) -> Result<(), PassError> {
        self.metrics.passes.inc();
        let scrape = scrape(&self.own).await;
        let orders = self.orders().await?;
        // Before the work: what is given up is looked for in etcd first.
        let occasion = Occasion {
            resources: orders.wanted.spec.resources.iter().map(|name| name.0.clone()).collect(),
            order: orders.order.number,
            loaded: scrape
                .as_ref()
                .ok()
                .and_then(|scrape| scrape.configuration_hash.clone()),
            started: scrape.as_ref().ok().and_then(report::started),
        };
        let file = self.directory.read(FILE).ok().flatten();
        let rotates = file.is_some_and(|bytes| report::file_seen(&bytes).keys.len() > 1);
        let looked = self.prover.look(&occasion, rotates, orders.anchor()).await;
        let worked = self.work(&orders, scrape.as_ref().ok()).await;
        let unanswered = scrape
            .as_ref()
            .err()
            .map(|error| format!("the API server of this node: {error}"));
        let held = worked.err().or(looked.map_err(PassError::from).err());
        let error = held.map(|held| held.to_string()).or(unanswered);
        self.metrics.held.set(i64::from(error.is_some()));
        if let Some(error) = &error {
            tracing::warn!("{error}");
        }
        self.report(&orders, scrape.as_ref().ok(), error.as_deref()).await
    }

    /// Read from etcd and not from a cache: a request without a resource version is.
    async fn orders(&self) -> Result<Orders, PassError> {
        let wanted: Api<SecretEncryption> = Api::all(self.client.clone());
        let wanted = wanted.get_opt(SINGLETON).await.map_err(api("get SecretEncryption"))?;
        let wanted = wanted.unwrap_or_else(|| SecretEncryption::new(SINGLETON, <_>::default()));
        let ring = self
            .rings()
            .get_opt(SINGLETON)
            .await
            .map_err(api("get EncryptionKeyRing"))?;
        let order = wanted
            .status
            .as_ref()
            .and_then(|status| status.order.clone())
            .unwrap_or_default();
        Ok(Orders { wanted, order, ring })
    }

    fn rings(&self) -> Api<EncryptionKeyRing> {
        Api::all(self.client.clone())
    }

    async fn work(&mut self, orders: &Orders, scrape: Option<&Scrape>) -> Result<(), PassError> {
        let before = self.directory.read(FILE)?;
        let annotations = orders.wanted.annotations();
        let annotation = |name: &str| annotations.get(name).map(String::as_str);
        let adopt = annotation(ADOPT_ANNOTATION);
        let current = Current::of(before.as_ref().map(|bytes| bytes.as_slice()), adopt);
        let current_hash = before.as_ref().map(|bytes| hash(bytes));
        let loaded = scrape.and_then(|scrape| scrape.configuration_hash.as_deref());
        // What the API server runs with is good.
        if let Some(bytes) = before
            .as_ref()
            .filter(|_| current_hash.is_some() && loaded == current_hash.as_deref())
        {
            self.keep(LAST_GOOD, bytes)?;
        }
        if !duties::acts(&orders.wanted.spec) {
            return Ok(());
        }
        let copy = node::copy(&self.directory)?;
        if let (Some(copy), Some(ring)) = (&copy, &orders.ring) {
            succeeds(copy, &ring.spec)?;
        } else if let Some(copy) = copy.filter(|copy| copy.last_id > 0) {
            let gone = format!("the EncryptionKeyRing is gone and had {} keys", copy.keys.len());
            return Err(Refusal::NotSuccessor(gone).into());
        }
        let imports = duties::adopted(before.as_ref().map(|bytes| bytes.as_slice()), adopt);
        let (ring, refused) = self.change(orders, &current, &imports, scrape).await?;
        let opened = if ring
            .members
            .iter()
            .any(|member| member.recipient == *self.identity.recipient())
        {
            open(&ring, &self.identity)?
        } else {
            Opened::new()
        };
        // The copy is on the disk before any key in it is used.
        let text = serde_json::to_vec_pretty(&ring).unwrap_or_default();
        self.keep(RING, &text)?;
        let copy = node::copy(&self.directory)?;
        let local = Local {
            current: &current,
            current_hash: current_hash.as_deref(),
            loaded,
            opened: &opened,
            copy: copy.as_ref(),
            plaintext_let: duties::plaintext_let(&orders.wanted.spec, annotation(ABANDONED_ANNOTATION), &current),
            stored: self.prover.stored(),
        };
        if let Some(order) = &orders.order.configuration {
            let desired = duties::file(order, &orders.wanted.spec.resources, &ring, &local)?;
            let text = render(&desired);
            if before
                .as_ref()
                .is_none_or(|before| before.as_slice() != text.as_bytes())
            {
                self.keep(FILE, text.as_bytes())?;
                self.metrics.files.inc();
                tracing::info!(
                    number = orders.order.number,
                    write = %order.write,
                    hash = hash(text.as_bytes()),
                    "the EncryptionConfiguration is in place"
                );
            }
        }
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Changes the ring as far as that is due; the ring that is stored then, and what was refused.
    async fn change(
        &mut self,
        orders: &Orders,
        current: &Current,
        imports: &[crate::encryption::config::Key],
        scrape: Option<&Scrape>,
    ) -> Result<(EncryptionKeyRingSpec, Option<Refusal>), PassError> {
        let empty = EncryptionKeyRingSpec::default();
        let ring = orders.ring.as_ref().map_or(&empty, |ring| &ring.spec);
        let approvals = orders.ring.as_ref().and_then(|ring| ring.status.as_ref());
        let approvals = approvals.map_or(&[][..], |status| &status.approvals);
        let in_file: Option<BTreeSet<String>> = match current {
            Current::Ours(file) => Some(file.keys().map(|key| key.name.to_string()).collect()),
            Current::Absent | Current::Foreign(_) | Current::Broken(_) => None,
        };
        let asked = Asked {
            node: &self.node,
            recipient: self.identity.recipient(),
            spec: &orders.wanted.spec,
            order: &orders.order,
            approvals,
            witness: Witness {
                now: now(),
                in_file: in_file.as_ref(),
                stored: self.prover.stored_since(orders.order.number),
            },
        };
        if let (Some(left), Some(stored)) = (duties::approvals_left(&asked), &orders.ring) {
            let mut stored = stored.clone();
            stored.status.get_or_insert_default().approvals = left;
            let replaced = self
                .rings()
                .replace_status(SINGLETON, &PostParams::default(), &stored)
                .await;
            replaced.map_err(api("take back an approval in EncryptionKeyRing"))?;
            // The version that was read is gone; the next pass goes on.
            return Ok((ring.clone(), None));
        }
        let is_member = ring.members.iter().any(|member| member.node == self.node);
        let mut due = duties::due(ring, &asked, &new_material()?);
        if is_member {
            due.extend(imports.iter().map(|key| Change::Import {
                name: key.name.to_string(),
                provider: key.provider,
                material: key.material.clone(),
                escrow: orders.wanted.spec.escrow.clone(),
            }));
            if let Some(scrape) = scrape
                && let Some(started) = report::started(scrape)
            {
                let writes = report::written(scrape);
                let writes = self.counts.tell(&self.directory, ring, &self.node, started, &writes)?;
                due.push(Change::Count {
                    node: self.node.clone(),
                    writes,
                });
            }
        }
        let keys = if is_member && living(ring).next().is_some() {
            open(ring, &self.identity)?
        } else {
            Opened::new()
        };
        let act = Act {
            now: now(),
            keys: &keys,
            seal: &seal,
        };
        let (next, refused) = duties::changed(ring, &due, &act);
        let refused = refused.or_else(|| duties::spared(ring, &asked));
        if next == *ring {
            return Ok((next, refused));
        }
        let stored = self.store(orders.ring.as_ref(), next).await?;
        self.metrics.ring_changes.inc();
        tracing::info!(
            newest = stored.last_id,
            members = stored.members.len(),
            "the ring was changed"
        );
        Ok((stored, refused))
    }

    /// Over the version that was read and no other. Whoever comes second reads again.
    async fn store(
        &self,
        before: Option<&EncryptionKeyRing>,
        next: EncryptionKeyRingSpec,
    ) -> Result<EncryptionKeyRingSpec, PassError> {
        let rings = self.rings();
        let stored = match before {
            None => {
                let first = EncryptionKeyRing::new(SINGLETON, next);
                rings.create(&PostParams::default(), &first).await
            }
            Some(before) => {
                let mut ring = before.clone();
                ring.spec = next;
                rings.replace(SINGLETON, &PostParams::default(), &ring).await
            }
        };
        Ok(stored.map_err(api("write EncryptionKeyRing"))?.spec)
    }

    /// Puts a file in place unless it is there.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), PassError> {
        if self
            .directory
            .read(name)?
            .is_some_and(|there| there.as_slice() == bytes)
        {
            return Ok(());
        }
        let done = self.directory.replace(name, bytes);
        if done.is_err() {
            self.metrics.file_errors.inc();
        }
        Ok(done?)
    }

    async fn report(&mut self, orders: &Orders, scrape: Option<&Scrape>, error: Option<&str>) -> Result<(), PassError> {
        let file = self.directory.read(FILE).ok().flatten();
        let copy = node::copy(&self.directory).ok().flatten();
        let sealed = copy.and_then(|copy| open(&copy, &self.identity).ok().map(|_| copy.last_id));
        let flags = match node::flags(&self.manifest, self.port) {
            None => None,
            Some(flags) => {
                let file = self.directory.path(FILE);
                let to_persist = node::to_persist(&self.client, &file).await;
                Some(node::flags_seen(&flags, &file, to_persist.as_deref()))
            }
        };
        let ring = orders.ring.as_ref().map_or(&[][..], |ring| &ring.spec.keys);
        let spec = ControlPlaneReportSpec {
            observed_time: now(),
            recipient: Some(self.identity.recipient().clone()),
            flags,
            api_server: scrape.and_then(report::api_server_seen),
            file: file.as_ref().map(|bytes| report::file_seen(bytes)),
            sealed_id: sealed,
            order_number: orders.wanted.status.as_ref().and(Some(orders.order.number)),
            proof: self.prover.report(ring),
            error: error.map(report::line),
        };
        let managed = orders.wanted.spec.mode == EncryptionMode::Manage;
        let due = self
            .reported
            .as_ref()
            .is_none_or(|(before, at)| report::is_news(before, &spec) || managed && at.elapsed() >= HEARTBEAT);
        if due {
            let reports: Api<ControlPlaneReport> = Api::all(self.client.clone());
            let object = ControlPlaneReport::new(&self.node, spec.clone());
            let apply = PatchParams::apply(FIELD_MANAGER).force();
            let applied = reports.patch(&self.node, &apply, &Patch::Apply(&object)).await;
            applied.map_err(api("write ControlPlaneReport"))?;
            self.reported = Some((spec, Instant::now()));
        }
        Ok(())
    }
}

/// The time, in whole seconds as the API has it. The only clock of the agent.
pub(super) fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
