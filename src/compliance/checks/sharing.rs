//! Storage and accelerators that pods of two stages hold at one time. No request shows it: two volumes can lead to one disk, and
//! which device a claim gets is the scheduler's choice. So it is told of what runs, and refused nowhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::is_heard;
use super::volumes::Storage;
use crate::api::stage::NamespaceStage;
use crate::api::workload::Classification;
use crate::compliance::id::{DAT_07, WKL_04};
use crate::compliance::{Assurance, ControlOverride, Finding, RuleId, Subject};

/// Whose pods hold something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Their namespace.
    pub namespace: String,
    /// Their workload.
    pub workload: String,
    /// The stage of the namespace.
    pub stage: NamespaceStage,
    /// How confidential the workload's data is; `None` where nobody declared it.
    pub classification: Option<Classification>,
    /// The claim by which they hold it.
    pub claim: String,
}

/// A device, by its driver's name for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    driver: String,
    pool: String,
    name: String,
}

/// What a ResourceClaim was given, and for which pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub claim: String,
    /// The pods, in the same namespace: their uids by name.
    pub pods: BTreeMap<String, String>,
    /// The devices.
    pub devices: BTreeSet<Device>,
}

impl Allocation {
    /// Reads it from a ResourceClaim, which says it alike in all versions since `v1beta1`. `None` where nothing is allocated.
    pub fn read(claim: &Value) -> Option<Self> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = |at: &str| claim.pointer(at).and_then(Value::as_array).into_iter().flatten();
        let devices = list("/status/allocation/devices/results").map(|result| Device {
            driver: text(result, "driver"),
            pool: text(result, "pool"),
            name: text(result, "device"),
        });
        let pods = list("/status/reservedFor").filter(|by| text(by, "resource") == "pods");
        let metadata = claim.get("metadata")?;
        let allocation = Self {
            namespace: text(metadata, "namespace"),
            claim: text(metadata, "name"),
            pods: pods.map(|pod| (text(pod, "name"), text(pod, "uid"))).collect(),
            devices: devices.collect(),
        };
        (!allocation.devices.is_empty()).then_some(allocation)
    }
}

/// Against workloads whose pods mount storage that another stage mounts too: one finding for each.
pub fn volumes(
    holders: impl IntoIterator<Item = Holder>,
    storage: &Storage,
    overrides: &[ControlOverride],
) -> Vec<Finding> {
    let mut held: BTreeMap<&str, Vec<(Holder, &str)>> = BTreeMap::new();
    for holder in holders {
        if let Some((volume, place)) = storage.place(&holder.namespace, &holder.claim) {
            held.entry(place).or_default().push((holder, volume));
        }
    }
    let apart = |one: &Holder, other: &Holder| one.stage != other.stage;
    findings(held.into_values(), apart, overrides, |holder, volume, other, theirs| {
        let message = format!(
            "PersistentVolumeClaim {} is kept where namespace {}, of stage {}, keeps its claim {}: PersistentVolumes {volume} and \
             {theirs} lead to one storage",
            holder.claim, other.namespace, other.stage, other.claim
        );
        (DAT_07.rule("shared-volume"), message)
    })
}

/// Against workloads whose pods have a device that another stage, or data of another classification, has too: one finding for
/// each.
pub fn devices(
    holders: impl IntoIterator<Item = (Holder, BTreeSet<Device>)>,
    overrides: &[ControlOverride],
) -> Vec<Finding> {
    let mut held: BTreeMap<Device, Vec<(Holder, Device)>> = BTreeMap::new();
    for (holder, devices) in holders {
        for device in devices {
            held.entry(device.clone()).or_default().push((holder.clone(), device));
        }
    }
    let classified = |one: &Holder, other: &Holder| one.classification.zip(other.classification);
    let apart = |one: &Holder, other: &Holder| {
        one.stage != other.stage || classified(one, other).is_some_and(|(one, other)| one != other)
    };
    findings(held.into_values(), apart, overrides, |holder, device, other, _| {
        let Device { driver, pool, name } = device;
        let how = match other.classification.filter(|_| other.stage == holder.stage) {
            Some(classification) => format!("with {classification:?} data"),
            None => format!("of stage {}", other.stage),
        };
        let message = format!(
            "ResourceClaim {} has device {driver}/{pool}/{name}, which workload {}/{}, {how}, has too",
            holder.claim, other.namespace, other.workload
        );
        (WKL_04.rule("mixed-device"), message)
    })
}

/// Against a workload whose pods hold claims for devices, where nobody could say for which.
pub fn devices_unknown(namespace: &str, workload: &str) -> Finding {
    let subject = Subject::namespaced("AiWorkload", namespace, workload);
    let message = "which devices its pods have is not known: ResourceClaims could not be listed";
    Finding::new(WKL_04.rule("mixed-device"), subject, message).with_assurance(Assurance::Unknown)
}

/// One finding for each workload that holds a thing together with one it should be apart from, always the same one whatever the
/// order.
fn findings<T: Ord>(
    things: impl Iterator<Item = Vec<(Holder, T)>>,
    apart: impl Fn(&Holder, &Holder) -> bool,
    overrides: &[ControlOverride],
    say: impl Fn(&Holder, &T, &Holder, &T) -> (RuleId, String),
) -> Vec<Finding> {
    let mut found = BTreeMap::new();
    for mut holders in things {
        holders.sort();
        // Who is apart from one of a stage and classification is apart from all of them: a few stand for thousands.
        let mut few = BTreeMap::new();
        for holder in &holders {
            few.entry((holder.0.stage, holder.0.classification)).or_insert(holder);
        }
        for (holder, thing) in &holders {
            let Some((other, theirs)) = few.values().find(|(other, _)| apart(holder, other)) else {
                continue;
            };
            let (rule, message) = say(holder, thing, other, theirs);
            let subject = Subject::namespaced("AiWorkload", holder.namespace.as_str(), holder.workload.as_str());
            let finding = Finding::new(rule, subject, message);
            if is_heard(&finding, holder.stage, overrides) {
                found
                    .entry((holder.namespace.clone(), holder.workload.clone()))
                    .or_insert(finding);
            }
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests;
