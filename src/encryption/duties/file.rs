//! What is to be in the configuration file of one node.

use std::collections::BTreeMap;

use crate::api::encryption::{Plaintext, ResourceName, SecretEncryptionSpec, WantedProvider};
use crate::api::encryption_status::ConfigurationOrder;
use crate::api::key_ring::{EncryptionKeyRingSpec, RingKey};
use crate::api::names::ABANDONED_ANNOTATION;
use crate::encryption::KeyMaterial;
use crate::encryption::config::{
    self, Desired, Fault, Key, KeyName, Objection, Seen, Transformer, Undesirable, adopt_command, render,
};
use crate::encryption::ring::{Opened, unsealed, writes};
use crate::encryption::stored::Stored;
use crate::encryption::sweep;

/// The name that orders and reports have for no encryption.
const IDENTITY: &str = "identity";

/// What is in the file at present.
#[derive(Clone, Debug)]
pub enum Current {
    /// There is none.
    Absent,
    /// A file of ours, or one that may be taken over.
    Ours(Desired),
    /// Somebody else's.
    Foreign(Seen),
    /// The API server would not start with it.
    Broken(Fault),
}

impl Current {
    /// From the bytes of the file. `adopt` is the hash of the foreign file that a person lets be taken over.
    pub fn of(bytes: Option<&[u8]>, adopt: Option<&str>) -> Self {
        let Some(bytes) = bytes else { return Self::Absent };
        match config::read(bytes) {
            Err(fault) => Self::Broken(fault),
            Ok(seen) => match (seen.ours(), seen.adoptable()) {
                (Some(ours), _) => Self::Ours(ours.clone()),
                (None, Ok(same)) if adopt == Some(seen.hash()) => Self::Ours(same),
                _ => Self::Foreign(seen),
            },
        }
    }
}

/// What one node has, beside the ring.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// Its file.
    pub current: &'a Current,
    /// The hash of its file.
    pub current_hash: Option<&'a str>,
    /// The hash of what its API server runs with; `None` where that does not answer, or loaded none.
    pub loaded: Option<&'a str>,
    /// The keys, open.
    pub opened: &'a Opened,
    /// The sealed copy of the ring that is on its disk.
    pub copy: Option<&'a EncryptionKeyRingSpec>,
    /// A person lets values that are encrypted be stored in plaintext again: see [`plaintext_let`].
    pub plaintext_let: bool,
    /// What is stored in etcd, if it was read.
    pub stored: Option<&'a BTreeMap<(String, Stored), u64>>,
}

/// Why the file stays as it is. No key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The ring has no such key.
    #[error("ordered key {0} is not in the ring, or was destroyed")]
    NoSuchKey(String),
    /// It does not open here.
    #[error("key {0} does not open on this node; is the node approved? kubectl cloison ring approve")]
    Closed(String),
    /// I4: durable before use.
    #[error("key {name} is not sealed for {count} of those who must hold it; nothing may use it yet")]
    Unsealed {
        /// Its name.
        name: String,
        /// For how many.
        count: usize,
    },
    /// I4, on this disk.
    #[error("key {0} is not in the sealed copy on this node's disk yet")]
    NotOnDisk(String),
    /// Not ours to overwrite.
    #[error(
        "ForeignConfig: the file was not written by this agent and is left alone{why}; to take it over: {}",
        adopt_command(hash)
    )]
    Foreign {
        /// Its hash.
        hash: String,
        /// What stands against taking it over, with a comma before.
        why: String,
    },
    /// The API server would exit at its next start.
    #[error(
        "the file is damaged and is left alone: {0}; the API server will not start with it: restore it from the last good \
         file beside it, encryption.last-good.json, and look who wrote it"
    )]
    Broken(Fault),
    /// I2: nobody writes what others cannot read.
    #[error("{0} is ordered to write and is not in this node's file yet; every API server reads it first")]
    NotReadYet(String),
    /// The file with the new key was not loaded yet.
    #[error("the API server runs with {loaded} and not with the file {file}; it loads within a minute")]
    NotLoaded {
        /// What it runs with.
        loaded: String,
        /// What is on disk.
        file: String,
    },
    /// I1: what was just written stays readable.
    #[error("{0} writes at present and is missing in the order; it has to be read first")]
    DropsWriter(String),
    /// A key that was lost, or never taken in: nobody could bring it back.
    #[error(
        "key {0} of the present file is not in the ring, or is another key there: this file may be the only place that has \
         it, so it stays; copy it to a safe place, and bring back the newest EncryptionKeyRing; where the ring says that \
         the key was destroyed, move the file away"
    )]
    OnlyHere(String),
    /// I5, by what this node itself saw in etcd.
    #[error("{count} values of {resource} are under {name}, which the order leaves out")]
    StillStored {
        /// The key.
        name: String,
        /// Of this resource.
        resource: String,
        /// So many.
        count: u64,
    },
    /// Values that are encrypted now would be served as they are.
    #[error(
        "the present file encrypts {0}, and of Cloison's files Secrets alone are; bring {0} back to plaintext first, or \
         go on rotating this file by hand"
    )]
    DropsResource(String),
    /// Its old values would be read as if they were encrypted.
    #[error(
        "spec.resources names {0}, and Secrets alone are rewritten: API servers could not read what is stored of it; take \
         it out"
    )]
    NotSwept(String),
    /// The controller alone decrypts nothing.
    #[error(
        "plaintext is ordered, and nobody allows it: it needs spec.provider: Identity with spec.plaintext: Accepted, or \
         the key that writes named in the annotation {ABANDONED_ANNOTATION}"
    )]
    Plaintext,
    /// A configuration that must not be.
    #[error(transparent)]
    Undesirable(#[from] Undesirable),
    /// What was rendered is not what was meant.
    #[error("the new file would be refused by the API server: {0}")]
    Invalid(String),
}

/// The keys that a person lets be taken over, oldest name first; empty when there is nothing to adopt.
pub fn adopted(bytes: Option<&[u8]>, adopt: Option<&str>) -> Vec<Key> {
    let seen = bytes.and_then(|bytes| config::read(bytes).ok());
    let Some(seen) = seen.filter(|seen| seen.ours().is_none() && adopt == Some(seen.hash())) else {
        return Vec::new();
    };
    if seen.adoptable().is_err() {
        return Vec::new();
    }
    let mut keys = seen.keys();
    keys.sort_by_key(|key| (key.name.id(), key.name.clone()));
    keys
}

/// What the file is to be; or why it stays. The bytes are those of [`render`], which every node has alike.
pub fn file(
    order: &ConfigurationOrder,
    resources: &[ResourceName],
    ring: &EncryptionKeyRingSpec,
    local: &Local<'_>,
) -> Result<Desired, Hold> {
    let write = transformer(&order.write, ring, local)?;
    let mut read = Vec::new();
    for name in &order.read {
        read.push(transformer(name, ring, local)?);
    }
    let desired = Desired::new(resources.iter().cloned(), write, read)?;
    match local.current {
        Current::Absent => first(&order.write, ring)?,
        Current::Foreign(seen) => return Err(foreign(seen)),
        Current::Broken(fault) => return Err(Hold::Broken(fault.clone())),
        Current::Ours(current) => {
            only_here(current, ring, local)?;
            replaces(current, &desired, ring, local)?;
        }
    }
    if let Some(other) = desired.resources().iter().find(|one| one.0 != sweep::RESOURCE) {
        return Err(Hold::NotSwept(other.0.clone()));
    }
    let bytes = render(&desired);
    match config::read(bytes.as_bytes()) {
        Ok(seen) if seen.ours() == Some(&desired) => Ok(desired),
        Ok(_) => Err(Hold::Invalid("it would not read back as what was ordered".to_owned())),
        Err(fault) => Err(Hold::Invalid(fault.to_string())),
    }
}

/// A key of the ring that may be used on this node.
fn transformer(name: &str, ring: &EncryptionKeyRingSpec, local: &Local<'_>) -> Result<Transformer, Hold> {
    if name == IDENTITY {
        return Ok(Transformer::Identity);
    }
    let named = |ring: &EncryptionKeyRingSpec| {
        let found = ring
            .keys
            .iter()
            .find(|key| *key.name == *name && key.destroyed_time.is_none());
        found.cloned()
    };
    let key: RingKey = named(ring).ok_or_else(|| Hold::NoSuchKey(name.to_owned()))?;
    let missing = unsealed(ring, &key).len();
    if missing > 0 {
        return Err(Hold::Unsealed {
            name: name.to_owned(),
            count: missing,
        });
    }
    let same = |copy: &RingKey| copy.commitment == key.commitment;
    if !local.copy.and_then(named).is_some_and(|copy| same(&copy)) {
        return Err(Hold::NotOnDisk(name.to_owned()));
    }
    let material = local.opened.get(&key.id).ok_or_else(|| Hold::Closed(name.to_owned()))?;
    Ok(Transformer::Key(Key {
        name: KeyName::parse(name).ok_or_else(|| Hold::NoSuchKey(name.to_owned()))?,
        provider: key.provider,
        material: material.clone(),
    }))
}

/// Without a file before it nothing shows that others read the key, but that it was written elsewhere already.
fn first(write: &str, ring: &EncryptionKeyRingSpec) -> Result<(), Hold> {
    if write == IDENTITY || in_use(write, ring) {
        Ok(())
    } else {
        Err(Hold::NotReadYet(write.to_owned()))
    }
}

/// Whether it was written elsewhere: every API server read it before that, but one that comes late.
fn in_use(write: &str, ring: &EncryptionKeyRingSpec) -> bool {
    let mut keys = ring.keys.iter().filter(|key| key.retired_time.is_none());
    keys.any(|key| *key.name == *write && writes(key) > 0)
}

/// Whether a person lets this node write plaintext where it encrypts now: by the policy, or by giving up the key that
/// writes while its first enable is on its way. `abandoned` is the annotation.
pub fn plaintext_let(spec: &SecretEncryptionSpec, abandoned: Option<&str>, current: &Current) -> bool {
    let wanted = spec.provider == WantedProvider::Identity && spec.plaintext == Plaintext::Accepted;
    let given_up = |file: &Desired| {
        let mut names = abandoned.unwrap_or_default().split(',');
        file.read().contains(&Transformer::Identity) && names.any(|given_up| given_up.trim() == name(file.write()))
    };
    wanted || matches!(current, Current::Ours(file) if given_up(file))
}

/// Every key of the file can be brought back from the ring: two files that are adopted may have one name for two keys.
fn only_here(current: &Desired, ring: &EncryptionKeyRingSpec, local: &Local<'_>) -> Result<(), Hold> {
    let held = |key: &&Key| {
        let named = ring
            .keys
            .iter()
            .find(|held| *held.name == *key.name.as_str() && held.provider == key.provider);
        named
            .and_then(|held| local.opened.get(&held.id))
            .map(KeyMaterial::bytes)
            == Some(key.material.bytes())
    };
    match current.keys().find(|key| !held(key)) {
        Some(key) => Err(Hold::OnlyHere(key.name.to_string())),
        None => Ok(()),
    }
}

fn replaces(current: &Desired, next: &Desired, ring: &EncryptionKeyRingSpec, local: &Local<'_>) -> Result<(), Hold> {
    if current == next {
        return Ok(());
    }
    let reads = |file: &Desired, wanted: &Transformer| file.write() == wanted || file.read().contains(wanted);
    // A file from before the rotation, as a restored node has: see [`first`].
    if !reads(current, next.write()) && !in_use(&name(next.write()), ring) {
        return Err(Hold::NotReadYet(name(next.write())));
    }
    if next.write() != current.write()
        && let (Some(loaded), Some(file)) = (local.loaded, local.current_hash)
        && loaded != file
    {
        return Err(Hold::NotLoaded {
            loaded: loaded.to_owned(),
            file: file.to_owned(),
        });
    }
    // While the first enable has not rewritten everything, plaintext is what an API server that joins can read.
    let enabling = local.stored.is_some_and(|stored| {
        stored
            .iter()
            .any(|((_, under), count)| *under == Stored::Plain && *count > 0)
    });
    let decrypts = *next.write() == Transformer::Identity && next.write() != current.write();
    if decrypts && !local.plaintext_let && !enabling {
        return Err(Hold::Plaintext);
    }
    if !reads(next, current.write()) {
        return Err(Hold::DropsWriter(name(current.write())));
    }
    if let Some(lost) = current.resources().iter().find(|one| !next.resources().contains(one)) {
        return Err(Hold::DropsResource(lost.0.clone()));
    }
    for dropped in current.read().iter().filter(|one| !reads(next, one)) {
        let dropped = name(dropped);
        let held = local.stored.into_iter().flatten();
        let mut held = held.filter(|((_, under), count)| under.to_string() == dropped && **count > 0);
        if let Some(((resource, _), count)) = held.next() {
            return Err(Hold::StillStored {
                name: dropped,
                resource: resource.clone(),
                count: *count,
            });
        }
    }
    Ok(())
}

fn name(transformer: &Transformer) -> String {
    match transformer {
        Transformer::Identity => IDENTITY.to_owned(),
        Transformer::Key(key) => key.name.to_string(),
    }
}

fn foreign(seen: &Seen) -> Hold {
    let why = match seen.adoptable() {
        Err(objection @ Objection::KmsV2) => format!(" ({objection})"),
        Err(objection) => format!(", and cannot be taken over as it is ({objection})"),
        Ok(_) => String::new(),
    };
    Hold::Foreign {
        hash: seen.hash().to_owned(),
        why,
    }
}
