//! What the controller sees of the cluster: one guarded, pruned watch per kind, kept in a store.
//!
//! An object that our types cannot read is reported and passed over; the others go on. Absence is not deletion: a list
//! that comes back shorter says [`Seen::Gone`], and only a watched DELETE says [`Seen::Deleted`].

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
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
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Why.
    pub error: String,
}

/// Everything an object store must be able to do.
pub trait Cached: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cached for K {}

/// Who is told of objects that cannot be read.
pub trait Guard: Send + 'static {
    /// One was seen.
    fn unreadable(&mut self, object: Unreadable);
    /// These there are now, by namespace and name.
    fn all(&mut self, unreadable: Vec<(String, String)>);
}

/// What becomes of the last readable version of an object that turned unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It stays in the store: what is in place for the object stays too.
    KeepsLast,
    /// It leaves the store: nothing is decided on what it said before.
    Leaves,
}

/// The stream of a guarded watch: readable objects pass, the others go to `guard`. `known` is the store that is kept from
/// the stream.
pub fn guarded<K: Cached>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    known: Store<K>,
    unread: Unread,
    mut guard: impl Guard,
) -> impl Stream<Item = watch::Result<Event<K>>> + Send
where
    DeserializeGuard<K>: Resource<DynamicType = ()>,
{
    // Those that cannot be read: since the last whole list, and in the list that is being filled.
    let mut now: HashSet<ObjectRef<K>> = HashSet::new();
    let mut listed: HashSet<ObjectRef<K>> = HashSet::new();
    watch(api, config).filter_map(move |event| {
        let last = |metadata: &ObjectMeta| known.get(&reference(metadata)).map(|last| (*last).clone());
        let listing = matches!(event, Ok(Event::Init | Event::InitApply(_)));
        let passed = match event {
            Ok(Event::Init) => {
                listed.clear();
                Some(Event::Init)
            }
            Ok(Event::InitDone) => {
                now = std::mem::take(&mut listed);
                Some(Event::InitDone)
            }
            Ok(Event::InitApply(object)) => match object.0 {
                Ok(object) => Some(Event::InitApply(object)),
                Err(InvalidObject { metadata, error }) => {
                    listed.insert(reference(&metadata));
                    let stays = last(&metadata).filter(|_| unread == Unread::KeepsLast);
                    guard.unreadable(Unreadable { metadata, error });
                    stays.map(Event::InitApply)
                }
            },
            Ok(Event::Apply(object)) => match object.0 {
                Ok(object) => {
                    now.remove(&ObjectRef::from_obj(&object));
                    Some(Event::Apply(object))
                }
                Err(InvalidObject { metadata, error }) => {
                    now.insert(reference(&metadata));
                    let leaves = last(&metadata).filter(|_| unread == Unread::Leaves);
                    guard.unreadable(Unreadable { metadata, error });
                    leaves.map(Event::Delete)
                }
            },
            Ok(Event::Delete(object)) => match object.0 {
                Ok(object) => {
                    now.remove(&ObjectRef::from_obj(&object));
                    Some(Event::Delete(object))
                }
                Err(InvalidObject { metadata, .. }) => {
                    now.remove(&reference(&metadata));
                    last(&metadata).map(Event::Delete)
                }
            },
            Err(error) => return std::future::ready(Some(Err(error))),
        };
        // Half a list says nothing of those that were unreadable before it began.
        if !listing {
            let name = |object: &ObjectRef<K>| (object.namespace.clone().unwrap_or_default(), object.name.clone());
            guard.all(now.iter().map(name).collect());
        }
        std::future::ready(passed.map(Ok))
    })
}

fn reference<K: Cached>(metadata: &ObjectMeta) -> ObjectRef<K> {
    let reference = ObjectRef::new(metadata.name.as_deref().unwrap_or_default());
    match &metadata.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

/// Starts to keep a store from a stream. `leaves` is told of an object before the store loses it, `on_change` of every
/// change, after the store shows it.
pub fn keep<K: Cached>(
    tasks: &mut JoinSet<()>,
    mut writer: Writer<K>,
    stream: impl Stream<Item = watch::Result<Event<K>>> + Send + 'static,
    prune: impl FnMut(&mut K) + Send + 'static,
    (kind, metrics): (&'static str, Metrics),
    mut leaves: impl FnMut(&Seen<'_, K>) + Send + 'static,
    mut on_change: impl FnMut(Seen<'_, K>) + Send + 'static,
) {
    let cache = writer.as_reader();
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
            match event {
                Event::Init => {
                    listed.clear();
                    writer.apply_watcher_event(&Event::Init);
                }
                Event::InitApply(object) => {
                    listed.insert(ObjectRef::from_obj(&object), object.clone());
                    writer.apply_watcher_event(&Event::InitApply(object));
                }
                Event::InitDone => {
                    let before = cache.state().into_iter();
                    let mut before: HashMap<_, _> = before.map(|o| (ObjectRef::from_obj(o.as_ref()), o)).collect();
                    let gone = before.iter().filter(|(key, _)| !listed.contains_key(key));
                    gone.for_each(|(_, object)| leaves(&Seen::Gone(object)));
                    writer.apply_watcher_event(&Event::InitDone);
                    for (key, object) in std::mem::take(&mut listed) {
                        let old = before.remove(&key);
                        on_change(Seen::Applied { old, new: &object });
                    }
                    before.values().for_each(|object| on_change(Seen::Gone(object)));
                }
                Event::Apply(object) => {
                    let old = cache.get(&ObjectRef::from_obj(&object));
                    let event = Event::Apply(object);
                    writer.apply_watcher_event(&event);
                    if let Event::Apply(object) = &event {
                        on_change(Seen::Applied { old, new: object });
                    }
                }
                Event::Delete(object) => {
                    leaves(&Seen::Deleted(&object));
                    let event = Event::Delete(object);
                    writer.apply_watcher_event(&event);
                    if let Event::Delete(object) = &event {
                        on_change(Seen::Deleted(object));
                    }
                }
            }
        }
    });
}

/// Drops what no decision looks at.
pub fn prune<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}

/// Of its metadata keeps who it is, which version, and some labels.
pub fn only_labels<K: ResourceExt>(object: &mut K, kept: impl Fn(&str) -> bool) {
    let metadata = std::mem::take(object.meta_mut());
    let labels = metadata.labels.unwrap_or_default().into_iter();
    *object.meta_mut() = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        generation: metadata.generation,
        labels: Some(labels.filter(|(key, _)| kept(key)).collect()),
        ..ObjectMeta::default()
    };
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
