//! Encryption is taken away, and comes back.

use serde_json::{Value, json};

use super::raw::stored;
use super::scene::{ROTATED, condition};
use super::story::Story;

/// With a new key: the old ones are retired.
pub async fn enabled_after_a_disable(story: &mut Story) {
    story
        .change(json!({"spec": {"provider": "Identity", "plaintext": "Accepted"}}))
        .await;
    let plain = |status: &Value| condition(status, "Disabled")["reason"] == "Plaintext";
    let status = story.scene.status("everything is plaintext", ROTATED, plain).await;
    let found = stored(&story.scene.plane).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["identity"], "{found:?}");
    assert_ne!(condition(&status, "Encrypted")["status"], "True", "{status}");
    story
        .change(json!({"spec": {"provider": "AESGCM", "plaintext": null}}))
        .await;
    story.newest += 1;
    story.everything_is_under(story.newest).await;
    for node in &story.scene.nodes {
        let text = String::from_utf8(node.read(cloison::agent::node::FILE)).unwrap();
        assert!(!text.contains("identity"), "no provider of plaintext is left");
    }
}
