//! How old the proofs behind the cluster's conditions can be. Their time is in no object, for nothing is written whose only
//! difference is a timestamp: what is known is since when the answer holds, how old the proof may be before the controller
//! says Unknown, and since when nobody says so any more.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::lease::Pulse;
use super::out;
use crate::api::AiSecurityPolicy;
use crate::api::conditions::{find, types};
use crate::api::policy::EnforcementProof;
use crate::controller::Asked;

/// What is known about the age of one proof.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proof {
    /// The condition.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Since when its status is what it is.
    pub since: Option<Timestamp>,
    /// Its proof is at least so old: the controller has been silent as long.
    pub at_least_seconds: Option<i64>,
    /// Its proof is at most so old; `None` where nothing limits it, or nothing is proven.
    pub at_most_seconds: Option<i64>,
    /// For people: one line.
    pub message: String,
}

/// The proofs of the cluster.
pub(super) fn of(policy: &AiSecurityPolicy, pulse: &Pulse, now: Timestamp) -> Vec<Proof> {
    let packets = policy.spec.network.enforcement_proof != EnforcementProof::None;
    let asked_for = packets.then_some(types::ENFORCEMENT_VERIFIED);
    let kinds = [types::SECRETS_ENCRYPTED, types::ADMISSION_ENFORCED]
        .into_iter()
        .chain(asked_for);
    kinds.map(|kind| proof(policy, pulse, now, kind)).collect()
}

fn proof(policy: &AiSecurityPolicy, pulse: &Pulse, now: Timestamp, kind: &'static str) -> Proof {
    let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice());
    let condition = find(conditions.unwrap_or_default(), kind);
    let since = condition.map(|condition| condition.last_transition_time.0);
    let (Some(condition), Some(since)) = (condition.filter(|c| c.status == "True"), since) else {
        let message = since.map_or_else(
            || "nothing is proven yet".to_owned(),
            |since| format!("nothing is proven since {}", out::age(now, since)),
        );
        return Proof {
            kind,
            since,
            at_least_seconds: None,
            at_most_seconds: None,
            message: format!("{kind}: {message}"),
        };
    };
    let silent = pulse
        .renewed
        .filter(|_| pulse.stale == Some(true))
        .map(|renewed| now.duration_since(renewed).max(SignedDuration::ZERO));
    let limit = (kind != types::ADMISSION_ENFORCED)
        .then(|| SignedDuration::try_from(Asked::of(Some(&policy.spec), None).max_age).ok())
        .flatten();
    let held = format!("{kind}: {} for {}", condition.status, out::age(now, since));
    let lives = match pulse.stale {
        Some(true) if silent.is_none() => ", and no controller looks again",
        None => ", if a controller is alive",
        Some(_) => "",
    };
    let at_most = limit.map(|limit| limit + silent.unwrap_or_default());
    let message = match (silent, at_most) {
        (None, Some(limit)) => format!(
            "{held}; its proof is at most {} old (secrets.proofMaxAgeHours){lives}",
            out::span(limit)
        ),
        (Some(silent), Some(limit)) => format!(
            "{held}; its proof is at least {} old, for nobody looked since, and at most {}",
            out::span(silent),
            out::span(limit)
        ),
        (None, None) => format!(
            "{held}; the controller asks the API servers again every {} s or more (intervalSeconds){lives}",
            policy.spec.interval_seconds
        ),
        (Some(silent), None) => format!(
            "{held}; its proof is at least {} old: nobody asked the API servers since",
            out::span(silent)
        ),
    };
    Proof {
        kind,
        since: Some(since),
        at_least_seconds: silent.map(|silent| silent.as_secs()),
        at_most_seconds: at_most.map(|limit| limit.as_secs()),
        message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(stale: Option<bool>, renewed: Option<&str>) -> Vec<String> {
        let held = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-11-21T13:00:00Z"});
        let policy = serde_json::from_value(json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"},
            "spec": {"secrets": {"proofMaxAgeHours": 36}, "intervalSeconds": 90, "network": {"enforcementProof": "OnChange"}},
            "status": {"conditions": [
                held("SecretsEncrypted", "True"), held("AdmissionEnforced", "True"), held("EnforcementVerified", "True"),
            ]},
        }));
        let pulse = Pulse {
            stale,
            holder: None,
            renewed: renewed.map(|time| time.parse().unwrap()),
            message: String::new(),
        };
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let proofs = of(&policy.unwrap(), &pulse, now);
        proofs.into_iter().map(|proof| proof.message).collect()
    }

    #[test]
    fn a_proof_is_as_old_as_the_policy_lets_it_be_and_as_the_silence_of_the_controller() {
        assert_eq!(
            messages(Some(false), Some("2026-11-22T11:59:58Z")),
            [
                "SecretsEncrypted: True for 23 h; its proof is at most 36 h old (secrets.proofMaxAgeHours)",
                "AdmissionEnforced: True for 23 h; the controller asks the API servers again every 90 s or more \
                 (intervalSeconds)",
                "EnforcementVerified: True for 23 h; its proof is at most 36 h old (secrets.proofMaxAgeHours)",
            ]
        );
        assert_eq!(
            messages(Some(true), Some("2026-11-22T07:00:00Z")),
            [
                "SecretsEncrypted: True for 23 h; its proof is at least 5 h old, for nobody looked since, and at most 41 h",
                "AdmissionEnforced: True for 23 h; its proof is at least 5 h old: nobody asked the API servers since",
                "EnforcementVerified: True for 23 h; its proof is at least 5 h old, for nobody looked since, and at most 41 h",
            ]
        );
        assert!(messages(Some(true), None)[0].ends_with("(secrets.proofMaxAgeHours), and no controller looks again"));
        assert!(messages(None, None)[1].ends_with("(intervalSeconds), if a controller is alive"));
    }

    #[test]
    fn what_is_not_true_has_no_proof() {
        let policy: AiSecurityPolicy = serde_json::from_value(json!({
            "apiVersion": "cloison.dev/v1alpha1", "kind": "AiSecurityPolicy", "metadata": {"name": "default"}, "spec": {},
            "status": {"conditions": [{
                "type": "AdmissionEnforced", "status": "Unknown", "reason": "R", "message": "",
                "lastTransitionTime": "2026-11-22T11:00:00Z",
            }]},
        }))
        .unwrap();
        let pulse = Pulse {
            stale: Some(false),
            holder: None,
            renewed: None,
            message: String::new(),
        };
        let proofs = of(&policy, &pulse, "2026-11-22T12:00:00Z".parse().unwrap());
        let messages: Vec<&str> = proofs.iter().map(|proof| proof.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "SecretsEncrypted: nothing is proven yet",
                "AdmissionEnforced: nothing is proven since 60 min"
            ]
        );
        assert!(proofs.iter().all(|proof| proof.at_most_seconds.is_none()));
    }
}
