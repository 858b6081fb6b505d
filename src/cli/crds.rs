//! `cloison crds`: prints the CustomResourceDefinitions.

use std::io::Write;
use std::process::ExitCode;

use super::CliError;
use crate::api::definitions::definitions;

/// Prints them as YAML documents.
pub fn run() -> Result<ExitCode, CliError> {
    let mut out = std::io::stdout().lock();
    for definition in definitions() {
        let text = serde_saphyr::to_string(&definition).map_err(std::io::Error::other)?;
        write!(out, "---\n{text}")?;
    }
    Ok(ExitCode::SUCCESS)
}
