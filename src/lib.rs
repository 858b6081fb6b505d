//! Cloison.

pub mod api;
pub mod compliance;
