//! `cloison check` on manifests, as a pipeline runs it before the merge.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::needless_pass_by_value, reason = "tests read better so")]

#[path = "../common/check.rs"]
mod check;
#[path = "../common/command.rs"]
mod command;
#[path = "../common/admission/parts.rs"]
mod common;
#[path = "../common/dice.rs"]
mod dice;
mod environment;
mod fix;
mod formats;
mod input;
mod paths;
mod pods;
#[path = "../common/random_pods.rs"]
mod random_pods;
mod secrets;
mod settings;
