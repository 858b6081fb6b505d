//! What the API server itself refuses. Pure: the policies are generated from the `AiSecurityPolicy`, their constants
//! baked in; nothing here talks to a cluster, and time is an argument.
//!
//! [`generate`] makes the ValidatingAdmissionPolicies and their bindings, [`canaries`] the requests that must be
//! refused by them and [`judge`] what the answers prove, and [`Offline`] evaluates the same expressions without an API
//! server, so that the command line and the door agree.
//!
//! The traps behind the shape of the policies: `docs/decisions/005-offline-cel.md` and `policies/`.

mod canaries;
mod cel;
pub mod certificates;
mod clause;
mod environment;
mod judge;
mod modes;
mod objects;
mod operator;
mod policies;
pub mod review;
mod running;
mod set;
mod uses;
mod verdict;
mod waived;
pub mod webhook;

pub use canaries::{
    CANARY_RIGHTS, CANARY_STAGE, Canary, CanaryRequest, Right, Verb, canaries, canary_annotations, canary_labels,
    unprobed,
};
pub use environment::ConfigMaps;
pub use judge::{AdmissionProof, Answer, Outcome, ReplicaAnswers, judge};
pub use modes::overrides;
pub use operator::Operator;
pub use policies::{connect, crd, guard, managed, namespace, net, pod, rbac, store, templates};
pub use running::{Judged, MOST_VALUES, Scan, Told, as_enforced, is_alive, is_too_large, workload_of};
pub use set::{BindingKind, PolicySet, generate};
pub use uses::{PROHIBITED_USES, RESTRICTED_USES};
pub use verdict::{NotEvaluated, Offline, OfflineError, Operation, Request, Verdict, not_evaluated};
pub use waived::{Waived, effect};
