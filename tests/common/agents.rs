//! Agents on control-plane nodes as processes, each with a token that is bound to a pod on its node.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use cloison::api::names;
use cloison_testbed::{ApiServer, ApiServerOptions, ControlPlane, Program};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::common::{apply, pod, with};

/// An API server that looks at its configuration each second, lets a request take ten, and compacts etcd each ten: a rotation
/// takes one or two minutes. With `CLOISON_RELOAD=minute` it looks each minute and lets a request take one, as they come.
pub fn quick() -> ApiServerOptions {
    let fast = std::env::var_os("CLOISON_RELOAD").is_none_or(|pace| pace != "minute");
    let timeout = if fast { "10s" } else { "1m" };
    ApiServerOptions {
        fast_reload: fast,
        extra_args: vec![
            format!("--request-timeout={timeout}"),
            "--etcd-compaction-interval=10s".to_owned(),
        ],
        ..ApiServerOptions::default()
    }
}

/// One control-plane node.
pub struct Node {
    pub name: String,
    pub folder: PathBuf,
    pub manifest: PathBuf,
    pub agent: Program,
    arguments: Vec<String>,
    log: PathBuf,
}

impl Node {
    /// The agent is not started yet.
    pub async fn new(plane: &ControlPlane, server: &ApiServer) -> Self {
        let name = format!("cp-{}", server.index());
        let home = plane.folder().join(&name);
        fs::create_dir_all(&home).unwrap();
        let (folder, manifest) = (home.join("keys"), home.join("kube-apiserver.yaml"));
        let kubeconfig = agent_kubeconfig(plane, server, &name).await;
        let etcd = plane.etcd();
        let text = format!(
            "agent --kubeconfig {} --node {name} --directory {} --api-server {} --manifest {} --etcd {} --etcd-ca {} \
             --etcd-cert {} --etcd-key {} --health-address 127.0.0.1:0 --interval-seconds 1 --log info,cloison=trace",
            kubeconfig.display(),
            folder.display(),
            server.url(),
            manifest.display(),
            etcd.url(),
            etcd.authority_file().display(),
            etcd.certificate_file().display(),
            etcd.key_file().display(),
        );
        let log = plane.logs_dir().join(format!("agent-{name}.log"));
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let node = Self {
            agent: Program::new(&name, env!("CARGO_BIN_EXE_cloison"), &arguments, log.clone()),
            arguments,
            log,
            name,
            folder,
            manifest,
        };
        node.write_manifest(server, &[]);
        node
    }

    /// The static pod that this API server would be, from how it was started.
    pub fn write_manifest(&self, server: &ApiServer, folders: &[&Path]) {
        let line = fs::read(format!("/proc/{}/cmdline", server.process_id().unwrap())).unwrap();
        let words: Vec<String> = String::from_utf8(line)
            .unwrap()
            .split('\0')
            .map(str::to_owned)
            .collect();
        let folders: Vec<(String, &&Path)> = folders
            .iter()
            .enumerate()
            .map(|(i, path)| (format!("v{i}"), path))
            .collect();
        let volumes: Vec<Value> = folders
            .iter()
            .map(|(name, path)| json!({"name": name, "hostPath": {"path": path, "type": "Directory"}}))
            .collect();
        let mounts: Vec<Value> = folders
            .iter()
            .map(|(name, path)| json!({"name": name, "mountPath": path}))
            .collect();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"volumes": volumes,
            "containers": [{"name": "kube-apiserver", "command": words, "volumeMounts": mounts}]}});
        fs::write(&self.manifest, pod.to_string()).unwrap();
    }

    /// The same agent started by another program, `wrapper` and its arguments. It dies with that program.
    pub fn agent_under(&self, wrapper: &[String]) -> Program {
        let dying = ["setpriv", "--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_cloison")].map(str::to_owned);
        let words = wrapper[1..].iter().cloned().chain(dying).chain(self.arguments.clone());
        Program::new(&self.name, &wrapper[0], words, self.log.clone())
    }

    /// The same agent with more arguments.
    pub fn agent_with(&self, more: &[&str]) -> Program {
        let words = self
            .arguments
            .iter()
            .cloned()
            .chain(more.iter().map(|&word| word.to_owned()));
        Program::new(&self.name, env!("CARGO_BIN_EXE_cloison"), words, self.log.clone())
    }

    pub fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.join(file)).unwrap()
    }
}

/// By a token that is bound to a pod on the node.
async fn agent_kubeconfig(plane: &ControlPlane, server: &ApiServer, node: &str) -> PathBuf {
    let admin = plane.admin().unwrap();
    apply(
        &admin,
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": {names::CONTROL_PLANE_LABEL: ""}}}),
    )
    .await;
    let name = format!("agent-on-{node}");
    let pod = with(
        pod(names::DEFAULT_NAMESPACE, &name),
        // Nobody is evicted from a node without a kubelet.
        json!({"spec": {"nodeName": node, "serviceAccountName": names::AGENT_ACCOUNT, "tolerations": [{"operator": "Exists"}]}}),
    );
    let pod = apply(&admin, pod).await;
    let request = TokenRequest {
        spec: TokenRequestSpec {
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name.clone()),
                uid: pod.metadata.uid,
            }),
            ..Default::default()
        },
        ..Default::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, names::DEFAULT_NAMESPACE);
    let answer = accounts
        .create_token_request(names::AGENT_ACCOUNT, &PostParams::default(), &request)
        .await;
    let token = answer.unwrap().status.unwrap().token;
    server.identity_of_token(&name, &token).kubeconfig().unwrap()
}
