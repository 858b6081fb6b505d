//! `cloison crds`: prints the CustomResourceDefinitions.

use std::process::ExitCode;

use super::{CliError, out};
use crate::api::definitions::definitions;

/// Prints them as YAML documents.
pub fn run() -> Result<ExitCode, CliError> {
    let documents: Result<Vec<String>, CliError> = definitions().iter().map(out::document).collect();
    out::print(&documents?.concat())?;
    Ok(ExitCode::SUCCESS)
}
