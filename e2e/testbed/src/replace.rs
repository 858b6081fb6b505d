use std::fs::{self, File};
use std::path::Path;

use crate::Error;
use crate::certificates::write;

/// Writes a file beside `path`, syncs it and renames it into place: a reader sees the old content or the
/// new, never a part.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    let beside = path.with_extension("new");
    write(&beside, content)?;
    File::open(&beside)
        .and_then(|file| file.sync_all())
        .map_err(Error::file(&beside))?;
    fs::rename(&beside, path).map_err(Error::file(path))
}
