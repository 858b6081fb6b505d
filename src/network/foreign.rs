//! Kinds of network policies other than NetworkPolicy. But for ClusterNetworkPolicy in the version of
//! [`cluster_policy`] the analysis does not model them: where objects of them touch a stage namespace nothing is known,
//! and it says so by name.

use super::cluster_policy;

/// One kind, addressed by group, version and plural: two of them are called `ClusterNetworkPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignKind {
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// As in paths and roles.
    pub plural: &'static str,
    /// Kind.
    pub kind: &'static str,
}

impl ForeignKind {
    /// Whether the analysis models it, in the version named here.
    pub fn is_modelled(&self) -> bool {
        (self.group, self.version, self.plural)
            == (cluster_policy::GROUP, cluster_policy::VERSION, cluster_policy::PLURAL)
    }
}

const fn kind(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> ForeignKind {
    ForeignKind {
        group,
        version,
        plural,
        kind,
    }
}

/// All known ones, sorted by group.
pub const FOREIGN_KINDS: [ForeignKind; 12] = [
    kind(
        "cilium.io",
        "v2",
        "ciliumclusterwidenetworkpolicies",
        "CiliumClusterwideNetworkPolicy",
    ),
    kind("cilium.io", "v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy"),
    kind(
        "crd.antrea.io",
        "v1beta1",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
    ),
    kind("crd.antrea.io", "v1beta1", "networkpolicies", "NetworkPolicy"),
    kind(
        "crd.projectcalico.org",
        "v1",
        "globalnetworkpolicies",
        "GlobalNetworkPolicy",
    ),
    kind("crd.projectcalico.org", "v1", "networkpolicies", "NetworkPolicy"),
    kind(
        "k8s.cni.cncf.io",
        "v1beta1",
        "multi-networkpolicies",
        "MultiNetworkPolicy",
    ),
    kind(
        "networking.k8s.aws",
        "v1alpha1",
        "applicationnetworkpolicies",
        "ApplicationNetworkPolicy",
    ),
    kind(
        "networking.k8s.aws",
        "v1alpha1",
        "clusternetworkpolicies",
        "ClusterNetworkPolicy",
    ),
    kind(
        "policy.networking.k8s.io",
        "v1alpha1",
        "adminnetworkpolicies",
        "AdminNetworkPolicy",
    ),
    kind(
        "policy.networking.k8s.io",
        "v1alpha1",
        "baselineadminnetworkpolicies",
        "BaselineAdminNetworkPolicy",
    ),
    kind(
        cluster_policy::GROUP,
        cluster_policy::VERSION,
        cluster_policy::PLURAL,
        cluster_policy::KIND,
    ),
];
