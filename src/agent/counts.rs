//! What this node's API server wrote under each key, restarts included. Its counters begin anew with each process, so what
//! earlier ones wrote is kept on the disk. Counted too high rather than too low.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::directory::{Directory, DirectoryError};
use crate::api::key_ring::EncryptionKeyRingSpec;
use crate::api::text::{KeyName, ObjectName};

const FILE: &str = "writes.json";
/// So many writes are told at once: each telling is a write of the ring.
const WORTH: i64 = 1_000;

/// What processes before the present one wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// When the present one started.
    started: i64,
    before: BTreeMap<String, i64>,
}

impl Counts {
    /// From the disk; a file that is none is as good as absent, and what the ring says is then the beginning.
    pub fn load(directory: &Directory) -> Result<Self, DirectoryError> {
        let bytes = directory.read(FILE)?;
        Ok(bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default())
    }

    /// What is worth telling the ring, with what the present process wrote since `started`.
    pub fn tell(
        &mut self,
        directory: &Directory,
        ring: &EncryptionKeyRingSpec,
        node: &ObjectName,
        started: i64,
        written: &BTreeMap<KeyName, i64>,
    ) -> Result<BTreeMap<KeyName, i64>, DirectoryError> {
        let told: BTreeMap<&KeyName, i64> = ring
            .keys
            .iter()
            .filter_map(|key| Some((&key.name, key.writes.iter().find(|count| count.node == *node)?.count)))
            .collect();
        if self.started != started {
            // What the last process wrote and nobody was told is less than what is worth telling.
            self.before = told
                .iter()
                .map(|(name, count)| (name.0.clone(), count.saturating_add(WORTH)))
                .collect();
            self.started = started;
            let bytes = serde_json::to_vec(&self).unwrap_or_default();
            directory.replace(FILE, &bytes)?;
        }
        let mut worth = BTreeMap::new();
        for (name, count) in written.iter().filter(|(_, count)| **count > 0) {
            let total = self
                .before
                .get(&name.0)
                .copied()
                .unwrap_or_default()
                .saturating_add(*count);
            let known = told.get(name).copied().unwrap_or_default();
            if known == 0 || total - known >= WORTH {
                worth.insert(name.clone(), total);
            }
        }
        Ok(worth)
    }
}
