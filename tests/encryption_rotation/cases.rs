//! One case for each thing that is waited for: without it, this case fails.

use std::time::Duration;

use cloison::api::encryption_status::Step;
use cloison::encryption::rotation::observation::RingKey;
use cloison::encryption::rotation::{Action, Blocked, Configuration, SETTLE, Under};

use super::crew::Crew;
use super::schedules::{Event, apply, pass, recover, round};

const NODES: [&str; 3] = ["a", "b", "c"];

pub fn key(id: u64) -> Under {
    Under::named(&format!("k{id}")).unwrap()
}

/// Encryption is enabled, and everything is under k1.
pub fn enabled() -> Crew {
    let mut crew = Crew::new(&NODES);
    recover(&mut crew).unwrap();
    assert_eq!(crew.ring.last_id, 1);
    crew
}

/// And a rotation to k2 was asked for.
pub fn rotating() -> Crew {
    let mut crew = enabled();
    crew.wish.requested = Some("again".to_owned());
    crew
}

/// Rounds in which everybody does its part, until it is so.
pub fn until(crew: &mut Crew, what: &str, so: impl Fn(&Crew) -> bool) {
    for _ in 0..400 {
        if so(crew) {
            return;
        }
        assert_eq!(round(crew), None, "before: {what}");
    }
    panic!("never: {what}; {:?}", crew.last);
}

/// The same, up to a decision that nobody acted on yet.
pub fn until_decided(crew: &mut Crew, what: &str, so: impl Fn(&Crew) -> bool) {
    for _ in 0..400 {
        assert_eq!(apply(crew, &Event::Control, &mut 0), None, "before: {what}");
        if so(crew) {
            return;
        }
        for node in crew.nodes() {
            crew.act(&node, false);
        }
        assert_eq!(pass(crew, 10), Vec::<String>::new(), "before: {what}");
    }
    panic!("never: {what}; {:?}", crew.last);
}

fn at(step: Step) -> impl Fn(&Crew) -> bool {
    move |crew| crew.last.as_ref().is_some_and(|last| last.step == step)
}

fn orders(write: Under) -> impl Fn(&Crew) -> bool {
    move |crew| {
        let asked = crew.order.configuration.as_ref();
        asked.is_some_and(|asked| asked.write.0 == write.to_string())
    }
}

/// So many rounds, in each of which something must be so.
fn throughout(crew: &mut Crew, rounds: usize, so: impl Fn(&Crew) -> bool) {
    for _ in 0..rounds {
        assert_eq!(round(crew), None);
        assert!(so(crew), "{:?}", crew.last);
    }
}

fn everything_is_under(crew: &Crew, under: &Under) {
    assert!(crew.world.etcd.current().into_values().all(|it| it == under));
    let alone = Configuration::new(under.clone(), []);
    assert!(crew.world.servers.values().all(|it| *it.configuration() == alone));
}

#[test]
fn first_enable_takes_every_step_and_ends_without_plaintext() {
    let mut crew = Crew::new(&NODES);
    recover(&mut crew).unwrap();
    let steps: Vec<Step> = crew.steps.iter().copied().collect();
    // There is no older key to mark.
    let all = [
        Step::Idle,
        Step::Mint,
        Step::Read,
        Step::Promote,
        Step::Sweep,
        Step::Prove,
        Step::Drain,
        Step::Retire,
    ];
    assert_eq!(steps, all);
    everything_is_under(&crew, &key(1));
    assert_eq!(crew.world.servers["a"].unknown, 0);
}

#[test]
fn a_rotation_ends_with_the_old_key_archived_and_kept() {
    let mut crew = rotating();
    recover(&mut crew).unwrap();
    everything_is_under(&crew, &key(2));
    assert!(crew.steps.contains(&Step::Archive));
    let old = &crew.ring.keys[0];
    assert!(old.retired.is_some() && !old.destroyed);
}

#[test]
fn nobody_writes_what_a_late_reader_cannot_read() {
    let mut crew = rotating();
    until(&mut crew, "S2", at(Step::Read));
    crew.world.servers.get_mut("c").unwrap().next_poll += 600;
    throughout(&mut crew, 50, |crew| {
        crew.said().step == Step::Read && orders(key(1))(crew)
    });
    assert!(matches!(&crew.said().blocked_by[..], [Blocked::NotLoaded(node, _)] if node == "c"));
    recover(&mut crew).unwrap();
    everything_is_under(&crew, &key(2));
}

/// Runs until the sweep begins. When the last API server began to write under k2, and when the sweep began.
fn promotion(crew: &mut Crew) -> (u64, u64) {
    let mut last = 0;
    for _ in 0..200 {
        let before = crew.world.now;
        // A request that takes as long as it may, on everybody, all the time.
        for node in NODES {
            crew.world.write(node, "slow", 55);
        }
        assert_eq!(round(crew), None);
        let all = crew.world.servers.values().all(|it| it.configuration().write == key(2));
        if all && last == 0 {
            last = before;
        }
        if crew.said().action == Action::StartSweep {
            return (last, before);
        }
    }
    panic!("never swept: {:?}", crew.last);
}

#[test]
fn the_sweep_waits_until_no_request_can_still_write_the_old_key() {
    let mut crew = rotating();
    until(&mut crew, "S3", orders(key(2)));
    let (last, swept) = promotion(&mut crew);
    assert!(Duration::from_secs(swept - last) >= SETTLE, "{last} {swept}");
    recover(&mut crew).unwrap();
}

/// How long after the last API server the sweep begins, where they give a request so long.
fn waits(timeouts: &[(&str, u64)]) -> u64 {
    let mut crew = rotating();
    let each = timeouts
        .iter()
        .map(|(node, of)| ((*node).to_owned(), Duration::from_secs(*of)));
    crew.request_timeouts = each.collect();
    until(&mut crew, "S3", orders(key(2)));
    let (last, swept) = promotion(&mut crew);
    assert!(last > 0);
    swept - last
}

#[test]
fn the_wait_is_the_longest_that_any_api_server_gives_a_request() {
    let raised = waits(&[("a", 5), ("b", 300), ("c", 5)]);
    assert!(raised >= 300, "{raised}");
    let untold = waits(&[("a", 5), ("b", 5)]);
    assert!(untold >= SETTLE.as_secs(), "c does not tell: {untold}");
}

#[test]
fn an_api_server_whose_requests_take_long_is_named_while_they_are_waited_for() {
    let mut crew = rotating();
    crew.request_timeouts = [("b".to_owned(), Duration::from_secs(300)), ("c".to_owned(), SETTLE)].into();
    let slow = Blocked::SlowRequests("b".to_owned(), Duration::from_secs(300));
    until(&mut crew, "b is named", |crew| {
        crew.last.as_ref().is_some_and(|last| last.blocked_by == [slow.clone()])
    });
    crew.request_timeouts.clear();
    assert_eq!(round(&mut crew), None);
    throughout(&mut crew, 50, |crew| {
        let mut blocked = crew.last.iter().flat_map(|last| &last.blocked_by);
        !blocked.any(|blocked| matches!(blocked, Blocked::SlowRequests(..)))
    });
}

#[test]
fn the_wait_begins_with_the_last_api_server_and_not_with_the_first() {
    let mut crew = rotating();
    until(&mut crew, "S3", orders(key(2)));
    crew.world.servers.get_mut("c").unwrap().next_poll += 300;
    let (last, swept) = promotion(&mut crew);
    assert!(
        last > 0 && Duration::from_secs(swept - last) >= SETTLE,
        "{last} {swept}"
    );
    recover(&mut crew).unwrap();
}

#[test]
fn a_pass_that_rewrote_something_proves_nothing() {
    let mut crew = rotating();
    until(&mut crew, "S5", at(Step::Prove));
    assert_eq!(crew.records.sweep().unwrap().rewritten, 0);
}

#[test]
fn an_object_that_cannot_be_rewritten_holds_the_rotation_by_name() {
    let mut crew = rotating();
    crew.world.stuck.insert("s3".to_owned());
    until(&mut crew, "S4", |crew| {
        let last = crew.last.as_ref().unwrap();
        last.blocked_by == [Blocked::SweepBlocked(vec!["s3".to_owned()])]
    });
    throughout(&mut crew, 60, at(Step::Sweep));
    assert_eq!(crew.said().next_command.as_deref(), Some("cloison encryption verify"));
    crew.world.stuck.clear();
    recover(&mut crew).unwrap();
    everything_is_under(&crew, &key(2));
}

#[test]
fn a_value_that_the_sweep_did_not_meet_is_found_in_etcd() {
    let mut crew = rotating();
    until_decided(&mut crew, "S5", at(Step::Prove));
    crew.world.etcd.put("hidden", Some(key(1)));
    recover(&mut crew).unwrap();
    everything_is_under(&crew, &key(2));
}

#[test]
fn a_proof_that_does_not_cover_a_resource_is_none() {
    let mut crew = rotating();
    until_decided(&mut crew, "S5", at(Step::Prove));
    crew.proves = "configmaps";
    throughout(&mut crew, 60, at(Step::Prove));
    assert_eq!(crew.said().blocked_by, [Blocked::NotProven("secrets".to_owned())]);
}

#[test]
fn a_key_stays_until_old_revisions_are_compacted() {
    let mut crew = rotating();
    until(&mut crew, "S6", at(Step::Drain));
    let Action::AwaitCompaction(revision) = crew.said().action else {
        panic!("{:?}", crew.last)
    };
    while crew.world.etcd.compacted < revision {
        assert!(crew.world.servers["a"].configuration().read.contains(&key(1)));
        assert_ne!(crew.said().step, Step::Retire);
        assert_eq!(round(&mut crew), None);
    }
    until(&mut crew, "S7", at(Step::Retire));
    recover(&mut crew).unwrap();
}

#[test]
fn nothing_is_dropped_while_a_control_plane_node_is_down() {
    let mut crew = rotating();
    until(&mut crew, "S6", at(Step::Drain));
    crew.world.kill("c");
    crew.agents.get_mut("c").unwrap().up = false;
    throughout(&mut crew, 120, |crew| {
        crew.said().step < Step::Retire && crew.said().blocked_by.len() <= 2
    });
    assert_eq!(crew.said().blocked_by, [Blocked::NodeUnreachable("c".to_owned())]);
    recover(&mut crew).unwrap();
    everything_is_under(&crew, &key(2));
}

#[test]
fn a_node_that_is_gone_for_good_is_deleted_and_the_rotation_goes_on() {
    let mut crew = enabled();
    crew.world.kill("c");
    crew.agents.get_mut("c").unwrap().up = false;
    throughout(&mut crew, 10, at(Step::Idle));
    crew.wish.requested = Some("again".to_owned());
    throughout(&mut crew, 30, |crew| crew.said().action == Action::Hold);
    assert_eq!(crew.said().blocked_by[0], Blocked::NodeUnreachable("c".to_owned()));
    crew.agents.remove("c");
    crew.world.servers.remove("c");
    crew.world.disks.remove("c");
    recover(&mut crew).unwrap();
    assert!(crew.world.etcd.current().into_values().all(|it| *it == key(2)));
}

#[test]
fn a_number_is_never_used_again_and_an_order_that_is_read_twice_makes_one_key() {
    let mut crew = Crew::new(&NODES);
    // Keys up to k5 were destroyed, and left the ring.
    crew.ring.last_id = 5;
    until_decided(&mut crew, "S1", |crew| crew.order.mint.is_some());
    assert_eq!(crew.order.mint.as_ref().unwrap().after_id, 5);
    for node in NODES {
        crew.act(node, false);
        crew.act(node, false);
    }
    let ids: Vec<u64> = crew.ring.keys.iter().map(|key| key.id).collect();
    assert_eq!(ids, [6]);
}

/// k2 was just made.
fn minted() -> Crew {
    let mut crew = rotating();
    until_decided(&mut crew, "S1", |crew| crew.order.mint.is_some());
    crew.act("a", false);
    assert_eq!(crew.ring.last_id, 2);
    crew
}

#[test]
fn a_key_is_used_only_when_it_is_on_every_disk() {
    let mut crew = minted();
    crew.agents.get_mut("c").unwrap().up = false;
    for _ in 0..2 {
        crew.act("a", false);
        crew.act("b", false);
        crew.control();
    }
    let held = Blocked::NotOnDisk(crew.ring.keys[1].name.clone(), "c".to_owned());
    assert_eq!((crew.said().step, crew.said().blocked_by), (Step::Mint, vec![held]));
    assert_eq!(crew.order.configuration, None);
    recover(&mut crew).unwrap();
}

#[test]
fn a_key_is_used_only_when_it_is_sealed_for_the_escrow() {
    let mut crew = minted();
    crew.wish.escrow.insert("age1second".to_owned());
    throughout(&mut crew, 10, |crew| {
        crew.said().step == Step::Mint && crew.order.configuration.is_none()
    });
    let RingKey { name, .. } = crew.ring.keys[1].clone();
    assert_eq!(
        crew.said().blocked_by,
        [Blocked::NotSealed(name, "age1second".to_owned())]
    );
    crew.ring.keys[1].sealed_for.insert("age1second".to_owned());
    recover(&mut crew).unwrap();
}

#[test]
fn a_rotation_that_is_rolled_back_promotes_the_old_key_and_drops_nothing() {
    for step in [Step::Read, Step::Promote, Step::Sweep, Step::Prove, Step::Drain] {
        let mut crew = rotating();
        until(&mut crew, "the step", at(step));
        if step == Step::Promote {
            until(&mut crew, "one that writes it", |crew| {
                crew.world.servers.values().any(|it| it.configuration().write == key(2))
            });
        }
        crew.wish.abandoned.insert(2);
        recover(&mut crew).unwrap();
        everything_is_under(&crew, &key(1));
        assert!(crew.ring.keys[1].retired.is_some(), "{step:?}");
    }
}

/// The order to drop k1 was done by `a`, which died before it said so. Then the rotation is rolled back.
#[test]
fn a_report_that_may_have_missed_an_order_is_not_believed() {
    let mut crew = rotating();
    until_decided(&mut crew, "S7", at(Step::Retire));
    crew.act("a", true);
    crew.agents.get_mut("a").unwrap().up = false;
    crew.wish.abandoned.insert(2);
    throughout(&mut crew, 5, |crew| !orders(key(1))(crew));
    throughout(&mut crew, 30, |_| true);
    recover(&mut crew).unwrap();
    everything_is_under(&crew, &key(1));
}

/// Whoever dies, in whichever step: the rotation ends, and nothing was unreadable at any time.
#[test]
fn every_death_in_every_step_is_survived() {
    const STEPS: [Step; 8] = [
        Step::Mint,
        Step::Read,
        Step::Promote,
        Step::Sweep,
        Step::Prove,
        Step::Drain,
        Step::Retire,
        Step::Archive,
    ];
    type Fault = (&'static str, fn(&mut Crew));
    const FAULTS: [Fault; 5] = [
        ("the controller dies", Crew::crash_controller),
        ("an agent dies before it reports", |crew| {
            crew.act("b", true);
            crew.agents.get_mut("b").unwrap().up = false;
        }),
        ("an API server starts anew", |crew| {
            crew.world.kill("b");
            crew.world.start("b");
        }),
        ("a node is away for a while", |crew| {
            crew.world.kill("c");
            crew.agents.get_mut("c").unwrap().up = false;
        }),
        ("all API servers start anew", |crew| {
            for node in NODES {
                crew.world.kill(node);
                crew.world.start(node);
            }
        }),
    ];
    for step in STEPS {
        for (what, fault) in FAULTS {
            let mut crew = rotating();
            until(&mut crew, "the step", at(step));
            fault(&mut crew);
            for _ in 0..20 {
                assert_eq!(round(&mut crew), None, "{what} in {step:?}");
            }
            recover(&mut crew).unwrap_or_else(|why| panic!("{what} in {step:?}: {why}"));
            everything_is_under(&crew, &key(2));
            assert_eq!(crew.ring.keys.len(), 2, "{what} in {step:?}");
        }
    }
}
