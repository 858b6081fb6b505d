//! What is held before anything is made, what takes encryption away on purpose, and keys that a person gives up by name.

use std::collections::BTreeSet;

use cloison::api::conditions::{Truth, Verdict};
use cloison::api::encryption::{Plaintext, Provider, SecretEncryptionSpec, WantedProvider};
use cloison::api::encryption_status::Step;
use cloison::encryption::config::KeyName;
use cloison::encryption::rotation::observation::{ApiServer, Named, Proof, Wish};
use cloison::encryption::rotation::{
    Action, Blocked, Due, Observation, Records, Under, abandoned, persistence, plaintext, plan,
};

use super::cases::{enabled, key, rotating, until};
use super::crew::Crew;
use super::schedules::{recover, round};

const LINE: &str = "extraArgs: - {name: encryption-provider-config, value: \"/etc/x\"}";

fn lacking() -> Vec<String> {
    vec![LINE.to_owned()]
}

/// What the agent of a node reports of its API server.
fn server(seen: &mut Observation, node: usize) -> &mut ApiServer {
    let report = seen.nodes[node].report.as_mut().unwrap();
    report.api_server.as_mut().unwrap()
}

/// Everybody reports, and the controller decides.
fn told(crew: &mut Crew) {
    for node in crew.nodes() {
        crew.report(&node);
    }
    crew.control();
}

#[test]
fn no_first_key_is_made_while_an_upgrade_would_drop_the_flags() {
    let mut crew = Crew::new(&["a", "b"]);
    crew.to_persist = Some(lacking());
    for _ in 0..5 {
        told(&mut crew);
        let said = crew.said();
        assert_eq!((said.step, said.action), (Step::Mint, Action::Hold));
        assert_eq!(said.blocked_by, [Blocked::FlagsNotPersistent(vec![LINE.to_owned()])]);
        assert_eq!(said.blocked_by[0].reason(), "FlagsNotPersistent");
        assert!(said.next_command.unwrap().ends_with(LINE));
    }
    assert_eq!((crew.ring.last_id, &crew.order.mint), (0, &None));
    let verdict = persistence::verdict(&crew.observation());
    assert_eq!((verdict.truth, verdict.reason), (Truth::False, "UpgradeDropsFlags"));
    assert!(verdict.message.ends_with(LINE), "{}", verdict.message);
    // One agent that knows is enough: there is one configuration for all.
    crew.to_persist = None;
    crew.report("b");
    crew.control();
    assert_eq!(crew.said().action, Action::Hold);
    crew.to_persist = Some(Vec::new());
    told(&mut crew);
    assert_eq!(persistence::verdict(&crew.observation()).truth, Truth::True);
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(1)));
}

#[test]
fn where_kubeadm_is_not_used_nobody_can_tell_and_nothing_is_held() {
    let mut crew = enabled();
    let verdict = persistence::verdict(&crew.observation());
    assert_eq!((verdict.truth, verdict.reason), (Truth::Unknown, "NotKubeadm"));
    told(&mut crew);
    assert_eq!(crew.said().action, Action::Nothing);
}

#[test]
fn once_a_key_is_in_use_the_flags_are_a_warning_and_hold_no_rotation() {
    for step in [Step::Mint, Step::Read, Step::Promote, Step::Sweep] {
        let mut crew = Crew::new(&["a", "b", "c"]);
        until(&mut crew, "the step", |crew| {
            crew.ring.last_id > 0 && crew.said().step == step || step == Step::Mint && crew.ring.last_id == 1
        });
        crew.to_persist = Some(lacking());
        recover(&mut crew).unwrap();
        crew.wish.requested = Some("again".to_owned());
        recover(&mut crew).unwrap();
        assert!(
            crew.world.etcd.current().into_values().all(|it| *it == key(2)),
            "{step:?}"
        );
        assert_eq!(persistence::verdict(&crew.observation()).truth, Truth::False);
    }
}

#[test]
fn a_resource_that_nobody_rewrites_is_told_before_anything_is_made() {
    let mut crew = Crew::new(&["a", "b"]);
    crew.wish.resources.insert("configmaps".to_owned());
    for _ in 0..5 {
        told(&mut crew);
        let said = crew.said();
        assert_eq!((said.step, said.action), (Step::Mint, Action::Hold));
        assert_eq!(said.blocked_by, [Blocked::NotSwept("configmaps".to_owned())]);
        assert!(said.blocked_by[0].to_string().contains("names configmaps"));
        assert!(said.next_command.unwrap().contains("resources"));
    }
    assert_eq!(crew.ring.last_id, 0);
    crew.wish.resources.remove("configmaps");
    recover(&mut crew).unwrap();
}

#[test]
fn a_resource_that_is_named_on_the_way_changes_nothing_until_it_is_taken_out() {
    let mut crew = rotating();
    until(&mut crew, "S4", |crew| crew.said().step == Step::Sweep);
    crew.wish.resources.insert("configmaps".to_owned());
    for _ in 0..100 {
        assert_eq!(round(&mut crew), None);
        assert_eq!(crew.said().action, Action::Hold);
        assert_eq!(crew.order.configuration, None, "files stay as they are");
    }
    crew.wish.resources.remove("configmaps");
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
}

fn disabled(crew: &Crew) -> Option<Verdict> {
    plaintext::verdict(&crew.observation(), &crew.said())
}

#[test]
fn to_take_encryption_away_is_wanted_in_the_policy_and_told_as_what_it_is() {
    let spec = SecretEncryptionSpec {
        provider: WantedProvider::Identity,
        plaintext: Plaintext::Accepted,
        ..SecretEncryptionSpec::default()
    };
    let wish = |spec: &SecretEncryptionSpec| Wish::of(spec, None, BTreeSet::new()).provider;
    assert_eq!(wish(&SecretEncryptionSpec::default()), Some(Provider::AESGCM));
    assert_eq!(wish(&spec), None);
    let mut crew = enabled();
    assert_eq!(disabled(&crew), None);
    crew.wish.provider = wish(&spec);
    assert_eq!(round(&mut crew), None);
    let said = disabled(&crew).unwrap();
    assert_eq!((said.truth, said.reason), (Truth::True, "Disabling"));
    assert!(
        said.message.starts_with("Secrets will be stored in plaintext"),
        "{}",
        said.message
    );
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == Under::Identity));
    let said = disabled(&crew).unwrap();
    assert!(
        said.message.starts_with("Secrets are stored in plaintext"),
        "{}",
        said.message
    );
    assert!(!crew.ring.keys[0].destroyed, "the key is kept");
}

#[test]
fn where_nothing_was_ever_encrypted_nothing_is_done_to_disable_it() {
    let crew = Crew::new(&["a", "b"]);
    let mut seen = crew.observation();
    seen.wish.provider = None;
    for node in &mut seen.nodes {
        node.report = Some(<_>::default());
    }
    let said = cloison::encryption::rotation::plan(&seen);
    assert_eq!((said.step, said.action), (Step::Idle, Action::Nothing));
}

/// What the annotation does, and what is said of it.
fn give_up(crew: &mut Crew, annotation: &str) -> Verdict {
    crew.wish.abandoned = abandoned::numbers(annotation, &crew.ring);
    abandoned::verdict(&crew.observation(), Some(annotation)).unwrap()
}

#[test]
fn a_key_that_is_given_up_by_name_before_it_is_alone_is_left_for_the_one_before() {
    let mut crew = rotating();
    assert_eq!(abandoned::verdict(&crew.observation(), None), None);
    until(&mut crew, "S4", |crew| crew.said().step == Step::Sweep);
    let said = give_up(&mut crew, "k2");
    assert_eq!((said.truth, said.reason), (Truth::True, "GoingBack"));
    assert!(said.message.contains("under k1 again"), "{}", said.message);
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(1)));
    let said = give_up(&mut crew, " k2 ,");
    assert_eq!((said.truth, said.reason), (Truth::True, "GivenUp"));
    // A node that comes back with the file from before.
    let mut seen = crew.observation();
    let file = seen.nodes[1].report.as_mut().unwrap().file.as_mut().unwrap();
    file.configuration.as_mut().unwrap().read.insert(key(2));
    let said = abandoned::verdict(&seen, Some("k2")).unwrap();
    assert_eq!((said.truth, said.reason), (Truth::Unknown, "StillRead"));
}

#[test]
fn to_give_up_the_first_key_while_it_is_enabled_says_plaintext() {
    let mut crew = Crew::new(&["a", "b", "c"]);
    until(&mut crew, "S4", |crew| {
        crew.last.is_some() && crew.said().step == Step::Sweep
    });
    let said = give_up(&mut crew, "k1");
    assert!(
        said.message.contains("Secrets will be stored in plaintext"),
        "{}",
        said.message
    );
    until(&mut crew, "plaintext", |crew| {
        crew.world.etcd.current().into_values().all(|it| *it == Under::Identity)
    });
}

#[test]
fn a_key_that_cannot_be_given_up_any_more_stays_and_it_is_said_first() {
    let mut crew = rotating();
    recover(&mut crew).unwrap();
    let said = give_up(&mut crew, "k1, k2, k9");
    assert_eq!((said.truth, said.reason), (Truth::False, "NothingToGoBackTo"));
    for line in [
        "k2 cannot be given up any more",
        "no key of the ring is called k9",
        "k1 is given up",
    ] {
        assert!(said.message.contains(line), "{line}: {}", said.message);
    }
    for _ in 0..20 {
        assert_eq!(round(&mut crew), None);
    }
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
    let said = give_up(&mut crew, "k9");
    assert_eq!((said.truth, said.reason), (Truth::False, "NoSuchKey"));
    assert_eq!(crew.wish.abandoned, BTreeSet::new());
    // The first enable is over: nothing reads plaintext any more, and nothing is decrypted.
    let mut crew = enabled();
    assert_eq!(give_up(&mut crew, "k1").reason, "NothingToGoBackTo");
    crew.wish.requested = Some("away".to_owned());
    told(&mut crew);
    assert_eq!(crew.said().action, Action::Mint(Provider::AESGCM, Due::Requested));
}

#[test]
fn a_configuration_in_another_place_is_told_with_the_copy_that_comes_first() {
    let mut crew = Crew::new(&["a"]);
    told(&mut crew);
    let mut seen = crew.observation();
    let report = seen.nodes[0].report.as_mut().unwrap();
    report.file = None;
    report.named = Named::Elsewhere;
    report.flags_missing = vec!["--encryption-provider-config=/new in the place of /old".to_owned()];
    // Kubernetes before 1.34, and one that hides the metric, say nothing: it is no less configured for that.
    for loaded in [Some("sha256:elsewhere".to_owned()), None] {
        server(&mut seen, 0).loaded = loaded;
        let said = plan(&seen);
        assert_eq!(said.action, Action::Hold);
        assert!(matches!(&said.blocked_by[..], [Blocked::ConfiguredElsewhere(node, _)] if node == "a"));
        let next = said.next_command.unwrap();
        let copy = next.find("first copy the present file").unwrap();
        assert!(copy < next.find("in the place of /old").unwrap(), "{next}");
    }
}

#[test]
fn an_api_server_whose_flags_nobody_can_read_is_not_taken_for_one_without_a_file() {
    let mut crew = Crew::new(&["a"]);
    told(&mut crew);
    let mut seen = crew.observation();
    let report = seen.nodes[0].report.as_mut().unwrap();
    (report.file, report.named) = (None, Named::Unseen);
    server(&mut seen, 0).loaded = None;
    let said = plan(&seen);
    assert_eq!(
        (said.action, said.blocked_by),
        (Action::Hold, vec![Blocked::FlagsUnseen("a".to_owned())])
    );
    seen.nodes[0].report.as_mut().unwrap().named = Named::Nothing;
    assert_eq!(plan(&seen).action, Action::Mint(Provider::AESGCM, Due::FirstEnable));
}

#[test]
fn no_first_key_is_made_where_no_api_server_says_what_it_loaded() {
    let mut crew = Crew::new(&["a", "b"]);
    told(&mut crew);
    let mut seen = crew.observation();
    server(&mut seen, 1).version = Some((1, 33));
    let said = plan(&seen);
    assert_eq!(said.action, Action::Hold);
    assert_eq!(said.blocked_by, [Blocked::TooOld("b".to_owned(), (1, 33))]);
    server(&mut seen, 1).version = Some((1, 34));
    assert_eq!(plan(&seen).action, Action::Mint(Provider::AESGCM, Due::FirstEnable));
}

#[test]
fn an_api_server_that_was_started_anew_since_its_report_is_seen_as_it_answers() {
    let mut crew = rotating();
    until(&mut crew, "the drain", |crew| crew.said().step == Step::Drain);
    let answered = |change: fn(&mut ApiServer)| {
        let mut seen = crew.observation();
        let mut shown = server(&mut seen, 1).clone();
        change(&mut shown);
        seen.answered = vec![shown];
        seen.records = Records::after(&seen);
        (seen.records.proof().is_some(), plan(&seen))
    };
    assert!(answered(|_| {}).0, "as it was reported");
    // It may have written under anything before its agent looks again.
    assert!(!answered(|shown| shown.started += 1).0);
    let (proven, said) = answered(|shown| (shown.started, shown.loaded) = (shown.started + 1, Some("old".to_owned())));
    assert!(!proven);
    assert_eq!(said.blocked_by, [Blocked::NotLoaded("b".to_owned(), None)]);
}

#[test]
fn a_reading_that_finds_nothing_at_all_proves_nothing() {
    let mut crew = rotating();
    until(&mut crew, "the drain", |crew| crew.said().step == Step::Drain);
    let mut seen = crew.observation();
    assert_eq!(seen.records.proof().map(|proof| proof.stores("secrets")), Some(true));
    // Before the sweep it would not count.
    let revision = seen.records.proof().map_or(0, |proof| proof.revision);
    let values = [("secrets".to_owned(), [].into())].into();
    seen.latest_proof = Some(Proof { revision, values });
    seen.compacted = u64::MAX;
    let swept = seen.records.sweep().cloned().unwrap();
    let held = seen.records.held().cloned().unwrap();
    seen.records.swept(&held, swept);
    seen.records = Records::after(&seen);
    let said = plan(&seen);
    assert_eq!(said.action, Action::StartProof);
    assert_eq!(said.blocked_by, [Blocked::NothingStored("secrets".to_owned())]);
    // Once the agents read the right etcd, that reading counts.
    let values = [("secrets".to_owned(), [(key(2), 5)].into())].into();
    seen.latest_proof = Some(Proof { revision, values });
    seen.records = Records::after(&seen);
    assert!(matches!(plan(&seen).action, Action::Retire(_)), "{:?}", plan(&seen));
}

#[test]
fn a_key_that_was_destroyed_on_purpose_is_told_apart_from_one_that_is_lost() {
    let mut crew = enabled();
    told(&mut crew);
    let with = |key: Under| {
        let mut seen = crew.observation();
        let file = seen.nodes[1].report.as_mut().unwrap().file.as_mut().unwrap();
        file.configuration.as_mut().unwrap().read.insert(key);
        seen
    };
    let said = plan(&with(key(9)));
    assert_eq!(
        (said.action, &said.blocked_by[..]),
        (Action::Hold, &[Blocked::KeyLost("b".to_owned(), key(9))][..])
    );
    let copy = said.next_command.unwrap();
    assert!(copy.contains("first copy the file to a safe place"), "{copy}");
    let mut seen = with(key(9));
    let mut gone = seen.ring.keys[0].clone();
    (gone.id, gone.name, gone.destroyed) = (9, KeyName::parse("k9").unwrap(), true);
    seen.ring.keys.push(gone);
    let said = plan(&seen);
    assert_eq!(
        (said.action, &said.blocked_by[..]),
        (Action::Hold, &[Blocked::KeyDestroyed("b".to_owned(), key(9))][..])
    );
}
