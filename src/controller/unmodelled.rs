//! Kinds of network policies that are served here and that the analysis does not model. Where objects of them touch a
//! stage namespace, nothing is known: `Unknown`, by name.

use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use super::context::Context;
use crate::network::foreign::{FOREIGN_KINDS, ForeignKind};
use crate::network::reach::UnmodelledPolicy;

/// How often they are looked for: each look costs one request per served kind.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks for ever, after the first [`look`].
pub async fn run(ctx: Arc<Context>, publish: watch::Sender<Vec<UnmodelledPolicy>>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let found = look(&ctx.client).await;
        let changed = publish.send_if_modified(|now| {
            let changed = *now != found;
            if changed {
                *now = found;
            }
            changed
        });
        if changed {
            ctx.triggers.analysis.notify_one();
        }
    }
}

/// What is served here and not modelled.
pub async fn look(client: &Client) -> Vec<UnmodelledPolicy> {
    let groups = match client.list_api_groups().await {
        Ok(groups) => groups.groups,
        Err(error) => {
            tracing::warn!(%error, "the API groups are not readable");
            return vec![UnmodelledPolicy {
                namespace: None,
                kind: "unreadable API groups".to_owned(),
            }];
        }
    };
    let served = |group: &str, version: &str| {
        groups
            .iter()
            .any(|g| g.name == group && g.versions.iter().any(|v| v.version == version))
    };
    let mut found = Vec::new();
    for ForeignKind {
        group,
        version,
        plural,
        kind,
    } in FOREIGN_KINDS
    {
        if !served(group, version) {
            continue;
        }
        let named = format!("{kind}.{group}");
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{group}/{version}"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        match api.list_metadata(&ListParams::default()).await {
            Ok(list) => {
                found.extend(
                    list.items
                        .into_iter()
                        .map(|object: PartialObjectMeta<DynamicObject>| UnmodelledPolicy {
                            namespace: object.namespace(),
                            kind: named.clone(),
                        }),
                )
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            // Served and unreadable: it may hold anything.
            Err(error) => {
                tracing::warn!(kind = named, %error, "policies of this kind are served and not readable");
                found.push(UnmodelledPolicy {
                    namespace: None,
                    kind: named,
                });
            }
        }
    }
    found.sort_by(|a, b| (&a.kind, &a.namespace).cmp(&(&b.kind, &b.namespace)));
    found.dedup();
    found
}
