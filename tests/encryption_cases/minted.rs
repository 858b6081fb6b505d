//! An agent that made a key and dies before the ring has it.

use std::collections::BTreeSet;

use cloison_testbed::eventually;
use serde_json::json;

use super::common::{apply, objects};
use super::operator::plain;
use super::scene::SOON;
use super::story::Story;

const REFUSED: &str = "no key is stored for the moment";
const POLICIES: &str = "admissionregistration.k8s.io/v1";

/// What was made is in its memory alone: the write of the ring is refused, and it is killed.
pub async fn and_killed_before_the_ring_has_it(story: &mut Story) {
    let admin = story.scene.plane.admin().unwrap();
    let policy = json!({"apiVersion": POLICIES, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "no-new-key"},
        "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["cloison.dev"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["encryptionkeyrings"]}]},
            "validations": [{"expression": "object.spec.lastID == oldObject.spec.lastID", "message": REFUSED}]}});
    let binding = json!({"apiVersion": POLICIES, "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-new-key"}, "spec": {"policyName": "no-new-key", "validationActions": ["Deny"]}});
    apply(&admin, policy).await;
    apply(&admin, binding).await;
    let mut ring = story.rings().get("default").await.unwrap();
    let before = ring.data["spec"]["lastID"].as_i64().unwrap();
    ring.data["spec"]["lastID"] = json!(before + 1);
    let dry = kube::api::PostParams {
        dry_run: true,
        ..Default::default()
    };
    for server in story.scene.plane.api_servers() {
        let rings = objects(
            &server.admin().unwrap(),
            "cloison.dev/v1alpha1",
            "EncryptionKeyRing",
            None,
        );
        eventually(SOON, "no key can be stored", async || {
            match rings.replace("default", &dry, &ring).await {
                Err(error) if error.to_string().contains(REFUSED) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
    }
    let from: Vec<usize> = story.scene.nodes.iter().map(|node| node.agent.output().len()).collect();
    story.ask_for_another_key().await;
    eventually(SOON, "an agent made a key", async || {
        let mut each = story.scene.nodes.iter().zip(&from);
        let made = each.find(|(node, from)| plain(&node.agent.output()[**from..]).contains(REFUSED));
        made.map(|(node, _)| node.agent.kill()).ok_or("none yet")
    })
    .await
    .unwrap();
    let policies = objects(&admin, POLICIES, "ValidatingAdmissionPolicyBinding", None);
    policies.delete("no-new-key", &Default::default()).await.unwrap();
    // Those that live make it meanwhile; the one that died knows nothing of its own.
    story
        .scene
        .nodes
        .iter()
        .filter(|node| node.agent.process_id().is_none())
        .for_each(|node| node.agent.start().unwrap());
    story.everything_is_under(story.newest).await;
    let ring = story.rings().get("default").await.unwrap().data["spec"].clone();
    let keys = ring["keys"].as_array().unwrap();
    let ids: BTreeSet<i64> = keys.iter().map(|key| key["id"].as_i64().unwrap()).collect();
    let made: BTreeSet<&str> = keys.iter().map(|key| key["commitment"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), made.len()), (keys.len(), keys.len()), "{ring}");
    assert_eq!(
        (ring["lastID"].as_i64(), ids.last()),
        (Some(before + 1), Some(&(before + 1)))
    );
}
