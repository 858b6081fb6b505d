//! When a rotation is due, when it is not, and what is left alone.

use std::collections::BTreeSet;
use std::time::Duration;

use cloison::api::encryption::Provider;
use cloison::api::encryption_status::Step;
use cloison::encryption::rotation::observation::{File, Observation};
use cloison::encryption::rotation::{Action, Blocked, Decision, Due, Records, Under, plan};

use super::cases::{enabled, key, rotating, until};
use super::crew::Crew;
use super::schedules::recover;

fn decided(mut seen: Observation) -> Decision {
    seen.records = Records::after(&seen);
    plan(&seen)
}

#[test]
fn a_key_is_replaced_by_age_by_writes_by_request_and_by_cipher() {
    let crew = enabled();
    assert_eq!(decided(crew.observation()).action, Action::Nothing);
    let due = |change: &dyn Fn(&mut Observation)| {
        let mut seen = crew.observation();
        change(&mut seen);
        decided(seen).action
    };
    let aes = |due| Action::Mint(Provider::AESGCM, due);
    let month = Duration::from_hours(24 * 30);
    assert_eq!(due(&|seen| seen.ring.keys[0].age = month), aes(Due::Age));
    assert_eq!(due(&|seen| seen.ring.keys[0].writes = 149_999), Action::Nothing);
    assert_eq!(due(&|seen| seen.ring.keys[0].writes = 150_000), aes(Due::Writes));
    assert_eq!(
        due(&|seen| seen.wish.requested = Some("now".to_owned())),
        aes(Due::Requested)
    );
    let served = |seen: &mut Observation| {
        seen.wish.requested = Some("now".to_owned());
        seen.ring.keys[0].request = Some("now".to_owned());
    };
    assert_eq!(due(&served), Action::Nothing);
    let boxed = |seen: &mut Observation| seen.wish.provider = Some(Provider::Secretbox);
    assert_eq!(due(&boxed), Action::Mint(Provider::Secretbox, Due::ProviderChange));
    let boxed_key = |seen: &mut Observation| {
        boxed(seen);
        seen.ring.keys[0].provider = Provider::Secretbox;
        seen.ring.keys[0].writes = 1_000_000_000;
    };
    assert_eq!(due(&boxed_key), Action::Nothing, "its nonces are long enough");
}

#[test]
fn one_rotation_is_in_flight_at_a_time() {
    // Before anything writes under it, the new key is replaced.
    let mut crew = rotating();
    until(&mut crew, "S2", |crew| {
        crew.last.as_ref().is_some_and(|it| it.step == Step::Read)
    });
    crew.wish.requested = Some("more".to_owned());
    crew.control();
    assert!(crew.order.mint.is_some(), "{:?}", crew.last);
    recover(&mut crew).unwrap();
    assert_eq!(crew.ring.last_id, 3);
    // After, the wish waits.
    let mut crew = rotating();
    until(&mut crew, "k2 writes", |crew| {
        crew.world.servers["a"].configuration().write == key(2)
    });
    crew.wish.requested = Some("more".to_owned());
    until(&mut crew, "k3", |crew| crew.ring.last_id == 3);
    assert!(crew.ring.keys[0].retired.is_some(), "k1 left first");
    recover(&mut crew).unwrap();
}

#[test]
fn another_cipher_is_one_more_rotation() {
    let mut crew = enabled();
    crew.wish.provider = Some(Provider::Secretbox);
    recover(&mut crew).unwrap();
    assert_eq!(crew.ring.keys[1].provider, Provider::Secretbox);
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
}

#[test]
fn to_disable_is_a_rotation_to_plaintext_and_keeps_the_key() {
    let mut crew = enabled();
    crew.wish.provider = None;
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == Under::Identity));
    assert!(crew.ring.keys[0].retired.is_some() && !crew.ring.keys[0].destroyed);
    crew.wish.provider = Some(Provider::AESGCM);
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
}

#[test]
fn to_give_up_the_only_key_never_decrypts() {
    let mut crew = enabled();
    crew.wish.abandoned.insert(1);
    assert_eq!(decided(crew.observation()).action, Action::Nothing);
}

#[test]
fn nothing_is_made_without_escrow_members_and_everybody() {
    let crew = Crew::new(&["a", "b"]);
    let mut seen = crew.observation();
    assert_eq!(decided(seen.clone()).action, Action::Hold, "nobody reported");
    seen.wish.escrow.clear();
    assert_eq!(decided(seen.clone()).blocked_by, [Blocked::EscrowMissing]);
    seen.wish.escrow_waived = true;
    seen.ring.members.remove("b");
    assert_eq!(decided(seen).blocked_by, [Blocked::NotMember("b".to_owned())]);
}

/// The file of `b`.
fn file(seen: &mut Observation) -> &mut File {
    seen.nodes[1].report.as_mut().unwrap().file.as_mut().unwrap()
}

#[test]
fn files_of_others_are_left_alone() {
    let crew = enabled();
    let changed = |change: &dyn Fn(&mut Observation)| {
        let mut seen = crew.observation();
        seen.wish.requested = Some("now".to_owned());
        change(&mut seen);
        let decision = decided(seen);
        assert_eq!(decision.action, Action::Hold);
        decision.blocked_by
    };
    let b = || "b".to_owned();
    let foreign = changed(&|seen| file(seen).own = false);
    let [Blocked::ForeignConfig(node, hash)] = &foreign[..] else {
        panic!("{foreign:?}");
    };
    assert_eq!((node, hash), (&b(), &file(&mut crew.observation()).hash));
    assert_eq!(changed(&|seen| file(seen).kms = true), [Blocked::KmsObserved(b())]);
    assert_eq!(
        changed(&|seen| seen.ring.keys.clear()).last(),
        Some(&Blocked::KeyLost("c".to_owned(), key(1)))
    );
    assert_eq!(changed(&|seen| seen.wish.suspended = true), [Blocked::Suspended]);
}

#[test]
fn keys_that_were_adopted_are_read_and_leave_with_the_first_rotation() {
    let mut crew = enabled();
    crew.ring.keys[0].imported = true;
    let mut seen = crew.observation();
    for node in &mut seen.nodes {
        node.report.as_mut().unwrap().file.as_mut().unwrap().own = false;
    }
    assert_eq!(decided(seen).action, Action::Mint(Provider::AESGCM, Due::FirstEnable));
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
}

#[test]
fn material_is_destroyed_only_where_the_policy_says_so_and_etcd_shows_nothing() {
    let mut crew = rotating();
    recover(&mut crew).unwrap();
    crew.prove();
    let day = Duration::from_hours(24);
    let mut seen = crew.observation();
    seen.ring.keys[0].retired = Some(day * 31);
    assert_eq!(
        decided(seen.clone()).action,
        Action::Nothing,
        "never, unless it says when"
    );
    seen.wish.retention = Some(day * 31);
    assert_eq!(decided(seen.clone()).action, Action::Nothing);
    seen.wish.retention = Some(day * 30);
    assert_eq!(decided(seen.clone()).action, Action::Destroy(BTreeSet::from([1])));
    seen.latest_proof = None;
    assert_eq!(decided(seen).action, Action::Nothing, "nobody looked");
}

/// No check of the invariants: somebody else broke them.
fn unchecked(crew: &mut Crew, rounds: usize) {
    for _ in 0..rounds {
        crew.control();
        for node in crew.nodes() {
            crew.act(&node, false);
        }
        for _ in 0..10 {
            crew.world.second();
        }
    }
}

#[test]
fn a_value_under_a_retired_key_brings_the_key_back_at_once() {
    let mut crew = rotating();
    recover(&mut crew).unwrap();
    crew.world.etcd.put("restored", Some(key(1)));
    crew.prove();
    crew.control();
    assert_eq!(crew.said().degraded.len(), 1, "{:?}", crew.last);
    let order = crew.order.configuration.clone().unwrap();
    assert_eq!((order.write.0.as_str(), order.read.len()), ("k2", 1));
    unchecked(&mut crew, 10);
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
}

#[test]
fn a_node_that_comes_back_with_an_old_file_is_given_the_new_and_what_it_wrote_is_read() {
    let mut crew = enabled();
    let old = crew.world.disks["c"].configuration.clone();
    crew.agents.remove("c");
    crew.world.kill("c");
    crew.world.servers.remove("c");
    crew.world.disks.remove("c");
    crew.wish.requested = Some("again".to_owned());
    recover(&mut crew).unwrap();
    crew.join("c", &old);
    crew.world.start("c");
    crew.act("c", false);
    crew.world.write("c", "late", 1);
    unchecked(&mut crew, 15);
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
    assert!(crew.world.servers["c"].configuration().write == key(2));
}

#[test]
fn a_node_that_is_gone_is_ordered_out_of_the_ring() {
    let mut seen = enabled().observation();
    let removed = |seen: &Observation| {
        let order = decided(seen.clone()).order(seen);
        order.remove.into_iter().map(|node| node.0).collect::<Vec<_>>()
    };
    assert!(removed(&seen).is_empty());
    seen.nodes.retain(|node| node.name != "b");
    assert_eq!(removed(&seen), ["b"]);
    // That nobody at all has the label is a mistake of somebody's.
    seen.nodes.clear();
    assert!(removed(&seen).is_empty());
}
