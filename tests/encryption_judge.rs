//! `SecretsEncrypted` is True only if every API server that exists was seen to encrypt. Each test is one way to be fooled.
#![allow(clippy::unwrap_used)] // a test fails by panicking

mod encryption_fixture;

use std::collections::BTreeMap;
use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::api::encryption::Attestation;
use cloison::api::text::Contact;
use cloison::encryption::proof::reasons;
use cloison::encryption::{EncryptionProof, Observation, Reading, Replica, Write, judge};
use encryption_fixture::{ENCRYPTING, IDENTITY, Server, assert_verdict, now, pair, replica, time};

#[test]
fn every_api_server_seen_to_encrypt_is_true_and_says_what_was_not_read() {
    let proof = assert_verdict(
        &pair(ENCRYPTING, ENCRYPTING),
        Truth::True,
        reasons::NEW_WRITES_ENCRYPTED,
    );
    assert_eq!(
        proof.message,
        "new Secrets are written under k8s:enc:aesgcm:v1:k1: by all 2 API servers; values written earlier were not read"
    );
    let written: Vec<_> = proof.replicas.iter().map(|replica| replica.writes.as_deref()).collect();
    assert_eq!(written, [Some("k8s:enc:aesgcm:v1:k1:"); 2]);
}

#[test]
fn one_api_server_that_writes_with_identity_disproves() {
    let proof = assert_verdict(&pair(ENCRYPTING, IDENTITY), Truth::False, reasons::PLAINTEXT_WRITES);
    assert!(
        proof.message.contains("apiserver-b (10.0.0.2:6443)"),
        "{}",
        proof.message
    );
}

#[test]
fn plaintext_is_said_even_if_another_api_server_is_unseen() {
    let mut seen = pair(IDENTITY, ENCRYPTING);
    seen.replicas.truncate(1);
    assert_verdict(&seen, Truth::False, reasons::PLAINTEXT_WRITES);
}

#[test]
fn a_write_that_no_transformer_counted_means_not_configured() {
    let seen = pair(&[], &[]);
    assert_verdict(&seen, Truth::False, reasons::NOT_CONFIGURED);
}

#[test]
fn an_unseen_api_server_is_named_by_its_lease() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas.truncate(1);
    let proof = assert_verdict(&seen, Truth::Unknown, reasons::REPLICA_UNSEEN);
    assert!(proof.message.contains("apiserver-b"), "{}", proof.message);
}

#[test]
fn an_address_that_keeps_silent_is_not_forgotten() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas.push(Replica {
        address: "10.0.0.3:6443".to_owned(),
        reading: Reading::Failed("connection refused".to_owned()),
        canary: None,
        undecryptable: 0,
        silence: BTreeMap::new(),
    });
    let proof = assert_verdict(&seen, Truth::Unknown, reasons::REPLICA_UNSEEN);
    assert!(proof.message.contains("10.0.0.3:6443"), "{}", proof.message);
}

#[test]
fn without_identity_leases_nobody_knows_how_many_there_are() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.leases.clear();
    assert_verdict(&seen, Truth::Unknown, reasons::NO_IDENTITIES);
}

#[test]
fn an_api_server_without_a_fresh_lease_is_not_waved_through() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.leases.truncate(1);
    assert_verdict(&seen, Truth::Unknown, reasons::REPLICA_UNIDENTIFIED);
}

#[test]
fn two_processes_under_one_identity_are_not_one_api_server() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let mut twin = Server::new("apiserver-b");
    twin.started = Some("1.7e+09");
    seen.replicas
        .push(replica("10.0.0.3:6443", &twin, &twin.wrote(ENCRYPTING)));
    assert_verdict(&seen, Truth::Unknown, reasons::IDENTITY_SHARED);
}

#[test]
fn two_addresses_of_one_process_are_one_api_server() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let b = Server::new("apiserver-b");
    seen.replicas.push(replica("[fd00::2]:6443", &b, &b.wrote(ENCRYPTING)));
    assert_verdict(&seen, Truth::True, reasons::NEW_WRITES_ENCRYPTED);
}

fn anonymous_pair() -> Observation {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    for (index, replica) in seen.replicas.iter_mut().enumerate() {
        let mut server = Server::new("unused");
        server.identified = false;
        server.started = Some(["1.1e+09", "1.2e+09"][index]);
        *replica = encryption_fixture::replica(&replica.address, &server, &server.wrote(ENCRYPTING));
    }
    seen
}

#[test]
fn an_answer_that_names_no_one_is_not_counted_for_anyone() {
    let mut seen = anonymous_pair();
    assert_verdict(&seen, Truth::Unknown, reasons::REPLICA_UNIDENTIFIED);
    // From 1.36 on the Leases name the addresses.
    seen.leases[0].peer_address = Some("10.0.0.1:6443".to_owned());
    seen.leases[1].peer_address = Some("10.0.0.2:6443".to_owned());
    assert_verdict(&seen, Truth::True, reasons::NEW_WRITES_ENCRYPTED);
    // An address that two of them name is nobody's.
    seen.leases[0].peer_address = Some("10.0.0.2:6443".to_owned());
    seen.replicas.remove(0);
    assert_verdict(&seen, Truth::Unknown, reasons::REPLICA_UNIDENTIFIED);
}

#[test]
fn the_only_api_server_needs_no_name() {
    let mut seen = anonymous_pair();
    seen.leases.truncate(1);
    assert_verdict(&seen, Truth::Unknown, reasons::IDENTITY_SHARED);
    seen.replicas.truncate(1);
    assert_verdict(&seen, Truth::True, reasons::NEW_WRITES_ENCRYPTED);
}

#[test]
fn different_files_are_named_with_who_has_which() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let mut b = Server::new("apiserver-b");
    b.hash = Some("sha256:bbbb".to_owned());
    seen.replicas[1] = replica("10.0.0.2:6443", &b, &b.wrote(ENCRYPTING));
    let proof = assert_verdict(&seen, Truth::Unknown, reasons::HASH_DIVERGENT);
    assert!(
        proof
            .message
            .contains("apiserver-a (10.0.0.1:6443) has sha256:aaaa; apiserver-b (10.0.0.2:6443) has sha256:bbbb"),
        "{}",
        proof.message
    );
    seen.replicas[1] = replica("10.0.0.2:6443", &b, &b.wrote(IDENTITY));
    assert_verdict(&seen, Truth::False, reasons::HASH_DIVERGENT);
}

#[test]
fn hidden_metrics_are_unverifiable() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas[1].reading = Reading::Hidden("forbidden".to_owned());
    assert_verdict(&seen, Truth::Unknown, reasons::UNVERIFIABLE);
}

fn word(until: &str) -> Attestation {
    Attestation {
        statement: "envelope encryption with a customer key".to_owned(),
        attested_by: Contact("security@example.org".to_owned()),
        expiration_time: time(until),
        url: None,
    }
}

#[test]
fn a_persons_word_never_makes_it_true_and_never_covers_what_was_seen() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.attestation = Some(word("2026-12-01T00:00:00Z"));
    seen.replicas[1].reading = Reading::Hidden("forbidden".to_owned());
    assert_verdict(&seen, Truth::Unknown, reasons::ATTESTED);

    seen.attestation = Some(word("2026-11-23T12:00:00Z"));
    assert_verdict(&seen, Truth::Unknown, reasons::UNVERIFIABLE);

    let mut seen = pair(ENCRYPTING, IDENTITY);
    seen.attestation = Some(word("2026-12-01T00:00:00Z"));
    assert_verdict(&seen, Truth::False, reasons::PLAINTEXT_WRITES);
    seen.replicas.remove(1);
    assert_verdict(&seen, Truth::Unknown, reasons::REPLICA_UNSEEN);
}

#[test]
fn other_traffic_does_not_disturb_the_canary() {
    let busy = &[("k8s:enc:aesgcm:v1:", 700), ("k1:", 700)];
    assert_verdict(&pair(busy, ENCRYPTING), Truth::True, reasons::NEW_WRITES_ENCRYPTED);
}

#[test]
fn plaintext_beside_encrypted_writes_is_not_overlooked() {
    let both = &[("k8s:enc:aesgcm:v1:", 700), ("k1:", 700), ("", 1)];
    let proof = assert_verdict(&pair(both, ENCRYPTING), Truth::False, reasons::PLAINTEXT_WRITES);
    assert!(
        proof.message.contains("both plaintext and encrypted"),
        "{}",
        proof.message
    );
}

#[test]
fn old_plaintext_writes_do_not_count_against_a_configuration_that_encrypts_now() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let a = Server::new("apiserver-a").wrote(&[("", 12)]);
    seen.replicas[0] = replica("10.0.0.1:6443", &a, &a.wrote(ENCRYPTING));
    assert_verdict(&seen, Truth::True, reasons::NEW_WRITES_ENCRYPTED);
}

#[test]
fn a_plaintext_write_after_the_canary_disproves_without_another_one() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let later = Server::new("apiserver-a").wrote(ENCRYPTING).wrote(IDENTITY);
    seen.replicas[0].reading = Reading::Seen(later.scrape());
    assert_verdict(&seen, Truth::False, reasons::PLAINTEXT_WRITES);
}

#[test]
fn an_unwritten_canary_proves_nothing() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas[0].canary = None;
    assert_verdict(&seen, Truth::Unknown, reasons::CONFIGURATION_CHANGING);
}

#[test]
fn the_writes_of_others_can_disprove_and_never_prove() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas[0].canary.as_mut().unwrap().write = Write::NotSent;
    assert_verdict(&seen, Truth::Unknown, reasons::CONFIGURATION_CHANGING);
    let mut seen = pair(IDENTITY, ENCRYPTING);
    seen.replicas[0].canary.as_mut().unwrap().write = Write::NotSent;
    assert_verdict(&seen, Truth::False, reasons::PLAINTEXT_WRITES);
}

#[test]
fn a_canary_is_written_only_where_every_api_server_can_read_it() {
    let seen = pair(ENCRYPTING, ENCRYPTING);
    assert!(seen.may_write());

    let mut unseen = seen.clone();
    unseen.replicas.truncate(1);
    assert!(!unseen.may_write());

    let mut silent = seen.clone();
    silent.replicas.push(Replica {
        address: "10.0.0.3:6443".to_owned(),
        reading: Reading::Failed("connection refused".to_owned()),
        canary: None,
        undecryptable: 0,
        silence: BTreeMap::new(),
    });
    assert!(!silent.may_write());

    for hash in [Some("sha256:bbbb".to_owned()), None] {
        let mut divergent = seen.clone();
        let mut b = Server::new("apiserver-b");
        b.hash = hash;
        divergent.replicas[1] = replica("10.0.0.2:6443", &b, &b.wrote(ENCRYPTING));
        divergent.leases[1].peer_address = Some("10.0.0.2:6443".to_owned());
        assert!(divergent.accounted());
        assert!(!divergent.may_write());
        assert_verdict(&divergent, Truth::Unknown, reasons::HASH_DIVERGENT);
    }

    let mut hidden = seen;
    hidden.replicas.push(Replica {
        address: "10.0.0.3:6443".to_owned(),
        reading: Reading::Hidden("forbidden".to_owned()),
        canary: None,
        undecryptable: 0,
        silence: BTreeMap::new(),
    });
    assert!(!hidden.may_write());
}

#[test]
fn a_refused_canary_proves_nothing() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas[0].canary.as_mut().unwrap().write = Write::Refused("secrets is forbidden".to_owned());
    assert_verdict(&seen, Truth::Unknown, reasons::CANARY_REFUSED);
}

#[test]
fn a_canary_of_another_process_or_configuration_proves_nothing() {
    let base = Server::new("apiserver-a");
    let variants: [fn(&mut Server); 3] = [
        |server| server.started = Some("1.8e+09"),
        |server| server.hash = Some("sha256:cccc".to_owned()),
        |server| server.reloads = 1,
    ];
    for change in variants {
        let mut other = base.clone();
        change(&mut other);
        // Between the two scrapes …
        let mut seen = pair(ENCRYPTING, ENCRYPTING);
        seen.leases.truncate(1);
        seen.replicas = vec![replica("10.0.0.1:6443", &base, &other.wrote(ENCRYPTING))];
        assert_verdict(&seen, Truth::Unknown, reasons::CONFIGURATION_CHANGING);
        // … and since.
        seen.replicas = vec![replica("10.0.0.1:6443", &base, &base.wrote(ENCRYPTING))];
        seen.replicas[0].reading = Reading::Seen(other.wrote(ENCRYPTING).scrape());
        assert_verdict(&seen, Truth::Unknown, reasons::CONFIGURATION_CHANGING);
    }
}

#[test]
fn counters_that_shrink_prove_nothing() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let a = Server::new("apiserver-a");
    seen.replicas[0] = replica(
        "10.0.0.1:6443",
        &a.wrote(&[("k8s:enc:aesgcm:v1:", 9)]),
        &a.wrote(ENCRYPTING),
    );
    assert_verdict(&seen, Truth::Unknown, reasons::CONFIGURATION_CHANGING);
}

#[test]
fn a_canary_that_was_counted_elsewhere_proves_nothing() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    let a = Server::new("apiserver-a").wrote(ENCRYPTING);
    seen.replicas[0] = replica("10.0.0.1:6443", &a, &a);
    assert_verdict(&seen, Truth::Unknown, reasons::WRITE_UNSEEN);
}

#[test]
fn counters_that_are_renamed_or_switched_off_are_not_taken_for_plaintext() {
    for change in [
        |server: &mut Server| server.companions = false,
        |server: &mut Server| server.disabled = 1,
    ] {
        let mut server = Server::new("apiserver-a");
        change(&mut server);
        let mut seen = pair(ENCRYPTING, ENCRYPTING);
        seen.replicas[0] = replica("10.0.0.1:6443", &server, &server);
        assert_verdict(&seen, Truth::Unknown, reasons::UNVERIFIABLE);
    }
}

#[test]
fn prefixes_from_the_future_are_not_taken_for_encryption() {
    for moved in [&[("v9:", 1)][..], &[("v9:", 2), ("k8s:enc:aesgcm:v1:", 1)]] {
        assert_verdict(&pair(moved, ENCRYPTING), Truth::Unknown, reasons::UNVERIFIABLE);
    }
}

#[test]
fn a_process_that_hides_its_start_is_unverifiable() {
    let mut server = Server::new("apiserver-a");
    server.started = None;
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas[0] = replica("10.0.0.1:6443", &server, &server.wrote(ENCRYPTING));
    assert_verdict(&seen, Truth::Unknown, reasons::UNVERIFIABLE);
}

#[test]
fn values_that_no_key_fits_are_reported_beside_the_verdict() {
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas[1].undecryptable = 3;
    let proof = assert_verdict(&seen, Truth::True, reasons::NEW_WRITES_ENCRYPTED);
    assert!(proof.degraded.unwrap().contains("apiserver-b"));
    assert_eq!(judge(&pair(ENCRYPTING, ENCRYPTING), &now()).degraded, None);
}

#[test]
fn an_old_proof_is_unknown_and_so_is_one_from_the_future() {
    let proof = judge(&pair(ENCRYPTING, ENCRYPTING), &now());
    let day = Duration::from_hours(24);
    let at = |text| {
        let verdict = proof.verdict("SecretsEncrypted", &time(text), day);
        (verdict.truth, verdict.reason)
    };
    assert_eq!(at("2026-11-24T12:00:00Z"), (Truth::True, reasons::NEW_WRITES_ENCRYPTED));
    assert_eq!(at("2026-11-24T12:00:01Z"), (Truth::Unknown, reasons::PROOF_STALE));
    assert_eq!(at("2026-11-23T11:59:59Z"), (Truth::Unknown, reasons::PROOF_STALE));
}

#[test]
fn missing_evidence_displaces_an_answer_only_after_the_grace() {
    let grace = Duration::from_secs(30);
    let answer = judge(&pair(ENCRYPTING, ENCRYPTING), &now());
    let settle = |next: EncryptionProof| EncryptionProof::settle(Some(answer.clone()), next, grace);

    let soon = EncryptionProof::unreadable("no answer", &time("2026-11-23T12:00:29Z"));
    assert_eq!(settle(soon), answer, "the answer stays, with its old time");
    let late = EncryptionProof::unreadable("no answer", &time("2026-11-23T12:00:30Z"));
    assert_eq!(settle(late.clone()), late);
    let back = EncryptionProof::unreadable("no answer", &time("2026-11-23T11:59:00Z"));
    assert_eq!(settle(back.clone()), back);
    let disproof = judge(&pair(ENCRYPTING, IDENTITY), &time("2026-11-23T12:00:01Z"));
    assert_eq!(settle(disproof.clone()), disproof, "a disproof waits for nobody");
    let other = EncryptionProof::unreadable("no answer yet", &time("2026-11-23T12:01:00Z"));
    assert_eq!(EncryptionProof::settle(Some(late), other.clone(), grace), other);
}

/// Two API servers that encrypt with the plugin `cloud`, which named these keys.
fn with_kms(first: Option<&'static str>, second: Option<&'static str>) -> Observation {
    let server = |lease: &str, key_id| Server {
        key_id,
        ..Server::new(lease)
    };
    let moved = &[("k8s:enc:kms:v2:cloud:", 1)];
    let (a, b) = (server("apiserver-a", first), server("apiserver-b", second));
    let mut seen = pair(ENCRYPTING, ENCRYPTING);
    seen.replicas = vec![
        replica("10.0.0.1:6443", &a, &a.wrote(moved)),
        replica("10.0.0.2:6443", &b, &b.wrote(moved)),
    ];
    seen
}

#[test]
fn the_key_of_a_kms_plugin_is_followed_by_its_hash() {
    let same = with_kms(Some("sha256:aaaa"), Some("sha256:aaaa"));
    let proof = assert_verdict(&same, Truth::True, reasons::NEW_WRITES_ENCRYPTED);
    let said = "KMS provider cloud encrypts with key_id sha256:aaaa";
    assert!(proof.message.ends_with(said), "{}", proof.message);
    assert!(
        proof
            .replicas
            .iter()
            .all(|replica| replica.key_id_hash.as_deref() == Some("sha256:aaaa"))
    );
    let hidden = assert_verdict(&with_kms(None, None), Truth::True, reasons::NEW_WRITES_ENCRYPTED);
    assert!(hidden.message.ends_with("is not shown"), "{}", hidden.message);
}

#[test]
fn a_plugin_that_lets_its_api_server_down_is_no_proof_of_anything() {
    let silent = |seconds| {
        let mut seen = with_kms(Some("sha256:aaaa"), Some("sha256:aaaa"));
        seen.replicas[1].silence = [("cloud".to_owned(), Duration::from_secs(seconds))].into();
        seen
    };
    assert_verdict(&silent(180), Truth::True, reasons::NEW_WRITES_ENCRYPTED);
    let proof = assert_verdict(&silent(181), Truth::Unknown, reasons::KMS_UNHEALTHY);
    assert!(
        proof.message.contains("cloud") && proof.message.contains("apiserver-b"),
        "{}",
        proof.message
    );
    // While it lasts nothing changes in the status.
    assert_eq!(judge(&silent(500), &now()).message, proof.message);
}

#[test]
fn plugins_that_encrypt_with_different_keys_are_not_converged() {
    let differ = with_kms(Some("sha256:aaaa"), Some("sha256:bbbb"));
    let proof = assert_verdict(&differ, Truth::Unknown, reasons::KEY_IDS_DIFFER);
    for said in ["apiserver-a", "sha256:aaaa", "apiserver-b", "sha256:bbbb", "cloud"] {
        assert!(proof.message.contains(said), "{}", proof.message);
    }
}
