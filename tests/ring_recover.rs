//! `cloison ring` without an API server: the escrow opens every key, and brings the EncryptionConfiguration back from
//! whatever is left of the ring.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use cloison::agent::sealing::{new_identity, seal};
use cloison::api::encryption::{Escrow, EscrowRequirement, Provider};
use cloison::api::key_ring::{EncryptionKeyRing, EncryptionKeyRingSpec};
use cloison::api::text::ObjectName;
use cloison::encryption::KeyMaterial;
use cloison::encryption::config::read;
use cloison::encryption::ring::{Act, Change, Identity, change, open};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A ring of two keys, the first of them retired, for one node and one offline identity.
fn ring() -> (EncryptionKeyRingSpec, Identity) {
    let (member, safe) = (new_identity().unwrap(), new_identity().unwrap());
    let escrow = Escrow {
        recipients: Some(vec![safe.recipient().clone()]),
        requirement: EscrowRequirement::Required,
    };
    let mint = |after, byte| Change::Mint {
        after,
        provider: Provider::AESGCM,
        request: None,
        material: KeyMaterial::new([byte; 32]),
        escrow: escrow.clone(),
    };
    let found = Change::Found {
        node: ObjectName("cp-1".to_owned()),
        recipient: member.recipient().clone(),
    };
    let mut ring = EncryptionKeyRingSpec::default();
    for step in [
        found,
        Change::Escrow(escrow.clone()),
        mint(0, 1),
        mint(1, 2),
        Change::Retire(1),
    ] {
        let keys = open(&ring, &member).unwrap();
        let act = Act {
            now: Time("2026-11-26T04:00:00Z".parse().unwrap()),
            keys: &keys,
            seal: &seal,
        };
        ring = change(&ring, &step, &act).unwrap();
    }
    (ring, safe)
}

fn object(ring: &EncryptionKeyRingSpec, generation: i64) -> Vec<u8> {
    let mut object = EncryptionKeyRing::new("default", ring.clone());
    object.metadata.generation = Some(generation);
    serde_json::to_vec(&object).unwrap()
}

fn cloison(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloison"));
    command
        .args(arguments)
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_configuration_comes_back_from_whatever_is_left() {
    let home = tempfile::tempdir().unwrap();
    let (ring, safe) = ring();
    let identity = home.path().join("escrow.txt");
    fs::write(&identity, format!("# kept offline\n{}\n", *safe.to_text())).unwrap();
    let mut older = ring.clone();
    older.keys.pop();
    older.last_id = 1;
    // A snapshot holds every version that was not compacted, and pieces of others on freed pages.
    let mut snapshot = vec![7; 20 << 20];
    snapshot.extend(object(&ring, 9));
    snapshot.extend([0; 4096]);
    snapshot.extend(object(&older, 3));
    snapshot.extend(&object(&ring, 12)[..900]);
    let mut files = Vec::new();
    let sources = [
        ("copy", serde_json::to_vec_pretty(&ring).unwrap()),
        ("object", object(&ring, 1)),
        ("snapshot", snapshot),
    ];
    for (name, bytes) in sources {
        let (source, out) = (home.path().join(name), home.path().join(format!("{name}-out")));
        fs::write(&source, bytes).unwrap();
        let arguments = [
            "ring",
            "recover",
            "--ring",
            text(&source),
            "--identity",
            text(&identity),
            "--directory",
            text(&out),
        ];
        let done = cloison(&arguments);
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{name}: {said}");
        let file = fs::read(out.join("encryption.json")).unwrap();
        let keys = read(&file).unwrap().keys();
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(names, ["k2", "k1"], "{name}: the newest that is not retired writes");
        assert!(
            keys.iter().all(|key| !said.contains(key.material.to_base64().as_str())),
            "a key is shown"
        );
        files.push(file);
        // What is there already is not written over.
        let again = cloison(&arguments);
        assert_eq!(again.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    }
    assert!(
        files.windows(2).all(|two| two[0] == two[1]),
        "every API server gets the same bytes"
    );
}

#[test]
fn an_identity_that_does_not_open_is_told_so() {
    let home = tempfile::tempdir().unwrap();
    let (ring, safe) = ring();
    let source = home.path().join("ring.json");
    fs::write(&source, serde_json::to_vec(&ring).unwrap()).unwrap();
    let (good, bad) = (home.path().join("good"), home.path().join("bad"));
    fs::write(&good, safe.to_text().as_bytes()).unwrap();
    fs::write(&bad, new_identity().unwrap().to_text().as_bytes()).unwrap();
    let verify = |identity: &Path| {
        cloison(&[
            "ring",
            "escrow",
            "verify",
            "--ring",
            text(&source),
            "--identity",
            text(identity),
        ])
    };
    let opens = verify(&good);
    assert_eq!(String::from_utf8_lossy(&opens.stdout), "key k1 opens\nkey k2 opens\n");
    assert_eq!(opens.status.code(), Some(0));
    let closed = verify(&bad);
    let said = String::from_utf8_lossy(&closed.stdout).into_owned();
    assert_eq!(closed.status.code(), Some(1));
    assert!(
        said.contains("is no escrow recipient") && said.contains("key k1 is not sealed for this identity"),
        "{said}"
    );
    let out = home.path().join("out");
    let refused = cloison(&[
        "ring",
        "recover",
        "--ring",
        text(&source),
        "--identity",
        text(&bad),
        "--directory",
        text(&out),
    ]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!out.exists(), "nothing is made");
    let nothing = cloison(&[
        "ring",
        "recover",
        "--ring",
        text(&good),
        "--identity",
        text(&good),
        "--directory",
        text(&out),
    ]);
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(
        said.contains("no EncryptionKeyRing in it") && !said.contains("AGE-SECRET"),
        "{said}"
    );
}
