//! The one directory that the agent owns on its node, and how a file in it takes the place of another: whoever is killed at
//! any moment leaves the old file or the new one, whole.
//!
//! The API server must mount the *directory*: a mounted file keeps its inode and never sees a rename.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Of the directory: for its owner alone.
const DIRECTORY_MODE: u32 = 0o700;
/// Of each file.
const FILE_MODE: u32 = 0o600;
/// What anybody else may do.
const OTHERS: u32 = 0o077;
/// No file of ours is larger: the API server takes no larger object either.
const MOST_BYTES: u64 = 3 << 20;

/// Why the directory cannot be used, or a file in it. Never its content.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Somebody else could read keys or put other ones there.
    #[error("{path}: {why}; {fix}", path = .path.display())]
    Unsafe {
        /// Which path.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do.
        fix: &'static str,
    },
    /// The system refused. What was there is there still.
    #[error("{what} {path}: {source}; nothing in use was changed", path = .path.display())]
    Io {
        /// `write`, `rename`, …
        what: &'static str,
        /// Which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { what, path, source }
}

/// A directory for its owner alone.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Takes it, and makes it if it is not there. Its parent must be.
    pub fn take(path: &Path) -> Result<Self, DirectoryError> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new()
                    .mode(DIRECTORY_MODE)
                    .create(path)
                    .map_err(io("create directory", path))?;
                sync(path.parent().unwrap_or(path))?;
                fs::symlink_metadata(path).map_err(io("look at", path))?
            }
            Err(error) => return Err(io("look at", path)(error)),
        };
        if !found.is_dir() {
            return Err(DirectoryError::Unsafe {
                path: path.to_owned(),
                why: "it is no directory, or a symbolic link to one".to_owned(),
                fix: "name the directory itself",
            });
        }
        let fix = "chmod 0700 and chown it to the agent's user";
        // A kubelet that makes it for a hostPath lets everybody read it. There is nothing in it yet.
        let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if private(path, &found, fix).is_err() && is_empty() {
            let tightened = fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE));
            tightened.map_err(io("change the mode of", path))?;
        }
        let found = fs::symlink_metadata(path).map_err(io("look at", path))?;
        private(path, &found, fix)?;
        // Who was killed after a rename left a file that is in its place, and may not be after a power cut.
        sync(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The bytes of a file; `None` where there is none.
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, DirectoryError> {
        let path = self.path(name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("look at", &path)(error)),
        };
        let unsafe_because = |why: &str, fix| DirectoryError::Unsafe {
            path: path.clone(),
            why: why.to_owned(),
            fix,
        };
        if !found.is_file() {
            return Err(unsafe_because("it is no regular file", "remove it"));
        }
        if found.len() > MOST_BYTES {
            return Err(unsafe_because(
                "it is larger than 3 MiB",
                "look what it is, and remove it",
            ));
        }
        private(&path, &found, "chmod 0600 and chown it to the agent's user")?;
        // Grown later, the buffer would leave keys behind where it was before.
        let length = usize::try_from(found.len()).unwrap_or_default();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
        let mut file = File::open(&path).map_err(io("open", &path))?;
        file.read_to_end(&mut bytes).map_err(io("read", &path))?;
        Ok(Some(bytes))
    }

    /// Puts a file in the place of the one of that name, durably.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DirectoryError> {
        let replacement = Replacement::new(self, name, bytes);
        let done = Step::ALL.into_iter().try_for_each(|step| replacement.take(step));
        if done.is_err() {
            // A full disk should not stay full because of us; whether that succeeds changes nothing.
            let _ = fs::remove_file(&replacement.temporary);
        }
        done
    }
}

/// Each is one call to the system, between any two of which the agent may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Removes what a dead one left.
    Clear,
    /// Writes the bytes beside the file.
    Write,
    /// Waits until they are on the disk.
    Sync,
    /// Gives them the file's name.
    Rename,
    /// Waits until the name is on the disk.
    SyncDirectory,
}

impl Step {
    /// In their order.
    pub const ALL: [Self; 5] = [Self::Clear, Self::Write, Self::Sync, Self::Rename, Self::SyncDirectory];
}

/// A file on its way to its place.
pub struct Replacement<'b> {
    directory: PathBuf,
    temporary: PathBuf,
    place: PathBuf,
    bytes: &'b [u8],
}

impl<'b> Replacement<'b> {
    /// Nothing is done yet.
    pub fn new(directory: &Directory, name: &str, bytes: &'b [u8]) -> Self {
        Self {
            directory: directory.path.clone(),
            temporary: directory.path(&format!(".{name}.new")),
            place: directory.path(name),
            bytes,
        }
    }

    /// Takes one step; all of them, in the order of [`Step::ALL`], replace the file.
    pub fn take(&self, step: Step) -> Result<(), DirectoryError> {
        let temporary = &self.temporary;
        match step {
            Step::Clear => match fs::remove_file(temporary) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", temporary)(error)),
                _ => Ok(()),
            },
            Step::Write => {
                let created = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(FILE_MODE)
                    .open(temporary);
                let mut file = created.map_err(io("create", temporary))?;
                file.write_all(self.bytes).map_err(io("write", temporary))
            }
            Step::Sync => {
                let file = File::open(temporary).map_err(io("open", temporary))?;
                file.sync_all().map_err(io("sync", temporary))
            }
            Step::Rename => fs::rename(temporary, &self.place).map_err(io("rename to", &self.place)),
            Step::SyncDirectory => sync(&self.directory),
        }
    }
}

fn sync(directory: &Path) -> Result<(), DirectoryError> {
    let opened = File::open(directory).map_err(io("open", directory))?;
    opened.sync_all().map_err(io("sync", directory))
}

/// Refuses what others own, or may read.
fn private(path: &Path, found: &Metadata, fix: &'static str) -> Result<(), DirectoryError> {
    let own = fs::metadata("/proc/self")
        .map_err(io("look at", Path::new("/proc/self")))?
        .uid();
    let why = if found.uid() != own {
        format!("it belongs to user {}, and the agent is user {own}", found.uid())
    } else if found.mode() & OTHERS != 0 {
        format!("its mode is {:04o}: others can reach the keys", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(DirectoryError::Unsafe {
        path: path.to_owned(),
        why,
        fix,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn taken() -> (tempfile::TempDir, Directory) {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::take(&parent.path().join("keys")).unwrap();
        (parent, directory)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directory_and_file_are_for_the_owner_alone() {
        let (_parent, directory) = taken();
        directory.replace("a.json", b"one").unwrap();
        directory.replace("a.json", b"two").unwrap();
        assert_eq!(mode(&directory.path), 0o700);
        assert_eq!(mode(&directory.path("a.json")), 0o600);
        assert_eq!(directory.read("a.json").unwrap().unwrap().as_slice(), b"two");
        assert_eq!(
            fs::read_dir(&directory.path).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        assert!(directory.read("b.json").unwrap().is_none());
    }

    #[test]
    fn killed_between_any_two_steps_the_old_file_or_the_new_one_is_there() {
        for dies_after in 0..=Step::ALL.len() {
            let (_parent, directory) = taken();
            directory.replace("a.json", b"old").unwrap();
            let replacement = Replacement::new(&directory, "a.json", b"new");
            for step in Step::ALL.into_iter().take(dies_after) {
                replacement.take(step).unwrap();
            }
            let renamed = Step::ALL.into_iter().take(dies_after).any(|step| step == Step::Rename);
            let found = directory.read("a.json").unwrap().unwrap();
            assert_eq!(found.as_slice(), if renamed { b"new" } else { b"old" }, "{dies_after}");
            // Whoever comes next is not disturbed by what is left.
            directory.replace("a.json", b"next").unwrap();
            assert_eq!(directory.read("a.json").unwrap().unwrap().as_slice(), b"next");
        }
    }

    #[test]
    fn what_others_can_reach_is_refused_with_the_fix() {
        let (parent, directory) = taken();
        directory.replace("a.json", b"one").unwrap();
        fs::set_permissions(directory.path("a.json"), Permissions::from_mode(0o640)).unwrap();
        let error = directory.read("a.json").unwrap_err().to_string();
        assert!(
            error.contains("its mode is 0640") && error.contains("chmod 0600"),
            "{error}"
        );
        fs::set_permissions(&directory.path, Permissions::from_mode(0o755)).unwrap();
        let error = Directory::take(&directory.path).unwrap_err().to_string();
        assert!(
            error.contains("its mode is 0755") && error.contains("chmod 0700"),
            "{error}"
        );
        let link = parent.path().join("link");
        symlink(&directory.path, &link).unwrap();
        let error = Directory::take(&link).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn an_empty_directory_that_a_kubelet_made_is_tightened() {
        let (parent, _) = taken();
        let made = parent.path().join("made");
        fs::create_dir(&made).unwrap();
        fs::set_permissions(&made, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(mode(&Directory::take(&made).unwrap().path), 0o700);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let (parent, directory) = taken();
        fs::write(parent.path().join("theirs"), "theirs").unwrap();
        symlink(parent.path().join("theirs"), directory.path("a.json")).unwrap();
        symlink(parent.path().join("theirs"), directory.path(".a.json.new")).unwrap();
        assert!(directory.read("a.json").is_err());
        directory.replace("a.json", b"ours").unwrap();
        assert_eq!(fs::read_to_string(parent.path().join("theirs")).unwrap(), "theirs");
        assert_eq!(directory.read("a.json").unwrap().unwrap().as_slice(), b"ours");
    }
}
