//! Whether the flags of the API servers outlive the next upgrade of the control plane. Without them an API server reads no
//! key at all: of what was encrypted nothing is served then.

use super::observation::Observation;
use crate::api::conditions::{Truth, Verdict};

/// The condition: the next upgrade by kubeadm keeps the flags.
pub const FLAGS_PERSISTENT: &str = "FlagsPersistent";

/// Entries of kubeadm's ClusterConfiguration, ready to copy.
type Lines = [String];

/// What kubeadm's ClusterConfiguration lacks, by any agent that could tell; nothing when it lacks nothing, `None` where
/// nobody can tell. There is one for the whole cluster.
pub(super) fn lacking(seen: &Observation) -> Option<&Lines> {
    let reports = seen.nodes.iter().filter_map(|node| node.report.as_ref());
    let known = reports.filter_map(|report| report.to_persist.as_deref());
    known.max_by_key(|lines| lines.len())
}

/// What a person does about it.
pub(super) fn command(lines: &Lines) -> String {
    format!(
        "kubectl -n kube-system edit configmap kubeadm-config: in ClusterConfiguration, under apiServer, add {}",
        lines.join("; ")
    )
}

/// The condition [`FLAGS_PERSISTENT`].
pub fn verdict(seen: &Observation) -> Verdict {
    let (truth, reason, message) = match lacking(seen) {
        None => (
            Truth::Unknown,
            "NotKubeadm",
            "no agent can read the ConfigMap kube-system/kubeadm-config, so nobody can tell whether an upgrade of the \
             control plane keeps the encryption flags; see to it that yours does"
                .to_owned(),
        ),
        Some([]) => (
            Truth::True,
            "InClusterConfiguration",
            "kubeadm's ClusterConfiguration has the encryption flags and their folder".to_owned(),
        ),
        Some(lines) => (
            Truth::False,
            "UpgradeDropsFlags",
            format!(
                "the next upgrade by kubeadm drops the encryption flags, and API servers without them serve nothing that \
                 is encrypted; next: {}",
                command(lines)
            ),
        ),
    };
    Verdict::new(FLAGS_PERSISTENT, truth, reason, message)
}
