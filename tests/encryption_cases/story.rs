//! What the cases share: one control plane, one rotation after the other.

use std::path::PathBuf;
use std::time::Instant;

use cloison::agent::node::FILE;
use cloison::api::names;
use cloison::encryption::config;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::checker::Checker;
use super::common::objects;
use super::raw::stored;
use super::scene::{ROTATED, SOON, Scene, condition, idle};

const CLOISON: &str = "cloison.dev/v1alpha1";

pub struct Story {
    pub scene: Scene,
    /// The number of the newest key.
    pub newest: u64,
    began: Instant,
}

impl Story {
    pub fn new(scene: Scene) -> Self {
        Self {
            scene,
            newest: 1,
            began: Instant::now(),
        }
    }

    pub fn said(&self, what: &str) {
        println!("{:4} s  {what}", self.began.elapsed().as_secs());
    }

    /// Over all API servers. Those of `down` are still to come.
    pub async fn checker(&self, down: &[usize]) -> Checker {
        let plane = &self.scene.plane;
        let file = |index: usize| plane.folder().join(format!("cp-{index}/keys/{FILE}"));
        let files: Vec<PathBuf> = (0..plane.api_servers().len()).map(file).collect();
        Checker::start(plane, files, down).await
    }

    pub fn wanted(&self) -> Api<DynamicObject> {
        objects(&self.scene.plane.admin().unwrap(), CLOISON, "SecretEncryption", None)
    }

    pub fn rings(&self) -> Api<DynamicObject> {
        objects(&self.scene.plane.admin().unwrap(), CLOISON, "EncryptionKeyRing", None)
    }

    pub async fn change(&self, patch: Value) {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self.wanted().patch(names::SINGLETON, &parameters, &patch).await;
        patched.unwrap();
    }

    pub async fn annotate(&self, name: &str, value: &str) {
        self.change(json!({"metadata": {"annotations": {name: value}}})).await;
    }

    /// Asks for the next key, and returns its name.
    pub async fn ask_for_another_key(&mut self) -> String {
        self.newest += 1;
        let key = format!("k{}", self.newest);
        self.annotate(names::ROTATION_ANNOTATION, &format!("for-{key}")).await;
        key
    }

    /// Write key and all keys of a node's file.
    pub fn keys(&self, node: usize) -> Vec<String> {
        let read = config::read(&self.scene.nodes[node].read(FILE)).unwrap();
        read.keys().iter().map(|key| key.name.to_string()).collect()
    }

    /// The stored bytes of a Secret of namespace `default`.
    pub async fn raw(&self, name: &str) -> Vec<u8> {
        let key = format!("/registry/secrets/default/{name}");
        self.scene.plane.etcd().get(&key).await.unwrap().unwrap()
    }

    /// The end of every case: nothing goes on, every file has this key alone, and so have all Secrets, by raw etcd.
    pub async fn everything_is_under(&self, id: u64) {
        let key = format!("k{id}");
        let archived = |status: &Value| {
            let all = status["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            let write: Vec<&Value> = all.iter().filter(|one| one["state"] == "Write").collect();
            idle(status) && write.len() == 1 && write[0]["name"] == key.as_str()
        };
        let status = self
            .scene
            .status(&format!("all is under {key}"), ROTATED, archived)
            .await;
        for node in 0..self.scene.nodes.len() {
            assert_eq!(self.keys(node), [key.as_str()], "cp-{node}");
        }
        let found = stored(&self.scene.plane).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), [&key], "{found:?}");
        assert_eq!(condition(&status, "Blocked")["status"], "False", "{status}");
        let good = |status: &Value| {
            condition(status, "Encrypted")["status"] == "True" && condition(status, "Degraded")["status"] != "True"
        };
        self.scene.status("raw etcd proves it", SOON, good).await;
    }
}
