//! The `cloison` program: parses arguments and starts one subcommand.

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Keys pass through buffers of others, which wipe nothing.
#[global_allocator]
static WIPED_WHEN_FREED: ZeroAlloc<System> = ZeroAlloc(System);

#[tokio::main]
async fn main() -> ExitCode {
    // Two crates may each bring a provider; rustls refuses to choose. A second installation changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cloison::cli::run(cloison::cli::parse()).await
}
