//! Kinds of network policies that are served here and that the analysis does not model. Where objects of them touch a
//! stage namespace, nothing is known: `Unknown`, by name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use super::context::Context;
use crate::network::foreign::{FOREIGN_KINDS, ForeignKind};
use crate::network::reach::UnmodelledPolicy;

/// How often they are looked for: each look costs one request, and one per served kind. So long a policy that was just
/// created may count as absent.
const AGAIN: Duration = Duration::from_secs(15);
/// Objects in one answer.
const PAGE: u32 = 500;

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
    let mut found = Vec::new();
    for group in &groups {
        let versions: Vec<&str> = group.versions.iter().map(|version| version.version.as_str()).collect();
        found.extend(in_group(client, &group.name, &versions).await);
    }
    found.sort_by(|a, b| (&a.kind, &a.namespace).cmp(&(&b.kind, &b.namespace)));
    found.dedup();
    found
}

/// Policies of one group. Each version of a kind shows the same objects, so one that is known by another version than
/// those served is found all the same; a group of which neither a version nor a kind is known may hold anything.
async fn in_group(client: &Client, group: &str, served: &[&str]) -> Vec<UnmodelledPolicy> {
    let kinds: Vec<&ForeignKind> = FOREIGN_KINDS.iter().filter(|kind| kind.group == group).collect();
    let mut recognised = kinds.iter().any(|kind| served.contains(&kind.version));
    let mut found = Vec::new();
    for kind in &kinds {
        let (known, other): (Vec<&str>, Vec<&str>) = served.iter().partition(|version| **version == kind.version);
        for version in known.into_iter().chain(other) {
            match list(client, kind, version).await {
                Ok(Some(policies)) => {
                    recognised = true;
                    found.extend(policies);
                    break;
                }
                // This version does not have the kind.
                Ok(None) => {}
                // Served and unreadable: it may hold anything.
                Err(error) => {
                    tracing::warn!(kind = kind.kind, group, version, %error, "policies of this kind are served and not readable");
                    recognised = true;
                    found.push(anywhere(format!("{}.{group}", kind.kind)));
                    break;
                }
            }
        }
    }
    if !kinds.is_empty() && !recognised {
        found.push(anywhere(format!("policies of {group}/{}", served.join(", "))));
    }
    found
}

fn anywhere(kind: String) -> UnmodelledPolicy {
    UnmodelledPolicy { namespace: None, kind }
}

/// Where there are policies of a kind; `None` where the version does not have it. Metadata only, page by page: some
/// clusters have thousands.
async fn list(
    client: &Client,
    kind: &ForeignKind,
    version: &str,
) -> Result<Option<Vec<UnmodelledPolicy>>, kube::Error> {
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{}/{version}", kind.group),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut places: BTreeSet<Option<String>> = BTreeSet::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = match api.list_metadata(&page).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            list => list?,
        };
        places.extend(list.items.iter().map(ResourceExt::namespace));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    let named = format!("{}.{}", kind.kind, kind.group);
    let policy = |namespace| UnmodelledPolicy {
        namespace,
        kind: named.clone(),
    };
    Ok(Some(places.into_iter().map(policy).collect()))
}
