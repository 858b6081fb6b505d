//! What may be done to the ring.

mod holders;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Opened, Refusal, commitment};
use crate::api::encryption::{Escrow, Provider};
use crate::api::key_ring::{Approval, EncryptionKeyRingSpec, KeyOrigin, KeyWrites, MAX_KEYS, RingKey};
use crate::api::text::{AgeRecipient, Armored, Digest, KeyName, LabelValue, ObjectName};
use crate::encryption::KeyMaterial;

/// Most members; the schema says the same.
const MAX_MEMBERS: usize = 16;
/// Most nodes whose writes are counted for one key; the schema says the same.
const MAX_WRITERS: usize = 32;
/// etcd takes objects of 1.5 MiB; status and metadata need some of it.
const MAX_BYTES: usize = 1_200_000;
/// Longest name of a key that is imported.
const MAX_NAME: usize = 253;

/// Seals a key for a recipient: the one thing here that needs randomness. What it says when it fails is one line without
/// the key.
pub type Seal<'a> = &'a dyn Fn(&AgeRecipient, &KeyMaterial) -> Result<Armored, String>;

/// What a change is made with.
#[derive(Clone)]
pub struct Act<'a> {
    /// Now.
    pub now: Time,
    /// Every key that lives, open: see [`super::open`]. Empty where the ring has none, or nobody is let in.
    pub keys: &'a Opened,
    /// Seals.
    pub seal: Seal<'a>,
}

impl fmt::Debug for Act<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Act")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// One change. Made a second time it changes nothing.
#[derive(Clone, Debug)]
pub enum Change {
    /// A control-plane node that was there before the first key. There is nothing to give away yet; that the node is of
    /// the control plane is the caller's to know.
    Found {
        /// The node.
        node: ObjectName,
        /// Its identity's public half.
        recipient: AgeRecipient,
    },
    /// A node that a person let in.
    Admit(Approval),
    /// A node that is gone. What it knew it still knows: rotate, where it did not just die.
    Remove(ObjectName),
    /// Seals for these offline recipients, and no longer for others.
    Escrow(Escrow),
    /// A new key.
    Mint {
        /// The ring's newest number when it was asked for.
        after: i64,
        /// Its cipher.
        provider: Provider,
        /// The request for a rotation that it serves.
        request: Option<LabelValue>,
        /// 32 random bytes.
        material: KeyMaterial,
        /// What `SecretEncryption` says of the escrow.
        escrow: Escrow,
    },
    /// A key of a configuration that is adopted.
    Import {
        /// What it is called there.
        name: String,
        /// Its cipher.
        provider: Provider,
        /// Its bytes.
        material: KeyMaterial,
        /// What `SecretEncryption` says of the escrow.
        escrow: Escrow,
    },
    /// What one node's API server wrote since ever, by key.
    Count {
        /// The node.
        node: ObjectName,
        /// Values written, by the key's name. Keys that are not in the ring are passed over.
        writes: BTreeMap<KeyName, i64>,
    },
    /// No value is under it any more: it was proven, and old revisions are gone.
    Retire(i64),
    /// Its material is removed. Nothing brings it back.
    Destroy(i64),
}

/// The ring after a change; or why there is none.
pub fn change(ring: &EncryptionKeyRingSpec, change: &Change, act: &Act<'_>) -> Result<EncryptionKeyRingSpec, Refusal> {
    let mut next = ring.clone();
    match change {
        Change::Found { node, recipient } => holders::found(&mut next, node, recipient, act)?,
        Change::Admit(approval) => holders::admit(&mut next, approval, act)?,
        Change::Remove(node) => holders::remove(&mut next, node)?,
        Change::Escrow(asked) => holders::escrow(&mut next, asked, act)?,
        Change::Mint {
            after,
            provider,
            request,
            material,
            escrow,
        } => {
            if next.last_id != *after {
                return Err(Refusal::Overtaken {
                    after: *after,
                    newest: next.last_id,
                });
            }
            let id = next.last_id + 1;
            let new = New {
                id,
                name: KeyName(format!("k{id}")),
                provider: *provider,
                origin: KeyOrigin::Minted,
                request: request.clone(),
            };
            add(&mut next, new, material, escrow, act)?;
        }
        Change::Import {
            name,
            provider,
            material,
            escrow,
        } => import(&mut next, name, *provider, material, escrow, act)?,
        Change::Count { node, writes } => count(&mut next, node, writes)?,
        Change::Retire(id) => {
            let now = act.now.clone();
            key(&mut next, *id)?.retired_time.get_or_insert(now);
        }
        Change::Destroy(id) => destroy(&mut next, *id, act)?,
    }
    let bytes = serde_json::to_vec(&next).map_or(0, |bytes| bytes.len());
    if bytes > MAX_BYTES && next != *ring {
        return Err(Refusal::TooLarge(bytes));
    }
    Ok(next)
}

fn key(ring: &mut EncryptionKeyRingSpec, id: i64) -> Result<&mut RingKey, Refusal> {
    ring.keys
        .iter_mut()
        .find(|key| key.id == id)
        .ok_or(Refusal::NoSuchKey(id))
}

/// A key before it is sealed.
struct New {
    id: i64,
    name: KeyName,
    provider: Provider,
    origin: KeyOrigin,
    request: Option<LabelValue>,
}

fn add(
    ring: &mut EncryptionKeyRingSpec,
    new: New,
    material: &KeyMaterial,
    escrow: &Escrow,
    act: &Act<'_>,
) -> Result<(), Refusal> {
    let New {
        id,
        name,
        provider,
        origin,
        request,
    } = new;
    if ring.members.is_empty() {
        return Err(Refusal::NoMember);
    }
    if holders::wanted(escrow)? != ring.escrow {
        return Err(Refusal::EscrowDiffers);
    }
    for key in &ring.keys {
        if key.name == name {
            return Err(Refusal::NameReused(name.to_string()));
        }
        // A configuration that is adopted may name one key twice; what is minted is new.
        let same = || commitment(key.id, &key.name, key.provider, material) == key.commitment;
        if origin == KeyOrigin::Minted && same() {
            return Err(Refusal::MaterialReused(key.name.to_string()));
        }
    }
    if ring.keys.len() >= MAX_KEYS {
        let destroyed = ring.keys.iter().position(|key| key.destroyed_time.is_some());
        ring.keys.remove(destroyed.ok_or(Refusal::Full)?);
    }
    let recipients: Vec<AgeRecipient> = super::recipients(ring).cloned().collect();
    let wraps = recipients
        .iter()
        .map(|recipient| holders::seal(&name, recipient, material, act));
    let mut wraps = wraps.collect::<Result<Vec<_>, _>>()?;
    wraps.sort_by(|a, b| a.recipient.cmp(&b.recipient));
    let commitment: Digest = commitment(id, &name, provider, material);
    ring.keys.push(RingKey {
        id,
        name,
        provider,
        origin,
        creation_time: act.now.clone(),
        request,
        commitment,
        wraps,
        writes: Vec::new(),
        retired_time: None,
        destroyed_time: None,
    });
    ring.last_id = id;
    Ok(())
}

fn import(
    ring: &mut EncryptionKeyRingSpec,
    name: &str,
    provider: Provider,
    material: &KeyMaterial,
    escrow: &Escrow,
    act: &Act<'_>,
) -> Result<(), Refusal> {
    let bad = |c: char| c == ':' || c.is_whitespace();
    if name.is_empty() || name.contains(bad) || name.chars().count() > MAX_NAME {
        return Err(Refusal::BadName(name.to_owned()));
    }
    if let Some(known) = ring.keys.iter().find(|key| *key.name == *name) {
        let same =
            known.provider == provider && commitment(known.id, &known.name, provider, material) == known.commitment;
        return if same {
            Ok(())
        } else {
            Err(Refusal::NameReused(name.to_owned()))
        };
    }
    let next = ring.last_id + 1;
    // A name of the form of ours takes its own number, so that no key that is minted later has this name.
    let id = match number(name) {
        Some(number) if number < next => return Err(Refusal::NameReused(name.to_owned())),
        Some(number) => number,
        None => next,
    };
    let new = New {
        id,
        name: KeyName(name.to_owned()),
        provider,
        origin: KeyOrigin::Imported,
        request: None,
    };
    add(ring, new, material, escrow, act)
}

/// The number in a name of the form of ours.
fn number(name: &str) -> Option<i64> {
    let number = name.strip_prefix('k')?.parse().ok()?;
    (number > 0 && format!("k{number}") == name).then_some(number)
}

fn count(ring: &mut EncryptionKeyRingSpec, node: &ObjectName, writes: &BTreeMap<KeyName, i64>) -> Result<(), Refusal> {
    for key in &mut ring.keys {
        let Some(&count) = writes.get(&key.name).filter(|count| **count > 0) else {
            continue;
        };
        let full = key.writes.len() >= MAX_WRITERS;
        match key.writes.iter_mut().find(|known| known.node == *node) {
            Some(known) => known.count = known.count.max(count),
            None if full => return Err(Refusal::TooManyWriters(key.name.to_string())),
            None => key.writes.push(KeyWrites {
                node: node.clone(),
                count,
            }),
        }
        key.writes.sort_by(|a, b| a.node.cmp(&b.node));
    }
    Ok(())
}

fn destroy(ring: &mut EncryptionKeyRingSpec, id: i64, act: &Act<'_>) -> Result<(), Refusal> {
    let now = act.now.clone();
    let key = key(ring, id)?;
    if key.retired_time.is_none() {
        return Err(Refusal::NotRetired(key.name.to_string()));
    }
    key.wraps.clear();
    key.destroyed_time.get_or_insert(now);
    Ok(())
}
