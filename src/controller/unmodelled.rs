//! Network policies of other kinds than NetworkPolicy. ClusterNetworkPolicies are read; where objects of a kind that the
//! analysis does not model touch a stage namespace, nothing is known: `Unknown`, by name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::api::ListParams;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::ApiResource;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use super::caches;
use super::context::Context;
use crate::cluster::cluster_policies;
use crate::network::cluster_policy::ClusterNetworkPolicy;
use crate::network::foreign::{FOREIGN_KINDS, ForeignKind};
use crate::network::reach::UnmodelledPolicy;

/// How often they are looked for: each look costs one request, and one per served kind. So long a policy that was just
/// created may count as absent.
const AGAIN: Duration = Duration::from_secs(15);
/// Objects in one answer.
const PAGE: u32 = 500;

/// Changes come in bursts: one look answers for all that arrive in this time.
const GATHER: Duration = Duration::from_millis(50);

/// What there is beside the NetworkPolicies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Others {
    /// Those of kinds that the analysis does not model.
    pub unmodelled: Vec<UnmodelledPolicy>,
    /// ClusterNetworkPolicies, without what no decision looks at; `None` where they are not served in the version that
    /// is modelled.
    pub of_cluster: Option<Vec<Arc<DynamicObject>>>,
}

impl Others {
    /// What the ClusterNetworkPolicies say.
    pub fn cluster_policies(&self) -> Vec<ClusterNetworkPolicy> {
        let found = self.of_cluster.iter().flatten();
        found.map(|object| cluster_policies::read(object)).collect()
    }
}

/// Status and revision are other people's news.
fn pruned(mut object: DynamicObject) -> Arc<DynamicObject> {
    caches::prune_but_managers(&mut object);
    for entry in object.managed_fields_mut() {
        entry.time = None;
    }
    object.metadata.resource_version = None;
    if let Some(fields) = object.data.as_object_mut() {
        fields.retain(|key, _| key == "spec");
    }
    Arc::new(object)
}

/// Looks for ever, after the first [`look`]: from time to time, and when a ClusterNetworkPolicy changes.
pub async fn run(ctx: Arc<Context>, publish: watch::Sender<Others>) {
    let mut changes = None;
    loop {
        if publish.borrow().of_cluster.is_none() {
            // Watching what is not served would only fail.
            changes = None;
        } else if changes.is_none() {
            changes = Some(follow(ctx.client.clone()));
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = next(changes.as_mut()) => {
                tokio::time::sleep(GATHER).await;
                while next(changes.as_mut()).now_or_never().is_some() {}
            }
        }
        let found = look(&ctx.client).await;
        let changed = publish.send_if_modified(|now| {
            let changed = *now != found;
            if changed {
                *now = found;
            }
            changed
        });
        if changed {
            ctx.triggers.other_policies_changed();
        }
    }
}

/// Says that some ClusterNetworkPolicy changed, not which: they are few, and read again together.
fn follow(client: Client) -> BoxStream<'static, ()> {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &cluster_policies::resource());
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    events.filter_map(async |event| event.is_ok().then_some(())).boxed()
}

/// The next change; never, while nothing is watched or when the watch is over.
async fn next(changes: Option<&mut BoxStream<'static, ()>>) {
    if let Some(changes) = changes
        && changes.next().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// What is served here beside the NetworkPolicies.
pub async fn look(client: &Client) -> Others {
    let groups = match client.list_api_groups().await {
        Ok(groups) => groups.groups,
        Err(error) => {
            tracing::warn!(%error, "the API groups are not readable");
            return Others {
                unmodelled: vec![anywhere("unreadable API groups".to_owned())],
                of_cluster: None,
            };
        }
    };
    let mut others = Others::default();
    for group in &groups {
        let versions: Vec<&str> = group.versions.iter().map(|version| version.version.as_str()).collect();
        in_group(client, &group.name, &versions, &mut others).await;
    }
    let found = &mut others.unmodelled;
    found.sort_by(|a, b| (&a.kind, &a.namespace).cmp(&(&b.kind, &b.namespace)));
    found.dedup();
    others
}

/// Policies of one group. Each version of a kind shows the same objects, so one that is known by another version than
/// those served is found all the same; a group of which neither a version nor a kind is known may hold anything.
async fn in_group(client: &Client, group: &str, served: &[&str], others: &mut Others) {
    let kinds: Vec<&ForeignKind> = FOREIGN_KINDS.iter().filter(|kind| kind.group == group).collect();
    let mut recognised = kinds.iter().any(|kind| served.contains(&kind.version));
    let found = &mut others.unmodelled;
    for kind in &kinds {
        let (known, other): (Vec<&str>, Vec<&str>) = served.iter().partition(|version| **version == kind.version);
        for version in known.into_iter().chain(other) {
            if kind.is_modelled() && version == kind.version {
                match cluster_policies::list(client).await {
                    Ok(Some(policies)) => {
                        recognised = true;
                        others.of_cluster = Some(policies.into_iter().map(pruned).collect());
                        break;
                    }
                    Ok(None) => continue,
                    // Said below, as of any kind that is served and not readable.
                    Err(_) => {}
                }
            }
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
