//! Two API servers that reload each second, two agents, the controller as the chart installs it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloison::agent::node::FILE;
use cloison::agent::sealing::new_identity;
use cloison::api::names;
use cloison::encryption::ring::Identity;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options, Program, eventually};
use serde_json::{Value, json};

use super::agents::Node;
use super::common::{apply, objects};
use super::operator;

/// A request lasts this long at most, and so long a rotation waits for those under way.
pub const REQUEST: Duration = Duration::from_secs(6);
const CLOISON: &str = "cloison.dev/v1alpha1";
/// Where Secrets come and go while it runs.
pub const NAMESPACE: &str = "busy";
/// For one step of a person, or of a process that starts.
pub const SOON: Duration = Duration::from_secs(60);
/// For a whole rotation with everything that is done to it.
pub const ROTATED: Duration = Duration::from_secs(240);

pub struct Scene {
    pub plane: Arc<ControlPlane>,
    pub controller: Program,
    pub nodes: Vec<Node>,
    pub escrow: Identity,
    /// The last look found the rotation waiting for etcd to compact.
    drains: AtomicBool,
}

impl Scene {
    /// Up to the agents, which have nothing to do yet. `canary` is the value of Secrets that were there before.
    pub async fn new(canary: &str) -> Self {
        Self::with_spares(canary, 0).await
    }

    /// With API servers that are not started yet, behind the others.
    pub async fn with_spares(canary: &str, spares: usize) -> Self {
        let options = ApiServerOptions {
            fast_reload: true,
            extra_args: vec![format!("--request-timeout={}s", REQUEST.as_secs())],
            ..ApiServerOptions::default()
        };
        let plane = ControlPlane::start(Options {
            api_servers: vec![options; 2 + spares],
            controller_manager: true,
            type_checking: false,
            // By [`Scene::read`] alone: a controller that was killed right after its proof sleeps through one that comes by the clock.
            etcd_compaction_interval: Some(Duration::ZERO),
            // One with an old file is not ready before it has another.
            start_deadline: ROTATED,
        })
        .await
        .unwrap();
        for server in &plane.api_servers()[2..] {
            // In order: it takes its Lease with it.
            server.stop().await.unwrap();
        }
        let controller = operator::start_with(&plane, &["agent.enabled=true"]).await;
        let admin = plane.admin().unwrap();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        apply(&admin, namespace).await;
        for number in 0..20 {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("old-{number}"),
                "namespace": "default"}, "immutable": number % 2 == 0, "stringData": {"canary": canary}});
            // Not applied: an annotation would hold a copy.
            objects(&admin, "v1", "Secret", Some("default"))
                .create(
                    &kube::api::PostParams::default(),
                    &serde_json::from_value(secret).unwrap(),
                )
                .await
                .unwrap();
        }
        let mut nodes = Vec::new();
        for server in &plane.api_servers()[..2] {
            nodes.push(Node::new(&plane, server).await);
        }
        Self {
            plane: Arc::new(plane),
            controller,
            nodes,
            escrow: new_identity().unwrap(),
            drains: AtomicBool::new(false),
        }
    }

    /// What a person does: asks for it, and gives the API servers the flags.
    pub async fn enable(&self) {
        let wanted = json!({"apiVersion": CLOISON, "kind": "SecretEncryption", "metadata": {"name": names::SINGLETON},
            "spec": {"mode": "Manage", "escrow": {"recipients": [self.escrow.recipient().0]}}});
        apply(&self.plane.admin().unwrap(), wanted).await;
        for node in &self.nodes {
            node.agent.start().unwrap();
        }
        self.status("the flags are asked for", SOON, |status| {
            condition(status, "Blocked")["reason"] == "FlagsMissing"
        })
        .await;
        for (server, node) in self.plane.api_servers().iter().zip(&self.nodes) {
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
    }

    /// `SecretEncryption` as it is; `None` while nobody answers. The second look in a row that finds the rotation waiting for
    /// etcd to compact lets it: whoever looks sees it wait, however slow the machine is.
    pub async fn read(&self) -> Option<Value> {
        let all = objects(&self.plane.admin().unwrap(), CLOISON, "SecretEncryption", None);
        let status = all.get(names::SINGLETON).await.ok()?.data["status"].clone();
        let drains = step(&status) == "Drain";
        if self.drains.swap(drains, Ordering::Relaxed) && drains {
            // Refused while etcd is down: it is asked for again.
            drop(self.plane.etcd().compact().await);
        }
        Some(status)
    }

    /// Waits until the status of `SecretEncryption` is as wanted.
    pub async fn status(&self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = eventually(within, what, async || match self.read().await {
            Some(status) if wanted(&status) => Ok(status),
            other => Err(format!("not yet: {other:?}")),
        });
        found
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", tail(&self.controller)))
    }

    /// By the annotation, as a person does.
    pub fn ask_for_another_key(&self) {
        let annotation = format!("{}=again", names::ROTATION_ANNOTATION);
        operator::kubectl(&self.plane, &format!("annotate secretencryption default {annotation}"));
    }
}

/// The step that the rotation is in. Two are over before the next status: those are told by the order itself.
pub fn step(status: &Value) -> String {
    let order = &status["order"];
    if order["mint"].is_object() {
        return "Mint".to_owned();
    }
    let retired = |id: &Value| {
        let mut keys = status["keys"].as_array().into_iter().flatten();
        keys.any(|key| key["id"] == *id && key["state"] == "Retired")
    };
    if order["retire"].as_array().is_some_and(|ids| !ids.iter().all(retired)) {
        return "Archive".to_owned();
    }
    status["step"].as_str().unwrap_or_default().to_owned()
}

/// Nothing is under way.
pub fn idle(status: &Value) -> bool {
    status["step"] == "Idle" && condition(status, "Rotating")["status"] == "False"
}

pub fn condition<'s>(status: &'s Value, kind: &str) -> &'s Value {
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// The end of what a program said.
pub fn tail(program: &Program) -> String {
    let output = operator::plain(&program.output());
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
