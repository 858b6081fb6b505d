//! One term of leadership: fills the caches, then runs every loop until it is dropped.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use kube::runtime::controller::{Action, Config as ControllerConfig, Error as ControllerError};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Client, Config, ResourceExt};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::caches::Cached;
use super::context::{Context, Parts};
use super::error::{Class, Error};
use super::evidence::admission::Expected;
use super::evidence::encryption::EncryptionSettings;
use super::evidence::reads::ReadSettings;
use super::evidence::{self, Evidence, Gathering, Servers};
use super::proofs::Asked;
use super::stores::{self, Watches};
use super::triggers::{Index, Queues, Triggers};
use super::unreadable::Reporter as UnreadableReporter;
use super::withdrawals::Withdrawals;
use super::{
    Settings, analysis, cluster, facts, forget, namespace, packets, rights, rotation, scan, sharing, storage,
    unmodelled, waivers, withdraw, workload,
};
use crate::api::names;
use crate::cluster::client::whoami;
use crate::cluster::health::Readiness;
use crate::cluster::sweep;
use crate::cluster::telemetry::{Kind, KindResult, Metrics};
use crate::network::world::ClusterNetwork;

/// Longest a single reconcile may take.
const RECONCILE_LIMIT: Duration = Duration::from_secs(60);
/// How often the cluster's own addresses are read again.
const FACTS_AGAIN: Duration = Duration::from_secs(300);

/// How often it is looked for roles that are still lent.
const LOANS_AGAIN: Duration = Duration::from_secs(60);

/// What a term needs.
pub struct Term<'a> {
    /// For connections of the proofs' own.
    pub config: &'a Config,
    /// The connection.
    pub client: Client,
    /// How the controller runs.
    pub settings: &'a Settings,
    /// Counters.
    pub metrics: Metrics,
    /// False until the caches are complete.
    pub readiness: Readiness,
    /// Deleted workloads of earlier terms.
    pub withdrawals: Arc<Mutex<Withdrawals>>,
    /// The moment rations of withdrawals are counted from.
    pub since: Instant,
}

/// In whose name Events are written.
fn event_reporter(settings: &Settings) -> Reporter {
    Reporter {
        controller: names::CONTROLLER_ACCOUNT.to_owned(),
        instance: Some(settings.identity.clone()),
    }
}

/// Runs until it is dropped; ends by itself only if a loop of it ends, which none does.
pub async fn run(term: Term<'_>) {
    let Term {
        config,
        client,
        settings,
        metrics,
        readiness,
        withdrawals,
        since,
    } = term;
    readiness.set(false);
    let user = our_name(&client).await;
    let mut tasks = JoinSet::new();
    let (triggers, queues) = Triggers::new();
    let reporter = UnreadableReporter::start(&mut tasks, client.clone(), metrics.clone());
    let unreadable = reporter.workloads();
    let addresses = Arc::new(Notify::new());
    let watches = Watches {
        tasks: &mut tasks,
        client: client.clone(),
        namespace: &settings.namespace,
        metrics: metrics.clone(),
        reporter,
        withdrawals: withdrawals.clone(),
        addresses: addresses.clone(),
    };
    let (caches, index) = watches.start(&triggers);
    stores::complete(&caches).await;
    // Without these nothing may be rendered or judged: policies without DNS would cut it, and a kind of policy that was not
    // looked for would count as absent.
    let facts = facts::first(&client, &caches.slices).await;
    let (others_tx, others_rx) = watch::channel(unmodelled::look(&client).await);
    readiness.set(true);

    let (facts_tx, facts_rx) = watch::channel(facts);
    let (analysed_tx, analysed_rx) = watch::channel(Arc::default());
    let (hash_tx, hash_rx) = watch::channel(String::new());
    let (in_force_tx, in_force_rx) = watch::channel(None);
    let evidence = Arc::new(Evidence::shown_by(metrics.proof_time.clone()));
    let ctx = Arc::new(Context::new(Parts {
        client: client.clone(),
        caches,
        evidence: evidence.clone(),
        analysed: analysed_rx,
        triggers: triggers.clone(),
        reporter: event_reporter(settings),
        metrics,
        user,
        namespace: settings.namespace.clone(),
        webhook: settings.webhook,
        other_policies: others_rx,
        facts: facts_rx,
        policy_hash: hash_rx,
        withdrawals,
        unreadable,
    }));
    withdraw::adopt(&ctx, &index);
    follow_secrets(&mut tasks, &ctx, &index).await;
    let Queues {
        workloads,
        namespaces,
        deletions,
    } = queues;
    tasks.spawn(analysis::run(ctx.clone(), index.clone(), analysed_tx));
    tasks.spawn(cluster::run(ctx.clone(), in_force_tx, hash_tx));
    tasks.spawn(unmodelled::run(ctx.clone(), others_tx));
    tasks.spawn(watch_facts(ctx.clone(), index.clone(), addresses, facts_tx));
    tasks.spawn(withdraw::run(ctx.clone(), index.clone(), since, deletions));
    tasks.spawn(waivers::run(ctx.clone()));
    tasks.spawn(forget::run(ctx.clone()));
    tasks.spawn(scan::run(ctx.clone()));
    tasks.spawn(packets::run(ctx.clone(), settings.image.clone()));
    tasks.spawn(on_evidence(ctx.clone(), index.clone()));
    tasks.spawn(take_back_loans(client.clone()));
    let gathering = Gathering {
        client,
        config: config.clone(),
        namespace: settings.namespace.clone(),
        evidence,
    };
    tasks.spawn(gather(ctx.clone(), gathering, in_force_rx));
    tasks.spawn(controller(
        ctx.clone(),
        ctx.caches.namespaces.clone(),
        namespaces,
        settings.concurrency,
        "Namespace",
        namespace::reconcile,
    ));
    tasks.spawn(controller(
        ctx.clone(),
        ctx.caches.workloads.clone(),
        workloads,
        settings.concurrency,
        "AiWorkload",
        workload::reconcile,
    ));
    triggers.everything(&index);
    // No loop ends. If one does, the term ends with it rather than going on without that loop.
    if let Some(ended) = tasks.join_next().await {
        tracing::error!(?ended, "a loop of the controller ended; starting the term again");
    }
}

/// Looks at storage, rights, Waivers and what is shared before the first word on any workload, and follows them: a status that loses its
/// findings and gets them back is two writes for nothing.
async fn follow_secrets(tasks: &mut JoinSet<()>, ctx: &Arc<Context>, index: &Index) {
    storage::look(ctx);
    waivers::look(ctx, &ctx.world().policy, Context::moment());
    rights::search(ctx).await;
    let allocations = sharing::first(ctx).await;
    tasks.spawn(rights::run(ctx.clone(), index.clone()));
    tasks.spawn(storage::run(ctx.clone(), index.clone()));
    tasks.spawn(sharing::run(ctx.clone(), allocations));
}

/// Asks who we are until the API server answers.
async fn our_name(client: &Client) -> String {
    loop {
        match whoami(client).await {
            Ok(user) => {
                tracing::info!(user, "this is our name");
                return user;
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for the API server");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// One reconciler: objects from a queue, bounded in number, each with its own backoff.
async fn controller<K, Fut>(
    ctx: Arc<Context>,
    store: Store<K>,
    queue: mpsc::UnboundedReceiver<ObjectRef<K>>,
    concurrency: u16,
    kind: &'static str,
    reconcile: fn(Arc<K>, Arc<Context>) -> Fut,
) where
    K: Cached + ResourceExt,
    Fut: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let never = futures::stream::pending::<Result<K, watcher::Error>>();
    let config = ControllerConfig::default()
        .concurrency(concurrency)
        .debounce(Duration::from_millis(10));
    let passes = Controller::for_stream(never, store)
        .with_config(config)
        .reconcile_on(UnboundedReceiverStream::new(queue))
        .run(
            move |object, ctx: Arc<Context>| async move {
                let key = format!(
                    "{kind}/{}/{}",
                    object.namespace().unwrap_or_default(),
                    object.name_any()
                );
                let start = Instant::now();
                let result = tokio::time::timeout(RECONCILE_LIMIT, reconcile(object, ctx.clone()))
                    .await
                    .unwrap_or_else(|_| Err(Error::Timeout(key.clone())));
                ctx.metrics
                    .reconcile_seconds
                    .get_or_create(&Kind { kind })
                    .observe(start.elapsed().as_secs_f64());
                let label = result.as_ref().map_or_else(Error::reason, |_| "ok");
                ctx.metrics
                    .reconciles
                    .get_or_create(&KindResult { kind, result: label })
                    .inc();
                if result.is_ok() {
                    ctx.backoff.succeeded(&key);
                }
                result
            },
            move |object, error, ctx: Arc<Context>| {
                let key = format!(
                    "{kind}/{}/{}",
                    object.namespace().unwrap_or_default(),
                    object.name_any()
                );
                let wait = ctx.backoff.failed(key.clone(), error.class());
                match error.class() {
                    Class::Conflict => tracing::debug!(key, %error, ?wait, "conflict"),
                    Class::Transient | Class::Permanent => {
                        tracing::warn!(key, %error, reason = error.reason(), ?wait, "reconcile failed");
                    }
                }
                Action::requeue(wait)
            },
            ctx,
        );
    drain(passes).await;
}

async fn drain<T, E, Q>(passes: impl Stream<Item = Result<T, ControllerError<E, Q>>>)
where
    E: std::error::Error + 'static,
    Q: std::error::Error + 'static,
{
    let mut passes = std::pin::pin!(passes);
    while let Some(result) = passes.next().await {
        match result {
            // Reconcile errors are logged where they are answered; an object that went away meanwhile is no error.
            Ok(_) | Err(ControllerError::ReconcilerFailed(..) | ControllerError::ObjectNotFound(_)) => {}
            Err(error) => tracing::warn!(%error, "controller"),
        }
    }
}

/// Reads the cluster's own addresses again from time to time, and when those of the API servers change.
async fn watch_facts(ctx: Arc<Context>, index: Index, changed: Arc<Notify>, publish: watch::Sender<ClusterNetwork>) {
    loop {
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(FACTS_AGAIN) => {}
        }
        let found = match facts::gather(&ctx.client, &ctx.caches.slices.state()).await {
            Ok(found) => found,
            Err(error) => {
                // The last answer stays: one that is missing must not take DNS away from anybody.
                tracing::warn!(%error, "the cluster's own addresses are not readable; the last known stay");
                continue;
            }
        };
        let changed = publish.send_if_modified(|now| {
            let changed = *now != found;
            if changed {
                *now = found;
            }
            changed
        });
        if changed {
            ctx.triggers.facts_changed(&index);
        }
    }
}

/// Takes back the rights of a run that was killed, at the start and for ever.
async fn take_back_loans(client: Client) {
    loop {
        match sweep::take_back(&client).await {
            Ok(taken) => taken
                .into_iter()
                .for_each(|role| tracing::warn!(role, "a killed run left this role lent; it is taken back")),
            Err(error) => tracing::warn!(%error, "whether a role is still lent to the sweeper is not known"),
        }
        tokio::time::sleep(LOANS_AGAIN).await;
    }
}

/// A new proof changes what every workload says.
async fn on_evidence(ctx: Arc<Context>, index: Index) {
    let mut changes = ctx.evidence.subscribe();
    while changes.changed().await.is_ok() {
        index
            .workloads
            .state()
            .iter()
            .for_each(|w| ctx.triggers.workload(ObjectRef::from_obj(w.as_ref())));
    }
    std::future::pending().await
}

/// Gathers the evidence: about Secrets as `SecretEncryption` says, or as its defaults say while there is none, and about
/// the admission policies in force. While nothing is decided it looks on, and writes no canary.
/// The rotation of keys looks at the same API servers over the same connections.
async fn gather(ctx: Arc<Context>, gathering: Gathering, in_force: watch::Receiver<Option<Arc<Expected>>>) {
    let settings = |ctx: &Context| {
        let found = ctx.caches.encryptions.get(&ObjectRef::new(names::SINGLETON));
        let spec = found.as_ref().map(|found| &found.spec);
        let settings = spec.map_or_else(EncryptionSettings::default, EncryptionSettings::from);
        let policy = ctx.policy();
        let asked = Asked::of(policy.as_ref().map(|policy| &policy.spec), spec);
        EncryptionSettings {
            writes: ctx.view().hold("").is_none(),
            // The stricter age holds, also where the policy asks for it.
            reads: settings.reads.map(|reads| ReadSettings {
                max_age: asked.max_age,
                ..reads
            }),
            ..settings
        }
    };
    let (publish, current) = watch::channel(settings(&ctx));
    let follow = async {
        loop {
            ctx.triggers.encryption.notified().await;
            let now = settings(&ctx);
            publish.send_if_modified(|known| {
                let changed = *known != now;
                if changed {
                    *known = now;
                }
                changed
            });
        }
    };
    let servers = Arc::new(Servers::default());
    let rotation = rotation::run(ctx.clone(), gathering.clone(), servers.clone());
    tokio::join!(follow, rotation, evidence::run(gathering, servers, current, in_force));
}
