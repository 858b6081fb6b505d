//! What a workload does with Secrets, and what its pods share with those of another stage, judged from what the API says of its
//! pods and of rights: one function for the controller, the command line and, at the door, admission. A Secret's data is never
//! an input.
//!
//! A check that cannot know says so with [`Assurance::Unknown`](super::Assurance), or leaves it out where nobody asked.

pub mod account;
pub mod config_map;
pub mod credentials;
pub mod delivery;
pub mod lifetime;
pub mod pod;
pub mod rights;
pub mod sharing;
pub mod volumes;

use std::collections::BTreeSet;

use super::catalogue::Catalogue;
use super::finding::{Finding, Location, Subject};
use super::id::{DAT_07, ENC_04, ENC_06, Family, RuleId, WKL_04};
use super::mode::ControlOverride;
use crate::api::network::ConnectTo;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::{ControlMode, NamespaceStage, Stage};
use crate::api::text::ObjectName;
use crate::api::workload::{AiWorkloadSpec, Classification, Delivery, WorkloadNetwork, WorkloadSecrets};
use pod::PodFacts;
use volumes::Storage;

/// What holds for the pods of one workload: its own settings under the policy's.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Its stage.
    pub stage: Stage,
    /// What it asks for itself.
    pub secrets: Option<&'a WorkloadSecrets>,
    /// Its flows: who declares the API server may hold a token for it.
    pub network: Option<&'a WorkloadNetwork>,
    /// How confidential its data is.
    pub classification: Classification,
    /// StorageClasses that the organisation says are encrypted.
    pub encrypted_classes: &'a [ObjectName],
    /// The oldest that the organisation lets a Secret be, in days.
    pub policy_max_age_days: Option<i32>,
    /// The modes of controls, as the policy changes them.
    pub overrides: &'a [ControlOverride],
}

impl<'a> Settings<'a> {
    /// Those of a workload under a policy. `overrides` are the policy's, at the moment.
    pub fn of(
        workload: &'a AiWorkloadSpec,
        policy: &'a AiSecurityPolicySpec,
        overrides: &'a [ControlOverride],
    ) -> Self {
        Self {
            secrets: workload.secrets.as_ref(),
            network: workload.network.as_ref(),
            classification: workload.data.classification,
            ..Self::without_workload(workload.stage, policy, overrides)
        }
    }

    /// Those of pods in a stage whose workload is not known.
    pub fn without_workload(stage: Stage, policy: &'a AiSecurityPolicySpec, overrides: &'a [ControlOverride]) -> Self {
        let of_policy = policy.secrets.as_ref();
        let listed = of_policy.and_then(|secrets| secrets.encrypted_storage_classes.as_deref());
        Self {
            stage,
            secrets: None,
            network: None,
            classification: Classification::default(),
            encrypted_classes: listed.unwrap_or_default(),
            policy_max_age_days: of_policy.and_then(|secrets| secrets.max_age_days),
            overrides,
        }
    }

    /// The mode of a rule here.
    pub fn mode(&self, rule: &RuleId) -> ControlMode {
        Catalogue::builtin().effective_mode(rule, NamespaceStage::from(self.stage), self.overrides)
    }

    /// How Secrets may reach its pods; `None` where only the mode of the rule says it. The looser word counts for nothing
    /// where the organisation refuses.
    fn delivery(&self) -> Option<Delivery> {
        let asked = self.secrets.and_then(|secrets| secrets.delivery)?;
        (asked == Delivery::FilesOnly || !self.is_looser()).then_some(asked)
    }

    fn is_looser(&self) -> bool {
        let asked = self.secrets.and_then(|secrets| secrets.delivery);
        let refused = self.mode(&ENC_04.rule("reference")) == ControlMode::Enforce;
        asked == Some(Delivery::EnvFromSecretsAllowed) && refused
    }

    /// The oldest that a Secret of its pods may be, in days: the stricter word of the workload and the policy.
    pub fn max_age_days(&self) -> Option<i32> {
        let asked = self.secrets.and_then(|secrets| secrets.max_age_days);
        asked.into_iter().chain(self.policy_max_age_days).min()
    }

    /// Whether it declares that it speaks with the API server.
    fn declares_api_server(&self) -> bool {
        let flows = self.network.and_then(|network| network.connect_to.as_deref());
        let is_api = |flow: &ConnectTo| flow.service.as_ref().is_some_and(|name| &**name == KUBERNETES_API);
        flows.unwrap_or_default().iter().any(is_api)
    }
}

/// The built-in service of the catalogue that is the API server.
const KUBERNETES_API: &str = "kubernetes-api";

/// Everything against one pod, or against the template of one, at fields below its `spec`. `workload` is whose it is.
pub fn pod(
    facts: &PodFacts,
    namespace: &str,
    storage: &Storage,
    subject: &Subject,
    settings: &Settings<'_>,
) -> Vec<Finding> {
    let mut findings = delivery::findings(facts, subject, settings);
    findings.extend(account::findings(facts, subject, settings));
    findings.extend(storage.findings(namespace, &facts.volumes, subject, settings));
    heard(findings, settings)
}

/// Everything against what a workload asks for: what is looser than the policy counts for nothing.
pub fn workload(subject: &Subject, settings: &Settings<'_>) -> Vec<Finding> {
    let looser = |field: &str, message: String| {
        Finding::new(ENC_06.rule("looser"), subject.clone(), message).at(Location::field(field))
    };
    let delivery = settings.is_looser().then(|| {
        let message = format!(
            "it allows variables from Secrets, and the policy refuses them in stage {}",
            settings.stage
        );
        looser("spec.secrets.delivery", message)
    });
    let asked = settings.secrets.and_then(|secrets| secrets.max_age_days);
    let ages = asked.zip(settings.policy_max_age_days);
    let age = ages.filter(|(asked, most)| asked > most).map(|(asked, most)| {
        let message = format!("it allows Secrets of {asked} days, and the policy {most}");
        looser("spec.secrets.maxAgeDays", message)
    });
    heard(delivery.into_iter().chain(age).collect(), settings)
}

/// Without what the policy switched off.
pub fn heard(mut findings: Vec<Finding>, settings: &Settings<'_>) -> Vec<Finding> {
    findings.retain(|finding| is_heard(finding, settings.stage.into(), settings.overrides));
    findings
}

/// Whether the policy wants to hear of a finding in a stage.
pub fn is_heard(finding: &Finding, stage: NamespaceStage, overrides: &[ControlOverride]) -> bool {
    Catalogue::builtin().effective_mode(&finding.rule, stage, overrides) != ControlMode::Disabled
}

/// Whether a finding is one of these checks' that the policy only reports in a stage: it is told, and stops nobody. Of
/// `Unknown` stages nothing is refused either.
pub fn is_only_reported(finding: &Finding, stage: Option<NamespaceStage>, overrides: &[ControlOverride]) -> bool {
    let shared = finding.rule == DAT_07.rule("shared-volume") || finding.rule == WKL_04.rule("mixed-device");
    let ours = shared || matches!(finding.control().family(), Family::Enc | Family::Iam);
    let mode = stage.map(|stage| Catalogue::builtin().effective_mode(&finding.rule, stage, overrides));
    ours && mode.is_none_or(|mode| mode < ControlMode::Enforce)
}

/// The same finding for many pods of one template is one.
pub fn merged(findings: Vec<Finding>) -> Vec<Finding> {
    let mut sorted = findings;
    sorted.sort();
    let mut seen = BTreeSet::new();
    sorted.retain(|finding| {
        let place = finding.at.as_ref().and_then(|at| at.field.clone());
        seen.insert((finding.rule.clone(), place, finding.message.clone()))
    });
    sorted
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "what a test writes down is its own")]
mod tests;
