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
use crate::network::reach::UnmodelledPolicy;

/// How often they are looked for: each look costs one request per served kind.
const AGAIN: Duration = Duration::from_secs(60);

/// Group, version, plural, kind. Addressed by all four: two kinds are called `ClusterNetworkPolicy`.
const KINDS: [(&str, &str, &str, &str); 12] = [
    (
        "policy.networking.k8s.io",
        "v1alpha2",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
    ),
    (
        "policy.networking.k8s.io",
        "v1alpha1",
        "adminnetworkpolicies",
        "AdminNetworkPolicy",
    ),
    (
        "policy.networking.k8s.io",
        "v1alpha1",
        "baselineadminnetworkpolicies",
        "BaselineAdminNetworkPolicy",
    ),
    (
        "networking.k8s.aws",
        "v1alpha1",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
    ),
    (
        "networking.k8s.aws",
        "v1alpha1",
        "applicationnetworkpolicies",
        "ApplicationNetworkPolicy",
    ),
    ("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy"),
    (
        "cilium.io",
        "v2",
        "ciliumclusterwidenetworkpolicies",
        "CiliumClusterwideNetworkPolicy",
    ),
    ("crd.projectcalico.org", "v1", "networkpolicies", "NetworkPolicy"),
    (
        "crd.projectcalico.org",
        "v1",
        "globalnetworkpolicies",
        "GlobalNetworkPolicy",
    ),
    ("crd.antrea.io", "v1beta1", "networkpolicies", "NetworkPolicy"),
    (
        "crd.antrea.io",
        "v1beta1",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
    ),
    (
        "k8s.cni.cncf.io",
        "v1beta1",
        "multi-networkpolicies",
        "MultiNetworkPolicy",
    ),
];

/// Looks for ever.
pub async fn run(ctx: Arc<Context>, publish: watch::Sender<Vec<UnmodelledPolicy>>) {
    loop {
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
        tokio::time::sleep(AGAIN).await;
    }
}

async fn look(client: &Client) -> Vec<UnmodelledPolicy> {
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
    for (group, version, plural, kind) in KINDS.into_iter().filter(|(group, version, ..)| served(group, version)) {
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
