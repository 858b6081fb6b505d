//! The agents on real control planes: two API servers, an agent each with a token that is bound to a pod on its node, the
//! policies in force. Orders are given as the controller gives them; etcd and the files are the judges.
#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines)] // a test fails by panicking
#![allow(clippy::default_trait_access)]

#[path = "../common/agents.rs"]
mod agents;
#[path = "../common/admission.rs"]
mod common;
mod conflict;
mod foreign;
mod orders;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use agents::Node;
use cloison::agent::node::{FILE, IDENTITY, LAST_GOOD, RING};
use cloison::agent::sealing::new_identity;
use cloison::api::names;
use cloison::api::text::AgeRecipient;
use cloison::encryption::config::hash;
use cloison::encryption::ring::{Identity, identities, open};
use cloison_testbed::eventually;
use common::*;
use kube::Client;
use kube::api::DynamicObject;
use serde_json::{Value, json};

const CLOISON: &str = "cloison.dev/v1alpha1";
/// An API server reads its file each minute.
const RELOADED: Duration = Duration::from_secs(150);
/// An agent says the same again after 25 s, and looks into etcd every 20 s while keys change.
const DONE: Duration = Duration::from_secs(90);
