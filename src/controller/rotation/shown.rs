//! One look of the rotation as metrics.

use crate::api::control_plane_report::KeyValues;
use crate::api::encryption_status::{KeyState, KeyStatus, Step};
use crate::cluster::telemetry::encryption::{EncryptionMetrics, KeyLabel, ResultLabel, StepLabel, ValuesLabels};
use crate::controller::evidence::RotationSeen;
use crate::encryption::rotation::told;
use crate::encryption::sweep::Tally;

/// Shows what was seen, and nothing that was shown before it.
pub(super) fn show(metrics: &EncryptionMetrics, seen: &RotationSeen, (converged, replicas): (usize, usize)) {
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.converged.set(number(converged));
    metrics.replicas.set(number(replicas));
    for step in Step::ALL {
        let gauge = metrics.step.get_or_create(&StepLabel { step: told::step(step) });
        gauge.set(i64::from(step == seen.decision.step));
    }
    metrics.values.clear();
    for found in &seen.values {
        metrics
            .values
            .get_or_create(&labels(found, &seen.keys))
            .set(found.count);
    }
    metrics.key_created.clear();
    metrics.key_writes.clear();
    let used = |key: &&KeyStatus| matches!(key.state, KeyState::Write | KeyState::Read);
    for key in seen.keys.iter().filter(used) {
        let label = KeyLabel {
            key: key.name.0.clone(),
        };
        let made = key.creation_time.0.as_second();
        metrics.key_created.get_or_create(&label).set(made);
        metrics.key_writes.get_or_create(&label).set(key.writes);
    }
}

/// Adds what one pass of the sweep did.
pub(super) fn count(metrics: &EncryptionMetrics, tally: &Tally) {
    let blocked = tally.all_blocked();
    for (result, number) in [
        ("rewritten", tally.rewritten),
        ("current", tally.current),
        ("gone", tally.gone),
        ("blocked", blocked),
    ] {
        metrics.swept.get_or_create(&ResultLabel { result }).inc_by(number);
    }
    metrics.blocked.set(i64::try_from(blocked).unwrap_or(i64::MAX));
}

fn labels(found: &KeyValues, keys: &[KeyStatus]) -> ValuesLabels {
    let key = keys.iter().find(|key| key.name == found.key);
    ValuesLabels {
        resource: found.resource.0.clone(),
        key: found.key.0.clone(),
        state: key.map_or("None", |key| told::key_state(key.state)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use serde_json::json;

    use super::*;
    use crate::encryption::rotation::at_rest::AtRest;
    use crate::encryption::rotation::{Observation, plan};

    #[test]
    fn what_is_no_longer_seen_is_no_longer_shown() {
        let now = serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
        let seen = |keys: &serde_json::Value, values: &serde_json::Value| RotationSeen {
            decision: plan(&Observation::default()),
            keys: serde_json::from_value(keys.clone()).unwrap(),
            values: serde_json::from_value(values.clone()).unwrap(),
            claims: Vec::new(),
            at_rest: AtRest::of(&Observation::default(), None, &now),
        };
        let metrics = EncryptionMetrics::default();
        let mut registry = prometheus_client::registry::Registry::with_prefix("cloison");
        metrics.register(&mut registry);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let key = |name: &str, id: i64, state: &str| json!({"id": id, "name": name, "state": state, "creationTime": "2026-01-02T00:00:00Z", "writes": 7});
        let value = |key: &str, count: i64| json!({"resource": "secrets", "key": key, "count": count});
        let first = seen(
            &json!([key("k1", 1, "Read")]),
            &json!([value("k1", 3), value("identity", 20)]),
        );
        show(&metrics, &first, (1, 2));
        let shown = text();
        for line in [
            r#"cloison_encryption_values{resource="secrets",key="k1",state="Read"} 3"#,
            r#"cloison_encryption_values{resource="secrets",key="identity",state="None"} 20"#,
            r#"cloison_encryption_key_writes{key="k1"} 7"#,
            r#"cloison_encryption_key_created_timestamp_seconds{key="k1"} 1767312000"#,
            "cloison_encryption_replicas_converged 1",
            "cloison_encryption_replicas 2",
            r#"cloison_encryption_step{step="Idle"} 1"#,
            r#"cloison_encryption_step{step="Sweep"} 0"#,
        ] {
            assert!(shown.contains(line), "{line}\n{shown}");
        }
        let next = seen(
            &json!([key("k1", 1, "Retired"), key("k2", 2, "Write")]),
            &json!([value("k2", 23)]),
        );
        show(&metrics, &next, (2, 2));
        let shown = text();
        assert!(!shown.contains("k1") && !shown.contains("identity"), "{shown}");
        assert!(
            shown.contains(r#"{resource="secrets",key="k2",state="Write"} 23"#),
            "{shown}"
        );
    }
}
