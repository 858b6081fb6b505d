//! Whether the volumes of a pod are encrypted by their storage. What a StorageClass asks for is only the request: where the
//! driver writes into the PersistentVolume what it made, that is what counts; where it does not, the volume must have been
//! made by that driver, for that claim, after the class was there.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;

use super::Settings;
use super::pod::VolumeUse;
use crate::api::conditions::Truth;
use crate::api::workload::{Classification, VolumeEncryption};
use crate::compliance::finding::{Assurance, Finding, Location, Subject};
use crate::compliance::id::ENC_02;

/// A driver whose parameters are known.
struct Driver {
    /// How its name ends: Rook puts the namespace of the operator before that of Ceph.
    name: &'static str,
    /// The parameters that ask for encryption, each with the value it must have; `None` is any.
    asks: &'static [(&'static str, Option<&'static str>)],
    /// Whether it repeats them in the attributes of the volume it made.
    repeats: bool,
}

const fn driver(name: &'static str, asks: &'static [(&'static str, Option<&'static str>)], repeats: bool) -> Driver {
    Driver { name, asks, repeats }
}

static DRIVERS: [Driver; 9] = [
    driver("ebs.csi.aws.com", &[("encrypted", Some("true"))], false),
    driver("kubernetes.io/aws-ebs", &[("encrypted", Some("true"))], false),
    driver("pd.csi.storage.gke.io", &[("disk-encryption-kms-key", None)], false),
    driver("disk.csi.azure.com", &[("diskEncryptionSetID", None)], false),
    driver("kubernetes.io/azure-disk", &[("diskEncryptionSetID", None)], false),
    driver(
        "rbd.csi.ceph.com",
        &[("encrypted", Some("true")), ("encryptionKMSID", None)],
        true,
    ),
    driver("driver.longhorn.io", &[("encrypted", Some("true"))], true),
    driver("pxd.portworx.com", &[("secure", Some("true"))], false),
    driver("kubernetes.io/portworx-volume", &[("secure", Some("true"))], false),
];

/// Inline drivers that put credentials into memory, and keep no data.
const CREDENTIAL_DRIVERS: [&str; 4] = [
    "csi.cert-manager.io",
    "csi.spiffe.io",
    "secrets-store.csi.k8s.io",
    "spiffe.csi.cert-manager.io",
];

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// A StorageClass.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    driver: String,
    /// The parameters that matter, without case: provisioners read them so.
    parameters: BTreeMap<String, String>,
    default: bool,
    created: Option<Timestamp>,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    class: Option<String>,
    volume: Option<String>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Volume {
    driver: Option<String>,
    attributes: BTreeMap<String, String>,
    class: String,
    claim: Option<(String, String)>,
    provisioned_by: Option<String>,
    created: Option<Timestamp>,
}

/// The storage of a cluster, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    classes: BTreeMap<String, Class>,
    claims: BTreeMap<(String, String), Claim>,
    volumes: BTreeMap<String, Volume>,
}

/// The namespaces whose volumes may have another word than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A class changed, which any claim may name.
    Everywhere,
    /// Claims of these changed, or the volumes bound to them.
    In(BTreeSet<String>),
}

impl Changed {
    /// Whether a namespace is one of them.
    pub fn concerns(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(names) => names.contains(namespace),
        }
    }
}

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

fn lower(map: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    let keys = DRIVERS.iter().flat_map(|driver| driver.asks);
    let wanted: BTreeSet<String> = keys.map(|(key, _)| key.to_ascii_lowercase()).collect();
    let entries = map.into_iter().flatten();
    let known = entries.map(|(key, value)| (key.to_ascii_lowercase(), value.clone()));
    known.filter(|(key, _)| wanted.contains(key)).collect()
}

impl Storage {
    /// Reads classes, claims and volumes.
    pub fn new<'o>(
        classes: impl IntoIterator<Item = &'o StorageClass>,
        claims: impl IntoIterator<Item = &'o PersistentVolumeClaim>,
        volumes: impl IntoIterator<Item = &'o PersistentVolume>,
    ) -> Self {
        let class = |class: &StorageClass| {
            let metadata = &class.metadata;
            let marks = metadata.annotations.as_ref();
            let read = Class {
                driver: class.provisioner.clone(),
                parameters: lower(class.parameters.as_ref()),
                default: marks.is_some_and(|marks| marks.get(DEFAULT_CLASS).is_some_and(|mark| mark == "true")),
                created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            };
            (metadata.name.clone().unwrap_or_default(), read)
        };
        let claim = |claim: &PersistentVolumeClaim| {
            let spec = claim.spec.clone().unwrap_or_default();
            let read = Claim {
                class: spec.storage_class_name,
                volume: spec.volume_name.filter(|name| !name.is_empty()),
            };
            let metadata = &claim.metadata;
            let key = (
                metadata.namespace.clone().unwrap_or_default(),
                metadata.name.clone().unwrap_or_default(),
            );
            (key, read)
        };
        let volume = |volume: &PersistentVolume| {
            let metadata = &volume.metadata;
            let spec = volume.spec.clone().unwrap_or_default();
            let marks = metadata.annotations.as_ref();
            let reference = spec.claim_ref.as_ref();
            let read = Volume {
                driver: spec.csi.as_ref().map(|csi| csi.driver.clone()),
                attributes: lower(spec.csi.as_ref().and_then(|csi| csi.volume_attributes.as_ref())),
                class: spec.storage_class_name.unwrap_or_default(),
                claim: reference.and_then(|claim| Some((claim.namespace.clone()?, claim.name.clone()?))),
                provisioned_by: marks.and_then(|marks| marks.get(PROVISIONED_BY).cloned()),
                created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            };
            (metadata.name.clone().unwrap_or_default(), read)
        };
        Self {
            classes: classes.into_iter().map(class).collect(),
            claims: claims.into_iter().map(claim).collect(),
            volumes: volumes.into_iter().map(volume).collect(),
        }
    }

    /// What changed from this to another.
    pub fn changed_since(&self, now: &Self) -> Changed {
        if self.classes != now.classes {
            return Changed::Everywhere;
        }
        let claims = [self, now].map(|storage| storage.claims.keys());
        let claims = claims
            .into_iter()
            .flatten()
            .filter(|key| self.claims.get(*key) != now.claims.get(*key));
        let names = [self, now].map(|storage| storage.volumes.keys()).into_iter().flatten();
        let names = names.filter(|name| self.volumes.get(*name) != now.volumes.get(*name));
        let bound = names.flat_map(|name| [self, now].map(|storage| storage.volumes.get(name)?.claim.as_ref()));
        Changed::In(
            claims
                .chain(bound.flatten())
                .map(|(namespace, _)| namespace.clone())
                .collect(),
        )
    }

    /// The word on a volume of a pod in `namespace`; `None` for one that keeps no data. `listed` are the classes that the
    /// organisation says are encrypted.
    pub fn judge(&self, namespace: &str, used: &VolumeUse, listed: &[&str]) -> Option<Word> {
        Some(match used {
            VolumeUse::Claim(name) => self.claim(namespace, name, listed),
            VolumeUse::Ephemeral(class) => self.class(class.as_deref(), listed),
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
        })
    }

    fn claim(&self, namespace: &str, name: &str, listed: &[&str]) -> Word {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(claim) = self.claims.get(&key) else {
            let message = format!("PersistentVolumeClaim {name} is not known here");
            return word(Truth::Unknown, "ClaimMissing", message);
        };
        let Some(bound) = &claim.volume else {
            return match self.class(claim.class.as_deref(), listed) {
                asked if asked.truth == Truth::True => word(
                    Truth::Unknown,
                    "NotBound",
                    format!("{}; the claim has no volume yet", asked.message),
                ),
                other => other,
            };
        };
        let Some(volume) = self.volumes.get(bound) else {
            let message = format!("PersistentVolume {bound} is not known here");
            return word(Truth::Unknown, "VolumeMissing", message);
        };
        if volume.claim.as_ref().is_some_and(|claim| *claim != key) {
            let message = format!("PersistentVolume {bound} is bound to another claim");
            return word(Truth::Unknown, "ForeignVolume", message);
        }
        self.volume(bound, volume, listed)
    }

    /// A volume that is bound: by what its driver wrote into it, or by the class that it was made from.
    fn volume(&self, name: &str, volume: &Volume, listed: &[&str]) -> Word {
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
        let class = self.classes.get(&volume.class);
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
                let defaults = self.classes.iter().filter(|(_, class)| class.default);
                // The API server takes the newest; of equal ones the first by name.
                let newest = defaults.max_by(|a, b| (a.1.created, b.0).cmp(&(b.1.created, a.0)));
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
        let Some(class) = self.classes.get(name) else {
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

fn known(driver: &str) -> Option<&'static Driver> {
    let named = |end: &str| driver == end || driver.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    DRIVERS.iter().find(|known| named(known.name))
}

/// The first key without the value that it must have.
fn missing(keys: &[(&'static str, Option<&str>)], values: &BTreeMap<String, String>) -> Option<&'static str> {
    let says = |key: &str, wanted: Option<&str>| {
        let value = values.get(&key.to_ascii_lowercase());
        value.is_some_and(|value| match wanted {
            Some(wanted) => value.eq_ignore_ascii_case(wanted),
            None => !value.is_empty(),
        })
    };
    keys.iter()
        .find(|(key, wanted)| !says(key, *wanted))
        .map(|(key, _)| *key)
}

#[cfg(test)]
mod tests;
