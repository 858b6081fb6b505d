//! A controller that stands still loses its lease, and goes on as if it led: there are two then.

use std::process::Command;
use std::time::{Duration, Instant};

use cloison_testbed::{Program, eventually};

use super::operator::{controller, metric, metric_is};
use super::scene::{ROTATED, SOON, idle};
use super::story::Story;

fn signal(program: &Program, name: &str) {
    let id = program.process_id().unwrap().to_string();
    let sent = Command::new("kill").args([name, &id]).status().unwrap();
    assert!(sent.success(), "kill {name} {id}");
}

fn leads(program: &Program) -> bool {
    metric(program, "cloison_leader", &[]) == 1
}

/// All through one rotation, by turns.
pub async fn two_at_once(story: &mut Story) {
    let second = controller(&story.scene.plane, "second").await;
    second.start().unwrap();
    metric_is(&second, "cloison_leader", &[], |leader| leader == 0).await;
    story.ask_for_another_key().await;
    let id = story.newest;
    let both = [&story.scene.controller, &second];
    let (mut turns, deadline) = (0, Instant::now() + ROTATED);
    let mut led = 0;
    loop {
        let (one, other) = (both[turns % 2], both[(turns + 1) % 2]);
        eventually(
            SOON,
            "it leads",
            async || if leads(one) { Ok(()) } else { Err("not yet") },
        )
        .await
        .unwrap();
        signal(one, "-STOP");
        let taken = eventually(SOON, "the other leads", async || {
            if leads(other) { Ok(()) } else { Err("not yet") }
        })
        .await;
        signal(one, "-CONT");
        taken.unwrap();
        // Until it asks for its lease, it thinks that it leads.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            led += usize::from(leads(one) && leads(other));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        turns += 1;
        assert!(Instant::now() < deadline, "the rotation did not end");
        let status = story.scene.read().await.unwrap_or_default();
        if idle(&status) && status["keys"].as_array().is_some_and(|keys| keys.len() as u64 == id) {
            break;
        }
    }
    story.said(&format!("the lease was lost {turns} times; both led at {led} looks"));
    assert!(turns >= 2, "{turns}");
    second.stop().await;
    story.everything_is_under(id).await;
}
