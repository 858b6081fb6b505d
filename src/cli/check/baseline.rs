//! The file of a baseline: read before anything is judged, written only when everything could be.

use std::path::Path;

use super::Found;
use crate::cli::manifests::Problem;
use crate::cli::{CliError, out};
use crate::compliance::baseline::Baseline;

/// How many of what is gone are named.
const NAMED: usize = 5;

/// Reads a file. One that cannot be read is never taken for an empty one.
pub(super) fn read(file: &Path) -> Result<Baseline, CliError> {
    let file_name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        CliError::Usage(format!(
            "the baseline {file_name}: {error}; `cloison check … --write-baseline {file_name}` writes one"
        ))
    })?;
    Baseline::read(&text).map_err(|error| CliError::Usage(format!("{file_name}:{}: {error}", error.line)))
}

/// Sets apart what was accepted, and says what of it is gone.
pub(super) fn apply(accepted: &Baseline, file: &Path, found: &mut Found) {
    let split = accepted.split(std::mem::take(&mut found.findings), &found.files);
    (found.findings, found.known) = (split.new, Some(split.known));
    if split.gone.is_empty() {
        return;
    }
    let named = split.gone.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = match split.gone.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let many = out::count(split.gone.len(), "finding");
    found.notes.push(format!(
        "the baseline {} holds {many} not found any more, to be deleted from it: {named}{more}",
        file.display()
    ));
}

/// Writes what was found, which from then on is accepted.
pub(super) fn write(file: &Path, found: &mut Found) -> Result<(), CliError> {
    let name = file.display();
    if !found.problems.is_empty() {
        // What could not be read would be a new finding, or hide one, as soon as it is mended.
        found.notes.push(format!(
            "the baseline {name} is not written: not everything could be read"
        ));
        return Ok(());
    }
    let accepted = Baseline::of(&found.findings, &found.files);
    let text = accepted.print().map_err(std::io::Error::other)?;
    std::fs::write(file, text).map_err(|error| CliError::Usage(format!("the baseline {name}: {error}")))?;
    apply(&accepted, file, found);
    let many = out::count(accepted.len(), "finding");
    found.notes.push(format!("{many} written to the baseline {name}"));
    Ok(())
}

/// A baseline may lie in a folder of manifests, and is none of them.
pub(super) fn is_no_manifest(file: &Path, problems: &mut Vec<Problem>) {
    let Ok(file) = file.canonicalize() else { return };
    problems.retain(|problem| {
        let at = problem.at.file.as_deref().map(Path::new);
        at.and_then(|at| at.canonicalize().ok()).is_none_or(|at| at != file)
    });
}
