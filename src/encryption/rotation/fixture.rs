//! What the tests of the claims begin with: two nodes, one key, all is well.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::observation::{ApiServer, Configuration, File, Named, Node, Observation, Proof, Report, Ring, Under, Wish};
use crate::api::key_ring::EncryptionKeyRingSpec;
use crate::encryption::leases::{FreshLease, id_hash};

/// The nodes.
const NODES: [&str; 2] = ["a", "b"];
/// The offline recipient.
const ESCROW: &str = "age1escrow";

pub fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

/// Everything is under k1, and every API server reads nothing else.
pub fn enabled() -> Observation {
    let k1 = Under::named("k1").unwrap();
    let ring = ring(&[("k1", "2026-01-02T00:00:00Z", None)]);
    let node = |name: &str| Node {
        name: name.to_owned(),
        silent_for: Duration::ZERO,
        report: Some(Report {
            api_server: Some(ApiServer {
                identity: Some(id_hash(name)),
                started: 1,
                loaded: Some("sha256:k1".to_owned()),
                unknown: 0,
                version: Some((1, 36)),
            }),
            named: Named::Ours,
            file: Some(File {
                hash: "sha256:k1".to_owned(),
                own: true,
                configuration: Some(Configuration::new(k1.clone(), [])),
                kms: false,
            }),
            ..Report::default()
        }),
    };
    let lease = |name: &str| FreshLease {
        name: name.to_owned(),
        peer_address: None,
    };
    Observation {
        wish: Wish {
            resources: BTreeSet::from(["secrets".to_owned()]),
            escrow: BTreeSet::from([ESCROW.to_owned()]),
            ..Wish::default()
        },
        ring: Ring::of(&ring, &time("2026-02-01T00:00:00Z")),
        nodes: NODES.map(node).into(),
        leases: NODES.map(lease).into(),
        latest_proof: Some(Proof {
            revision: 7,
            values: [("secrets".to_owned(), [(k1.clone(), 20)].into())].into(),
        }),
        ..Observation::default()
    }
}

/// Keys by name, with the time each was made and the one it was retired at.
pub fn ring(keys: &[(&str, &str, Option<&str>)]) -> EncryptionKeyRingSpec {
    let key = |(number, (name, made, retired)): (usize, &(&str, &str, Option<&str>))| -> Value {
        let mut key = json!({
            "id": number + 1, "name": name, "provider": "AESGCM", "origin": "Minted", "creationTime": made,
            "commitment": "sha256:00", "wraps": [{ "recipient": ESCROW, "sealed": "sealed" }],
        });
        if let Some(retired) = retired {
            key["retiredTime"] = json!(retired);
        }
        key
    };
    let keys: Vec<Value> = keys.iter().enumerate().map(key).collect();
    let ring = json!({ "lastID": keys.len(), "keys": keys, "members": [], "escrow": [ESCROW] });
    serde_json::from_value(ring).unwrap()
}
