//! What the canaries' answers prove.

use super::canaries::{CANARY_STAGE, Canary};
use super::clause::prefix;
use crate::api::conditions::Truth;

/// How one request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With success.
    Passed,
    /// With a refusal (403 or 422), in these words.
    Refused(String),
    /// With anything else, or not at all.
    Failed(String),
}

impl Outcome {
    /// From an HTTP status code and the message of the Status object.
    pub fn from_status(code: u16, message: impl Into<String>) -> Self {
        match code {
            200..=299 => Self::Passed,
            403 | 422 => Self::Refused(message.into()),
            _ => Self::Failed(message.into()),
        }
    }
}

/// Both answers to one canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the canary.
    pub id: String,
    /// To the request that must be refused.
    pub negative: Outcome,
    /// To the request that must pass.
    pub positive: Outcome,
}

/// What one API server answered, on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaAnswers {
    /// As in its lease in kube-system.
    pub identity: String,
    /// One for each canary.
    pub answers: Vec<Answer>,
}

/// The verdict for the condition `AdmissionEnforced` of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionProof {
    /// True: every canary was refused by its own policy on every API server.
    pub truth: Truth,
    /// A CamelCase word.
    pub reason: &'static str,
    /// One line.
    pub message: String,
}

impl AdmissionProof {
    /// The same, but no True while policies that refuse were not tried by any canary.
    #[must_use]
    pub fn but_for(self, unprobed: &[String]) -> Self {
        if self.truth != Truth::True || unprobed.is_empty() {
            return self;
        }
        Self {
            truth: Truth::Unknown,
            reason: "NotProbed",
            message: format!(
                "{}; {} refuses elsewhere and has no canary, because no rule that a canary can break is set to Enforce in \
                 stage {}",
                self.message,
                unprobed.join(", "),
                CANARY_STAGE.as_str()
            ),
        }
    }
}

/// What one answer, or the lack of one, says. Ordered by what is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Refused by an older or newer generation.
    OldHash,
    /// Let through while other policies refuse: a binding, or the policy, is missing there.
    NoBinding,
    /// Nothing of ours refuses on that API server.
    PluginDisabled,
    /// An API server did not answer, or not to every canary.
    ReplicaMissing,
    /// A request failed.
    CanaryFailed,
    /// The request that must pass was refused, so the refusal beside it says nothing.
    ControlRefused,
    /// Refused by something else: a right that is missing, another policy, another plugin.
    RefusedByOther,
}

impl Fault {
    const fn reason(self) -> &'static str {
        match self {
            Self::OldHash => "OldHash",
            Self::NoBinding => "NoBinding",
            Self::PluginDisabled => "PluginDisabled",
            Self::ReplicaMissing => "ReplicaMissing",
            Self::CanaryFailed => "CanaryFailed",
            Self::ControlRefused => "ControlRefused",
            Self::RefusedByOther => "RefusedByOther",
        }
    }

    /// Seen not to hold, rather than not seen to hold.
    const fn truth(self) -> Truth {
        match self {
            Self::OldHash | Self::NoBinding | Self::PluginDisabled => Truth::False,
            _ => Truth::Unknown,
        }
    }
}

/// Judges the answers of all replicas. A refusal counts only if it names our policy, our binding and our hash, and the
/// request beside it passed. One replica that lets a negative pass makes the proof False; an error, or a fresh API
/// server that did not answer, makes it Unknown.
pub fn judge(
    canaries: &[Canary],
    replicas: &[ReplicaAnswers],
    fresh_identities: &[String],
    expected_hash: &str,
) -> AdmissionProof {
    let mut faults: Vec<(Fault, String)> = Vec::new();
    for replica in replicas {
        let all_pass = !replica.answers.is_empty() && replica.answers.iter().all(|a| a.negative == Outcome::Passed);
        for canary in canaries {
            let at = format!("{} on {}", canary.policy, replica.identity);
            match replica.answers.iter().find(|answer| answer.id == canary.id) {
                None => faults.push((Fault::ReplicaMissing, format!("{at}: not asked"))),
                Some(answer) => {
                    if let Some((fault, what)) = weigh(canary, answer, all_pass, expected_hash) {
                        faults.push((fault, format!("{at}: {what}")));
                    }
                }
            }
        }
    }
    for identity in fresh_identities {
        if !replicas.iter().any(|replica| replica.identity == *identity) {
            faults.push((Fault::ReplicaMissing, format!("API server {identity} was not asked")));
        }
    }
    if fresh_identities.is_empty() {
        faults.push((Fault::ReplicaMissing, "no API server is known by its lease".to_owned()));
    }
    if canaries.is_empty() {
        faults.push((
            Fault::CanaryFailed,
            "no policy refuses anything that a canary could try".to_owned(),
        ));
    }
    faults.sort();
    match faults.first() {
        Some((worst, what)) => AdmissionProof {
            truth: worst.truth(),
            reason: worst.reason(),
            message: what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        },
        None => AdmissionProof {
            truth: Truth::True,
            reason: "CanariesRefused",
            message: format!(
                "policies {expected_hash} refused {} canaries on {} API server(s)",
                canaries.len(),
                fresh_identities.len()
            ),
        },
    }
}

/// What is wrong with one answer; `None` when it proves its policy.
fn weigh(canary: &Canary, answer: &Answer, all_pass: bool, hash: &str) -> Option<(Fault, String)> {
    let refusal = match &answer.negative {
        Outcome::Passed if all_pass => {
            return Some((
                Fault::PluginDisabled,
                "every canary passed; no policy is evaluated".to_owned(),
            ));
        }
        Outcome::Passed => return Some((Fault::NoBinding, "the canary passed".to_owned())),
        Outcome::Failed(why) => return Some((Fault::CanaryFailed, why.clone())),
        Outcome::Refused(message) => message,
    };
    let door = format!(
        "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: ",
        canary.policy, canary.binding
    );
    let Some((_, said)) = refusal.split_once(&door) else {
        return Some((Fault::RefusedByOther, refusal.clone()));
    };
    if !said.starts_with(&prefix(hash)) {
        // Ours by name; a message without our prefix at all is an error of the expression.
        let fault = if said.starts_with("[cloison ") {
            Fault::OldHash
        } else {
            Fault::RefusedByOther
        };
        return Some((fault, said.to_owned()));
    }
    match &answer.positive {
        Outcome::Passed => None,
        Outcome::Refused(why) => Some((Fault::ControlRefused, why.clone())),
        Outcome::Failed(why) => Some((Fault::CanaryFailed, why.clone())),
    }
}
