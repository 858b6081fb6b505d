//! Random clusters whose truth is known: no observation of them may be judged better than they are.
#![allow(clippy::unwrap_used, clippy::struct_excessive_bools)] // a test fails by panicking

mod encryption_fixture;

use std::collections::BTreeMap;

use proptest::prelude::*;

use cloison::api::conditions::Truth;
use cloison::encryption::{Canary, Observation, Reading, Replica, Write, judge};
use encryption_fixture::{Server, lease, now};

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
        silence: BTreeMap::new(),
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
