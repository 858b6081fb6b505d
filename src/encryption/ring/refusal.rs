//! Why the ring stays as it is.

use super::Fault;
use crate::api::key_ring::MAX_KEYS;

/// One line each: what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A key does not open.
    #[error("key {name} {fault}")]
    Closed {
        /// Its name.
        name: String,
        /// Why.
        fault: Fault,
    },
    /// Somebody else minted meanwhile.
    #[error("the newest key is {newest} and not {after}; read the ring again")]
    Overtaken {
        /// The number the order was given after.
        after: i64,
        /// The ring's newest.
        newest: i64,
    },
    /// There is nobody who could open it.
    #[error("the ring has no member; the agent of a control-plane node has to join first")]
    NoMember,
    /// Nobody could open it when all nodes are lost.
    #[error(
        "there is no escrow recipient; name one in SecretEncryption spec.escrow.recipients (age-keygen makes it), or set \
         spec.escrow.requirement to Waived"
    )]
    EscrowMissing,
    /// The ring does not follow `spec.escrow` yet.
    #[error(
        "the ring's escrow recipients are not those of SecretEncryption spec.escrow.recipients yet; seal for them first"
    )]
    EscrowDiffers,
    /// Two names of one thing.
    #[error("{recipient} is the identity of node {node}; an escrow identity is kept offline and is on no node")]
    EscrowOnNode {
        /// The recipient.
        recipient: String,
        /// The node.
        node: String,
    },
    /// No room.
    #[error(
        "the ring is full ({MAX_KEYS} keys); set SecretEncryption spec.retiredKeys to DeleteAfterDays, or rotate less often"
    )]
    Full,
    /// The object would become too large.
    #[error(
        "the ring would have {0} bytes, more than etcd takes in one object; destroy retired keys, or remove recipients"
    )]
    TooLarge(usize),
    /// The random numbers are not random.
    #[error(
        "the new key is the same as {0}: the node's random numbers repeat; restart it, and look at its clock and seed"
    )]
    MaterialReused(String),
    /// A name has one key for ever.
    #[error("the name {0} belongs to another key already; its values could not be told apart")]
    NameReused(String),
    /// A name that stands in stored values and cannot.
    #[error(
        "the key name {0:?} cannot be taken in: it is empty, has a colon or white space, or is longer than 253 characters"
    )]
    BadName(String),
    /// Sealing failed.
    #[error("key {name} cannot be sealed for {recipient}: {why}")]
    NotSealed {
        /// The key's name.
        name: String,
        /// For whom.
        recipient: String,
        /// What the sealing said.
        why: String,
    },
    /// The key is needed for somebody else and is not open.
    #[error("key {0} is not open here; only a member that opens every key can seal for others")]
    NotHeld(String),
    /// Keys are there already.
    #[error("node {0} is new and the ring has keys; a person lets it in: kubectl cloison ring approve {0}")]
    NotApproved(String),
    /// The node came back with another identity.
    #[error("node {0} is a member with another identity; remove it first, then approve the new one")]
    IdentityChanged(String),
    /// One identity, two nodes: a disk that was copied.
    #[error(
        "node {node} has the identity of node {other}; delete the copied identity file on {node} and restart its agent"
    )]
    IdentityCopied {
        /// The node.
        node: String,
        /// The node that had it first.
        other: String,
    },
    /// Nobody would be left.
    #[error("node {0} is the last member; the keys would be in escrow alone")]
    LastMember(String),
    /// Too many.
    #[error("the ring has 16 members already; remove one that is gone")]
    TooManyMembers,
    /// Too many.
    #[error("key {0} was written by 32 nodes already, and the writes of one more cannot be counted; rotate it")]
    TooManyWriters(String),
    /// There is no such key.
    #[error("there is no key {0} in the ring")]
    NoSuchKey(i64),
    /// Destroyed before retired.
    #[error("key {0} is not retired; values may still be under it")]
    NotRetired(String),
    /// Destroyed on an order alone.
    #[error("key {name} is not destroyed, though the order says so: {why}")]
    Spared {
        /// Its name.
        name: String,
        /// What speaks against it.
        why: String,
    },
    /// The other ring is older, or another one.
    #[error("{0}; somebody wrote back an older ring, or another cluster's: restore the newest copy")]
    NotSuccessor(String),
}
