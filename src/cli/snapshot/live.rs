//! The snapshot of a cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::pods::running;
use super::{Around, Input, Seen};
use crate::api::AiWorkload;
use crate::cli::plan::{addresses, stored_policy, stored_waivers};
use crate::cli::{CliError, absent};
use crate::cluster::cluster_policies;
use crate::controller::{facts_of, unmodelled_policies, workload_facts};
use crate::network::waivers;
use crate::network::world::World;

pub(super) async fn read(input: &Input) -> Result<Seen, CliError> {
    let (client, _) = input.connection.client().await?;
    Ok(everything(&client).await?.0)
}

/// The pods, and what stands around them.
pub(super) async fn survey(input: &Input) -> Result<(Seen, Around), CliError> {
    let (client, _) = input.connection.client().await?;
    let (seen, namespaces) = everything(&client).await?;
    let mut assumed = Vec::new();
    let policy = stored_policy(&client, &mut assumed).await?;
    let workloads = Api::<AiWorkload>::all(client.clone())
        .list(&ListParams::default())
        .await;
    let workloads = match workloads {
        Ok(list) => list.items,
        Err(error) if absent(&error) => Vec::new(),
        Err(error) => return Err(CliError::api("list aiworkloads")(error)),
    };
    let stored_waivers = stored_waivers(&client, &mut assumed).await?;
    let facts = namespaces.iter().map(|namespace| facts_of(namespace, &policy));
    let world = World {
        namespaces: facts.map(|facts| (facts.name.clone(), facts)).collect(),
        workloads: workloads
            .iter()
            .filter_map(workload_facts)
            .map(|workload| (workload.key.clone(), workload))
            .collect(),
        cluster: addresses(&client, &mut assumed).await?,
        waivers: waivers::of(&stored_waivers, policy.waivers.max_days, Timestamp::now()),
        policy: Arc::new(policy),
        cluster_policies: seen.snapshot.cluster_policies.clone(),
    };
    let around = Around {
        world,
        policies: seen.snapshot.policies.clone(),
        unmodelled: unmodelled_policies(&client).await.unmodelled,
        assumed,
    };
    Ok((seen, around))
}

async fn everything(client: &Client) -> Result<(Seen, Vec<Namespace>), CliError> {
    let all = ListParams::default();
    let namespaces = Api::<Namespace>::all(client.clone()).list(&all).await;
    let policies = Api::<NetworkPolicy>::all(client.clone()).list(&all).await;
    let pods = Api::<Pod>::all(client.clone()).list(&all).await;
    let of_cluster = cluster_policies::list(client).await;
    let mut seen = Seen::default();
    let namespaces = namespaces.map_err(CliError::api("list namespaces"))?.items;
    for namespace in &namespaces {
        let labels = namespace.labels().clone();
        seen.snapshot.namespaces.insert(namespace.name_any(), labels);
    }
    seen.snapshot.policies = policies.map_err(CliError::api("list networkpolicies"))?.items;
    let of_cluster = of_cluster.map_err(CliError::api("list clusternetworkpolicies"))?;
    seen.snapshot.cluster_policies = of_cluster.iter().flatten().map(cluster_policies::read).collect();
    for pod in pods.map_err(CliError::api("list pods"))? {
        if let Some(found) = running(&pod) {
            seen.add(&pod.name_any(), found);
        }
    }
    seen.note_what_is_not_seen();
    Ok((seen, namespaces))
}
