//! When to write a canary. The answer is kept per state of a process, so a converged cluster is written to once and
//! only read from then on, an API server that drops out and comes back unchanged costs nothing, and any new process or
//! configuration is tried at once.

use std::time::Duration;

use super::canary::{Canary, shows};
use super::metrics::{RunState, Scrape};
use super::observation::{Reading, Replica};

/// A canary that showed nothing final is repeated after this, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest pause between two tries.
const LAST_RETRY: Duration = Duration::from_mins(10);
/// Values that could not be decrypted are reported until none was met for so long.
const DRIFT_WINDOW: Duration = Duration::from_mins(10);
/// States that were not seen for so long are forgotten.
const FORGET: Duration = Duration::from_hours(1);

/// What is remembered of API servers, by their states. `now` is always a monotonic clock of the caller.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    runs: Vec<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    state: RunState,
    canary: Option<Canary>,
    tries: u32,
    retry_at: Duration,
    last_seen: Duration,
    undecryptable: u64,
    drifted: u64,
    drifted_at: Duration,
}

impl Memory {
    /// Takes in a scrape, and forgets what has not been seen for long.
    pub fn note(&mut self, scrape: &Scrape, now: Duration) {
        self.runs.retain(|run| now.saturating_sub(run.last_seen) < FORGET);
        let Some(state) = scrape.state() else { return };
        let Some(run) = self.runs.iter_mut().find(|run| run.state == state) else {
            self.runs.push(Run {
                state,
                canary: None,
                tries: 0,
                retry_at: Duration::ZERO,
                last_seen: now,
                // What it met before we looked cannot be dated, and may long be repaired.
                undecryptable: scrape.undecryptable,
                drifted: 0,
                drifted_at: Duration::ZERO,
            });
            return;
        };
        run.last_seen = now;
        let grown = scrape.undecryptable.saturating_sub(run.undecryptable);
        run.undecryptable = scrape.undecryptable;
        if grown > 0 {
            run.drifted += grown;
            run.drifted_at = now;
        } else if now.saturating_sub(run.drifted_at) > DRIFT_WINDOW {
            run.drifted = 0;
        }
    }

    /// Whether the API server that gave this scrape has to be tried with a canary now.
    pub fn due(&self, scrape: &Scrape, now: Duration) -> bool {
        let Some(run) = self.run(scrape) else {
            // Without a start time a state cannot be told from the next, and each cycle would write.
            return false;
        };
        !shows(run.canary.as_ref(), scrape).settled() && now >= run.retry_at
    }

    /// Takes in a canary; what it shows is of the state that it leaves behind.
    pub fn record(&mut self, canary: Canary, now: Duration) {
        self.note(&canary.after, now);
        let Some(state) = canary.after.state() else { return };
        if let Some(run) = self.runs.iter_mut().find(|run| run.state == state) {
            run.retry_at = now + LAST_RETRY.min(FIRST_RETRY.saturating_mul(1 << run.tries.min(16)));
            run.tries = run.tries.saturating_add(1);
            run.canary = Some(canary);
        }
    }

    /// A reading together with what is remembered of that state.
    pub fn replica(&self, address: &str, reading: Reading) -> Replica {
        let run = match &reading {
            Reading::Seen(scrape) => self.run(scrape),
            Reading::Hidden(_) | Reading::Failed(_) => None,
        };
        Replica {
            address: address.to_owned(),
            canary: run.and_then(|run| run.canary.clone()),
            undecryptable: run.map_or(0, |run| run.drifted),
            reading,
        }
    }

    fn run(&self, scrape: &Scrape) -> Option<&Run> {
        let state = scrape.state()?;
        self.runs.iter().find(|run| run.state == state)
    }
}
