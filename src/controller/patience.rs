//! How long a workload's own writes are waited for before its status speaks of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::network::world::WorkloadKey;

/// Longer than a watch and an analysis take, shorter than a person waits.
const LIMIT: Duration = Duration::from_secs(3);

/// Since when workloads are waited for.
#[derive(Debug, Default)]
pub struct Patience(Mutex<HashMap<WorkloadKey, Instant>>);

impl Patience {
    /// Whether to wait a little longer.
    pub fn waits(&self, key: &WorkloadKey) -> bool {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.entry(key.clone()).or_insert_with(Instant::now).elapsed() < LIMIT
    }

    /// Forgets all workloads but these.
    pub fn retain(&self, keep: impl Fn(&WorkloadKey) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|key, _| keep(key));
    }

    /// Nothing is waited for any more.
    pub fn settled(&self, key: &WorkloadKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
