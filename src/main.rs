//! The `cloison` program: parses arguments and starts one subcommand.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // Two crates may each bring a provider; rustls refuses to choose. A second installation changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cloison::cli::run(cloison::cli::parse()).await
}
