//! How old a Secret is and whether it may still change: from its metadata and the field `immutable`, never from its data.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Settings;
use crate::api::workload::Immutability;
use crate::compliance::finding::{Finding, Location, Subject};
use crate::compliance::id::ENC_06;

/// What is known of a Secret that pods of a workload take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// When it was created; `None` for one that is still to be.
    pub created: Option<Timestamp>,
    /// Whether it can never change.
    pub immutable: bool,
}

/// What is against a Secret at `now`. Its age is that of the object: a new value comes under a new name, as an immutable one
/// must.
pub fn secret(facts: SecretFacts, subject: &Subject, settings: &Settings<'_>, now: Timestamp) -> Vec<Finding> {
    let limit = settings.max_age_days();
    let old = facts.created.zip(limit).and_then(|(created, days)| {
        let age = now.duration_since(created);
        (age > SignedDuration::from_hours(24 * i64::from(days))).then(|| {
            let message = format!("it is {} days old, and {days} are allowed", age.as_hours() / 24);
            Finding::new(ENC_06.rule("age"), subject.clone(), message).at(Location::field("metadata.creationTimestamp"))
        })
    });
    let asked = settings.secrets.and_then(|secrets| secrets.immutability);
    let mutable = asked.filter(|_| !facts.immutable).map(|asked| {
        let word = match asked {
            Immutability::Required => "requires",
            Immutability::Preferred => "prefers",
        };
        let message = format!("it may still change, and the AiWorkload {word} that it cannot");
        Finding::new(ENC_06.rule("immutable"), subject.clone(), message).at(Location::field("immutable"))
    });
    super::heard(old.into_iter().chain(mutable).collect(), settings)
}
