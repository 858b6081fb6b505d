//! Cloison.

pub mod api;
pub mod compliance;
pub mod network;
