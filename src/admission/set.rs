//! The whole set, and the hash that names it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::modes::{Modes, overrides};
use super::operator::Operator;
use super::policies;
use super::waived::Waived;
use crate::api::policy::AiSecurityPolicySpec;

/// Stands where the hash will be while it is computed.
const NO_HASH: &str = "00000000";

/// What a binding does with a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindingKind {
    /// Writes it to the audit log.
    Audit,
    /// Tells the person who asked, and writes it to the audit log.
    Warn,
    /// Refuses the request, and writes it to the audit log.
    Deny,
}

impl BindingKind {
    /// The binding's name: the policy's, a dash and the kind.
    pub fn name(self, policy: &str) -> String {
        let kind = match self {
            Self::Audit => "audit",
            Self::Warn => "warn",
            Self::Deny => "deny",
        };
        format!("{policy}-{kind}")
    }

    /// The API's words.
    pub const fn actions(self) -> &'static [&'static str] {
        match self {
            Self::Audit => &["Audit"],
            Self::Warn => &["Warn", "Audit"],
            Self::Deny => &["Deny", "Audit"],
        }
    }
}

/// The generated objects, each kind sorted by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicySet {
    /// The policies. They bear the labels that mark objects of ours and the label with the hash.
    pub policies: Vec<ValidatingAdmissionPolicy>,
    /// Their bindings: apply them after the policies, delete them before.
    pub bindings: Vec<ValidatingAdmissionPolicyBinding>,
    /// By policy, the expressions that it is made of, in order: the lists `problems` and `observed`, where it has them, and
    /// what they are in terms of.
    #[serde(skip)]
    pub(super) named: BTreeMap<String, Vec<(&'static str, String)>>,
    /// The moment for which it was generated.
    #[serde(skip)]
    pub(super) now: Timestamp,
    /// Eight hexadecimal digits over everything but themselves; every message begins with `[cloison <hash>] `.
    pub hash: String,
}

impl PolicySet {
    /// A policy by its name.
    pub fn policy(&self, name: &str) -> Option<&ValidatingAdmissionPolicy> {
        self.policies
            .iter()
            .find(|policy| policy.metadata.name.as_deref() == Some(name))
    }
}

/// Generates all policies and bindings. Total and deterministic: the same input gives the same bytes. `now` decides
/// only which settings with an `effectiveTime` are in force; `waived` are the Waivers that hold then.
pub fn generate(spec: &AiSecurityPolicySpec, operator: &Operator, waived: &Waived, now: Timestamp) -> PolicySet {
    let modes = Modes::new(overrides(spec, now));
    let blank = write_down(spec, operator, waived, &modes, now, NO_HASH);
    let hash = digest(&blank);
    write_down(spec, operator, waived, &modes, now, &hash)
}

fn write_down(
    spec: &AiSecurityPolicySpec,
    operator: &Operator,
    waived: &Waived,
    modes: &Modes,
    now: Timestamp,
    hash: &str,
) -> PolicySet {
    let parts = [
        policies::pod::write(spec, operator, waived, modes, hash),
        policies::net::write(spec, operator, waived, modes, hash),
        policies::connect::write(spec, operator, modes, hash),
        policies::rbac::write(spec, operator, waived, modes, hash),
        policies::store::write(spec, operator, waived, modes, hash),
        policies::namespace::write(operator, hash),
        policies::managed::write(spec, operator, hash),
        policies::crd::write(spec, modes, hash),
        policies::guard::write(spec, operator, hash),
        policies::templates::write(spec, operator, waived, modes, hash),
    ];
    let mut set = PolicySet {
        policies: Vec::new(),
        bindings: Vec::new(),
        named: BTreeMap::new(),
        now,
        hash: hash.to_owned(),
    };
    for written in parts {
        set.named
            .insert(written.policy.metadata.name.clone().unwrap_or_default(), written.named);
        set.policies.push(written.policy);
        set.bindings.extend(written.bindings);
    }
    set.policies.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    set.bindings.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    set
}

/// The first eight hexadecimal digits of the SHA-256 of the JSON. Field order is fixed by the types and every map in
/// them is sorted, so the JSON is canonical.
fn digest(set: &PolicySet) -> String {
    let json = serde_json::to_vec(set).unwrap_or_default();
    let sum = Sha256::digest(&json);
    sum.iter().take(4).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
