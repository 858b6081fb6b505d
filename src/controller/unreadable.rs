//! Objects that our types cannot read: said on the object, counted, and passed over. The others go on.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, ObjectMeta};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::caches::{Guard, Unreadable};
use super::context::Context;
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::api::{AiWorkload, names};
use crate::cluster::telemetry::{Kind, Metrics};

/// Between two tries to write a condition.
const AGAIN: Duration = Duration::from_secs(5);

/// Takes what watches could not read.
#[derive(Clone)]
pub struct Reporter {
    queue: mpsc::UnboundedSender<Unreadable>,
    metrics: Metrics,
}

impl Reporter {
    /// Starts the task that writes the condition.
    pub fn start(tasks: &mut JoinSet<()>, client: Client, metrics: Metrics) -> Self {
        let (queue, mut unreadable) = mpsc::unbounded_channel::<Unreadable>();
        tasks.spawn(async move {
            let mut said: BTreeMap<String, String> = BTreeMap::new();
            let mut unsaid: BTreeMap<String, Unreadable> = BTreeMap::new();
            loop {
                let next = tokio::time::timeout(AGAIN, unreadable.recv());
                match next.await {
                    Ok(Some(object)) => {
                        let uid = object.metadata.uid.clone().unwrap_or_default();
                        // Writing the condition changes the object, and that brings it here again.
                        if said.insert(uid.clone(), object.error.clone()).as_ref() != Some(&object.error) {
                            unsaid.insert(uid, object);
                        }
                    }
                    Ok(None) => std::future::pending().await,
                    Err(_) => {}
                }
                let mut left = BTreeMap::new();
                for (uid, object) in unsaid {
                    if !say(&client, &object).await {
                        left.insert(uid, object);
                    }
                }
                unsaid = left;
            }
        });
        Self { queue, metrics }
    }

    /// The guard of one kind's watch.
    pub fn for_kind(&self, kind: &'static str) -> impl Guard + use<> {
        KindReporter {
            kind,
            queue: self.queue.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

struct KindReporter {
    kind: &'static str,
    queue: mpsc::UnboundedSender<Unreadable>,
    metrics: Metrics,
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
        let _ = self.queue.send(object);
    }

    fn count(&mut self, unreadable: usize) {
        let count = i64::try_from(unreadable).unwrap_or(i64::MAX);
        self.metrics
            .unreadable
            .get_or_create(&Kind { kind: self.kind })
            .set(count);
    }
}

/// Writes `Ready=False/Unreadable` on an `AiWorkload`; other kinds are only counted and logged. False when it should be
/// tried again.
async fn say(client: &Client, object: &Unreadable) -> bool {
    if object.kind != "AiWorkload" {
        return true;
    }
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
    let kind = ApiResource::erase::<AiWorkload>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let status = json!({
        "apiVersion": kind.api_version, "kind": kind.kind, "metadata": { "name": name },
        "status": {
            "observedGeneration": generation,
            "conditions": conditions::conditions(&[], &verdicts, *generation, &Time(Context::now())),
        },
    });
    let params = PatchParams::apply(names::STATUS_MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(&status)).await {
        Ok(_) => true,
        // Deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => true,
        Err(error) => {
            tracing::warn!(%error, namespace, name, "the condition of an unreadable object could not be written");
            false
        }
    }
}
