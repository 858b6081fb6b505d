//! Random schedules. Whatever dies and whenever, nothing unreadable is ever stored, and the rotation ends once the
//! faults do.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cloison::api::encryption::Provider;
use cloison::api::encryption_status::Step;
use cloison::encryption::rotation::{Action, Configuration, Under};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::check::{broken, wrong_decision};
use super::crew::Crew;

/// Something that happens, then so many seconds pass.
#[derive(Clone, Debug)]
pub enum Event {
    /// So many rounds in which everybody does its part.
    Calm(u8),
    Control,
    Act(usize),
    ActAndDie(usize),
    AgentDown(usize),
    AgentUp(usize),
    Write(usize, u8, u64),
    Delete(u8),
    List(usize),
    Prove,
    CrashController,
    Kill(usize),
    Start(usize),
    /// The API server looks at its file a minute later than it should.
    LateReload(usize),
    Request,
    Provider(bool),
    Disable,
    RollBack,
    Join,
    Leave(usize),
}

const NODES: [&str; 3] = ["a", "b", "c"];

fn event() -> impl Strategy<Value = (Event, u64)> {
    let node = || 0..3_usize;
    let what = prop_oneof![
        8 => (1..20_u8).prop_map(Event::Calm),
        14 => Just(Event::Control),
        14 => node().prop_map(Event::Act),
        2 => node().prop_map(Event::ActAndDie),
        1 => node().prop_map(Event::AgentDown),
        2 => node().prop_map(Event::AgentUp),
        10 => (node(), 0..8_u8, 0..56_u64).prop_map(|(node, object, takes)| Event::Write(node, object, takes)),
        1 => (0..8_u8).prop_map(Event::Delete),
        2 => node().prop_map(Event::List),
        2 => Just(Event::Prove),
        1 => Just(Event::CrashController),
        1 => node().prop_map(Event::Kill),
        3 => node().prop_map(Event::Start),
        2 => node().prop_map(Event::LateReload),
        2 => Just(Event::Request),
        1 => any::<bool>().prop_map(Event::Provider),
        1 => Just(Event::Disable),
        1 => Just(Event::RollBack),
        1 => Just(Event::Join),
        1 => node().prop_map(Event::Leave),
    ];
    (what, 0..40_u64)
}

/// What is wrong with the decision, if the controller took one.
#[allow(clippy::too_many_lines)] // an arm for each event
pub fn apply(crew: &mut Crew, event: &Event, requests: &mut u64) -> Option<String> {
    let name = |index: &usize| NODES[*index];
    match event {
        Event::Calm(rounds) => {
            for _ in 0..*rounds {
                let wrong = round(crew);
                if wrong.is_some() {
                    return wrong;
                }
            }
        }
        Event::Control => {
            let running = |crew: &Crew| {
                let up = crew.world.servers.iter().filter(|(_, server)| server.up);
                let mut all: BTreeMap<String, Configuration> = up
                    .map(|(node, server)| (node.clone(), server.configuration().clone()))
                    .collect();
                all.extend(
                    crew.world
                        .disks
                        .iter()
                        .map(|(node, file)| (format!("{node} disk"), file.configuration.clone())),
                );
                all
            };
            let before = running(crew);
            crew.control();
            return wrong_decision(crew, &before);
        }
        Event::Act(index) => crew.act(name(index), false),
        Event::ActAndDie(index) => {
            crew.act(name(index), true);
            if let Some(agent) = crew.agents.get_mut(name(index)) {
                agent.up = false;
            }
        }
        Event::AgentDown(index) => {
            if let Some(agent) = crew.agents.get_mut(name(index)) {
                agent.up = false;
            }
        }
        Event::AgentUp(index) => {
            if let Some(agent) = crew.agents.get_mut(name(index)) {
                agent.up = true;
            }
        }
        Event::Write(index, object, takes) => crew.world.write(name(index), &format!("s{object}"), *takes),
        Event::Delete(object) => {
            let object = format!("s{object}");
            if crew.world.etcd.current().contains_key(object.as_str()) {
                crew.world.etcd.put(&object, None);
            }
        }
        Event::List(index) => crew.world.list(name(index)),
        Event::Prove => crew.prove(),
        Event::CrashController => crew.crash_controller(),
        Event::Kill(index) => crew.world.kill(name(index)),
        Event::Start(index) => {
            if crew.agents.contains_key(name(index)) {
                crew.world.start(name(index));
            }
        }
        Event::LateReload(index) => {
            if let Some(server) = crew.world.servers.get_mut(name(index)) {
                server.next_poll = server.next_poll.max(crew.world.now + 60);
            }
        }
        Event::Request => {
            *requests += 1;
            crew.wish.requested = Some(requests.to_string());
        }
        Event::Provider(secretbox) => {
            crew.wish.provider = Some(if *secretbox {
                Provider::Secretbox
            } else {
                Provider::AESGCM
            });
        }
        Event::Disable => crew.wish.provider = None,
        Event::RollBack => {
            let newest = crew
                .ring
                .keys
                .iter()
                .filter(|key| key.retired.is_none())
                .max_by_key(|key| key.id);
            crew.wish.abandoned.extend(newest.map(|key| key.id));
        }
        // A node that joins has the files of another, as kubeadm copies them, and waits for its agent before it starts.
        Event::Join => {
            let file = crew
                .world
                .servers
                .values()
                .find(|server| server.up)
                .map(|server| server.loaded.clone());
            if !crew.agents.contains_key("c")
                && let Some(file) = file
            {
                crew.join("c", &file.configuration);
                crew.ring.keys.iter_mut().filter(|key| !key.destroyed).for_each(|key| {
                    key.sealed_for.insert("age1c".to_owned());
                });
                crew.agents.get_mut("c").unwrap().sealed_id = crew.ring.last_id;
                crew.world.start("c");
            }
        }
        Event::Leave(index) => {
            let node = name(index);
            if node != "a" && !crew.world.servers.get(node).is_some_and(|server| server.up) && crew.agents.len() > 1 {
                crew.agents.remove(node);
                crew.world.servers.remove(node);
                crew.world.disks.remove(node);
                crew.ring.members.remove(node);
            }
        }
    }
    None
}

/// Time passes, a second at a time, and nothing may break in any of them.
pub fn pass(crew: &mut Crew, seconds: u64) -> Vec<String> {
    let wrong = broken(crew);
    if !wrong.is_empty() {
        return wrong;
    }
    for _ in 0..seconds {
        if crew.world.second() {
            let wrong = broken(crew);
            if !wrong.is_empty() {
                return wrong;
            }
        }
    }
    Vec::new()
}

/// Everybody who is up does its part, and ten seconds pass.
pub fn round(crew: &mut Crew) -> Option<String> {
    if let Some(wrong) = apply(crew, &Event::Control, &mut 0) {
        return Some(wrong);
    }
    for node in crew.nodes() {
        crew.act(&node, false);
    }
    let wrong = pass(crew, 10);
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

/// Everybody is well, and does its part. Returns when the rotation is over, or says why it is not.
pub fn recover(crew: &mut Crew) -> Result<u64, String> {
    for node in crew.nodes() {
        crew.agents.get_mut(&node).unwrap().up = true;
        crew.world.start(&node);
    }
    let began = crew.world.now;
    // Ten rotations' worth: a queue of wishes takes more than one.
    while crew.world.now < began + 30_000 {
        for node in crew.nodes() {
            crew.world.write(&node, "s0", 30);
        }
        if let Some(wrong) = round(crew) {
            return Err(wrong);
        }
        let said = crew.said();
        if said.step == Step::Idle && said.blocked_by.is_empty() && said.action == Action::Nothing {
            return Ok(crew.world.now - began);
        }
    }
    Err(format!("it does not end: {:?}, order {:?}", crew.last, crew.order))
}

/// Where the wish and the ring say that everything should be.
fn goal(crew: &Crew) -> Under {
    if crew.wish.provider.is_none() {
        return Under::Identity;
    }
    let newest = crew
        .ring
        .keys
        .iter()
        .filter(|key| key.retired.is_none())
        .max_by_key(|key| key.id);
    newest.map_or(Under::Identity, |key| Under::Key(key.name.clone()))
}

#[test]
fn no_schedule_of_faults_makes_a_value_unreadable_and_every_rotation_ends() {
    let mix: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let count = |what: String| *mix.borrow_mut().entry(what).or_default() += 1;
    let config = Config {
        cases: 300,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let schedule = (1..4_usize, prop::collection::vec(event(), 40..260));
    let result = runner.run(&schedule, |(nodes, events)| {
        let mut crew = Crew::new(&NODES[..nodes]);
        let mut requests = 0;
        for (at, (event, seconds)) in events.iter().enumerate() {
            let fault = match event {
                Event::CrashController => Some("the controller dies"),
                Event::Kill(_) => Some("an API server dies"),
                Event::ActAndDie(_) | Event::AgentDown(_) => Some("an agent dies"),
                Event::LateReload(_) => Some("a late reload"),
                Event::Join => Some("a node joins"),
                _ => None,
            };
            if let (Some(fault), Some(last)) = (fault, &crew.last) {
                count(format!("{fault} in {:?}", last.step));
            }
            let wrong = apply(&mut crew, event, &mut requests);
            prop_assert_eq!(wrong, None, "event {}: {:?}", at, event);
            let wrong = pass(&mut crew, *seconds);
            prop_assert!(wrong.is_empty(), "event {at}: {event:?}: {wrong:?}, {:?}", crew.last);
        }
        let took = recover(&mut crew).map_err(TestCaseError::fail)?;
        count(format!("rotations that ended after the faults: {}", took > 100));
        count(format!("keys: {}", crew.ring.keys.len().min(6)));
        let goal = goal(&crew);
        for (object, under) in crew.world.etcd.current() {
            prop_assert_eq!(under, &goal, "{}", object);
        }
        for server in crew.world.servers.values() {
            prop_assert_eq!(server.configuration(), &Configuration::new(goal.clone(), []));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let mix = mix.into_inner();
    for (what, times) in &mix {
        eprintln!("{times:6} {what}");
    }
    for fault in [
        "the controller dies",
        "an API server dies",
        "an agent dies",
        "a late reload",
        "a node joins",
    ] {
        for step in [
            Step::Mint,
            Step::Read,
            Step::Promote,
            Step::Sweep,
            Step::Prove,
            Step::Drain,
            Step::Retire,
            Step::Idle,
        ] {
            let times = mix.get(&format!("{fault} in {step:?}")).copied().unwrap_or_default();
            assert!(times >= 1, "one-sided: never {fault} in {step:?}");
        }
    }
}
