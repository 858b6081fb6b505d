//! What is said of what was seen. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kube::ResourceExt;

use super::Maybe;
use super::ends::Ends;
use super::powers::Powers;
use super::weak;
use super::webhook::Webhook;
use crate::admission::PolicySet;
use crate::api::conditions::{find, types};
use crate::api::stage::{Mode, NamespaceStage};
use crate::api::{AiSecurityPolicy, names};
use crate::cli::lease::Pulse;
use crate::cli::out;
use crate::cli::plan::Survey;

/// The oldest API servers on which all policies compile.
const FLOOR: (u32, u32) = (1, 33);
/// Lines of one kind that are printed.
const SHOWN: usize = 10;

/// Everything that was read.
pub(super) struct Seen {
    pub controller: Pulse,
    pub off: Option<String>,
    pub policy: Maybe<AiSecurityPolicy>,
    pub version: String,
    /// By name the hash on their label; `None` where they may not be listed.
    pub policies: Option<BTreeMap<String, String>>,
    pub bindings: Option<BTreeMap<String, String>>,
    pub webhook: Webhook,
    pub ends: Option<Ends>,
    pub powers: Option<Powers>,
    pub surveys: Vec<Survey>,
    /// What should be in force.
    pub set: PolicySet,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Fine,
    Attention,
    Unknown,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Attention => "ATTENTION",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub word: Word,
    pub about: &'static str,
    pub message: String,
}

pub(super) fn verdict(about: &'static str, word: Word, message: impl Into<String>) -> Verdict {
    let message = message.into();
    Verdict { word, about, message }
}

impl Seen {
    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let mut all = vec![self.controller(), self.version(), self.policy()];
        all.extend(self.off.iter().map(|off| verdict("stop button", Word::Attention, off)));
        all.extend([self.generation(), self.refusing()]);
        all.extend(self.webhook.verdicts());
        all.extend(self.controls());
        all.extend(self.ends());
        all.extend(self.powers());
        all
    }

    fn controller(&self) -> Verdict {
        let word = match self.controller.stale {
            Some(false) => Word::Fine,
            Some(true) => Word::Attention,
            None => Word::Unknown,
        };
        verdict("controller", word, &self.controller.message)
    }

    fn version(&self) -> Verdict {
        let mut numbers = self.version.trim_start_matches('v').split('.');
        let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
        let (word, more) = match (next(), next()) {
            (Some(major), Some(minor)) if (major, minor) >= FLOOR => (Word::Fine, ""),
            (Some(_), Some(_)) => (Word::Attention, "; the policies need 1.33 or newer on every API server"),
            _ => (Word::Unknown, ""),
        };
        verdict(
            "API server",
            word,
            format!("the one that answered is {}{more}", self.version),
        )
    }

    fn policy(&self) -> Verdict {
        let about = "AiSecurityPolicy";
        match &self.policy {
            None => verdict(about, Word::Unknown, "you may not read it"),
            Some(None) => verdict(
                about,
                Word::Attention,
                "there is none: nothing is written and nothing is loosened until `default` is there",
            ),
            Some(Some(policy)) => verdict(
                about,
                Word::Fine,
                format!("mode {} where no namespace says otherwise", policy.spec.mode),
            ),
        }
    }

    /// Whether what is stored is what would be generated now.
    fn generation(&self) -> Verdict {
        let about = "policies";
        let (Some(policies), Some(bindings)) = (&self.policies, &self.bindings) else {
            return verdict(about, Word::Unknown, "you may not list admission policies and bindings");
        };
        let hash = &self.set.hash;
        let wrong = |stored: &BTreeMap<String, String>, name: String| match stored.get(&name) {
            None => Some(format!("{name} is missing")),
            Some(other) if other != hash => Some(format!("{name} is of {other}")),
            Some(_) => None,
        };
        let meant = self.set.policies.iter().map(|it| wrong(policies, it.name_any()));
        let meant = meant.chain(self.set.bindings.iter().map(|it| wrong(bindings, it.name_any())));
        let wrong: Vec<String> = meant.flatten().collect();
        let many = out::count(self.set.policies.len(), "policy object");
        if wrong.is_empty() {
            return verdict(
                about,
                Word::Fine,
                format!("{many} and their bindings are stored, of generation {hash}"),
            );
        }
        let more = format!("generation {hash} is meant: {}", first(&wrong));
        verdict(about, Word::Attention, more)
    }

    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let policy = self.policy.as_ref()?.as_ref()?;
        let told = find(policy.status.as_ref()?.conditions.as_slice(), kind)?;
        Some((told.status.clone(), format!("{}: {}", told.reason, told.message)))
    }

    /// The proof, while somebody looks after it.
    fn refusing(&self) -> Verdict {
        let about = "door";
        match self.condition(types::ADMISSION_ENFORCED) {
            _ if self.controller.stale == Some(true) => verdict(
                about,
                Word::Unknown,
                "what is stored refuses without us; that it does was last seen while the controller lived",
            ),
            Some((status, told)) if status == "True" => {
                verdict(about, Word::Fine, format!("AdmissionEnforced: {told}"))
            }
            Some((status, told)) if status == "False" => {
                verdict(about, Word::Attention, format!("AdmissionEnforced is False: {told}"))
            }
            Some((_, told)) => verdict(about, Word::Unknown, format!("AdmissionEnforced is Unknown: {told}")),
            None => verdict(
                about,
                Word::Unknown,
                "nobody has said yet whether the API servers refuse",
            ),
        }
    }

    fn controls(&self) -> Vec<Verdict> {
        match &self.policy {
            None => vec![verdict(
                "controls",
                Word::Unknown,
                "whether some are weaker than built in is in the AiSecurityPolicy, which you may not read",
            )],
            // Without one nothing is said of controls, and what is stored is another line's.
            Some(None) => Vec::new(),
            Some(Some(policy)) => weak::verdicts(&policy.spec, self.webhook.now),
        }
    }

    fn ends(&self) -> Vec<Verdict> {
        match &self.ends {
            None => vec![verdict("Waivers", Word::Unknown, "you may not list them")],
            Some(ends) => ends.verdicts(),
        }
    }

    /// Admission judges no writes of its own policies: rights do.
    fn powers(&self) -> Vec<Verdict> {
        let Some(powers) = &self.powers else {
            return vec![verdict("rights", Word::Unknown, "you may not list roles and bindings")];
        };
        let lines = |found: &std::collections::BTreeSet<String>| first(&found.iter().cloned().collect::<Vec<_>>());
        let over = if powers.over_policies.is_empty() {
            verdict(
                "rights",
                Word::Fine,
                "nobody but system:masters may change the admission policies",
            )
        } else {
            let lines = lines(&powers.over_policies);
            verdict(
                "rights",
                Word::Attention,
                format!("may change or delete the admission policies: {lines}"),
            )
        };
        let beyond = if powers.beyond_stage.is_empty() {
            verdict(
                "accounts",
                Word::Fine,
                "no account of a stage namespace holds a role elsewhere",
            )
        } else {
            let lines = lines(&powers.beyond_stage);
            let message =
                format!("accounts of stage namespaces hold roles beyond them, for whoever wears them there: {lines}");
            verdict("accounts", Word::Attention, message)
        };
        vec![over, beyond]
    }

    /// Whether refusals are proven now.
    fn proven(&self) -> bool {
        self.off.is_none() && self.refusing().word == Word::Fine
    }

    pub(super) fn text(&self, verdicts: &[Verdict], notes: &[String]) -> String {
        let rows = verdicts
            .iter()
            .map(|it| vec![it.word.as_str().to_owned(), it.about.to_owned(), it.message.clone()]);
        let mut text = out::table(&["", "ABOUT", "WHAT IS SEEN"], rows.collect());
        let about = |survey: &&Survey| survey.stage.or(survey.guess).is_some();
        let rows: Vec<Vec<String>> = self.surveys.iter().filter(about).map(|it| self.row(it)).collect();
        let table = out::table(&["NAMESPACE", "STAGE", "MODE", "DOOR", "NETWORK", "NEXT"], rows);
        let _ = if table.is_empty() {
            writeln!(text, "\nno namespace has a stage, or looks as if it should have one")
        } else {
            write!(text, "\n{table}")
        };
        for note in notes {
            let _ = writeln!(text, "note: {}", out::clean(note));
        }
        text
    }

    fn row(&self, survey: &Survey) -> Vec<String> {
        let stage = match (survey.stage, survey.guess) {
            (Some(stage), _) => stage.to_string(),
            (None, Some(guess)) => format!("looks like {guess}"),
            (None, None) => "-".to_owned(),
        };
        let staged = survey.stage.is_some_and(|stage| stage != NamespaceStage::Shared);
        let door = match survey.mode {
            _ if !staged => "-",
            _ if self.off.is_some() => "off",
            Mode::Audit => "audits",
            Mode::Warn => "warns",
            Mode::Enforce if self.proven() => "refuses",
            Mode::Enforce => "not seen refusing",
        };
        let network = match (survey.stage, survey.denied) {
            (None, _) => "-",
            (Some(_), true) => "denied by default",
            (Some(_), false) => "open",
        };
        let mode = survey.stage.map_or_else(|| "-".to_owned(), |_| survey.mode.to_string());
        let next = next(survey, staged);
        vec![
            survey.name.clone(),
            stage,
            mode,
            door.to_owned(),
            network.to_owned(),
            next,
        ]
    }
}

/// What stands in the way of the next step, or the step itself.
fn next(survey: &Survey, staged: bool) -> String {
    let name = &survey.name;
    let Some(stage) = survey.stage else {
        return format!(
            "an admin says which stage it has: kubectl label ns {name} {}=…",
            names::STAGE_LABEL
        );
    };
    if !staged {
        return "-".to_owned();
    }
    if survey.mode == Mode::Enforce {
        return if survey.sealed {
            "-".to_owned()
        } else {
            format!("it waits for its seal; new pods are refused until then: kubectl get events -n {name} ({stage})")
        };
    }
    let obstacles = survey.in_the_way();
    if obstacles.is_empty() {
        let label = names::MODE_LABEL;
        return format!("nothing is in the way: kubectl label ns {name} {label}=enforce --overwrite");
    }
    let obstacles = obstacles.join("; ");
    format!("{obstacles}; cloison plan -n {name}")
}

/// The first few.
pub(super) fn first(all: &[String]) -> String {
    let more = all.len().saturating_sub(SHOWN);
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown}, +{more} more")
    }
}
