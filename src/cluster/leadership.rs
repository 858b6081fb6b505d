//! One controller writes at a time.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use serde_json::json;
use tokio::sync::watch;

use crate::api::names;

/// How often a standby looks whether the lease was given back.
const STANDBY_LOOKS: Duration = Duration::from_secs(2);

/// Tells whether this process may write. A trait, because the library behind it has one maintainer.
pub trait Leadership: Send {
    /// Waits until this process holds the lease.
    fn acquired(&mut self) -> impl Future<Output = ()> + Send;
    /// Waits until it no longer does, or cannot be sure. Whoever awaits this stops writing at once.
    fn lost(&mut self) -> impl Future<Output = ()> + Send;
    /// Gives the lease back, so that another replica need not wait for it to expire.
    fn release(self) -> impl Future<Output = ()> + Send;
}

/// Leadership by a Lease object.
pub struct LeaseLeadership {
    holds: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// Which Lease, and for how long.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The namespace it is in.
    pub namespace: String,
    /// Who we are among the replicas.
    pub identity: String,
    /// How long a crashed holder blocks the others.
    pub duration: Duration,
}

impl LeaseLeadership {
    /// Starts to campaign.
    pub fn start(client: Client, settings: LeaseSettings) -> Self {
        let (holds_tx, holds) = watch::channel(false);
        let (stop, stop_rx) = watch::channel(false);
        let task = tokio::spawn(campaign(client, settings, holds_tx, stop_rx));
        Self { holds, stop, task }
    }
}

async fn campaign(
    client: Client,
    settings: LeaseSettings,
    holds: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) {
    let seconds = settings.duration.as_secs().max(3);
    loop {
        let built = LeaseManagerBuilder::new(client.clone(), names::CONTROLLER_LEASE)
            .with_namespace(&settings.namespace)
            .with_identity(&settings.identity)
            .with_field_manager(format!("{}-{}", names::CONTROLLER_LEASE, settings.identity))
            .with_duration(seconds)
            .with_grace((seconds / 2).max(1))
            .build();
        let manager = tokio::select! {
            _ = stop.changed() => return,
            built = built => match built {
                Ok(manager) => manager,
                Err(error) => {
                    holds.send_replace(false);
                    pause(&error).await;
                    continue;
                }
            },
        };
        loop {
            tokio::select! {
                _ = stop.changed() => {
                    if let Err(error) = manager.release().await {
                        tracing::warn!(%error, "the lease could not be released; another replica waits until it expires");
                    }
                    holds.send_replace(false);
                    return;
                }
                () = freed(&client, &settings), if !*holds.borrow() => break,
                state = manager.changed() => match state {
                    Ok(holder) => {
                        tracing::info!(holder, identity = %settings.identity, "lease");
                        holds.send_replace(holder);
                    }
                    Err(error) => {
                        // The manager retries in silence and would go on believing that it leads after the lease ended.
                        // A failed renewal comes half a lease before its end, and one request takes at most a quarter of
                        // it: there is time for one more try, because a connection that the API server had closed is no
                        // lost lease, and for stopping. A new manager learns whether the lease is still ours.
                        let renewal = tokio::time::timeout(settings.duration / 4, renewed(&client, &settings));
                        if !*holds.borrow() || !renewal.await.unwrap_or_default() {
                            holds.send_replace(false);
                            pause(&error).await;
                        }
                        break;
                    }
                },
            }
        }
    }
}

/// Renews the lease if it is still ours.
async fn renewed(client: &Client, settings: &LeaseSettings) -> bool {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &settings.namespace);
    let Ok(lease) = leases.get(names::CONTROLLER_LEASE).await else {
        return false;
    };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    // The version makes it fail if anybody wrote in between.
    let renewal = json!({
        "metadata": { "resourceVersion": lease.metadata.resource_version },
        "spec": { "renewTime": MicroTime(Timestamp::now()) },
    });
    let params = PatchParams::default();
    holder == Some(settings.identity.as_str())
        && leases
            .patch(names::CONTROLLER_LEASE, &params, &Patch::Merge(renewal))
            .await
            .is_ok()
}

/// Waits until nobody holds the lease. The manager looks again only when the lease it saw last would end: one that was
/// given back would stay unused until then.
async fn freed(client: &Client, settings: &LeaseSettings) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &settings.namespace);
    loop {
        tokio::time::sleep(STANDBY_LOOKS).await;
        if let Ok(lease) = leases.get_opt(names::CONTROLLER_LEASE).await {
            let holder = lease.and_then(|lease| lease.spec?.holder_identity);
            if holder.is_none_or(|holder| holder.is_empty()) {
                return;
            }
        }
    }
}

async fn pause(error: &LeaseManagerError) {
    tracing::warn!(%error, "lease not renewed; nothing is written until it is");
    tokio::time::sleep(Duration::from_secs(1)).await;
}

impl Leadership for LeaseLeadership {
    async fn acquired(&mut self) {
        if self.holds.wait_for(|holds| *holds).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn lost(&mut self) {
        // An error means that the campaign ended: nobody renews the lease any more.
        let _ = self.holds.wait_for(|holds| !*holds).await;
    }

    async fn release(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}
