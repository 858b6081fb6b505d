//! ClusterNetworkPolicies on a real API server that serves upstream's definition (bundle v0.2.0, standard channel): what
//! others write counts, and ours are written, repaired and withdrawn.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "common/network.rs"]
mod network;
#[path = "common/operator.rs"]
mod operator;

use std::collections::BTreeMap;

use cloison::api::{AiSecurityPolicy, names};
use cloison::cluster::cluster_policies;
use cloison_testbed::{ControlPlane, Options, eventually};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use network::{Installation, tenants_may_open};
use operator::{PATIENCE, apply, condition, namespace, workload};
use serde_json::{Value, json};

const DEFINITION: &str = include_str!("fixtures/clusternetworkpolicies-v0.2.0.yaml");

fn of_cluster(admin: &Client) -> Api<DynamicObject> {
    Api::all_with(admin.clone(), &cluster_policies::resource())
}

fn cluster_policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
           "metadata": {"name": name}, "spec": spec})
}

/// Waits for a condition of the policy; returns its reason and message.
async fn on_policy(admin: &Client, wanted: &str) -> (String, String) {
    let api: Api<AiSecurityPolicy> = Api::all(admin.clone());
    eventually(PATIENCE, "ClusterDenyPlaced", || async {
        let found = api.get(names::SINGLETON).await.map_err(|error| error.to_string())?;
        let conditions = found.status.unwrap_or_default().conditions;
        let found = conditions
            .iter()
            .find(|condition| condition.type_ == "ClusterDenyPlaced");
        match found {
            Some(found) if found.status == wanted => Ok((found.reason.clone(), found.message.clone())),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap()
}

/// Waits until exactly these policies of the cluster are there.
async fn there_are(admin: &Client, wanted: &[&str]) {
    eventually(PATIENCE, "the policies of the cluster", || async {
        let found = cluster_policies::list(admin).await.map_err(|error| error.to_string())?;
        let found: Vec<String> = found.unwrap_or_default().iter().map(ResourceExt::name_any).collect();
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
    .unwrap();
}

fn network(deny: &str) -> Value {
    json!({"network": {"clusterCIDRs": ["10.0.0.0/8"], "clusterDeny": deny}, "controls": tenants_may_open()})
}

/// A tenant's policies that open both ends to the other stage.
async fn hole(admin: &Client) {
    let to = |name: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]);
    for (namespace, other) in [("c-train", "c-serve"), ("c-serve", "c-train")] {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "hole", "namespace": namespace},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                     "ingress": [{"from": to(other)}], "egress": [{"to": to(other)}]},
        });
        apply(admin, policy).await.unwrap();
    }
}

#[tokio::test]
async fn denies_between_stages_are_placed_repaired_and_withdrawn_and_those_of_others_count() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let installation = Installation::start(plane, network("ClusterNetworkPolicy")).await;
    let admin = installation.admin();
    for (name, stage) in [("c-train", "Training"), ("c-serve", "Inference")] {
        namespace(&admin, name, &stage.to_lowercase(), Some("enforce")).await;
        apply(&admin, workload(name, "road", stage, Value::Null)).await.unwrap();
    }

    // Asked for and not served: said, and nothing else stops.
    let (reason, message) = on_policy(&admin, "False").await;
    assert_eq!(reason, "SupportedButNotServed");
    assert!(message.contains("policy.networking.k8s.io/v1alpha2"), "{message}");
    condition(&admin, "c-serve", "road", "PoliciesIsolate", "True").await;
    hole(&admin).await;
    condition(&admin, "c-serve", "road", "PoliciesIsolate", "False").await;

    // Served: in place, accepted by upstream's own schema, and the tenants' hole is closed.
    let definition: Value = serde_saphyr::from_str(DEFINITION).unwrap();
    apply(&admin, definition).await.unwrap();
    let ours = names::STAGE_POLICIES;
    let mut sorted = ours;
    sorted.sort_unstable();
    there_are(&admin, &sorted).await;
    let (reason, message) = on_policy(&admin, "True").await;
    assert_eq!(reason, "Placed");
    assert!(message.contains("is not shown by that"), "{message}");
    for name in ["c-train", "c-serve"] {
        condition(&admin, name, "road", "PoliciesIsolate", "True").await;
    }
    let api = of_cluster(&admin);
    let mut specs = BTreeMap::new();
    for name in ours {
        specs.insert(name, api.get(name).await.unwrap().data["spec"].clone());
    }
    let priorities: Vec<&Value> = specs.values().map(|spec| &spec["priority"]).collect();
    assert!(
        priorities
            .iter()
            .all(|one| priorities.iter().filter(|other| *other == one).count() == 1)
    );

    // Drift: changed, given an owner that would take it along, deleted.
    let changed = Patch::Merge(json!({"spec": {"ingress": [], "priority": 7}}));
    api.patch(ours[0], &PatchParams::default(), &changed).await.unwrap();
    let owned = Patch::Merge(json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "00000000-0000-0000-0000-000000000000"}]}}));
    api.patch(ours[1], &PatchParams::default(), &owned).await.unwrap();
    api.delete(ours[2], &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, "all is put back", || async {
        for (name, spec) in &specs {
            let found = api.get(name).await.map_err(|error| error.to_string())?;
            if found.data["spec"] != *spec || !found.owner_references().is_empty() {
                return Err(format!("{found:?}"));
            }
        }
        Ok(())
    })
    .await
    .unwrap();

    condition(&admin, "c-serve", "road", "PoliciesIsolate", "True").await;

    // Somebody accepts before our denies; equal priorities are nobody's; then it goes away again.
    let all = json!({"namespaces": {"matchExpressions": [{"key": "cloison.dev/stage", "operator": "Exists"}]}});
    let accept = |priority: i32| {
        json!({"tier": "Admin", "priority": priority, "subject": all,
               "ingress": [{"action": "Accept", "from": [all]}], "egress": [{"action": "Accept", "to": [all]}]})
    };
    apply(&admin, cluster_policy("theirs", &accept(1))).await.unwrap();
    let (reason, message) = condition(&admin, "c-serve", "road", "PoliciesIsolate", "False").await;
    assert_eq!(reason, "PathExists");
    assert!(message.contains("ClusterNetworkPolicy theirs"), "{message}");
    apply(&admin, cluster_policy("theirs", &accept(101))).await.unwrap();
    condition(&admin, "c-serve", "road", "PoliciesIsolate", "True").await;
    api.delete("theirs", &DeleteParams::default()).await.unwrap();
    there_are(&admin, &sorted).await;

    // Not asked for any more: withdrawn, and the hole is open again.
    installation.set_policy(network("None")).await;
    there_are(&admin, &[]).await;
    condition(&admin, "c-serve", "road", "PoliciesIsolate", "False").await;

    // Somebody else's object under our name is left alone, and told.
    let theirs = json!({"tier": "Baseline", "priority": 3, "subject": {"namespaces": {}}});
    apply(&admin, cluster_policy(ours[0], &theirs)).await.unwrap();
    installation.set_policy(network("Auto")).await;
    there_are(&admin, &sorted).await;
    let (reason, message) = on_policy(&admin, "False").await;
    assert_eq!(reason, "ForeignObject");
    assert!(message.contains(ours[0]), "{message}");
    assert_eq!(api.get(ours[0]).await.unwrap().data["spec"]["tier"], theirs["tier"]);
}
