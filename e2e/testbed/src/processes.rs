//! Processes that never outlive us, and that can be stopped and started again.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;

const POLL: Duration = Duration::from_millis(10);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The name in messages and of the log file, such as `api-server-0`.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Runs in a UTS namespace of its own under this host name.
    pub(crate) hostname: Option<String>,
    pub(crate) log: PathBuf,
}

impl Recipe {
    /// The words to execute, wrapped so that the process dies with us.
    ///
    /// `setpriv --pdeathsig` makes the kernel kill the process when our spawner thread ends, however it
    /// ends. It has to come after `unshare`, because entering a user namespace clears the setting, and
    /// after it a shell looks whether we died before it was in force.
    fn words(&self) -> Vec<OsString> {
        let parent = std::process::id().to_string();
        let mut words: Vec<OsString> = Vec::new();
        if let Some(hostname) = &self.hostname {
            words.push("unshare".into());
            if !rustix::process::geteuid().is_root() {
                words.extend(["--user".into(), "--map-root-user".into()]);
            }
            let set_hostname = r#"hostname "$0" && exec "$@""#;
            words.extend(["--uts", "--", "sh", "-c", set_hostname, hostname].map(OsString::from));
        }
        let check_parent = r#"test "$PPID" = "$0" && exec "$@""#;
        words.extend(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
                "sh",
                "-c",
                check_parent,
                &parent,
            ]
            .map(OsString::from),
        );
        words.push(self.program.clone().into());
        words.extend(self.arguments.iter().cloned());
        words
    }

    fn command(&self) -> Result<Command, Error> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(Error::file(&self.log))?;
        let errors = log.try_clone().map_err(Error::file(&self.log))?;
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            // API servers that live for seconds spend a fifth of their time on collecting garbage: half of it, for some memory
            // up to a limit.
            .env("GOGC", "200")
            .env("GOMEMLIMIT", "500MiB")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C on the terminal is ours to handle; it must not take etcd away first.
            .process_group(0);
        Ok(command)
    }
}

/// A process that can be stopped and started again. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    recipe: Mutex<Recipe>,
    child: Mutex<Option<Child>>,
    /// How long the log was before the last start, in bytes.
    logged_before: AtomicU64,
}

impl Process {
    pub(crate) fn new(recipe: Recipe) -> Self {
        Self {
            recipe: Mutex::new(recipe),
            child: Mutex::new(None),
            logged_before: AtomicU64::new(0),
        }
    }

    /// Takes effect at the next start.
    pub(crate) fn set_arguments(&self, program: PathBuf, arguments: Vec<OsString>) {
        let mut recipe = lock(&self.recipe);
        recipe.program = program;
        recipe.arguments = arguments;
    }

    pub(crate) fn name(&self) -> String {
        lock(&self.recipe).name.clone()
    }

    /// Starts the process unless it runs already.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let mut child = lock(&self.child);
        if let Some(running) = child.as_mut()
            && running.try_wait().is_ok_and(|status| status.is_none())
        {
            return Ok(());
        }
        let logged = fs::metadata(&lock(&self.recipe).log).map_or(0, |log| log.len());
        self.logged_before.store(logged, Ordering::Relaxed);
        let command = lock(&self.recipe).command()?;
        let wrapper = command.get_program().to_string_lossy().into_owned();
        let spawned =
            spawn(command).map_err(|error| self.failure(format!("cannot be started by {wrapper}: {error}")))?;
        *child = Some(spawned);
        Ok(())
    }

    /// The process id while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        let mut child = lock(&self.child);
        let child = child.as_mut()?;
        match child.try_wait() {
            Ok(None) => Some(child.id()),
            _ => None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.id().is_some()
    }

    /// The exit status of a process that ended by itself.
    fn ended(&self) -> Option<ExitStatus> {
        lock(&self.child).as_mut()?.try_wait().ok().flatten()
    }

    /// That the process ended although nobody stopped it, and how its log ends.
    pub(crate) fn death(&self) -> Option<Error> {
        let status = self.ended()?;
        Some(self.failure(format!("ended by itself with {status}")))
    }

    /// Asks to end, without waiting.
    pub(crate) fn terminate(&self) {
        if let Some(id) = self.id() {
            signal(id, Signal::TERM);
        }
    }

    /// SIGTERM, then SIGKILL after `grace`; returns when the process is gone.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.terminate();
        let deadline = Instant::now() + grace;
        while self.is_running() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        self.kill();
    }

    /// As [`Process::stop`] for code that cannot be async, such as a drop.
    pub(crate) fn stop_blocking(&self, grace: Duration) {
        self.terminate();
        let deadline = Instant::now() + grace;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        self.kill();
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Polls `probe` until it returns `Ok`. Fails early when the process ends, and says how its log ends.
    pub(crate) async fn ready<F>(&self, deadline: Duration, mut probe: impl FnMut() -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), String>>,
    {
        let outcome = crate::eventually(deadline, "ready", || {
            let ended = self.ended();
            let answer = probe();
            async move {
                match ended {
                    Some(status) => Ok(Err(format!("ended with {status}"))),
                    None => answer.await.map(Ok),
                }
            }
        })
        .await;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(self.failure(reason)),
            Err(Error::Deadline { waited, last, .. }) => {
                Err(self.failure(format!("was not ready within {waited:?} ({last})")))
            }
            Err(other) => Err(other),
        }
    }

    fn failure(&self, reason: String) -> Error {
        let recipe = lock(&self.recipe);
        let bytes = fs::read(&recipe.log).unwrap_or_default();
        let before = usize::try_from(self.logged_before.load(Ordering::Relaxed)).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(before..).unwrap_or_default());
        let lines: Vec<&str> = text.lines().collect();
        if let Some(said) = lines.last().filter(|line| line.starts_with("unshare: ")) {
            return Error::HostName {
                process: recipe.name.clone(),
                said: (*said).to_owned(),
            };
        }
        Error::Process {
            process: recipe.name.clone(),
            reason,
            log: recipe.log.clone(),
            tail: ending(&lines).join("\n"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The lines that tell how a process ended: the last ones, but where a Go program crashed those around the first of its
/// goroutines, for the others follow for thousands of lines.
fn ending<'l>(lines: &'l [&'l str]) -> &'l [&'l str] {
    const SHOWN: usize = 20;
    let goroutine = lines.iter().position(|line| line.starts_with("goroutine "));
    let to = goroutine.map_or(lines.len(), |first| lines.len().min(first + SHOWN / 2));
    &lines[to.saturating_sub(SHOWN)..to]
}

fn signal(id: u32, signal: Signal) {
    // The child is ours and not yet waited for, so its id cannot have been given to another process.
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns from one thread that lives as long as this process: the kernel sends the parent-death signal
/// when the *thread* that forked ends, and test threads end early.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let gone = || io::Error::other("the spawner thread is gone");
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// A panic of another test must not hide behind a poisoned lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
