//! One term of leadership: fills the caches, then runs every loop until it is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config as ControllerConfig, Error as ControllerError};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Config as WatchConfig;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Config, Resource, ResourceExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::caches::{self, Cached, Seen};
use super::context::{Caches, Context, Parts, key_of};
use super::error::{Class, Error};
use super::evidence::encryption::EncryptionSettings;
use super::evidence::{self, Evidence, Gathering};
use super::triggers::{Index, Queues, Triggers};
use super::unreadable::Reporter as UnreadableReporter;
use super::{Settings, analysis, cluster, facts, namespace, report, unmodelled, workload};
use crate::api::{AiSecurityPolicy, AiWorkload, SecretEncryption, names};
use crate::cluster::client::whoami;
use crate::cluster::health::Readiness;
use crate::cluster::telemetry::{Kind, KindResult, Metrics};

/// Longest a single reconcile may take.
const RECONCILE_LIMIT: Duration = Duration::from_secs(60);
/// How often the cluster's own addresses are read again.
const FACTS_AGAIN: Duration = Duration::from_secs(300);
/// How often rationed withdrawals are looked at.
const WITHDRAW_AGAIN: Duration = Duration::from_secs(5);

/// Runs until it is dropped; ends by itself only if a loop of it ends, which none does.
pub async fn run(config: &Config, client: Client, settings: &Settings, metrics: Metrics, readiness: Readiness) {
    readiness.set(false);
    let user = loop {
        match whoami(&client).await {
            Ok(user) => break user,
            Err(error) => {
                tracing::warn!(%error, "waiting for the API server");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    };
    tracing::info!(user, "this is our name");
    let mut tasks = JoinSet::new();
    let (triggers, queues) = Triggers::new();
    let reporter = UnreadableReporter::start(&mut tasks, client.clone(), metrics.clone());
    let (caches, index) = fill(&mut tasks, &client, settings, &metrics, &triggers, &reporter);
    complete(&caches).await;
    readiness.set(true);

    let (facts_tx, facts_rx) = watch::channel(facts::gather(&client, &caches.slices.state()).await);
    let (unmodelled_tx, unmodelled_rx) = watch::channel(Vec::new());
    let (analysed_tx, analysed_rx) = watch::channel(Arc::default());
    let (hash_tx, hash_rx) = watch::channel(String::new());
    let (in_force_tx, in_force_rx) = watch::channel(None);
    let evidence = Arc::new(Evidence::new());
    let ctx = Arc::new(Context::new(Parts {
        client: client.clone(),
        caches,
        evidence: evidence.clone(),
        analysed: analysed_rx,
        triggers: triggers.clone(),
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: names::CONTROLLER_ACCOUNT.to_owned(),
                instance: Some(settings.identity.clone()),
            },
        ),
        metrics,
        user,
        namespace: settings.namespace.clone(),
        unmodelled: unmodelled_rx,
        facts: facts_rx,
        policy_hash: hash_rx,
    }));
    let Queues {
        workloads,
        namespaces,
        deletions,
    } = queues;
    tasks.spawn(analysis::run(ctx.clone(), index.clone(), analysed_tx));
    tasks.spawn(cluster::run(ctx.clone(), in_force_tx, hash_tx));
    tasks.spawn(unmodelled::run(ctx.clone(), unmodelled_tx));
    tasks.spawn(watch_facts(ctx.clone(), index.clone(), facts_tx));
    tasks.spawn(withdraw(ctx.clone(), deletions));
    tasks.spawn(on_evidence(ctx.clone(), index.clone()));
    let gathering = Gathering {
        client,
        config: config.clone(),
        namespace: settings.namespace.clone(),
        evidence,
    };
    tasks.spawn(observe_encryption(ctx.clone(), gathering.clone()));
    let _ = in_force_rx;
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

/// Starts a watch for every kind.
fn fill(
    tasks: &mut JoinSet<()>,
    client: &Client,
    settings: &Settings,
    metrics: &Metrics,
    triggers: &Triggers,
    reporter: &UnreadableReporter,
) -> (Caches, Index) {
    let all = WatchConfig::default;
    let ours = || WatchConfig::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::CLOISON));
    // The two stores that mappings look into are filled by watches that map: their handles are passed on once they exist.
    let (index_tx, index) = watch::channel(None::<Index>);
    let with = move |index: &watch::Receiver<Option<Index>>, act: &dyn Fn(&Index)| {
        if let Some(index) = index.borrow().as_ref() {
            act(index);
        }
    };
    let guarded = |kind| reporter.for_kind(kind);

    let (t, i) = (triggers.clone(), index.clone());
    let namespaces = caches::keep(
        tasks,
        caches::guarded::<Namespace>(Api::all(client.clone()), all(), "Namespace", guarded("Namespace")),
        caches::prune,
        "Namespace",
        metrics.clone(),
        move |seen| with(&i, &|index| t.on_namespace(index, &seen)),
    );
    let (t, i) = (triggers.clone(), index.clone());
    let workloads = caches::keep(
        tasks,
        caches::guarded::<AiWorkload>(Api::all(client.clone()), all(), "AiWorkload", guarded("AiWorkload")),
        caches::prune,
        "AiWorkload",
        metrics.clone(),
        move |seen| with(&i, &|index| t.on_workload(index, &seen)),
    );
    index_tx.send_replace(Some(Index {
        workloads: workloads.clone(),
        namespaces: namespaces.clone(),
    }));
    let made = Index {
        workloads: workloads.clone(),
        namespaces: namespaces.clone(),
    };
    let (t, i) = (triggers.clone(), made.clone());
    let network_policies = caches::keep(
        tasks,
        caches::guarded::<NetworkPolicy>(
            Api::all(client.clone()),
            all(),
            "NetworkPolicy",
            guarded("NetworkPolicy"),
        ),
        caches::prune_but_managers,
        "NetworkPolicy",
        metrics.clone(),
        move |seen| t.on_network_policy(&i, &seen),
    );
    let (t, i) = (triggers.clone(), made.clone());
    let security_policies = caches::keep(
        tasks,
        caches::guarded::<AiSecurityPolicy>(
            Api::all(client.clone()),
            all(),
            "AiSecurityPolicy",
            guarded("AiSecurityPolicy"),
        ),
        caches::prune,
        "AiSecurityPolicy",
        metrics.clone(),
        move |seen| t.on_policy(&i, &seen),
    );
    let (t, i) = (triggers.clone(), made.clone());
    let off = caches::keep(
        tasks,
        caches::guarded::<ConfigMap>(
            Api::namespaced(client.clone(), &settings.namespace),
            all().fields(&format!("metadata.name={}", names::OFF_CONFIGMAP)),
            "ConfigMap",
            guarded("ConfigMap"),
        ),
        caches::prune,
        "ConfigMap",
        metrics.clone(),
        move |_| t.everything(&i),
    );
    let t = triggers.clone();
    let encryptions = simple(
        tasks,
        client,
        all(),
        "SecretEncryption",
        metrics,
        reporter,
        move |_: Seen<'_, SecretEncryption>| {
            t.cluster.notify_one();
            t.encryption.notify_one();
        },
    );
    let t = triggers.clone();
    let admission_policies = simple(
        tasks,
        client,
        ours(),
        "ValidatingAdmissionPolicy",
        metrics,
        reporter,
        move |_: Seen<'_, ValidatingAdmissionPolicy>| t.cluster.notify_one(),
    );
    let t = triggers.clone();
    let admission_bindings = simple(
        tasks,
        client,
        ours(),
        "ValidatingAdmissionPolicyBinding",
        metrics,
        reporter,
        move |_: Seen<'_, ValidatingAdmissionPolicyBinding>| t.cluster.notify_one(),
    );
    let slices = caches::keep(
        tasks,
        caches::guarded::<EndpointSlice>(
            Api::namespaced(client.clone(), "default"),
            all().labels("kubernetes.io/service-name=kubernetes"),
            "EndpointSlice",
            guarded("EndpointSlice"),
        ),
        caches::prune,
        "EndpointSlice",
        metrics.clone(),
        |_| {},
    );
    let (t, stage_of) = (triggers.clone(), namespaces.clone());
    let pods = caches::keep(
        tasks,
        watcher(Api::<PartialObjectMeta<Pod>>::all(client.clone()), all()),
        caches::prune,
        "Pod",
        metrics.clone(),
        move |seen| {
            let here = seen.object().namespace().unwrap_or_default();
            let staged = |ns: &Namespace| ns.labels().contains_key(names::STAGE_LABEL);
            let is_new = !matches!(&seen, Seen::Applied { old: Some(old), new } if old.labels() == new.labels());
            if is_new && stage_of.get(&ObjectRef::new(&here)).is_some_and(|ns| staged(&ns)) {
                t.namespace(&here);
            }
        },
    );
    let caches = Caches {
        namespaces,
        workloads,
        network_policies,
        pods,
        security_policies,
        encryptions,
        admission_policies,
        admission_bindings,
        slices,
        off,
    };
    (caches, made)
}

/// A cluster-wide store with nothing special about it.
fn simple<K: Cached>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    config: WatchConfig,
    kind: &'static str,
    metrics: &Metrics,
    reporter: &UnreadableReporter,
    on_change: impl FnMut(Seen<'_, K>) + Send + 'static,
) -> Store<K>
where
    DeserializeGuard<K>: Resource<DynamicType = ()>,
{
    let stream = caches::guarded::<K>(Api::all(client.clone()), config, kind, reporter.for_kind(kind));
    caches::keep(tasks, stream, caches::prune, kind, metrics.clone(), on_change)
}

/// Waits until every store holds a full list: a verdict from half a cache would be a guess.
async fn complete(caches: &Caches) {
    let Caches {
        namespaces,
        workloads,
        network_policies,
        pods,
        security_policies,
        encryptions,
        admission_policies,
        admission_bindings,
        slices,
        off,
    } = caches;
    // A store fails to become ready only when its watch was dropped, and then this term is over.
    let _ = tokio::join!(
        namespaces.wait_until_ready(),
        workloads.wait_until_ready(),
        network_policies.wait_until_ready(),
        pods.wait_until_ready(),
        security_policies.wait_until_ready(),
        encryptions.wait_until_ready(),
        admission_policies.wait_until_ready(),
        admission_bindings.wait_until_ready(),
        slices.wait_until_ready(),
        off.wait_until_ready(),
    );
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

/// Reads the cluster's own addresses again from time to time.
async fn watch_facts(ctx: Arc<Context>, index: Index, publish: watch::Sender<crate::network::world::ClusterNetwork>) {
    loop {
        tokio::time::sleep(FACTS_AGAIN).await;
        let found = facts::gather(&ctx.client, &ctx.caches.slices.state()).await;
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

/// Looks at the encryption of Secrets as `SecretEncryption` says, or as its defaults say while there is none.
async fn observe_encryption(ctx: Arc<Context>, gathering: Gathering) {
    let settings = |ctx: &Context| {
        let found = ctx.caches.encryptions.get(&ObjectRef::new(names::SINGLETON));
        found.map_or_else(EncryptionSettings::default, |found| {
            EncryptionSettings::from(&found.spec)
        })
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
    tokio::join!(follow, evidence::encryption::run(gathering, current));
}

/// Carries out rationed withdrawals, and only while the definition of `AiWorkload` stands as it stood: when it is
/// deleted, every workload looks deleted.
async fn withdraw(ctx: Arc<Context>, mut deletions: mpsc::UnboundedReceiver<AiWorkload>) {
    let definition = definition(&ctx).await;
    let start = Instant::now();
    loop {
        tokio::select! {
            deleted = deletions.recv() => {
                let Some(deleted) = deleted else { return };
                report::forget(&ctx, &ObjectRef::from_obj(&deleted));
                if let Some(key) = key_of(&deleted) {
                    lock(&ctx).deleted(key, deleted.spec.stage);
                }
                continue_gathering(&ctx, &mut deletions).await;
            }
            () = tokio::time::sleep(WITHDRAW_AGAIN) => {}
        }
        if lock(&ctx).is_empty() {
            ctx.metrics.withdrawals_waiting.set(0);
            continue;
        }
        let now = self::definition(&ctx).await;
        match (&definition, &now) {
            (Some(then), Some(now)) if then == now => {}
            (_, None) => {
                tracing::warn!("the definition of AiWorkload is being deleted: no flow is withdrawn");
                lock(&ctx).hold();
                continue;
            }
            _ => {
                tracing::warn!("the definition of AiWorkload was replaced: what vanished with it is not withdrawn");
                lock(&ctx).hold();
                return std::future::pending().await;
            }
        }
        let world = ctx.world();
        let due = {
            let mut withdrawals = lock(&ctx);
            let waiting = withdrawals.len();
            withdrawals.due(start.elapsed(), |stage| {
                world
                    .workloads
                    .values()
                    .filter(|workload| workload.stage == stage)
                    .count()
                    + waiting
            })
        };
        for key in due {
            if let Err(error) = namespace::withdraw_workload(&ctx, &key).await {
                tracing::warn!(%key, %error, "withdrawal failed; it is tried again");
                if let Some(stage) = world
                    .namespaces
                    .get(&key.namespace)
                    .and_then(|ns| ns.stage?.workload_stage())
                {
                    lock(&ctx).deleted(key, stage);
                }
            }
        }
        let waiting = lock(&ctx).len();
        ctx.metrics
            .withdrawals_waiting
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if waiting > 0 {
            tracing::warn!(
                waiting,
                "many workloads were deleted at once; their flows are withdrawn a few a minute"
            );
        }
    }
}

/// Takes what else is queued, so that the ration is counted over all of it.
async fn continue_gathering(ctx: &Context, deletions: &mut mpsc::UnboundedReceiver<AiWorkload>) {
    while let Ok(Some(deleted)) = tokio::time::timeout(Duration::from_millis(200), deletions.recv()).await {
        if let Some(key) = key_of(&deleted) {
            lock(ctx).deleted(key, deleted.spec.stage);
        }
    }
}

fn lock(ctx: &Context) -> std::sync::MutexGuard<'_, super::withdrawals::Withdrawals> {
    ctx.withdrawals
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The uid of the definition of `AiWorkload` while it stands; `None` when it is gone, on its way out or unreadable.
async fn definition(ctx: &Context) -> Option<String> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let name = format!("aiworkloads.{}", names::GROUP);
    let found = Api::<CustomResourceDefinition>::all(ctx.client.clone())
        .get_metadata_opt(&name)
        .await
        .ok()??;
    if found.metadata.deletion_timestamp.is_some() {
        None
    } else {
        found.uid()
    }
}
