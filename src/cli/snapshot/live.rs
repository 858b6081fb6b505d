//! The snapshot of a cluster.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, ResourceExt, api::ListParams};

use super::pods::running;
use super::{Input, Seen};
use crate::cli::CliError;
use crate::cluster::cluster_policies;

pub(super) async fn read(input: &Input) -> Result<Seen, CliError> {
    let (client, _) = input.connection.client().await?;
    let all = ListParams::default();
    let namespaces = Api::<Namespace>::all(client.clone()).list(&all).await;
    let policies = Api::<NetworkPolicy>::all(client.clone()).list(&all).await;
    let pods = Api::<Pod>::all(client.clone()).list(&all).await;
    let of_cluster = cluster_policies::list(&client).await;
    let mut seen = Seen::default();
    for namespace in namespaces.map_err(CliError::api("list namespaces"))? {
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
    Ok(seen)
}
