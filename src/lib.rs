//! Cloison keeps AI training and AI inference apart in a Kubernetes cluster, and proves it.
pub mod api;
pub mod cluster;
pub mod compliance;
pub mod controller;
pub mod encryption;
