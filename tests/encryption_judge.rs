//! `SecretsEncrypted` is True only if every API server that exists was seen to encrypt. Each test is one way to be fooled.
#![allow(clippy::unwrap_used, clippy::struct_excessive_bools)] // a test fails by panicking

use std::time::Duration;

use cloison::api::conditions::Truth;
use cloison::api::encryption::Attestation;
use cloison::api::text::Contact;
use cloison::encryption::leases::id_hash;
use cloison::encryption::proof::reasons;
use cloison::encryption::{Canary, EncryptionProof, FreshLease, Observation, Reading, Replica, Scrape, Write, judge};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const ENCRYPTING: &[(&str, u64)] = &[("k8s:enc:aesgcm:v1:", 1), ("k1:", 1)];
const IDENTITY: &[(&str, u64)] = &[("", 1)];

/// The metrics of one API server, as it prints them.
#[derive(Clone)]
struct Server {
    lease: String,
    identified: bool,
    hash: Option<String>,
    started: Option<&'static str>,
    reloads: u64,
    writes: Vec<(String, u64)>,
    companions: bool,
    disabled: u64,
}

impl Server {
    fn new(lease: &str) -> Self {
        Self {
            lease: lease.to_owned(),
            identified: true,
            hash: Some("sha256:aaaa".to_owned()),
            started: Some("1.79545829408e+09"),
            reloads: 0,
            writes: Vec::new(),
            companions: true,
            disabled: 0,
        }
    }

    fn wrote(&self, moved: &[(&str, u64)]) -> Self {
        let mut after = self.clone();
        for (prefix, by) in moved {
            match after.writes.iter_mut().find(|(known, _)| known == prefix) {
                Some((_, count)) => *count += by,
                None => after.writes.push(((*prefix).to_owned(), *by)),
            }
        }
        after
    }

    fn scrape(&self) -> Scrape {
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

fn replica(address: &str, before: &Server, after: &Server) -> Replica {
    Replica {
        address: address.to_owned(),
        reading: Reading::Seen(after.scrape()),
        canary: Some(Canary {
            before: before.scrape(),
            write: Write::Done,
            after: after.scrape(),
        }),
        undecryptable: 0,
    }
}

fn lease(name: &str) -> FreshLease {
    FreshLease {
        name: name.to_owned(),
        peer_address: None,
    }
}

/// Two API servers, each seen to move these counters with the canary.
fn pair(first: &[(&str, u64)], second: &[(&str, u64)]) -> Observation {
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

fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

fn now() -> Time {
    time("2026-11-23T12:00:00Z")
}

#[track_caller]
fn assert_verdict(seen: &Observation, truth: Truth, reason: &str) -> EncryptionProof {
    let proof = judge(seen, &now());
    assert_eq!((proof.truth, proof.reason), (truth, reason), "{}", proof.message);
    proof
}

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
        *replica = self::replica(&replica.address, &server, &server.wrote(ENCRYPTING));
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

mod model {
    //! Random clusters whose truth is known: no observation of them may be judged better than they are.

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Config {
        None,
        Identity,
        Encrypting(u8),
    }

    #[derive(Clone, Debug)]
    struct Model {
        before: Config,
        after: Config,
        present: Config,
        shows_hash: bool,
        answers: bool,
        hides: bool,
        canary: bool,
        traffic: [u8; 3],
        twin: bool,
    }

    fn config() -> impl Strategy<Value = Config> {
        prop_oneof![
            1 => Just(Config::None),
            2 => Just(Config::Identity),
            8 => (0..2_u8).prop_map(Config::Encrypting),
        ]
    }

    fn model() -> impl Strategy<Value = Model> {
        let often = || prop::bool::weighted(0.9);
        let rarely = || prop::bool::weighted(0.07);
        (
            config(),
            prop::option::weighted(0.1, config()),
            prop::option::weighted(0.1, config()),
            (often(), often(), rarely(), often(), rarely()),
            any::<[u8; 3]>(),
        )
            .prop_map(
                |(before, after, present, (shows_hash, answers, hides, canary, twin), traffic)| {
                    let after = after.unwrap_or(before);
                    Model {
                        before,
                        after,
                        present: present.unwrap_or(after),
                        shows_hash,
                        answers,
                        hides,
                        canary,
                        traffic,
                        twin,
                    }
                },
            )
    }

    /// One process: it has one configuration at a time, and every write of a Secret goes through it.
    struct Process {
        server: Server,
        config: Config,
    }

    impl Process {
        fn load(&mut self, config: Config, shows_hash: bool) {
            if config != self.config {
                self.server.reloads += 1;
            }
            self.config = config;
            self.server.hash = match config {
                Config::None => None,
                _ if !shows_hash => None,
                other => Some(format!("sha256:{other:?}")),
            };
        }

        fn write(&mut self, times: u64) {
            if times == 0 {
                return;
            }
            self.server = match self.config {
                Config::None => self.server.clone(),
                Config::Identity => self.server.wrote(&[("", times)]),
                Config::Encrypting(key) => {
                    let key = format!("k{key}:");
                    self.server.wrote(&[("k8s:enc:aesgcm:v1:", times), (&key, times)])
                }
            };
        }
    }

    fn observe(index: usize, model: &Model) -> Replica {
        let address = format!("10.0.0.{index}:6443");
        let mut process = Process {
            server: Server::new(&format!("apiserver-{index}")),
            config: model.before,
        };
        process.load(model.before, model.shows_hash);
        process.write(u64::from(model.traffic[0]));
        let before = process.server.scrape();
        process.load(model.after, model.shows_hash);
        process.write(u64::from(model.canary) + u64::from(model.traffic[1] / 128));
        let after = process.server.scrape();
        process.load(model.present, model.shows_hash);
        process.write(u64::from(model.traffic[2] / 128));
        Replica {
            address,
            reading: match (model.answers, model.hides) {
                (false, _) => Reading::Failed("silent".to_owned()),
                (true, true) => Reading::Hidden("forbidden".to_owned()),
                (true, false) => Reading::Seen(process.server.scrape()),
            },
            canary: model.canary.then_some(Canary {
                before,
                write: Write::Done,
                after,
            }),
            undecryptable: 0,
        }
    }

    fn observation(models: &[Model]) -> Observation {
        let mut seen = Observation::default();
        for (index, model) in models.iter().enumerate() {
            seen.leases.push(lease(&format!("apiserver-{index}")));
            // Nobody dials a replica that the endpoints do not list.
            if !model.twin {
                seen.replicas.push(observe(index, model));
            }
        }
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn true_is_never_said_of_a_cluster_that_writes_plaintext(models in prop::collection::vec(model(), 1..5)) {
            let proof = judge(&observation(&models), &now());
            let encrypting = models.iter().all(|model| matches!(model.present, Config::Encrypting(_)));
            if proof.truth == Truth::True {
                prop_assert!(encrypting, "{models:?}: {}", proof.message);
                prop_assert!(models.iter().all(|model| model.answers && !model.hides && !model.twin && model.canary));
            }
        }

        #[test]
        fn false_is_never_said_of_a_cluster_that_always_encrypted(models in prop::collection::vec(model(), 1..5)) {
            let always = |model: &Model| {
                [model.before, model.after, model.present].iter().all(|config| matches!(config, Config::Encrypting(_)))
            };
            let proof = judge(&observation(&models), &now());
            if proof.truth == Truth::False {
                prop_assert!(!models.iter().all(always), "{models:?}: {}", proof.message);
            }
        }

        #[test]
        fn a_converged_cluster_is_always_recognised(count in 1..5_usize, key in 0..2_u8, traffic in any::<[u8; 3]>()) {
            let config = Config::Encrypting(key);
            let model = Model {
                before: config, after: config, present: config,
                shows_hash: true, answers: true, hides: false, canary: true, traffic, twin: false,
            };
            let proof = judge(&observation(&vec![model; count]), &now());
            prop_assert_eq!(proof.truth, Truth::True, "{}", proof.message);
        }

        #[test]
        fn the_same_observation_gives_the_same_words(models in prop::collection::vec(model(), 1..5)) {
            let seen = observation(&models);
            prop_assert_eq!(judge(&seen, &now()), judge(&seen, &now()));
        }
    }
}
