//! Cloison.

pub mod admission;
pub mod api;
pub mod compliance;
