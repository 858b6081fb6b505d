//! What we make of an EncryptionConfiguration file, against what a real kube-apiserver 1.36 makes of it.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[path = "encryption_config/cases.rs"]
mod cases;
#[path = "common/dice.rs"]
mod dice;
#[path = "encryption_config/judge.rs"]
mod judge;

use std::collections::BTreeMap;

use cases::{Expected, KEYS, cipher, entry, file};
use cloison::api::encryption::{Provider, ResourceName};
use cloison::encryption::Scrape;
use cloison::encryption::config::{Desired, Key, KeyName, Objection, Transformer, hash, read, render};
use cloison::encryption::material::KeyMaterial;
use cloison_testbed::{ApiServerOptions, ControlPlane, Options};
use dice::Dice;
use judge::{Judge, Verdict};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use serde_json::json;

#[tokio::test]
async fn a_file_is_judged_as_the_api_server_judges_it() {
    let judge = Judge::new();
    let mut mix: BTreeMap<String, u32> = BTreeMap::new();
    for case in cases::all() {
        let ours = read(&case.file);
        let said = judge.judge(&case.file, &[]).await;
        let name = &case.name;
        match (case.expected, &said, &ours) {
            (Expected::Accepted, Verdict::Accepted, Ok(seen)) => {
                assert!(!seen.objections().contains(&Objection::KmsV1), "{name}");
            }
            (Expected::Refused, Verdict::Refused(words), Err(fault)) => {
                // Where the API server names a place, so do we, and the same one.
                let named = words.split_once("resources[").is_some() && !words.contains("strict decoding");
                if named && !words.contains("masked by") {
                    assert!(words.contains(&fault.at), "{name}: {words}; we say {fault}");
                }
            }
            (Expected::Gated, Verdict::Refused(_), Ok(seen)) => {
                assert!(seen.objections().contains(&Objection::KmsV1), "{name}");
                let with_gate = judge.judge(&case.file, &["--feature-gates=KMSv1=true"]).await;
                assert!(matches!(with_gate, Verdict::Accepted), "{name}: {with_gate:?}");
            }
            (expected, ..) => panic!("{name}: expected {expected:?}, the API server: {said:?}, we: {ours:?}"),
        }
        *mix.entry(format!("{:?}", case.expected)).or_default() += 1;
    }
    eprintln!("files: {mix:?}");
    assert!(
        mix.len() == 3 && mix.values().all(|count| *count >= 4),
        "one-sided: {mix:?}"
    );
}

/// Files drawn at random from pieces of which most are good.
fn draw(dice: &mut Dice) -> String {
    const RESOURCES: [&str; 9] = [
        "secrets",
        "configmaps",
        "*.",
        "*.apps",
        "deployments.apps",
        "*.*",
        "events",
        "Secrets",
        "a.*",
    ];
    let mut entries = Vec::new();
    for _ in 0..=dice.roll(3) {
        let mut resources = Vec::new();
        // Two of a list overlap as often as not.
        let more = if dice.once_in(4) { dice.roll(3) } else { 0 };
        for _ in 0..=more {
            let rare = if dice.once_in(12) { 9 } else { 6 };
            resources.push(format!("\"{}\"", RESOURCES[dice.roll(rare)]));
        }
        let mut providers = Vec::new();
        for _ in 0..=dice.roll(2) {
            providers.push(match dice.roll(4) {
                0 => r#"{"identity":{}}"#.to_owned(),
                at => {
                    let sizes = if dice.once_in(9) { 4 } else { 1 };
                    cipher(["aesgcm", "aescbc", "secretbox"][at - 1], KEYS[dice.roll(sizes)])
                }
            });
        }
        entries.push(entry(&resources.join(","), &providers.join(",")));
    }
    let text = file(&entries.join(","));
    match dice.roll(4) {
        // JSON after this line is YAML.
        0 => format!("---\n{text}"),
        1 if dice.once_in(3) => text[..dice.roll(text.len())].to_owned(),
        _ => text,
    }
}

#[tokio::test]
async fn random_files_are_judged_as_the_api_server_judges_them() {
    let judge = Judge::new();
    let mut dice = Dice(0x5eed_c0de);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60 {
        let text = draw(&mut dice);
        let said = judge.judge(text.as_bytes(), &[]).await;
        let ours = read(text.as_bytes());
        match (&said, &ours) {
            (Verdict::Accepted, Ok(_)) => accepted += 1,
            (Verdict::Refused(_), Err(_)) => refused += 1,
            _ => panic!("the API server: {said:?}, we: {ours:?}, of {text}"),
        }
    }
    eprintln!("random files: {accepted} accepted, {refused} refused");
    assert!(
        accepted >= 15 && refused >= 15,
        "one-sided: {accepted} accepted, {refused} refused"
    );
}

fn key(id: u64, provider: Provider) -> Transformer {
    let byte = u8::try_from(id).unwrap();
    Transformer::Key(Key {
        name: KeyName::minted(id),
        provider,
        material: KeyMaterial::new([byte; 32]),
    })
}

fn config(write: Transformer, reads: impl IntoIterator<Item = Transformer>) -> String {
    let resources = [ResourceName("secrets".to_owned())];
    render(&Desired::new(resources, write, reads).unwrap()).to_string()
}

/// The files of a life: first enable, a change of the cipher, and one back. At each, values under all earlier keys
/// are read, the API server shows the hash that we compute, and nothing is ever counted as unreadable.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_rotation_are_served() {
    let [aes, boxed, again] = [(1, Provider::AESGCM), (2, Provider::Secretbox), (3, Provider::AESGCM)];
    let new = |(id, provider)| key(id, provider);
    let files = [
        config(Transformer::Identity, [new(aes)]),
        config(new(aes), [Transformer::Identity]),
        config(new(boxed), [new(aes), Transformer::Identity]),
        config(new(again), [new(boxed), new(aes), Transformer::Identity]),
    ];
    let prefixes = [
        "k8s\0",
        "k8s:enc:aesgcm:v1:k1:",
        "k8s:enc:secretbox:v1:k2:",
        "k8s:enc:aesgcm:v1:k3:",
    ];
    let server = ApiServerOptions {
        encryption_config: Some(files[0].clone()),
        ..ApiServerOptions::default()
    };
    let options = Options {
        api_servers: vec![server],
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let server = plane.api_server(0);
    for (index, (text, prefix)) in files.iter().zip(prefixes).enumerate() {
        if index > 0 {
            server.write_encryption_config(text).unwrap();
            server.restart().await.unwrap();
        }
        let secrets: Api<Secret> = Api::namespaced(server.admin().unwrap(), "default");
        let name = format!("written-{index}");
        let secret = json!({ "metadata": { "name": name }, "stringData": { "value": "x" } });
        let secret = serde_json::from_value(secret).unwrap();
        secrets.create(&PostParams::default(), &secret).await.unwrap();
        for earlier in 0..=index {
            secrets.get(&format!("written-{earlier}")).await.unwrap();
        }
        let stored = plane
            .etcd()
            .get(&format!("/registry/secrets/default/{name}"))
            .await
            .unwrap()
            .unwrap();
        assert!(stored.starts_with(prefix.as_bytes()), "{name}: not under {prefix}");
        let scrape = Scrape::of(server.metrics().await.unwrap().text());
        assert_eq!(scrape.configuration_hash, Some(hash(text.as_bytes())), "{name}");
        assert_eq!(scrape.undecryptable, 0, "{name}");
    }
}
