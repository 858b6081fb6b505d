//! Who we are in the cluster the policies are generated for.

use crate::api::names;

/// The operator as the API server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Our own user name as the API server spells it (a SelfSubjectReview at the start):
    /// `system:serviceaccount:cloison-system:cloison-controller`.
    pub user: String,
    /// The namespace we run in. It can never be given a stage, so that no policy of ours holds our own pods.
    pub namespace: String,
}

impl Operator {
    /// The controller's ServiceAccount in a namespace.
    pub fn in_namespace(namespace: impl Into<String>) -> Self {
        let namespace = namespace.into();
        Self {
            user: format!("system:serviceaccount:{namespace}:{}", names::CONTROLLER_ACCOUNT),
            namespace,
        }
    }

    /// The account that rewrites Secrets, as the API server spells it.
    pub fn sweeper(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, names::SWEEPER_ACCOUNT)
    }

    /// The account of the webhook, as the API server spells it.
    pub fn webhook(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, names::WEBHOOK_ACCOUNT)
    }

    /// Namespaces that no stage can hold: a policy that errs must not keep the cluster, or us, from recovering.
    pub(super) fn reserved_namespaces(&self) -> Vec<&str> {
        let mut reserved = vec!["kube-node-lease", "kube-public", "kube-system", self.namespace.as_str()];
        reserved.sort_unstable();
        reserved.dedup();
        reserved
    }
}
