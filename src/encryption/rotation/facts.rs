//! From the API's objects to what is looked at. Times become ages, by the time of the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observation::{ApiServer, Configuration, File, Named, Proof, Read, Report, Ring, RingKey, Under, Wish};
use super::view::REPORT_STALE;
use crate::api::control_plane_report::{ApiServerSeen, ControlPlaneReportSpec, FileSeen, FlagsSeen, RawProof};
use crate::api::encryption::{EscrowRequirement, Retention, SecretEncryptionSpec};
use crate::api::key_ring::{self, EncryptionKeyRingSpec, KeyOrigin};
use crate::encryption::config::KeyName;
use crate::encryption::duties::report;
use crate::encryption::proof::age;
use crate::encryption::{self, Reading};

const DAY: Duration = Duration::from_hours(24);

/// Negative numbers, which no schema lets in, count as nothing.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// After a clock was set back a key is young: it is neither replaced nor destroyed too early.
fn since(at: &Time, now: &Time) -> Duration {
    age(at, now).unwrap_or_default()
}

/// A name of any form. What cannot be the name of a key means nothing to us.
fn under(name: &str) -> Option<Under> {
    Under::named(name).or_else(|| Under::named("unknown"))
}

impl Wish {
    /// The policy in `mode: Manage`, with the rotation that was requested and the keys that were given up.
    pub fn of(spec: &SecretEncryptionSpec, requested: Option<String>, abandoned: BTreeSet<u64>) -> Self {
        let days = |days: i32| DAY * u32::try_from(days).unwrap_or_default();
        let retired = &spec.retired_keys;
        let escrow = spec.escrow.recipients.iter().flatten();
        Self {
            provider: spec.provider.cipher(),
            resources: spec.resources.iter().map(|resource| resource.0.clone()).collect(),
            suspended: spec.suspend,
            period: days(spec.rotation.period_days),
            max_writes: unsigned(spec.rotation.max_writes_per_key),
            requested,
            abandoned,
            escrow: escrow.map(|recipient| recipient.0.clone()).collect(),
            escrow_waived: spec.escrow.requirement == EscrowRequirement::Waived,
            retention: match retired.retention {
                Retention::Keep => None,
                Retention::DeleteAfterDays => retired.days.map(days),
            },
        }
    }
}

impl Ring {
    /// The ring as it is now.
    pub fn of(spec: &EncryptionKeyRingSpec, now: &Time) -> Self {
        let member = |member: &key_ring::Member| (member.node.0.clone(), member.recipient.0.clone());
        Self {
            last_id: unsigned(spec.last_id),
            keys: spec.keys.iter().filter_map(|key| RingKey::of(key, now)).collect(),
            members: spec.members.iter().map(member).collect(),
        }
    }
}

impl RingKey {
    fn of(key: &key_ring::RingKey, now: &Time) -> Option<Self> {
        let counts = key.writes.iter().map(|node| unsigned(node.count));
        Some(Self {
            id: unsigned(key.id),
            name: KeyName::parse(&key.name)?,
            provider: key.provider,
            imported: key.origin == KeyOrigin::Imported,
            request: key.request.as_ref().map(|request| request.0.clone()),
            age: since(&key.creation_time, now),
            writes: counts.fold(0, u64::saturating_add),
            sealed_for: key.wraps.iter().map(|wrap| wrap.recipient.0.clone()).collect(),
            retired: key.retired_time.as_ref().map(|at| since(at, now)),
            destroyed: key.destroyed_time.is_some(),
        })
    }
}

impl Report {
    /// What an agent says of its node.
    pub fn of(spec: &ControlPlaneReportSpec) -> Self {
        let flags = spec.flags.iter().flat_map(|flags| &flags.missing);
        let request_timeout = spec.flags.as_ref().and_then(|flags| flags.request_timeout_seconds);
        Self {
            api_server: spec.api_server.as_ref().map(ApiServer::of),
            file: spec.file.as_ref().map(File::of),
            named: spec.flags.as_ref().map(Named::of).unwrap_or_default(),
            flags_missing: flags.map(|flag| flag.0.clone()).collect(),
            to_persist: spec.flags.as_ref().and_then(|flags| {
                flags.persistent?;
                Some(flags.to_persist.iter().map(|line| line.0.clone()).collect())
            }),
            read: spec.proof.as_ref().map(|proof| Read {
                time: proof.time.0.as_second(),
                revision: unsigned(proof.revision),
            }),
            request_timeout: request_timeout.map(|seconds| Duration::from_secs(unsigned(seconds))),
            sealed_id: spec.sealed_id.map(unsigned),
            order: spec.order_number.map(unsigned),
        }
    }
}

impl Named {
    fn of(flags: &FlagsSeen) -> Self {
        let lacks = |line: &crate::api::text::Line| line.starts_with("--encryption-provider-config=");
        match flags.encryption_provider_config {
            None => Self::Nothing,
            Some(_) if flags.missing.iter().any(lacks) => Self::Elsewhere,
            Some(_) => Self::Ours,
        }
    }
}

impl ApiServer {
    /// As it shows itself, to its agent or to the controller.
    pub fn of(seen: &ApiServerSeen) -> Self {
        let version = seen.version.as_ref().and_then(|version| {
            let (major, minor) = version.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        Self {
            identity: seen.identity_hash.as_ref().map(|hash| hash.0.clone()),
            started: seen.started,
            loaded: seen.loaded_hash.as_ref().map(|hash| hash.0.clone()),
            unknown: unsigned(seen.unknown),
            version,
        }
    }
}

/// The API servers that answered the controller, by their metrics.
pub fn answered(seen: &encryption::Observation) -> Vec<ApiServer> {
    let scrapes = seen.replicas.iter().filter_map(|replica| match &replica.reading {
        Reading::Seen(scrape) => report::api_server_seen(scrape),
        Reading::Hidden(_) | Reading::Failed(_) => None,
    });
    scrapes.map(|shown| ApiServer::of(&shown)).collect()
}

/// Of these reports, each with how long it has not changed: the one whose reading of etcd counts, and the newest revision
/// that etcd is known to have compacted. Revisions of an etcd that was restored are lower than in reports of agents that are
/// gone, so that those count last, and their word on compaction not at all.
pub fn newest_reading<'r>(
    reports: &[(Duration, &'r ControlPlaneReportSpec)],
) -> (Option<&'r ControlPlaneReportSpec>, u64) {
    let lives = |(silent_for, _): &&(Duration, &ControlPlaneReportSpec)| *silent_for <= REPORT_STALE;
    // Between two writes several agents read one revision: the youngest of these readings counts.
    let order = |each: &&(Duration, &'r ControlPlaneReportSpec)| {
        let proof = each.1.proof.as_ref();
        (lives(each), proof.map(|proof| (proof.revision, proof.time.0)))
    };
    let read = reports.iter().filter(|(_, report)| report.proof.is_some());
    let compacted = reports.iter().filter(lives);
    let compacted = compacted.filter_map(|(_, report)| report.proof.as_ref()?.compacted_revision);
    (
        read.max_by_key(order).map(|(_, report)| *report),
        compacted.max().map(unsigned).unwrap_or_default(),
    )
}

impl File {
    fn of(file: &FileSeen) -> Self {
        // A key without a cipher is of a cipher that is not ours: nothing is said of such a file.
        let named = |key: &crate::api::control_plane_report::FileKey| {
            Under::named(&key.name).filter(|under| *under == Under::Identity || key.provider.is_some())
        };
        let keys: Option<Vec<Under>> = file.keys.iter().map(named).collect();
        let configuration = keys.and_then(|keys| {
            let write = keys.first()?.clone();
            Some(Configuration::new(write, keys))
        });
        Self {
            hash: file.hash.0.clone(),
            own: file.own,
            configuration: configuration.filter(|_| !file.kms),
            kms: file.kms,
        }
    }
}

impl Proof {
    /// What was read of etcd; the newest of several has the highest revision.
    pub fn of(raw: &RawProof) -> Self {
        let resources = raw
            .resources
            .iter()
            .map(|resource| (resource.0.clone(), BTreeMap::new()));
        let mut values: BTreeMap<String, BTreeMap<Under, u64>> = resources.collect();
        for found in &raw.values {
            let Some(under) = under(&found.key) else { continue };
            let count = values
                .entry(found.resource.0.clone())
                .or_default()
                .entry(under)
                .or_default();
            *count = count.saturating_add(unsigned(found.count));
        }
        Self {
            revision: unsigned(raw.revision),
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use serde_json::json;

    use super::*;

    const HASH: &str = "sha256:00";

    fn report(more: &serde_json::Value) -> Report {
        let mut report = json!({ "observedTime": "2026-01-02T03:04:05Z" });
        report
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Report::of(&serde_json::from_value(report).unwrap())
    }

    #[test]
    fn the_first_key_of_a_file_writes_and_a_cipher_of_others_is_not_judged() {
        let file = |keys: serde_json::Value, kms: bool| {
            report(&json!({ "file": { "hash": HASH, "own": true, "kms": kms, "keys": keys } }))
                .file
                .unwrap()
                .configuration
                .map(|it| it.to_string())
        };
        let aes = |name| json!({ "name": name, "provider": "AESGCM" });
        let identity = json!({ "name": "identity" });
        assert_eq!(
            file(json!([aes("k2"), aes("k1"), identity]), false).as_deref(),
            Some("C(k2;identity,k1,k2)")
        );
        assert_eq!(file(json!([aes("k2"), { "name": "cbc" }]), false), None);
        assert_eq!(file(json!([aes("k2")]), true), None);
        assert_eq!(file(json!([]), false), None);
    }

    #[test]
    fn the_flags_say_which_file_an_api_server_reads() {
        let named = |flags: serde_json::Value| report(&flags).named;
        let flag = "encryptionProviderConfig";
        let elsewhere = "--encryption-provider-config=/a/file in the place of /b/file";
        for (flags, wanted) in [
            (json!({}), Named::Unseen),
            (
                json!({ "flags": { "missing": ["--encryption-provider-config=/a/file"] } }),
                Named::Nothing,
            ),
            (
                json!({ "flags": { flag: "/b/file", "missing": [elsewhere] } }),
                Named::Elsewhere,
            ),
            (
                json!({ "flags": { flag: "/a/file", "missing": ["--encryption-provider-config-automatic-reload=true"] } }),
                Named::Ours,
            ),
        ] {
            assert_eq!(named(flags.clone()), wanted, "{flags}");
        }
    }

    #[test]
    fn where_nobody_can_tell_whether_the_flags_persist_nothing_is_said_to_be_lacking() {
        let lacking = |flags: serde_json::Value| report(&json!({ "flags": flags })).to_persist;
        assert_eq!(lacking(json!({})), None);
        assert_eq!(lacking(json!({ "persistent": true })), Some(Vec::new()));
        let line = "extraVolumes: - {}";
        let lacks = json!({ "persistent": false, "toPersist": [line] });
        assert_eq!(lacking(lacks), Some(vec![line.to_owned()]));
    }

    #[test]
    fn a_reading_of_an_agent_that_is_gone_counts_last_and_its_compaction_not_at_all() {
        let spec = |revision: i64, second: u32| -> ControlPlaneReportSpec {
            let proof = json!({ "time": format!("2026-01-02T03:04:{second:02}Z"), "revision": revision,
                "compactedRevision": revision - 1 });
            serde_json::from_value(json!({ "observedTime": "2026-01-02T03:04:05Z", "proof": proof })).unwrap()
        };
        let (now, gone) = (Duration::ZERO, REPORT_STALE + Duration::from_secs(1));
        let (restored, before, again) = (spec(5, 1), spec(900, 0), spec(5, 2));
        let newest = |all: &[(Duration, &ControlPlaneReportSpec)]| {
            let (found, compacted) = newest_reading(all);
            (
                found.map(|found| found.proof.as_ref().unwrap().time.0.to_string()),
                compacted,
            )
        };
        let at = |second| Some(format!("2026-01-02T03:04:{second:02}Z"));
        assert_eq!(newest(&[(gone, &before), (now, &restored), (now, &again)]), (at(2), 4));
        assert_eq!(newest(&[(now, &before), (now, &restored)]), (at(0), 899));
        assert_eq!(newest(&[(gone, &before)]), (at(0), 0));
        assert_eq!(newest(&[]), (None, 0));
    }

    #[test]
    fn a_proof_covers_what_was_read_and_what_has_no_name_is_not_passed_over() {
        let raw = json!({
            "time": "2026-01-02T03:04:05Z", "revision": 7, "resources": ["secrets", "configmaps"],
            "values": [
                { "resource": "secrets", "key": "k1", "count": 2 },
                { "resource": "secrets", "key": "a:b", "count": 1 },
            ],
        });
        let proof = Proof::of(&serde_json::from_value(raw).unwrap());
        assert!(proof.values["configmaps"].is_empty() && !proof.values.contains_key("pods"));
        let k1 = Under::named("k1").unwrap();
        assert_eq!(proof.left(&k1), [("secrets", &Under::named("unknown").unwrap(), 1)]);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_key_old() {
        let at = |text: &str| -> Time { serde_json::from_value(json!(text)).unwrap() };
        let made = at("2026-01-02T00:00:00Z");
        assert_eq!(since(&made, &at("2026-01-03T00:00:00Z")), DAY);
        assert_eq!(since(&made, &at("2026-01-01T00:00:00Z")), Duration::ZERO);
    }

    #[test]
    fn retired_keys_are_kept_unless_the_policy_says_how_long() {
        let mut spec = SecretEncryptionSpec::default();
        assert_eq!(Wish::of(&spec, None, BTreeSet::new()).retention, None);
        spec.retired_keys.retention = Retention::DeleteAfterDays;
        spec.retired_keys.days = Some(30);
        let wish = Wish::of(&spec, None, BTreeSet::new());
        assert_eq!((wish.retention, wish.period), (Some(DAY * 30), DAY * 30));
    }
}
