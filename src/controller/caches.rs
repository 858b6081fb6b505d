//! What the controller sees of the cluster: one guarded, pruned watch per kind, kept in a store.
//!
//! An object that our types cannot read is reported and passed over; the others go on. Absence is not deletion: a list
//! that comes back shorter says [`Seen::Gone`], and only a watched DELETE says [`Seen::Deleted`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::cluster::telemetry::{Kind, Metrics};

/// A change of one object in a store.
#[derive(Debug)]
pub enum Seen<'a, K> {
    /// It is there; `old` is what the store held before.
    Applied {
        /// What the store held.
        old: Option<Arc<K>>,
        /// What it holds now.
        new: &'a K,
    },
    /// The API server said that it was deleted.
    Deleted(&'a K),
    /// It was not in a new list; nobody saw it being deleted.
    Gone(&'a K),
}

impl<K> Seen<'_, K> {
    /// The object, old or new.
    pub fn object(&self) -> &K {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(object) | Self::Gone(object) => object,
        }
    }
}

/// An object that our types cannot read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its kind.
    pub kind: &'static str,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Why.
    pub error: String,
}

/// Everything an object store must be able to do.
pub trait Cached: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cached for K {}

/// The stream of a guarded watch: readable objects pass, the others go to `unreadable`.
pub fn guarded<K: Cached>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    kind: &'static str,
    mut unreadable: impl FnMut(Unreadable) + Send + 'static,
) -> impl Stream<Item = watch::Result<Event<K>>> + Send
where
    DeserializeGuard<K>: Resource<DynamicType = ()>,
{
    let mut unguard = move |object: DeserializeGuard<K>| match object.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            unreadable(Unreadable {
                kind,
                metadata: invalid.metadata,
                error: invalid.error,
            });
            None
        }
    };
    watch(api, config).filter_map(move |event| {
        let passed = match event {
            Ok(Event::Init) => Some(Ok(Event::Init)),
            Ok(Event::InitDone) => Some(Ok(Event::InitDone)),
            Ok(Event::InitApply(object)) => unguard(object).map(|object| Ok(Event::InitApply(object))),
            Ok(Event::Apply(object)) => unguard(object).map(|object| Ok(Event::Apply(object))),
            Ok(Event::Delete(object)) => object.0.ok().map(|object| Ok(Event::Delete(object))),
            Err(error) => Some(Err(error)),
        };
        std::future::ready(passed)
    })
}

/// Starts to keep a store from a stream and tells `on_change` of every change, after the store holds it.
pub fn keep<K: Cached>(
    tasks: &mut JoinSet<()>,
    stream: impl Stream<Item = watch::Result<Event<K>>> + Send + 'static,
    prune: fn(&mut K),
    kind: &'static str,
    metrics: Metrics,
    mut on_change: impl FnMut(Seen<'_, K>) + Send + 'static,
) -> Store<K> {
    let (reader, mut writer) = store::<K>();
    let cache = reader.clone();
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream.default_backoff().modify(prune));
        // Filled between Init and InitDone: the store shows the new list only at its end, and so must its triggers.
        let mut listed: HashMap<ObjectRef<K>, K> = HashMap::new();
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind, %error, "watch; trying again");
                    metrics.watch_errors.get_or_create(&Kind { kind }).inc();
                    continue;
                }
            };
            match &event {
                Event::Init => listed.clear(),
                Event::InitApply(object) => {
                    listed.insert(ObjectRef::from_obj(object), object.clone());
                }
                Event::InitDone | Event::Apply(_) | Event::Delete(_) => {}
            }
            let before: Vec<Arc<K>> = if matches!(event, Event::InitDone) {
                cache.state()
            } else {
                Vec::new()
            };
            let old = match &event {
                Event::Apply(object) => cache.get(&ObjectRef::from_obj(object)),
                _ => None,
            };
            writer.apply_watcher_event(&event);
            match event {
                Event::Apply(object) => on_change(Seen::Applied { old, new: &object }),
                Event::Delete(object) => on_change(Seen::Deleted(&object)),
                Event::InitDone => {
                    let mut before: HashMap<_, _> = before
                        .into_iter()
                        .map(|object| (ObjectRef::from_obj(object.as_ref()), object))
                        .collect();
                    for (key, object) in std::mem::take(&mut listed) {
                        on_change(Seen::Applied {
                            old: before.remove(&key),
                            new: &object,
                        });
                    }
                    before.values().for_each(|object| on_change(Seen::Gone(object)));
                }
                Event::Init | Event::InitApply(_) => {}
            }
        }
    });
    reader
}

/// Drops what no decision looks at.
pub fn prune<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// As [`prune`], but keeps the names of the managers: they tell ours from foreign objects.
pub fn prune_but_managers<K: ResourceExt>(object: &mut K) {
    for entry in object.managed_fields_mut() {
        entry.fields_v1 = None;
    }
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}
