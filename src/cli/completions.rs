//! `cloison completions SHELL`: prints the completion script of a shell.

use std::process::ExitCode;

use clap::Args;
use clap_complete::{Shell, generate};

use super::{CliError, out};

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut super::command(), "cloison", &mut script);
    out::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
