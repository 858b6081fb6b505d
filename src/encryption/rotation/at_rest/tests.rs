//! The condition `Encrypted`, row by row: one change to what is all well, and what must follow.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use serde_json::{Value, json};

use super::super::fixture::{enabled, time};
use super::super::observation::{Named, Read};
use super::*;

const DAY: Duration = Duration::from_hours(24);

fn raw(values: &Value) -> RawProof {
    let values: Vec<Value> = values
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, count)| json!({ "resource": "secrets", "key": key, "count": count }))
        .collect();
    serde_json::from_value(json!({
        "time": "2026-01-02T03:00:00Z", "revision": 7, "resources": ["secrets"], "values": values,
    }))
    .unwrap()
}

fn judged(change: impl Fn(&mut Observation), raw: Option<&RawProof>) -> (Truth, &'static str) {
    let mut seen = enabled();
    change(&mut seen);
    let now = time("2026-01-02T04:00:00Z");
    let found = AtRest::of(&seen, raw, &now).verdict("Encrypted", &now, DAY);
    (found.truth, found.reason)
}

#[test]
fn everything_under_a_key_of_the_ring_is_proven_and_nothing_less() {
    let good = raw(&json!({ "k1": 20 }));
    let nothing = |_: &mut Observation| {};
    assert_eq!(judged(nothing, Some(&good)), (Truth::True, values::VALUES_ENCRYPTED));
    let plain = raw(&json!({ "identity": 1, "k1": 20 }));
    assert_eq!(judged(nothing, Some(&plain)), (Truth::False, values::PLAINTEXT_VALUES));
    for key in ["k9", "unknown"] {
        let foreign = raw(&json!({ key: 1, "k1": 20 }));
        assert_eq!(
            judged(nothing, Some(&foreign)),
            (Truth::Unknown, "DecryptFailed"),
            "{key}"
        );
    }
    assert_eq!(judged(nothing, None), (Truth::Unknown, reasons::NOT_PROVEN));
}

#[test]
fn a_resource_that_was_not_read_is_not_proven() {
    let more = |seen: &mut Observation| {
        seen.wish.resources.insert("configmaps".to_owned());
    };
    let good = raw(&json!({ "k1": 20 }));
    assert_eq!(judged(more, Some(&good)), (Truth::Unknown, reasons::NOT_PROVEN));
}

#[test]
fn an_api_server_that_nobody_knows_or_that_writes_plaintext_is_no_proof() {
    let good = raw(&json!({ "k1": 20 }));
    let silent = |seen: &mut Observation| seen.nodes[1].silent_for = Duration::from_hours(1);
    assert_eq!(judged(silent, Some(&good)), (Truth::Unknown, "NodeUnreachable"));
    let open = |seen: &mut Observation| seen.unaccounted = Some("the API server of Lease x was not seen".to_owned());
    assert_eq!(judged(open, Some(&good)), (Truth::Unknown, "ReplicaUnseen"));
    let plain = |seen: &mut Observation| {
        let report = seen.nodes[1].report.as_mut().unwrap();
        (report.file, report.named) = (None, Named::Nothing);
        report.api_server.as_mut().unwrap().loaded = None;
    };
    assert_eq!(
        judged(plain, Some(&good)),
        (Truth::False, seen_reasons::PLAINTEXT_WRITES)
    );
    let destroyed = |seen: &mut Observation| seen.ring.keys[0].destroyed = true;
    assert_eq!(judged(destroyed, Some(&good)), (Truth::Unknown, "DecryptFailed"));
    let stranger = |seen: &mut Observation| {
        let report = seen.nodes[1].report.as_mut().unwrap();
        let file = report.file.as_mut().unwrap();
        file.configuration = Some(super::super::Configuration::new(Under::named("k7").unwrap(), []));
        file.hash = "sha256:k7".to_owned();
        report.api_server.as_mut().unwrap().loaded = Some("sha256:k7".to_owned());
    };
    assert_eq!(judged(stranger, Some(&good)), (Truth::Unknown, "KeyLost"));
}

#[test]
fn a_reading_counts_when_it_is_younger_than_every_process() {
    let good = raw(&json!({ "k1": 20 }));
    let changing = (Truth::Unknown, seen_reasons::CONFIGURATION_CHANGING);
    let proven = (Truth::True, values::VALUES_ENCRYPTED);
    let second = |text: &str| time(text).0.as_second();
    // Started, and what its own agent read: the reading that counts was made at 03:00:00 on some node, at revision 7.
    for (started, own, wanted) in [
        ("02:58:59", None, proven),
        ("02:59:01", None, changing),
        ("03:30:00", Some(("03:30:01", 7)), proven),
        ("03:30:00", Some(("03:30:00", 7)), changing),
        ("03:30:00", Some(("03:30:01", 8)), changing),
        ("02:00:00", Some(("01:59:00", 7)), changing),
    ] {
        let at = |hours: &str| second(&format!("2026-01-02T{hours}Z"));
        let restarted = |seen: &mut Observation| {
            let report = seen.nodes[1].report.as_mut().unwrap();
            report.api_server.as_mut().unwrap().started = at(started);
            report.read = own.map(|(hours, revision)| Read {
                time: at(hours),
                revision,
            });
        };
        assert_eq!(judged(restarted, Some(&good)), wanted, "{started} {own:?}");
    }
}

#[test]
fn a_reading_that_finds_nothing_may_be_of_another_etcd() {
    let judged = judged(|_| {}, Some(&raw(&json!({}))));
    assert_eq!(judged, (Truth::Unknown, reasons::NOT_PROVEN));
}

#[test]
fn what_was_not_looked_at_lately_is_not_known() {
    let (seen, good) = (enabled(), raw(&json!({ "k1": 20 })));
    let found = AtRest::of(&seen, Some(&good), &time("2026-01-02T04:00:00Z"));
    for (now, truth) in [
        ("2026-01-02T04:02:00Z", Truth::True),
        ("2026-01-02T04:02:01Z", Truth::Unknown),
        ("2026-01-02T03:59:00Z", Truth::True),
        ("2026-01-02T03:58:59Z", Truth::Unknown),
    ] {
        let now = time(now);
        assert_eq!(found.verdict("Encrypted", &now, DAY).truth, truth, "{}", now.0);
        let other = Verdict::new("Converged", Truth::True, "Converged", "all run with it");
        assert_eq!(found.aged(other, &now).truth, truth, "{}", now.0);
    }
}

#[test]
fn a_reading_counts_while_it_is_young_by_clocks_that_agree() {
    let (seen, good) = (enabled(), raw(&json!({ "k1": 20 })));
    for (now, truth, reason) in [
        ("2026-01-02T03:00:00Z", Truth::True, values::VALUES_ENCRYPTED),
        ("2026-01-02T02:59:30Z", Truth::True, values::VALUES_ENCRYPTED),
        ("2026-01-02T02:50:00Z", Truth::Unknown, reasons::CLOCK_SKEW),
        ("2026-01-03T03:00:00Z", Truth::True, values::VALUES_ENCRYPTED),
        ("2026-01-03T03:00:01Z", Truth::Unknown, seen_reasons::PROOF_STALE),
    ] {
        let now = time(now);
        let found = AtRest::of(&seen, Some(&good), &now).verdict("Encrypted", &now, DAY);
        assert_eq!((found.truth, found.reason), (truth, reason), "{}", found.message);
        let held = BTreeSet::from([Under::named("k1").unwrap()]);
        let alone = reading_verdict("Encrypted", &good, &seen.wish.resources, &held, (&now, DAY));
        assert_eq!((alone.truth, alone.reason), (truth, reason), "{}", alone.message);
    }
}

#[test]
fn an_api_server_that_restarts_flips_nothing() {
    let (seen, good) = (enabled(), raw(&json!({ "k1": 20 })));
    let mut away = enabled();
    away.nodes[0].report.as_mut().unwrap().api_server = None;
    let at = |seen: &Observation, now: &str| AtRest::of(seen, Some(&good), &time(now));
    let before = at(&seen, "2026-01-02T04:00:00Z");
    let grace = Duration::from_secs(30);
    let short = AtRest::settle(Some(before.clone()), at(&away, "2026-01-02T04:00:29Z"), grace);
    assert_eq!(short, before);
    let long = AtRest::settle(Some(short), at(&away, "2026-01-02T04:00:30Z"), grace);
    assert_eq!((long.truth, long.reason), (Truth::Unknown, "NodeUnreachable"));
}
