//! Objects that our types cannot read: said on the object, counted, and passed over. The others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::caches::{Guard, Unreadable};
use super::context::Context;
use super::error::Error;
use super::writer::Writer;
use crate::api::AiWorkload;
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::cluster::telemetry::{Kind, Metrics};

/// Between two tries to write a condition.
const AGAIN: Duration = Duration::from_secs(5);
/// The one kind whose objects are told on themselves.
const WORKLOAD: &str = "AiWorkload";

/// Namespace and name.
type Name = (String, String);

/// The workloads that cannot be read at present. Their last readable version stays in the store, so that what is in place
/// for them stays; nothing may be reported of it.
#[derive(Clone, Debug, Default)]
pub struct UnreadableWorkloads {
    known: Arc<Mutex<Known>>,
    /// Wakes who says it again.
    overwritten: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    now: BTreeSet<Name>,
    /// Those whose condition was written over by a pass that had begun before.
    overwritten: BTreeSet<Name>,
}

impl UnreadableWorkloads {
    /// Whether a workload is among them.
    pub fn contains(&self, workload: &ObjectRef<AiWorkload>) -> bool {
        self.lock().now.contains(&name_of(workload))
    }

    /// A status was written. If the workload turned unreadable meanwhile, that has to be said again.
    pub fn wrote(&self, workload: &ObjectRef<AiWorkload>) {
        let name = name_of(workload);
        let mut known = self.lock();
        if known.now.contains(&name) {
            known.overwritten.insert(name);
            self.overwritten.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(workload: &ObjectRef<AiWorkload>) -> Name {
    (workload.namespace.clone().unwrap_or_default(), workload.name.clone())
}

/// Takes what watches could not read.
#[derive(Clone)]
pub struct Reporter {
    queue: mpsc::UnboundedSender<Unreadable>,
    metrics: Metrics,
    workloads: UnreadableWorkloads,
}

impl Reporter {
    /// Starts the task that writes the condition.
    pub fn start(tasks: &mut JoinSet<()>, client: Client, metrics: Metrics) -> Self {
        let (queue, mut unreadable) = mpsc::unbounded_channel::<Unreadable>();
        let workloads = UnreadableWorkloads::default();
        let (known, writer) = (workloads.clone(), Writer::new(client.clone(), metrics.clone()));
        tasks.spawn(async move {
            let mut said: BTreeMap<Name, Unreadable> = BTreeMap::new();
            let mut unsaid: BTreeMap<Name, Unreadable> = BTreeMap::new();
            loop {
                tokio::select! {
                    Some(object) = unreadable.recv() => {
                        let name = name(&object.metadata);
                        // Writing the condition changes the object, and that brings it here again.
                        if said.get(&name).is_none_or(|said| !same(said, &object)) {
                            unsaid.insert(name, object);
                        }
                    }
                    () = known.overwritten.notified() => {}
                    () = tokio::time::sleep(AGAIN) => {}
                }
                let overwritten = {
                    let mut known = known.lock();
                    said.retain(|name, _| known.now.contains(name));
                    unsaid.retain(|name, _| known.now.contains(name));
                    std::mem::take(&mut known.overwritten)
                };
                for name in overwritten {
                    if let Some(object) = said.get(&name) {
                        unsaid.entry(name).or_insert_with(|| object.clone());
                    }
                }
                for (name, object) in std::mem::take(&mut unsaid) {
                    if say(&client, &writer, &object).await {
                        said.insert(name, object);
                    } else {
                        unsaid.insert(name, object);
                    }
                }
            }
        });
        Self {
            queue,
            metrics,
            workloads,
        }
    }

    /// The workloads that cannot be read at present.
    pub fn workloads(&self) -> UnreadableWorkloads {
        self.workloads.clone()
    }

    /// The guard of one kind's watch.
    pub fn for_kind(&self, kind: &'static str) -> impl Guard + use<> {
        KindReporter {
            kind,
            queue: self.queue.clone(),
            metrics: self.metrics.clone(),
            workloads: self.workloads.clone(),
        }
    }
}

fn name(metadata: &ObjectMeta) -> Name {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

fn same(one: &Unreadable, other: &Unreadable) -> bool {
    let (a, b) = (&one.metadata, &other.metadata);
    (&a.uid, a.generation, &one.error) == (&b.uid, b.generation, &other.error)
}

struct KindReporter {
    kind: &'static str,
    queue: mpsc::UnboundedSender<Unreadable>,
    metrics: Metrics,
    workloads: UnreadableWorkloads,
}

impl Guard for KindReporter {
    fn unreadable(&mut self, object: Unreadable) {
        tracing::warn!(
            kind = self.kind,
            name = object.metadata.name,
            namespace = object.metadata.namespace,
            error = object.error,
            "unreadable"
        );
        // Other kinds are only counted and logged.
        if self.kind == WORKLOAD {
            self.workloads.lock().now.insert(name(&object.metadata));
            let _ = self.queue.send(object);
        }
    }

    fn all(&mut self, unreadable: Vec<Name>) {
        let count = i64::try_from(unreadable.len()).unwrap_or(i64::MAX);
        self.metrics
            .unreadable
            .get_or_create(&Kind { kind: self.kind })
            .set(count);
        if self.kind == WORKLOAD {
            self.workloads.lock().now = unreadable.into_iter().collect();
        }
    }
}

/// Writes `Ready=False/Unreadable` on a workload. False when it should be tried again.
async fn say(client: &Client, writer: &Writer, object: &Unreadable) -> bool {
    let ObjectMeta {
        name: Some(name),
        namespace: Some(namespace),
        generation,
        ..
    } = &object.metadata
    else {
        return true;
    };
    let message = format!(
        "this version of Cloison cannot read the object: {}. What is in place for it stays; correct the field, or install the \
         version that knows it",
        object.error
    );
    let verdicts = [
        Verdict::new(types::READY, Truth::False, "Unreadable", message.clone()),
        Verdict::new(types::STALLED, Truth::True, "Unreadable", message),
    ];
    let status = json!({
        "observedGeneration": generation,
        "conditions": conditions::conditions(&[], &verdicts, *generation, &Time(Context::now())),
    });
    // The answer is as unreadable as the object: only its metadata is looked at.
    let api: Api<PartialObjectMeta<AiWorkload>> = Api::namespaced(client.clone(), namespace);
    match writer.apply_status(&api, WORKLOAD, name, &status).await {
        Ok(_) => true,
        // Deleted meanwhile.
        Err(Error::Api {
            source: kube::Error::Api(status),
            ..
        }) if status.code == 404 => true,
        Err(error) => {
            tracing::warn!(%error, namespace, name, "the condition of an unreadable object could not be written");
            false
        }
    }
}
