//! `cloison waiver`: asks for a Waiver, approves one, lists them.

mod approve;
mod list;
mod request;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{CliError, Connection};
use crate::admission::effect;
use crate::api::Waiver;
use crate::compliance::waiver::Effect;

/// Flags of `waiver`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Ask for a Waiver in your own name, or print it for Git (-o yaml). Another person has to approve it.
    Request(Box<request::Arguments>),
    /// Approve, in your own name, what somebody else asked for.
    Approve(approve::Arguments),
    /// List what was asked for, with who approved it and until when it holds.
    List(list::Arguments),
}

/// What a Waiver names and does not open, in a line of its own; empty where it opens all of it.
fn unheard(waiver: &Waiver) -> String {
    let (what, why) = match effect(waiver) {
        Effect::Whole => return String::new(),
        Effect::Part(why) => ("not all that it names", why),
        Effect::Nothing(_, why) => ("nothing", why),
    };
    format!("\nnote: it opens {what}: {why}")
}

/// Runs one verb.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CliError> {
    match arguments.verb {
        Verb::Request(request) => request::run(&arguments.connection, &request).await,
        Verb::Approve(approve) => approve::run(&arguments.connection, approve).await,
        Verb::List(list) => list::run(&arguments.connection, list).await,
    }
}
