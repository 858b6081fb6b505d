//! When etcd is read, and what was found there last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::etcd::{Etcd, EtcdError, Histogram};
use crate::api::control_plane_report::RawProof;
use crate::api::key_ring::RingKey;
use crate::api::text::ResourceText;
use crate::encryption::duties::report::values;
use crate::encryption::stored::Stored;

/// While something is going on: a file that reads more than it writes, or values under several keys.
const SOON: Duration = Duration::from_secs(20);
/// Otherwise. A reading pages through all values.
const REST: Duration = Duration::from_mins(10);

/// Reads etcd now and then.
pub(super) struct Prover {
    etcd: Option<Etcd>,
    last: Option<Found>,
    /// The last reading was made for a process that is no more.
    former: bool,
    compaction: Compaction,
}

/// What is known of etcd's compaction: one revision at a time is asked about, until it is compacted.
#[derive(Default)]
struct Compaction {
    awaited: Option<i64>,
    done: Option<i64>,
}

impl Compaction {
    /// etcd was read at this revision. One that was restored from a snapshot is at a lower one than before, and nothing of
    /// what it compacted then is known.
    fn read(&mut self, revision: i64) {
        if self.done.max(self.awaited) > Some(revision) {
            *self = Self::default();
        }
        self.await_next(revision);
    }

    /// The revision that was asked about is compacted; `newest` is that of the last reading.
    fn compacted(&mut self, newest: Option<i64>) {
        self.done = self.awaited.take();
        newest.into_iter().for_each(|newest| self.await_next(newest));
    }

    fn await_next(&mut self, revision: i64) {
        if self.awaited.is_none() && Some(revision) > self.done {
            self.awaited = Some(revision);
        }
    }
}

struct Found {
    histogram: Histogram,
    at: Instant,
    time: Time,
    occasion: Occasion,
}

/// What a reading is made for. Another one is made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occasion {
    /// The resources that are encrypted.
    pub resources: BTreeSet<String>,
    /// The number of the order.
    pub order: i64,
    /// What the API server of this node runs with.
    pub loaded: Option<String>,
    /// Since when it runs: another process may have written under anything meanwhile.
    pub started: Option<i64>,
}

/// Whether a reading made so long ago is to be made again. Also where nothing goes on: `Encrypted` is True only with a young
/// one, and what is put into etcd past the API servers shows nowhere else.
fn old(since: Duration, busy: bool) -> bool {
    since >= if busy { SOON } else { REST }
}

impl Prover {
    pub fn new(etcd: Option<Etcd>) -> Self {
        Self {
            etcd,
            last: None,
            former: false,
            compaction: Compaction::default(),
        }
    }

    /// Reads etcd if that is due. `rotates`: the file reads more than it writes. `anchor`: the revision at which the API
    /// server has `SecretEncryption`, by which etcd is known to be its own; without one nothing is read.
    pub async fn look(&mut self, occasion: &Occasion, rotates: bool, anchor: Option<i64>) -> Result<(), EtcdError> {
        self.note_process(occasion.started);
        let (Some(etcd), Some(anchor)) = (&self.etcd, anchor) else {
            self.last = None;
            return Ok(());
        };
        let due = self.last.as_ref().is_none_or(|last| {
            let mut under: BTreeMap<&str, BTreeSet<&Stored>> = BTreeMap::new();
            for (resource, stored) in last.histogram.values.keys() {
                under.entry(resource).or_default().insert(stored);
            }
            let busy = rotates || under.values().any(|under| under.len() > 1);
            last.occasion != *occasion || old(last.at.elapsed(), busy)
        });
        if due {
            if let Err(error) = etcd.has_what_the_api_server_has(anchor).await {
                // What was read there before is of nobody.
                if matches!(error, EtcdError::Elsewhere { .. }) {
                    (self.last, self.compaction) = (None, Compaction::default());
                }
                return Err(error);
            }
            // Before the first page: what is written while the others are read is not in them.
            let time = super::pass::now();
            let histogram = etcd.histogram(occasion.resources.iter().map(String::as_str)).await?;
            self.compaction.read(histogram.revision);
            self.former = false;
            self.last = Some(Found {
                histogram,
                at: Instant::now(),
                time,
                occasion: occasion.clone(),
            });
        }
        if let Some(revision) = self.compaction.awaited
            && etcd.is_compacted_to(revision).await?
        {
            self.compaction
                .compacted(self.last.as_ref().map(|last| last.histogram.revision));
        }
        Ok(())
    }

    /// Another process of the API server may stand on a restored etcd: what was read before it is claimed no more, also
    /// while etcd cannot be read again. It is still known to [`Prover::stored`], which only ever holds something.
    fn note_process(&mut self, started: Option<i64>) {
        let Some(last) = &self.last else { return };
        if started.is_some() && last.occasion.started != started {
            (self.former, self.compaction) = (true, Compaction::default());
        }
    }

    /// The last reading, if it was made for the present process.
    fn present(&self) -> Option<&Found> {
        self.last.as_ref().filter(|_| !self.former)
    }

    /// What was stored at the last reading.
    pub fn stored(&self) -> Option<&BTreeMap<(String, Stored), u64>> {
        self.last.as_ref().map(|last| &last.histogram.values)
    }

    /// The same, if it was read since this order came.
    pub fn stored_since(&self, order: i64) -> Option<&BTreeMap<(String, Stored), u64>> {
        let last = self.present().filter(|last| last.occasion.order == order)?;
        Some(&last.histogram.values)
    }

    /// As the report has it, beside the keys of the ring.
    pub fn report(&self, ring: &[RingKey]) -> Option<RawProof> {
        let Found {
            histogram,
            time,
            occasion,
            ..
        } = self.present()?;
        let resources = occasion.resources.iter().cloned();
        Some(RawProof {
            time: time.clone(),
            resources: resources.map(ResourceText).collect(),
            revision: histogram.revision,
            compacted_revision: self.compaction.done,
            values: values(&histogram.values, ring),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::encryption::SecretEncryptionSpec;

    #[test]
    fn an_idle_cluster_is_read_again_before_half_of_the_age_of_a_proof_is_over() {
        // The least that the schema lets a person ask for.
        let schema = serde_json::to_value(schemars::schema_for!(SecretEncryptionSpec)).unwrap_or_default();
        let hours = schema["properties"]["proofMaxAgeHours"]["minimum"].as_u64();
        assert_eq!(hours, Some(1));
        let least = Duration::from_hours(hours.unwrap_or_default());
        assert!(
            !old(Duration::from_secs(21), false),
            "a reading pages through all values"
        );
        assert!(old(least / 2, false));
        assert!(old(Duration::from_secs(21), true));
    }

    #[test]
    fn what_was_read_before_an_api_server_was_started_anew_is_not_reported_after_it() {
        let read = || Prover {
            etcd: None,
            last: Some(Found {
                histogram: Histogram {
                    revision: 9,
                    values: BTreeMap::new(),
                },
                at: Instant::now(),
                time: super::super::pass::now(),
                occasion: Occasion {
                    resources: BTreeSet::new(),
                    order: 1,
                    loaded: None,
                    started: Some(5),
                },
            }),
            former: false,
            compaction: Compaction {
                awaited: None,
                done: Some(7),
            },
        };
        let reported = |started| {
            let mut prover = read();
            prover.note_process(started);
            assert!(prover.stored().is_some(), "what may be stored still holds a file");
            prover
                .report(&[])
                .map(|proof| (proof.revision, proof.compacted_revision))
        };
        assert_eq!(reported(Some(5)), Some((9, Some(7))));
        assert_eq!(reported(Some(6)), None);
        assert_eq!(reported(None), Some((9, Some(7))), "nobody knows of another process");
    }

    #[test]
    fn what_was_compacted_before_a_restore_is_not_known_after_it() {
        let mut compaction = Compaction::default();
        let known = |it: &Compaction| (it.done, it.awaited);
        compaction.read(7);
        compaction.read(9);
        assert_eq!(known(&compaction), (None, Some(7)), "one after the other");
        compaction.compacted(Some(9));
        assert_eq!(known(&compaction), (Some(7), Some(9)));
        compaction.compacted(Some(9));
        compaction.read(9);
        assert_eq!(known(&compaction), (Some(9), None), "there is nothing newer");
        compaction.read(8);
        assert_eq!(known(&compaction), (None, Some(8)));
    }
}
