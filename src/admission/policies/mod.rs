//! One file per ValidatingAdmissionPolicy. At most two of them match one request: each that matches costs the API server
//! about 0.4 ms, however little it asks.
//!
//! | policy | matches | modes |
//! |---|---|---|
//! | `cloison-pod` | pods of stage namespaces | yes |
//! | `cloison-net` | NetworkPolicies of others than ourselves, Services, Endpoints and routes in stage namespaces | yes |
//! | `cloison-connect` | exec, attach, port-forward, proxies and debug containers, tokens and Secrets that hold one, in stage namespaces | yes |
//! | `cloison-rbac` | RoleBindings in stage namespaces | yes |
//! | `cloison-store` | claims of volumes and devices, and snapshots, in stage namespaces | yes |
//! | `cloison-crd` | what an AiWorkload declares | yes |
//! | `cloison-templates` | pod templates of the built-in kinds in stage namespaces; it warns and never refuses | yes |
//! | `cloison-namespace` | namespaces with a stage, before or after: stage, mode, seal, and what Kubernetes itself refuses there | always |
//! | `cloison-managed` | objects with our label, before or after | always |
//! | `cloison-guard` | status, finalizers and quarantine of our kinds; who asks for a Waiver and who approves it; what our own accounts write: NetworkPolicies, Secrets, key ring, reports | always |

pub mod connect;
pub mod crd;
pub mod guard;
pub mod managed;
pub mod namespace;
pub mod net;
pub mod pod;
pub mod rbac;
pub mod store;
pub mod templates;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};

use super::cel::{list, text};
use super::clause::Clause;
use super::modes::Modes;
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::compliance::RuleId;
use crate::compliance::id::{ENC_02, NET_10};

/// The rules that Waivers may be for: of the policies that ask about them. Of the Waivers for one workload only the policy
/// for pods is told: the objects of the others belong to no workload.
pub(super) fn waivable(for_one_workload: bool) -> Vec<RuleId> {
    // These two are there by a setting alone.
    let spec = AiSecurityPolicySpec::default();
    let modes = Modes::new(Vec::new());
    let rules = |clauses: Vec<Clause>| clauses.into_iter().map(|clause| clause.rule().clone());
    let mut all: Vec<RuleId> = rules(pod::clauses(&spec, &modes)).collect();
    if !for_one_workload {
        all.extend(rules(net::clauses(&spec, &modes)));
        all.extend(rules(store::clauses(&spec, &modes)));
        all.extend(rules(rbac::clauses(&modes)));
        all.extend([NET_10.rule("not-allowed"), ENC_02.rule("storage-class")]);
    }
    all
}

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
