//! Keeps the webhook trusted: the Secret that all replicas share, what is served from it, and the bundle in the
//! configuration. One pass does whatever is next, and passes are cheap: two reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum_server::tls_rustls::RustlsConfig;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::keys::{KeyError, Material, fingerprints};
use crate::admission::certificates::{Step, Trusted, next};
use crate::admission::webhook::bundle;
use crate::api::names;
use crate::cluster::telemetry::Metrics;

/// Looks again when no event came.
const AGAIN: Duration = Duration::from_secs(60);
/// After a failure, and while something is waited for.
const SOON: Duration = Duration::from_secs(2);
/// So long a bundle must have been seen in the configuration: API servers follow it by watches.
const SEEN_FOR: Duration = Duration::from_secs(10);

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A request failed.
    #[error("{what}: {source}")]
    Api {
        /// The verb and the object.
        what: &'static str,
        /// What the API server answered.
        #[source]
        source: kube::Error,
    },
    /// A key or certificate cannot be used.
    #[error("Secret {secret}: {0}", secret = names::WEBHOOK_SECRET)]
    Keys(#[from] KeyError),
    /// The Secret is not there.
    #[error(
        "Secret {} is not there; it is part of the chart, or of what cert-manager writes",
        names::WEBHOOK_SECRET
    )]
    Missing,
    /// What somebody else wrote would be trusted by nobody.
    #[error("Secret {secret}: API servers will not trust it: {why}", secret = names::WEBHOOK_SECRET)]
    Distrusted {
        /// Why.
        why: String,
    },
}

/// Keeps the certificate.
pub struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    names: Vec<String>,
    /// Somebody else writes the Secret: it is only read.
    external: bool,
    metrics: Metrics,
    /// What is served.
    served: Option<(Material, RustlsConfig)>,
    /// Since when an authority is in the configuration.
    seen: BTreeMap<String, Instant>,
    /// What was last said to be wrong, so that it is said once.
    said: Option<String>,
    changed: Arc<Notify>,
}

impl Keeper {
    /// For a webhook in `namespace`.
    pub fn new(tasks: &mut JoinSet<()>, client: &Client, namespace: &str, external: bool, metrics: Metrics) -> Self {
        let service = format!("{}.{namespace}.svc", names::WEBHOOK_ACCOUNT);
        let keeper = Self {
            secrets: Api::namespaced(client.clone(), namespace),
            configurations: Api::all(client.clone()),
            names: vec![service.clone(), format!("{service}.cluster.local")],
            external,
            metrics,
            served: None,
            seen: BTreeMap::new(),
            said: None,
            changed: Arc::default(),
        };
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), namespace);
        tasks.spawn(follow(secrets, names::WEBHOOK_SECRET, keeper.changed.clone()));
        let configurations: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> = Api::all(client.clone());
        tasks.spawn(follow(
            configurations,
            names::WEBHOOK_CONFIGURATION,
            keeper.changed.clone(),
        ));
        keeper
    }

    /// Tries until there is something to serve.
    pub async fn first(&mut self) -> RustlsConfig {
        loop {
            self.once().await;
            if let Some((_, config)) = &self.served {
                return config.clone();
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(SOON) => {}
            }
        }
    }

    /// For ever.
    pub async fn run(mut self) {
        loop {
            let wait = if self.once().await { AGAIN } else { SOON };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One pass; true when all is as it should be.
    async fn once(&mut self) -> bool {
        match self.pass().await {
            Ok(settled) => {
                self.said = None;
                settled
            }
            // Another replica was first: its work is seen in the next pass.
            Err(CertificateError::Api {
                source: kube::Error::Api(status),
                ..
            }) if status.code == 409 => false,
            Err(error) => {
                let text = error.to_string();
                if self.said.as_ref() != Some(&text) {
                    let kept = if self.served.is_some() {
                        "; the last certificate stays"
                    } else {
                        ""
                    };
                    tracing::error!("{text}{kept}");
                    self.said = Some(text);
                }
                false
            }
        }
    }

    async fn pass(&mut self) -> Result<bool, CertificateError> {
        // Before the Secret, so that what is published is never older than what is there.
        let configuration = self.configurations.get_opt(names::WEBHOOK_CONFIGURATION).await;
        let configuration = configuration.map_err(api("read the ValidatingWebhookConfiguration"))?;
        let found = self.secrets.get_opt(names::WEBHOOK_SECRET).await;
        let secret = found
            .map_err(api("read the Secret"))?
            .ok_or(CertificateError::Missing)?;
        let stored = Material::read(secret.data.as_ref().unwrap_or(&BTreeMap::new()));
        let (material, settled) = if self.external {
            match (self.given(stored, configuration.as_ref()), &self.served) {
                (Ok(given), _) => (given, true),
                (Err(error), Some((last, _))) => {
                    // What stays has to be trusted, also by a configuration that was made anew.
                    self.publish(configuration.as_ref(), last).await?;
                    return Err(error);
                }
                (Err(error), None) => return Err(error),
            }
        } else {
            self.step(secret, stored, configuration.as_ref()).await?
        };
        self.serve(&material)?;
        self.publish(configuration.as_ref(), &material).await?;
        Ok(settled)
    }

    /// What somebody else wrote, if API servers will trust it. A later one that they would not is not served: the last is
    /// what the configuration has the bundle for.
    fn given(
        &self,
        stored: Material,
        configuration: Option<&ValidatingWebhookConfiguration>,
    ) -> Result<Material, CertificateError> {
        // First what is no certificate or no key at all: it is named by its part.
        stored.server()?;
        // Some issuers fill in no authority; somebody else may have put theirs into the configuration.
        let published = configuration.and_then(|it| it.webhooks.as_ref()?.first()?.client_config.ca_bundle.as_ref());
        let published = published.map_or_else(String::new, |bundle| String::from_utf8_lossy(&bundle.0).into_owned());
        let bundle = Some(stored.bundle())
            .filter(|own| !own.is_empty())
            .unwrap_or(&published);
        let trusted = stored.is_trusted(bundle, &self.names, Timestamp::now());
        trusted.map_err(|why| CertificateError::Distrusted { why })?;
        Ok(stored)
    }

    /// Does what is next with the Secret. Written over the version that was read, so that of two replicas one wins.
    async fn step(
        &mut self,
        mut secret: Secret,
        stored: Material,
        configuration: Option<&ValidatingWebhookConfiguration>,
    ) -> Result<(Material, bool), CertificateError> {
        let trusted = self.trusted(configuration);
        let now = Timestamp::now();
        let step = next(&stored.stored(&self.names), &trusted, now);
        if step == Step::Keep {
            let waits = matches!(&trusted, Trusted::These(known) if !fingerprints(stored.bundle().as_bytes()).iter().all(|one| known.contains(one)));
            return Ok((stored, !waits));
        }
        let last = self.served.as_ref().map(|(last, _)| last);
        // A Secret that somebody broke is put back as it was, as long as that is still good: API servers know it.
        let good =
            last.filter(|last| step == Step::Begin && next(&last.stored(&self.names), &trusted, now) == Step::Keep);
        let made = match good {
            Some(last) => last.clone(),
            None => stored.after(step, &self.names, now)?,
        };
        match step {
            Step::Begin if stored.is_empty() => tracing::info!("made the first authority and certificate"),
            Step::Begin => tracing::error!(
                "Secret {}: nothing in it could be used; {}",
                names::WEBHOOK_SECRET,
                if good.is_some() {
                    "what is served was put back"
                } else {
                    "an authority and a certificate were made anew"
                }
            ),
            step => {
                if let Err(error) = stored.server() {
                    tracing::error!("Secret {}: {error}; a certificate is made anew", names::WEBHOOK_SECRET);
                } else {
                    tracing::info!(?step, "authority and certificate");
                }
            }
        }
        secret.data = Some(made.data());
        secret.string_data = None;
        let replaced = self
            .secrets
            .replace(names::WEBHOOK_SECRET, &PostParams::default(), &secret)
            .await;
        replaced.map_err(api("write the Secret"))?;
        Ok((made, false))
    }

    /// What API servers trust, by what the configuration has shown for a while.
    fn trusted(&mut self, configuration: Option<&ValidatingWebhookConfiguration>) -> Trusted {
        let Some(configuration) = configuration else {
            self.seen.clear();
            return Trusted::Nobody;
        };
        let mut everywhere: Option<BTreeSet<String>> = None;
        for entry in configuration.webhooks.iter().flatten() {
            let bundle = entry.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
            let here: BTreeSet<String> = fingerprints(bundle.unwrap_or_default()).into_iter().collect();
            everywhere = Some(everywhere.map_or_else(|| here.clone(), |all| &all & &here));
        }
        let now = Instant::now();
        let everywhere = everywhere.unwrap_or_default();
        self.seen.retain(|fingerprint, _| everywhere.contains(fingerprint));
        for fingerprint in everywhere {
            self.seen.entry(fingerprint).or_insert(now);
        }
        let old = self.seen.iter().filter(|(_, since)| since.elapsed() >= SEEN_FOR);
        Trusted::These(old.map(|(fingerprint, _)| fingerprint.clone()).collect())
    }

    /// Serves it from the next handshake on. What cannot be served leaves the last one in place.
    fn serve(&mut self, material: &Material) -> Result<(), CertificateError> {
        if self.served.as_ref().is_some_and(|(served, _)| served == material) {
            return Ok(());
        }
        let server = material.server()?;
        let config = match self.served.take() {
            Some((_, config)) => {
                config.reload_from_config(server);
                config
            }
            None => RustlsConfig::from_config(server),
        };
        if let Some(expiry) = material.expiry() {
            tracing::info!(%expiry, "serving a certificate");
            let seconds = std::time::Duration::try_from(expiry.duration_since(Timestamp::UNIX_EPOCH));
            let seconds = seconds.map_or(0.0, |since| since.as_secs_f64());
            self.metrics.webhook.certificate_expiry.set(seconds);
        }
        self.served = Some((material.clone(), config));
        Ok(())
    }

    /// Puts the bundle into every entry of the configuration; nothing else there is ours to write.
    async fn publish(
        &self,
        configuration: Option<&ValidatingWebhookConfiguration>,
        material: &Material,
    ) -> Result<(), CertificateError> {
        let Some(configuration) = configuration.filter(|_| !material.bundle().is_empty()) else {
            return Ok(());
        };
        let has =
            |bundle: Option<&k8s_openapi::ByteString>| bundle.is_some_and(|it| it.0 == material.bundle().as_bytes());
        let mut entries = configuration.webhooks.iter().flatten();
        if entries.all(|entry| has(entry.client_config.ca_bundle.as_ref())) {
            return Ok(());
        }
        let params = PatchParams::apply(names::WEBHOOK_MANAGER).force();
        let patch = bundle(configuration, material.bundle());
        let patch = Patch::Apply(&patch);
        let patched = self
            .configurations
            .patch(names::WEBHOOK_CONFIGURATION, &params, &patch)
            .await;
        patched.map_err(api("write the CA bundle into the ValidatingWebhookConfiguration"))?;
        tracing::info!("the configuration has the bundle");
        Ok(())
    }
}

fn api(what: &'static str) -> impl FnOnce(kube::Error) -> CertificateError {
    move |source| CertificateError::Api { what, source }
}

/// Wakes at every change of one object.
async fn follow<K>(api: Api<K>, name: &'static str, changed: Arc<Notify>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(api, only).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::warn!(name, %error, "watch; trying again"),
        }
    }
}
