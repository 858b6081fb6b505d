//! Pods that somebody else made and that run a program: what the scheduler, the kubelet and the CNI plugin do for them, as
//! far as the network and the API server can tell. There is no container: the program is one of this machine, in the pod's
//! network namespace.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::namespace::{NetworkNamespace, refused};
use super::{Nodes, bind, interface, pod_addresses, wire};
use crate::{Error, Program};

/// A pod on a node.
#[derive(Debug)]
pub struct HostedPod {
    addresses: (Ipv4Addr, Ipv6Addr),
    namespace: NetworkNamespace,
    logs: PathBuf,
    name: String,
}

impl HostedPod {
    /// What a kubelet writes of it in `phase`, with the state of its only container.
    pub fn status(&self, phase: &str, container: &str, state: &Value) -> Value {
        let (v4, v6) = self.addresses;
        json!({"status": {
            "phase": phase, "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}],
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": container, "image": "", "imageID": "", "ready": phase == "Running",
                                   "restartCount": 0, "state": state}],
        }})
    }

    /// A program in its network, not started yet.
    pub fn program(&self, program: impl Into<OsString>, arguments: impl IntoIterator<Item = String>) -> Program {
        let mut words = vec![OsString::from(format!("--net={}", self.namespace.path().display()))];
        words.extend(["--".into(), program.into()]);
        words.extend(arguments.into_iter().map(OsString::from));
        let log = self.logs.join(format!("{}.log", self.name));
        Program::new(&self.name, "nsenter", words, log)
    }
}

impl Nodes {
    /// Takes a pod that no node has yet: binds it, as the scheduler does, and wires it, as the CNI plugin does. The caller
    /// runs its program and writes its status.
    ///
    /// # Panics
    ///
    /// When there is no such node; there are two.
    pub async fn host(&mut self, node: usize, pod: &Pod) -> Result<HostedPod, Error> {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let place = &mut self.nodes[node];
        place.pods += 1;
        let addresses = pod_addresses(node, place.pods);
        let logs = place.felix.log().parent().unwrap_or(place.felix.log()).to_owned();
        let full_name = format!("pod-{namespace}-{name}-{}", place.pods);
        let own = NetworkNamespace::create(&format!("{full_name}-network"), &logs).await?;
        let interface = interface(&namespace, &name);
        wire(&place.namespace, &own, &interface, addresses)?;
        let (v4, v6) = addresses;
        // With an enforcer that is away nobody else lays the way to the pod: Calico's CNI plugin does it too.
        place.namespace.ip(&format!(
            "route add {v4}/32 dev {interface} scope link
             route add {v6}/128 dev {interface}\n"
        ))?;
        let api: Api<Pod> = Api::namespaced(self.admin.client()?, &namespace);
        bind(&api, &name, &place.name).await?;
        Ok(HostedPod {
            addresses,
            namespace: own,
            logs,
            name: full_name,
        })
    }

    /// Writes a status as a kubelet does: see [`HostedPod::status`].
    pub async fn say(&self, pod: &Pod, status: &Value) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.admin.client()?, &pod.namespace().unwrap_or_default());
        api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }

    /// Stops Felix on every node and takes away what it had programmed: nodes on which nothing enforces policies.
    pub fn stop_enforcing(&self) -> Result<(), Error> {
        for node in &self.nodes {
            node.felix.kill();
            for restore in ["iptables-nft-restore", "ip6tables-nft-restore"] {
                let tables = "*raw\nCOMMIT\n*mangle\nCOMMIT\n*nat\nCOMMIT\n\
                              *filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n";
                let failed = |error: std::io::Error| refused(&node.name, format!("{restore}: {error}"));
                let mut child = Command::new("nsenter")
                    .arg(format!("--net={}", node.namespace.path().display()))
                    .args(["--", restore])
                    .stdin(Stdio::piped())
                    .spawn()
                    .map_err(failed)?;
                if let Some(mut input) = child.stdin.take() {
                    std::io::Write::write_all(&mut input, tables.as_bytes()).map_err(failed)?;
                }
                let status = child.wait().map_err(failed)?;
                if !status.success() {
                    return Err(refused(&node.name, format!("{restore}: {status}")));
                }
            }
        }
        Ok(())
    }
}
