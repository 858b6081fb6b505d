//! What is against a workload's dealings with Secrets, out of the stores, and what its own settings make of it.

use k8s_openapi::jiff::Timestamp;

use super::context::Context;
use super::judge::Proof;
use crate::admission::overrides;
use crate::api::AiWorkload;
use crate::api::conditions::Truth;
use crate::api::policy::AiSecurityPolicySpec;
use crate::api::stage::ControlMode;
use crate::api::workload::{Delivery, Immutability, VolumeEncryption};
use crate::compliance::checks::{self, Settings, account};
use crate::compliance::id::{ENC_02, ENC_04};
use crate::compliance::{Assurance, Finding, RuleId, Subject};
use crate::network::world::WorkloadKey;

/// Everything that is known against a workload and that no Waiver covers, and whether its own settings are kept.
pub fn look(
    ctx: &Context,
    key: &WorkloadKey,
    workload: &AiWorkload,
    policy: &AiSecurityPolicySpec,
    now: Timestamp,
) -> (Vec<Finding>, Option<Proof>) {
    let overrides = overrides(policy, now);
    let settings = Settings::of(&workload.spec, policy, &overrides);
    let WorkloadKey { namespace, name } = key;
    let subject = Subject::namespaced("AiWorkload", namespace, name);
    let mut findings = checks::workload(&subject, &settings);
    let storage = ctx.storage.borrow().clone();
    let pods = ctx.caches.pod_facts.of(key);
    let takes_secrets = pods.iter().any(|facts| !facts.secrets.is_empty());
    for facts in pods {
        findings.extend(checks::pod(&facts, namespace, &storage, &subject, &settings));
    }
    let used = ctx.caches.pod_facts.accounts(namespace);
    let used = used.iter().map(|(account, user)| (account.as_str(), user.as_str()));
    let shared = account::shared(namespace, used).into_iter();
    findings.extend(shared.filter(|(user, _)| user == name).map(|(_, finding)| finding));
    findings.extend(ctx.rights.borrow().get(namespace).into_iter().flatten().cloned());
    let findings = checks::heard(findings, &settings);
    // What a workload itself asks for is not kept because somebody waived it.
    let kept = kept(&settings, &findings, takes_secrets);
    let waived = ctx.waived.borrow().clone();
    let told = findings
        .into_iter()
        .filter(|it| !waived.covers(namespace, name, &it.rule));
    (checks::merged(told.collect()), kept)
}

/// Whether what the workload itself asks for holds; `None` where it asks for nothing that could be broken. Secrets are not
/// listed, because that right would be one on their data: what only they could tell is Unknown as soon as a pod takes one.
fn kept(settings: &Settings<'_>, findings: &[Finding], takes_secrets: bool) -> Option<Proof> {
    let asked = settings.secrets?;
    let files = [
        ENC_04.rule("reference"),
        ENC_04.rule("env-from"),
        ENC_04.rule("literal"),
    ];
    let volumes = [ENC_02.rule("storage-class"), ENC_02.rule("scratch")];
    let rows: [(bool, &[RuleId], &str, &'static str); 2] = [
        (
            asked.delivery == Some(Delivery::FilesOnly),
            &files,
            "delivery",
            "NotFilesOnly",
        ),
        (
            asked.volumes == Some(VolumeEncryption::Encrypted),
            &volumes,
            "volumes",
            "VolumeNotEncrypted",
        ),
    ];
    let mut unread = Vec::new();
    for (_, rules, setting, reason) in rows.into_iter().filter(|(asked, ..)| *asked) {
        let about = || findings.iter().filter(|finding| rules.contains(&finding.rule));
        let node_disk = |finding: &&Finding| finding.rule == ENC_02.rule("scratch");
        let seen = |finding: &&Finding| finding.assurance != Assurance::Unknown && !node_disk(finding);
        if let Some(broken) = about().find(seen) {
            let message = format!("spec.secrets.{setting} is not kept: {}", broken.message);
            return Some(Proof {
                truth: Truth::False,
                reason,
                message,
            });
        }
        let switched_off = rules.iter().any(|rule| settings.mode(rule) == ControlMode::Disabled);
        if switched_off || about().next().is_some() {
            unread.push(setting);
        }
    }
    if takes_secrets {
        unread.extend((asked.immutability == Some(Immutability::Required)).then_some("immutability"));
        unread.extend(asked.max_age_days.map(|_| "maxAgeDays"));
    }
    (!unread.is_empty()).then(|| Proof {
        truth: Truth::Unknown,
        reason: "SettingsNotRead",
        message: format!("whether spec.secrets is kept is not known: {}", unread.join(", ")),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::stage::Stage;
    use crate::api::workload::WorkloadSecrets;

    fn word(asked: &serde_json::Value, findings: &[Finding], off: bool) -> Option<(Truth, &'static str)> {
        let spec = json!({"stage": "Training", "owner": "t@ville.example", "purpose": "For a test", "secrets": asked});
        let workload = serde_json::from_value(spec).unwrap();
        let controls = json!([{"id": "ENC-02", "mode": "Disabled", "reason": "for a test of modes"}]);
        let policy = json!({"controls": if off { controls } else { json!([]) }});
        let policy: AiSecurityPolicySpec = serde_json::from_value(policy).unwrap();
        let overrides = overrides(&policy, Timestamp::UNIX_EPOCH);
        let settings = Settings::of(&workload, &policy, &overrides);
        kept(&settings, findings, true).map(|proof| (proof.truth, proof.reason))
    }

    #[test]
    fn without_a_secret_there_is_nothing_that_only_it_could_tell() {
        let asked = WorkloadSecrets {
            immutability: Some(Immutability::Required),
            max_age_days: Some(30),
            ..WorkloadSecrets::default()
        };
        let policy = AiSecurityPolicySpec::default();
        let settings = Settings {
            secrets: Some(&asked),
            ..Settings::without_workload(Stage::Training, &policy, &[])
        };
        assert_eq!(kept(&settings, &[], false), None);
        let told = kept(&settings, &[], true).map(|proof| proof.message);
        let message = "whether spec.secrets is kept is not known: immutability, maxAgeDays";
        assert_eq!(told.as_deref(), Some(message));
    }

    #[test]
    fn what_a_workload_asks_for_is_kept_broken_or_not_known() {
        let finding = |rule: RuleId| Finding::new(rule, Subject::namespaced("AiWorkload", "ns", "w"), "m");
        let by_env = finding(ENC_04.rule("reference"));
        let plain = finding(ENC_02.rule("storage-class"));
        let unknown = plain.clone().with_assurance(Assurance::Unknown);
        let (files, encrypted) = (json!({"delivery": "FilesOnly"}), json!({"volumes": "Encrypted"}));
        assert_eq!(word(&files, &[], false), None);
        assert_eq!(
            word(&files, std::slice::from_ref(&by_env), false),
            Some((Truth::False, "NotFilesOnly"))
        );
        assert_eq!(
            word(&json!({}), &[by_env, plain.clone()], false),
            None,
            "nothing is asked for"
        );
        assert_eq!(word(&encrypted, &[], false), None);
        assert_eq!(
            word(&encrypted, &[plain], false),
            Some((Truth::False, "VolumeNotEncrypted"))
        );
        let not_read = Some((Truth::Unknown, "SettingsNotRead"));
        assert_eq!(word(&encrypted, &[unknown], false), not_read);
        assert_eq!(word(&encrypted, &[finding(ENC_02.rule("scratch"))], false), not_read);
        assert_eq!(word(&encrypted, &[], true), not_read, "nobody looks");
        assert_eq!(word(&json!({"immutability": "Required"}), &[], false), not_read);
        assert_eq!(word(&json!({"maxAgeDays": 30}), &[], false), not_read);
        assert_eq!(word(&json!({"immutability": "Preferred"}), &[], false), None);
    }
}
