//! Somebody puts back what was stored before the rotation: under a key that no API server reads any more.

use cloison_testbed::eventually;
use serde_json::Value;

use super::OLD;
use super::checker::Checker;
use super::common::objects;
use super::raw::under;
use super::scene::{ROTATED, SOON, condition};
use super::story::Story;

/// What raw etcd shows of it.
pub fn is_shown_by(line: &str) -> bool {
    line.contains("(I1)") && line.contains(&format!("/default/{OLD} is under k1"))
}

/// `value` is as it was under k1.
pub async fn under_an_old_key(story: &Story, checker: &Checker, value: &[u8]) {
    let plane = &story.scene.plane;
    assert_eq!(under(value), "k1");
    let servers = plane.api_servers();
    // An API server that meets what it cannot read serves no list of any namespace until it can.
    servers.iter().for_each(|server| checker.down(server.index()));
    let key = format!("/registry/secrets/default/{OLD}");
    plane.etcd().put(&key, value).await.unwrap();
    let degraded = |status: &Value| condition(status, "Degraded")["status"] == "True";
    let status = story.scene.status("it is told", SOON * 2, degraded).await;
    println!("{}", condition(&status, "Degraded")["message"]);
    for server in servers {
        let secrets = objects(&server.admin().unwrap(), "v1", "Secret", Some("default"));
        let (one, all) = (
            async || secrets.get(OLD).await,
            async || secrets.list(&kube::api::ListParams::default().match_any()).await,
        );
        let found = eventually(ROTATED, "the value is served again", one).await.unwrap();
        assert_eq!(found.data["data"]["canary"], "dmFsdWU=", "as it was before");
        eventually(SOON, "lists are served again", all).await.unwrap();
        checker.up(server.index());
    }
    let rewritten = async || match under(&story.raw(OLD).await).as_str() {
        "k2" => Ok(()),
        other => Err(other.to_owned()),
    };
    eventually(ROTATED, "the sweep brings it under k2", rewritten)
        .await
        .unwrap();
}
