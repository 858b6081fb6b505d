//! What keeps a rotation from going on: the object, the cause and the next command.

use std::fmt;
use std::time::Duration;

use super::observation::Under;
use super::persistence;
use crate::api::names::CONTROL_PLANE_LABEL;
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
    /// An API server that runs with a configuration in another place than the agent's directory: what it lacks.
    ConfiguredElsewhere(String, Vec<String>),
    /// Nobody can read the flags of an API server that does not say what it loaded.
    FlagsUnseen(String),
    /// An API server of a Kubernetes that does not say what it loaded: node, and its version.
    TooOld(String, (u32, u32)),
    /// The agent has not written the file that was ordered.
    NotWritten(String),
    /// The agent has not said that it read the order of this number.
    OrderUnread(String, u64),
    /// A file that somebody else wrote: node, and the hash of the file.
    ForeignConfig(String, String),
    /// A file of ours with a key that the ring does not hold: it cannot be given to anybody else.
    KeyLost(String, Under),
    /// A file of ours with a key that was destroyed on purpose: of a node that was away meanwhile.
    KeyDestroyed(String, Under),
    /// A KMS v2 plugin encrypts.
    KmsObserved(String),
    /// The next upgrade by kubeadm would drop the flags: what its configuration lacks, line by line.
    FlagsNotPersistent(Vec<String>),
    /// A resource whose old values nobody would rewrite.
    NotSwept(String),
    /// No offline recipient, and nobody waived it.
    EscrowMissing,
    /// A node that may not hold keys.
    NotMember(String),
    /// A key that is not sealed for somebody who must have it.
    NotSealed(KeyName, String),
    /// A key that is not on the disk of a node.
    NotOnDisk(KeyName, String),
    /// An API server that gives requests more than the default time: node, and how long.
    SlowRequests(String, Duration),
    /// Objects that the sweep could not rewrite.
    SweepBlocked(Vec<String>),
    /// Values that cannot be read: resource, key, number.
    Unreadable(String, Under, u64),
    /// Values that the proof found under something else: resource, key, number.
    Left(String, Under, u64),
    /// The proof does not cover a resource.
    NotProven(String),
    /// The proof found no value of a resource at all.
    NothingStored(String),
    /// What a decision needs could not be read: the request, and the answer.
    NotRead(String),
    /// etcd does not compact this revision.
    CompactionStalled(u64),
    /// What an agent says is wrong: node, and its words.
    AgentHeld(String, String),
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
            Self::FlagsUnseen(_) => "FlagsUnseen",
            Self::TooOld(..) => "KubernetesTooOld",
            Self::NotWritten(_) => "NotWritten",
            Self::OrderUnread(..) => "OrderUnread",
            Self::ForeignConfig(..) | Self::ConfiguredElsewhere(..) => "ForeignConfig",
            Self::KeyLost(..) => "KeyLost",
            Self::KeyDestroyed(..) => "KeyDestroyed",
            Self::KmsObserved(_) => "KmsObserved",
            Self::FlagsNotPersistent(_) => "FlagsNotPersistent",
            Self::NotSwept(_) => "ResourceNotSwept",
            Self::EscrowMissing => "EscrowMissing",
            Self::NotMember(_) => "NotMember",
            Self::NotSealed(..) => "NotSealed",
            Self::NotOnDisk(..) => "NotOnDisk",
            Self::SlowRequests(..) => "SlowRequests",
            Self::SweepBlocked(_) => "SweepBlocked",
            Self::Unreadable(..) => "DecryptFailed",
            Self::Left(_, Under::Identity, _) => "PlaintextFound",
            Self::Left(..) => "ValuesLeft",
            Self::NotProven(_) | Self::NothingStored(_) => "NotProven",
            Self::NotRead(_) => "NotRead",
            Self::CompactionStalled(_) => "CompactionStalled",
            Self::AgentHeld(..) => "AgentHeld",
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
            Self::FlagsNotPersistent(lines) => persistence::command(lines),
            Self::NotSwept(_) => {
                "kubectl patch secretencryption default --type=merge -p '{\"spec\":{\"resources\":[\"secrets\"]}}'"
                    .to_owned()
            }
            Self::NotMember(node) => format!("cloison ring approve {node}"),
            Self::FlagsMissing(node, flags) => format!("on {node}, add {}", flags.join(" ")),
            Self::ConfiguredElsewhere(node, flags) => format!(
                "on {node}, first copy the present file to the new place, with mode 0600, or nothing that it encrypts can be \
                 read; then add {}",
                flags.join(" ")
            ),
            Self::SweepBlocked(_) | Self::Unreadable(..) | Self::Left(..) => "cloison encryption verify".to_owned(),
            Self::UnknownReplica(_) | Self::Unaccounted(_) | Self::IdentityShared | Self::NotLoaded(..) => {
                "cloison encryption status".to_owned()
            }
            Self::SlowRequests(node, _) => format!("on {node}, set --request-timeout to 1m, which is the default"),
            Self::FlagsUnseen(_) => {
                "helm upgrade with agent.manifest set to where the static pod of the API server is".to_owned()
            }
            Self::TooOld(..) => "upgrade Kubernetes to 1.34 or newer; until then, set spec.mode: Observe".to_owned(),
            Self::NotWritten(node)
            | Self::OrderUnread(node, _)
            | Self::NotOnDisk(_, node)
            | Self::AgentHeld(node, _) => {
                format!("kubectl describe controlplanereport {node}")
            }
            Self::NotSealed(..) => "kubectl describe controlplanereports".to_owned(),
            Self::NoNodes => format!("kubectl label node NODE {CONTROL_PLANE_LABEL}= for each node that runs an API server"),
            Self::CompactionStalled(revision) => format!("etcdctl compaction {revision}"),
            Self::NotProven(_) => {
                "helm upgrade with agent.etcd.url set, so that the agents read etcd; cloison encryption status shows what \
                 each reads"
                    .to_owned()
            }
            Self::NothingStored(_) => {
                "kubectl describe controlplanereports; helm upgrade with agent.etcd.url and agent.etcd.prefix as the API \
                 servers' --etcd-servers and --etcd-prefix have them"
                    .to_owned()
            }
            Self::NotRead(_) => "helm upgrade with agent.enabled=true".to_owned(),
            Self::KeyLost(node, under) => format!(
                "on {node}, first copy the file to a safe place: it may be the only one that has {under}; then bring back the \
                 newest EncryptionKeyRing, from ring.json beside it or from a backup"
            ),
            Self::KeyDestroyed(node, _) => {
                format!("on {node}, move encryption.json out of the agent's directory; its agent writes the present one")
            }
            // It is what somebody wanted.
            Self::KmsObserved(_) => return None,
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
            Self::ConfiguredElsewhere(node, _) => write!(
                formatter,
                "Node/{node}: its API server runs with an EncryptionConfiguration outside the agent's directory, whose keys the ring does not hold"
            ),
            Self::NotLoaded(node, None) => write!(
                formatter,
                "Node/{node}: its API server has loaded neither the file on its disk nor one that is known; it may do so within a minute (before Kubernetes 1.34 it never says)"
            ),
            Self::FlagsUnseen(node) => write!(
                formatter,
                "Node/{node}: its API server does not say which EncryptionConfiguration it runs with, and its agent finds neither its static pod nor its process to read the flags of"
            ),
            Self::TooOld(node, (major, minor)) => write!(
                formatter,
                "Node/{node}: its API server is Kubernetes {major}.{minor}; before 1.34 none says which EncryptionConfiguration it loaded, so that keys cannot be managed"
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
            Self::KeyDestroyed(node, under) => write!(
                formatter,
                "Node/{node}: its file is from before {under} was destroyed, and has it; it is left alone"
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
            Self::FlagsNotPersistent(_) => formatter.write_str(
                "ConfigMap kube-system/kubeadm-config: the next upgrade by kubeadm would drop the encryption flags, and API servers without them serve nothing that is encrypted; no first key is made until it keeps them",
            ),
            Self::NotSwept(resource) => write!(
                formatter,
                "SecretEncryption/default: spec.resources names {resource}, and Secrets alone are rewritten: its values from before would never come under a key; nothing is changed until it is taken out"
            ),
            Self::NotMember(node) => write!(formatter, "Node/{node}: it is not approved to hold keys"),
            Self::NotSealed(key, who) => write!(formatter, "EncryptionKeyRing/default: {key} is not sealed for {who} yet"),
            Self::NotOnDisk(key, node) => write!(formatter, "Node/{node}: {key} is not in its sealed copy yet"),
            Self::SlowRequests(node, longest) => write!(
                formatter,
                "Node/{node}: by its --request-timeout one that began under the old key may go on for {} s, and the rewrite begins after it",
                longest.as_secs()
            ),
            Self::SweepBlocked(objects) => formatter.write_str(&in_short(objects)),
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
            Self::CompactionStalled(revision) => write!(
                formatter,
                "etcd: revision {revision} is not compacted for longer than API servers take; is their --etcd-compaction-interval 0?"
            ),
            Self::AgentHeld(node, error) => write!(formatter, "Node/{node}: its agent says: {error}"),
            Self::NothingStored(resource) => write!(
                formatter,
                "the reading of etcd shows no value of {resource} at all, and the canary's Secret should be among them: it may be another etcd, or another prefix"
            ),
            Self::NotRead(why) => write!(formatter, "{why}; the controller has the rights for it where agents are installed: the chart's agent.enabled"),
        }
    }
}

/// The first, and how many more there are.
fn in_short(objects: &[String]) -> String {
    match objects {
        [] => String::new(),
        [first] => first.clone(),
        [first, more @ ..] => format!("{first}; and {} more", more.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test fails by panicking

    use super::*;

    /// One of each, with the object that it is about.
    fn all() -> Vec<(Blocked, &'static str)> {
        let (node, under) = (|| "cp-1".to_owned(), || Under::named("k3").unwrap());
        let key = || KeyName::parse("k3").unwrap();
        let secrets = || "secrets".to_owned();
        vec![
            (Blocked::Suspended, "SecretEncryption/default"),
            (Blocked::NoNodes, "Node"),
            (Blocked::NodeUnreachable(node()), "Node/cp-1"),
            (
                Blocked::UnknownReplica("apiserver-x".to_owned()),
                "API server apiserver-x",
            ),
            (Blocked::IdentityShared, "control-plane nodes"),
            (
                Blocked::Unaccounted("no answer from 10.0.0.1:6443".to_owned()),
                "10.0.0.1:6443",
            ),
            (Blocked::FlagsMissing(node(), vec!["--a=b".to_owned()]), "Node/cp-1"),
            (Blocked::NotLoaded(node(), Some("C(k1;k1)".to_owned())), "Node/cp-1"),
            (Blocked::NotLoaded(node(), None), "Node/cp-1"),
            (
                Blocked::ConfiguredElsewhere(node(), vec!["--flag=new in the place of old".to_owned()]),
                "Node/cp-1",
            ),
            (Blocked::FlagsUnseen(node()), "Node/cp-1"),
            (Blocked::TooOld(node(), (1, 33)), "Node/cp-1"),
            (Blocked::NotWritten(node()), "Node/cp-1"),
            (Blocked::OrderUnread(node(), 7), "Node/cp-1"),
            (Blocked::ForeignConfig(node(), "sha256:00".to_owned()), "Node/cp-1"),
            (Blocked::KeyLost(node(), under()), "Node/cp-1"),
            (Blocked::KeyDestroyed(node(), under()), "Node/cp-1"),
            (Blocked::EscrowMissing, "SecretEncryption/default"),
            (Blocked::NotMember(node()), "Node/cp-1"),
            (
                Blocked::NotSealed(key(), "age1x".to_owned()),
                "EncryptionKeyRing/default",
            ),
            (Blocked::NotOnDisk(key(), node()), "Node/cp-1"),
            (Blocked::SlowRequests(node(), Duration::from_secs(86_400)), "Node/cp-1"),
            (Blocked::SweepBlocked(vec!["Secret a/b: x".to_owned()]), "Secret a/b"),
            (Blocked::Unreadable(secrets(), under(), 2), "secrets"),
            (Blocked::Left(secrets(), under(), 2), "secrets"),
            (Blocked::Left(secrets(), Under::Identity, 2), "secrets"),
            (Blocked::NotProven(secrets()), "secrets"),
            (Blocked::NothingStored(secrets()), "secrets"),
            (
                Blocked::NotRead("list control-plane Nodes: forbidden".to_owned()),
                "list control-plane Nodes",
            ),
            (Blocked::CompactionStalled(7), "etcd: revision 7"),
            (Blocked::AgentHeld(node(), "disk full".to_owned()), "Node/cp-1"),
        ]
    }

    #[test]
    fn everything_that_is_in_the_way_names_its_object_and_the_next_command() {
        for (blocked, object) in all() {
            assert!(blocked.to_string().contains(object), "{blocked}");
            assert!(blocked.reason().starts_with(char::is_uppercase), "{blocked}");
            let next = blocked.next_command().unwrap_or_else(|| panic!("{blocked}"));
            assert!(!next.contains('\n') && !next.is_empty(), "{next}");
        }
    }
}
