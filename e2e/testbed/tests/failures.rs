//! A failure says what to look at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::cell::Cell;
use std::time::Duration;

use cloison_testbed::{ApiServerOptions, ControlPlane, Error, Options, eventually};

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
