//! One file per ValidatingAdmissionPolicy. At most two of them match one request: each that matches costs the API server
//! about 0.4 ms, however little it asks.
//!
//! | policy | matches | modes |
//! |---|---|---|
//! | `cloison-pod` | pods of stage namespaces | yes |
//! | `cloison-net` | NetworkPolicies of others than ourselves in stage namespaces | yes |
//! | `cloison-crd` | what an AiWorkload declares | yes |
//! | `cloison-namespace` | namespaces with a stage, before or after | always |
//! | `cloison-managed` | objects with our label, before or after | always |
//! | `cloison-guard` | status, finalizers and quarantine of our kinds; what our own accounts write: NetworkPolicies, Secrets, key ring, reports | always |

pub mod crd;
pub mod guard;
pub mod managed;
pub mod namespace;
pub mod net;
pub mod pod;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};

use super::cel::{list, text};
use crate::api::names;

/// A policy and its bindings.
pub(super) struct Written {
    pub(super) policy: ValidatingAdmissionPolicy,
    pub(super) bindings: Vec<ValidatingAdmissionPolicyBinding>,
    /// What the policy is made of, by name, each in terms of those before it.
    pub(super) named: Vec<(&'static str, String)>,
}

/// The garbage collector, under both names it goes by: with and without an account of its own.
const COLLECTORS: [&str; 2] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:generic-garbage-collector",
];
/// The namespace controller, likewise.
pub(super) const EMPTIERS: [&str; 2] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:namespace-controller",
];

pub(super) const USER: &str = "request.userInfo.username";

/// The request is DELETE, by the garbage collector; or by the namespace controller while the namespace ends, because
/// otherwise a tenant who may delete could take the deny away from pods that still run.
fn collected_or_emptied() -> String {
    format!(
        "request.operation == 'DELETE' && ({USER} in {} || ({USER} in {} && namespaceObject != null && \
         has(namespaceObject.metadata.deletionTimestamp)))",
        list(COLLECTORS),
        list(EMPTIERS)
    )
}

/// The caller holds a virtual verb, `assign stages`.
fn may(verb: &str, resource: &str) -> String {
    format!(
        "authorizer.group({}).resource({}).check({}).allowed()",
        text(names::VIRTUAL_GROUP),
        text(resource),
        text(verb)
    )
}

/// The caller is a person who may break glass. Accounts of programs never are, whatever they are bound to: Argo CD is
/// often cluster-admin.
fn person_with_bypass() -> String {
    format!(
        "(!{USER}.startsWith('system:serviceaccount:') && {})",
        may("bypass", "protections")
    )
}
