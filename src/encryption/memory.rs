//! When to write a canary. The answer is kept per state of a process, so a converged cluster is written to once and
//! only read from then on, an API server that drops out and comes back unchanged costs nothing, and any new process or
//! configuration is tried at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::canary::{Canary, Write, shows};
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
    /// The first scrape of this state.
    first: Scrape,
    canary: Option<Canary>,
    tries: u32,
    retry_at: Duration,
    last_seen: Duration,
    undecryptable: u64,
    drifted: u64,
    drifted_at: Duration,
    answered: Answered,
}

impl Memory {
    /// Takes in a scrape, and forgets what has not been seen for long.
    pub fn note(&mut self, scrape: &Scrape, now: Duration) {
        self.runs.retain(|run| now.saturating_sub(run.last_seen) < FORGET);
        let Some(state) = scrape.state() else { return };
        let Some(run) = self.runs.iter_mut().find(|run| run.state == state) else {
            self.runs.push(Run {
                answered: answered(&BTreeMap::new(), scrape, now),
                state,
                first: scrape.clone(),
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
        run.answered = answered(&run.answered, scrape, now);
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

    /// A reading together with what is remembered of that state. Without a canary, the writes of others since the first
    /// look stand in for one: plaintext among them needs no canary to be seen.
    pub fn replica(&self, address: &str, reading: Reading) -> Replica {
        let seen = match &reading {
            Reading::Seen(scrape) => self.run(scrape).map(|run| (run, scrape)),
            Reading::Hidden(_) | Reading::Failed(_) => None,
        };
        let canary = seen.map(|(run, scrape)| {
            run.canary.clone().unwrap_or_else(|| Canary {
                before: run.first.clone(),
                write: Write::NotSent,
                after: scrape.clone(),
            })
        });
        Replica {
            address: address.to_owned(),
            canary,
            undecryptable: seen.map_or(0, |(run, _)| run.drifted),
            silence: seen.map(|(run, _)| run.silence()).unwrap_or_default(),
            reading,
        }
    }

    fn run(&self, scrape: &Scrape) -> Option<&Run> {
        let state = scrape.state()?;
        self.runs.iter().find(|run| run.state == state)
    }
}

/// By KMS provider: when its plugin named which key, by the clock of the API server, and since when that has been so, by
/// ours.
type Answered = BTreeMap<String, (BTreeMap<String, u64>, Duration)>;

impl Run {
    /// For how long its KMS plugins have not answered it, by our clock: its own may be wrong.
    fn silence(&self) -> BTreeMap<String, Duration> {
        let each = self.answered.iter();
        each.map(|(provider, (_, since))| (provider.clone(), self.last_seen.saturating_sub(*since)))
            .collect()
    }
}

fn answered(before: &Answered, scrape: &Scrape, now: Duration) -> Answered {
    let each = scrape.kms.answers().map(|(provider, answers)| {
        let same = before.get(provider).filter(|(last, _)| last == answers);
        let since = same.map_or(now, |(_, since)| *since);
        (provider.clone(), (answers.clone(), since))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::super::canary::Shows;
    use super::*;

    fn scrape(started: u32, hash: &str, encrypted: u32, plain: u32, unknown: u32) -> Scrape {
        let operations = "apiserver_storage_transformation_operations_total";
        Scrape::of(&format!(
            "process_start_time_seconds {started}\n\
             apiserver_encryption_config_controller_last_config_info{{apiserver_id_hash=\"sha256:a\",hash=\"{hash}\"}} 1\n\
             {operations}{{resource=\"secrets\",status=\"OK\",transformation_type=\"to_storage\",\
             transformer_prefix=\"k8s:enc:aesgcm:v1:\"}} {encrypted}\n\
             {operations}{{resource=\"secrets\",status=\"OK\",transformation_type=\"to_storage\",\
             transformer_prefix=\"\"}} {plain}\n\
             {operations}{{resource=\"secrets\",status=\"e\",transformation_type=\"from_storage\",\
             transformer_prefix=\"unknown\"}} {unknown}\n",
        ))
    }

    fn canary(before: Scrape, after: Scrape) -> Canary {
        Canary {
            before,
            write: Write::Done,
            after,
        }
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn proven() -> Memory {
        let mut memory = Memory::default();
        memory.note(&scrape(1, "x", 5, 0, 0), at(0));
        memory.record(canary(scrape(1, "x", 5, 0, 0), scrape(1, "x", 6, 0, 0)), at(0));
        memory
    }

    #[test]
    fn a_proven_state_is_never_written_to_again() {
        let mut memory = proven();
        for second in (0..100_000).step_by(100) {
            let present = scrape(1, "x", 6 + second, 0, 0);
            memory.note(&present, at(second.into()));
            assert!(!memory.due(&present, at(second.into())));
        }
    }

    #[test]
    fn a_new_file_and_a_new_process_are_tried_at_once() {
        let mut memory = proven();
        for new in [scrape(1, "y", 6, 0, 0), scrape(2, "x", 0, 0, 0)] {
            memory.note(&new, at(1));
            assert!(memory.due(&new, at(1)));
        }
        // One that comes back unchanged is not.
        assert!(!memory.due(&scrape(1, "x", 6, 0, 0), at(2)));
    }

    #[test]
    fn plaintext_is_an_answer_too_and_is_not_asked_for_again() {
        let mut memory = Memory::default();
        memory.record(canary(scrape(1, "x", 0, 0, 0), scrape(1, "x", 0, 1, 0)), at(0));
        assert!(!memory.due(&scrape(1, "x", 0, 9, 0), at(3_000)));
        // Unless the counters contradict it.
        assert!(memory.due(&scrape(1, "x", 1, 9, 0), at(3_000)));
    }

    #[test]
    fn the_writes_of_others_can_disprove_and_never_prove() {
        let mut memory = Memory::default();
        memory.note(&scrape(1, "x", 5, 3, 0), at(0));
        let shown = |encrypted, plain| {
            let present = scrape(1, "x", encrypted, plain, 0);
            shows(
                memory.replica("a:1", Reading::Seen(present.clone())).canary.as_ref(),
                &present,
            )
        };
        assert_eq!(shown(5, 3), Shows::NotWritten);
        assert_eq!(shown(9, 3), Shows::NotWritten);
        assert_eq!(shown(5, 4), Shows::Plaintext);
        assert!(shown(6, 4).disproves());
    }

    #[test]
    fn a_canary_without_an_answer_is_repeated_ever_more_slowly() {
        let same = scrape(1, "x", 5, 0, 0);
        let mut memory = Memory::default();
        let mut written = Vec::new();
        for second in 0..3_000 {
            memory.note(&same, at(second));
            if memory.due(&same, at(second)) {
                memory.record(canary(same.clone(), same.clone()), at(second));
                written.push(second);
            }
        }
        assert_eq!(written, [0, 2, 6, 14, 30, 62, 126, 254, 510, 1022, 1622, 2222, 2822]);
    }

    #[test]
    fn a_process_that_hides_its_start_is_not_written_to() {
        let mut memory = Memory::default();
        let hiding = Scrape::of("x 1");
        memory.note(&hiding, at(0));
        assert!(!memory.due(&hiding, at(0)));
    }

    #[test]
    fn undecryptable_values_are_reported_while_they_are_met() {
        let mut memory = Memory::default();
        let met = |memory: &Memory, unknown| {
            let reading = Reading::Seen(scrape(1, "x", 5, 0, unknown));
            memory.replica("a:1", reading).undecryptable
        };
        // What it met before we came is over, for all we know.
        memory.note(&scrape(1, "x", 5, 0, 8), at(0));
        assert_eq!(met(&memory, 8), 0);
        memory.note(&scrape(1, "x", 5, 0, 9), at(10));
        assert_eq!(met(&memory, 9), 1);
        memory.note(&scrape(1, "x", 5, 0, 9), at(610));
        assert_eq!(met(&memory, 9), 1);
        memory.note(&scrape(1, "x", 5, 0, 9), at(611));
        assert_eq!(met(&memory, 9), 0);
    }

    #[test]
    fn a_plugin_is_silent_from_its_last_answer_on() {
        let state = |started: u32, answered: u32| {
            Scrape::of(&format!(
                "process_start_time_seconds {started}\n\
                 apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds\
                 {{key_id_hash=\"sha256:a\",provider_name=\"cloud\"}} {answered}\n"
            ))
        };
        let mut memory = Memory::default();
        let mut silence = |second, scrape: Scrape| {
            memory.note(&scrape, at(second));
            memory.replica("a:1", Reading::Seen(scrape)).silence["cloud"].as_secs()
        };
        assert_eq!(silence(0, state(1, 100)), 0);
        assert_eq!(silence(50, state(1, 100)), 50);
        assert_eq!(silence(60, state(1, 160)), 0);
        assert_eq!(silence(360, state(1, 160)), 300);
        // A clock that was set back is an answer too.
        assert_eq!(silence(361, state(1, 90)), 0);
        // A new process asks anew.
        assert_eq!(silence(400, state(2, 90)), 0);
    }

    #[test]
    fn states_that_are_gone_are_forgotten() {
        let mut memory = proven();
        memory.note(&scrape(2, "x", 0, 0, 0), at(3_600));
        assert_eq!(memory.runs.len(), 1);
    }
}
