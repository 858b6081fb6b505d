use std::time::Duration;

use crate::binaries::{Tool, find};
use crate::identities::Identity;
use crate::processes::{Process, Recipe};
use crate::shared::Shared;
use crate::{ApiServer, Error};

/// Controllers that have nothing to do without nodes, or that would interfere: without kubelets the node
/// lifecycle and taint controllers would evict every Pod that a test puts on a node, and the Pod garbage
/// collector would delete Pods whose node does not exist. The mirroring controller has no business with
/// the Endpoints that we write (endpoints.rs).
const DISABLED: [&str; 14] = [
    "cloud-node-lifecycle-controller",
    "endpointslice-mirroring-controller",
    "ephemeral-volume-controller",
    "horizontal-pod-autoscaler-controller",
    "node-ipam-controller",
    "node-lifecycle-controller",
    "node-route-controller",
    "persistentvolume-attach-detach-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-expander-controller",
    "pod-garbage-collector-controller",
    "service-lb-controller",
    "taint-eviction-controller",
    "ttl-controller",
];

/// What type-checks admission policies.
const TYPE_CHECKING: &str = "validatingadmissionpolicy-status-controller";

/// The controller manager. It talks to the first replica of the API server only, like one that runs on the
/// same node.
#[derive(Debug)]
pub struct ControllerManager {
    process: Process,
}

impl ControllerManager {
    pub(crate) fn create(server: &ApiServer, shared: &Shared, type_checking: bool) -> Result<Self, Error> {
        let identity: Identity = server.identity("system:kube-controller-manager", &[])?;
        let mut controllers = "*".to_string();
        let unwanted = (!type_checking).then_some(TYPE_CHECKING);
        for name in DISABLED.into_iter().chain(unwanted) {
            controllers.push_str(",-");
            controllers.push_str(name);
        }
        let arguments = [
            format!("--kubeconfig={}", identity.kubeconfig()?.display()),
            format!(
                "--service-account-private-key-file={}",
                shared.authority.token_key_file().display()
            ),
            format!("--root-ca-file={}", shared.authority.file().display()),
            format!("--controllers={controllers}"),
            "--use-service-account-credentials=true".to_string(),
            "--leader-elect=false".to_string(),
            // The default of 20 a second is seconds of waiting: each controller makes its own ServiceAccount
            // and token first.
            "--kube-api-qps=1000".to_string(),
            "--kube-api-burst=1000".to_string(),
            // No port: nobody scrapes it, and what it does is seen in the API.
            "--secure-port=0".to_string(),
            "--profiling=false".to_string(),
        ];
        let process = Process::new(Recipe {
            name: "controller-manager".into(),
            program: find(Tool::KubeControllerManager)?,
            arguments: arguments.into_iter().map(Into::into).collect(),
            hostname: None,
            log: shared.work_dir.logs().join("controller-manager.log"),
        });
        Ok(Self { process })
    }

    /// Starts the controller manager unless it runs; its work shows in the API a moment later.
    pub fn start(&self) -> Result<(), Error> {
        self.process.start()
    }

    /// Stops it in an orderly way.
    pub async fn stop(&self) {
        self.process.stop(Duration::from_secs(5)).await;
    }

    /// The process id while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}
