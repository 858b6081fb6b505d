//! One run of the packet canary: policies, server, client, answer; and everything is removed, whatever came of it.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::time::timeout;

use crate::api::names;
use crate::controller::context::Context;
use crate::controller::error::Error;
use crate::controller::writer::Scope;
use crate::network::enforcement::{self, Verdict};

/// How long a pod may take until it runs: it is scheduled, and a node that never had the image fetches it.
const STARTS: Duration = Duration::from_secs(60);
/// How long the client may take after it was created: to start, and the half minute it tries.
const ENDS: Duration = Duration::from_secs(120);
/// How long a pod may take to go.
const GOES: Duration = Duration::from_secs(60);
const SERVER: (&str, &str) = (names::PACKETS_SERVER_NAMESPACE, names::PACKETS_SERVER);
const CLIENT: (&str, &str) = (names::PACKETS_CLIENT_NAMESPACE, names::PACKETS_CLIENT);

/// Runs once. Whatever does not work is Unknown, and says what it is.
pub async fn run(ctx: &Context, image: Option<&str>) -> Verdict {
    let Some(image) = image else {
        let fix = "the packet canary does not know which image its pods are to run: set CLOISON_IMAGE of the controller, as \
                   the chart does";
        return Verdict::unknown("NoImage", fix);
    };
    let found = sent(ctx, image).await;
    clean_or_warn(ctx).await;
    found.unwrap_or_else(|why| why)
}

async fn sent(ctx: &Context, image: &str) -> Result<Verdict, Verdict> {
    if super::leftovers(ctx) {
        clean(ctx).await?;
    }
    // Before any pod: a plugin is to know them when it wires the pods.
    for policy in enforcement::policies() {
        let Some(scope) = Scope::of(&policy) else { continue };
        ctx.writer
            .apply_network_policy(&scope, &policy)
            .await
            .map_err(|error| failed(&error))?;
    }
    ctx.writer
        .apply_pod(&enforcement::server(image))
        .await
        .map_err(|error| failed(&error))?;
    let server = follow(ctx, SERVER, STARTS, |pod| {
        phase(pod) == "Running" && !enforcement::addresses(pod).is_empty()
    })
    .await?;
    let client = enforcement::client(image, &enforcement::addresses(&server));
    ctx.writer.apply_pod(&client).await.map_err(|error| failed(&error))?;
    let client = follow(ctx, CLIENT, ENDS, ended).await?;
    if let Ok(answer) = enforcement::answer(&client) {
        let milliseconds = answer.milliseconds;
        tracing::info!(
            milliseconds,
            "from the packet canary's first packet until all obeyed, or it gave up"
        );
    }
    Ok(enforcement::judge(&server, &client))
}

/// Removes what there is; false, and a line in the log, where that fails.
pub async fn clean_or_warn(ctx: &Context) -> bool {
    let cleaned = clean(ctx).await;
    if let Err(left) = &cleaned {
        tracing::warn!(reason = left.reason, message = %left.message, "packet canary");
    }
    cleaned.is_ok()
}

/// Removes both pods and both policies, and waits until the pods are gone. What is not there is fine.
async fn clean(ctx: &Context) -> Result<(), Verdict> {
    for (namespace, name) in [CLIENT, SERVER] {
        ctx.writer
            .delete_pod(namespace, name)
            .await
            .map_err(|error| failed(&error))?;
    }
    for (namespace, name) in [CLIENT, SERVER] {
        gone(ctx, (namespace, name)).await?;
    }
    // Last: no pod of ours is ever without its policy.
    for policy in enforcement::policies() {
        let Some(scope) = Scope::of(&policy) else { continue };
        ctx.writer
            .delete_network_policy(&scope, &policy)
            .await
            .map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn failed(error: &Error) -> Verdict {
    let fix = match error.reason() {
        "NotFound" => "; the chart makes the two namespaces: install it (helm upgrade)",
        "Forbidden" => {
            "; give the controller the rights of the chart's roles back, or exempt the two namespaces from what refuses"
        }
        _ => "",
    };
    let message = format!("the packet canary did not run: {}{fix}", error.line());
    Verdict::unknown(error.reason(), message)
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Watches a pod until it is as wanted; why it is not, when it ends, goes or takes longer than `limit`.
async fn follow(
    ctx: &Context,
    (namespace, name): (&str, &str),
    limit: Duration,
    wanted: impl Fn(&Pod) -> bool,
) -> Result<Pod, Verdict> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let mut last = None;
    let watched = timeout(limit, async {
        let mut changes = std::pin::pin!(watcher::watch_object(api, name).default_backoff());
        while let Some(change) = changes.next().await {
            match change {
                Ok(Some(pod)) => {
                    let (done, over) = (wanted(&pod), ended(&pod));
                    last = Some(pod);
                    if done || over {
                        return done;
                    }
                }
                Ok(None) => {
                    last = None;
                    return false;
                }
                Err(error) => tracing::debug!(%error, namespace, name, "watching a pod of the packet canary"),
            }
        }
        false
    })
    .await;
    match (watched, last) {
        (Ok(true), Some(pod)) => Ok(pod),
        (_, last) => Err(enforcement::not_running(
            last.as_ref(),
            name,
            &format!("{} s", limit.as_secs()),
        )),
    }
}

/// Waits until a pod is gone.
async fn gone(ctx: &Context, (namespace, name): (&str, &str)) -> Result<(), Verdict> {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let mut changes = std::pin::pin!(watcher::watch_object(api, name).default_backoff());
    let none = async {
        while let Some(change) = changes.next().await {
            if matches!(change, Ok(None)) {
                return;
            }
        }
    };
    timeout(GOES, none).await.map_err(|_| {
        let message = format!(
            "the packet canary's pod {namespace}/{name} was deleted and is still there after {} s: look at its node",
            GOES.as_secs()
        );
        Verdict::unknown("PodRemains", message)
    })
}
