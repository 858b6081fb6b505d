//! The pods, namespaces and policies that a question about connections is asked of: of manifests, or of a cluster.

mod live;
mod manifests;
mod pods;

pub(super) use self::manifests::{makes_pods, pods_of, templates};
pub(super) use self::pods::running;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::manifests::Document;
use super::{CliError, Connection, out};
use crate::network::cluster_policy::KIND;
use crate::network::reach::UnmodelledPolicy;
use crate::network::reach::concrete::{Blocks, Connectivity, Pod, Snapshot, Unreadable};
use crate::network::reach::settle::Unsettled;
use crate::network::world::World;

/// Where to look.
#[derive(Debug, Args)]
pub struct Input {
    /// Manifests: files, folders with everything below them, `-` for standard input. Otherwise the cluster is asked.
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    files: Vec<PathBuf>,
    /// The namespace of objects in the manifests that name none.
    #[arg(short, long, requires = "files")]
    namespace: Option<String>,
    /// Whether an ipBlock matches pods, as in Calico, or only addresses outside the cluster, as in Cilium.
    #[arg(long, value_enum, default_value = "external", value_name = "MEANING")]
    ip_block: Meaning,
    #[command(flatten)]
    connection: Connection,
}

/// What an `ipBlock` means for pods: Kubernetes leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Meaning {
    /// Addresses outside the cluster only: what every plugin allows.
    External,
    /// Pods too: what some plugin may allow.
    Pods,
}

impl Input {
    /// The chosen meaning.
    pub(super) const fn blocks(&self) -> Blocks {
        match self.ip_block {
            Meaning::External => Blocks::External,
            Meaning::Pods => Blocks::Pods,
        }
    }

    /// Reads it all. What was assumed and what cannot be seen is told on standard error; what cannot be read is an
    /// error: a policy or a pod that is left out would make the answer a false one.
    pub(super) async fn read(&self) -> Result<Seen, CliError> {
        let seen = if self.files.is_empty() {
            live::read(self).await?
        } else {
            manifests::read(self)?.0
        };
        tell(&seen.notes);
        Ok(seen)
    }

    /// As [`Self::read`], with everything that a verdict on the stages depends on.
    pub(super) async fn survey(&self) -> Result<(Seen, Around), CliError> {
        let (mut seen, around) = if self.files.is_empty() {
            live::survey(self).await?
        } else {
            manifests::read(self)?
        };
        seen.notes.extend(around.assumed.iter().cloned());
        tell(&seen.notes);
        Ok((seen, around))
    }
}

fn tell(notes: &[String]) {
    for note in notes {
        eprintln!("note: {}", out::clean(note));
    }
}

/// What stands around the pods.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Stages, workloads, the policy.
    pub world: World,
    /// The NetworkPolicies to judge: those there are, and for manifests also those that the operator would write.
    pub policies: Vec<NetworkPolicy>,
    /// Policies of kinds that the analysis does not model.
    pub unmodelled: Vec<UnmodelledPolicy>,
    /// What was assumed of it.
    pub assumed: Vec<String>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Everything a verdict depends on.
    pub snapshot: Snapshot,
    /// The pods that can be asked for, by namespace and name: pods by their own name, others by that of their owner.
    pub named: BTreeMap<(String, String), Vec<Pod>>,
    /// The documents of policies, where they come from files: by namespace and name, those of the whole cluster by kind
    /// and name under the empty namespace.
    pub documents: BTreeMap<(String, String), Document>,
    /// What was assumed, and what cannot be seen.
    pub notes: Vec<String>,
}

impl Seen {
    fn add(&mut self, name: &str, pod: Pod) {
        let key = (pod.namespace.clone(), name.to_owned());
        self.named.entry(key).or_default().push(pod.clone());
        self.snapshot.pods.push(pod);
    }

    /// Names what the answer says nothing about.
    fn note_what_is_not_seen(&mut self) {
        let host: Vec<String> = self
            .snapshot
            .pods
            .iter()
            .filter(|pod| pod.host_network)
            .map(name_of)
            .collect();
        if !host.is_empty() {
            self.notes.push(format!(
                "on the network of their node, which no NetworkPolicy isolates: {}",
                host.join(", ")
            ));
        }
        let known = &self.snapshot.namespaces;
        let mut missing: Vec<&str> = self
            .snapshot
            .pods
            .iter()
            .map(|pod| pod.namespace.as_str())
            .filter(|namespace| !known.contains_key(*namespace))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            self.notes.push(format!(
                "not in the input, so taken to have no label but their name: namespaces {}",
                missing.join(", ")
            ));
        }
    }

    /// The file and line of a field of a policy, or the field alone where it comes from a cluster.
    pub(super) fn place(&self, policy: &str, field: &str) -> String {
        let (namespace, name) = policy.split_once('/').unwrap_or(("", policy));
        match self.documents.get(&(namespace.to_owned(), name.to_owned())) {
            Some(document) => format!("{policy} {}", document.locate(&format!("spec.{field}"))),
            None => format!("{policy} spec.{field}"),
        }
    }

    /// Tells of connections of which nobody knows whether they are allowed.
    pub(super) fn note_unsettled(read: &Connectivity<'_>) {
        for (cause, Unsettled { pairs, example }) in read.unsettled() {
            let (from, to, ports) = example;
            eprintln!(
                "note: Unknown: {from} -> {to} on {ports}{} depends on {cause}",
                if pairs > 1 {
                    format!(", and {} more,", pairs - 1)
                } else {
                    String::new()
                }
            );
        }
    }

    /// Every policy that cannot be read, each with its place.
    pub(super) fn refuse(&self, unreadable: &[Unreadable]) -> CliError {
        let lines = unreadable.iter().map(|policy| {
            let key = match policy.kind() {
                KIND => (String::new(), format!("{KIND} {}", policy.name)),
                _ => (policy.namespace.clone(), policy.name.clone()),
            };
            match self.documents.get(&key) {
                Some(document) => format!("{}: {policy}", document.locate("")),
                None => policy.to_string(),
            }
        });
        CliError::Usage(lines.collect::<Vec<_>>().join("\n"))
    }
}

fn name_of(pod: &Pod) -> String {
    format!("{}/{}[{}]", pod.namespace, pod.owner.1, pod.owner.0)
}
