//! A controller that stands still loses its lease, and goes on as if it led: there are two then.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use cloison_testbed::{Program, eventually};

use super::operator::{controller, metric, metric_is};
use super::scene::{ROTATED, SOON, idle, step};
use super::story::Story;

fn signal(program: &Program, name: &str) {
    let id = program.process_id().unwrap().to_string();
    let sent = Command::new("kill").args([name, &id]).status().unwrap();
    assert!(sent.success(), "kill {name} {id}");
}

fn leads(program: &Program) -> bool {
    metric(program, "cloison_leader", &[]) == 1
}

/// All through one rotation: whoever leads when a step begins stands still until the other leads. A controller that begins to
/// lead knows of no sweep, so that one that loses its lease all the time would never end it.
pub async fn two_at_once(story: &mut Story) {
    let second = controller(&story.scene.plane, "second").await;
    second.start().unwrap();
    metric_is(&second, "cloison_leader", &[], |leader| leader == 0).await;
    story.ask_for_another_key().await;
    let id = story.newest;
    let both = [&story.scene.controller, &second];
    let (mut lost, mut led, deadline) = (BTreeSet::new(), 0, Instant::now() + ROTATED * 2);
    loop {
        assert!(Instant::now() < deadline, "the rotation did not end; {lost:?}");
        let status = story.scene.read().await.unwrap_or_default();
        let keys = status["keys"].as_array().map_or(0, Vec::len);
        let now = step(&status);
        if idle(&status) && now == "Idle" && keys as u64 == id {
            break;
        }
        if now == "Idle" || !lost.insert(now) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let leader = async || both.iter().position(|one| leads(one)).ok_or("nobody leads");
        let leader = eventually(SOON, "somebody leads", leader).await.unwrap();
        let (one, other) = (both[leader], both[1 - leader]);
        signal(one, "-STOP");
        let taken = async || if leads(other) { Ok(()) } else { Err("not yet") };
        let taken = eventually(SOON, "the other leads", taken).await;
        signal(one, "-CONT");
        taken.unwrap();
        // Until it asks for its lease, it thinks that it leads.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            led += usize::from(leads(one) && leads(other));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    story.said(&format!("the lease was lost in {lost:?}; both led at {led} looks"));
    assert!(lost.len() >= 4, "{lost:?}");
    second.stop().await;
    story.everything_is_under(id).await;
}
