//! Objects that our types cannot read: said on the object, counted, and passed over. The others go on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::core::{DynamicObject, ObjectMeta};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::caches::Unreadable;
use super::context::Context;
use crate::api::conditions::{self, Truth, Verdict, types};
use crate::api::{AiWorkload, names};
use crate::cluster::telemetry::{Kind, Metrics};

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
            let mut said: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
            while let Some(object) = unreadable.recv().await {
                let uid = object.metadata.uid.clone().unwrap_or_default();
                // Writing the condition changes the object, and that brings it here again.
                if said.insert(uid, object.error.clone()).as_ref() != Some(&object.error) {
                    say(&client, &object).await;
                }
            }
            std::future::pending::<()>().await;
        });
        Self { queue, metrics }
    }

    /// The handler of one kind's watch.
    pub fn for_kind(&self, kind: &'static str) -> impl FnMut(Unreadable) + Send + 'static {
        let this = self.clone();
        move |object| {
            this.metrics.unreadable.get_or_create(&Kind { kind }).inc();
            tracing::warn!(
                kind,
                name = object.metadata.name,
                namespace = object.metadata.namespace,
                error = object.error,
                "unreadable"
            );
            let _ = this.queue.send(object);
        }
    }
}

/// Writes `Ready=False/Unreadable` on an `AiWorkload`; other kinds are only counted and logged.
async fn say(client: &Client, object: &Unreadable) {
    if object.kind != "AiWorkload" {
        return;
    }
    let ObjectMeta {
        name: Some(name),
        namespace: Some(namespace),
        generation,
        ..
    } = &object.metadata
    else {
        return;
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
    if let Err(error) = api.patch_status(name, &params, &Patch::Apply(&status)).await {
        tracing::warn!(%error, namespace, name, "the condition of an unreadable object could not be written");
    }
}
