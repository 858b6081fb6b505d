//! Cloison.
