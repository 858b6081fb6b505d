//! The test control plane keeps its own promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use cloison_testbed::{ApiServerOptions, ControlPlane, Options};

#[tokio::test]
async fn starts() {
    let start = std::time::Instant::now();
    let plane = ControlPlane::start(Options {
        api_servers: vec![ApiServerOptions::default(); 2],
        controller_manager: true,
        ..Options::default()
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    eprintln!("started in {:?}", start.elapsed());
    eprintln!(
        "{:?} {:?}",
        plane.processes(),
        plane.api_server(1).identity_lease().await
    );
    let start = std::time::Instant::now();
    drop(plane);
    eprintln!("stopped in {:?}", start.elapsed());
}
