use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::Error;

/// Folders of processes that were killed are kept this long, for their logs.
const KEPT: Duration = Duration::from_hours(24);

/// The folder of one control plane, `target/testbed/<pid>-<n>`.
///
/// Removed on drop, but kept when the thread panics, after [`WorkDir::keep`], and when
/// `CLOISON_TESTBED_KEEP` is set. What is kept after a failure are the logs: the databases go, at
/// 128 MB of preallocated write-ahead log each.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    keep: AtomicBool,
    /// Locked while this process lives; see [`sweep`].
    _lock: File,
}

impl WorkDir {
    pub(crate) fn create() -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = repository().join("target/testbed");
        fs::create_dir_all(&root).map_err(Error::file(&root))?;
        sweep(&root);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{}-{number}", std::process::id()));
        // A process of an earlier boot may have had the same id.
        let _ = fs::remove_dir_all(&path);
        for folder in [
            &path,
            &path.join("logs"),
            &path.join("certificates"),
            &path.join("kubeconfigs"),
        ] {
            fs::create_dir(folder).map_err(Error::file(folder))?;
        }
        let lock = lock_file(&path);
        let file = File::create(&lock).map_err(Error::file(&lock))?;
        file.lock().map_err(Error::file(&lock))?;
        Ok(Self {
            path,
            keep: AtomicBool::new(false),
            _lock: file,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.path.join("certificates")
    }

    pub(crate) fn kubeconfigs(&self) -> PathBuf {
        self.path.join("kubeconfigs")
    }

    /// The data folder of etcd, the only large thing in here.
    pub(crate) fn database(&self) -> PathBuf {
        database(&self.path)
    }

    /// Keeps the logs although the thread does not panic.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if keep_all() {
            return;
        }
        let logs_only = self.keep.load(Ordering::Relaxed) || std::thread::panicking();
        let _ = if logs_only {
            fs::remove_dir_all(self.database())
        } else {
            fs::remove_dir_all(&self.path)
        };
    }
}

/// The root of the checkout that this crate was compiled in.
pub(crate) fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .map_or_else(|| manifest.to_path_buf(), Path::to_path_buf)
}

fn database(work_dir: &Path) -> PathBuf {
    work_dir.join("etcd")
}

fn lock_file(work_dir: &Path) -> PathBuf {
    work_dir.join("lock")
}

fn keep_all() -> bool {
    std::env::var_os("CLOISON_TESTBED_KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Tidies up after processes that never dropped their plane: killed ones, and every test binary that
/// keeps its plane in a `static`. Their databases go at once, their logs after a day. Best effort.
fn sweep(root: &Path) {
    if keep_all() {
        return;
    }
    for folder in fs::read_dir(root).into_iter().flatten().flatten() {
        let folder = folder.path();
        // Without a lock file it is being made right now, and with a locked one it is in use.
        let Ok(lock) = File::open(lock_file(&folder)) else {
            continue;
        };
        if lock.try_lock().is_err() {
            continue;
        }
        let age = lock.metadata().and_then(|metadata| metadata.modified());
        let age = age.ok().and_then(|modified| modified.elapsed().ok());
        let _ = if age.is_some_and(|age| age > KEPT) {
            fs::remove_dir_all(&folder)
        } else {
            fs::remove_dir_all(database(&folder))
        };
    }
}
