//! A failure says what to look at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cloison_testbed::{ApiServerOptions, ControlPlane, Error, Options, eventually};
use rustix::process::{Pid, Signal, kill_process};

#[tokio::test]
async fn a_failed_start_says_which_process_and_why() {
    let error = ControlPlane::start(Options {
        api_servers: vec![ApiServerOptions {
            extra_args: vec!["--no-such-flag".into()],
            ..ApiServerOptions::default()
        }],
        ..Options::default()
    })
    .await
    .unwrap_err();
    let Error::Process { process, log, tail, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(process, "api-server-0");
    assert!(tail.contains("unknown flag: --no-such-flag"), "{tail}");
    assert!(log.is_file(), "the log is kept: {}", log.display());
    std::fs::remove_dir_all(log.parent().unwrap().parent().unwrap()).unwrap();
}

/// A test that fails prints these, so that a refused connection has its reason beside it.
#[tokio::test]
async fn a_process_that_died_is_told_with_the_start_of_its_crash_dump() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    assert!(plane.deaths().is_empty());
    let server = plane.api_server(0);
    let id = server
        .process_id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    kill_process(id.unwrap(), Signal::ABORT).unwrap();
    let deaths = eventually(
        Duration::from_secs(30),
        "the API server is dead",
        async || match plane.deaths() {
            deaths if deaths.is_empty() => Err("it lives"),
            deaths => Ok(deaths),
        },
    )
    .await
    .unwrap();
    let [
        Error::Process {
            process, reason, tail, ..
        },
    ] = &deaths[..]
    else {
        panic!("{deaths:?}");
    };
    assert_eq!(process, "api-server-0");
    assert!(reason.starts_with("ended by itself with "), "{reason}");
    assert!(tail.contains("SIGABRT: abort") && tail.contains("goroutine "), "{tail}");
    // What it said before its last start is no news.
    let error = server
        .restart_with(|options| options.extra_args.push("--no-such-flag".into()))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("unknown flag: --no-such-flag") && !text.contains("SIGABRT"),
        "{text}"
    );
    // One that was stopped is none that died.
    server.restart_with(|options| options.extra_args.clear()).await.unwrap();
    server.stop().await.unwrap();
    assert!(plane.deaths().is_empty());
}

#[tokio::test]
async fn a_condition_that_never_comes_true_is_reported_with_its_last_reason() {
    let number = Cell::new(0);
    let outcome = eventually(Duration::from_millis(200), "the moon is green", async || {
        number.set(number.get() + 1);
        Err::<(), _>(format!("attempt {} saw it grey", number.get()))
    })
    .await;
    let text = outcome.unwrap_err().to_string();
    assert!(
        text.starts_with("the moon is green: not within 200ms") && text.ends_with("saw it grey"),
        "{text}"
    );
}

/// A folder with one program, to be found before the real one.
fn instead_of(program: &str, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(program);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn before_the_path(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn without_user_namespaces_one_line_says_what_why_and_the_fix() {
    let refuses = r#"echo "unshare: unshare failed: Operation not permitted" >&2; exit 1"#;
    let mut child = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["up", "--api-servers", "2"])
        .env("PATH", before_the_path(&instead_of("unshare", refuses)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/testbed/{}-0", child.id()));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("testbed: api-server-"), "{said}");
    for part in [
        "host name of its own",
        "Operation not permitted",
        "run as root",
        "user namespaces",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn elsewhere_than_on_linux_it_says_so() {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../toolchain/build");
    let output = Command::new(build)
        .arg("etcd")
        .env("PATH", before_the_path(&instead_of("uname", "echo Darwin")))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert_eq!(
        said,
        "toolchain: the test control plane runs on Linux only; this is Darwin\n"
    );
}

#[tokio::test]
async fn logs_that_are_kept_outlive_the_control_plane() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let (folder, logs) = (plane.folder().to_path_buf(), plane.logs_dir());
    plane.keep_logs();
    drop(plane);
    assert!(logs.join("api-server-0.log").is_file(), "{}", logs.display());
    assert!(!folder.join("etcd").exists(), "the database is large and goes");
    std::fs::remove_dir_all(folder).unwrap();
}
