//! The rotation of keys on a model of etcd, API servers, agents and a controller: crashes anywhere, and the invariants
//! I1 to I8 after every step.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod cases;
mod check;
mod crew;
mod schedules;
mod wishes;
mod world;
