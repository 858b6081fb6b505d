//! `off --scope all`: takes the NetworkPolicies away, and the denies of the whole cluster with them. In every namespace the deny goes first and the allows follow once
//! it is gone: in the reverse order every pod would meet a deny with nothing beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};

use super::{LOOKS, PAUSE};
use crate::api::names;
use crate::cli::{CliError, absent, out};
use crate::cluster::cluster_policies;
use crate::network::cluster_policy::KIND;
use crate::network::drift;

/// Deletions under way at once.
const AT_ONCE: usize = 16;

/// By namespace: the names of our policies.
type Found = BTreeMap<String, BTreeSet<String>>;

/// Deletes ours, in all namespaces or in some. Returns what to say, and how many are left.
pub(in crate::cli) async fn open(
    client: &Client,
    only: &[String],
    patience: Duration,
) -> Result<(String, usize), CliError> {
    let end = Instant::now() + patience;
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut gone = 0;
    loop {
        // They have no allows beside them that could be left alone. What fails keeps nothing else from being tried.
        let walls = if only.is_empty() {
            tear_down(client).await
        } else {
            Ok(0)
        };
        let (walls, mut failed) = walls.map_or_else(|error| (0, Some(error)), |walls| (walls, None));
        let found = list(client, only).await?;
        seen.extend(
            found
                .iter()
                .flat_map(|(ns, names)| names.iter().map(|name| (ns.clone(), name.clone()))),
        );
        failed = delete(client, next(&found)).await.or(failed);
        let left: usize = walls + found.values().map(BTreeSet::len).sum::<usize>();
        gone = if left == 0 { gone + 1 } else { 0 };
        if gone == LOOKS || (left > 0 && Instant::now() > end) {
            let many = out::count(seen.len(), "NetworkPolicy object");
            let text = format!("{left} of {many} left, denies deleted first");
            return failed.map_or(Ok((text, left)), Err);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes the ClusterNetworkPolicies that are ours; returns how many there were. Who may not see them is told, and goes
/// on: the button has to work.
async fn tear_down(client: &Client) -> Result<usize, CliError> {
    let found = match cluster_policies::list(client).await {
        Ok(found) => found.unwrap_or_default(),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            eprintln!(
                "note: you may not list {KIND}: {} stay if they are there",
                names::STAGE_POLICIES.join(", ")
            );
            return Ok(0);
        }
        Err(error) => return Err(CliError::api(format!("list {KIND}"))(error)),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &cluster_policies::resource());
    let ours = |policy: &&DynamicObject| {
        names::STAGE_POLICIES.contains(&policy.name_any().as_str()) && drift::is_ours(&policy.metadata)
    };
    let mut walls = 0;
    for policy in found.iter().filter(ours) {
        let name = policy.name_any();
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => walls += 1,
            Err(error) if absent(&error) => {}
            Err(error) => return Err(CliError::api(format!("delete {KIND} {name}"))(error)),
        }
    }
    Ok(walls)
}

/// What may go now: the deny where there is one, all the rest where there is none. A dataplane's finalizer can keep a
/// deny for a while; the allows wait for it.
fn next(found: &Found) -> Vec<(String, String)> {
    let mut next = Vec::new();
    for (namespace, names) in found {
        let now = |name: &&String| !names.contains(names::DENY_POLICY) || *name == names::DENY_POLICY;
        next.extend(names.iter().filter(now).map(|name| (namespace.clone(), name.clone())));
    }
    next
}

/// How many NetworkPolicies of ours there are.
pub(in crate::cli) async fn count(client: &Client) -> Result<usize, CliError> {
    Ok(list(client, &[]).await?.values().map(BTreeSet::len).sum())
}

async fn list(client: &Client, only: &[String]) -> Result<Found, CliError> {
    let ours = ListParams::default().labels(&format!(
        "{}={value},{}={value}",
        names::PART_OF_LABEL,
        names::MANAGED_BY_LABEL,
        value = names::CLOISON
    ));
    let apis: Vec<Api<NetworkPolicy>> = if only.is_empty() {
        vec![Api::all(client.clone())]
    } else {
        only.iter()
            .map(|namespace| Api::namespaced(client.clone(), namespace))
            .collect()
    };
    let mut found = Found::new();
    for api in apis {
        let listed = api
            .list_metadata(&ours)
            .await
            .map_err(CliError::api("list NetworkPolicies"))?;
        for policy in listed {
            found
                .entry(policy.namespace().unwrap_or_default())
                .or_default()
                .insert(policy.name_any());
        }
    }
    Ok(found)
}

/// Deletes all that it can; returns what failed first.
async fn delete(client: &Client, policies: Vec<(String, String)>) -> Option<CliError> {
    futures::stream::iter(policies)
        .map(|(namespace, name)| async move {
            let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => Ok(()),
                Err(error) if absent(&error) => Ok(()),
                Err(error) => Err(CliError::api(format!("delete NetworkPolicy {namespace}/{name}"))(error)),
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<Result<(), CliError>>>()
        .await
        .into_iter()
        .find_map(Result::err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_wait_until_the_deny_of_their_namespace_is_gone() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let found = Found::from([
            (
                "a".to_owned(),
                names(&["cloison-ns-deny", "cloison-wl-a", "cloison-wl-z"]),
            ),
            ("b".to_owned(), names(&["cloison-svc-x", "cloison-wl-b"])),
        ]);
        let next: Vec<String> = next(&found)
            .into_iter()
            .map(|(ns, name)| format!("{ns}/{name}"))
            .collect();
        assert_eq!(next, ["a/cloison-ns-deny", "b/cloison-svc-x", "b/cloison-wl-b"]);
    }
}
