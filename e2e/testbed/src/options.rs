use std::time::Duration;

use crate::Tool;

/// What a [`ControlPlane`](crate::ControlPlane) is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// One entry per replica of the API server; one replica by default.
    pub api_servers: Vec<ApiServerOptions>,
    /// Also runs a controller manager: garbage collection, the end of namespaces, `default`
    /// ServiceAccounts (without which no Pod can be created), aggregated roles. Off by default.
    pub controller_manager: bool,
    /// It also type-checks admission policies and writes into their status what it found: seconds of a core for each set
    /// of policies. Off by default.
    pub type_checking: bool,
    /// How often the API servers compact etcd; the API server's own default (5 minutes) by default.
    pub etcd_compaction_interval: Option<Duration>,
    /// How long every process may take to become ready; a minute by default.
    pub start_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_servers: vec![ApiServerOptions::default()],
            controller_manager: false,
            type_checking: false,
            etcd_compaction_interval: None,
            start_deadline: Duration::from_mins(1),
        }
    }
}

/// How one replica of the API server is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServerOptions {
    /// The Kubernetes version; the newest by default.
    pub minor: Minor,
    /// The newest version with the one change that `--encryption-provider-config` is looked at each second instead of each
    /// minute: for tests that go through many rotations. Off by default.
    pub fast_reload: bool,
    /// Such as `ValidatingAdmissionPolicy`.
    pub disable_admission_plugins: Vec<String>,
    /// The first content of the file for `--encryption-provider-config`, which is reloaded when it changes.
    /// `None`, the default, leaves the flag out.
    pub encryption_config: Option<String>,
    /// An audit policy; with it the replica writes [`ApiServer::audit_log`](crate::ApiServer::audit_log).
    pub audit_policy: Option<String>,
    /// Further flags, `--name=value`. They come last, so they win over ours.
    pub extra_args: Vec<String>,
}

impl ApiServerOptions {
    /// The program that it is.
    pub(crate) fn tool(&self) -> Tool {
        if self.fast_reload {
            Tool::KubeApiserverFast
        } else {
            Tool::KubeApiserver(self.minor)
        }
    }
}

/// A Kubernetes minor version that the toolchain builds: the floor and the ceiling of what we support.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Minor {
    /// 1.36, the newest.
    #[default]
    V1_36,
    /// 1.33, the oldest.
    V1_33,
}
