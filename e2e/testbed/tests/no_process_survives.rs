//! However a test process ends, it leaves no process behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cloison_testbed::{ControlPlane, Options, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// `testbed up` with what it printed.
struct Up {
    child: Child,
    processes: Vec<u32>,
    folder: PathBuf,
}

impl Up {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_testbed"))
            .args(["up", "--api-servers", "2"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut up = Self {
            child,
            processes: Vec::new(),
            folder: PathBuf::new(),
        };
        let kubeconfig = lines.find_map(|line| {
            let line = line.unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, "pid", id, .., log] = words[..] {
                up.processes.push(id.parse().unwrap());
                up.folder = Path::new(log).ancestors().nth(2).unwrap().to_path_buf();
            }
            line.strip_prefix("export KUBECONFIG=").map(PathBuf::from)
        });
        assert!(kubeconfig.unwrap().is_file());
        assert_eq!(up.processes.len(), 4);
        assert!(up.processes.iter().all(|id| is_alive(*id)));
        up
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        kill_process(id, signal).unwrap();
    }

    async fn all_gone(&self) {
        eventually(Duration::from_secs(10), "every process is gone", async || {
            let alive: Vec<_> = self.processes.iter().filter(|id| is_alive(**id)).collect();
            if alive.is_empty() {
                Ok(())
            } else {
                Err(format!("{alive:?} are alive"))
            }
        })
        .await
        .unwrap();
    }
}

/// For tests that fail.
impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that nobody has waited for yet (state Z) is dead.
fn is_alive(id: u32) -> bool {
    let mut text = String::new();
    let stat = std::fs::File::open(format!("/proc/{id}/stat")).and_then(|mut file| file.read_to_string(&mut text));
    stat.is_ok()
        && !text
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
}

#[tokio::test]
async fn a_kill_leaves_no_process() {
    let mut up = Up::start();
    up.signal(Signal::KILL);
    up.child.wait().unwrap();
    up.all_gone().await;
    std::fs::remove_dir_all(&up.folder).unwrap();
}

#[tokio::test]
async fn a_termination_leaves_neither_process_nor_folder() {
    let mut up = Up::start();
    up.signal(Signal::TERM);
    assert!(up.child.wait().unwrap().success());
    up.all_gone().await;
    assert!(!up.folder.exists(), "{}", up.folder.display());
}

#[tokio::test]
async fn a_ctrl_c_leaves_neither_process_nor_folder() {
    let mut up = Up::start();
    up.signal(Signal::INT);
    assert!(up.child.wait().unwrap().success());
    up.all_gone().await;
    assert!(!up.folder.exists(), "{}", up.folder.display());
}

#[test]
fn a_panic_leaves_the_logs_and_no_process() {
    let (seen, found) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let plane = ControlPlane::start(Options::default()).await.unwrap();
            seen.send((plane.processes(), plane.folder().to_path_buf())).unwrap();
            panic!("a test that fails");
        });
    });
    assert!(test.join().is_err());
    let (processes, folder) = found.recv().unwrap();
    assert_eq!(processes.len(), 2);
    assert!(processes.iter().all(|(_, id)| !is_alive(*id)), "{processes:?}");
    assert!(folder.join("logs/api-server-0.log").is_file(), "{}", folder.display());
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_drop_leaves_neither_process_nor_folder() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let folder = plane.folder().to_path_buf();
    let processes = plane.processes();
    assert_eq!(processes.len(), 2);
    drop(plane);
    assert!(processes.iter().all(|(_, id)| !is_alive(*id)));
    assert!(!folder.exists(), "{}", folder.display());
}
