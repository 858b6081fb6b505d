//! Whether a key may be destroyed. Nothing brings it back, so that an order alone is not enough: an agent asks for a
//! retired key whose time is over by its own clock, for its own file, and for its own reading of etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::encryption::{Retention, SecretEncryptionSpec};
use crate::api::key_ring::RingKey;
use crate::encryption::proof::age;
use crate::encryption::ring::Refusal;
use crate::encryption::stored::Stored;

const DAY: Duration = Duration::from_hours(24);

/// What the agent itself sees.
#[derive(Clone, Debug)]
pub struct Witness<'a> {
    /// Its clock.
    pub now: Time,
    /// The names of the keys in this node's file; `None` where there is none, or it is not the agent's.
    pub in_file: Option<&'a BTreeSet<String>>,
    /// What it read of etcd since it read this order; `None` where it did not.
    pub stored: Option<&'a BTreeMap<(String, Stored), u64>>,
}

/// `key` as it is in the ring that was read: one that is retired in the same write was retired by nobody else.
pub(super) fn may_destroy(key: &RingKey, spec: &SecretEncryptionSpec, witness: &Witness<'_>) -> Result<(), Refusal> {
    let spared = |why: String| {
        Err(Refusal::Spared {
            name: key.name.to_string(),
            why,
        })
    };
    let retired = &spec.retired_keys;
    let Some(days) = retired
        .days
        .filter(|_| retired.retention == Retention::DeleteAfterDays)
        .and_then(|days| u32::try_from(days).ok())
    else {
        return spared("SecretEncryption spec.retiredKeys keeps retired keys".to_owned());
    };
    let Some(since) = &key.retired_time else {
        return spared("it is not retired".to_owned());
    };
    if age(since, &witness.now).is_none_or(|age| age <= DAY * days) {
        return spared(format!(
            "by this node's clock it was not retired {days} days ago ({}); compare the clocks of the nodes",
            since.0
        ));
    }
    match witness.in_file {
        None => return spared("this node has no file that the agent wrote".to_owned()),
        Some(in_file) if in_file.contains(&*key.name.0) => return spared("this node's file has it".to_owned()),
        Some(_) => {}
    }
    let Some(stored) = witness.stored else {
        return spared(
            "this agent has not read etcd since it was asked; give it --etcd and its certificates (the chart's agent.etcd)"
                .to_owned(),
        );
    };
    for resource in &spec.resources {
        let values = || {
            stored
                .iter()
                .filter(|((of, _), count)| *of == resource.0 && **count > 0)
        };
        if values().next().is_none() {
            return spared(format!(
                "its reading of etcd shows no {} at all; is it the right etcd?",
                resource.0
            ));
        }
        if let Some((_, count)) = values().find(|((_, under), _)| under.to_string() == *key.name.0) {
            return spared(format!("{count} values of {} are under it", resource.0));
        }
    }
    Ok(())
}
