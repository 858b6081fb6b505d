//! What the webhook decides: what neither the schema nor CEL can see, because it takes a look at other objects.
//!
//! Pure: a request and what was looked up go in, an answer comes out. [`needs`] says what is to be looked up besides the
//! world. The verdicts are those of the other legs, so that `cloison check` says the same. What is refused follows the two
//! axes of every control: the namespace's mode and the control's own, and an update is judged by what it adds.

mod claim;
mod settings;
mod tenant_policy;
mod waiver;
mod wire;
mod workload;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, Operation};

pub use settings::{encryption_in_a_file, policy_in_a_file};
pub use tenant_policy::in_a_file as tenant_policy_in_a_file;
pub use waiver::in_a_file as waiver_in_a_file;
pub use wire::{Malformed, read};

use super::clause::prefix;
use super::modes::{Modes, overrides};
use crate::api::names;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::{ControlMode, Mode, NamespaceStage};
use crate::compliance::Finding;
use crate::network::world::{Namespace, WorkloadKey, World};

/// A request for admission.
pub type Request = AdmissionRequest<DynamicObject>;

/// Most problems that a message tells one by one.
const TOLD: usize = 3;
/// Longest part of a message that one problem takes, in characters.
const PROBLEM_LIMIT: usize = 270;

/// What is known when a request comes.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Namespaces, workloads, Waivers, the organisation's policy.
    pub world: World,
    /// The policy is missing or unreadable: what the world says of it are defaults, by which nothing is refused.
    pub policy_missing: bool,
    /// Names the generation of the policies in messages.
    pub hash: String,
}

impl Sight {
    /// The policy alone, with no look at anything else.
    fn of(policy: &AiSecurityPolicySpec) -> Self {
        let mut sight = Self::default();
        sight.world.policy = Arc::new(policy.clone());
        sight
    }
}

/// Something that is looked up for one request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookup {
    /// A Namespace that the world does not know yet.
    Namespace(String),
    /// The PersistentVolume that a claim names.
    Volume(String),
    /// How many pods of a workload run.
    Pods(WorkloadKey),
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The Namespace; `None` where there is none.
    Namespace(Option<Namespace>),
    /// The PersistentVolume; `None` where there is none.
    Volume(Option<Box<PersistentVolume>>),
    /// So many run.
    Pods(usize),
    /// It could not be looked up, and why.
    Failed(String),
}

/// Everything that was looked up.
pub type LookedUp = BTreeMap<Lookup, Found>;

/// What the webhook says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Why it is refused; empty where it is not.
    pub refused: Vec<Finding>,
    /// What the caller is told although it passes.
    pub warnings: Vec<String>,
    /// What is only written to the audit log.
    pub observed: Vec<Finding>,
    /// Why nothing could be decided, which is a refusal too.
    pub undecided: Option<String>,
}

impl Answer {
    /// Whether the request passes.
    pub const fn allows(&self) -> bool {
        self.refused.is_empty() && self.undecided.is_none()
    }

    fn undecided(why: impl Into<String>) -> Self {
        Self {
            undecided: Some(why.into()),
            ..Self::default()
        }
    }

    fn warning(text: impl Into<String>) -> Self {
        Self {
            warnings: vec![text.into()],
            ..Self::default()
        }
    }
}

/// What there is to say to an object of a file as a new one: neither who asks is known, nor what is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InAFile {
    /// The webhook would refuse it for these.
    pub refused: Vec<Finding>,
    /// It would pass with these: told to whoever asks, or to the audit log alone.
    pub told: Vec<Finding>,
}

impl From<Answer> for InAFile {
    fn from(answer: Answer) -> Self {
        Self {
            refused: answer.refused,
            told: answer.observed,
        }
    }
}

/// What is judged, by resource. Pods never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Workload,
    Policy,
    Encryption,
    Waiver,
    TenantPolicy,
    Claim,
}

impl Subject {
    const fn is_namespaced(self) -> bool {
        matches!(self, Self::Workload | Self::TenantPolicy | Self::Claim)
    }

    fn of(request: &Request) -> Option<Self> {
        if request.sub_resource.as_deref().is_some_and(|sub| !sub.is_empty()) {
            return None;
        }
        let resource = &request.resource;
        let kind = (&*resource.group, &*resource.version, &*resource.resource);
        match kind {
            (names::GROUP, names::VERSION, "aiworkloads") => Some(Self::Workload),
            (names::GROUP, names::VERSION, "aisecuritypolicies") => Some(Self::Policy),
            (names::GROUP, names::VERSION, "secretencryptions") => Some(Self::Encryption),
            (names::GROUP, names::VERSION, "waivers") => Some(Self::Waiver),
            ("networking.k8s.io", "v1", "networkpolicies") => Some(Self::TenantPolicy),
            ("", "v1", "persistentvolumeclaims") => Some(Self::Claim),
            _ => None,
        }
    }
}

/// What has to be looked up before a request can be judged; nothing for most.
pub fn needs(request: &Request, sight: &Sight) -> Vec<Lookup> {
    let namespace = request.namespace.clone().unwrap_or_default();
    let mut needed = Vec::new();
    let Some(subject) = Subject::of(request) else {
        return needed;
    };
    match (subject, &request.operation) {
        (Subject::Workload, Operation::Delete) => {
            needed.push(Lookup::Pods(WorkloadKey::new(&namespace, &request.name)));
            return needed;
        }
        (Subject::Claim, Operation::Create | Operation::Update) => {
            needed.extend(claim::volume(request).map(Lookup::Volume));
        }
        _ => {}
    }
    if subject.is_namespaced() && !sight.world.namespaces.contains_key(&namespace) {
        needed.push(Lookup::Namespace(namespace));
    }
    needed
}

/// Judges a request. `now` is only for what has a date.
pub fn review(request: &Request, sight: &Sight, found: &LookedUp, now: Timestamp) -> Answer {
    let Some(subject) = Subject::of(request) else {
        let resource = &request.resource;
        return Answer::undecided(format!(
            "nothing is known here of {}{} in {}/{}: the webhook is configured for what it does not judge; delete the \
             ValidatingWebhookConfiguration, and the controller writes it again",
            resource.resource,
            request
                .sub_resource
                .as_deref()
                .map(|sub| format!("/{sub}"))
                .unwrap_or_default(),
            resource.group,
            resource.version
        ));
    };
    match (&request.operation, subject) {
        (Operation::Delete, Subject::Workload) => return workload::deleted(request, found),
        (Operation::Create | Operation::Update, _) => {}
        // Nothing else is refused by us.
        (Operation::Delete | Operation::Connect, _) => return Answer::default(),
    }
    let Some(object) = &request.object else {
        return Answer::undecided("the request has no object");
    };
    let sight = &match known(subject, request, sight, found) {
        Ok(sight) => sight,
        Err(why) => return Answer::undecided(why),
    };
    match subject {
        Subject::Workload => workload::review(request, object, sight, now),
        Subject::Policy => settings::policy(request, object, sight, now),
        Subject::Encryption => settings::encryption(request, object, sight, now),
        Subject::Waiver => waiver::review(request, object, sight, now),
        Subject::TenantPolicy => tenant_policy::review(request, object, sight, now),
        Subject::Claim => claim::review(request, object, sight, found, now),
    }
}

/// The world with the Namespace of the request, which may be younger than it.
fn known<'s>(
    subject: Subject,
    request: &Request,
    sight: &'s Sight,
    found: &LookedUp,
) -> Result<Cow<'s, Sight>, String> {
    let name = request.namespace.clone().unwrap_or_default();
    if !subject.is_namespaced() || sight.world.namespaces.contains_key(&name) {
        return Ok(Cow::Borrowed(sight));
    }
    match found.get(&Lookup::Namespace(name.clone())) {
        // Then nothing can be created in it.
        Some(Found::Namespace(None)) => Ok(Cow::Borrowed(sight)),
        Some(Found::Namespace(Some(namespace))) => {
            let mut sight = sight.clone();
            sight.world.namespaces.insert(name, namespace.clone());
            Ok(Cow::Owned(sight))
        }
        Some(Found::Failed(why)) => Err(format!("Namespace {name} could not be read: {why}; try again")),
        _ => Err(format!("Namespace {name} was not looked up; try again")),
    }
}

/// Where something is judged, and how strictly.
struct Place {
    stage: Option<NamespaceStage>,
    mode: Mode,
}

impl Place {
    /// A namespace. One without a stage is governed by nobody: what is found there is told and no more.
    fn of(sight: &Sight, namespace: &str) -> Self {
        let facts = sight.world.namespaces.get(namespace);
        let stage = facts.and_then(|facts| facts.stage);
        let mode = facts.map_or(Mode::Warn, |facts| facts.mode);
        Self {
            stage,
            mode: if stage.is_none() { mode.min(Mode::Warn) } else { mode },
        }
    }

    /// The whole cluster, which has no mode of its own.
    const fn cluster() -> Self {
        Self {
            stage: None,
            mode: Mode::Enforce,
        }
    }
}

/// Sorts findings by what is done about them: the weaker of the two modes holds.
fn answer(findings: Vec<Finding>, place: &Place, sight: &Sight, now: Timestamp) -> Answer {
    let modes = Modes::new(overrides(&sight.world.policy, now));
    let mut answer = Answer::default();
    for finding in findings {
        let control = modes.of(&finding.rule, place.stage);
        let mode = if sight.policy_missing {
            place.mode.min(Mode::Warn)
        } else {
            place.mode
        };
        match (control, mode) {
            (ControlMode::Disabled, _) => {}
            (ControlMode::Enforce, Mode::Enforce) => answer.refused.push(finding),
            (ControlMode::Enforce, Mode::Warn) => answer.warnings.push(told(&sight.hash, &finding)),
            (ControlMode::Enforce, Mode::Audit) | (ControlMode::Audit, _) => answer.observed.push(finding),
        }
    }
    answer
}

/// Those findings that an earlier version of the object did not have: a check ratchets. Places may move.
fn added(now: Vec<Finding>, before: &[Finding]) -> Vec<Finding> {
    let same = |a: &Finding, b: &Finding| (&a.rule, &a.message) == (&b.rule, &b.message);
    let new = |finding: &Finding| !before.iter().any(|old| same(old, finding));
    now.into_iter().filter(new).collect()
}

fn told(hash: &str, finding: &Finding) -> String {
    format!("{}{}", prefix(hash), shorten(finding.line()))
}

fn shorten(line: String) -> String {
    if line.chars().count() <= PROBLEM_LIMIT {
        return line;
    }
    let mut short: String = line.chars().take(PROBLEM_LIMIT - 3).collect();
    short.push_str("...");
    short
}

/// An object as one of our types. One that this version cannot read cannot be judged, and passes only as an update of one
/// that could not be read before either.
fn parse<K: kube::Resource + serde::de::DeserializeOwned>(
    request: &Request,
    object: &DynamicObject,
) -> Result<K, Answer> {
    object.clone().try_parse::<K>().map_err(|error| {
        let why = format!(
            "this version of Cloison cannot read the {}: {error}; use the fields of the installed version",
            request.kind.kind
        );
        let before = request.old_object.as_ref().map(|old| old.clone().try_parse::<K>());
        match before {
            Some(Err(_)) => Answer::warning(format!("[cloison] {why}")),
            Some(Ok(_)) | None => Answer::undecided(why),
        }
    })
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should say where"
)]
mod tests;
