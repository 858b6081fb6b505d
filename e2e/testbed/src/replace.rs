use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;
use crate::certificates::write;

/// Writes a file beside `path`, syncs it and renames it into place: a reader sees the old content or the
/// new, never a part, and two writers do not meet.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{number}.new", std::process::id()));
    write(&beside, content)?;
    File::open(&beside)
        .and_then(|file| file.sync_all())
        .map_err(Error::file(&beside))?;
    fs::rename(&beside, path).map_err(Error::file(path))
}
