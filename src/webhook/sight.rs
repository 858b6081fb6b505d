//! What the webhook sees of the cluster: namespaces, workloads, Waivers and the policy, kept by watches; the cluster's own
//! addresses, read again from time to time; and what one request asks for besides.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::admission::review::{Found, LookedUp, Lookup, Sight};
use crate::admission::{Operator, Waived, generate};
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::{AiSecurityPolicy, AiWorkload, Waiver, names};
use crate::cluster::telemetry::{Kind, Metrics};
use crate::controller::caches::{self, Cached, Guard, Unread, Unreadable};
use crate::controller::{facts, facts_of, workload_facts};
use crate::network::waivers;
use crate::network::world::{ClusterNetwork, WorkloadKey, World};

/// Changes come in bursts: one look answers for all that arrive in this time.
const GATHER: Duration = Duration::from_millis(50);
/// Looks again without a change: Waivers end, and settings come into force.
const AGAIN: Duration = Duration::from_secs(30);
/// How often the cluster's own addresses are read again.
const FACTS_AGAIN: Duration = Duration::from_secs(300);
/// So many pods of a workload are counted; more are as bad.
const COUNTED: u32 = 500;

/// What is seen now; `None` until everything was seen once.
pub type Now = watch::Receiver<Option<Arc<Sight>>>;

struct Stores {
    namespaces: Store<Namespace>,
    workloads: Store<AiWorkload>,
    policies: Store<AiSecurityPolicy>,
    waivers: Store<Waiver>,
}

/// Counts what our types cannot read.
struct Counted(&'static str, Metrics);

impl Guard for Counted {
    fn unreadable(&mut self, object: Unreadable) {
        let name = object.metadata.name.unwrap_or_default();
        tracing::warn!(kind = self.0, name, error = object.error, "cannot be read; passed over");
    }

    fn all(&mut self, unreadable: Vec<(String, String)>) {
        let number = i64::try_from(unreadable.len()).unwrap_or(i64::MAX);
        self.1.unreadable.get_or_create(&Kind { kind: self.0 }).set(number);
    }
}

/// Starts to look. The world is built anew when something changed, never for a request.
pub fn start(tasks: &mut JoinSet<()>, client: &Client, operator: Operator, metrics: &Metrics) -> Now {
    let changed = Arc::new(Notify::new());
    let mut watching = Watching {
        tasks,
        client,
        metrics,
        changed: changed.clone(),
    };
    let stores = Stores {
        namespaces: watching.keep("Namespace", Unread::KeepsLast),
        workloads: watching.keep("AiWorkload", Unread::KeepsLast),
        policies: watching.keep("AiSecurityPolicy", Unread::Leaves),
        waivers: watching.keep("Waiver", Unread::Leaves),
    };
    let slices = watching.slices();
    let (publish, now) = watch::channel(None);
    tasks.spawn(run(client.clone(), stores, slices, operator, changed, publish));
    now
}

struct Watching<'a> {
    tasks: &'a mut JoinSet<()>,
    client: &'a Client,
    metrics: &'a Metrics,
    changed: Arc<Notify>,
}

impl Watching<'_> {
    fn keep<K: Cached>(&mut self, kind: &'static str, unread: Unread) -> Store<K>
    where
        DeserializeGuard<K>: Resource<DynamicType = ()>,
    {
        self.follow(Api::all(self.client.clone()), watcher::Config::default(), kind, unread)
    }

    fn slices(&mut self) -> Store<EndpointSlice> {
        let only = watcher::Config::default().labels("kubernetes.io/service-name=kubernetes");
        let api = Api::namespaced(self.client.clone(), "default");
        self.follow(api, only, "EndpointSlice", Unread::KeepsLast)
    }

    fn follow<K: Cached>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        config: watcher::Config,
        kind: &'static str,
        unread: Unread,
    ) -> Store<K>
    where
        DeserializeGuard<K>: Resource<DynamicType = ()>,
    {
        let (store, writer) = reflector::store();
        let guard = Counted(kind, self.metrics.clone());
        let stream = caches::guarded(api, config, store.clone(), unread, guard);
        let changed = self.changed.clone();
        let labels = (kind, self.metrics.clone());
        caches::keep(
            self.tasks,
            writer,
            stream,
            caches::prune,
            labels,
            |_| {},
            move |_| changed.notify_one(),
        );
        store
    }
}

async fn run(
    client: Client,
    stores: Stores,
    slices: Store<EndpointSlice>,
    operator: Operator,
    changed: Arc<Notify>,
    publish: watch::Sender<Option<Arc<Sight>>>,
) {
    let complete = async {
        // Fails only when a writer is gone, and with it the process.
        let _ = tokio::join!(
            stores.namespaces.wait_until_ready(),
            stores.workloads.wait_until_ready(),
            stores.policies.wait_until_ready(),
            stores.waivers.wait_until_ready(),
            slices.wait_until_ready(),
        );
    };
    complete.await;
    let mut addresses = facts::first(&client, &slices).await;
    let mut read = tokio::time::Instant::now();
    loop {
        publish.send_replace(Some(Arc::new(look(&stores, &addresses, &operator, Timestamp::now()))));
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(AGAIN) => {}
        }
        if read.elapsed() > FACTS_AGAIN {
            match facts::gather(&client, &slices.state()).await {
                Ok(found) => addresses = found,
                Err(error) => {
                    tracing::warn!(%error, "the cluster's own addresses are not readable; the last known stay")
                }
            }
            read = tokio::time::Instant::now();
        }
    }
}

fn look(stores: &Stores, addresses: &ClusterNetwork, operator: &Operator, now: Timestamp) -> Sight {
    let policy = stores.policies.get(&ObjectRef::new(names::SINGLETON));
    let policy_missing = policy.is_none();
    let spec = policy.map_or_else(defaults, |policy| policy.spec.clone());
    let namespaces = stores.namespaces.state();
    let namespaces = namespaces.iter().map(|namespace| facts_of(namespace, &spec));
    let workloads = stores.workloads.state();
    let workloads = workloads.iter().filter_map(|workload| workload_facts(workload));
    let found = stores.waivers.state();
    let found = found.iter().map(AsRef::as_ref);
    let waived = Waived::new(found.clone(), &spec, now);
    Sight {
        hash: generate(&spec, operator, &waived, now).hash,
        world: World {
            namespaces: namespaces.map(|facts| (facts.name.clone(), facts)).collect(),
            workloads: workloads.map(|facts| (facts.key.clone(), facts)).collect(),
            waivers: waivers::of(found, spec.waivers.max_days, now),
            policy: Arc::new(spec),
            cluster: addresses.clone(),
            // The denies between stages are judged with the whole set, by the controller.
            cluster_policies: Vec::new(),
        },
        policy_missing,
    }
}

/// The policy of an installation that nobody configured: the schema's defaults are in the deserializer.
fn defaults() -> AiSecurityPolicySpec {
    serde_json::from_value(serde_json::json!({})).unwrap_or_default()
}

/// Looks up what a request asks for.
pub async fn look_up(client: &Client, needed: Vec<Lookup>, sight: &Sight) -> LookedUp {
    let mut found = LookedUp::new();
    for lookup in needed {
        let answer = one(client, &lookup, sight).await;
        found.insert(lookup, answer.unwrap_or_else(|error| Found::Failed(error.to_string())));
    }
    found
}

async fn one(client: &Client, lookup: &Lookup, sight: &Sight) -> Result<Found, kube::Error> {
    Ok(match lookup {
        Lookup::Namespace(name) => {
            let found = Api::<Namespace>::all(client.clone()).get_opt(name).await?;
            Found::Namespace(found.map(|found| facts_of(&found, &sight.world.policy)))
        }
        Lookup::Volume(name) => {
            let found = Api::<PersistentVolume>::all(client.clone()).get_opt(name).await?;
            Found::Volume(found.map(Box::new))
        }
        Lookup::Pods(workload) => Found::Pods(running(client, workload).await?),
    })
}

/// How many pods of a workload run.
async fn running(client: &Client, workload: &WorkloadKey) -> Result<usize, kube::Error> {
    let labels = match workload.name.as_str() {
        names::DEFAULT_WORKLOAD => format!("!{}", names::WORKLOAD_LABEL),
        name => format!("{}={name}", names::WORKLOAD_LABEL),
    };
    let only = ListParams::default()
        .labels(&labels)
        .fields("status.phase=Running")
        .limit(COUNTED);
    let pods = Api::<Pod>::namespaced(client.clone(), &workload.namespace);
    Ok(pods.list_metadata(&only).await?.items.len())
}
