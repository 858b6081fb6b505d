//! Keys rotate by themselves: two API servers, two agents, the controller as the chart installs it. Raw etcd is the judge.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::too_many_lines)] // a test fails by panicking
#![allow(clippy::default_trait_access)]

#[path = "../common/agents.rs"]
mod agents;
#[path = "../common/audit.rs"]
mod audit;
#[path = "../common/admission.rs"]
mod common;
mod edges;
#[path = "../common/operator.rs"]
mod operator;
mod rights;

use std::collections::BTreeMap;
use std::time::Duration;

use agents::Node;
use cloison::agent::node::FILE;
use cloison::agent::sealing::new_identity;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, eventually};
use common::{apply, objects};
use kube::api::ListParams;
use serde_json::{Value, json};

const CLOISON: &str = "cloison.dev/v1alpha1";
const SOON: Duration = Duration::from_secs(60);
/// Two reloads of up to a minute each, a minute for requests that are under way, and readings of etcd.
const ROTATED: Duration = Duration::from_secs(420);

/// How many Secrets of etcd begin with which provider and key; without one under `plain`.
async fn stored(plane: &ControlPlane) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (_, value) in plane.etcd().list("/registry/secrets/").await.unwrap() {
        let head = String::from_utf8_lossy(&value[..value.len().min(64)]).into_owned();
        let words: Vec<&str> = head.splitn(6, ':').collect();
        let under = match words[..] {
            ["k8s", "enc", provider, _, key, _] => format!("{provider} {key}"),
            _ => "plain".to_owned(),
        };
        *found.entry(under).or_default() += 1;
    }
    found
}

/// Waits until the status of `SecretEncryption` is as wanted.
async fn status(plane: &ControlPlane, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
    let all = objects(&plane.admin().unwrap(), CLOISON, "SecretEncryption", None);
    let found = eventually(within, what, async || {
        let found = all.get("default").await.map_err(|error| error.to_string())?;
        let status = found.data["status"].clone();
        if wanted(&status) {
            Ok(status)
        } else {
            Err(format!("not yet: {status}"))
        }
    });
    found.await.unwrap_or_else(|error| panic!("{error}"))
}

fn condition<'s>(status: &'s Value, kind: &str) -> &'s Value {
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_enable_runs_unattended_until_nothing_in_etcd_is_plaintext() {
    let options = ApiServerOptions {
        audit_policy: Some(audit::policy()),
        ..agents::quick()
    };
    let plane = ControlPlane::start(Options {
        api_servers: vec![options; 2],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let controller = operator::start_with(&plane, &["agent.enabled=true"]).await;
    let admin = plane.admin().unwrap();
    for number in 0..20 {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("old-{number}"),
            "namespace": "default"}, "immutable": number % 2 == 0, "stringData": {"a": "written before"}});
        apply(&admin, secret).await;
    }
    let before = stored(&plane).await;
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before["plain"] >= 20, "{before:?}");
    let mut nodes = Vec::new();
    for server in plane.api_servers() {
        nodes.push(Node::new(&plane, server).await);
    }
    let escrow = new_identity().unwrap();
    let wanted = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": "default"},
        "spec": {"mode": "Manage", "escrow": {"recipients": [escrow.recipient().0]}}});
    apply(&admin, wanted).await;
    edges::before_the_first_key(&plane, &nodes).await;
    // The one thing that a person has to do is asked for, once the file is there.
    let asked = |status: &Value| condition(status, "Blocked")["reason"] == "FlagsMissing";
    let said = status(&plane, "the flags are asked for", SOON, asked).await;
    assert!(
        said["nextCommand"]
            .as_str()
            .unwrap()
            .contains("--encryption-provider-config="),
        "{said}"
    );
    for (server, node) in plane.api_servers().iter().zip(&nodes) {
        let flags = [
            format!("--encryption-provider-config={}", node.folder.join(FILE).display()),
            "--encryption-provider-config-automatic-reload=true".to_owned(),
        ];
        server
            .restart_with(|options| options.extra_args.extend(flags))
            .await
            .unwrap();
        node.write_manifest(server, &[&node.folder]);
    }
    // Everything else goes by itself. On the way every Secret can be read by every API server.
    let idle = |status: &Value| status["step"] == "Idle" && condition(status, "Rotating")["status"] == "False";
    let watched = async {
        loop {
            for server in plane.api_servers() {
                let secrets = objects(&server.admin().unwrap(), "v1", "Secret", Some("default"));
                let read = secrets.list(&ListParams::default()).await;
                let read = read.unwrap_or_else(|error| panic!("API server {}: {error}", server.index()));
                assert!(read.items.len() >= 20);
                secrets.get("old-3").await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let said = tokio::select! {
        said = status(&plane, "the first enable ends", ROTATED, idle) => said,
        () = watched => unreachable!(),
    };
    let after = stored(&plane).await;
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        ["aesgcm k1"],
        "{after:?}\n{}",
        controller.output()
    );
    // Nothing reads plaintext any more, and nothing is left lent.
    for node in &nodes {
        let file = cloison::encryption::config::read(&node.read(FILE)).unwrap();
        let keys: Vec<String> = file.keys().iter().map(|key| key.name.to_string()).collect();
        assert_eq!(keys, ["k1"]);
        let text = String::from_utf8(node.read(FILE)).unwrap();
        assert!(!text.contains("identity"), "no provider of plaintext is left");
    }
    assert_eq!(said["keys"][0]["state"], "Write", "{said}");
    assert_eq!(condition(&said, "Blocked")["status"], "False", "{said}");
    let bindings = objects(&admin, "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", None);
    assert!(bindings.get_opt("cloison-sweeper").await.unwrap().is_none());
    edges::a_member_that_is_gone(&plane).await;
    edges::disabled(&plane).await;
    controller.stop().await;
    rights::are_those_that_were_used(&plane);
}
