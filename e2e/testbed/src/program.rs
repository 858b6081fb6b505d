//! Any other program that must not outlive the tests, such as Cloison's own controller.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;
use crate::processes::{Process, Recipe};

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// A program under the same protection as the control plane: it dies with this process, however that ends.
#[derive(Debug)]
pub struct Program {
    process: Process,
    log: PathBuf,
}

impl Program {
    /// A program that is not started yet. Its output goes to `log`.
    pub fn new(
        name: &str,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        log: impl Into<PathBuf>,
    ) -> Self {
        let log = log.into();
        let process = Process::new(Recipe {
            name: name.to_owned(),
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            hostname: None,
            log: log.clone(),
        });
        Self { process, log }
    }

    /// Starts it unless it runs.
    pub fn start(&self) -> Result<(), Error> {
        self.process.start()
    }

    /// SIGTERM, and SIGKILL if it does not end in ten seconds; returns when it is gone.
    pub async fn stop(&self) {
        self.process.stop(GRACE).await;
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Its process id while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// All it has said so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}
