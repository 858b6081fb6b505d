//! Whether the volumes of a pod are encrypted by their storage. What a StorageClass asks for is only the request: where the
//! driver writes into the PersistentVolume what it made, that is what counts; where it does not, the volume must have been
//! made by that driver, for that claim, after the class was there.

mod drivers;
mod objects;

use drivers::{CREDENTIAL_DRIVERS, Driver, known, missing};
use objects::VolumeSays;
pub use objects::{Changed, Claim, Class, Storage, Volume};

use super::Settings;
use super::pod::VolumeUse;
use crate::api::conditions::Truth;
use crate::api::workload::{Classification, VolumeEncryption};
use crate::compliance::finding::{Assurance, Finding, Location, Subject};
use crate::compliance::id::ENC_02;

/// The word on one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whether it is encrypted.
    pub truth: Truth,
    /// A CamelCase word.
    pub reason: &'static str,
    /// One line.
    pub message: String,
}

fn word(truth: Truth, reason: &'static str, message: impl Into<String>) -> Word {
    let message = message.into();
    Word { truth, reason, message }
}

impl Storage {
    /// The word on a volume of a pod in `namespace`; `None` for one that keeps no data. `listed` are the classes that the
    /// organisation says are encrypted.
    pub fn judge(&self, namespace: &str, used: &VolumeUse, listed: &[&str]) -> Option<Word> {
        Some(match used {
            VolumeUse::Claim(name) => self.claim(namespace, name, listed),
            VolumeUse::Ephemeral(_, class) => self.class(class.as_deref(), listed),
            VolumeUse::NodeDisk => word(
                Truth::Unknown,
                "NodeDisk",
                "it is on the disk of the node, which is not looked at",
            ),
            VolumeUse::Driver(driver) if CREDENTIAL_DRIVERS.contains(&driver.as_str()) => return None,
            VolumeUse::Driver(driver) => word(
                Truth::Unknown,
                "UnknownDriver",
                format!("how the inline driver {driver} keeps data is not known"),
            ),
            VolumeUse::Other(kind) => word(
                Truth::Unknown,
                "UnknownKind",
                format!("whether a volume of kind {kind} is encrypted is not known"),
            ),
        })
    }

    fn claim(&self, namespace: &str, name: &str, listed: &[&str]) -> Word {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(claim) = self.claims.get(&key) else {
            let message = format!("PersistentVolumeClaim {name} is not known here");
            return word(Truth::Unknown, "ClaimMissing", message);
        };
        let Some(bound) = &claim.says.volume else {
            return match self.class(claim.says.class.as_deref(), listed) {
                asked if asked.truth == Truth::True => word(
                    Truth::Unknown,
                    "NotBound",
                    format!("{}; the claim has no volume yet", asked.message),
                ),
                other => other,
            };
        };
        let Some(volume) = self.volumes.get(bound).map(|volume| &volume.says) else {
            let message = format!("PersistentVolume {bound} is not known here");
            return word(Truth::Unknown, "VolumeMissing", message);
        };
        if volume.claim.as_ref() != Some(&key) {
            let message = format!("PersistentVolume {bound} is not bound to this claim");
            return word(Truth::Unknown, "ForeignVolume", message);
        }
        self.volume(bound, volume, listed)
    }

    /// A volume that is bound: by what its driver wrote into it, or by the class that it was made from.
    fn volume(&self, name: &str, volume: &VolumeSays, listed: &[&str]) -> Word {
        let driver = volume.driver.as_ref().or(volume.provisioned_by.as_ref());
        let known = driver.and_then(|driver| known(driver));
        if let (
            Some(Driver {
                asks, repeats: true, ..
            }),
            Some(driver),
        ) = (known, driver)
        {
            let missing = missing(asks, &volume.attributes);
            return match missing {
                None => word(
                    Truth::True,
                    "Encrypted",
                    format!("driver {driver} wrote into PersistentVolume {name} that it is encrypted"),
                ),
                Some(key) => word(
                    Truth::False,
                    "NotEncrypted",
                    format!(
                        "PersistentVolume {name} of driver {driver} has no attribute {key} that says it is encrypted"
                    ),
                ),
            };
        }
        let class = self.classes.get(&volume.class).map(|class| &class.says);
        let made = class.filter(|class| volume.provisioned_by.as_ref() == Some(&class.driver));
        let Some(class) = made else {
            let message = format!("PersistentVolume {name} was not made from a StorageClass that is there");
            return word(Truth::Unknown, "StaticVolume", message);
        };
        if class.created > volume.created {
            let message = format!(
                "PersistentVolume {name} is older than its StorageClass {}, which may have asked for something else then",
                volume.class
            );
            return word(Truth::Unknown, "OlderThanClass", message);
        }
        self.class(Some(&volume.class), listed)
    }

    /// What a class asks for; without a name the default one.
    fn class(&self, name: Option<&str>, listed: &[&str]) -> Word {
        let name = match name {
            Some("") => {
                let message = "it asks for a volume without a StorageClass";
                return word(Truth::Unknown, "StaticVolume", message);
            }
            Some(name) => name,
            None => {
                let defaults = self.classes.iter().filter(|(_, class)| class.says.default);
                // The API server takes the newest; of equal ones the first by name.
                let newest = defaults.max_by(|a, b| (a.1.says.created, b.0).cmp(&(b.1.says.created, a.0)));
                let Some((name, _)) = newest else {
                    let message = "it names no StorageClass, and which one is the default is not known here";
                    return word(Truth::Unknown, "DefaultClassUnknown", message);
                };
                name
            }
        };
        if listed.contains(&name) {
            let message = format!("the policy lists StorageClass {name} as encrypted");
            return word(Truth::True, "Listed", message);
        }
        let Some(class) = self.classes.get(name).map(|class| &class.says) else {
            let message = format!("StorageClass {name} is neither known here nor listed by the policy");
            return word(Truth::Unknown, "ClassMissing", message);
        };
        let Some(Driver { asks, .. }) = known(&class.driver) else {
            let message = format!(
                "how StorageClass {name} of {} encrypts is not known; list it in secrets.encryptedStorageClasses if it does",
                class.driver
            );
            return word(Truth::Unknown, "UnknownDriver", message);
        };
        match missing(asks, &class.parameters) {
            None => word(
                Truth::True,
                "Encrypted",
                format!("StorageClass {name} of {} asks for encryption", class.driver),
            ),
            Some(key) => word(
                Truth::False,
                "NotRequested",
                format!(
                    "StorageClass {name} of {} does not ask for encryption ({key})",
                    class.driver
                ),
            ),
        }
    }

    /// What is against the volumes of a pod. What is not known is told where the workload or the policy asks for it.
    pub fn findings(
        &self,
        namespace: &str,
        volumes: &[(String, VolumeUse)],
        subject: &Subject,
        settings: &Settings<'_>,
    ) -> Vec<Finding> {
        let listed: Vec<&str> = settings.encrypted_classes.iter().map(|name| &**name).collect();
        let asked = settings.secrets.and_then(|secrets| secrets.volumes) == Some(VolumeEncryption::Encrypted);
        let wanted = asked || !listed.is_empty();
        let told = volumes.iter().filter_map(|(field, used)| {
            if *used == VolumeUse::NodeDisk {
                let secret = settings.classification > Classification::Internal;
                let message = "a volume is on the disk of the node, and how that is encrypted is not known";
                let finding =
                    Finding::new(ENC_02.rule("scratch"), subject.clone(), message).at(Location::field(&**field));
                // Of data that may be there nothing is against it; only the workload's own wish is not seen to be kept.
                return match (secret, asked) {
                    (true, _) => Some(finding),
                    (false, true) => Some(finding.with_assurance(Assurance::Unknown)),
                    (false, false) => None,
                };
            }
            let word = self.judge(namespace, used, &listed)?;
            let finding = Finding::new(ENC_02.rule("storage-class"), subject.clone(), word.message);
            let finding = finding.at(Location::field(&**field));
            match word.truth {
                Truth::True => None,
                Truth::False => Some(finding),
                Truth::Unknown => wanted.then(|| finding.with_assurance(Assurance::Unknown)),
            }
        });
        told.collect()
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "what a test writes down is its own")]
mod tests;
