//! API servers as their metrics show them, for the tests of the judgement.
#![allow(dead_code)] // each test binary uses a part

use std::collections::BTreeMap;

use cloison::api::conditions::Truth;
use cloison::encryption::leases::id_hash;
use cloison::encryption::{Canary, EncryptionProof, FreshLease, Observation, Reading, Replica, Scrape, Write, judge};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub const ENCRYPTING: &[(&str, u64)] = &[("k8s:enc:aesgcm:v1:", 1), ("k1:", 1)];
pub const IDENTITY: &[(&str, u64)] = &[("", 1)];

/// The metrics of one API server, as it prints them.
#[derive(Clone)]
pub struct Server {
    pub lease: String,
    pub identified: bool,
    pub hash: Option<String>,
    pub started: Option<&'static str>,
    pub reloads: u64,
    pub writes: Vec<(String, u64)>,
    pub companions: bool,
    pub disabled: u64,
    /// What the plugin `cloud` named last.
    pub key_id: Option<&'static str>,
}

impl Server {
    pub fn new(lease: &str) -> Self {
        Self {
            lease: lease.to_owned(),
            identified: true,
            hash: Some("sha256:aaaa".to_owned()),
            started: Some("1.79545829408e+09"),
            reloads: 0,
            writes: Vec::new(),
            companions: true,
            disabled: 0,
            key_id: None,
        }
    }

    pub fn wrote(&self, moved: &[(&str, u64)]) -> Self {
        let mut after = self.clone();
        for (prefix, by) in moved {
            match after.writes.iter_mut().find(|(known, _)| known == prefix) {
                Some((_, count)) => *count += by,
                None => after.writes.push(((*prefix).to_owned(), *by)),
            }
        }
        after
    }

    pub fn scrape(&self) -> Scrape {
        use std::fmt::Write as _;
        let mut text = String::new();
        let id = id_hash(&self.lease);
        if let (Some(hash), true) = (&self.hash, self.identified) {
            let name = "apiserver_encryption_config_controller_last_config_info";
            let _ = writeln!(text, "{name}{{apiserver_id_hash=\"{id}\",hash=\"{hash}\"}} 1");
        }
        if self.reloads > 0 {
            let name = "apiserver_encryption_config_controller_automatic_reloads_total";
            let _ = writeln!(text, "{name}{{status=\"success\"}} {}", self.reloads);
        }
        for (prefix, count) in &self.writes {
            let name = "apiserver_storage_transformation_operations_total";
            let labels = format!(
                "resource=\"secrets\",status=\"OK\",transformation_type=\"to_storage\",transformer_prefix=\"{prefix}\""
            );
            let _ = writeln!(text, "{name}{{{labels}}} {count}");
        }
        if let Some(key_id) = self.key_id {
            let name = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds";
            let labels = format!("apiserver_id_hash=\"{id}\",key_id_hash=\"{key_id}\",provider_name=\"cloud\"");
            let _ = writeln!(text, "{name}{{{labels}}} 1.79545829408e+09");
        }
        if self.companions {
            text.push_str("apiserver_storage_data_key_generation_failures_total 0\n");
        }
        let _ = writeln!(text, "disabled_metrics_total {}", self.disabled);
        if let Some(started) = self.started {
            let _ = writeln!(text, "process_start_time_seconds {started}");
        }
        Scrape::of(&text)
    }
}

pub fn replica(address: &str, before: &Server, after: &Server) -> Replica {
    Replica {
        address: address.to_owned(),
        reading: Reading::Seen(after.scrape()),
        canary: Some(Canary {
            before: before.scrape(),
            write: Write::Done,
            after: after.scrape(),
        }),
        undecryptable: 0,
        silence: BTreeMap::new(),
    }
}

pub fn lease(name: &str) -> FreshLease {
    FreshLease {
        name: name.to_owned(),
        peer_address: None,
    }
}

/// Two API servers, each seen to move these counters with the canary.
pub fn pair(first: &[(&str, u64)], second: &[(&str, u64)]) -> Observation {
    let (a, b) = (Server::new("apiserver-a"), Server::new("apiserver-b"));
    Observation {
        leases: vec![lease("apiserver-a"), lease("apiserver-b")],
        replicas: vec![
            replica("10.0.0.1:6443", &a, &a.wrote(first)),
            replica("10.0.0.2:6443", &b, &b.wrote(second)),
        ],
        attestation: None,
    }
}

pub fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

pub fn now() -> Time {
    time("2026-11-23T12:00:00Z")
}

#[track_caller]
pub fn assert_verdict(seen: &Observation, truth: Truth, reason: &str) -> EncryptionProof {
    let proof = judge(seen, &now());
    assert_eq!((proof.truth, proof.reason), (truth, reason), "{}", proof.message);
    proof
}
