//! What is held before the first key, a member that is gone, and how encryption is taken away.

use cloison::agent::node::FILE;
use cloison::agent::sealing::new_identity;
use cloison_testbed::ControlPlane;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::agents::Node;
use super::common::{apply, objects};
use super::{CLOISON, ROTATED, SOON, condition, status, stored};

async fn change(plane: &ControlPlane, patch: Value) -> Result<DynamicObject, kube::Error> {
    let all = objects(&plane.admin().unwrap(), CLOISON, "SecretEncryption", None);
    all.patch("default", &PatchParams::default(), &Patch::Merge(patch))
        .await
}

fn blocked(reason: &str) -> impl Fn(&Value) -> bool {
    move |status| condition(status, "Blocked")["reason"] == reason
}

fn next(status: &Value) -> &str {
    status["nextCommand"].as_str().unwrap_or_default()
}

/// Nothing is made while a resource is named that nobody rewrites, or while an upgrade by kubeadm would drop the flags.
pub async fn before_the_first_key(plane: &ControlPlane, nodes: &[Node]) {
    let kubeadm = |api_server: Value| {
        let configuration = json!({"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration",
            "apiServer": api_server});
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
            "data": {"ClusterConfiguration": configuration.to_string()}})
    };
    let admin = plane.admin().unwrap();
    apply(&admin, kubeadm(json!({}))).await;
    change(plane, json!({"spec": {"resources": ["secrets", "configmaps"]}}))
        .await
        .unwrap();
    for node in nodes {
        node.agent.start().unwrap();
    }
    let said = status(plane, "the resource is named", SOON, blocked("ResourceNotSwept")).await;
    assert!(said["blockedBy"].to_string().contains("names configmaps"), "{said}");
    change(plane, json!({"spec": {"resources": ["secrets"]}}))
        .await
        .unwrap();
    let said = status(plane, "the upgrade is thought of", SOON, blocked("FlagsNotPersistent")).await;
    assert!(
        next(&said).contains("kubeadm-config") && next(&said).contains("encryption-provider-config-automatic-reload"),
        "{said}"
    );
    assert_eq!(condition(&said, "FlagsPersistent")["status"], "False", "{said}");
    assert!(said["keys"].is_null(), "{said}");
    // In a real cluster the folder is the same everywhere; here it is right for the first node alone.
    let file = nodes[0].folder.join(FILE);
    let arguments = json!([{"name": "encryption-provider-config", "value": file},
        {"name": "encryption-provider-config-automatic-reload", "value": "true"}]);
    let volumes = json!([{"name": "keys", "hostPath": nodes[0].folder, "mountPath": nodes[0].folder,
        "pathType": "Directory"}]);
    apply(
        &admin,
        kubeadm(json!({"extraArgs": arguments, "extraVolumes": volumes})),
    )
    .await;
    let reports = objects(&admin, CLOISON, "ControlPlaneReport", None);
    for (node, persistent) in nodes.iter().zip([true, false]) {
        cloison_testbed::eventually(SOON, "the report", async || {
            let report = reports.get(&node.name).await.map_err(|error| error.to_string())?;
            let flags = report.data["spec"]["flags"].clone();
            if flags["persistent"] == persistent && flags["toPersist"].is_null() == persistent {
                Ok(())
            } else {
                Err(flags.to_string())
            }
        })
        .await
        .unwrap();
    }
    let maps = objects(&admin, "v1", "ConfigMap", Some("kube-system"));
    maps.delete("kubeadm-config", &DeleteParams::default()).await.unwrap();
}

/// A node was let in and is gone again: its approval goes, and the ring is sealed for it no more.
pub async fn a_member_that_is_gone(plane: &ControlPlane) {
    let rings = objects(&plane.admin().unwrap(), CLOISON, "EncryptionKeyRing", None);
    let approval = json!({"node": "cp-gone", "recipient": new_identity().unwrap().recipient().0, "by": "admin",
        "time": "2026-11-26T04:00:00Z"});
    let approve = Patch::Merge(json!({"status": {"approvals": [approval]}}));
    rings
        .patch_status("default", &PatchParams::default(), &approve)
        .await
        .unwrap();
    for there in [true, false] {
        cloison_testbed::eventually(SOON, "the member", async || {
            let ring = rings.get("default").await.map_err(|error| error.to_string())?;
            let is = |list: &Value| list.to_string().contains("cp-gone");
            let found = (is(&ring.data["spec"]["members"]), is(&ring.data["status"]["approvals"]));
            if found == (there, there) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await
        .unwrap();
    }
}

/// A person takes encryption away: not by one word, and by the same steps.
pub async fn disabled(plane: &ControlPlane) {
    let refused = change(plane, json!({"spec": {"provider": "Identity"}}))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("stores every Secret in plaintext"),
        "{refused}"
    );
    change(
        plane,
        json!({"spec": {"provider": "Identity", "plaintext": "Accepted"}}),
    )
    .await
    .unwrap();
    let told = |status: &Value| condition(status, "Disabled")["reason"] == "Disabling";
    let said = status(plane, "it is told", SOON, told).await;
    let message = condition(&said, "Disabled")["message"].as_str().unwrap();
    assert!(message.starts_with("Secrets will be stored in plaintext"), "{message}");
    let done = |status: &Value| condition(status, "Disabled")["reason"] == "Plaintext";
    let said = status(plane, "everything is plaintext", ROTATED, done).await;
    let after = stored(plane).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), ["plain"], "{after:?}");
    assert_eq!(said["keys"][0]["state"], "Retired", "the key is kept: {said}");
}
