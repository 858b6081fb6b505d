//! What keeps a rotation from going on: the object, the cause and the next command.

use std::fmt;

use super::observation::Under;
use crate::encryption::config::{KeyName, adopt_command};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// `suspend: true`.
    Suspended,
    /// There is no control-plane Node.
    NoNodes,
    /// The agent of a node, or its API server, is silent.
    NodeUnreachable(String),
    /// An API server that no agent reports: its Lease, or its identity.
    UnknownReplica(String),
    /// Two nodes report one identity.
    IdentityShared,
    /// What the controller's own barrier says.
    Unaccounted(String),
    /// An API server runs without the flags.
    FlagsMissing(String, Vec<String>),
    /// The API server has not loaded the file that is there, or does not say what it loaded: node, and what it runs with.
    NotLoaded(String, Option<String>),
    /// The agent has not written the file that was ordered.
    NotWritten(String),
    /// The agent has not said that it read the order of this number.
    OrderUnread(String, u64),
    /// A file that somebody else wrote: node, and the hash of the file.
    ForeignConfig(String, String),
    /// A file of ours with a key that the ring does not hold: it cannot be given to anybody else.
    KeyLost(String, Under),
    /// A KMS v2 plugin encrypts.
    KmsObserved(String),
    /// No offline recipient, and nobody waived it.
    EscrowMissing,
    /// A node that may not hold keys.
    NotMember(String),
    /// A key that is not sealed for somebody who must have it.
    NotSealed(KeyName, String),
    /// A key that is not on the disk of a node.
    NotOnDisk(KeyName, String),
    /// Objects that the sweep could not rewrite.
    SweepBlocked(Vec<String>),
    /// Values that cannot be read: resource, key, number.
    Unreadable(String, Under, u64),
    /// Values that the proof found under something else: resource, key, number.
    Left(String, Under, u64),
    /// The proof does not cover a resource.
    NotProven(String),
    /// What a decision needs could not be read: the request, and the answer.
    NotRead(String),
}

impl Blocked {
    /// The reason for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Suspended => "Suspended",
            Self::NoNodes => "NoControlPlaneNodes",
            Self::NodeUnreachable(_) => "NodeUnreachable",
            Self::UnknownReplica(_) => "UnknownReplica",
            Self::IdentityShared => "IdentityShared",
            Self::Unaccounted(_) => "ReplicaUnseen",
            Self::FlagsMissing(..) => "FlagsMissing",
            Self::NotLoaded(..) => "NotLoaded",
            Self::NotWritten(_) => "NotWritten",
            Self::OrderUnread(..) => "OrderUnread",
            Self::ForeignConfig(..) => "ForeignConfig",
            Self::KeyLost(..) => "KeyLost",
            Self::KmsObserved(_) => "KmsObserved",
            Self::EscrowMissing => "EscrowMissing",
            Self::NotMember(_) => "NotMember",
            Self::NotSealed(..) => "NotSealed",
            Self::NotOnDisk(..) => "NotOnDisk",
            Self::SweepBlocked(_) => "SweepBlocked",
            Self::Unreadable(..) => "DecryptFailed",
            Self::Left(_, Under::Identity, _) => "PlaintextFound",
            Self::Left(..) => "ValuesLeft",
            Self::NotProven(_) => "NotProven",
            Self::NotRead(_) => "NotRead",
        }
    }

    /// What a person can do about it.
    pub fn next_command(&self) -> Option<String> {
        Some(match self {
            Self::Suspended => {
                "kubectl patch secretencryption default --type=merge -p '{\"spec\":{\"suspend\":false}}'".to_owned()
            }
            Self::NodeUnreachable(node) => {
                format!("kubectl get node {node}; if it is gone for good: kubectl delete node {node}")
            }
            Self::ForeignConfig(_, hash) => adopt_command(hash),
            Self::EscrowMissing => {
                "kubectl edit secretencryption default: put an age recipient into spec.escrow.recipients".to_owned()
            }
            Self::NotMember(node) => format!("cloison ring approve {node}"),
            Self::FlagsMissing(node, flags) => format!("on {node}, add {}", flags.join(" ")),
            Self::SweepBlocked(_) | Self::Unreadable(..) => "cloison encryption verify".to_owned(),
            Self::UnknownReplica(_) | Self::Unaccounted(_) | Self::IdentityShared | Self::NotLoaded(..) => {
                "cloison encryption status".to_owned()
            }
            Self::NotWritten(node) | Self::OrderUnread(node, _) => {
                format!("kubectl describe controlplanereport {node}")
            }
            Self::KeyLost(node, _) => format!("cloison encryption status; then take the old file away from {node}"),
            Self::Left(..)
            | Self::NoNodes
            | Self::KmsObserved(_)
            | Self::NotSealed(..)
            | Self::NotOnDisk(..)
            | Self::NotProven(_)
            | Self::NotRead(_) => {
                return None;
            }
        })
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended => formatter.write_str("SecretEncryption/default: spec.suspend is true"),
            Self::NoNodes => formatter.write_str("no Node carries the control-plane label, so there is nobody to hold keys"),
            Self::NodeUnreachable(node) => write!(
                formatter,
                "Node/{node}: its agent or its API server does not answer, and it may come back with an older file"
            ),
            Self::UnknownReplica(who) => write!(formatter, "API server {who}: no agent on a control-plane node reports it"),
            Self::IdentityShared => formatter.write_str("two control-plane nodes report one API server identity; give each its own host name"),
            Self::Unaccounted(why) => formatter.write_str(why),
            Self::FlagsMissing(node, flags) => {
                write!(formatter, "Node/{node}: its API server was started without {}", flags.join(" "))
            }
            Self::NotLoaded(node, Some(running)) => {
                write!(formatter, "Node/{node}: its API server runs with {running} and has not loaded its new file yet")
            }
            Self::NotLoaded(node, None) => write!(
                formatter,
                "Node/{node}: its API server has loaded neither the file on its disk nor one that is known; it may do so within a minute (before Kubernetes 1.34 it never says)"
            ),
            Self::NotWritten(node) => {
                write!(formatter, "Node/{node}: its agent has not written the file that was ordered yet")
            }
            Self::OrderUnread(node, number) => write!(
                formatter,
                "Node/{node}: its agent has not said yet that it read order {number}, and may have done an older one"
            ),
            Self::KeyLost(node, under) => write!(
                formatter,
                "Node/{node}: its file has {under}, which the key ring does not hold (any more); it is left alone, since nobody else can read what is under it"
            ),
            Self::ForeignConfig(node, _) => write!(
                formatter,
                "Node/{node}: the EncryptionConfiguration was written by somebody else and is left alone"
            ),
            Self::KmsObserved(node) => write!(
                formatter,
                "Node/{node}: a KMS v2 plugin encrypts; its key_id is followed and the file is left alone"
            ),
            Self::EscrowMissing => formatter.write_str(
                "SecretEncryption/default: no key is made without an offline recipient; name one, or set spec.escrow.requirement: Waived",
            ),
            Self::NotMember(node) => write!(formatter, "Node/{node}: it is not approved to hold keys"),
            Self::NotSealed(key, who) => write!(formatter, "EncryptionKeyRing/default: {key} is not sealed for {who} yet"),
            Self::NotOnDisk(key, node) => write!(formatter, "Node/{node}: {key} is not in its sealed copy yet"),
            Self::SweepBlocked(objects) => {
                let first = objects.first().map_or("", String::as_str);
                match objects.len() {
                    0 | 1 => write!(formatter, "{first}"),
                    more => write!(formatter, "{first}; and {} more", more - 1),
                }
            }
            Self::Unreadable(resource, under, count) => {
                write!(formatter, "{count} values of {resource} are under {under}, which no key of the ring fits")
            }
            Self::Left(resource, Under::Identity, count) => {
                write!(formatter, "{count} values of {resource} are stored in plaintext after a sweep; looking again")
            }
            Self::Left(resource, under, count) => {
                write!(formatter, "{count} values of {resource} are still under {under} after a sweep; looking again")
            }
            Self::NotProven(resource) => write!(formatter, "the reading of etcd does not cover {resource}"),
            Self::NotRead(why) => write!(formatter, "{why}; the controller has the rights for it where agents are installed: the chart's agent.enabled"),
        }
    }
}
