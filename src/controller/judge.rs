//! What the conditions of a workload say. Pure: evidence in, verdicts out.
//!
//! `True` needs proof. Evidence that is missing, stale or unreadable is `Unknown`, and `Unknown` never blocks `Ready`
//! unless the policy requires that condition: one policy that cannot be modelled must not hang every release.

use crate::api::conditions::{Truth, Verdict, types};
use crate::api::policy::RequiredCondition;
use crate::api::stage::Mode;
use crate::api::workload::{FlowState, FlowStatus};
use crate::network::far::Ends;

/// Why nothing is decided at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The stop button is pressed.
    Off {
        /// Why, as the person who pressed it wrote.
        reason: String,
    },
    /// The `AiSecurityPolicy` is missing or unreadable.
    PolicyMissing,
}

/// One leg's word on one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The status.
    pub truth: Truth,
    /// A CamelCase word.
    pub reason: &'static str,
    /// One line.
    pub message: String,
}

/// What became of the objects that were planned for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In audit and warn: nothing is written.
    NothingToPlace,
    /// All are in the cluster as planned.
    Placed,
    /// Some are on their way; the text says which.
    Pending(String),
    /// Writing failed: reason and text.
    Failed(&'static str, String),
}

/// Everything the verdicts on one workload depend on.
#[derive(Clone, Debug)]
pub struct WorkloadEvidence<'a> {
    /// Set when nothing is decided.
    pub hold: Option<Hold>,
    /// The namespace's mode.
    pub mode: Mode,
    /// Reasons why the workload as a whole is refused; empty when it is accepted.
    pub refusals: &'a [String],
    /// What became of its objects.
    pub placement: Placement,
    /// The analysis of all policies; `None` until it has seen this workload's.
    pub analysis: Option<Proof>,
    /// Its declared flows.
    pub flows: &'a [FlowStatus],
    /// The other ends of those that are open.
    pub ends: &'a Ends,
    /// Why admission alone is switched off here; `None` unless it is.
    pub admission_off: Option<&'a str>,
    /// The admission canaries; `None` until they ran.
    pub admission: Option<Proof>,
    /// The encryption proof; `None` until there is one.
    pub encryption: Option<Proof>,
    /// Whether the workload's own settings for Secrets are kept; `None` where it has none that could be broken.
    pub secret_settings: Option<Proof>,
    /// The packet canary's word on the cluster.
    pub packets: Proof,
    /// What its running pods have beside the pod network.
    pub interfaces: Verdict,
    /// What the policies say of its quarantine; `None` unless it is in one.
    pub quarantine: Option<Verdict>,
    /// Conditions the policy wants for Ready.
    pub required: &'a [RequiredCondition],
}

/// The verdicts, one per condition of an `AiWorkload`.
pub fn judge(seen: &WorkloadEvidence<'_>) -> Vec<Verdict> {
    if let Some(hold) = &seen.hold {
        let quarantined = seen.quarantine.as_ref().map(|_| types::QUARANTINED);
        return held(hold, quarantined);
    }
    let mut verdicts = vec![
        policies_isolate(seen),
        from_proof(types::ENFORCEMENT_VERIFIED, Some(&seen.packets)),
        seen.interfaces.clone(),
        flows_satisfied(seen),
        secrets_encrypted(seen),
        admission_enforced(seen),
        Verdict::new(
            types::CONFORMS,
            Truth::Unknown,
            "NotEvaluated",
            "controls are not scored yet",
        ),
    ];
    verdicts.push(network_isolated(&verdicts));
    let ready = ready(seen, &verdicts);
    if !seen.refusals.is_empty() {
        verdicts.push(Verdict::new(
            types::STALLED,
            Truth::True,
            "Refused",
            seen.refusals.join("; "),
        ));
    } else if let Placement::Pending(what) | Placement::Failed(_, what) = &seen.placement {
        verdicts.push(Verdict::new(types::RECONCILING, Truth::True, "Applying", what.clone()));
    }
    verdicts.push(ready);
    verdicts.extend(quarantined(seen));
    verdicts
}

/// Every condition of a workload that a judge of it may write.
const ALL: [&str; 9] = [
    types::POLICIES_ISOLATE,
    types::ENFORCEMENT_VERIFIED,
    types::NETWORK_ISOLATED,
    types::INTERFACES_COVERED,
    types::FLOWS_SATISFIED,
    types::SECRETS_ENCRYPTED,
    types::ADMISSION_ENFORCED,
    types::CONFORMS,
    types::READY,
];

fn held(hold: &Hold, more: Option<&'static str>) -> Vec<Verdict> {
    let (reason, message) = match hold {
        Hold::Off { reason } => ("Off", format!("switched off: {reason}; `cloison on` resumes")),
        Hold::PolicyMissing => (
            "PolicyMissing",
            "AiSecurityPolicy `default` is missing or unreadable: nothing is written and nothing is loosened; restore it"
                .to_owned(),
        ),
    };
    ALL.into_iter()
        .chain(more)
        .map(|kind| Verdict::new(kind, Truth::Unknown, reason, message.clone()))
        .collect()
}

fn from_proof(kind: &'static str, proof: Option<&Proof>) -> Verdict {
    match proof {
        Some(proof) => Verdict::new(kind, proof.truth, proof.reason, proof.message.clone()),
        None => Verdict::new(kind, Truth::Unknown, "NotProbed", "no proof was gathered yet"),
    }
}

/// The cluster's proof and the workload's own settings: what is disproven is told before what is not known.
fn secrets_encrypted(seen: &WorkloadEvidence<'_>) -> Verdict {
    let of_cluster = from_proof(types::SECRETS_ENCRYPTED, seen.encryption.as_ref());
    let Some(settings) = &seen.secret_settings else {
        return of_cluster;
    };
    let weight = |truth: Truth| match truth {
        Truth::False => 2,
        Truth::Unknown => 1,
        Truth::True => 0,
    };
    if weight(settings.truth) > weight(of_cluster.truth) {
        return from_proof(types::SECRETS_ENCRYPTED, Some(settings));
    }
    of_cluster
}

fn policies_isolate(seen: &WorkloadEvidence<'_>) -> Verdict {
    let kind = types::POLICIES_ISOLATE;
    match (&seen.analysis, seen.mode) {
        (None, _) => Verdict::new(
            kind,
            Truth::Unknown,
            "NotAnalysed",
            "the policies have not been analysed yet",
        ),
        (Some(proof), Mode::Enforce) => Verdict::new(kind, proof.truth, proof.reason, proof.message.clone()),
        (Some(proof), mode) => Verdict::new(
            kind,
            Truth::False,
            "AuditMode",
            format!(
                "the namespace is in mode {mode}: no policy is written. With the policies that enforce would write: {} ({})",
                proof.reason, proof.message
            ),
        ),
    }
}

fn network_isolated(verdicts: &[Verdict]) -> Verdict {
    let kind = types::NETWORK_ISOLATED;
    let find = |wanted: &str| verdicts.iter().find(|verdict| verdict.kind == wanted);
    let (Some(policies), Some(packets)) = (find(types::POLICIES_ISOLATE), find(types::ENFORCEMENT_VERIFIED)) else {
        return Verdict::new(kind, Truth::Unknown, "NotAnalysed", "");
    };
    match (policies.truth, packets.truth) {
        (Truth::False, _) => Verdict::new(kind, Truth::False, policies.reason, policies.message.clone()),
        (_, Truth::False) => Verdict::new(kind, Truth::False, packets.reason, packets.message.clone()),
        (Truth::True, Truth::True) => Verdict::new(
            kind,
            Truth::True,
            "Proven",
            format!("{}; {}", policies.message, packets.message),
        ),
        (Truth::Unknown, _) => Verdict::new(kind, Truth::Unknown, policies.reason, policies.message.clone()),
        (Truth::True, Truth::Unknown) => Verdict::new(
            kind,
            Truth::Unknown,
            "EnforcementUnverified",
            "the policies isolate on paper; no packet has shown that the network plugin enforces them",
        ),
    }
}

fn flows_satisfied(seen: &WorkloadEvidence<'_>) -> Verdict {
    let kind = types::FLOWS_SATISFIED;
    let named = |state: FlowState| -> Vec<String> {
        seen.flows
            .iter()
            .filter(|flow| flow.state == state)
            .map(|flow| format!("{}: {}", flow.name, flow.message))
            .collect()
    };
    let broken = [named(FlowState::Refused), named(FlowState::Unresolved)].concat();
    if !broken.is_empty() {
        return Verdict::new(kind, Truth::False, "FlowRefused", broken.join("; "));
    }
    if seen.mode != Mode::Enforce {
        return Verdict::new(
            kind,
            Truth::Unknown,
            "AuditMode",
            "nothing is cut in this mode, and nothing was tried",
        );
    }
    if seen.placement != Placement::Placed {
        return Verdict::new(
            kind,
            Truth::Unknown,
            "Applying",
            "the policies are not all in place yet",
        );
    }
    let ends = seen.ends;
    if !ends.missing.is_empty() {
        let missing = ends.missing.join("; ");
        let message = format!("not allowed at the other end, so nothing passes: {missing}");
        return Verdict::new(kind, Truth::Unknown, "PeerNotPlaced", message);
    }
    let awaiting = named(FlowState::AwaitingPeer);
    let one_sided = ends.one_sided.join(", ");
    let parts = [
        Some(format!("{} flows are allowed at both ends", ends.both)),
        (!one_sided.is_empty()).then(|| format!("on this side only, where the other is not ours to open: {one_sided}")),
        (!awaiting.is_empty()).then(|| format!("waiting for: {}", awaiting.join("; "))),
    ];
    let message = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let reason = if awaiting.is_empty() {
        "Rendered"
    } else {
        "AwaitingPeer"
    };
    Verdict::new(kind, Truth::True, reason, message)
}

/// What a condition says that scope admission of the stop button ends.
fn admission_off(kind: &'static str, reason: &str) -> Verdict {
    let message = format!("admission is switched off, the network is not: {reason}; `cloison on` resumes");
    Verdict::new(kind, Truth::Unknown, "Off", message)
}

fn admission_enforced(seen: &WorkloadEvidence<'_>) -> Verdict {
    if let Some(reason) = seen.admission_off {
        return admission_off(types::ADMISSION_ENFORCED, reason);
    }
    let verdict = from_proof(types::ADMISSION_ENFORCED, seen.admission.as_ref());
    if seen.mode == Mode::Enforce {
        return verdict;
    }
    Verdict::new(
        types::ADMISSION_ENFORCED,
        Truth::False,
        "AuditMode",
        format!("the namespace is in mode {}: nothing is refused", seen.mode),
    )
}

/// A quarantine is in force only where policies are written, and once this one is.
fn quarantined(seen: &WorkloadEvidence<'_>) -> Option<Verdict> {
    let kind = types::QUARANTINED;
    let proven = seen.quarantine.clone()?;
    Some(match (seen.mode, &seen.placement) {
        (Mode::Enforce, Placement::Placed) => proven,
        (Mode::Enforce, _) => Verdict::new(
            kind,
            Truth::Unknown,
            "Applying",
            "its emptied policy is not in place yet",
        ),
        (mode, _) => Verdict::new(
            kind,
            Truth::False,
            "AuditMode",
            format!(
                "the namespace is in mode {mode}: no policy is written, so nothing is cut; delete the pods, or enforce"
            ),
        ),
    })
}

fn ready(seen: &WorkloadEvidence<'_>, verdicts: &[Verdict]) -> Verdict {
    let kind = types::READY;
    if let Some(first) = seen.refusals.first() {
        let more = seen.refusals.len() - 1;
        let more = if more == 0 {
            String::new()
        } else {
            format!(" (+{more} more)")
        };
        return Verdict::new(kind, Truth::False, "Refused", format!("{first}{more}"));
    }
    match &seen.placement {
        Placement::Pending(what) => return Verdict::new(kind, Truth::False, "Applying", what.clone()),
        Placement::Failed(reason, what) => return Verdict::new(kind, Truth::False, reason, what.clone()),
        Placement::Placed | Placement::NothingToPlace => {}
    }
    let built_in: &[&str] = if seen.mode == Mode::Enforce {
        &[types::POLICIES_ISOLATE, types::ADMISSION_ENFORCED]
    } else {
        &[]
    };
    let blocking: Vec<String> = verdicts
        .iter()
        .filter(|verdict| {
            let wanted = seen.required.iter().any(|required| required.kind() == verdict.kind);
            match verdict.truth {
                Truth::True => false,
                Truth::False => wanted || built_in.contains(&verdict.kind),
                Truth::Unknown => wanted,
            }
        })
        .map(|verdict| {
            format!(
                "{} is {} ({}: {})",
                verdict.kind,
                verdict.truth.as_str(),
                verdict.reason,
                verdict.message
            )
        })
        .collect();
    if !blocking.is_empty() {
        return Verdict::new(kind, Truth::False, "ConditionNotMet", blocking.join("; "));
    }
    if let Some(reason) = seen.admission_off
        && built_in.contains(&types::ADMISSION_ENFORCED)
    {
        return admission_off(kind, reason);
    }
    let open: Vec<String> = verdicts
        .iter()
        .filter(|verdict| verdict.truth != Truth::True)
        .map(|verdict| format!("{} {}/{}", verdict.kind, verdict.truth.as_str(), verdict.reason))
        .collect();
    let message = if open.is_empty() {
        "everything is in place and proven".to_owned()
    } else {
        format!("everything planned is in place; not True: {}", open.join(", "))
    };
    Verdict::new(kind, Truth::True, "Reconciled", message)
}

#[cfg(test)]
mod tests;
