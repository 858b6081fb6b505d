//! What every benchmark on a control plane begins with.

/// Runs it to its end.
pub fn block_on(work: impl Future<Output = ()>) {
    // Two crates may each bring a provider; rustls refuses to choose. A second installation changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(work);
}

/// A number from the environment.
pub fn size(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}
