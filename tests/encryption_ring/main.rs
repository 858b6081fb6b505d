//! The sealed ring: whatever is done to it, every key that lives can be opened by everybody who must be able to and by
//! nobody else, no number comes twice, and no key is seen outside. The stock `age` is the judge of what is sealed.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[path = "../common/dice.rs"]
mod dice;
mod holders;
mod keys;
mod life;
mod outside;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use cloison::agent::sealing::{new_identity, new_material, seal};
use cloison::api::encryption::{Escrow, EscrowRequirement, Provider};
use cloison::api::key_ring::{Approval, EncryptionKeyRingSpec, KeyOrigin, RingKey};
use cloison::api::text::{AgeRecipient, Armored, Contact, KeyName, ObjectName};
use cloison::encryption::KeyMaterial;
use cloison::encryption::ring::{
    Act, Change, Fault, Identity, Opened, Refusal, change, commitment, identities, inspect, living, open, recipients,
    succeeds, unsealed, writes,
};
use cloison_testbed::{Tool, find};
use dice::Dice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn now() -> Time {
    Time("2026-11-26T04:00:00Z".parse().unwrap())
}

fn node(name: &str) -> ObjectName {
    ObjectName(name.to_owned())
}

fn key(byte: u8) -> KeyMaterial {
    KeyMaterial::new([byte; 32])
}

fn offline(identities: &[&Identity]) -> Escrow {
    Escrow {
        recipients: Some(identities.iter().map(|one| one.recipient().clone()).collect()),
        requirement: EscrowRequirement::Required,
    }
}

fn waived() -> Escrow {
    Escrow {
        recipients: None,
        requirement: EscrowRequirement::Waived,
    }
}

fn make(ring: &EncryptionKeyRingSpec, what: &Change, keys: &Opened) -> Result<EncryptionKeyRingSpec, Refusal> {
    let act = Act {
        now: now(),
        keys,
        seal: &seal,
    };
    change(ring, what, &act)
}

fn found(name: &str, identity: &Identity) -> Change {
    Change::Found {
        node: node(name),
        recipient: identity.recipient().clone(),
    }
}

fn approval(name: &str, identity: &Identity) -> Change {
    Change::Admit(Approval {
        node: node(name),
        recipient: identity.recipient().clone(),
        by: Contact("ana@example.com".to_owned()),
        time: now(),
    })
}

fn mint(after: i64, material: KeyMaterial, escrow: &Escrow) -> Change {
    Change::Mint {
        after,
        provider: Provider::AESGCM,
        request: None,
        material,
        escrow: escrow.clone(),
    }
}

/// A ring of one node and one escrow recipient with these keys.
fn ring(keys: &[u8]) -> (EncryptionKeyRingSpec, Identity, Identity, Escrow) {
    let (member, safe) = (new_identity().unwrap(), new_identity().unwrap());
    let escrow = offline(&[&safe]);
    let none = Opened::new();
    let mut ring = make(&EncryptionKeyRingSpec::default(), &found("cp-1", &member), &none).unwrap();
    ring = make(&ring, &Change::Escrow(escrow.clone()), &none).unwrap();
    for byte in keys {
        ring = make(&ring, &mint(ring.last_id, key(*byte), &escrow), &none).unwrap();
    }
    (ring, member, safe, escrow)
}
