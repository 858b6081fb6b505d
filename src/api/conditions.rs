//! Conditions: their types, and the one way to change a list of them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The types of conditions. What each one's `True` means is in the README.
pub mod types {
    /// The analysis of all policies finds no forbidden path for any pod that could exist.
    pub const POLICIES_ISOLATE: &str = "PoliciesIsolate";
    /// Packets were seen to be dropped and to pass.
    pub const ENFORCEMENT_VERIFIED: &str = "EnforcementVerified";
    /// Both of the above.
    pub const NETWORK_ISOLATED: &str = "NetworkIsolated";
    /// No interface of the workload's pods escapes NetworkPolicy.
    pub const INTERFACES_COVERED: &str = "InterfacesCovered";
    /// Every declared flow whose other end agrees works under the policies.
    pub const FLOWS_SATISFIED: &str = "FlowsSatisfied";
    /// A fresh proof covers the cluster's Secrets.
    pub const SECRETS_ENCRYPTED: &str = "SecretsEncrypted";
    /// The generated policies were seen refusing on every API server.
    pub const ADMISSION_ENFORCED: &str = "AdmissionEnforced";
    /// Score above the minimum and no critical failure.
    pub const CONFORMS: &str = "Conforms";
    /// Every planned object applied and re-read, and nothing required is False.
    pub const READY: &str = "Ready";
    /// Work is in progress.
    pub const RECONCILING: &str = "Reconciling";
    /// The author must change something.
    pub const STALLED: &str = "Stalled";
    /// Nothing leads to or from the workload any more. Only where somebody asked for it.
    pub const QUARANTINED: &str = "Quarantined";
    /// `AiSecurityPolicy`: the cluster-wide denies are stored. Only where somebody asked for them.
    pub const CLUSTER_DENY_PLACED: &str = "ClusterDenyPlaced";
    /// `Waiver`: another person approved it.
    pub const APPROVED: &str = "Approved";
    /// `Waiver`: it holds.
    pub const ACTIVE: &str = "Active";
    /// `AiSecurityPolicy`: the policy is present, readable and the one the controller works by.
    pub const POLICY_CURRENT: &str = "PolicyCurrent";
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// Proven.
    True,
    /// Disproven, or switched off.
    False,
    /// Evidence is missing, stale or unreadable.
    Unknown,
}

impl Truth {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a judge says about one condition; the time is added when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One of [`types`].
    pub kind: &'static str,
    /// The status.
    pub truth: Truth,
    /// A CamelCase word; part of the API.
    pub reason: &'static str,
    /// For people: one line.
    pub message: String,
}

impl Verdict {
    /// A verdict in one line.
    pub fn new(kind: &'static str, truth: Truth, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            truth,
            reason,
            message: message.into(),
        }
    }
}

/// Longest message that is written: a status is read by people.
const MESSAGE_LIMIT: usize = 1_024;

/// Turns verdicts into conditions, sorted by type. `lastTransitionTime` moves only when a status flips. Conditions of
/// other writers are not repeated: a server-side apply leaves them where they are. `now` is given, so the same input
/// gives the same bytes.
pub fn conditions(present: &[Condition], verdicts: &[Verdict], generation: Option<i64>, now: &Time) -> Vec<Condition> {
    let mut written: BTreeMap<&str, Condition> = BTreeMap::new();
    for verdict in verdicts {
        let last_transition_time = match find(present, verdict.kind) {
            Some(old) if old.status == verdict.truth.as_str() => old.last_transition_time.clone(),
            _ => now.clone(),
        };
        written.insert(
            verdict.kind,
            Condition {
                type_: verdict.kind.to_owned(),
                status: verdict.truth.as_str().to_owned(),
                observed_generation: generation,
                last_transition_time,
                reason: verdict.reason.to_owned(),
                message: shorten(&verdict.message),
            },
        );
    }
    written.into_values().collect()
}

/// The conditions whose status differs between two lists: what an event is worth. A first visit tells of what the author
/// must look at, `Stalled` and a `Ready` that is not True; the others have said nothing yet that could flip.
pub fn flips<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<&'a Condition> {
    let flipped = |new: &&Condition| match find(before, &new.type_) {
        Some(old) => old.status != new.status,
        None => new.type_ == types::STALLED || (new.type_ == types::READY && new.status != "True"),
    };
    after.iter().filter(flipped).collect()
}

/// Finds a condition by type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == kind)
}

fn shorten(message: &str) -> String {
    if message.len() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    let mut end = MESSAGE_LIMIT - 4;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} …", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: &[(&str, &str, &str)]) -> Vec<Condition> {
        let condition = |(kind, status, reason): &(&str, &str, &str)| Condition {
            type_: (*kind).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time("2026-01-01T00:00:00Z".parse().unwrap()),
        };
        rows.iter().map(condition).collect()
    }

    #[test]
    fn only_what_flipped_is_worth_an_event() {
        let before = list(&[
            ("AdmissionEnforced", "True", "A"),
            ("Ready", "True", "A"),
            ("Conforms", "Unknown", "A"),
        ]);
        let after = list(&[
            ("AdmissionEnforced", "False", "NoBinding"),
            ("Ready", "True", "Other"),
            ("Conforms", "Unknown", "A"),
            ("Stalled", "True", "Refused"),
            ("Reconciling", "True", "Applying"),
        ]);
        let kinds = |flips: Vec<&Condition>| flips.iter().map(|flip| flip.type_.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(flips(&before, &after)), ["AdmissionEnforced", "Stalled"]);
        assert_eq!(kinds(flips(&[], &before)), [""; 0], "all is well from the start");
        let refused = list(&[
            ("AdmissionEnforced", "False", "NoBinding"),
            ("Ready", "False", "Refused"),
        ]);
        assert_eq!(
            kinds(flips(&[], &refused)),
            ["Ready"],
            "a first visit tells of Ready alone"
        );
        assert_eq!(kinds(flips(&after, &after)), [""; 0]);
    }

    #[test]
    fn the_time_moves_only_with_the_status() {
        let before = list(&[("Ready", "True", "A")]);
        let later = Time("2026-01-02T00:00:00Z".parse().unwrap());
        let said = |truth, reason| {
            let verdict = Verdict::new(types::READY, truth, reason, "m");
            conditions(&before, &[verdict], Some(2), &later)[0].clone()
        };
        let same = said(Truth::True, "B");
        assert_eq!(
            (&same.last_transition_time, &*same.reason),
            (&before[0].last_transition_time, "B")
        );
        assert_eq!(said(Truth::False, "B").last_transition_time, later);
    }
}
