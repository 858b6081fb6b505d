//! `cloison ring`: what people do with the sealed keys. Keys are opened here and never printed.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use zeroize::Zeroizing;

use super::{CliError, Connection, FINDINGS, out};
use crate::agent::directory::Directory;
use crate::agent::node::FILE;
use crate::api::control_plane_report::ControlPlaneReport;
use crate::api::encryption::ResourceName;
use crate::api::key_ring::{Approval, EncryptionKeyRing, EncryptionKeyRingSpec};
use crate::api::names::SINGLETON;
use crate::api::text::{AgeRecipient, Contact, ObjectName};
use crate::cluster::client::whoami;
use crate::encryption::config::{hash, read, render};
use crate::encryption::ring::{Identity, identities, inspect, open, recover};

/// A snapshot is read in pieces of this size,
const PIECE: usize = 16 << 20;
/// which overlap by more than the largest object.
const OVERLAP: usize = 2 << 20;

/// Flags of `ring`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Let a new control-plane node hold the keys.
    Approve {
        /// The node.
        node: String,
        /// The identity that the agent shows in its log on that node: compared with its report.
        #[arg(long)]
        recipient: String,
    },
    /// Look after the offline escrow.
    Escrow {
        #[command(subcommand)]
        verb: EscrowVerb,
    },
    /// Write the EncryptionConfiguration anew from a sealed ring; needs no API server.
    Recover {
        /// The sealed copy of a node (ring.json), an EncryptionKeyRing in JSON, or an etcd snapshot.
        #[arg(long)]
        ring: PathBuf,
        /// An age identity file: of the escrow, or of a node.
        #[arg(long)]
        identity: PathBuf,
        /// Where encryption.json is written: a directory that is new, or of this user alone.
        #[arg(long)]
        directory: PathBuf,
        /// Resources that are encrypted: as in SecretEncryption spec.resources.
        #[arg(long, default_value = "secrets", value_delimiter = ',')]
        resources: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum EscrowVerb {
    /// Say whether an offline identity opens every key.
    Verify {
        /// The age identity file.
        #[arg(long)]
        identity: PathBuf,
        /// A ring in a file, as for `recover`; otherwise the cluster's.
        #[arg(long)]
        ring: Option<PathBuf>,
    },
}

/// Runs one verb.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    match arguments.verb {
        Verb::Approve { node, recipient } => approve(&arguments.connection, node, recipient).await,
        Verb::Escrow {
            verb: EscrowVerb::Verify { identity, ring },
        } => {
            let ring = match ring {
                Some(path) => from_file(&path)?,
                None => from_cluster(&arguments.connection).await?.spec,
            };
            verify(&ring, &from_identity_file(&identity)?)
        }
        Verb::Recover {
            ring,
            identity,
            directory,
            resources,
        } => write_recovered(
            &from_file(&ring)?,
            &from_identity_file(&identity)?,
            &directory,
            resources,
        ),
    }
}

async fn from_cluster(connection: &Connection) -> Result<EncryptionKeyRing, CliError> {
    let (client, _) = connection.client().await?;
    let rings: Api<EncryptionKeyRing> = Api::all(client);
    rings
        .get(SINGLETON)
        .await
        .map_err(CliError::api("get EncryptionKeyRing default"))
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> CliError {
    move |error| CliError::Usage(format!("{}: {error}", path.display()))
}

fn from_file(path: &Path) -> Result<EncryptionKeyRingSpec, CliError> {
    let mut file = File::open(path).map_err(unreadable(path))?;
    let (mut buffer, mut newest) = (Vec::new(), None::<(i64, EncryptionKeyRingSpec)>);
    loop {
        let before = buffer.len();
        let piece = (&mut file).take(PIECE as u64);
        { piece }.read_to_end(&mut buffer).map_err(unreadable(path))?;
        let read = buffer.len() - before;
        if let Some(ring) = (before == 0).then(|| recover::parse(&buffer)).flatten() {
            return Ok(ring);
        }
        let found = recover::find(&buffer);
        newest = found
            .into_iter()
            .chain(newest)
            .max_by_key(|(generation, _)| *generation);
        if read < PIECE {
            break;
        }
        buffer.drain(..buffer.len() - OVERLAP);
    }
    newest.map(|(_, ring)| ring).ok_or_else(|| {
        CliError::Usage(format!(
            "{}: no EncryptionKeyRing in it; give a node's ring.json, the object in JSON, or an etcd snapshot",
            path.display()
        ))
    })
}

fn from_identity_file(path: &Path) -> Result<Vec<Identity>, CliError> {
    let bytes = Zeroizing::new(fs::read(path).map_err(unreadable(path))?);
    let said = |why: &dyn std::fmt::Display| CliError::Usage(format!("{} {why}", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_| said(&"is no text; it needs AGE-SECRET-KEY-1…"))?;
    identities(text).map_err(|why| said(&why))
}

fn verify(ring: &EncryptionKeyRingSpec, identities: &[Identity]) -> Result<ExitCode, CliError> {
    let (mut lines, mut bad) = (Vec::new(), 0);
    for identity in identities {
        let recipient = identity.recipient();
        if !ring.escrow.contains(recipient) {
            lines.push(format!(
                "{recipient} is no escrow recipient of this ring; name it in SecretEncryption spec.escrow.recipients"
            ));
            bad += 1;
        }
        for (key, opened) in inspect(ring, identity) {
            match opened {
                Ok(_) => lines.push(format!("key {} opens", key.name)),
                Err(fault) => {
                    lines.push(format!("key {} {fault}", key.name));
                    bad += 1;
                }
            }
        }
    }
    if ring.keys.is_empty() {
        lines.push("the ring has no key yet".to_owned());
    }
    lines.push(String::new());
    let text = lines.join("\n");
    out::print(&text)?;
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn write_recovered(
    ring: &EncryptionKeyRingSpec,
    identities: &[Identity],
    directory: &Path,
    resources: Vec<String>,
) -> Result<ExitCode, CliError> {
    let usage = |why: String| CliError::Usage(why);
    let mut last = "the identity file is empty".to_owned();
    let opened = identities.iter().find_map(|identity| match open(ring, identity) {
        Ok(opened) => Some(opened),
        Err(why) => {
            last = why.to_string();
            None
        }
    });
    let opened = opened.ok_or(last).map_err(usage)?;
    let desired = recover::recovered(ring, &opened, resources.into_iter().map(ResourceName));
    let desired = desired.ok_or_else(|| usage("the ring has no key; nothing of it was ever encrypted".to_owned()))?;
    let text = render(&desired.map_err(|why| usage(why.to_string()))?);
    // As the API server reads it.
    read(text.as_bytes()).map_err(|fault| usage(fault.to_string()))?;
    let directory = Directory::take(directory).map_err(|why| usage(why.to_string()))?;
    let place = directory.path(FILE);
    if directory.read(FILE).map_err(|why| usage(why.to_string()))?.is_some() {
        return Err(usage(format!(
            "{}: is there already; move it away first",
            place.display()
        )));
    }
    directory
        .replace(FILE, text.as_bytes())
        .map_err(|why| usage(why.to_string()))?;
    out::print(&format!(
        "{} holds {} keys ({}). Put the same file before every API server, then start them:\n    \
         --encryption-provider-config={}\nIt also reads plaintext; the next rotation takes that away.\n",
        place.display(),
        opened.len(),
        hash(text.as_bytes()),
        place.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn approve(connection: &Connection, node: String, recipient: String) -> Result<ExitCode, CliError> {
    let mut ring = from_cluster(connection).await?;
    let (client, _) = connection.client().await?;
    let reports: Api<ControlPlaneReport> = Api::all(client.clone());
    let report = reports.get(&node).await;
    let report = report.map_err(CliError::api(format!("get ControlPlaneReport {node}")))?;
    let shown = report.spec.recipient.map(|shown| shown.0).unwrap_or_default();
    if shown != recipient {
        return Err(CliError::Usage(format!(
            "node {node} reports the identity {shown} and not {recipient}; compare with the log of the agent on that node"
        )));
    }
    let approval = Approval {
        node: ObjectName(node.clone()),
        recipient: AgeRecipient(recipient),
        by: Contact(whoami(&client).await?),
        time: Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()),
    };
    let status = ring.status.get_or_insert_default();
    status.approvals.retain(|other| *other.node != *node);
    status.approvals.push(approval);
    let rings: Api<EncryptionKeyRing> = Api::all(client);
    let stored = rings.replace_status(SINGLETON, &PostParams::default(), &ring).await;
    stored.map_err(CliError::api("approve in EncryptionKeyRing default"))?;
    out::print(&format!(
        "node {node} is approved; a node that holds the keys lets it in within seconds\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}
