//! Cloison.
pub mod api;
