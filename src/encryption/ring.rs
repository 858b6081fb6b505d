//! The sealed ring: who may hold the keys, and what may become of them. Pure: what is random, keys and seals, is an
//! argument; so is the time.
//!
//! Every change is a function from the ring that was read to the ring that is to be written, or a refusal. It is written
//! over the version it was made from and no other (`resourceVersion`); when that is gone, the agent reads the ring again
//! and makes the same change anew. A change that was made already changes nothing, so nothing is done twice.
//!
//! What it keeps (I3 and I4 of the rotation): numbers only grow, a name belongs to one key for ever, every key that lives
//! is sealed for every member and for every recipient of the escrow, and what is sealed is what was minted.

mod change;
mod commitment;
mod identity;
mod open;
pub mod recover;
mod refusal;
mod successor;

pub use change::{Act, Change, Seal, change};
pub use commitment::commitment;
pub use identity::{BadIdentity, Identity, identities};
pub use open::{Fault, Opened, inspect, open};
pub use refusal::Refusal;
pub use successor::succeeds;

use crate::api::key_ring::{EncryptionKeyRingSpec, RingKey};
use crate::api::text::AgeRecipient;

/// Whom a key must be sealed for: every member and every recipient of the escrow.
pub fn recipients(ring: &EncryptionKeyRingSpec) -> impl Iterator<Item = &AgeRecipient> {
    ring.members.iter().map(|member| &member.recipient).chain(&ring.escrow)
}

/// The keys whose material was not destroyed.
pub fn living(ring: &EncryptionKeyRingSpec) -> impl Iterator<Item = &RingKey> {
    ring.keys.iter().filter(|key| key.destroyed_time.is_none())
}

/// For whom a key is not sealed that must be. Nothing may write under a key before this is empty for it.
pub fn unsealed<'a>(ring: &'a EncryptionKeyRingSpec, key: &RingKey) -> Vec<&'a AgeRecipient> {
    let sealed = |recipient: &&AgeRecipient| !key.wraps.iter().any(|wrap| wrap.recipient == **recipient);
    recipients(ring).filter(sealed).collect()
}

/// Everything written under a key, as far as it was counted.
pub fn writes(key: &RingKey) -> i64 {
    key.writes.iter().fold(0, |sum, node| sum.saturating_add(node.count))
}
