//! Whether one ring can have come from another. The API server asks the same of every write (`api::key_ring`); an agent
//! asks it of what it reads and of the copy on its disk, because a snapshot that is restored passes every rule of writes.

use std::collections::BTreeMap;

use super::Refusal;
use crate::api::key_ring::{EncryptionKeyRingSpec, RingKey};

/// Nothing that `older` says may be missing from `newer`, or be said otherwise.
pub fn succeeds(older: &EncryptionKeyRingSpec, newer: &EncryptionKeyRingSpec) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::NotSuccessor(why));
    if newer.last_id < older.last_id {
        return refuse(format!(
            "the newest key was k{} and is k{}",
            older.last_id, newer.last_id
        ));
    }
    let now: BTreeMap<i64, &RingKey> = newer.keys.iter().map(|key| (key.id, key)).collect();
    for key in &older.keys {
        let name = &key.name;
        match now.get(&key.id) {
            None if key.destroyed_time.is_some() => {}
            None => return refuse(format!("key {name} is gone")),
            Some(now) if facts(now) != facts(key) => return refuse(format!("key {name} is another key")),
            Some(now) if key.retired_time.is_some() && now.retired_time != key.retired_time => {
                return refuse(format!("key {name} was retired and is no more"));
            }
            Some(now) if key.destroyed_time.is_some() && now.destroyed_time != key.destroyed_time => {
                return refuse(format!("key {name} was destroyed and is back"));
            }
            Some(_) => {}
        }
    }
    let known = |key: &&RingKey| key.id > older.last_id || older.keys.iter().any(|old| old.id == key.id);
    if let Some(key) = newer.keys.iter().find(|key| !known(key)) {
        return refuse(format!("the number of key {} was in use before", key.name));
    }
    Ok(())
}

/// What never changes.
fn facts(key: &RingKey) -> impl PartialEq {
    let request = key.request.clone();
    (
        key.name.clone(),
        key.provider,
        key.origin,
        key.commitment.clone(),
        key.creation_time.clone(),
        request,
    )
}
