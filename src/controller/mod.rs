//! The controller.
pub mod backoff;
pub mod caches;
pub mod error;
pub mod judge;
pub mod writer;
