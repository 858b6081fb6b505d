//! Network namespaces without a name: they are there while a process of ours is in them, and the kernel removes them, with
//! every interface, route and rule inside, when the last one ends. However we end, nothing is left to clean up.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, Program, eventually};

/// A network namespace of its own.
#[derive(Debug)]
pub(super) struct NetworkNamespace {
    name: String,
    /// A process that does nothing but be in it.
    holder: Program,
    /// `/proc/ID/ns/net` of the holder. The id is not given to another process before we wait for the holder.
    path: PathBuf,
}

impl NetworkNamespace {
    /// A new one. `name` is for messages.
    pub(super) async fn create(name: &str, logs: &Path) -> Result<Self, Error> {
        let log = logs.join(format!("{name}.log"));
        let holder = Program::new(name, "unshare", ["--net", "--", "sleep", "infinity"], log);
        holder.start()?;
        let id = holder
            .process_id()
            .ok_or_else(|| refused(name, "its process has ended"))?;
        let path = PathBuf::from(format!("/proc/{id}/ns/net"));
        let ours = std::fs::read_link("/proc/self/ns/net").map_err(Error::file("/proc/self/ns/net"))?;
        let what = format!("{name} has a network namespace of its own");
        eventually(Duration::from_secs(10), &what, async || {
            match std::fs::read_link(&path) {
                Ok(its) if its != ours => Ok(()),
                Ok(_) => Err(holder.output()),
                Err(error) => Err(format!("{error} {}", holder.output().trim())),
            }
        })
        .await?;
        Ok(Self {
            name: name.to_owned(),
            holder,
            path,
        })
    }

    /// What `nsenter --net=` wants.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The process that holds it, as `ip link … netns` wants it.
    pub(super) fn holder(&self) -> u32 {
        self.holder.process_id().unwrap_or_default()
    }

    /// Runs lines of `ip` in it, all or an error.
    pub(super) fn ip(&self, lines: &str) -> Result<(), Error> {
        let run = || -> io::Result<String> {
            let mut child = Command::new("nsenter")
                .arg(format!("--net={}", self.path.display()))
                .args(["--", "ip", "-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut input) = child.stdin.take() {
                input.write_all(lines.as_bytes())?;
            }
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Ok(if output.status.success() { String::new() } else { said })
        };
        match run() {
            Ok(said) if said.is_empty() => Ok(()),
            Ok(said) => Err(refused(&self.name, format!("ip says: {said}"))),
            Err(error) => Err(refused(&self.name, format!("nsenter and ip cannot be run: {error}"))),
        }
    }

    /// Writes settings below `/proc/sys/net`.
    pub(super) fn set(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        self.inside(|| {
            settings.iter().try_for_each(|(name, value)| {
                let path = Path::new("/proc/sys/net").join(name);
                std::fs::write(&path, value).map_err(Error::file(&path))
            })
        })?
    }

    /// Runs something on a thread of its own in the namespace: files below `/proc/sys/net` are its, and sockets that are
    /// made there stay in it wherever they are used.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let door = self.door()?;
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                door.enter()?;
                Ok(work())
            });
            thread.join()
        });
        done.unwrap_or_else(|_| Err(refused(&self.name, "a thread in it panicked")))
    }

    /// For a thread that enters it by itself.
    pub(super) fn door(&self) -> Result<Door, Error> {
        let file = File::open(&self.path).map_err(Error::file(&self.path))?;
        Ok(Door {
            name: self.name.clone(),
            file,
        })
    }
}

/// What lets a thread into a network namespace.
#[derive(Debug)]
pub(super) struct Door {
    name: String,
    file: File,
}

impl Door {
    /// Moves the calling thread for good.
    pub(super) fn enter(&self) -> Result<(), Error> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| refused(&self.name, format!("a thread cannot enter it: {error}")))
    }
}

pub(super) fn refused(name: &str, reason: impl Into<String>) -> Error {
    Error::Network {
        place: name.to_owned(),
        reason: reason.into(),
    }
}
